"""Copy judge: whether a picture merely repeats a reference.

features: the pixels; statistic: the correlation of the two pictures; number: whether it is almost 1.
"""

from __future__ import annotations

import numpy as np

COPY_CORRELATION = 0.97


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation over all pixels and colours of two pictures, uint8 [S, S, 3]; 0 where one of them is even."""
    one, two = (picture.astype(np.float64).ravel() - picture.mean() for picture in (first, second))
    spread = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / spread if spread > 0 else 0.0


def is_copy(picture: np.ndarray, reference: np.ndarray) -> bool:
    """Whether a picture is nearly identical to a reference; uint8 [S, S, 3] each."""
    return correlation(picture, reference) > COPY_CORRELATION
