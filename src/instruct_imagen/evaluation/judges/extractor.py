"""Control judge: mask, depth and edges read back from a picture in any style, and how well they fit what was asked for.

features: what a small U-Net finds (`Extractor.read`); statistics and numbers: `mask_iou`, `edges.edge_f1`,
`depth_fidelity`; for the number of subjects, `count_fidelity` of the middles that it finds.

The paper judges control following by eye (§4); here the control is extracted anew and compared, as is usual for
control-guided generation. A style changes lines and tones, so the plain picture's edges and depth have to be inferred:
`train_extractor` says how the network learns that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..pictures import JUDGE_SIZE_PX
from .nets import BATCH, WEIGHTS, DenseNet, as_input, read_weights

EXTRACTOR_FILE = "extractor_judge.safetensors"
_PEAK_PX = 9  # middles of two subjects are farther apart


class ExtractorNet(DenseNet):
    """A picture to logits of mask and edges, its depth, and the middles of its subjects."""

    def __init__(self) -> None:
        super().__init__(4, (28, 48, 64), rim=12)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Float [B, 3, S, S] in -1..1 to [B, S, S] each.

        Returns:
            Logits of mask and of edges, depth in 0..1 (1 is far), logits of spots that mark the subjects' middles.
        """
        mask, edges, depth, centres = self.outputs(pictures).unbind(1)
        return mask, edges, torch.sigmoid(depth), centres


@dataclass(frozen=True)
class Extracted:
    """What was read from N pictures of side S.

    Attributes:
        coverage: float32 [N, S, S], probability of "subject".
        edges: bool [N, S, S], edges of the picture before its style.
        depths: float32 [N, S, S], 0 near to 1 far.
        centres: float32 [N, S, S], height of spots that mark the subjects' middles, 0..1.
    """

    coverage: np.ndarray
    edges: np.ndarray
    depths: np.ndarray
    centres: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """Where the subjects are: bool [N, S, S]."""
        return self.coverage > 0.5


class Extractor:
    """Reads controls from pictures.

    Args:
        weights: file made by `python -m instruct_imagen.evaluation.judges.training extractor`.

    Raises:
        JudgeError: the weights are not there, or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS / EXTRACTOR_FILE) -> None:
        self.net = read_weights(ExtractorNet(), weights)

    @torch.inference_mode()
    def read(self, pictures: Sequence[np.ndarray]) -> Extracted:
        """Mean of what the network says to each picture and to its mirror image; uint8 [64, 64, 3] each."""
        parts = []
        for start in range(0, len(pictures), BATCH):
            values = as_input(pictures[start : start + BATCH])
            pairs = zip(self.net(values), self.net(values.flip(-1)), strict=True)
            parts.append([(0.5 * (one + other.flip(-1))).numpy() for one, other in pairs])
        if not parts:
            empty = np.zeros((0, JUDGE_SIZE_PX, JUDGE_SIZE_PX), np.float32)
            return Extracted(empty, empty > 0, empty, empty)
        mask, edges, depth, centres = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Extracted(_sigmoid(mask), edges > 0, depth, _sigmoid(centres))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def count_fidelity(centres: np.ndarray, wanted: int) -> float:
    """How clearly so many subjects are there: the lowest of that many peaks, less the next one; 0..1.

    Args:
        centres: float32 [S, S], see `Extracted`.
        wanted: at least 1.
    """
    window = np.ones((_PEAK_PX, _PEAK_PX), np.uint8)
    peaks = np.sort(centres[centres >= cv2.dilate(centres, window)])[::-1]
    heights = np.concatenate([peaks, np.zeros(wanted + 1, peaks.dtype)])
    return float(max(0.0, heights[wanted - 1] - heights[wanted]))


def depth_fidelity(found: np.ndarray, wanted: np.ndarray, mask: np.ndarray) -> float:
    """How much of the asked depth's variation is there: 1 - error / error of an even depth; at least 0.

    Both errors are mean absolute ones, subjects and ground counting alike, whatever their areas.

    Args:
        found: float32 [S, S] in 0..1.
        wanted: float32 [S, S] in 0..1.
        mask: bool [S, S], the subjects.
    """

    def balanced(error: np.ndarray) -> float:
        return float(np.mean([error[part].mean() for part in (mask, ~mask) if part.any()]))

    even = balanced(np.abs(wanted - np.median(wanted)))
    error = balanced(np.abs(found - wanted))
    return max(0.0, 1 - error / even) if even > 0 else float(error < 1 / 255)


@cache
def shipped_extractor() -> Extractor:
    """The extractor with the weights that come with the package; read once."""
    return Extractor()
