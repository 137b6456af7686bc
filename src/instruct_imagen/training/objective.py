"""The denoising objective (A.2.1): L2 between prediction and truth, weighted as for v whatever is predicted."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import nn
from torch.nn import functional as F

from ..conditioning import ConditioningEncoder, PromptBatch, to_unit_range
from ..denoising import clean_from_prediction
from ..latents import to_samples
from ..model import ModelParts
from ..presets import StageConfig
from ..schedulers import split_variance
from ..super_resolution import LowResolution
from ..unet import InstructUNet
from .augmentation import SmallPictures
from .text_cache import CachedTextEncoder, TextCache
from .variance import variance_loss


@dataclass(frozen=True)
class TrainingBatch:
    """What the data workers hand over: B examples.

    Attributes:
        prompts: instructions, conditions already dropped where the stage says so.
        targets: uint8 [B, 3, S, S].
        noise, levels: float [B, K, 3, S, S] normal noise and [B, K] noise levels in 0..1, drawn from each example's
            own generator so that they depend on nothing but its index.
        tasks: name of each example's task.
        subjects: bool [B, S, S], where the targets' subjects are.
        small: for super-resolution, the pictures to enlarge.
    """

    prompts: PromptBatch
    targets: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor
    tasks: tuple[str, ...]
    subjects: torch.Tensor
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
            self.subjects.to(device),
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
            self.subjects.pin_memory(),
            None if self.small is None else self.small.pin_memory(),
        )


def with_blank_reference(batch: TrainingBatch) -> TrainingBatch:
    """Adds an example, the first one again, with one black reference without a text.

    Where other processes encode references, one whose examples have none must do the same work (FSDP gathers weights
    together). The example is left out of the loss, so its gradients are zero.
    """
    one = torch.ones(1, 1, dtype=torch.long, device=batch.levels.device)
    longer: TrainingBatch = _first_again(batch)
    prompts = replace(
        longer.prompts,
        reference_ids=one,  # the end of the text
        reference_mask=one.bool(),
        reference_images=torch.zeros_like(batch.targets[:1]),
        reference_rows=one[0] * len(batch.tasks),
        reference_slots=one[0] * 0,
    )
    return replace(longer, prompts=prompts)


def _first_again(value: Any) -> Any:
    """Tensors with their first row once more at the end, also inside dataclasses; other values as they are."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value[:1]])
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _first_again(getattr(value, f.name)) for f in fields(value)})
    return value


def v_weights(timesteps: torch.Tensor, scheduler: DDPMScheduler, max_weight: float) -> torch.Tensor:
    """Weight 1 / sigma^2 that turns a squared error of the clean picture into one of v, capped at `max_weight`."""
    sigma_squared = 1 - scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return (1 / sigma_squared).clamp(max=max_weight)


def subject_weights(
    subjects_NSS: torch.Tensor, timesteps: torch.Tensor, scheduler: DDPMScheduler, weight: float
) -> torch.Tensor:
    """Weight of each pixel's error, [N, 1, S, S]: 1, inside subjects 1 + (weight - 1) alpha_bar(t).

    What an instruction asks for covers a small share of a picture, and the ground around it, with its own detail, most
    of it. The factor alpha_bar keeps the weight from saying more than can be seen: in pure noise, where the subject
    may be anywhere, a constant weight would make every place more of a subject than it is. Departure from the paper,
    whose data has no masks.
    """
    seen = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)
    return 1 + (weight - 1) * seen * subjects_NSS[:, None].float()


