"""Recogniser: one network that says which glyphs a picture shows and where, how many, on which ground, in which style.

features: a coarse map of the picture and a summary of it; statistics: probabilities; numbers: see `Seen`.

The subject judge of the quick suite compares templates (`identity`); it reads single subjects in plain pictures. This
network reads several, small ones, in any style, and at 32 pixels; docs/evaluation.md compares the two. Being a judge
and no part of any model, it knows held-out glyphs and styles too. Its summary is also the feature space of the quality
judge (`quality`), so it learns as well how damaged a picture is. `train_recogniser` makes its weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...world import COLOURS, GROUND_KINDS, STYLE_NAMES, Ground
from .nets import BATCH, WEIGHTS, Block, JudgeError, as_input, layer, read_weights

RECOGNISER_FILE = "recogniser.safetensors"
MAP_PX = 8  # side of the map of glyphs
MAX_COUNT = 3
NUM_DAMAGES = 2
_FLOOR = 1e-6


@dataclass(frozen=True)
class Outputs:
    """What the network gives for B pictures, all of it logits but the features and the damage.

    Attributes:
        glyphs: float [B, G + 2, 8, 8]; after the glyphs: a portrait, and nothing.
        styles: float [B, styles].
        grounds: float [B, kinds of ground].
        colours: float [B, 2, colours], the ground's first and second.
        counts: float [B, 4], none to three subjects.
        damage: float [B, 2], see `train_recogniser.damage_of`.
        features: float [B, D].
    """

    glyphs: Tensor
    styles: Tensor
    grounds: Tensor
    colours: Tensor
    counts: Tensor
    damage: Tensor
    features: Tensor


class RecogniserNet(nn.Module):
    """Pictures to `Outputs`.

    Args:
        num_glyphs: G.
    """

    def __init__(self, num_glyphs: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            layer(12, 32),
            layer(32, 32),
            layer(32, 64, stride=2),
            Block(64),
            layer(64, 128, stride=2),
            Block(128),
            Block(128),
        )
        self.glyph_head = nn.Sequential(
            nn.Conv2d(128, 128, 1), nn.ReLU(inplace=True), nn.Conv2d(128, num_glyphs + 2, 1)
        )
        self.summary = nn.Sequential(nn.Linear(2 * 128, 128), nn.ReLU(inplace=True))
        sizes = (len(STYLE_NAMES), len(GROUND_KINDS), 2 * len(COLOURS), MAX_COUNT + 1, NUM_DAMAGES)
        self.heads = nn.ModuleList(nn.Linear(128, size) for size in sizes)

    def forward(self, pictures: Tensor) -> Outputs:
        """Pictures: float [B, 3, 64, 64] in -1..1."""
        values = self.trunk(pictures)
        features = self.summary(torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1))
        styles, grounds, colours, counts, damage = (head(features) for head in self.heads)
        colours = colours.unflatten(1, (2, len(COLOURS)))
        return Outputs(self.glyph_head(values), styles, grounds, colours, counts, damage, features)


@dataclass(frozen=True)
class Seen:
    """What the recogniser says of N pictures.

    Attributes:
        glyphs: keys of the glyphs it knows, G of them.
        maps: float32 [N, G + 2, 8, 8], log-probability of each glyph at each place.
        styles: float32 [N, styles], probabilities.
        grounds: float32 [N, kinds], probabilities.
        colours: float32 [N, 2, colours], probabilities.
        counts: float32 [N, 4], probabilities of none to three subjects.
        features: float32 [N, D].
    """

    glyphs: tuple[str, ...]
    maps: np.ndarray
    styles: np.ndarray
    grounds: np.ndarray
    colours: np.ndarray
    counts: np.ndarray
    features: np.ndarray

    def identity(self, index: int, glyph: str, candidates: Sequence[str]) -> float:
        """Probability that, of the candidates, it is `glyph` that picture `index` shows; 0..1."""
        places = [self.glyphs.index(candidate) for candidate in candidates]
        strength = self.maps[index, places].reshape(len(places), -1).max(1).astype(np.float64)
        share = np.exp(strength - strength.max())
        return float(share[list(candidates).index(glyph)] / share.sum())

    def place(self, index: int, glyph: str) -> tuple[float, float]:
        """Where picture `index` shows a glyph, most likely: across and down, 0..1."""
        weights = np.exp(self.maps[index, self.glyphs.index(glyph)].astype(np.float64)) + _FLOOR / MAP_PX**2
        line = (np.arange(MAP_PX) + 0.5) / MAP_PX
        total = weights.sum()
        return float(weights.sum(0) @ line / total), float(weights.sum(1) @ line / total)

    def ground(self, index: int, ground: Ground, with_colours: bool) -> float:
        """Probability of a ground: of its kind and, for walls, of the colours that a caption names; geometric mean."""
        facts = [self.grounds[index, GROUND_KINDS.index(ground.kind)]]
        names = list(COLOURS)
        if with_colours:
            keys = [key for key, _ in ground.params]
            for number, key in enumerate(("colour", "colour2")):
                if key in keys:
                    facts.append(self.colours[index, number, names.index(ground.colour_name(key))])
        return float(np.exp(np.mean(np.log(np.maximum(facts, _FLOOR)))))


class Recogniser:
    """The network with its weights.

    Args:
        weights: file made by `python -m instruct_imagen.evaluation.judges.training recogniser`.

    Raises:
        JudgeError: the weights are not there, or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS / RECOGNISER_FILE) -> None:
        try:
            with safe_open(weights, "pt") as file:
                self.glyphs = tuple(json.loads(file.metadata()["glyphs"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise JudgeError(
                f"The recogniser's weights {weights} cannot be read; make them with "
                "`python -m instruct_imagen.evaluation.judges.training recogniser`."
            ) from error
        self.net = read_weights(RecogniserNet(len(self.glyphs)), weights)

    @torch.inference_mode()
    def see(self, pictures: Sequence[np.ndarray]) -> Seen:
        """Mean of what the network says to each picture and to its mirror image; uint8 [64, 64, 3] each."""
        parts: list[list[np.ndarray]] = []
        for start in range(0, len(pictures), BATCH):
            values = as_input(pictures[start : start + BATCH])
            one, other = self.net(values), self.net(values.flip(-1))
            logits = [
                (one.glyphs + other.glyphs.flip(-1)).div(2).log_softmax(1),
                *((getattr(one, name) + getattr(other, name)).div(2).softmax(-1) for name in _PROBABILITIES),
                (one.features + other.features).div(2),
            ]
            parts.append([part.numpy() for part in logits])
        if not parts:
            raise JudgeError("There is no picture to look at.")
        return Seen(self.glyphs, *(np.concatenate(part) for part in zip(*parts, strict=True)))


_PROBABILITIES = ("styles", "grounds", "colours", "counts")


@cache
def shipped_recogniser() -> Recogniser:
    """The recogniser with the weights that come with the package; read once."""
    return Recogniser()
