"""Between pictures and what the U-Net denoises: pixels in -1..1, or the latents of a VAE."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL


def to_samples(pixels: torch.Tensor, vae: AutoencoderKL | None = None) -> torch.Tensor:
    """Pixels [N, 3, S, S] in -1..1 => what the U-Net denoises: they themselves, or float32 latents [N, C, s, s].

    The mean of the VAE's distribution is taken, not a draw from it, so that an example stays the same example.
    """
    if vae is None:
        return pixels
    with torch.no_grad():
        mean = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
    return (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def to_pixels(samples: torch.Tensor, vae: AutoencoderKL | None = None) -> torch.Tensor:
    """Inverse of `to_samples` up to what the VAE loses: float [N, 3, S, S], about -1..1."""
    if vae is None:
        return samples
    latents = samples / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    return vae.decode(latents.to(vae.dtype), return_dict=False)[0]


def pixels_per_sample(vae: AutoencoderKL | None) -> int:
    """Pixels of a picture's side for each place of what the U-Net denoises."""
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
