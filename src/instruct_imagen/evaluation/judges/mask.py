"""Mask judge: where the drawn subjects are, by a small U-Net, and the overlap of that region with the wanted mask.

features: the region that the network finds, its rim corrected by colour (`MaskJudge.regions`); statistic and number:
`mask_iou`.

The paper checks mask following by eye (§4); the glyph world knows every mask, so a network can be trained to find
it in pictures that are blurred, noisy or off in colour, as generated ones are. `train_mask` says how it is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..pictures import JUDGE_SIZE_PX
from .nets import BATCH, WEIGHTS, DenseNet, as_input, read_weights

MASK_FILE = "mask_judge.safetensors"
_REACH_PX = 3.0
_SURELY_GROUND, _SURELY_SUBJECT = -4.0, 2.0  # logits


def mask_iou(region: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of two regions, bool [S, S] each; 0..1, and 1 where both are empty."""
    union = int(np.count_nonzero(region | mask))
    return int(np.count_nonzero(region & mask)) / union if union else 1.0


class MaskNet(DenseNet):
    """0.14 M parameters: colours to the logit of "this pixel is subject"."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits: float [B, 3, S, S] in -1..1 to float [B, S, S]."""
        return self.outputs(pictures)[:, 0]


class MaskJudge:
    """Finds the region of the drawn subjects.

    Args:
        weights: file made by `python -m instruct_imagen.evaluation.judges.training mask`.

    Raises:
        JudgeError: the weights are not there, or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS / MASK_FILE) -> None:
        self.net = read_weights(MaskNet(), weights)

    def regions(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Regions of the subjects.

        Args:
            pictures: uint8 [64, 64, 3] RGB each.

        Returns:
            bool [len(pictures), 64, 64].
        """
        found = np.zeros((len(pictures), JUDGE_SIZE_PX, JUDGE_SIZE_PX), bool)
        for start in range(0, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            for k, logits in enumerate(self._logits(batch)):
                found[start + k] = corrected_region(batch[k], logits)
        return found

    @torch.inference_mode()
    def _logits(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Mean of what the network says to each picture and to its mirror image: float32 [B, S, S]."""
        values = as_input(pictures)
        return (0.5 * (self.net(values) + self.net(values.flip(-1)).flip(-1))).numpy()


def corrected_region(picture: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Redraws the rim of a region where the colours of subject and ground part (GrabCut, Rother et al. 2004).

    Args:
        picture: uint8 [S, S, 3].
        logits: float32 [S, S]; above 0 is subject. Only pixels of doubtful logits near the region may change sides.

    Returns:
        bool [S, S].
    """
    region = logits > 0
    labels = np.where(region, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    distances = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, 3)
    labels[(distances > _REACH_PX) | (logits < _SURELY_GROUND)] = cv2.GC_BGD
    labels[logits > _SURELY_SUBJECT] = cv2.GC_FGD
    if not region.any() or region.all() or not (labels == cv2.GC_PR_FGD).any():
        return region
    cv2.setRNGSeed(0)
    rounds, models = 2, (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.grabCut(picture, labels, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))


@cache
def shipped_mask_judge() -> MaskJudge:
    """The judge with the weights that come with the package; read once."""
    return MaskJudge()
