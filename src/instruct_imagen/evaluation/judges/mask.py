"""Mask judge: where the drawn subjects are, by a small U-Net, and the overlap of that region with the wanted mask.

features: the region that the network finds, its rim corrected by colour (`MaskJudge.regions`); statistic and number:
`mask_iou`.

The paper checks mask following by eye (§4); the glyph world knows every mask, so a network can be trained to find
it in pictures that are blurred, noisy or off in colour, as generated ones are. `train_mask` makes its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..pictures import JUDGE_SIZE_PX

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "mask_judge.safetensors"
_BATCH = 32
_REACH_PX = 3.0
_SURELY_GROUND, _SURELY_SUBJECT = -4.0, 2.0  # logits


def mask_iou(region: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of two regions, bool [S, S] each; 0..1, and 1 where both are empty."""
    union = int(np.count_nonzero(region | mask))
    return int(np.count_nonzero(region & mask)) / union if union else 1.0


def _layer(num_in: int, num_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(num_in, num_out, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(num_out), nn.ReLU(inplace=True))


class MaskNet(nn.Module):
    """A U-Net of 0.14 M parameters: colours to the logit of "this pixel is subject".

    It works on 2 x 2 pixel patches, and ends with two narrow layers on single pixels, which draw the rim: without
    them three quarters of its errors lay within a pixel of the true rim.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(_layer(12, 24), _layer(24, 24))
        self.middle = nn.Sequential(_layer(24, 40, stride=2), _layer(40, 40))
        self.coarse = nn.Sequential(_layer(40, 48, stride=2), _layer(48, 48))
        self.wide = _layer(48, 48, dilation=2)
        self.up_middle = _layer(48 + 40, 40)
        self.up_fine = _layer(40 + 24, 24)
        self.to_pixels = nn.Conv2d(24, 4 * 8, 1)
        self.rim = nn.Sequential(_layer(8 + 3, 12), _layer(12, 12))
        self.head = nn.Conv2d(12, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits.

        Args:
            pictures: float [B, 3, S, S] in -1..1, S a multiple of 8.

        Returns:
            float [B, S, S].
        """
        fine = self.fine(nn.functional.pixel_unshuffle(pictures, 2))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = coarse + self.wide(coarse)
        middle = self.up_middle(torch.cat([_doubled(coarse), middle], 1))
        fine = self.up_fine(torch.cat([_doubled(middle), fine], 1))
        pixels = nn.functional.pixel_shuffle(self.to_pixels(fine), 2)
        return self.head(self.rim(torch.cat([pixels, pictures], 1)))[:, 0]


def _doubled(values: Tensor) -> Tensor:
    return nn.functional.interpolate(values, scale_factor=2, mode="nearest")


def as_input(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures, uint8 [S, S, 3] each, as float [B, 3, S, S] in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


class MaskJudge:
    """Finds the region of the drawn subjects.

    Args:
        weights: file made by `python -m instruct_imagen.evaluation.judges.train_mask`.

    Raises:
        FileNotFoundError: the weights are not there.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self.net = MaskNet()
        self.net.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self.net.eval()

    def regions(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Regions of the subjects.

        Args:
            pictures: uint8 [64, 64, 3] RGB each.

        Returns:
            bool [len(pictures), 64, 64].
        """
        found = np.zeros((len(pictures), JUDGE_SIZE_PX, JUDGE_SIZE_PX), bool)
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
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