def denoising_loss(
    prediction: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    scheduler: DDPMScheduler,
    max_weight: float,
    weights: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Loss per picture [N]: the error of v for v-prediction, the same quantity through the clean picture otherwise.

    `weights` of the errors broadcast to the pictures, see `subject_weights`.
    """
    if scheduler.config.prediction_type == "v_prediction":
        error = prediction - scheduler.get_velocity(clean, noise, timesteps)
        return (error.square() * weights).mean((1, 2, 3))
    if scheduler.config.prediction_type == "epsilon":
        return ((prediction - noise).square() * weights).mean((1, 2, 3))
    error = clean_from_prediction(prediction, noisy, timesteps, scheduler) - clean
    return (error.square() * weights).mean((1, 2, 3)) * v_weights(timesteps, scheduler, max_weight)


@dataclass(frozen=True)
class Denoised:
    """What the network made of a batch: N = B * K noisy pictures, or latents, the K of an example together.

    Attributes:
        prediction: [N, C, H, W].
        variance: of backbones that learn one, likewise.
        clean, noise, noisy: likewise.
        timesteps: int [N].
    """

    prediction: torch.Tensor
    variance: torch.Tensor | None
    clean: torch.Tensor
    noise: torch.Tensor
    noisy: torch.Tensor
    timesteps: torch.Tensor


def denoise_batch(batch: TrainingBatch, encoder: ConditioningEncoder, scheduler: DDPMScheduler) -> Denoised:
    """Encodes a batch, adds its noise and lets the network predict."""
    num_levels = batch.levels.shape[1]
    conditioning = encoder.encode(batch.prompts).repeat(num_levels)
    clean = to_samples(to_unit_range(batch.targets), encoder.vae).repeat_interleave(num_levels, dim=0)
    noise = batch.noise.flatten(0, 1)
    num_timesteps = scheduler.config.num_train_timesteps
    timesteps = (batch.levels.flatten() * num_timesteps).long().clamp(max=num_timesteps - 1)
    noisy = scheduler.add_noise(clean, noise, timesteps)
    inputs = (noisy, timesteps, conditioning.text_BLE, conditioning.cache)
    output = encoder.unet(*inputs, **batch.further_inputs).float()
    prediction, variance = split_variance(output, clean.shape[1])
    return Denoised(prediction, variance, clean, noise, noisy, timesteps)


class TrainingModule(nn.Module):
    """The trained networks and the objective as one module, which is what accelerate wraps.

    Args:
        unet, text_encoder: the networks.
        scheduler: the noise schedule and the prediction type.
        stage: the loss cap, and whether the text encoder learns.
        vae: of a latent model.
        adapts: whether text encoder and VAE are those of a base model, which no stage trains. They are then no part of
            this module, so that no checkpoint and no average holds them.
        text_cache: for the states of a frozen text encoder.
    """

    def __init__(
        self,
        unet: InstructUNet,
        text_encoder: nn.Module,
        scheduler: DDPMScheduler,
        stage: StageConfig,
        vae: AutoencoderKL | None = None,
        adapts: bool = False,
        text_cache: TextCache | None = None,
    ):
        super().__init__()
        self.unet = unet
        if adapts:
            object.__setattr__(self, "text_encoder", text_encoder.requires_grad_(False))  # not registered
        else:
            self.text_encoder = text_encoder.requires_grad_(stage.train_text_encoder)
        object.__setattr__(self, "vae", vae)
        self.scheduler = scheduler
        self.max_loss_weight = stage.max_loss_weight
        self.subject_weight = stage.subject_weight
        self.cached_texts = None
        if text_cache is not None and not stage.train_text_encoder:
            reads_padding = unet.config.text_tokens is not None
            self.cached_texts = CachedTextEncoder(text_encoder, text_cache, reads_padding)

    @classmethod
    def of(cls, parts: ModelParts, stage: StageConfig, text_cache: TextCache | None = None) -> TrainingModule:
        """The module of a model's parts in a stage."""
        adapts = parts.folder is not None
        return cls(parts.unet, parts.text_encoder, parts.scheduler, stage, parts.vae, adapts, text_cache)

    def forward(self, batch: TrainingBatch) -> torch.Tensor:
        """Loss of every example that has a task [B], the mean over its noise levels."""
        encoder = ConditioningEncoder(self.cached_texts or self.text_encoder, self.unet, self.vae)
        made = denoise_batch(batch, encoder, self.scheduler)
        pictures = (made.clean, made.noise, made.noisy, made.timesteps)
        weights = self._pixel_weights(batch, made)
        loss = denoising_loss(made.prediction, *pictures, self.scheduler, self.max_loss_weight, weights)
        if made.variance is not None:
            guess = clean_from_prediction(made.prediction, made.noisy, made.timesteps, self.scheduler)
            loss = loss + variance_loss(guess, made.variance, made.clean, made.noisy, made.timesteps, self.scheduler)
        loss = loss.view(-1, batch.levels.shape[1]).mean(1)
        if len(loss) > len(batch.tasks):  # see with_blank_reference
            return loss[:-1] + 0 * loss[-1]
        return loss

    def _pixel_weights(self, batch: TrainingBatch, made: Denoised) -> torch.Tensor | float:
        if self.subject_weight == 1.0:
            return 1.0
        subjects = batch.subjects.repeat_interleave(batch.levels.shape[1], dim=0)
        weights = subject_weights(subjects, made.timesteps, self.scheduler, self.subject_weight)
        return F.interpolate(weights, made.clean.shape[-2:], mode="area")  # latents are smaller than their pictures
