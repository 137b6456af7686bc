"""How near a picture is to another, in a region: PSNR and two perceptual distances.

features: pixels; local means and variances of a pyramid; or the layers of the mask judge's network, which the project
ships (Zhang et al. 2018 compare pictures in the layers of many networks; theirs would have to be downloaded).
statistic: their squared difference, or their agreement (Wang et al. 2003). number: decibels, or a distance from 0.
And how near one set of pictures is to another, whatever each shows: the unbiased kernel distance of Binkowski et al.
2018 over given features.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from .judges.mask import as_input, shipped_mask_judge

MAX_PSNR_DB = 60.0  # what equal pictures get
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, table 1
_MIN_SIDE_PX = 16  # of the smallest scale
_WINDOW_PX, _DEVIATION_PX = 11, 1.5
_LUMINANCE_FLOOR, _CONTRAST_FLOOR = 0.01**2, 0.03**2


def psnr(first: np.ndarray, second: np.ndarray, region: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in decibels, at most MAX_PSNR_DB.

    Args:
        first, second: uint8 [S, S, 3].
        region: bool [S, S], where to look; everywhere if None.

    Raises:
        ValueError: the region is empty.
    """
    difference = first.astype(np.float64) - second
    chosen = difference if region is None else difference[region]
    if not chosen.size:
        raise ValueError("an empty region has no similarity")
    error = float((chosen**2).mean()) / 255**2
    return float(min(MAX_PSNR_DB, -10 * np.log10(error))) if error else MAX_PSNR_DB


def structural_distance(first: np.ndarray, second: np.ndarray, region: np.ndarray | None = None) -> float:
    """1 - multi-scale structural similarity, 0 (equal) to 1; it forgives missing fine detail more than people do.

    Only pixels of the region take part: windows at its rim are normalised over what lies inside. There are as many
    scales as keep 16 pixels, with their weights brought to a sum of one, and the colours are averaged.

    Args:
        first, second: uint8 [S, S, 3].
        region: bool [S, S], where to look; everywhere if None.

    Raises:
        ValueError: the region is empty.
    """
    one, two = (picture.astype(np.float32) / 255 for picture in (first, second))
    inside = np.ones(first.shape[:2], np.float32) if region is None else region.astype(np.float32)
    if not inside.any():
        raise ValueError("an empty region has no similarity")
    count = 1
    while count < len(_SCALE_WEIGHTS) and len(first) // 2**count >= _MIN_SIDE_PX:
        count += 1
    weights = np.array(_SCALE_WEIGHTS[:count]) / sum(_SCALE_WEIGHTS[:count])
    similarity = 1.0
    for scale, weight in enumerate(weights):
        luminance, structure = _agreement(one, two, inside)
        agreement = structure * luminance if scale == count - 1 else structure
        similarity *= max(0.0, float(agreement[inside > 0].mean())) ** weight
        if scale < count - 1:
            one, two, inside = _halved(one, two, inside)
    return 1 - similarity


def _agreement(one: np.ndarray, two: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance, and contrast with structure, around every pixel: float32 [S, S, 3] each."""

    def smooth(values: np.ndarray) -> np.ndarray:
        size = (_WINDOW_PX, _WINDOW_PX)
        return cv2.GaussianBlur(values, size, _DEVIATION_PX, borderType=cv2.BORDER_CONSTANT)

    weights = inside[..., None]
    total = np.maximum(smooth(inside), 1e-6)[..., None]
    mean_one, mean_two = smooth(one * weights) / total, smooth(two * weights) / total
    variance_one = np.maximum(smooth(one**2 * weights) / total - mean_one**2, 0)
    variance_two = np.maximum(smooth(two**2 * weights) / total - mean_two**2, 0)
    covariance = smooth(one * two * weights) / total - mean_one * mean_two
    luminance = (2 * mean_one * mean_two + _LUMINANCE_FLOOR) / (mean_one**2 + mean_two**2 + _LUMINANCE_FLOOR)
    return luminance, (2 * covariance + _CONTRAST_FLOOR) / (variance_one + variance_two + _CONTRAST_FLOOR)


def _halved(one: np.ndarray, two: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both pictures at half the size, averaged over the region's pixels alone; squares without any leave the region."""

    def half(values: np.ndarray) -> np.ndarray:
        side = values.shape[0] // 2 * 2
        rest = values.shape[2:]
        return values[:side, :side].reshape(side // 2, 2, side // 2, 2, *rest).mean((1, 3))

    share = half(inside)
    weights = np.maximum(share, 1e-6)[..., None]
    return half(one * inside[..., None]) / weights, half(two * inside[..., None]) / weights, (share > 0) * np.float32(1)


def feature_distance(first: np.ndarray, second: np.ndarray, region: np.ndarray | None = None) -> float:
    """Mean squared difference of unit-length features, 0 (equal) to 4, over three layers of the mask judge's network.

    Args:
        first, second: uint8 [S, S, 3], S a multiple of 8.
        region: bool [S, S], where to look; everywhere if None. A feature counts where half of its square lies inside.

    Raises:
        ValueError: the region is empty.
    """
    inside = np.ones(first.shape[:2], bool) if region is None else region
    if not inside.any():
        raise ValueError("an empty region has no similarity")
    distances = []
    for layer in _layers(np.stack([first, second])):
        one, two = layer / (np.linalg.norm(layer, axis=1, keepdims=True) + 1e-6)
        step = len(inside) // one.shape[1]
        share = inside.reshape(one.shape[1], step, one.shape[2], step).mean((1, 3))
        chosen = share >= min(0.5, share.max())
        distances.append(((one - two) ** 2).sum(0)[chosen].mean())
    return float(np.mean(distances))


@torch.inference_mode()
def _layers(pictures: np.ndarray) -> list[np.ndarray]:
    """Features at half, a quarter and an eighth of the size: float32 [B, C, h, w] each."""
    net = shipped_mask_judge().net
    layers = [net.fine(torch.nn.functional.pixel_unshuffle(as_input(list(pictures)), 2))]
    for deeper in (net.middle, net.coarse):
        layers.append(deeper(layers[-1]))
    return [layer.numpy() for layer in layers]


def kernel_distance(features: np.ndarray, truth: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x y / d + 1)^3; near 0 for one distribution.

    Args:
        features: float [M, d] of the pictures to judge, M > 1.
        truth: float [N, d] of true ones, N > 1; both are standardised by these.

    Raises:
        ValueError: one of the sets has less than two pictures.
    """
    if min(len(features), len(truth)) < 2:
        raise ValueError("a distance of sets needs two pictures of each")
    mean, deviation = truth.mean(0), truth.std(0) + 1e-6
    one, two = (features - mean) / deviation, (truth - mean) / deviation

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def without_diagonal(values: np.ndarray) -> float:
        return float((values.sum() - np.trace(values)) / (len(values) * (len(values) - 1)))

    return without_diagonal(kernel(one, one)) + without_diagonal(kernel(two, two)) - 2 * float(kernel(one, two).mean())
