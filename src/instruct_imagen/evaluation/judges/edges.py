"""Edge judge: how well the edges of a picture follow those that were asked for.

features: the edges that the world's own detector finds; statistic: which of them lie near each other; number: F1.
"""

from __future__ import annotations

import cv2
import numpy as np

from ...world import canny_edges

TOLERANCE_PX = 2.0  # on 64 px pictures


def edge_f1(drawn: np.ndarray, wanted: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> float:
    """Harmonic mean of precision and recall of edge pixels, matched within a distance.

    A drawn edge pixel is right if a wanted one lies at most `tolerance_px` away (Euclidean), and the other way
    round for recall; several pixels may share a partner.

    Args:
        drawn: bool [S, S].
        wanted: bool [S, S].
        tolerance_px: in pixels.

    Returns:
        0..1; 1 if both are empty, 0 if one of them is.
    """
    if not drawn.any() or not wanted.any():
        return float(drawn.any() == wanted.any())
    precision = float((_widened(wanted, tolerance_px) & drawn).sum() / drawn.sum())
    recall = float((_widened(drawn, tolerance_px) & wanted).sum() / wanted.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def picture_edge_f1(picture: np.ndarray, wanted: np.ndarray) -> float:
    """`edge_f1` of the edges found in a picture, uint8 [S, S, 3], against wanted ones, bool [S, S]."""
    return edge_f1(canny_edges(picture), wanted)


def _widened(edges: np.ndarray, radius_px: float) -> np.ndarray:
    """All pixels within a distance of an edge."""
    reach = int(radius_px)
    line = np.arange(-reach, reach + 1)
    disc = (line[:, None] ** 2 + line[None] ** 2 <= radius_px**2).astype(np.uint8)
    return cv2.dilate(edges.astype(np.uint8), disc) > 0
