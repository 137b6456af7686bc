"""Face judge: whose portrait a picture is, and whether it wears what was asked.

features: the looks of the person, each as probabilities (hair, skin, glasses, beard, ...) or a proportion with its
uncertainty; statistic: how likely they make each candidate's identity; number: the probability of the right one.

The paper judges faces by eye (§4), systems for photographs by an embedding that was trained to tell people apart. The
procedural portraits have identities made of named looks, so the recogniser is trained on those. `train_faces` makes its
weights; what a hat hides, it learns to be unsure of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...world import Identity, identity_of, parse_portrait
from ...world.faces import (
    BEARDS,
    EXPRESSIONS,
    EYE_COLOURS,
    GLASSES,
    HAIR_COLOURS,
    HAIR_STYLES,
    HAT_COLOURS,
    HATS,
    MARKS,
    SKINS,
)
from .nets import BATCH, WEIGHTS, Block, JudgeError, as_input, layer, read_weights

FACES_FILE = "faces_judge.safetensors"
LOOKS: Mapping[str, int] = {  # what belongs to the identity, and how many kinds there are
    "kind": 2,
    "skin": len(SKINS),
    "hair_style": len(HAIR_STYLES),
    "hair_colour": len(HAIR_COLOURS),
    "eye_colour": len(EYE_COLOURS),
    "glasses": len(GLASSES),
    "beard": len(BEARDS),
    "mark": len(MARKS),
    "earrings": 2,
}
OUTFIT: Mapping[str, int] = {"hat": len(HATS), "hat_colour": len(HAT_COLOURS), "expression": len(EXPRESSIONS)}
PROPORTIONS = ("face_width", "face_length", "jaw", "eye_size", "eye_gap", "brow", "nose", "mouth")
_TABLES: Mapping[str, Sequence[str]] = {
    "kind": ("man", "woman"),
    "hair_style": HAIR_STYLES,
    "hair_colour": tuple(HAIR_COLOURS),
    "eye_colour": tuple(EYE_COLOURS),
    "glasses": GLASSES,
    "beard": BEARDS,
    "mark": MARKS,
}
_LOWEST_SPREAD = 0.15  # of a proportion; a network is never surer
_FLOOR = 1e-4


def look_labels(identity: Identity) -> np.ndarray:
    """Places of an identity's looks in their tables: int64 [len(LOOKS)]."""
    named = {name: table.index(getattr(identity, name)) for name, table in _TABLES.items()}
    named |= {"skin": identity.skin, "earrings": int(identity.earrings)}
    return np.array([named[name] for name in LOOKS])


def proportions(identity: Identity) -> np.ndarray:
    """An identity's proportions in -1..1: float32 [8]."""
    return np.array([getattr(identity, name) for name in PROPORTIONS], np.float32)


class FaceNet(nn.Module):
    """Portraits to logits of looks and outfit, and to proportions with the logarithms of their spreads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            layer(12, 32),
            layer(32, 48, stride=2),
            Block(48),
            layer(48, 96, stride=2),
            Block(96),
        )
        self.summary = nn.Sequential(nn.Flatten(), nn.Linear(96 * 64, 128), nn.ReLU(inplace=True))
        self.heads = nn.ModuleList(nn.Linear(128, size) for size in (*LOOKS.values(), *OUTFIT.values()))
        self.proportions = nn.Linear(128, 2 * len(PROPORTIONS))

    def forward(self, pictures: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Float [B, 3, 64, 64] in -1..1 to logits in the order of LOOKS and OUTFIT, means [B, 8], spreads [B, 8]."""
        features = self.summary(self.trunk(pictures))
        mean, log_spread = self.proportions(features).chunk(2, 1)
        return [head(features) for head in self.heads], mean, log_spread.clamp(-4, 1).exp() + _LOWEST_SPREAD


@dataclass(frozen=True)
class Faces:
    """What was read from N portraits.

    Attributes:
        looks: for each of LOOKS, log-probabilities, float32 [N, kinds].
        outfit: for each of OUTFIT, likewise.
        means, spreads: float32 [N, 8], proportions.
    """

    looks: Mapping[str, np.ndarray]
    outfit: Mapping[str, np.ndarray]
    means: np.ndarray
    spreads: np.ndarray

    def identity(self, index: int, key: str, candidates: Sequence[str]) -> float:
        """Probability that, of the candidates, portrait `index` is the person of `key`; keys as in `world.faces`."""
        logs = np.array([self._log_likelihood(index, identity_of(parse_portrait(c).identity)) for c in candidates])
        shares = np.exp(logs - logs.max())
        return float(shares[list(candidates).index(key)] / shares.sum())

    def hat(self, index: int, key: str) -> float:
        """Probability that portrait `index` wears the hat of `key` in its colour, or none if it has none; 0..1."""
        portrait = parse_portrait(key)
        found = float(np.exp(self.outfit["hat"][index, HATS.index(portrait.hat)]))
        if portrait.hat == "none":
            return found
        return found * float(np.exp(self.outfit["hat_colour"][index, HAT_COLOURS.index(portrait.hat_colour)]))

    def _log_likelihood(self, index: int, identity: Identity) -> float:
        labels = look_labels(identity)
        of_looks = sum(
            float(np.logaddexp(self.looks[name][index, label], np.log(_FLOOR)))
            for name, label in zip(LOOKS, labels, strict=True)
        )
        spread = self.spreads[index]
        away = (proportions(identity) - self.means[index]) / spread
        return of_looks - 0.5 * float(np.square(away).sum())


class FaceJudge:
    """Reads portraits.

    Args:
        weights: file made by `python -m instruct_imagen.evaluation.judges.training faces`.

    Raises:
        JudgeError: the weights are not there, or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS / FACES_FILE) -> None:
        self.net = read_weights(FaceNet(), weights)

    @torch.inference_mode()
    def read(self, pictures: Sequence[np.ndarray]) -> Faces:
        """Pictures, uint8 [64, 64, 3] each; at least one."""
        if not pictures:
            raise JudgeError("There is no picture to look at.")
        parts: list[list[np.ndarray]] = []
        for start in range(0, len(pictures), BATCH):
            logits, mean, spread = self.net(as_input(pictures[start : start + BATCH]))
            parts.append([*(values.log_softmax(1).numpy() for values in logits), mean.numpy(), spread.numpy()])
        whole = [np.concatenate(part) for part in zip(*parts, strict=True)]
        named = dict(zip((*LOOKS, *OUTFIT), whole, strict=False))
        return Faces(
            {name: named[name] for name in LOOKS}, {name: named[name] for name in OUTFIT}, whole[-2], whole[-1]
        )


@cache
def shipped_face_judge() -> FaceJudge:
    """The judge with the weights that come with the package; read once."""
    return FaceJudge()
