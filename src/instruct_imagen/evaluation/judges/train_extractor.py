"""How the extractor is trained: scenes in every style, with faults, to what their render knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

from ...precision import autocast
from ...world import STYLE_NAMES, GlyphPack, Scene, SceneSampler, canny_edges, render
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
_CENTRE_WEIGHT = 8.0  # and centres rarer
_CENTRE_PX = 2.5  # standard deviation of the spot that marks one


def draw_batches(pack: GlyphPack, rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; each set of scenes makes two, one of them mirrored, with other faults.

    Yields:
        Pictures, float [B, 3, 64, 64] in -1..1; masks, edges, depths and centres, float [B, 64, 64] in 0..1.
    """
    sampler = SceneSampler(pack, "held_out", STYLE_NAMES, glyphs="train", plain_share=1 - _STYLED_SHARE)
    while True:
        counts = [1 if rng.random() < 0.5 else None for _ in range(_BATCH)]
        scenes = [sampler.sample(rng, num_subjects=count) for count in counts]
        renders = [render(scene, pack, JUDGE_SIZE_PX) for scene in scenes]
        layers = [
            np.stack([layer(picture) for picture in renders]).astype(np.float32)
            for layer in (lambda r: r.mask, lambda r: canny_edges(r.plain), lambda r: r.depth)
        ]
        wanted = [torch.from_numpy(values) for values in (*layers, np.stack([centre_map(scene) for scene in scenes]))]
        yield as_input([faulty(picture.image, rng) for picture in renders]), *wanted
        mirrored = [values.flip(-1) for values in wanted]
        yield as_input([faulty(picture.image, rng) for picture in renders]).flip(-1), *mirrored


def centre_map(scene: Scene) -> np.ndarray:
    """A soft spot at the middle of each subject: float32 [64, 64], 1 at the middles."""
    line = (np.arange(JUDGE_SIZE_PX, dtype=np.float32) + 0.5) / JUDGE_SIZE_PX
    spread = 2 * (_CENTRE_PX / JUDGE_SIZE_PX) ** 2
    spots = [np.exp(-((line[None] - s.x) ** 2 + (line[:, None] - s.y) ** 2) / spread) for s in scene.subjects]
    return np.max(spots, axis=0)


def faulty(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture with faults, half the time as a model of 32 pixels would give it."""
    return spoil(reduced(picture, REDUCED_PX) if rng.random() < _REDUCED_SHARE else picture, rng)


def _loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    pictures, masks, edges, depths, centres = batch
    with autocast("cpu"):
        found_masks, found_edges, found_depths, found_centres = net(pictures)
    of_edges = binary_cross_entropy_with_logits(found_edges.float(), edges, pos_weight=torch.tensor(_EDGE_WEIGHT))
    of_centres = _CENTRE_WEIGHT * binary_cross_entropy_with_logits(found_centres.float(), centres)
    return region_loss(found_masks.float(), masks) + of_edges + of_centres + 4 * l1_loss(found_depths.float(), depths)


RECIPE = Recipe(
    EXTRACTOR_FILE,
    ExtractorNet,
    draw_batches,
    _loss,
    65_536,
    batch_size=_BATCH,
    peak_rate=3e-3,
    seed=7_400_000,
)
