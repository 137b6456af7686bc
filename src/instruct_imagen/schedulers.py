"""Diffusers schedulers for the noise schedule a model was trained with, whichever scheduler it came with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin

_SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
_LEARNED = ("learned", "learned_range")


def _kept(config: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: config[name] for name in names if config.get(name) is not None}


def _options(config: Mapping[str, Any], bounded: bool) -> dict[str, Any]:
    """What belongs to the model and not to the sampler: schedule, learned variance, dynamic thresholding."""
    options = _kept(config, (*_SCHEDULE, "rescale_betas_zero_snr"))
    if config.get("variance_type") in _LEARNED:
        options["variance_type"] = config["variance_type"]
    if bounded and config.get("thresholding"):
        options |= _kept(config, ("thresholding", "dynamic_thresholding_ratio", "sample_max_value"))
    return options


def fast_scheduler(
    config: Mapping[str, Any], bounded: bool = True, algorithm: str = "dpmsolver++"
) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (2M) for the training schedule of `config`.

    Args:
        config: of the model's scheduler.
        bounded: whether clean pictures lie within -1..1 and are held there in every step; latents do not.
    """
    clipping = {"thresholding": True, "sample_max_value": 1.0} if bounded else {}
    cosine = {"lambda_min_clipped": -5.1} if config["beta_schedule"] == "squaredcos_cap_v2" else {}
    return DPMSolverMultistepScheduler(
        algorithm_type=algorithm,
        solver_order=2,
        timestep_spacing="trailing",
        **{**clipping, **cosine, **_options(config, bounded)},
    )


def ddpm_scheduler(config: Mapping[str, Any], bounded: bool = True) -> DDPMScheduler:
    """DDPM for the training schedule of `config`: the paper's sampler (A.2.2), and what training adds noise with.

    Args:
        config: of the model's scheduler, whose steps it spaces in the same way: "trailing" begins with noise alone.
        bounded: see `fast_scheduler`.
    """
    spacing = _kept(config, ("timestep_spacing", "steps_offset"))
    return DDPMScheduler(clip_sample=bounded, **spacing, **_options(config, bounded))


def reads_variance(scheduler: SchedulerMixin) -> bool:
    """Whether a scheduler takes the variance of a step from the network, as DeepFloyd IF's own does."""
    knows = "variance_type" in inspect.signature(type(scheduler).__init__).parameters
    return knows and scheduler.config.get("variance_type") in _LEARNED


def split_variance(prediction: torch.Tensor, num_channels: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Prediction [N, C, H, W] and, from networks that learn it, what they say of the variance [N, C, H, W]."""
    if prediction.shape[1] == num_channels:
        return prediction, None
    mean, variance = prediction.split(num_channels, dim=1)
    return mean, variance
