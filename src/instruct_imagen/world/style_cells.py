"""Cell patterns of the styles: tiles, dots, dabs of paint, triangles.

A pattern is made once for each picture size and (rounded) cell size, at twice
the picture's side, and read through a window placed by the seed.  Making one
takes 10 to 20 ms at 64 pixels, once per process; reading it takes microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .style_textures import CACHE_SIZE, REFERENCE_SIZE_PX, Canvas, hash_unit, read_only


@dataclass(frozen=True)
class Cells:
    """A picture-filling pattern of cells, all arrays [2S, 2S].

    Attributes:
        row: int16 row of the centre of this pixel's cell.
        column: int16 column of that centre.
        shade: float32 in [0, 1), one random value per cell.
        distance: float32 distance to the centre (dabs: across the stroke), pixels at 64 px.
        edge: float32 distance to the cell's border, pixels at 64 px.
    """

    row: np.ndarray
    column: np.ndarray
    shade: np.ndarray
    distance: np.ndarray
    edge: np.ndarray


@dataclass(frozen=True)
class CellView:
    """The part of `Cells` that covers one picture; `index` is into the flat picture."""

    index: np.ndarray
    shade: np.ndarray
    distance: np.ndarray
    edge: np.ndarray

    def sample(self, colour: np.ndarray) -> np.ndarray:
        """Gives every pixel the colour [S, S, 3] found at its cell's centre."""
        return colour.reshape(-1, 3)[self.index]


def view_cells(canvas: Canvas, cells: Cells) -> CellView:
    """Reads a random window of a cell pattern."""
    size = canvas.size
    top, left = (int(x) for x in canvas.rng.integers(0, size + 1, 2))
    part = (slice(top, top + size), slice(left, left + size))
    row = np.clip(cells.row[part] - top, 0, size - 1).astype(np.int32)
    column = np.clip(cells.column[part] - left, 0, size - 1)
    return CellView(row * size + column, cells.shade[part], cells.distance[part], cells.edge[part])


