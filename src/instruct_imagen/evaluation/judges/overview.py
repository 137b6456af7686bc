"""Overview judge: over which ground a picture is; and the feature space in which its quality is judged.

features: a summary of the picture by a small network; statistic: probabilities of grounds and of their colours; number:
`Overview.ground`.

Being a judge and no part of any model, the network knows held-out glyphs and styles too. It also learns the style and
how damaged a picture is, so that its summary tells true pictures from spoiled ones: `quality` measures distances in
it. `train_overview` says how it is trained.
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

OVERVIEW_FILE = "overview_judge.safetensors"
COLOUR_PARAMS = ("colour", "colour2")
NUM_DAMAGES = 2
_FLOOR = 1e-6


@dataclass(frozen=True)
class Outputs:
    """What the network gives for B pictures.

    Attributes:
        styles: float [B, styles], logits.
        grounds: float [B, kinds of ground], logits.
        colours: float [B, 2, colours], logits of the ground's first and second.
        damage: float [B, 2], see `train_overview.damage_of`.
        features: float [B, D].
    """

    styles: Tensor
    grounds: Tensor
    colours: Tensor
    damage: Tensor
    features: Tensor


class OverviewNet(nn.Module):
    """Pictures to `Outputs`."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            layer(12, 32),
            layer(32, 32),
            layer(32, 64, stride=2),
            Block(64),
            layer(64, 96, stride=2),
            Block(96),
        )
        self.summary = nn.Sequential(nn.Linear(2 * 96, 96), nn.ReLU(inplace=True))
        sizes = (len(STYLE_NAMES), len(GROUND_KINDS), 2 * len(COLOURS), NUM_DAMAGES)
        self.heads = nn.ModuleList(nn.Linear(96, size) for size in sizes)

    def forward(self, pictures: Tensor) -> Outputs:
        """Pictures: float [B, 3, 64, 64] in -1..1."""
        values = self.trunk(pictures)
        features = self.summary(torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1))
        styles, grounds, colours, damage = (head(features) for head in self.heads)
        return Outputs(styles, grounds, colours.unflatten(1, (2, len(COLOURS))), damage, features)


@dataclass(frozen=True)
class Overview:
    """What is said of N pictures.

    Attributes:
        grounds: float32 [N, kinds], probabilities.
        colours: float32 [N, 2, colours], probabilities.
        features: float32 [N, D].
    """

    grounds: np.ndarray
    colours: np.ndarray
    features: np.ndarray

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
            )
            parts.append([mean.numpy() for mean in means])
        return Overview(*(np.concatenate(part) for part in zip(*parts, strict=True)))


@cache
def shipped_overview_judge() -> OverviewJudge:
    """The judge with the weights that come with the package; read once."""
    return OverviewJudge()
