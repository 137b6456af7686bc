"""Coarse search for a glyph: templates in many poses slid over a small copy of the picture.

Two correlations are averaged: of the colours inside the silhouette (brightness without its mean, colour as distance
from grey), and of the strength of edges in and around it. Neither depends on contrast, and both bear blur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ...world.render import Pictures

SEARCH_SIZE_PX = 32
_MARGIN_PX = 3  # how far a template may reach over the rim of the small picture
_BLUR_PX = 0.7
_COLOUR_FLOOR = 0.03  # contrasts below these count as noise
_EDGE_FLOOR = 0.005


@dataclass(frozen=True)
class Pose:
    """Where and how a glyph lies: centre and size as fractions of the canvas, turn counter-clockwise in degrees."""

    x: float
    y: float
    size: float
    turn_deg: float
    mirror: bool


@dataclass(frozen=True)
class PoseGrid:
    """The poses that a search tries.

    Attributes:
        sizes: in ratios of about 1.13.
        turns_deg: every few degrees.
        mirrorings: whether glyphs may be flipped.
        size_bounds, most_turn_deg: how far a fit may lead.
    """

    sizes: tuple[float, ...]
    turns_deg: tuple[float, ...] = (-16.0, -8.0, 0.0, 8.0, 16.0)
    mirrorings: tuple[bool, ...] = (False, True)
    size_bounds: tuple[float, float] = (0.3, 0.85)
    most_turn_deg: float = 25.0

    @property
    def turned(self) -> tuple[tuple[float, bool], ...]:
        """All pairs of a turn and a mirroring."""
        return tuple((turn, mirror) for turn in self.turns_deg for mirror in self.mirrorings)


def _sizes(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(float(size) for size in np.geomspace(low, high, count))


SINGLE = PoseGrid(_sizes(0.4, 0.75, 6))
SEVERAL = PoseGrid(_sizes(0.29, 0.75, 8), size_bounds=(0.24, 0.85))
PORTRAIT = PoseGrid(_sizes(0.58, 0.98, 6), (-6.0, 0.0, 6.0), (False,), (0.5, 1.05), 12.0)


@dataclass(frozen=True)
class Found:
    """The best place of one glyph, and how well it matches there (at most 1)."""

    score: float
    pose: Pose


@dataclass(frozen=True)
class TemplateSet:
    """One glyph at one size in all turns and mirrorings: n templates of w x w pixels.

    Attributes:
        inside: float32 [n, w * w], coverage 0..1.
        colours: float32 [n, w * w * 3], colours times coverage, brightness without its mean.
        colour_norms: float32 [n], root of the colours' weighted squares.
        around: float32 [n, w * w], 1 in and close around the silhouette.
        edges: float32 [n, w * w], edge strength there without its mean.
        edge_norms: float32 [n].
    """

    inside: np.ndarray
    colours: np.ndarray
    colour_norms: np.ndarray
    around: np.ndarray
    edges: np.ndarray
    edge_norms: np.ndarray

    @property
    def side_px(self) -> int:
        """Side w of the templates."""
        return math.isqrt(self.inside.shape[1])


def draw_glyph(pack: Pictures, glyph: str, pose: Pose, canvas_px: int, mip_px: float | None = None) -> np.ndarray:
    """A glyph alone on a canvas: float32 [S, S, 4] in 0..1, premultiplied; `mip_px` is its side, if not size * S."""
    side = pose.size * canvas_px if mip_px is None else mip_px
    picture = pack.mip(glyph, side).astype(np.float32) / 255
    scale, turn = side / picture.shape[0], math.radians(pose.turn_deg)
    cos, sin, flip = scale * math.cos(turn), scale * math.sin(turn), -1 if pose.mirror else 1
    linear = np.array([[cos * flip, sin], [-sin * flip, cos]])
    centre = np.array([pose.x * canvas_px - 0.5, pose.y * canvas_px - 0.5])
    shift = centre - linear @ np.full(2, 0.5 * picture.shape[0] - 0.5)
    affine = np.concatenate([linear, shift[:, None]], axis=1)
    return cv2.warpAffine(picture, affine, (canvas_px, canvas_px), flags=cv2.INTER_LINEAR)


def opponent(rgb: np.ndarray) -> np.ndarray:
    """Brightness, red against green, yellow against blue; the latter two are 0 for grey. float [..., 3] each."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([(red + green + blue) / 3, 0.5 * (red - green), 0.25 * (red + green) - 0.5 * blue], axis=-1)


