"""The small pictures that super-resolution is trained on: the target reduced as the base model sees it, then degraded.

Each noisy version of an example has an augmentation of its own: noise of a level drawn from 0 to a maximum, which the
network is told (Ho et al. 2021; Saharia et al. 2022). Blur, if any, is part of the example and told to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from PIL import Image

from ..conditioning import image_to_tensor, to_unit_range
from ..presets import LowResolutionConfig
from ..super_resolution import LowResolution

BLURRED_SHARE = 0.5  # where there is blur at all


@dataclass(frozen=True)
class SmallPictures:
    """Pictures to enlarge with their augmentation, of one example or, stacked, of B.

    Attributes:
        images: uint8 [(B,) 3, s, s].
        noise: float [(B,) K, 3, s, s], normal.
        levels: float [(B,) K] in 0..1.
    """

    images: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor

    @classmethod
    def stacked(cls, examples: list[SmallPictures]) -> SmallPictures:
        """A batch of single examples."""
        return cls(*(torch.stack([getattr(e, f.name) for e in examples]) for f in fields(cls)))

    def to(self, device: torch.device) -> SmallPictures:
        """Moves every tensor."""
        return SmallPictures(*(getattr(self, f.name).to(device) for f in fields(self)))

    def pin_memory(self) -> SmallPictures:
        """Pins every tensor; called by the data loader on a CUDA machine."""
        return SmallPictures(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    def augmented(self) -> LowResolution:
        """What the network reads for the B * K noisy pictures, the K of an example next to each other."""
        clean = to_unit_range(self.images).repeat_interleave(self.levels.shape[1], dim=0)
        return LowResolution.augmented(clean, self.noise.flatten(0, 1), self.levels.flatten())


def draw_small_picture(
    target: Image.Image, config: LowResolutionConfig, num_levels: int, rng: np.random.Generator
) -> SmallPictures:
    """The small picture of one example.

    Args:
        target: the picture to be drawn, at any size.
        config: size and augmentation.
        num_levels: noisy versions K of the example; their levels are one in each K-th of the range, in random order,
            so that they do not follow the noise of the picture to be drawn.
        rng: the example's own generator.
    """
    size_px = config.size_px
    image = image_to_tensor(target, size_px)
    if config.max_blur_px and rng.random() < BLURRED_SHARE:
        deviation = config.max_blur_px * max(rng.random(), 0.05)
        blurred = cv2.GaussianBlur(image.permute(1, 2, 0).numpy(), (0, 0), deviation)
        image = torch.from_numpy(blurred).permute(2, 0, 1).contiguous()
    levels = (rng.permutation(num_levels) + rng.random(num_levels)) / num_levels * config.max_noise_level
    noise = rng.standard_normal((num_levels, 3, size_px, size_px), dtype=np.float32)
    return SmallPictures(image, torch.from_numpy(noise), torch.from_numpy(levels.astype(np.float32)))
