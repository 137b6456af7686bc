"""A drawing board: flat shapes with hard edges at four times a glyph's side, softened when it is scaled down."""

from __future__ import annotations

import cv2
import numpy as np

BOARD_SIDE_PX = 384
_SHIFT = 4

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Board:
    """A transparent board, 0..1 in both directions, y down, on which shapes are laid one over the other."""

    def __init__(self) -> None:
        """Makes an empty board."""
        self.pixels = np.zeros((BOARD_SIDE_PX, BOARD_SIDE_PX, 4), np.uint8)

    def polygon(self, colour: Colour, *points: Point) -> None:
        """Fills a polygon of (x, y) corners."""
        corners = np.rint(np.array(points) * BOARD_SIDE_PX * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.pixels, [corners], (*colour, 255), cv2.LINE_8, _SHIFT)

    def box(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        """Fills a box."""
        self.polygon(colour, (left, top), (right, top), (right, bottom), (left, bottom))

    def ellipse(
        self,
        colour: Colour | None,
        x: float,
        y: float,
        rx: float,
        ry: float,
        turn: float = 0,
        arc: Point = (0, 360),
    ) -> None:
        """Filled ellipse or, with `arc`, the part of it between two angles in degrees; a hole if `colour` is None."""
        scale = BOARD_SIDE_PX * (1 << _SHIFT)
        paint = (0, 0, 0, 0) if colour is None else (*colour, 255)
        centre, axes = (round(x * scale), round(y * scale)), (round(rx * scale), round(ry * scale))
        cv2.ellipse(self.pixels, centre, axes, turn, *arc, paint, -1, cv2.LINE_8, _SHIFT)

    def line(self, colour: Colour, width: float, *points: Point) -> None:
        """Draws a line through (x, y) points; `width` is a fraction of the side."""
        corners = np.rint(np.array(points) * BOARD_SIDE_PX * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(self.pixels, [corners], False, (*colour, 255), round(width * BOARD_SIDE_PX), cv2.LINE_8, _SHIFT)
