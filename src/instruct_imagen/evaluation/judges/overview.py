"""Overview judge: over which ground a picture is; and the feature spaces in which its quality is judged.

features: a summary of the picture by a small network; statistic: probabilities of grounds and of their colours;
number: `Overview.ground`.

Being a judge and no part of any model, the network knows held-out glyphs and styles too. It also learns the style, and
from a few numbers apart how a picture is damaged and how much: there true pictures lie together, whatever they show,
and spoiled ones apart, so `quality` measures distances there. `train_overview` says how it is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...world import COLOURS, GROUND_KINDS, STYLE_NAMES, Ground
from .nets import BATCH, WEIGHTS, Block, JudgeError, as_input, layer, read_weights
from .spoiling import RUINS

OVERVIEW_FILE = "overview_judge.safetensors"
COLOUR_PARAMS = ("colour", "colour2")
NUM_DAMAGES = 2
QUALITY_DIM = 12
NUM_FAULTS = 2 + len(RUINS)
_FLOOR = 1e-6


@dataclass(frozen=True)
class Outputs:
    """What the network gives for B pictures.

    Attributes:
        styles: float [B, styles], logits.
        grounds: float [B, kinds of ground], logits.
        colours: float [B, 2, colours], logits of the ground's first and second.
        faults: float [B, faults], logits of `train_overview.FAULTS`.
        damage: float [B, 2], see `train_overview.damage_of`.
        features: float [B, D], what the picture is like.
        quality: float [B, Q], how it is damaged.
    """

    styles: Tensor
    grounds: Tensor
    colours: Tensor
    faults: Tensor
    damage: Tensor
    features: Tensor
    quality: Tensor


class OverviewNet(nn.Module):
    """Pictures to `Outputs`."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.PixelUnshuffle(2), layer(12, 32), layer(32, 32))
        self.middle = nn.Sequential(layer(32, 64, stride=2), Block(64))
        self.coarse = nn.Sequential(layer(64, 96, stride=2), Block(96))
        self.summary = nn.Sequential(nn.Linear(2 * 96, 96), nn.ReLU(inplace=True))
        self.heads = nn.ModuleList(nn.Linear(96, n) for n in (len(STYLE_NAMES), len(GROUND_KINDS), 2 * len(COLOURS)))
        self.quality = nn.Sequential(
            nn.Linear(2 * (32 + 64 + 96), 64), nn.ReLU(inplace=True), nn.Linear(64, QUALITY_DIM)
        )
        self.quality_heads = nn.ModuleList(nn.Linear(QUALITY_DIM, n) for n in (NUM_FAULTS, NUM_DAMAGES))

    def forward(self, pictures: Tensor) -> Outputs:
        """Pictures: float [B, 3, 64, 64] in -1..1."""
        fine = self.fine(pictures)
        middle = self.middle(fine)
        pooled = [torch.cat([v.mean((2, 3)), v.amax((2, 3))], 1) for v in (fine, middle, self.coarse(middle))]
        features, quality = self.summary(pooled[-1]), self.quality(torch.cat(pooled, 1))
        styles, grounds, colours = (head(features) for head in self.heads)
        faults, damage = (head(quality) for head in self.quality_heads)
        return Outputs(styles, grounds, colours.unflatten(1, (2, len(COLOURS))), faults, damage, features, quality)


@dataclass(frozen=True)
class Overview:
    """What is said of N pictures.

    Attributes:
        grounds: float32 [N, kinds], probabilities.
        colours: float32 [N, 2, colours], probabilities.
        features: float32 [N, D], what a picture is like.
        quality: float32 [N, Q], how it is damaged.
    """

    grounds: np.ndarray
    colours: np.ndarray
    features: np.ndarray
    quality: np.ndarray

    def ground(self, index: int, ground: Ground) -> float:
        """Probability of a ground in picture `index`: of its kind and, for walls, its colours; geometric mean."""
        facts = [self.grounds[index, GROUND_KINDS.index(ground.kind)]]
        given, names = {key for key, _ in ground.params}, list(COLOURS)
        for number, key in enumerate(COLOUR_PARAMS):
            if key in given:
                facts.append(self.colours[index, number, names.index(ground.colour_name(key))])
        return float(np.exp(np.mean(np.log(np.maximum(facts, _FLOOR)))))


class OverviewJudge:
    """The network with its weights.

    Args:
        weights: file made by `python -m instruct_imagen.evaluation.judges.training overview`.

    Raises:
        JudgeError: the weights are not there, or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS / OVERVIEW_FILE) -> None:
        self.net = read_weights(OverviewNet(), weights)

    @torch.inference_mode()
    def look(self, pictures: Sequence[np.ndarray]) -> Overview:
        """Mean of what the network says to each picture and to its mirror image; uint8 [64, 64, 3] each, at least one.

        Raises:
            JudgeError: there is no picture.
        """
        if not pictures:
            raise JudgeError("There is no picture to look at.")
        parts: list[list[np.ndarray]] = []
        for start in range(0, len(pictures), BATCH):
            values = as_input(pictures[start : start + BATCH])
            one, other = self.net(values), self.net(values.flip(-1))
            means = (
                (one.grounds + other.grounds).div(2).softmax(-1),
                (one.colours + other.colours).div(2).softmax(-1),
                (one.features + other.features).div(2),
                (one.quality + other.quality).div(2),
            )
            parts.append([mean.numpy() for mean in means])
        return Overview(*(np.concatenate(part) for part in zip(*parts, strict=True)))


@cache
def shipped_overview_judge() -> OverviewJudge:
    """The judge with the weights that come with the package; read once."""
    return OverviewJudge()
