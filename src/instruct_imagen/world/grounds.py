"""Grounds: what lies behind the subjects, as a picture and as an exact depth.

A ground is a kind and a few numbers, so it can be stored, repeated at any size, and named in words. Plain, gradient
and patterned grounds are walls at the far end; scenery has a sky or wall (far) and a floor that comes nearer
towards the bottom of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from instruct_imagen.world.glyphs import WorldError
from instruct_imagen.world.scenery import SCENERY, Painter, tint

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "white": (244, 244, 242),
    "grey": (150, 152, 156),
    "black": (28, 28, 32),
    "red": (208, 52, 48),
    "orange": (242, 142, 44),
    "yellow": (248, 214, 70),
    "light green": (158, 222, 130),
    "green": (62, 158, 74),
    "dark green": (22, 84, 52),
    "teal": (32, 160, 158),
    "light blue": (156, 210, 246),
    "blue": (48, 108, 220),
    "dark blue": (26, 42, 112),
    "purple": (134, 72, 186),
    "pink": (250, 170, 200),
    "brown": (130, 86, 54),
    "beige": (234, 216, 180),
}
COLOUR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Ground:
    """A ground.

    Attributes:
        kind: One of `GROUND_KINDS`.
        params: Named numbers. "colour" and "colour2" index `COLOUR_NAMES`; "shade" in -1..1 tints; "seed" places the
            details of scenery; "pitch", "turn" and "horizon" are fractions of the side, degrees, and height.
    """

    kind: str
    params: tuple[tuple[str, float], ...] = ()

    def number(self, name: str, default: float = 0.0) -> float:
        """Value of a parameter, or the default where the ground has none of that name."""
        for key, value in self.params:
            if key == name:
                return value
        return default

    def colour_name(self, name: str = "colour") -> str:
        """Words for one of the ground's colours, such as "light blue"."""
        return COLOUR_NAMES[int(self.number(name)) % len(COLOUR_NAMES)]

    @property
    def has_floor(self) -> bool:
        """Whether things stand on something here, and so throw a shadow."""
        return self.kind in FLOOR_KINDS


def sample_ground(rng: np.random.Generator, kind: str | None = None) -> Ground:
    """Draws a ground; of a kind drawn evenly among walls and scenery if none is given.

    Raises:
        WorldError: There is no such kind.
    """
    if kind is None:
        kinds = WALL_KINDS if rng.random() < 0.45 else SCENERY_KINDS
        kind = kinds[int(rng.integers(len(kinds)))]
    if kind not in GROUND_KINDS:
        raise WorldError(f"Unknown ground kind {kind!r}; choose from {', '.join(GROUND_KINDS)}.")
    shade = round(float(rng.uniform(-1, 1)), 3)
    if kind in SCENERY_KINDS:
        horizon = round(float(rng.uniform(-1, 1)), 3)
        return Ground(kind, (("shade", shade), ("horizon", horizon), ("seed", float(rng.integers(2**31)))))
    first, second = (float(i) for i in rng.choice(len(COLOURS), 2, replace=False))
    params = [("colour", first), ("shade", shade)]
    if kind != "plain":
        pitch, turn = round(float(rng.uniform(0.16, 0.3)), 3), float(rng.choice((0, 45, 90, 135)))
        params += [("colour2", second), ("pitch", pitch), ("turn", turn)]
    return Ground(kind, tuple(params))


def paint_ground(ground: Ground, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Paints a ground.

    Args:
        ground: What to paint.
        size_px: Side S of the picture, at least 8.

    Returns:
        Picture, uint8 [S, S, 3] RGB, and depth, float32 [S, S] in 0..1, 1 the farthest.

    Raises:
        WorldError: The kind is unknown or the size too small.
    """
    if size_px < 8:
        raise WorldError(f"A picture must be at least 8 pixels wide, not {size_px}.")
    if ground.kind not in GROUND_KINDS:
        raise WorldError(f"Unknown ground kind {ground.kind!r}; choose from {', '.join(GROUND_KINDS)}.")
    painter = Painter(size_px, int(ground.number("seed")))
    if ground.kind in SCENERY:
        SCENERY[ground.kind](painter, ground.number("shade"), ground.number("horizon"))
    else:
        _WALLS[ground.kind](painter, ground)
    return painter.image, painter.depth


def _colours(ground: Ground) -> tuple[np.ndarray, np.ndarray]:
    shade = ground.number("shade")
    first, second = (tint(COLOURS[ground.colour_name(name)], shade) for name in ("colour", "colour2"))
    return np.array(first, np.float32), np.array(second, np.float32)


@lru_cache(maxsize=8)
def _pixel_centres(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    xs, ys = np.meshgrid(line, line)
    xs.setflags(write=False)
    ys.setflags(write=False)
    return xs, ys


def _mix(painter: Painter, ground: Ground, share: np.ndarray) -> None:
    """Blends the two colours; `share` [S, S] in 0..1 is the share of the second."""
    first, second = _colours(ground)
    painter.image[:] = np.rint(first + share[..., None] * (second - first))


def _plain(p: Painter, g: Ground) -> None:
    p.image[:] = _colours(g)[0].astype(np.uint8)


def _along(p: Painter, g: Ground) -> np.ndarray:
    xs, ys = _pixel_centres(p.size_px)
    angle = np.deg2rad(g.number("turn"))
    return (xs - 0.5) * np.float32(np.cos(angle)) + (ys - 0.5) * np.float32(np.sin(angle))


def _gradient(p: Painter, g: Ground) -> None:
    _mix(p, g, np.clip(_along(p, g) + 0.5, 0, 1))


def _soft_step(p: Painter, distance: np.ndarray) -> np.ndarray:
    """Signed distance in fractions of the side to a share 0..1, antialiased over a pixel."""
    return np.clip(distance * p.size_px + 0.5, 0, 1)


def _triangle_wave(values: np.ndarray, pitch: float) -> np.ndarray:
    """Signed distance to the nearest edge of stripes half a pitch wide."""
    phase = np.abs(values / np.float32(pitch) % 1.0 - 0.5)
    return (phase - 0.25) * np.float32(pitch)


def _stripes(p: Painter, g: Ground) -> None:
    _mix(p, g, _soft_step(p, _triangle_wave(_along(p, g), g.number("pitch", 0.2))))


def _checks(p: Painter, g: Ground) -> None:
    xs, ys = _pixel_centres(p.size_px)
    pitch = 1.6 * g.number("pitch", 0.2)
    across, down = (2 * _soft_step(p, _triangle_wave(v, pitch)) - 1 for v in (xs, ys))
    _mix(p, g, 0.5 + 0.5 * across * down)


def _dots(p: Painter, g: Ground) -> None:
    xs, ys = _pixel_centres(p.size_px)
    pitch = np.float32(g.number("pitch", 0.2))
    row = np.floor(ys / pitch)
    dx = (xs / pitch + 0.5 * (row % 2)) % 1.0 - 0.5
    dy = ys / pitch - row - 0.5
    _mix(p, g, _soft_step(p, (0.3 - np.sqrt(dx * dx + dy * dy)) * pitch))


_WALLS: Mapping[str, Callable[[Painter, Ground], None]] = {
    "plain": _plain,
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "polka dots": _dots,
}
WALL_KINDS = tuple(_WALLS)
SCENERY_KINDS = tuple(SCENERY)
GROUND_KINDS = WALL_KINDS + SCENERY_KINDS
FLOOR_KINDS = frozenset(SCENERY_KINDS) - {"night sky", "underwater", "sunset", "clouds"}
