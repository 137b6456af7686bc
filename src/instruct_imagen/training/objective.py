"""The denoising objective (A.2.1): L2 between prediction and truth, weighted as for v whatever is predicted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import nn

from ..conditioning import ConditioningEncoder, PromptBatch, to_unit_range
from ..denoising import clean_from_prediction
from ..presets import StageConfig
from ..super_resolution import LowResolution
from ..unet import InstructUNet
from .augmentation import SmallPictures


@dataclass(frozen=True)
class TrainingBatch:
    """What the data workers hand over: B examples.

    Attributes:
        prompts: instructions, conditions already dropped where the stage says so.
        targets: uint8 [B, 3, S, S].
        noise, levels: float [B, K, 3, S, S] normal noise and [B, K] noise levels in 0..1, drawn from each example's
            own generator so that they depend on nothing but its index.
        tasks: name of each example's task.
        small: for super-resolution, the pictures to enlarge.
    """

    prompts: PromptBatch
    targets: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor
    tasks: tuple[str, ...]
    small: SmallPictures | None = None

    @property
    def further_inputs(self) -> dict[str, LowResolution]:
        """What the network reads beside noisy pictures and conditions."""
        return {} if self.small is None else {"low_res": self.small.augmented()}

    def to(self, device: torch.device) -> TrainingBatch:
        """Moves every tensor."""
        return TrainingBatch(
            self.prompts.to(device),
            self.targets.to(device),
            self.noise.to(device),
            self.levels.to(device),
            self.tasks,
            None if self.small is None else self.small.to(device),
        )

    def pin_memory(self) -> TrainingBatch:
        """Pins every tensor; called by the data loader on a CUDA machine."""
        return TrainingBatch(
            self.prompts.pin_memory(),
            self.targets.pin_memory(),
            self.noise.pin_memory(),
            self.levels.pin_memory(),
            self.tasks,
            None if self.small is None else self.small.pin_memory(),
        )


def v_weights(timesteps: torch.Tensor, scheduler: DDPMScheduler, max_weight: float) -> torch.Tensor:
    """Weight 1 / sigma^2 that turns a squared error of the clean picture into one of v, capped at `max_weight`."""
    sigma_squared = 1 - scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return (1 / sigma_squared).clamp(max=max_weight)


def denoising_loss(
    prediction: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    scheduler: DDPMScheduler,
    max_weight: float,
) -> torch.Tensor:
    """Loss per picture [N]: the error of v for v-prediction, the same quantity through the clean picture otherwise."""
    if scheduler.config.prediction_type == "v_prediction":
        return (prediction - scheduler.get_velocity(clean, noise, timesteps)).square().mean((1, 2, 3))
    if scheduler.config.prediction_type == "epsilon":
        return (prediction - noise).square().mean((1, 2, 3))
    error = (clean_from_prediction(prediction, noisy, timesteps, scheduler) - clean).square().mean((1, 2, 3))
    return error * v_weights(timesteps, scheduler, max_weight)


class TrainingModule(nn.Module):
    """The trained networks and the objective as one module, which is what accelerate wraps.

    Args:
        unet, text_encoder: the networks.
        scheduler: the noise schedule and the prediction type.
        stage: the loss cap, and whether the text encoder learns.
    """

    def __init__(self, unet: InstructUNet, text_encoder: nn.Module, scheduler: DDPMScheduler, stage: StageConfig):
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder.requires_grad_(stage.train_text_encoder)
        self.scheduler = scheduler
        self.max_loss_weight = stage.max_loss_weight

    def forward(self, batch: TrainingBatch) -> torch.Tensor:
        """Loss of every example [B], the mean over its noise levels."""
        num_levels = batch.levels.shape[1]
        encoder = ConditioningEncoder(self.text_encoder, self.unet)
        conditioning = encoder.encode(batch.prompts).repeat(num_levels)
        clean = to_unit_range(batch.targets).repeat_interleave(num_levels, dim=0)
        noise = batch.noise.flatten(0, 1)
        num_timesteps = self.scheduler.config.num_train_timesteps
        timesteps = (batch.levels.flatten() * num_timesteps).long().clamp(max=num_timesteps - 1)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        inputs = (noisy, timesteps, conditioning.text_BLE, conditioning.cache)
        prediction = self.unet(*inputs, **batch.further_inputs).float()
        loss = denoising_loss(prediction, clean, noise, noisy, timesteps, self.scheduler, self.max_loss_weight)
        return loss.view(-1, num_levels).mean(1)
