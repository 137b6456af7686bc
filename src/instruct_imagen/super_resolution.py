"""The second network of the cascade: a small picture with its instruction, and its references too, to a large picture.

An `InstructUNet` that reads the picture to enlarge beside the noisy one (Table 5: 128 to 1024 pixels). In training the
small picture gets noise of a random level, which the network is told; sampling adds noise of one level again. So what
the base model draws does not look unlike what training showed (Ho et al. 2021; Saharia et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    DDPMScheduler,
    ModelMixin,  # noqa: F401 - loading a saved pipeline looks here for a base class that it knows
)
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding

from .cache import KeyValueCache
from .presets import ContextPlaces
from .unet import InstructUNet

DEFAULT_STEPS = 12  # the small picture already decides most
_PICTURE_DEVIATION = 0.5  # standard deviation of pictures in -1..1, roughly
_LEVEL_SCALE = 1000.0  # levels are embedded as steps are


@dataclass(frozen=True)
class LowResolution:
    """Pictures to enlarge, as the network reads them.

    Attributes:
        images_BCHW: in -1..1 where clean, of the size that the network takes; with noise of their levels.
        levels_B: 0 (clean) to 1 (nothing but noise).
    """

    images_BCHW: torch.Tensor
    levels_B: torch.Tensor

    @classmethod
    def augmented(cls, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, levels_B: torch.Tensor) -> LowResolution:
        """Pictures with noise of the given levels, at their own size; variance-preserving, level 0 changes nothing."""
        angles = 0.5 * math.pi * levels_B.view(-1, 1, 1, 1)
        return cls(clean_BCHW * angles.cos() + noise_BCHW * angles.sin(), levels_B)

    @classmethod
    def concat(cls, parts: Sequence[LowResolution]) -> LowResolution:
        """The pictures of all parts."""
        return cls(torch.cat([part.images_BCHW for part in parts]), torch.cat([part.levels_B for part in parts]))

    def tiled(self, times: int) -> LowResolution:
        """All pictures `times` times, one whole batch after the other, as the branches of guidance are stacked."""
        return LowResolution(self.images_BCHW.repeat(times, 1, 1, 1), self.levels_B.repeat(times))


@dataclass(frozen=True)
class SuperResolutionOptions:
    """How the second stage is sampled.

    Attributes:
        num_inference_steps: denoising steps; None: the network's own number.
        guidance_scale, image_guidance_scale: as in the first stage; 1.0 is no guidance; None: the network's own.
        noise_level: of the augmentation, 0..1; None takes what the model was saved with.
        batch_size: pictures enlarged at a time, which bounds the memory; None: all. It changes no picture.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    noise_level: float | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuses numbers out of range."""
        if any(count is not None and count < 1 for count in (self.num_inference_steps, self.batch_size)):
            raise ValueError("num_inference_steps and batch_size must be at least 1")
        if self.noise_level is not None and not 0 <= self.noise_level <= 1:
            raise ValueError(f"noise_level must lie in 0..1, not {self.noise_level}")


class SuperResolutionUNet(InstructUNet):
    """An `InstructUNet` that enlarges.

    The backbone's input holds the noisy picture and the enlarged small one, so it has twice the channels; the level
    enters the time embedding through diffusers' own `timestep_cond`. Where references are read, the down path encodes
    them at this network's size, beside their own reduction at level 0.

    Args:
        backbone_config, patch_size, context_places, context_positions, context_text: see `InstructUNet`;
            `context_places="none"` reads the text alone, as the paper's does.
        low_res_px: side of the pictures to enlarge.
        noise_level: of the augmentation in sampling, where the caller names none.
        residual: the backbone predicts what the enlarged small picture lacks, not the picture (departure; for
            prediction of the clean picture). Of a noisy small picture only the expected share is added. A fresh network
            then predicts just the enlarged picture.
        text_tokens, lowercase_text: see `InstructUNet`.
    """

    default_steps = DEFAULT_STEPS
    default_guidance = 1.0

    @register_to_config
    def __init__(
        self,
        *,
        backbone_config: dict[str, Any],
        low_res_px: int,
        patch_size: int = 1,
        context_places: ContextPlaces = "lowest",
        context_positions: bool = True,
        context_text: bool = True,
        noise_level: float = 0.1,
        residual: bool = True,
        text_tokens: int | None = None,
        lowercase_text: bool = False,
    ):
        super().__init__(
            backbone_config=backbone_config,
            patch_size=patch_size,
            context_places=context_places,
            context_positions=context_positions,
            context_text=context_text,
            text_tokens=text_tokens,
            lowercase_text=lowercase_text,
        )
        if residual:
            torch.nn.init.zeros_(self.backbone.conv_out.weight)
            torch.nn.init.zeros_(self.backbone.conv_out.bias)

    @property
    def num_channels(self) -> int:
        """Channels of what is denoised; the enlarged picture has the other half of the input."""
        return super().num_channels // 2

    def begin(
        self, clean_BCHW: torch.Tensor, levels_B: torch.Tensor, draw: Callable[[int], torch.Tensor]
    ) -> tuple[torch.Tensor, LowResolution]:
        """The noise that sampling begins with, and the small pictures with theirs.

        Args:
            clean_BCHW: small pictures in -1..1.
            levels_B: noise levels of the augmentation.
            draw: gives normal noise for all pictures at a size in pixels.
        """
        small = LowResolution.augmented(clean_BCHW, draw(self.config.low_res_px).float(), levels_B)
        return draw(self.size_px), small

    def forward(
        self,
        sample_BCHW: torch.Tensor,
        timestep_B: torch.Tensor,
        text_BLE: torch.Tensor,
        cache: KeyValueCache,
        low_res: LowResolution | None = None,
    ) -> torch.Tensor:
        """One denoising evaluation; see `InstructUNet.forward`.

        Args:
            sample_BCHW: noisy pictures.
            timestep_B: int, 0 .. num_train_timesteps - 1.
            text_BLE: text states.
            cache: from `project`.
            low_res: the small pictures, one for each noisy one.

        Raises:
            ValueError: `low_res` is missing.
        """
        low_res = _given(low_res)
        enlarged = self.enlarge(low_res.images_BCHW).to(sample_BCHW.dtype)
        condition = self._level_embedding(low_res.levels_B, sample_BCHW.dtype)
        folded = self._fold(torch.cat([sample_BCHW, enlarged], dim=1))
        output = self._evaluate(folded, timestep_B, text_BLE, cache, timestep_cond=condition)
        if not self.config.residual:
            return output
        return output + _expected_share(low_res.levels_B).view(-1, 1, 1, 1).to(output.dtype) * enlarged

    def enlarge(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Small pictures at this network's size, smoothly."""
        size = (self.size_px, self.size_px)
        return F.interpolate(images_BCHW.float(), size, mode="bicubic", align_corners=False)

    def _clean_input(self, images_RCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """References beside their own enlarged reduction, at level 0."""
        reduced = F.interpolate(images_RCHW.float(), (self.config.low_res_px,) * 2, mode="area")
        pair = torch.cat([images_RCHW, self.enlarge(reduced).to(images_RCHW.dtype)], dim=1)
        levels = torch.zeros(len(images_RCHW), device=images_RCHW.device)
        return self._fold(pair), self._level_embedding(levels, images_RCHW.dtype)

    def _level_embedding(self, levels_B: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        dim = self.backbone.config.time_cond_proj_dim
        return get_timestep_embedding(_LEVEL_SCALE * levels_B, dim, flip_sin_to_cos=True).to(dtype)


class IFSuperResolutionUNet(SuperResolutionUNet):
    """Stage II of DeepFloyd IF as it was trained; it reads no references.

    The small picture is enlarged linearly, gets noise at the large size, and the level, as a step of that noise's
    schedule, is embedded as a class. Half of the output is the variance.

    Args:
        backbone_config: of the original's U-Net.
        low_res_px: side of the pictures to enlarge.
        noising_config: configuration of the scheduler whose noise the small pictures get.
        noise_level: step of that schedule over its number of steps, 0..1.
        default_steps, default_guidance: the original's.
        text_tokens, lowercase_text: see `InstructUNet`.
        context_places: "none", and no other.
    """

    @register_to_config
    def __init__(
        self,
        *,
        backbone_config: dict[str, Any],
        low_res_px: int,
        noising_config: dict[str, Any],
        noise_level: float = 0.25,
        default_steps: int = 50,
        default_guidance: float = 4.0,
        text_tokens: int | None = None,
        lowercase_text: bool = False,
        context_places: ContextPlaces = "none",
    ):
        super().__init__(
            backbone_config=backbone_config,
            low_res_px=low_res_px,
            context_places=context_places,
            noise_level=noise_level,
            residual=False,
            text_tokens=text_tokens,
            lowercase_text=lowercase_text,
        )
        if context_places != "none":
            raise ValueError("an imported super-resolution reads no references")
        self.default_steps, self.default_guidance = default_steps, default_guidance

    @cached_property
    def noising(self) -> DDPMScheduler:
        """The schedule of the small pictures' noise."""
        return DDPMScheduler.from_config(self.config.noising_config)

    def begin(
        self, clean_BCHW: torch.Tensor, levels_B: torch.Tensor, draw: Callable[[int], torch.Tensor]
    ) -> tuple[torch.Tensor, LowResolution]:
        """See `SuperResolutionUNet.begin`; the small pictures come enlarged, and noise is drawn in the other order."""
        noise = draw(self.size_px)
        enlarged = F.interpolate(clean_BCHW, (self.size_px,) * 2, mode="bilinear", align_corners=True)
        noisy = self.noising.add_noise(enlarged, draw(self.size_px).float(), self._steps(levels_B))
        return noise, LowResolution(noisy, levels_B)

    def forward(
        self,
        sample_BCHW: torch.Tensor,
        timestep_B: torch.Tensor,
        text_BLE: torch.Tensor,
        cache: KeyValueCache,
        low_res: LowResolution | None = None,
    ) -> torch.Tensor:
        """One denoising evaluation; see `SuperResolutionUNet.forward`. `low_res` is as `begin` gives it.

        Raises:
            ValueError: `low_res` is missing.
        """
        low_res = _given(low_res)
        pair = torch.cat([sample_BCHW, low_res.images_BCHW.to(sample_BCHW.dtype)], dim=1)
        return self._evaluate(pair, timestep_B, text_BLE, cache, class_labels=self._steps(low_res.levels_B))

    def _steps(self, levels_B: torch.Tensor) -> torch.Tensor:
        num_steps = self.noising.config.num_train_timesteps
        return (levels_B * num_steps).round().long().clamp(max=num_steps - 1)


def _given(low_res: LowResolution | None) -> LowResolution:
    if low_res is None:
        raise ValueError("super-resolution needs low_res, the pictures to enlarge")
    return low_res


def _expected_share(levels_B: torch.Tensor) -> torch.Tensor:
    """What to multiply a noisy small picture with for the least squared error, as if pixels were independent.

    With signal a = cos, noise b = sin and pictures of deviation s it is a s² / (a² s² + b²): 1 at level 0, 0 at 1.
    """
    signal, noise = (0.5 * math.pi * levels_B).cos(), (0.5 * math.pi * levels_B).sin()
    return signal * _PICTURE_DEVIATION**2 / (signal**2 * _PICTURE_DEVIATION**2 + noise**2)
