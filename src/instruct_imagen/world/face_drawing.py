"""Drawing a portrait: back hair, shoulders, head, features, front hair, hat, from back to front.

The board is 1 x 1 with y down; the face is centred at x = 0.5 and the shoulders leave at the lower rim.
"""

from __future__ import annotations

import math

import numpy as np

from instruct_imagen.world.board import Board, Colour, Point
from instruct_imagen.world.faces import EYE_COLOURS, HAIR_COLOURS, SKINS, Identity, Portrait
from instruct_imagen.world.grounds import COLOURS

_DARK: Colour = (40, 30, 34)
_WHITE: Colour = (250, 250, 248)
_LIP: Colour = (176, 74, 78)
_MOUTH: Colour = (112, 34, 42)
_GOLD: Colour = (232, 186, 60)
_STRAW: Colour = (226, 196, 128)
_GAZE_SHIFTS: dict[str, Point] = {
    "ahead": (0, 0),
    "left": (-0.02, 0),
    "right": (0.02, 0),
    "up": (0, -0.014),
    "down": (0, 0.016),
}


def draw_portrait(identity: Identity, portrait: Portrait) -> np.ndarray:
    """The portrait as uint8 [384, 384, 4], straight alpha that is 0 or 255."""
    face = _Face(identity, portrait)
    for part in (
        face.back_hair,
        face.shoulders,
        face.head,
        face.marks,
        face.beard,
        face.mouth,
        face.nose,
        face.eyes,
        face.brows,
        face.front_hair,
        face.glasses,
        face.hat,
    ):
        part()
    return face.board.pixels


def _shade(colour: Colour, factor: float) -> Colour:
    """A darker (factor below 1) or lighter colour."""
    red, green, blue = (max(0, min(255, round(c * factor))) for c in colour)
    return red, green, blue


