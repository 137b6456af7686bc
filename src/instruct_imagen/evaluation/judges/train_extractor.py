"""How the extractor is trained: scenes in every style, with faults, to what their render knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

from ...precision import autocast
from ...world import STYLE_NAMES, GlyphPack, SceneSampler, canny_edges, render
from ..pictures import JUDGE_SIZE_PX
from .extractor import EXTRACTOR_FILE, ExtractorNet
from .nets import as_input
from .spoiling import reduced, spoil
from .train_mask import region_loss
from .training import Recipe

_BATCH = 16
_STYLED_SHARE = 0.6
_REDUCED_SHARE = 0.5
REDUCED_PX = 32
_EDGE_WEIGHT = 2.0  # edges are rare


def draw_batches(pack: GlyphPack, rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; each set of scenes makes two, one of them mirrored, with other faults.

    Yields:
        Pictures, float [B, 3, 64, 64] in -1..1; masks, edges and depths, float [B, 64, 64] in 0..1.
    """
    sampler = SceneSampler(pack, "held_out", STYLE_NAMES, glyphs="train", plain_share=1 - _STYLED_SHARE)
    while True:
        counts = [1 if rng.random() < 0.5 else None for _ in range(_BATCH)]
        renders = [render(sampler.sample(rng, num_subjects=count), pack, JUDGE_SIZE_PX) for count in counts]
        layers = [
            np.stack([layer(picture) for picture in renders]).astype(np.float32)
            for layer in (lambda r: r.mask, lambda r: canny_edges(r.plain), lambda r: r.depth)
        ]
        wanted = [torch.from_numpy(values) for values in layers]
        yield as_input([faulty(picture.image, rng) for picture in renders]), *wanted
        mirrored = [values.flip(-1) for values in wanted]
        yield as_input([faulty(picture.image, rng) for picture in renders]).flip(-1), *mirrored


def faulty(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture with faults, half the time as a model of 32 pixels would give it."""
    return spoil(reduced(picture, REDUCED_PX) if rng.random() < _REDUCED_SHARE else picture, rng)


def _loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    pictures, masks, edges, depths = batch
    with autocast("cpu"):
        found_masks, found_edges, found_depths = net(pictures)
    of_edges = binary_cross_entropy_with_logits(found_edges.float(), edges, pos_weight=torch.tensor(_EDGE_WEIGHT))
    return region_loss(found_masks.float(), masks) + of_edges + 4 * l1_loss(found_depths.float(), depths)


RECIPE = Recipe(
    EXTRACTOR_FILE,
    lambda pack: ExtractorNet(),
    draw_batches,
    _loss,
    65_536,
    batch_size=_BATCH,
    peak_rate=3e-3,
    seed=7_400_000,
)