def _lattice(size: int, cell_px: float, jitter: float, salt: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Jittered centres [N, N] (rows, columns) in pixels, with a margin of 3 cells, and N."""
    count = int(np.ceil(2 * size / cell_px)) + 6
    number = np.arange(count * count).reshape(count, count)
    base = (np.arange(count, dtype=np.float32) - 2.5) * cell_px
    rows = base[:, None] + (hash_unit(number, salt + 1) - 0.5) * jitter * cell_px
    columns = base[None, :] + (hash_unit(number, salt + 2) - 0.5) * jitter * cell_px
    return rows.astype(np.float32), columns.astype(np.float32), count


def _neighbours(size: int, cell_px: float, count: int, reach: int) -> Iterator[np.ndarray]:
    """Yields, for each neighbour offset, the flat lattice index [2S, 2S]."""
    home = (np.arange(2 * size) // cell_px).astype(np.int64) + 3
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            yield np.clip(home + down, 0, count - 1)[:, None] * count + np.clip(home + right, 0, count - 1)


@lru_cache(maxsize=CACHE_SIZE)
def voronoi_cells(size: int, cell: float, jitter: float, square: bool = False, salt: int = 0) -> Cells:
    """Cells around jittered lattice points.

    Args:
        size: side of the picture in pixels.
        cell: mean cell side in pixels at 64 px; round it, every value is cached.
        jitter: 0 keeps the lattice, 1 moves points by up to half a cell.
        square: measures by the larger coordinate, which gives squarish tiles.
        salt: chooses another pattern.
    """
    unit = size / REFERENCE_SIZE_PX
    rows, columns, count = _lattice(size, cell * unit, jitter, salt)
    y, x = np.mgrid[0 : 2 * size, 0 : 2 * size].astype(np.float32)
    nearest = np.full(y.shape, np.inf, np.float32)
    second = nearest.copy()
    owner = np.zeros(y.shape, np.int64)
    for index in _neighbours(size, cell * unit, count, 2):
        dy, dx = np.abs(rows.flat[index] - y), np.abs(columns.flat[index] - x)
        distance = np.maximum(dy, dx) if square else np.hypot(dy, dx)
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        nearest = np.where(closer, distance, nearest)
        owner = np.where(closer, index, owner)
    edge = (second - nearest) * np.float32(0.5 / unit)
    return _cells(rows, columns, owner, nearest / np.float32(unit), edge, salt)


@lru_cache(maxsize=CACHE_SIZE)
def brush_cells(size: int, length: float, width: float, salt: int = 0) -> Cells:
    """Overlapping dabs of a flat brush whose direction wanders over the picture.

    Args:
        size: side of the picture in pixels.
        length: length of a dab in pixels at 64 px; round it, every value is cached.
        width: width of a dab in pixels at 64 px.
        salt: chooses another pattern.
    """
    unit = size / REFERENCE_SIZE_PX
    cell_px = 0.5 * length * unit
    rows, columns, count = _lattice(size, cell_px, 1.0, salt)
    flow = cv2.resize(hash_unit(np.arange(36), salt + 5).reshape(6, 6), (count, count), interpolation=cv2.INTER_CUBIC)
    wobble = hash_unit(np.arange(count * count), salt + 6).reshape(count, count)
    angle = (flow * 2.2 + wobble * 0.6) * np.float32(np.pi)
    order = hash_unit(np.arange(count * count), salt + 7)
    y, x = np.mgrid[0 : 2 * size, 0 : 2 * size].astype(np.float32)
    best = np.full(y.shape, -np.inf, np.float32)
    owner = np.zeros(y.shape, np.int64)
    side = np.zeros(y.shape, np.float32)
    edge = np.zeros(y.shape, np.float32)
    for index in _neighbours(size, cell_px, count, 2):
        dy, dx = y - rows.flat[index], x - columns.flat[index]
        cosine, sine = np.cos(angle.flat[index]), np.sin(angle.flat[index])
        along, across = (dx * cosine + dy * sine) / unit, (dy * cosine - dx * sine) / unit
        inside = np.minimum(0.5 * length - np.abs(along), 0.5 * width - np.abs(across))
        # A dab that misses the pixel ranks below every one that covers it.
        rank = np.where(inside > 0, order[index], inside - 1)
        higher = rank > best
        best, owner = np.where(higher, rank, best), np.where(higher, index, owner)
        side, edge = np.where(higher, across, side), np.where(higher, inside, edge)
    return _cells(rows, columns, owner, side, np.maximum(edge, 0), salt)


@lru_cache(maxsize=CACHE_SIZE)
def triangle_cells(size: int, cell: float, salt: int = 0) -> Cells:
    """Triangles between jittered lattice points; `distance` and `edge` are 0.

    Args:
        size: side of the picture in pixels.
        cell: side of a triangle in pixels at 64 px; round it, every value is cached.
        salt: chooses another pattern.
    """
    cell_px = cell * size / REFERENCE_SIZE_PX
    rows, columns, count = _lattice(size, cell_px, 0.7, salt)
    points = np.stack([columns, rows], axis=-1)
    owner = np.zeros((2 * size, 2 * size), np.int32)
    centres: list[np.ndarray] = []
    for i in range(count - 1):
        for j in range(count - 1):
            a, b, c, d = points[i, j], points[i, j + 1], points[i + 1, j + 1], points[i + 1, j]
            for corners in ((a, b, c), (a, c, d)) if (i + j) % 2 else ((a, b, d), (b, c, d)):
                cv2.fillConvexPoly(owner, np.round(corners).astype(np.int32), len(centres))
                centres.append((corners[0] + corners[1] + corners[2]) / 3)
    centre = np.array(centres, np.float32)
    zero = np.zeros(owner.shape, np.float32)
    return _cells(centre[:, 1], centre[:, 0], owner, zero, zero, salt)


def _cells(
    rows: np.ndarray,
    columns: np.ndarray,
    owner: np.ndarray,
    distance: np.ndarray,
    edge: np.ndarray,
    salt: int,
) -> Cells:
    """Looks up, for the cell that owns each pixel, what `Cells` tells of it."""
    shade = hash_unit(np.arange(rows.size), salt + 3)[owner]
    row = np.round(rows.reshape(-1)[owner]).astype(np.int16)
    column = np.round(columns.reshape(-1)[owner]).astype(np.int16)
    parts = (row, column, shade, distance.astype(np.float32), edge.astype(np.float32))
    return Cells(*(read_only(part) for part in parts))
