"""Shapes drawn in code: the built-in glyph pack for machines without a colour font."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from instruct_imagen.world.board import Board, Colour, Point

RED, ORANGE, YELLOW, GREEN = (222, 50, 46), (245, 140, 30), (250, 205, 50), (60, 160, 70)
BLUE, PURPLE, PINK, BROWN = (50, 110, 215), (140, 70, 185), (245, 130, 175), (135, 85, 50)
WHITE, GREY, DARK, SKY = (245, 245, 240), (140, 148, 155), (50, 50, 60), (120, 200, 240)
TEAL, LIME, NAVY, SAND = (30, 160, 155), (155, 205, 60), (35, 55, 115), (230, 195, 140)


def draw_shapes() -> list[tuple[str, tuple[str, ...], np.ndarray]]:
    """Name, synonyms and picture (uint8 [384, 384, 4], straight alpha) of every built-in shape."""
    shapes: list[tuple[str, tuple[str, ...], np.ndarray]] = []
    for name, synonyms, draw, colours in _SHAPES:
        board = Board()
        draw(board, *colours)
        shapes.append((name, synonyms, board.pixels))
    return shapes


def _ring_points(count: int, radii: Sequence[float], start_deg: float = -90) -> list[Point]:
    angles = [math.radians(start_deg + 360 * i / count) for i in range(count)]
    return [
        (0.5 + radii[i % len(radii)] * math.cos(a), 0.5 + radii[i % len(radii)] * math.sin(a))
        for i, a in enumerate(angles)
    ]


def _star(b: Board, colour: Colour) -> None:
    b.polygon(colour, *_ring_points(10, (0.48, 0.2)))


def _cube(b: Board, top: Colour, left: Colour, right: Colour) -> None:
    b.polygon(top, (0.5, 0.05), (0.9, 0.26), (0.5, 0.48), (0.1, 0.26))
    b.polygon(left, (0.1, 0.26), (0.5, 0.48), (0.5, 0.95), (0.1, 0.72))
    b.polygon(right, (0.9, 0.26), (0.5, 0.48), (0.5, 0.95), (0.9, 0.72))


def _heart(b: Board, colour: Colour) -> None:
    b.ellipse(colour, 0.29, 0.32, 0.22, 0.22)
    b.ellipse(colour, 0.71, 0.32, 0.22, 0.22)
    b.polygon(colour, (0.11, 0.44), (0.5, 0.3), (0.89, 0.44), (0.5, 0.92))


def _tree(b: Board, leaf: Colour) -> None:
    b.box(BROWN, 0.43, 0.6, 0.57, 0.98)
    for x, y, r in ((0.5, 0.24, 0.22), (0.3, 0.44, 0.22), (0.7, 0.44, 0.22), (0.5, 0.46, 0.22)):
        b.ellipse(leaf, x, y, r, r)


def _fir(b: Board, leaf: Colour) -> None:
    b.box(BROWN, 0.44, 0.8, 0.56, 0.98)
    for top, half, bottom in ((0.02, 0.2, 0.34), (0.2, 0.28, 0.58), (0.42, 0.36, 0.84)):
        b.polygon(leaf, (0.5, top), (0.5 + half, bottom), (0.5 - half, bottom))


def _house(b: Board, wall: Colour, roof: Colour) -> None:
    b.box(wall, 0.14, 0.42, 0.86, 0.95)
    b.polygon(roof, (0.5, 0.05), (0.98, 0.46), (0.02, 0.46))
    b.box(BROWN, 0.42, 0.62, 0.58, 0.95)
    b.box(SKY, 0.2, 0.54, 0.35, 0.69)
    b.box(SKY, 0.65, 0.54, 0.8, 0.69)


def _fish(b: Board, body: Colour, fin: Colour) -> None:
    b.polygon(fin, (0.68, 0.5), (0.98, 0.25), (0.98, 0.75))
    b.polygon(fin, (0.35, 0.32), (0.5, 0.12), (0.65, 0.34))
    b.ellipse(body, 0.42, 0.5, 0.38, 0.24)
    b.ellipse(WHITE, 0.2, 0.44, 0.06, 0.06)
    b.ellipse(DARK, 0.19, 0.44, 0.03, 0.03)


def _sun(b: Board, disc: Colour, rays: Colour) -> None:
    b.polygon(rays, *_ring_points(24, (0.48, 0.33)))
    b.ellipse(disc, 0.5, 0.5, 0.29, 0.29)


def _moon(b: Board, colour: Colour) -> None:
    b.ellipse(colour, 0.45, 0.5, 0.42, 0.42)
    b.ellipse(None, 0.63, 0.4, 0.36, 0.36)


def _flower(b: Board, petal: Colour, heart: Colour) -> None:
    b.line(GREEN, 0.05, (0.5, 0.4), (0.5, 0.98))
    b.ellipse(GREEN, 0.63, 0.8, 0.15, 0.06, -30)
    for x, y in _ring_points(6, (0.22,)):
        b.ellipse(petal, x, y - 0.18, 0.14, 0.14)
    b.ellipse(heart, 0.5, 0.32, 0.13, 0.13)


def _car(b: Board, body: Colour) -> None:
    b.polygon(body, (0.22, 0.48), (0.34, 0.26), (0.66, 0.26), (0.8, 0.48))
    b.polygon(SKY, (0.3, 0.46), (0.38, 0.32), (0.48, 0.32), (0.48, 0.46))
    b.polygon(SKY, (0.53, 0.46), (0.53, 0.32), (0.63, 0.32), (0.71, 0.46))
    b.box(body, 0.03, 0.46, 0.97, 0.68)
    for x in (0.25, 0.75):
        b.ellipse(DARK, x, 0.68, 0.11, 0.11)
        b.ellipse(GREY, x, 0.68, 0.05, 0.05)


def _boat(b: Board, hull: Colour, sail: Colour) -> None:
    b.polygon(hull, (0.05, 0.7), (0.95, 0.7), (0.78, 0.92), (0.22, 0.92))
    b.line(BROWN, 0.03, (0.5, 0.05), (0.5, 0.7))
    b.polygon(sail, (0.54, 0.08), (0.88, 0.62), (0.54, 0.62))
    b.polygon(WHITE, (0.46, 0.16), (0.46, 0.62), (0.16, 0.62))


def _mushroom(b: Board, cap: Colour) -> None:
    b.box(SAND, 0.38, 0.48, 0.62, 0.95)
    b.ellipse(cap, 0.5, 0.54, 0.45, 0.46, arc=(180, 360))
    for x, y, r in ((0.5, 0.22, 0.08), (0.26, 0.42, 0.07), (0.74, 0.42, 0.07)):
        b.ellipse(WHITE, x, y, r, r)


def _apple(b: Board, colour: Colour) -> None:
    b.line(BROWN, 0.04, (0.5, 0.32), (0.56, 0.08))
    b.ellipse(GREEN, 0.67, 0.14, 0.12, 0.06, -20)
    b.ellipse(colour, 0.36, 0.6, 0.28, 0.34)
    b.ellipse(colour, 0.64, 0.6, 0.28, 0.34)


def _cup(b: Board, colour: Colour) -> None:
    b.ellipse(colour, 0.74, 0.5, 0.2, 0.19)
    b.ellipse(None, 0.74, 0.5, 0.12, 0.11)
    b.polygon(colour, (0.1, 0.2), (0.74, 0.2), (0.66, 0.9), (0.18, 0.9))
    b.ellipse(BROWN, 0.42, 0.21, 0.32, 0.06)


def _umbrella(b: Board, one: Colour, two: Colour) -> None:
    b.line(DARK, 0.04, (0.5, 0.1), (0.5, 0.88), (0.6, 0.94), (0.68, 0.86))
    b.ellipse(one, 0.5, 0.52, 0.47, 0.46, arc=(180, 360))
    b.ellipse(two, 0.5, 0.52, 0.18, 0.46, arc=(180, 360))


def _balloon(b: Board, colour: Colour) -> None:
    b.line(DARK, 0.02, (0.5, 0.66), (0.46, 0.82), (0.53, 0.98))
    b.polygon(colour, (0.5, 0.6), (0.57, 0.7), (0.43, 0.7))
    b.ellipse(colour, 0.5, 0.34, 0.29, 0.33)
    b.ellipse(WHITE, 0.4, 0.22, 0.05, 0.09, 25)


def _snowman(b: Board) -> None:
    b.ellipse(WHITE, 0.5, 0.72, 0.26, 0.26)
    b.ellipse(WHITE, 0.5, 0.34, 0.18, 0.18)
    b.box(DARK, 0.36, 0.02, 0.64, 0.18)
    b.box(DARK, 0.28, 0.16, 0.72, 0.21)
    b.polygon(ORANGE, (0.5, 0.33), (0.72, 0.37), (0.5, 0.4))
    for x, y in ((0.44, 0.29), (0.56, 0.29), (0.5, 0.62), (0.5, 0.76)):
        b.ellipse(DARK, x, y, 0.025, 0.025)


def _rocket(b: Board, body: Colour, fins: Colour) -> None:
    b.polygon(ORANGE, (0.38, 0.78), (0.62, 0.78), (0.5, 0.99))
    b.polygon(fins, (0.32, 0.52), (0.14, 0.86), (0.36, 0.78))
    b.polygon(fins, (0.68, 0.52), (0.86, 0.86), (0.64, 0.78))
    b.ellipse(body, 0.5, 0.44, 0.2, 0.42)
    b.ellipse(SKY, 0.5, 0.36, 0.09, 0.09)


def _book(b: Board, cover: Colour) -> None:
    b.box(cover, 0.14, 0.05, 0.84, 0.95)
    b.box(WHITE, 0.2, 0.84, 0.84, 0.91)
    b.box(WHITE, 0.34, 0.22, 0.7, 0.34)


def _key(b: Board, colour: Colour) -> None:
    b.ellipse(colour, 0.24, 0.5, 0.22, 0.22)
    b.ellipse(None, 0.2, 0.5, 0.09, 0.09)
    b.box(colour, 0.42, 0.44, 0.97, 0.56)
    b.box(colour, 0.72, 0.5, 0.79, 0.72)
    b.box(colour, 0.88, 0.5, 0.95, 0.76)


def _gem(b: Board, light: Colour, dark: Colour) -> None:
    b.polygon(dark, (0.05, 0.38), (0.95, 0.38), (0.5, 0.92))
    b.polygon(light, (0.24, 0.12), (0.76, 0.12), (0.95, 0.38), (0.05, 0.38))
    b.polygon(light, (0.34, 0.38), (0.66, 0.38), (0.5, 0.92))


def _ring(b: Board, colour: Colour) -> None:
    b.ellipse(colour, 0.5, 0.5, 0.46, 0.46)
    b.ellipse(None, 0.5, 0.5, 0.24, 0.24)


def _cat(b: Board, fur: Colour) -> None:
    b.polygon(fur, (0.1, 0.05), (0.45, 0.28), (0.1, 0.6))
    b.polygon(fur, (0.9, 0.05), (0.55, 0.28), (0.9, 0.6))
    b.ellipse(fur, 0.5, 0.58, 0.43, 0.36)
    for x in (0.33, 0.67):
        b.ellipse(WHITE, x, 0.52, 0.08, 0.09)
        b.ellipse(DARK, x, 0.53, 0.04, 0.07)
    b.polygon(PINK, (0.44, 0.66), (0.56, 0.66), (0.5, 0.73))


def _pyramid(b: Board, light: Colour, dark: Colour) -> None:
    b.polygon(light, (0.42, 0.1), (0.02, 0.88), (0.6, 0.95))
    b.polygon(dark, (0.42, 0.1), (0.6, 0.95), (0.98, 0.72))


def _ball(b: Board, one: Colour, two: Colour) -> None:
    b.ellipse(one, 0.5, 0.5, 0.46, 0.46)
    b.ellipse(two, 0.5, 0.5, 0.46, 0.16, 30)


def _arrow(b: Board, colour: Colour) -> None:
    b.polygon(
        colour,
        (0.02, 0.38),
        (0.55, 0.38),
        (0.55, 0.14),
        (0.98, 0.5),
        (0.55, 0.86),
        (0.55, 0.62),
        (0.02, 0.62),
    )


def _cross(b: Board, colour: Colour) -> None:
    b.box(colour, 0.36, 0.04, 0.64, 0.96)
    b.box(colour, 0.04, 0.36, 0.96, 0.64)


_SHAPES: tuple[tuple[str, tuple[str, ...], Callable[..., None], tuple[Colour, ...]], ...] = (
    ("red star", (), _star, (RED,)),
    ("yellow star", (), _star, (YELLOW,)),
    ("blue cube", ("blue box",), _cube, (SKY, BLUE, NAVY)),
    ("orange cube", ("orange box",), _cube, (YELLOW, ORANGE, BROWN)),
    ("pink heart", (), _heart, (PINK,)),
    ("purple heart", (), _heart, (PURPLE,)),
    ("green tree", ("leafy tree",), _tree, (GREEN,)),
    ("fir tree", ("conifer",), _fir, ((25, 110, 75),)),
    ("house", ("cottage",), _house, (SAND, RED)),
    ("fish", (), _fish, (ORANGE, RED)),
    ("sun", (), _sun, (YELLOW, ORANGE)),
    ("crescent moon", ("moon",), _moon, (YELLOW,)),
    ("blue flower", ("blue blossom",), _flower, (BLUE, YELLOW)),
    ("red car", ("automobile",), _car, (RED,)),
    ("teal car", (), _car, (TEAL,)),
    ("sailboat", ("yacht",), _boat, (BROWN, RED)),
    ("mushroom", ("toadstool",), _mushroom, (RED,)),
    ("green apple", ("apple",), _apple, (LIME,)),
    ("blue cup", ("mug",), _cup, (BLUE,)),
    ("umbrella", ("parasol",), _umbrella, (PURPLE, PINK)),
    ("red balloon", ("balloon",), _balloon, (RED,)),
    ("snowman", (), _snowman, ()),
    ("rocket", ("spaceship",), _rocket, (GREY, RED)),
    ("green book", ("book",), _book, (GREEN,)),
    ("golden key", ("key",), _key, ((225, 170, 40),)),
    ("gem", ("jewel",), _gem, (SKY, BLUE)),
    ("teal ring", ("hoop",), _ring, (TEAL,)),
    ("grey cat", ("cat",), _cat, (GREY,)),
    ("orange cat", (), _cat, (ORANGE,)),
    ("pyramid", (), _pyramid, (SAND, (180, 130, 75))),
    ("striped ball", ("ball",), _ball, (BLUE, YELLOW)),
    ("purple arrow", ("arrow",), _arrow, (PURPLE,)),
    ("lime cross", ("plus",), _cross, (LIME,)),
)