class _Face:
    """The measures of one face, and a method for each of its parts."""

    def __init__(self, identity: Identity, portrait: Portrait) -> None:
        self.board = Board()
        self.who, self.now = identity, portrait
        self.skin = SKINS[identity.skin]
        self.hair = HAIR_COLOURS[identity.hair_colour]
        self.width = 0.2 + 0.03 * identity.face_width  # half the head's width
        self.height = 0.27 + 0.03 * identity.face_length
        self.x, self.y = 0.5, 0.47
        self.shift = _GAZE_SHIFTS[portrait.gaze]
        self.eye_y = self.y - 0.03
        self.eye_x = 0.09 + 0.018 * identity.eye_gap
        self.eye = 0.036 + 0.009 * identity.eye_size
        self.top = self.y - self.height

    def _arc(self, x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
        angles = [math.radians(start + (end - start) * i / 12) for i in range(13)]
        return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]

    def back_hair(self) -> None:
        b, style, x, y = self.board, self.who.hair_style, self.x, self.y
        dark = _shade(self.hair, 0.82)
        if style == "long":
            b.ellipse(dark, x, y - 0.02, self.width + 0.08, self.height + 0.03)
            b.box(dark, x - self.width - 0.08, y, x + self.width + 0.08, 0.92)
        elif style == "bob":
            b.ellipse(dark, x, y, self.width + 0.08, self.height + 0.02)
            b.box(dark, x - self.width - 0.08, y, x + self.width + 0.08, y + 0.2)
        elif style == "ponytail":
            b.ellipse(dark, x + self.width + 0.06, y + 0.06, 0.08, 0.24, -14)
        elif style == "bun":
            b.ellipse(dark, x, self.top - 0.03, 0.1, 0.1)
        elif style == "afro":
            b.ellipse(dark, x, y - 0.1, self.width + 0.15, self.height + 0.07)
        elif style == "curly":
            for angle in range(180, 361, 20):
                a = math.radians(angle)
                b.ellipse(
                    dark, x + (self.width + 0.03) * math.cos(a), y - 0.03 + self.height * math.sin(a), 0.075, 0.075
                )

    def shoulders(self) -> None:
        b, cloth = self.board, COLOURS[self.now.clothes]
        b.ellipse(cloth, self.x, 1.06, 0.42, 0.26)
        b.ellipse(_shade(cloth, 0.8), self.x, 0.84, 0.13, 0.05)
        b.box(_shade(self.skin, 0.88), self.x - 0.075, self.y + 0.15, self.x + 0.075, 0.82)
        b.ellipse(_shade(self.skin, 0.88), self.x, 0.82, 0.075, 0.035)

    def head(self) -> None:
        b, x, y = self.board, self.x, self.y
        for side in (-1, 1):
            b.ellipse(_shade(self.skin, 0.92), x + side * self.width, y + 0.01, 0.04, 0.06)
            if self.who.earrings:
                b.ellipse(_GOLD, x + side * (self.width + 0.015), y + 0.085, 0.02, 0.024)
        b.ellipse(self.skin, x, y - 0.02, self.width, self.height - 0.02)
        chin = 0.62 + 0.16 * self.who.jaw  # how square the lower half is
        b.ellipse(self.skin, x, y + 0.08, self.width * (0.8 + 0.2 * chin), self.height * 0.72)

    def marks(self) -> None:
        b, side = self.board, self.who.mark_side
        cheek = (self.x + side * 0.11, self.y + 0.09)
        if self.who.mark == "freckles":
            for dx, dy in ((-0.13, 0.05), (-0.1, 0.075), (-0.07, 0.05), (0.13, 0.05), (0.1, 0.075), (0.07, 0.05)):
                b.ellipse(_shade(self.skin, 0.66), self.x + dx, self.y + dy, 0.011, 0.011)
        elif self.who.mark == "mole":
            b.ellipse(_DARK, *cheek, 0.016, 0.016)
        elif self.who.mark == "scar":
            b.line(
                _shade(self.skin, 0.62), 0.014, (cheek[0] - 0.03, cheek[1] - 0.05), (cheek[0] + 0.03, cheek[1] + 0.05)
            )

    def beard(self) -> None:
        b, x, y, colour = self.board, self.x, self.y, _shade(self.hair, 0.92)
        if self.who.beard == "full beard":
            b.ellipse(colour, x, y + 0.12, self.width * 0.97, self.height * 0.68, arc=(0, 180))
            b.box(colour, x - self.width * 0.97, y + 0.08, x - self.width * 0.72, y + 0.14)
            b.box(colour, x + self.width * 0.72, y + 0.08, x + self.width * 0.97, y + 0.14)
        if self.who.beard == "goatee":
            b.ellipse(colour, x, y + 0.225, 0.075, 0.065)
        if self.who.beard in ("moustache", "full beard"):
            b.ellipse(colour, x - 0.045, y + 0.112, 0.06, 0.026, -8)
            b.ellipse(colour, x + 0.045, y + 0.112, 0.06, 0.026, 8)

    def mouth(self) -> None:
        b, mood = self.board, self.now.expression
        x, y, half = self.x + 0.4 * self.shift[0], self.y + 0.16, 0.075 + 0.018 * self.who.mouth
        if mood in ("smiling", "winking"):
            b.line(_LIP, 0.024, *self._arc(x, y - 0.035, half, 0.055, 15, 165))
        elif mood == "laughing":
            b.ellipse(_MOUTH, x, y - 0.02, half + 0.015, 0.085, arc=(0, 180))
            b.box(_WHITE, x - half * 0.85, y - 0.02, x + half * 0.85, y + 0.005)
        elif mood in ("sad", "angry"):
            b.line(_LIP, 0.024, *self._arc(x, y + 0.04, half * 0.85, 0.05, 200, 340))
        elif mood == "surprised":
            b.ellipse(_MOUTH, x, y + 0.01, 0.04, 0.055)
        else:
            b.line(_LIP, 0.024, (x - half * 0.8, y), (x + half * 0.8, y))

    def nose(self) -> None:
        x, y = self.x + 0.7 * self.shift[0], self.y + 0.06
        half = 0.028 + 0.01 * self.who.nose
        bridge, tip, base = (x + 0.004, y - 0.07), (x + half, y + 0.01), (x - half * 0.6, y + 0.016)
        self.board.line(_shade(self.skin, 0.74), 0.016, bridge, tip, base)

    def eyes(self) -> None:
        b, mood = self.board, self.now.expression
        big = 1.3 if mood == "surprised" else 0.8 if mood in ("laughing", "angry") else 1.0
        for side in (-1, 1):
            x, y = self.x + side * self.eye_x + 0.5 * self.shift[0], self.eye_y
            if mood == "sleeping" or (mood == "winking" and side == 1):
                b.line(_DARK, 0.016, *self._arc(x, y - 0.01, self.eye * 1.2, 0.022, 10, 170))
                continue
            b.ellipse(_WHITE, x, y, self.eye * 1.3, self.eye * big)
            pupil = (x + self.shift[0], y + self.shift[1])
            b.ellipse(EYE_COLOURS[self.who.eye_colour], *pupil, self.eye * 0.72, self.eye * min(0.72, big))
            b.ellipse(_DARK, *pupil, self.eye * 0.36, self.eye * 0.36)

    def brows(self) -> None:
        mood, colour = self.now.expression, _shade(self.hair, 0.7)
        if self.who.hair_colour in ("white", "blond", "grey"):
            colour = _shade(self.hair, 0.62)
        lift = 0.03 if mood == "surprised" else 0.0
        slant = {"angry": 0.03, "sad": -0.026}.get(mood, 0.0)
        for side in (-1, 1):
            x, y = self.x + side * self.eye_x + 0.5 * self.shift[0], self.eye_y - 0.068 - lift
            inner, outer = (x - side * 0.045, y + slant), (x + side * 0.05, y - slant * 0.4)
            self.board.line(colour, 0.018 + 0.008 * (1 + self.who.brow), inner, outer)

    def front_hair(self) -> None:
        b, style, x, colour = self.board, self.who.hair_style, self.x, self.hair
        width, top, line = self.width, self.top, self.y - 0.135
        if style == "bald":
            return
        if style == "mohawk":
            foot, tip = line + 0.02, top - 0.1
            b.polygon(colour, (x - 0.05, foot), (x - 0.06, tip), (x + 0.06, tip), (x + 0.05, foot))
            return
        reach = line - top + 0.05
        b.ellipse(colour, x, line + 0.02, width + 0.02, reach, arc=(180, 360))
        if style == "parted":
            b.ellipse(self.skin, x - 0.06, line + 0.03, width * 0.5, 0.045)
        elif style in ("long", "bob"):
            for side in (-1, 1):
                b.ellipse(colour, x + side * (width + 0.02), self.y + 0.02, 0.045, 0.2)
        elif style == "curly":
            for i in range(-3, 4):
                b.ellipse(colour, x + i * width * 0.31, line + 0.015 - 0.008 * (3 - abs(i)), 0.05, 0.05)
        elif style == "afro":
            b.ellipse(colour, x, top + 0.05, width + 0.1, 0.14)

    def glasses(self) -> None:
        b, kind = self.board, self.who.glasses
        if kind == "none":
            return
        for side in (-1, 1):
            x, y, r = self.x + side * self.eye_x + 0.3 * self.shift[0], self.eye_y, 0.074
            if kind == "round":
                b.line(_DARK, 0.014, *self._arc(x, y, r, r, 0, 360))
            elif kind == "square":
                half = 0.055
                corners = ((x - r, y - half), (x + r, y - half), (x + r, y + half), (x - r, y + half))
                b.line(_DARK, 0.014, *corners, corners[0])
            else:
                b.ellipse((30, 30, 38), x, y, r, 0.06)
            b.line(_DARK, 0.012, (x + side * r, y - 0.01), (self.x + side * self.width, y - 0.02))
        b.line(_DARK, 0.014, (self.x - self.eye_x + 0.07, self.eye_y), (self.x + self.eye_x - 0.07, self.eye_y))

    def hat(self) -> None:
        b, kind, colour, x = self.board, self.now.hat, COLOURS[self.now.hat_colour], self.x
        rim, width, dark = self.y - 0.14, self.width + 0.035, _shade(COLOURS[self.now.hat_colour], 0.76)
        if kind == "cap":
            b.ellipse(colour, x, rim, width, rim - self.top + 0.08, arc=(180, 360))
            b.ellipse(dark, x + 0.12, rim, 0.2, 0.035)
        elif kind == "beanie":
            b.ellipse(colour, x, rim, width, rim - self.top + 0.1, arc=(180, 360))
            b.box(dark, x - width, rim - 0.03, x + width, rim + 0.03)
            b.ellipse(_WHITE, x, self.top - 0.09, 0.045, 0.045)
        elif kind == "top hat":
            b.box(colour, x - width * 0.8, self.top - 0.15, x + width * 0.8, rim)
            b.box(dark, x - width * 0.8, rim - 0.08, x + width * 0.8, rim - 0.03)
            b.ellipse(colour, x, rim, width + 0.1, 0.035)
        elif kind == "straw hat":
            b.ellipse(_STRAW, x, rim, width, rim - self.top + 0.06, arc=(180, 360))
            b.box(colour, x - width, rim - 0.05, x + width, rim)
            b.ellipse(_STRAW, x, rim + 0.01, width + 0.15, 0.04)
        elif kind == "party hat":
            b.polygon(colour, (x, 0.0), (x - 0.14, rim - 0.02), (x + 0.14, rim - 0.02))
            b.line(dark, 0.03, (x - 0.1, rim - 0.1), (x + 0.06, rim - 0.13))
            b.ellipse(_WHITE, x, 0.025, 0.03, 0.03)
        elif kind == "crown":
            low, side = self.top + 0.02, self.top - 0.08
            left = [(x - width, rim), (x - width, side), (x - width / 2, low)]
            right = [(2 * x - px, py) for px, py in reversed(left)]
            b.polygon(_GOLD, *left, (x, self.top - 0.1), *right)
            b.ellipse(colour, x, rim - 0.05, 0.035, 0.035)
        elif kind == "headband":
            b.box(colour, x - self.width, rim - 0.02, x + self.width, rim + 0.025)
