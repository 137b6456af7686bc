"""Building blocks of the styles: the canvas, cached textures, lines, colours.

Textures are made once for each picture size from integer hashes, kept in
bounded caches at twice the picture's side, and read through a window whose
place depends on the seed: two pictures of one style share a texture but not
its position.  All lengths are given in pixels of a 64-pixel picture and grow
with the picture.  Floating colours are RGB in [0, 1].
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

REFERENCE_SIZE_PX = 64
CACHE_SIZE = 64


@dataclass(frozen=True)
class Canvas:
    """What a style function paints from.

    Attributes:
        image: uint8 RGB [S, S, 3].
        mask: bool [S, S], the union of the subjects.
        depth: float32 [S, S]; only its steps are used, so either sign will do.
        rng: generator of this picture's texture positions.
    """

    image: np.ndarray
    mask: np.ndarray
    depth: np.ndarray
    rng: np.random.Generator

    @property
    def size(self) -> int:
        """Side S of the picture in pixels."""
        return self.image.shape[0]

    @property
    def unit(self) -> float:
        """Pixels of this picture per pixel of a 64-pixel picture."""
        return self.size / REFERENCE_SIZE_PX

    def px(self, length: float) -> int:
        """Length for a 64-pixel picture as whole pixels here (at least 1)."""
        return max(1, int(round(length * self.unit)))

    def colour(self) -> np.ndarray:
        """The picture as float32 [S, S, 3] in [0, 1]."""
        return self.image.astype(np.float32) * (1 / 255)

    def grey(self) -> np.ndarray:
        """Luminance, float32 [S, S] in [0, 1]."""
        return cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY).astype(np.float32) * (1 / 255)

    def subject(self) -> np.ndarray:
        """The mask as float32 [S, S] in {0, 1}."""
        return self.mask.astype(np.float32)

    def window(self, texture: np.ndarray) -> np.ndarray:
        """A random [S, S] view of a texture at least as large."""
        top, left = self.rng.integers(0, texture.shape[0] - self.size + 1, 2)
        return texture[top : top + self.size, left : left + self.size]


# --- colours -----------------------------------------------------------------


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """float32 [3] RGB of a colour given as HSV in [0, 1]; the hue wraps."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def blend(first: np.ndarray, second: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """`first` where amount is 0 and `second` where it is 1, [S, S, 3] float32."""
    return first + (second - first) * amount[..., None]


def saturate(colour: np.ndarray, factor: float) -> np.ndarray:
    """Scales the distance of [..., 3] colours from their own grey."""
    grey = colour @ np.array([0.3, 0.59, 0.11], np.float32)
    return np.clip(grey[..., None] + (colour - grey[..., None]) * np.float32(factor), 0, 1)


def posterise(values: np.ndarray, levels: float) -> np.ndarray:
    """Rounds values in [0, 1] to about `levels` equal steps."""
    steps = np.float32(max(1, round(levels) - 1))
    return np.round(values * steps) / steps


def ramp(values: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Colours [S, S, 3] for values in [0, 1] along evenly spaced stops [N, 3]."""
    places = np.linspace(0, 1, len(stops))
    grid = np.linspace(0, 1, 256)
    table = np.stack([np.interp(grid, places, stops[:, c]) for c in range(3)], axis=1)
    index = np.clip(values * 255, 0, 255).astype(np.uint8)
    return table.astype(np.float32)[index]


# --- lines and fields --------------------------------------------------------


