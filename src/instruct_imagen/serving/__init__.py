"""HTTP server: an API that OpenAI's clients speak, over an engine whose requests share the denoising batch."""
