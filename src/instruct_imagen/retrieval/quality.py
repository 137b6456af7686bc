"""Quality filters: what is dropped before clustering (§3.2: "low-quality images by a quality score").

A filter looks twice: at each picture before it is embedded, which is cheap, and at the embedding, which a learned
head scores. The score also decides which of several duplicates stays.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..data.report import DataError
from .embedders import unit_length

_JUDGED_PX = 256
_LAYER = re.compile(r"(?:^|\.)(?:(\d+)\.)?(weight|bias)$")


class QualityFilter(Protocol):
    """Says what is too poor to learn from."""

    @property
    def name(self) -> str:
        """The filter with all its thresholds, as it stands in the report."""
        ...

    @property
    def min_score(self) -> float:
        """Pictures whose score is lower are dropped."""
        ...

    def fault(self, image: Image.Image) -> str | None:
        """Why an RGB picture is dropped before it is embedded, in a few words; None lets it pass."""
        ...

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Scores of embeddings, float32 [N, D] of unit length, as float32 [N]; higher is better."""
        ...


@dataclass(frozen=True)
class NoFilter:
    """Lets everything pass."""

    name: str = field(default="none", init=False)
    min_score: float = field(default=-math.inf, init=False)

    def fault(self, image: Image.Image) -> str | None:
        """None."""
        return None

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Zeros."""
        return np.zeros(len(vectors), np.float32)


@dataclass(frozen=True)
class BasicQuality:
    """Drops what is plainly unfit: tiny, very long, blurred or nearly uniform pictures; needs no network.

    Attributes:
        min_side_px: shortest allowed shorter side.
        max_aspect: largest allowed longer side over shorter side.
        min_sharpness: smallest allowed variance of the Laplacian (0..255) of the channel where it is greatest; the
            picture is reduced to 256 pixels at most before, so that one threshold serves all sizes.
        min_contrast: smallest allowed standard deviation (0..255) of the channel where it is greatest. Not of grey:
            red on a green just as bright is no uniform picture.
    """

    min_side_px: int = 64
    max_aspect: float = 3.0
    min_sharpness: float = 10.0
    min_contrast: float = 4.0

    @property
    def name(self) -> str:
        """All thresholds."""
        return repr(self)

    @property
    def min_score(self) -> float:
        """There is no score."""
        return -math.inf

    def fault(self, image: Image.Image) -> str | None:
        """The first of the faults that the picture has."""
        short, long = sorted(image.size)
        if short < self.min_side_px:
            return "too small"
        if long > self.max_aspect * short:
            return "too long and narrow"
        values = np.asarray(_reduced(image))
        if float(values.std((0, 1)).max()) < self.min_contrast:
            return "nearly uniform"
        if float(cv2.Laplacian(values, cv2.CV_32F).var((0, 1)).max()) < self.min_sharpness:
            return "blurred"
        return None

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Zeros."""
        return np.zeros(len(vectors), np.float32)


def _reduced(image: Image.Image) -> Image.Image:
    scale = _JUDGED_PX / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)


@dataclass(frozen=True)
class AestheticHead:
    """A learned quality score: linear layers on CLIP embeddings, in the form of LAION's aesthetic predictors.

    Both published forms are read: one linear layer (`weight`, `bias`), and the stack of linear layers without
    activations between them (`layers.0.weight`, `layers.0.bias`, `layers.2.weight`, ...). They fit the embedder that
    they were trained on, and no other.

    Attributes:
        weights: safetensors file.
        min_score: lower pictures are dropped; LAION's scale is 1 to 10.
        basic: what is dropped before embedding.
    """

    weights: Path
    min_score: float = 5.0
    basic: BasicQuality | NoFilter = field(default_factory=BasicQuality)

    @property
    def name(self) -> str:
        """The file, the threshold, and the other filter's."""
        return f"AestheticHead({self.weights.name}, min_score={self.min_score}) after {self.basic.name}"

    def fault(self, image: Image.Image) -> str | None:
        """As the other filter says."""
        return self.basic.fault(image)

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """The head's scores.

        Raises:
            DataError: the weights are damaged, or belong to embeddings of another length.
        """
        values = unit_length(vectors)
        for matrix, bias in _load_layers(self.weights):
            if values.shape[1] != matrix.shape[1]:
                raise DataError(
                    f"{self.weights} scores embeddings of {matrix.shape[1]} numbers, and the embedder makes "
                    f"{values.shape[1]}; use the head that was trained on this embedder."
                )
            values = values @ matrix.T + bias
        return values[:, 0]


@lru_cache(maxsize=4)
def _load_layers(path: Path) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The linear layers in order: (float32 [out, in], float32 [out]) each; the last has one output."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"The aesthetic head {path} cannot be read ({error}).") from error
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        if match := _LAYER.search(name):
            found.setdefault(int(match[1] or 0), {})[match[2]] = tensor.float().numpy()
    layers = tuple(
        (found[number]["weight"], found[number]["bias"]) for number in sorted(found) if len(found[number]) == 2
    )
    widths = [matrix.shape for matrix, _ in layers if matrix.ndim == 2]
    chained = all(one[0] == two[1] for one, two in pairwise(widths))
    if len(widths) != len(tensors) / 2 or not widths or widths[-1][0] != 1 or not chained:
        raise DataError(
            f"{path} is no aesthetic head: it must hold linear layers (weight, bias) that end in one number."
        )
    return layers
