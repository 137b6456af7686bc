"""Pictures as judges want them: one size for all, whatever the model draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

JUDGE_SIZE_PX = 64


def judged(picture: np.ndarray, size_px: int = JUDGE_SIZE_PX) -> np.ndarray:
    """A picture at the size that judges read; the one place where evaluation resizes.

    Larger pictures are averaged over areas, smaller ones enlarged by Lanczos.

    Args:
        picture: uint8 [S, S, 3] RGB of any side S.
        size_px: side of the result.

    Returns:
        uint8 [size_px, size_px, 3].

    Raises:
        ValueError: the picture is not a square 8-bit RGB picture.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape != (len(picture), len(picture), 3):
        raise ValueError(f"A picture to judge must be uint8 [S, S, 3], not {picture.dtype} {list(picture.shape)}.")
    if len(picture) == size_px:
        return picture
    method = Image.Resampling.BOX if len(picture) > size_px else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize((size_px, size_px), method))


def judged_all(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`judged` of each picture."""
    return [judged(picture) for picture in pictures]
