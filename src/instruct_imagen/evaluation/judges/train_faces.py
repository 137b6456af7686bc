"""How the face judge is trained: portraits in every mood and outfit, with faults, to the looks of their identity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...data.world_draft import PLAIN_STYLE
from ...precision import autocast
from ...world import GlyphPack, Portraits, PortraitSampler, identity_of, parse_portrait, render
from ...world.faces import EXPRESSIONS, HAT_COLOURS, HATS
from ..pictures import JUDGE_SIZE_PX
from .faces import FACES_FILE, LOOKS, FaceNet, look_labels, proportions
from .nets import as_input
from .train_extractor import faulty
from .training import Recipe

_BATCH = 32
_CLOSE_SHARE = 0.3
_UNASKED = -100


def draw_batches(pack: GlyphPack, rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; each set of portraits makes two, with other faults.

    Yields:
        Pictures, float [B, 3, 64, 64] in -1..1; labels, int64 [B, looks and outfit]; proportions, float [B, 8].
    """
    sampler, portraits = PortraitSampler("train"), Portraits()
    while True:
        scenes = [sampler.scene(rng, close=bool(rng.random() < _CLOSE_SHARE), style=PLAIN_STYLE) for _ in range(_BATCH)]
        pictures = [render(scene, portraits, JUDGE_SIZE_PX).image for scene in scenes]
        labels, wanted = zip(*(_labels(scene.glyphs[0]) for scene in scenes), strict=True)
        for _ in range(2):
            seen = as_input([faulty(picture, rng) for picture in pictures])
            yield seen, torch.from_numpy(np.stack(labels)), torch.from_numpy(np.stack(wanted))


def _labels(key: str) -> tuple[np.ndarray, np.ndarray]:
    portrait = parse_portrait(key)
    identity = identity_of(portrait.identity)
    colour = _UNASKED if portrait.hat == "none" else HAT_COLOURS.index(portrait.hat_colour)
    outfit = [HATS.index(portrait.hat), colour, EXPRESSIONS.index(portrait.expression)]
    return np.concatenate([look_labels(identity), outfit]), proportions(identity)


def _loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Negative log-likelihood of looks, outfit and proportions, the latter normally distributed."""
    pictures, labels, wanted = batch
    with autocast("cpu"):
        logits, mean, spread = net(pictures)
    spread = spread.float()
    loss = (0.5 * ((wanted - mean.float()) / spread).square() + spread.log()).mean(0).sum() / len(LOOKS)
    for values, wanted_labels in zip(logits, labels.unbind(1), strict=True):
        if (wanted_labels != _UNASKED).any():
            loss = loss + cross_entropy(values.float(), wanted_labels, ignore_index=_UNASKED)
    return loss


RECIPE = Recipe(
    FACES_FILE, lambda pack: FaceNet(), draw_batches, _loss, 65_536, batch_size=_BATCH, peak_rate=3e-3, seed=7_600_000
)
