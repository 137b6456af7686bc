"""The loss of a learned variance (Nichol & Dhariwal 2021), for backbones that predict one, as DeepFloyd IF does.

The squared error says nothing of the variance, so it is trained by the variational bound, with the mean held fixed:
each step's Kullback-Leibler divergence from the true posterior, and at the last step the likelihood of the picture's
8-bit values.
"""

from __future__ import annotations

import math

import torch
from diffusers import DDPMScheduler

_PIXEL_STEP = 2 / 255  # between two grey levels of pictures in -1..1


def variance_loss(
    clean_prediction: torch.Tensor,
    variance: torch.Tensor,
    clean: torch.Tensor,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    scheduler: DDPMScheduler,
) -> torch.Tensor:
    """Bits per value [N] of the variational bound; its gradient reaches the variance alone.

    Args:
        clean_prediction: the clean pictures [N, C, H, W] that the prediction implies.
        variance: the network's other half [N, C, H, W], as the scheduler's `variance_type` reads it.
        clean, noisy: true and noisy pictures, in -1..1 where clean.
        timesteps: int [N].
        scheduler: the noise schedule.
    """
    alpha_bar = scheduler.alphas_cumprod.to(clean.device)
    previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    beta = 1 - alpha_bar / previous
    posterior = beta * (1 - previous) / (1 - alpha_bar)
    posterior[0] = posterior[1]  # at the last step it would be zero

    def at_step(values: torch.Tensor) -> torch.Tensor:
        return values[timesteps].view(-1, 1, 1, 1)

    from_clean = at_step(previous.sqrt() * beta / (1 - alpha_bar))
    from_noisy = at_step((1 - beta).sqrt() * (1 - previous) / (1 - alpha_bar))
    true_mean = from_clean * clean + from_noisy * noisy
    mean = (from_clean * clean_prediction + from_noisy * noisy).detach()
    smallest, largest = at_step(posterior.log()), at_step(beta.log())
    if scheduler.config.variance_type == "learned":
        log_variance = variance.clamp(min=1e-20).log()
    else:
        log_variance = smallest + (variance + 1) / 2 * (largest - smallest)
    divergence = 0.5 * (
        log_variance - smallest + (smallest - log_variance).exp() + (true_mean - mean).square() / log_variance.exp() - 1
    )
    likelihood = -_log_likelihood(clean, mean, log_variance)
    last = (timesteps == 0).view(-1, 1, 1, 1)
    return torch.where(last, likelihood, divergence).mean((1, 2, 3)) / math.log(2)


def _log_likelihood(pixels: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Of 8-bit values in -1..1 under a normal distribution: its mass within half a grey level; the ends are open."""
    deviation = (0.5 * log_variance).exp()
    upper = torch.special.ndtr((pixels + _PIXEL_STEP / 2 - mean) / deviation)
    lower = torch.special.ndtr((pixels - _PIXEL_STEP / 2 - mean) / deviation)
    upper = torch.where(pixels > 0.999, torch.ones_like(upper), upper)
    lower = torch.where(pixels < -0.999, torch.zeros_like(lower), lower)
    return (upper - lower).clamp(min=1e-12).log()
