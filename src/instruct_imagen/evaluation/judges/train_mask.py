"""How the mask judge's network is trained: plain pictures of training glyphs on every ground, with faults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ...data.world_draft import PLAIN_STYLE
from ...precision import autocast
from ...world import GlyphPack, SceneSampler, render
from ..pictures import JUDGE_SIZE_PX
from .mask import MASK_FILE, MaskNet
from .nets import as_input
from .spoiling import spoil
from .training import Recipe

_BATCH = 16


def draw_batches(pack: GlyphPack, rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; each set of scenes makes two, one of them mirrored, with other faults.

    Yields:
        Pictures, float [B, 3, 64, 64] in -1..1, and their masks, float [B, 64, 64] of 0 and 1.
    """
    sampler = SceneSampler(pack, "train")
    while True:
        counts = [1 if rng.random() < 0.5 else None for _ in range(_BATCH)]
        scenes = [sampler.sample(rng, num_subjects=count, style=PLAIN_STYLE) for count in counts]
        renders = [render(scene, pack, JUDGE_SIZE_PX) for scene in scenes]
        masks = torch.from_numpy(np.stack([picture.mask for picture in renders])).float()
        yield as_input([spoil(picture.image, rng) for picture in renders]), masks
        yield as_input([spoil(picture.image, rng) for picture in renders]).flip(-1), masks.flip(-1)


def region_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of pixels, and one minus the soft overlap of regions; [B, S, S] each."""
    inside = torch.sigmoid(logits)
    both = (inside * masks).sum((1, 2))
    overlap = (both + 1) / (inside.sum((1, 2)) + masks.sum((1, 2)) - both + 1)
    return binary_cross_entropy_with_logits(logits, masks) + 0.5 * (1 - overlap.mean())


def _loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    pictures, masks = batch
    with autocast("cpu"):
        logits = net(pictures)
    return region_loss(logits.float(), masks)


RECIPE = Recipe(MASK_FILE, MaskNet, draw_batches, _loss, 98_304, batch_size=_BATCH, peak_rate=4e-3, seed=7_300_000)
