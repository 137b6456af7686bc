"""Rendering: a scene to its picture, with the exact depth and masks that the controls are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

from instruct_imagen.world.grounds import paint_ground
from instruct_imagen.world.scenes import Scene, Subject
from instruct_imagen.world.styles import apply_style

FARTHEST_SUBJECT_DEPTH = 0.45
_LAYER_DEPTH = 0.14  # between the middles of neighbouring layers
_BULGE_DEPTH = 0.12  # how much nearer the middle of a subject is than its rim
_SHADOW = 0.4
_MASK_ALPHA = 128


class Pictures(Protocol):
    """Where subjects' pictures come from: a `GlyphPack` or `Portraits`."""

    def mip(self, key: str, longer_side_px: float) -> np.ndarray:
        """See `GlyphPack.mip`."""
        ...


@dataclass(frozen=True)
class Render:
    """A rendered scene of side S with K subjects.

    Attributes:
        image: uint8 [S, S, 3] RGB, in the scene's style.
        depth: float32 [S, S], 0 near to 1 far.
        mask: bool [S, S], any subject.
        subject_masks: bool [K, S, S], the visible part of each subject, in the scene's order; they do not overlap.
        plain: uint8 [S, S, 3] RGB, before the style.
    """

    image: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    subject_masks: np.ndarray
    plain: np.ndarray


def render(scene: Scene, pack: Pictures, size_px: int = 64) -> Render:
    """Renders a scene; equal scenes give equal bytes.

    Args:
        scene: What to render.
        pack: Where its subjects' pictures are.
        size_px: Side S of the picture, at least 32.

    Raises:
        WorldError: The pack lacks a glyph of the scene, or the ground is unknown.
        StyleError: The style is unknown, or the size too small for it.
    """
    plain, depth = paint_ground(scene.ground, size_px)
    masks = np.zeros((len(scene.subjects), size_px, size_px), bool)
    order = sorted(range(len(scene.subjects)), key=lambda i: scene.subjects[i].layer)
    for rank, i in enumerate(order):
        covered = _draw_subject(plain, depth, scene.subjects[i], pack, rank, scene.ground.has_floor)
        masks[:, covered] = False
        masks[i] = covered
    mask = np.asarray(masks.any(axis=0))
    return Render(apply_style(scene.style, plain, mask, depth, scene.seed), depth, mask, masks, plain)


def _draw_subject(
    image: np.ndarray, depth: np.ndarray, subject: Subject, pack: Pictures, rank: int, shadow: bool
) -> np.ndarray:
    """Lays a subject over picture and depth, in place; returns its full mask, bool [S, S]."""
    size_px = image.shape[0]
    covered = np.zeros((size_px, size_px), bool)
    picture = pack.mip(subject.glyph, subject.size * size_px)
    if shadow:
        _draw_shadow(image, subject, picture)
    left, top, right, bottom = _window(subject, size_px)
    if right <= left or bottom <= top:
        return covered
    patch = cv2.warpAffine(
        picture,
        _placement(subject, picture.shape[0], size_px, left, top),
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )
    area = image[top:bottom, left:right]
    rest = (255 - patch[..., 3:]).astype(np.uint16)
    area[:] = patch[..., :3] + ((area * rest + 127) // 255).astype(np.uint8)
    inside = patch[..., 3] >= _MASK_ALPHA
    covered[top:bottom, left:right] = inside
    if inside.any():
        bulge = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        middle = FARTHEST_SUBJECT_DEPTH - _LAYER_DEPTH * rank
        values = middle - _BULGE_DEPTH * np.sqrt(bulge / bulge.max())
        depth[top:bottom, left:right][inside] = values[inside]
    return covered


def _window(subject: Subject, size_px: int) -> tuple[int, int, int, int]:
    """Pixels that a subject can touch: left, top, right, bottom."""
    turn = math.radians(subject.turn_deg)
    reach = 0.5 * subject.size * size_px * (abs(math.cos(turn)) + abs(math.sin(turn))) + 1
    x, y = subject.x * size_px, subject.y * size_px
    return (
        max(0, math.floor(x - reach)),
        max(0, math.floor(y - reach)),
        min(size_px, math.ceil(x + reach)),
        min(size_px, math.ceil(y + reach)),
    )


def _placement(subject: Subject, source_px: int, size_px: int, left: int, top: int) -> np.ndarray:
    """Affine map from the glyph's pixel indices to those of the window, float64 [2, 3]."""
    scale = subject.size * size_px / source_px
    turn = math.radians(subject.turn_deg)
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    flip = -1 if subject.mirror else 1
    linear = np.array([[cos * flip, sin], [-sin * flip, cos]])
    centre = np.array([subject.x * size_px - left - 0.5, subject.y * size_px - top - 0.5])
    middle = np.full(2, 0.5 * source_px - 0.5)
    return np.concatenate([linear, (centre - linear @ middle)[:, None]], axis=1)


@lru_cache(maxsize=1)
def _shadow_blob() -> np.ndarray:
    """Darkening of a soft round shadow, float32 [32, 32] in 0..1."""
    line = np.linspace(-1, 1, 32, dtype=np.float32)
    radius = np.sqrt(line[:, None] ** 2 + line[None] ** 2)
    blob = _SHADOW * np.clip(1 - radius, 0, 1) ** 0.8
    blob.setflags(write=False)
    return blob


def _draw_shadow(image: np.ndarray, subject: Subject, picture: np.ndarray) -> None:
    """Darkens the floor under a subject with a flat soft ellipse at the foot of its picture."""
    size_px = image.shape[0]
    rows = np.flatnonzero(picture[..., 3].max(axis=1) > 64)
    columns = np.flatnonzero(picture[..., 3].max(axis=0) > 64)
    foot = (rows[-1] + 1) / picture.shape[0] - 0.5
    width = max(4, round(1.1 * subject.size * size_px * len(columns) / picture.shape[0]))
    height = max(2, round(0.22 * width))
    left = round(subject.x * size_px - 0.5 * width)
    top = round((subject.y + foot * subject.size) * size_px - 0.6 * height)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(size_px, left + width), min(size_px, top + height)
    if x1 <= x0 or y1 <= y0:
        return
    blob = cv2.resize(_shadow_blob(), (width, height), interpolation=cv2.INTER_LINEAR)
    light = 1 - blob[y0 - top : y1 - top, x0 - left : x1 - left, None]
    image[y0:y1, x0:x1] = np.rint(image[y0:y1, x0:x1] * light)
