"""Controls: exact condition pictures made from what a render knows, and the edge detector that judges share.

Every function returns uint8 [S, S, 3].
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from instruct_imagen.world.glyphs import WorldError
from instruct_imagen.world.render import Render

Granularity = Literal["outline", "object", "full"]
GRANULARITIES: tuple[Granularity, ...] = ("outline", "object", "full")

_CANNY_LOW, _CANNY_HIGH = 60, 140
_CANNY_BLUR = 0.8  # standard deviation in pixels
_GAP_SHARE = 0.1  # share of the edge that a careless edge map loses
PAPERS = ((255, 255, 255), (250, 246, 235), (240, 240, 244))


def canny_edges(image: np.ndarray) -> np.ndarray:
    """Edges of a picture, by Canny with fixed thresholds after a slight blur.

    Args:
        image: uint8 [S, S, 3] RGB.

    Returns:
        bool [S, S].
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.Canny(cv2.GaussianBlur(grey, (0, 0), _CANNY_BLUR), _CANNY_LOW, _CANNY_HIGH) > 0


def depth_map(render: Render) -> np.ndarray:
    """Depth as brightness: white is nearest, black the farthest."""
    return _as_rgb(np.rint(255 * (1 - np.clip(render.depth, 0, 1))).astype(np.uint8))


def mask_map(render: Render) -> np.ndarray:
    """Subjects white, the rest black."""
    return _as_rgb(render.mask.astype(np.uint8) * 255)


def edge_map(
    render: Render,
    granularity: Granularity = "full",
    thickness_px: int = 1,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """White edges on black.

    Args:
        render: The render whose edges to take; its style does not matter.
        granularity: "outline": the subjects' silhouettes; "object": those and edges inside the subjects; "full":
            all edges of the picture, as `canny_edges` finds them.
        thickness_px: Width of the lines.
        rng: If given, about a tenth of the edge is lost in small gaps.

    Raises:
        WorldError: The granularity is unknown or the thickness is not positive.
    """
    if thickness_px < 1:
        raise WorldError(f"Edges must be at least 1 pixel thick, not {thickness_px}.")
    edges = _edges(render, granularity)
    if rng is not None:
        noise = cv2.resize(rng.random((10, 10), dtype=np.float32), edges.shape[::-1], interpolation=cv2.INTER_CUBIC)
        on_edge = noise[edges]
        if on_edge.size:
            edges &= noise > np.quantile(on_edge, _GAP_SHARE)
    result = edges.astype(np.uint8) * 255
    if thickness_px > 1:
        pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thickness_px, thickness_px))
        return _as_rgb(cv2.dilate(result, pen))
    return _as_rgb(result)


def sketch(render: Render, rng: np.random.Generator) -> np.ndarray:
    """A hand-drawn-looking sketch of the subjects: wobbly, broken dark strokes on paper.

    Args:
        render: The render to sketch.
        rng: Source of the hand's mistakes.
    """
    size_px = render.mask.shape[0]
    paper = np.empty((size_px, size_px, 3), np.uint8)
    paper[:] = PAPERS[int(rng.integers(len(PAPERS)))]
    width = max(1, round(size_px / 64 * float(rng.uniform(0.8, 1.5))))
    ink = rng.uniform(20, 70)
    for mask in render.subject_masks:
        draw_strokes(paper, mask.astype(np.uint8), rng, width, ink, repeats=1 + int(rng.random() < 0.5))
    inner = _edges(render, "object") & ~_edges(render, "outline")
    draw_strokes(paper, inner.astype(np.uint8), rng, 1, ink + 40, repeats=1)
    return paper


def _edges(render: Render, granularity: Granularity) -> np.ndarray:
    if granularity not in GRANULARITIES:
        raise WorldError(f"Unknown granularity {granularity!r}; choose from {', '.join(GRANULARITIES)}.")
    if granularity == "full":
        return canny_edges(render.plain)
    silhouettes = np.zeros(render.mask.shape, bool)
    inside = np.zeros(render.mask.shape, bool)
    for mask in render.subject_masks:
        core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
        silhouettes |= mask & ~core
        inside |= cv2.erode(core.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    return silhouettes if granularity == "outline" else silhouettes | (canny_edges(render.plain) & inside)


def draw_strokes(
    paper: np.ndarray, shapes: np.ndarray, rng: np.random.Generator, width: int, ink: float, repeats: int
) -> None:
    """Traces the contours of shapes on paper, in place, as short displaced strokes.

    Args:
        paper: uint8 [S, S, 3], drawn on.
        shapes: uint8 [S, S], nonzero inside.
        rng: of the hand.
        width: of a stroke, in pixels.
        ink: its brightness, 0..255.
        repeats: how often each contour is gone over.
    """
    size_px = paper.shape[0]
    contours, _ = cv2.findContours(shapes, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        points = contour[:, 0].astype(np.float64)
        if len(points) < max(5, size_px // 12):
            continue
        points = np.concatenate([points, points[: len(points) // 10 + 1]])  # the hand goes past where it started
        for _ in range(repeats):
            wobbly = points + _drift(rng, len(points), size_px) + rng.normal(0, 0.004 * size_px, 2)
            _draw_broken(paper, wobbly, rng, width, ink)


def _drift(rng: np.random.Generator, num_points: int, size_px: int) -> np.ndarray:
    """Slowly varying displacement along a contour, float64 [num_points, 2]."""
    knots = max(3, num_points * 8 // size_px)
    amounts = rng.normal(0, 0.011 * size_px, (2, knots + 1))
    places = np.linspace(0, knots, num_points)
    return np.stack([np.interp(places, np.arange(knots + 1), row) for row in amounts], axis=1)


def _draw_broken(paper: np.ndarray, points: np.ndarray, rng: np.random.Generator, width: int, ink: float) -> None:
    """Draws a line in strokes of a sixth to a half of the side, with small gaps."""
    size_px, start = paper.shape[0], 0
    while start < len(points) - 2:
        end = start + int(rng.integers(size_px // 6, size_px // 2))
        corners = np.rint(points[start:end] * 16).astype(np.int32)
        shade = int(np.clip(ink + rng.normal(0, 14), 0, 150))
        cv2.polylines(paper, [corners], False, (shade, shade, shade), width, cv2.LINE_AA, 4)
        start = end + int(rng.integers(0, max(2, size_px // 22)))


def _as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)