def blur(values: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur; `sigma_px` in pixels of this picture."""
    return cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)


def subject_outline(canvas: Canvas, width: float = 1.0) -> np.ndarray:
    """Contour of the mask and of depth steps, float32 [S, S] in {0, 1}."""
    side = canvas.px(width) + 1
    kernel = np.ones((side, side), np.uint8)
    ring = cv2.morphologyEx(canvas.mask.astype(np.uint8), cv2.MORPH_GRADIENT, kernel)
    spread = max(float(np.ptp(canvas.depth)), 0.25)
    steps = cv2.morphologyEx(canvas.depth.astype(np.float32), cv2.MORPH_GRADIENT, kernel)
    return np.maximum(ring, steps > 0.12 * spread).astype(np.float32)


def colour_edges(canvas: Canvas, threshold: float = 0.10, gain: float = 4.0, width: float = 1.0) -> np.ndarray:
    """Strength of colour steps, float32 [S, S] in [0, 1]."""
    side = canvas.px(width) + 1
    soft = blur(canvas.image, 0.6 * canvas.unit)
    steps = cv2.morphologyEx(soft, cv2.MORPH_GRADIENT, np.ones((side, side), np.uint8))
    red, green, blue = cv2.split(steps)
    strongest = cv2.max(cv2.max(red, green), blue).astype(np.float32) * (1 / 255)
    return np.clip((strongest - threshold) * gain, 0, 1)


def drawn_lines(canvas: Canvas, inner: float = 0.8, width: float = 1.0, threshold: float = 0.10) -> np.ndarray:
    """Outline of the subject with the inner lines at strength `inner`."""
    edges = colour_edges(canvas, threshold=threshold, width=width)
    # Grounds are drawn more lightly than subjects, as an artist would.
    edges *= np.where(canvas.mask, np.float32(inner), np.float32(0.6 * inner))
    return np.maximum(edges, subject_outline(canvas, width))


@lru_cache(maxsize=16)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column coordinates, two float32 [S, S], in pixels at 64 px."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) * (REFERENCE_SIZE_PX / size)
    return read_only(rows), read_only(columns)


@lru_cache(maxsize=16)
def vignette(size: int) -> np.ndarray:
    """Distance from the centre, float32 [S, S]: 0 there, 1 at mid-edge, 1.41 in a corner."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    return read_only(np.hypot(axis[:, None], axis[None, :]))


@lru_cache(maxsize=16)
def tube_radius(size: int) -> np.ndarray:
    """Like `vignette` with nearly square rings, as the face of a picture tube."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1) ** 6
    return read_only((axis[:, None] + axis[None, :]) ** np.float32(1 / 6))


@lru_cache(maxsize=16)
def border_distance(size: int) -> np.ndarray:
    """Distance to the nearest border, float32 [S, S], in pixels at 64 px."""
    axis = np.minimum(np.arange(size), np.arange(size)[::-1]).astype(np.float32)
    return read_only(np.minimum(axis[:, None], axis[None, :]) * np.float32(REFERENCE_SIZE_PX / size))


def stripes(canvas: Canvas, period: float, angle_deg: float, bend: np.ndarray | float = 0.0) -> np.ndarray:
    """A cosine wave in [0, 1], float32 [S, S]; `bend` shifts it, in pixels at 64 px."""
    rows, columns = grid(canvas.size)
    angle = np.deg2rad(angle_deg)
    along = rows * np.float32(np.cos(angle)) + columns * np.float32(np.sin(angle)) + bend
    phase = canvas.rng.random()
    return 0.5 + 0.5 * np.cos(along * np.float32(2 * np.pi / period) + np.float32(2 * np.pi * phase))


# --- noise -------------------------------------------------------------------


def read_only(array: np.ndarray) -> np.ndarray:
    """Locks an array that a cache will hand out again."""
    array.setflags(write=False)
    return array


def hash_unit(values: np.ndarray, salt: int) -> np.ndarray:
    """Integer hash of an integer array to float32 in [0, 1)."""
    x = (values.astype(np.uint32) + np.uint32(0x9E3779B9 * (salt + 1) & 0xFFFFFFFF)).astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) * np.float32(1 / (1 << 24))


@lru_cache(maxsize=CACHE_SIZE)
def white_noise(size: int, salt: int = 0) -> np.ndarray:
    """Independent values in [0, 1), float32 [2S, 2S]."""
    return read_only(hash_unit(np.arange(4 * size * size), salt).reshape(2 * size, 2 * size))


@lru_cache(maxsize=CACHE_SIZE)
def smooth_noise(size: int, height: float, width: float, salt: int = 0) -> np.ndarray:
    """Smooth noise spread evenly over [0, 1], float32 [2S, 2S].

    Args:
        size: side of the picture in pixels.
        height: grain height in pixels at 64 px.
        width: grain width in pixels at 64 px.
        salt: chooses another noise.
    """
    rows = int(2 * REFERENCE_SIZE_PX / height) + 2
    columns = int(2 * REFERENCE_SIZE_PX / width) + 2
    lattice = hash_unit(np.arange(rows * columns), salt + 101).reshape(rows, columns)
    field = cv2.resize(lattice, (2 * size, 2 * size), interpolation=cv2.INTER_CUBIC)
    ranks = np.searchsorted(np.sort(field, axis=None), field)
    return read_only((ranks * (1 / field.size)).astype(np.float32))


def streaks(canvas: Canvas, length: float, width: float, angle_deg: float, salt: int = 0) -> np.ndarray:
    """Noise drawn out along an angle, float32 [S, S] in [0, 1]; 0 degrees is horizontal."""
    texture = smooth_noise(canvas.size, width, length, salt)
    half = canvas.size / 2
    turn: np.ndarray = cv2.getRotationMatrix2D((2 * half, 2 * half), angle_deg, 1.0)
    turn[:, 2] += canvas.rng.uniform(-0.25, 0.25, 2) * canvas.size - half
    return cv2.warpAffine(texture, turn, (canvas.size, canvas.size), borderMode=cv2.BORDER_REFLECT_101)


# --- square blocks ----------------------------------------------------------


def blocks(values: np.ndarray, cell_px: int) -> np.ndarray:
    """Mean over square cells, one value per cell: float32 [N, N(, 3)], N = ceil(S / cell)."""
    count = -(-values.shape[0] // cell_px)
    extra = count * cell_px - values.shape[0]
    if extra:
        values = cv2.copyMakeBorder(values, 0, extra, 0, extra, cv2.BORDER_REPLICATE)
    return cv2.resize(values.astype(np.float32), (count, count), interpolation=cv2.INTER_AREA)


def enlarge(cells: np.ndarray, cell_px: int, size: int) -> np.ndarray:
    """Repeats each cell `cell_px` times both ways and cuts to [S, S(, 3)]."""
    side = cells.shape[0] * cell_px
    return cv2.resize(cells, (side, side), interpolation=cv2.INTER_NEAREST)[:size, :size]


@lru_cache(maxsize=CACHE_SIZE)
def within_cell(size: int, cell_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column inside a square cell, two float32 [S, S] in (0, 1)."""
    axis = ((np.arange(size) % cell_px).astype(np.float32) + 0.5) / cell_px
    return read_only(np.repeat(axis[:, None], size, 1)), read_only(np.repeat(axis[None, :], size, 0))


def subject_and_ground(canvas: Canvas, sigma_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Blurred colours of subject and ground that do not bleed into each other."""
    colour = canvas.colour()
    inside = canvas.subject()
    weight = blur(inside, sigma_px)[..., None]
    part = blur(colour * inside[..., None], sigma_px)
    whole = blur(colour, sigma_px)
    return part / np.maximum(weight, 1e-3), (whole - part) / np.maximum(1 - weight, 1e-3)
