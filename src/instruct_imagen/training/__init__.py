"""One training loop for pre-training, stage 1 and stage 2."""
