"""The loss of a learned variance, against distributions written out, and what its gradient reaches."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch.distributions import Normal, kl_divergence

from instruct_imagen.training.variance import variance_loss

SCHEDULE = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")


def pictures(timestep: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(timestep)
    clean = (torch.randint(0, 256, (2, 3, 4, 4), generator=generator) / 127.5 - 1).float()
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = torch.full((2,), timestep)
    return clean, SCHEDULE.add_noise(clean, noise, timesteps), timesteps


def posterior(clean: torch.Tensor, noisy: torch.Tensor, timestep: int) -> Normal:
    """q(x at t-1 | x at t, clean), from the product of the two normal densities of Bayes' rule."""
    alpha_bar, before = SCHEDULE.alphas_cumprod[timestep], SCHEDULE.alphas_cumprod[timestep - 1]
    alpha = alpha_bar / before
    precision = alpha / (1 - alpha) + 1 / (1 - before)
    mean = (alpha.sqrt() * noisy / (1 - alpha) + before.sqrt() * clean / (1 - before)) / precision
    return Normal(mean, precision**-0.5)


@pytest.mark.parametrize("timestep", [1, 40, 500, 950])
@pytest.mark.parametrize("share", [-1.0, 0.3])
def test_it_is_the_divergence_from_the_posterior(timestep: int, share: float):
    clean, noisy, timesteps = pictures(timestep)
    guess = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(9))
    loss = variance_loss(guess, torch.full_like(clean, share), clean, noisy, timesteps, SCHEDULE)
    true, beta = posterior(clean, noisy, timestep), SCHEDULE.betas[timestep]
    log_variance = torch.lerp((true.stddev**2).log(), beta.log(), (share + 1) / 2)
    model = Normal(posterior(guess, noisy, timestep).mean, (0.5 * log_variance).exp())
    expected = kl_divergence(true, model).mean((1, 2, 3)) / math.log(2)
    torch.testing.assert_close(loss, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("timestep", [1, 300])
def test_the_truth_costs_nothing(timestep: int):
    clean, noisy, timesteps = pictures(timestep)
    loss = variance_loss(clean, -torch.ones_like(clean), clean, noisy, timesteps, SCHEDULE)
    torch.testing.assert_close(loss, torch.zeros(2), rtol=0, atol=1e-5)


def test_the_last_step_is_the_likelihood_of_the_grey_level():
    clean, noisy, timesteps = pictures(0)
    loss = variance_loss(clean, torch.ones_like(clean), clean, noisy, timesteps, SCHEDULE)
    deviation = SCHEDULE.betas[0].sqrt()
    inner = torch.erf((1 / 255) / deviation / math.sqrt(2))
    ends = clean.abs() > 0.999
    mass = torch.where(ends, (1 + inner) / 2, inner)
    torch.testing.assert_close(loss, -(mass.log2().mean((1, 2, 3))), rtol=1e-3, atol=1e-4)


def test_the_gradient_reaches_the_variance_alone():
    for timestep in (0, 200):
        clean, noisy, timesteps = pictures(timestep)
        guess, variance = clean.clone().requires_grad_(), torch.zeros_like(clean).requires_grad_()
        variance_loss(guess, variance, clean, noisy, timesteps, SCHEDULE).sum().backward()
        assert guess.grad is None
        assert variance.grad.abs().min() > 0
