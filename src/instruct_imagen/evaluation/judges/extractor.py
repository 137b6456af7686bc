"""Control judge: mask, depth and edges read back from a picture in any style, and how well they fit those asked for.

features: what a small U-Net finds (`Extractor.read`); statistics and numbers: `mask_iou`, `edges.edge_f1`,
`depth_fidelity`.

The paper judges control following by eye (§4); here the control is extracted anew and compared, as is usual for
control-guided generation. A style changes lines and tones, so the plain picture's edges and depth have to be inferred:
`train_extractor` says how the network learns that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..pictures import JUDGE_SIZE_PX
from .nets import BATCH, WEIGHTS, DenseNet, as_input, read_weights

EXTRACTOR_FILE = "extractor_judge.safetensors"


class ExtractorNet(DenseNet):
    """A picture to logits of mask and edges, and to its depth."""

    def __init__(self) -> None:
        super().__init__(3, (28, 48, 64), rim=12)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float [B, 3, S, S] in -1..1 to mask logits, edge logits, and depth in 0..1 (1 is far); [B, S, S] each."""
        mask, edges, depth = self.outputs(pictures).unbind(1)
        return mask, edges, torch.sigmoid(depth)


@dataclass(frozen=True)
class Extracted:
    """What was read from N pictures of side S.

    Attributes:
        masks: bool [N, S, S], where the subjects are.
        edges: bool [N, S, S], edges of the picture before its style.
        depths: float32 [N, S, S], 0 near to 1 far.
    """

    masks: np.ndarray
    edges: np.ndarray
    depths: np.ndarray


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
            return Extracted(empty > 0, empty > 0, empty)
        mask, edges, depth = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Extracted(mask > 0, edges > 0, depth)


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
