"""Copy judge: whether a picture merely repeats a reference, whole or pasted in.

features: the pixels; statistic: the best correlation of the reference, also mirrored, shifted or reduced, with a part
of the picture; number: whether it is almost 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

COPY_CORRELATION = 0.97
_MARGIN = 1 / 16  # of the side, by which a reference may be shifted
_PASTED_SIZES = (0.75, 0.5)  # of the picture's side


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation over all pixels and colours of two pictures, uint8 [S, S, 3]; 0 where one of them is even."""
    one, two = (picture.astype(np.float64).ravel() - picture.mean() for picture in (first, second))
    spread = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / spread if spread > 0 else 0.0


def best_correlation(picture: np.ndarray, reference: np.ndarray) -> float:
    """The best correlation of a reference with a part of a picture; uint8 [S, S, 3] each."""
    found = [correlation(picture, reference)]
    for part in _parts(reference):
        if part.std() > 1:  # what is even correlates with nothing
            found.append(float(cv2.matchTemplate(picture, part, cv2.TM_CCOEFF_NORMED).max()))
    return max(found)


def _parts(reference: np.ndarray) -> Iterator[np.ndarray]:
    side = len(reference)
    margin = max(1, round(_MARGIN * side))
    for turned in (reference, np.ascontiguousarray(reference[:, ::-1])):
        yield np.ascontiguousarray(turned[margin:-margin, margin:-margin])
        for size in _PASTED_SIZES:
            small = round(size * side)
            yield cv2.resize(turned, (small, small), interpolation=cv2.INTER_AREA)


def is_copy(picture: np.ndarray, reference: np.ndarray) -> bool:
    """Whether a picture repeats a reference; uint8 [S, S, 3] each."""
    return best_correlation(picture, reference) > COPY_CORRELATION