def edge_strength(values: np.ndarray) -> np.ndarray:
    """Length of the gradient over all channels; float32 [H, W, C] to [H, W]."""
    across, down = (
        cv2.Sobel(values, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
        for dx in (1, 0)
    )
    return np.sqrt((across**2 + down**2).sum(axis=-1))


def make_templates(pack: Pictures, glyph: str, grid: PoseGrid = SINGLE) -> tuple[TemplateSet, ...]:
    """Templates of one glyph, one set per size of the grid."""
    return tuple(_template_set(pack, glyph, size * SEARCH_SIZE_PX, grid) for size in grid.sizes)


def _template_set(pack: Pictures, glyph: str, size_px: float, grid: PoseGrid) -> TemplateSet:
    side = math.ceil(1.1 * size_px) + 2
    poses = [Pose(0.5, 0.5, 1.0, turn, mirror) for turn, mirror in grid.turned]
    drawn = np.stack(
        [cv2.GaussianBlur(draw_glyph(pack, glyph, pose, side, mip_px=size_px), (0, 0), _BLUR_PX) for pose in poses]
    )
    inside = np.ascontiguousarray(drawn[..., 3])
    straight = np.where(inside[..., None] > 0.05, drawn[..., :3] / np.maximum(inside[..., None], 0.05), 0.5)
    colours = opponent(straight)
    colours[..., 0] -= ((colours[..., 0] * inside).sum((1, 2)) / inside.sum((1, 2)))[:, None, None]
    weighted = colours * inside[..., None]
    around = np.stack([cv2.dilate((a > 0.1).astype(np.float32), np.ones((3, 3))) for a in inside])
    edges = np.stack([edge_strength(picture) for picture in drawn])
    edges = (edges - ((edges * around).sum((1, 2)) / around.sum((1, 2)))[:, None, None]) * around
    num = len(poses)
    return TemplateSet(
        inside.reshape(num, -1),
        weighted.reshape(num, -1).astype(np.float32),
        np.sqrt((weighted * colours).sum((1, 2, 3))).astype(np.float32),
        around.reshape(num, -1),
        edges.reshape(num, -1),
        np.sqrt((edges**2).sum((1, 2))),
    )


def search(picture: np.ndarray, banks: Sequence[tuple[TemplateSet, ...]], grid: PoseGrid = SINGLE) -> list[Found]:
    """Finds the best place of every glyph.

    Args:
        picture: uint8 [S, S, 3].
        banks: the templates of each glyph.
        grid: that they were made with.

    Returns:
        One entry per glyph.
    """
    small = cv2.resize(picture, (SEARCH_SIZE_PX, SEARCH_SIZE_PX), interpolation=cv2.INTER_AREA)
    values = cv2.GaussianBlur(small.astype(np.float32) / 255, (0, 0), _BLUR_PX)
    values = np.pad(values, ((_MARGIN_PX,) * 2, (_MARGIN_PX,) * 2, (0, 0)), mode="edge")
    colours, edges = opponent(values), edge_strength(values)
    best = [Found(-1.0, Pose(0.5, 0.5, grid.sizes[0], 0.0, False))] * len(banks)
    for rank, size in enumerate(grid.sizes):
        sets = [bank[rank] for bank in banks]
        side, num = sets[0].side_px, len(sets[0].inside)
        num_across = values.shape[1] - side + 1
        matches = _correlate(colours, edges, sets).reshape(-1, len(banks), num)
        for k, found in enumerate(best):
            place, which = divmod(int(matches[:, k].argmax()), num)
            score = float(matches[place, k, which])
            if score > found.score:
                down, across = divmod(place, num_across)
                x, y = ((at + 0.5 * side - _MARGIN_PX) / SEARCH_SIZE_PX for at in (across, down))
                best[k] = Found(score, Pose(x, y, size, *grid.turned[which]))
    return best


def _correlate(colours: np.ndarray, edges: np.ndarray, sets: Sequence[TemplateSet]) -> np.ndarray:
    """Mean of the two correlations at every place: float32 [places, glyphs * n]."""
    side = sets[0].side_px
    windows = sliding_window_view(colours, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2).reshape(-1, side**2, 3)
    inside, areas = _columns([s.inside for s in sets])
    squares = (windows**2).sum(-1) @ inside - (windows[..., 0] @ inside) ** 2 / areas
    products = windows.reshape(len(windows), -1) @ np.concatenate([s.colours for s in sets]).T
    spread = np.sqrt(np.maximum(squares, 0) + areas * _COLOUR_FLOOR**2)
    of_colours = products / (np.concatenate([s.colour_norms for s in sets]) * spread + 1e-6)
    lines = sliding_window_view(edges, (side, side)).reshape(-1, side**2)
    around, areas = _columns([s.around for s in sets])
    squares = lines**2 @ around - (lines @ around) ** 2 / areas
    spread = np.sqrt(np.maximum(squares, 0) + areas * _EDGE_FLOOR**2)
    products = lines @ np.concatenate([s.edges for s in sets]).T
    of_edges = products / (np.concatenate([s.edge_norms for s in sets]) * spread + 1e-6)
    return 0.5 * (of_colours + of_edges)


def _columns(weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Weights as columns [w * w, glyphs * n], and their sums."""
    columns = np.concatenate(weights).T
    return columns, columns.sum(0)
