"""Faults that generated pictures have, put into true ones: what judges are trained and calibrated with.

Every function takes and returns uint8 [S, S, 3].
"""

from __future__ import annotations

import cv2
import numpy as np

from ..pictures import judged

_JUMBLE_CELLS = 4


def spoil(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture that is blurred, coarse, off in colour, blotched or noisy, or two times in five as it is."""
    if rng.random() < 0.4:
        return picture
    side = picture.shape[0]
    values: np.ndarray = picture.astype(np.float32)
    if rng.random() < 0.3:  # drawn at half the size and enlarged
        values = cv2.resize(values, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        values = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        values = cv2.GaussianBlur(values, (0, 0), float(rng.uniform(0.3, 1.6)))
    if rng.random() < 0.5:  # colours off: contrast, cast and fading
        values = 128 + (values - 128) * rng.uniform(0.6, 1.2) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
        values = values + rng.normal(0, 10, 3).astype(np.float32)
    if rng.random() < 0.3:  # blotches
        coarse = rng.normal(0, 14, (8, 8, 3)).astype(np.float32)
        values = values + cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        values = values + rng.normal(0, rng.uniform(2, 24), values.shape).astype(np.float32)
    return _as_picture(values)


def touched(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A true picture with slight faults that no rater would mind: a little blur, noise and cast."""
    values = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), float(rng.uniform(0.3, 0.6)))
    values = values + rng.normal(0, 3, values.shape) + rng.normal(0, 3, 3)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def reduced(picture: np.ndarray, size_px: int) -> np.ndarray:
    """A picture as a model of `size_px` would give it, brought back to its own size."""
    return judged(judged(picture, size_px), len(picture))


def warped(picture: np.ndarray, rng: np.random.Generator, strength_px: float) -> np.ndarray:
    """Shapes bent by a smooth random displacement of about `strength_px`."""
    side = picture.shape[0]
    shifts = [
        cv2.resize(rng.normal(0, strength_px, (6, 6)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    ]
    across, down = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    return cv2.remap(picture, across + shifts[0], down + shifts[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def blended(picture: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Two pictures on top of each other, `share` of the second."""
    return _as_picture((1 - share) * picture.astype(np.float32) + share * other.astype(np.float32))


def jumbled(picture: np.ndarray, rng: np.random.Generator, num_swaps: int) -> np.ndarray:
    """Some sixteenths of the picture in each other's place."""
    side = picture.shape[0] // _JUMBLE_CELLS
    result = picture.copy()
    for _ in range(num_swaps):
        (y, x), (v, u) = (side * rng.integers(_JUMBLE_CELLS, size=2) for _ in range(2))
        one, two = (slice(y, y + side), slice(x, x + side)), (slice(v, v + side), slice(u, u + side))
        result[one], result[two] = result[two].copy(), result[one].copy()
    return result


def smeared(picture: np.ndarray, radius_px: int) -> np.ndarray:
    """Details wiped out, large shapes left: what an unfinished model draws."""
    return cv2.medianBlur(picture, 2 * radius_px + 1)


def blobbed(picture: np.ndarray, mask: np.ndarray, blur_px: float) -> np.ndarray:
    """Subjects as blobs of their colours, the ground left: what a model draws before it knows shapes.

    Args:
        picture: uint8 [S, S, 3].
        mask: bool [S, S], the subjects.
        blur_px: of the blobs.
    """
    inside = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.5 * blur_px)[..., None]
    blob = cv2.GaussianBlur(picture.astype(np.float32) * mask[..., None], (0, 0), blur_px)
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur_px)[..., None]
    return _as_picture((1 - inside) * picture + inside * blob / np.maximum(weight, 1e-3))


RUINS = ("warped", "blended", "jumbled", "smeared", "noisy", "blurred", "blobbed")


def ruin(picture: np.ndarray, other: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One heavy fault of `RUINS`, and its name.

    Args:
        picture: uint8 [S, S, 3].
        other: another picture.
        mask: bool [S, S], the picture's subjects.
        rng: source of all chance here.
    """
    kind = RUINS[int(rng.integers(len(RUINS)))]
    if kind == "warped":
        return warped(picture, rng, float(rng.uniform(1.5, 4))), kind
    if kind == "blended":
        return blended(picture, other, float(rng.uniform(0.3, 0.5))), kind
    if kind == "jumbled":
        return jumbled(picture, rng, 2 + int(rng.integers(6))), kind
    if kind == "smeared":
        return smeared(picture, 2 + int(rng.integers(4))), kind
    if kind == "noisy":
        return _as_picture(picture + rng.normal(0, rng.uniform(24, 90), picture.shape)), kind
    if kind == "blurred":
        return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(2, 5))), kind
    return blobbed(picture, mask, float(rng.uniform(2.5, 6))), kind


def _as_picture(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
