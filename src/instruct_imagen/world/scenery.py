"""Scenery: simple outdoor and indoor places, painted from a seed, with the depth of their floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

NEAR_FLOOR_DEPTH = 0.55  # depth of a floor at the bottom edge; subjects are nearer than that
_SHIFT = 4
_UNIT = 1 << _SHIFT

Rgb = tuple[int, int, int]


class Painter:
    """Draws on a picture in fractions of its side, so that one scene looks alike at every size."""

    def __init__(self, size_px: int, seed: int) -> None:
        """Makes an unpainted picture with everything at the far end."""
        self.size_px = size_px
        self.image = np.zeros((size_px, size_px, 3), np.uint8)
        self.depth = np.ones((size_px, size_px), np.float32)
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def fade(self, top: Rgb, bottom: Rgb, start: float = 0.0, end: float = 1.0) -> None:
        """Fills the rows between two heights with a vertical gradient."""
        first, last = round(start * self.size_px), round(end * self.size_px)
        if last > first:
            steps = np.linspace(0, 1, last - first, dtype=np.float32)[:, None]
            rows = np.asarray(top, np.float32) * (1 - steps) + np.asarray(bottom, np.float32) * steps
            self.image[first:last] = np.rint(rows).astype(np.uint8)[:, None]

    def floor(self, horizon: float) -> None:
        """Depth of a floor from the horizon (far) to the bottom edge (near)."""
        first = round(horizon * self.size_px)
        rows = np.linspace(1.0, NEAR_FLOOR_DEPTH, self.size_px - first, dtype=np.float32)
        self.depth[first:] = rows[:, None]

    def polygon(self, colour: Rgb, points: object) -> None:
        """Fills a polygon of (x, y) corners."""
        corners = np.rint(np.asarray(points, np.float64) * (self.size_px * _UNIT)).astype(np.int32)
        cv2.fillPoly(self.image, [corners], colour, cv2.LINE_AA, _SHIFT)

    def box(self, colour: Rgb, left: float, top: float, right: float, bottom: float) -> None:
        """Fills a box."""
        unit = self.size_px * _UNIT
        corners = (round(left * unit), round(top * unit)), (round(right * unit), round(bottom * unit))
        cv2.rectangle(self.image, *corners, colour, -1, cv2.LINE_AA, _SHIFT)

    def disc(self, colour: Rgb, x: float, y: float, rx: float, ry: float | None = None) -> None:
        """Fills a circle or, with `ry`, an ellipse."""
        unit = self.size_px * _UNIT
        axes = (max(1, round(rx * unit)), max(1, round((rx if ry is None else ry) * unit)))
        cv2.ellipse(self.image, (round(x * unit), round(y * unit)), axes, 0, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)

    def line(self, colour: Rgb, width: float, points: object) -> None:
        """Draws a line through (x, y) points."""
        corners = np.rint(np.asarray(points, np.float64) * (self.size_px * _UNIT)).astype(np.int32)
        thickness = max(1, round(width * self.size_px))
        cv2.polylines(self.image, [corners], False, colour, thickness, cv2.LINE_AA, _SHIFT)

    def hills(self, colour: Rgb, level: float, height: float, waves: float) -> None:
        """Fills everything below a soft wave."""
        xs = np.linspace(0, 1, 24)
        ys = level + height * np.sin(xs * waves * 2 * np.pi + self.rng.random() * 6.28)
        self.polygon(colour, [(-0.05, 1.05), (-0.05, ys[0]), *zip(xs, ys, strict=True), (1.05, ys[-1]), (1.05, 1.05)])

    def cloud(self, colour: Rgb, x: float, y: float, width: float) -> None:
        """Draws a cloud of three puffs."""
        for dx, dy, r in ((-0.3, 0.04, 0.22), (0.0, -0.04, 0.3), (0.32, 0.05, 0.2)):
            self.disc(colour, x + dx * width, y + dy * width, r * width, 0.7 * r * width)


def tint(colour: Rgb, amount: float) -> Rgb:
    """A colour up to a tenth lighter (amount 1) or darker (-1)."""
    scale = 1 + 0.1 * amount
    return (
        min(255, round(colour[0] * scale)),
        min(255, round(colour[1] * scale)),
        min(255, round(colour[2] * scale)),
    )


def _beach(p: Painter, shade: float, horizon: float) -> None:
    h = 0.4 + 0.06 * horizon
    p.fade(tint((110, 190, 240), shade), (215, 238, 248), 0, h)
    p.fade((28, 120, 190), (70, 190, 205), h, h + 0.2)
    p.fade(tint((246, 222, 160), shade), (226, 190, 120), h + 0.2, 1)
    p.hills((250, 250, 245), h + 0.2, 0.012, 1.5)
    p.hills(tint((246, 222, 160), shade), h + 0.225, 0.012, 1.5)
    p.disc((255, 240, 150), p.rng.uniform(0.1, 0.9), 0.13, 0.07)
    p.floor(h)


def _forest(p: Painter, shade: float, horizon: float) -> None:
    h = 0.66 + 0.06 * horizon
    p.fade(tint((120, 170, 130), shade), tint((70, 130, 85), shade), 0, h)
    for x in np.arange(0.02, 1.0, 0.11) + p.rng.uniform(-0.03, 0.03, 9):
        p.box((58, 84, 60), x - 0.012, 0.1, x + 0.012, h)
    p.fade(tint((74, 112, 48), shade), (52, 84, 36), h, 1)
    for x in np.arange(0.06, 1.05, 0.22) + p.rng.uniform(-0.05, 0.05, 5):
        foot = h + p.rng.uniform(0.0, 0.1)
        p.box((92, 62, 40), x - 0.026, 0.2, x + 0.026, foot)
    for x in np.arange(0.0, 1.1, 0.14) + p.rng.uniform(-0.04, 0.04, 8):
        p.disc(tint((36, 100, 48), p.rng.uniform(-1.5, 2.5)), x, p.rng.uniform(0.02, 0.14), 0.13, 0.12)
    p.floor(h)


def _night_sky(p: Painter, shade: float, horizon: float) -> None:
    p.fade(tint((12, 14, 48), shade), tint((44, 40, 104), shade))
    for x, y, r in p.rng.random((34, 3)):
        p.disc((250, 246, 215), x, y, 0.004 + 0.009 * r * r)
    x, y = p.rng.uniform(0.12, 0.88), p.rng.uniform(0.1, 0.2)
    p.disc((248, 240, 196), x, y, 0.085)
    p.disc((20, 20, 60), x + 0.04, y - 0.02, 0.075)


def _room(p: Painter, shade: float, horizon: float) -> None:
    h = 0.68 + 0.05 * horizon
    wall = ((232, 206, 170), (176, 200, 190), (214, 176, 176), (188, 190, 220))[int(p.rng.integers(4))]
    p.fade(tint(wall, shade), tint(wall, shade - 0.6), 0, h)
    p.fade(tint((150, 98, 58), shade), (116, 72, 40), h, 1)
    for y in h + (1 - h) * np.array((0.22, 0.5, 0.84)):
        p.line((104, 64, 36), 0.008, ((0, y), (1, y)))
    p.box((250, 248, 240), 0, h - 0.03, 1, h)
    x = p.rng.choice((0.08, 0.62))
    p.box((250, 250, 246), x - 0.02, 0.08, x + 0.32, 0.42)
    p.box((150, 208, 244), x, 0.1, x + 0.3, 0.4)
    p.box((250, 250, 246), x + 0.14, 0.1, x + 0.16, 0.4)
    p.box((250, 250, 246), x, 0.24, x + 0.3, 0.26)
    p.floor(h)


def _street(p: Painter, shade: float, horizon: float) -> None:
    h = 0.64 + 0.05 * horizon
    p.fade(tint((150, 200, 236), shade), (220, 234, 240), 0, h)
    paints = ((196, 92, 70), (224, 178, 98), (120, 150, 170), (176, 130, 150), (150, 170, 120))
    x = -p.rng.uniform(0, 0.1)
    for i in p.rng.permutation(5):
        width, top = p.rng.uniform(0.22, 0.3), p.rng.uniform(0.12, 0.34)
        p.box(tint(paints[i], shade), x, top, x + width, h)
        for wx in (x + 0.2 * width, x + 0.6 * width):
            for wy in np.arange(top + 0.06, h - 0.1, 0.13):
                p.box((250, 240, 190), wx, wy, wx + 0.2 * width, wy + 0.07)
        x += width
    p.fade((176, 174, 170), (190, 188, 184), h, h + 0.07)
    p.fade((88, 90, 96), (66, 68, 74), h + 0.07, 1)
    y = h + 0.07 + (0.93 - h) * 0.5
    for x in np.arange(-0.05, 1, 0.25):
        p.box((240, 230, 150), x, y, x + 0.14, y + 0.025)
    p.floor(h)


def _snow(p: Painter, shade: float, horizon: float) -> None:
    h = 0.52 + 0.06 * horizon
    p.fade(tint((150, 180, 210), shade), (214, 226, 238), 0, 1)
    p.hills((206, 220, 236), h, 0.05, 0.9)
    for x in p.rng.uniform(0.03, 0.97, 4):
        top = h - p.rng.uniform(0.16, 0.24)
        p.polygon((48, 92, 86), ((x, top), (x + 0.07, h + 0.05), (x - 0.07, h + 0.05)))
        p.polygon((244, 248, 252), ((x, top), (x + 0.03, top + 0.09), (x - 0.03, top + 0.09)))
    p.hills((242, 246, 252), h + 0.08, 0.03, 1.2)
    for x, y, r in p.rng.random((26, 3)):
        p.disc((255, 255, 255), x, y, 0.005 + 0.008 * r)
    p.floor(h)


def _desert(p: Painter, shade: float, horizon: float) -> None:
    h = 0.52 + 0.06 * horizon
    p.fade(tint((92, 176, 232), shade), (250, 226, 180), 0, h)
    p.disc((255, 246, 190), p.rng.uniform(0.15, 0.85), 0.14, 0.075)
    p.fade((226, 160, 90), (226, 160, 90), h, 1)
    p.hills((214, 140, 74), h, 0.05, 0.8)
    p.hills(tint((234, 172, 98), shade), h + 0.12, 0.05, 1.1)
    p.hills((224, 156, 82), h + 0.3, 0.04, 0.7)
    for x in p.rng.uniform(0.06, 0.94, 2):
        p.line((62, 120, 66), 0.035, ((x, h - 0.14), (x, h + 0.06)))
        p.line((62, 120, 66), 0.025, ((x, h - 0.02), (x + 0.05, h - 0.02), (x + 0.05, h - 0.09)))
    p.floor(h)


def _sea(p: Painter, shade: float, horizon: float) -> None:
    h = 0.42 + 0.08 * horizon
    p.fade(tint((140, 204, 244), shade), (226, 242, 248), 0, h)
    for _ in range(2):
        p.cloud((250, 252, 253), p.rng.uniform(0.1, 0.9), p.rng.uniform(0.06, 0.2), 0.3)
    p.fade(tint((22, 84, 160), shade), (40, 140, 190), h, 1)
    for y in h + (1 - h) * np.array((0.1, 0.26, 0.46, 0.7, 0.92)):
        xs = np.linspace(-0.05, 1.05, 20)
        wave = y + 0.014 * np.sin(xs * 26 + p.rng.random() * 6.3)
        p.line((168, 216, 236), 0.012, np.stack([xs, wave], 1))
    p.floor(h)


def _underwater(p: Painter, shade: float, horizon: float) -> None:
    p.fade(tint((60, 190, 214), shade), tint((8, 62, 120), shade))
    for x in p.rng.uniform(0, 0.9, 3):
        p.polygon((92, 204, 222), ((x, -0.02), (x + 0.07, -0.02), (x + 0.02, 0.4), (x - 0.06, 0.4)))
    p.hills((196, 176, 122), 0.92, 0.025, 1.1)
    for x in p.rng.uniform(0.02, 0.98, 6):
        ys = np.linspace(0.98, p.rng.uniform(0.62, 0.8), 8)
        p.line((34, 140, 84), 0.028, np.stack([x + 0.022 * np.sin(ys * 24), ys], 1))
    for x, y, r in p.rng.random((12, 3)):
        p.disc((176, 232, 242), x, y * 0.85, 0.008 + 0.014 * r)


def _meadow(p: Painter, shade: float, horizon: float) -> None:
    h = 0.5 + 0.07 * horizon
    p.fade(tint((108, 184, 242), shade), (214, 236, 250), 0, h + 0.05)
    p.cloud((252, 253, 254), p.rng.uniform(0.15, 0.85), p.rng.uniform(0.08, 0.2), 0.34)
    p.hills((104, 172, 84), h, 0.04, 0.8)
    p.hills(tint((112, 190, 72), shade), h + 0.1, 0.03, 1.2)
    petals = ((250, 240, 110), (250, 250, 250), (240, 110, 130), (190, 120, 220))
    for i, (x, y) in enumerate(p.rng.random((26, 2))):
        near = y * y
        p.disc(petals[i % 4], x, h + 0.14 + (0.84 - h) * near, 0.008 + 0.012 * near)
    p.floor(h)


def _sunset(p: Painter, shade: float, horizon: float) -> None:
    h = 0.7 + 0.06 * horizon
    p.fade(tint((92, 44, 122), shade), (238, 96, 76), 0, 0.55 * h)
    p.fade((238, 96, 76), (255, 200, 90), 0.55 * h, h)
    x = p.rng.uniform(0.15, 0.85)
    p.disc((255, 236, 150), x, h - 0.06, 0.13)
    p.fade((112, 44, 88), (48, 26, 66), h, 1)
    for y in h + (1 - h) * np.array((0.12, 0.36, 0.66)):
        p.line((250, 170, 100), 0.016, ((x - 0.12, y), (x + 0.12, y)))
    p.floor(h)


def _city(p: Painter, shade: float, horizon: float) -> None:
    h = 0.8 + 0.04 * horizon
    p.fade(tint((132, 176, 220), shade), (232, 222, 214), 0, h)
    x = -0.02
    while x < 1:
        width = p.rng.uniform(0.07, 0.13)
        p.box((158, 172, 192), x, p.rng.uniform(0.12, 0.4), x + width, h)
        x += width
    x = -0.04
    while x < 1:
        width, top = p.rng.uniform(0.13, 0.19), p.rng.uniform(0.26, 0.54)
        p.box(tint((78, 92, 120), shade), x, top, x + width - 0.015, h)
        for wx in np.arange(x + 0.025, x + width - 0.045, 0.05):
            for wy in np.arange(top + 0.04, h - 0.05, 0.08):
                p.box((250, 228, 150), wx, wy, wx + 0.025, wy + 0.035)
        x += width
    p.fade((120, 122, 128), (92, 94, 100), h, 1)
    p.floor(h)


def _mountains(p: Painter, shade: float, horizon: float) -> None:
    h = 0.64 + 0.05 * horizon
    p.fade(tint((120, 180, 232), shade), (228, 238, 246), 0, h + 0.06)  # down to where the hills have surely begun
    for x, top, half in zip((0.16, 0.5, 0.86), p.rng.uniform(0.12, 0.3, 3), p.rng.uniform(0.28, 0.38, 3), strict=True):
        p.polygon(tint((104, 112, 138), shade), ((x, top), (x + half, h + 0.02), (x - half, h + 0.02)))
        cap = 0.34 * half / (h - top)
        points = ((x, top), (x + 0.3 * cap, top + 0.11), (x + 0.1 * cap, top + 0.08), (x - 0.08, top + 0.12))
        p.polygon((248, 250, 252), (*points, (x - 0.3 * cap, top + 0.1)))
    p.hills((84, 134, 84), h, 0.025, 1.0)
    p.hills(tint((104, 158, 84), shade), h + 0.14, 0.03, 0.8)
    p.floor(h)


def _clouds(p: Painter, shade: float, horizon: float) -> None:
    p.fade(tint((64, 146, 230), shade), tint((164, 214, 248), shade))
    for i in range(6):
        y = (i + p.rng.random()) / 6
        p.cloud((248, 250, 253), p.rng.uniform(0.02, 0.98), y, p.rng.uniform(0.26, 0.42))


def _brick_wall(p: Painter, shade: float, horizon: float) -> None:
    h = 0.82 + 0.04 * horizon
    p.fade((206, 180, 160), (196, 170, 150), 0, h)
    brick = np.array((176, 78, 60), np.float64)
    for row, y in enumerate(np.arange(0, h - 0.02, 0.1)):
        for x in np.arange(-0.13 if row % 2 else 0, 1, 0.25):
            paint = brick * (1 + 0.16 * (p.rng.random() - 0.5) + 0.1 * shade)
            p.box((int(paint[0]), int(paint[1]), int(paint[2])), x, y, x + 0.232, min(y + 0.082, h))
    p.fade((168, 166, 160), (140, 138, 132), h, 1)
    p.floor(h)


def _table(p: Painter, shade: float, horizon: float) -> None:
    h = 0.6 + 0.06 * horizon
    wall = ((206, 222, 206), (240, 220, 190), (190, 212, 232))[int(p.rng.integers(3))]
    p.fade(tint(wall, shade), tint(wall, shade), 0, h)
    p.fade(tint((188, 128, 74), shade), tint((160, 102, 54), shade), h, 1)
    for y in h + (1 - h) * np.array((0.16, 0.4, 0.72)):
        xs = np.linspace(-0.05, 1.05, 12)
        p.line((138, 86, 44), 0.01, np.stack([xs, y + 0.008 * np.sin(xs * 9 + p.rng.random() * 6)], 1))
    p.line((120, 74, 38), 0.022, ((-0.05, h), (1.05, h)))
    p.floor(h)


SCENERY: Mapping[str, Callable[[Painter, float, float], None]] = {
    "beach": _beach,
    "forest": _forest,
    "night sky": _night_sky,
    "room": _room,
    "street": _street,
    "snow": _snow,
    "desert": _desert,
    "sea": _sea,
    "underwater": _underwater,
    "meadow": _meadow,
    "sunset": _sunset,
    "city": _city,
    "mountains": _mountains,
    "clouds": _clouds,
    "brick wall": _brick_wall,
    "table": _table,
}
