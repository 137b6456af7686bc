"""Controls of real pictures: depth, mask, edges and sketch, by models where they are given, else by classical means.

A source asks one `ControlModels` for all of them. What the models give is turned here into the pictures that training
sees, in the form of the rendered world (`world.controls`): white is near, white is the object, white edges on black,
dark strokes on paper.

    controls = ControlModels(depth_model=TransformersDepth("models/dpt-large"))
    controls.draw("edge", picture, rng)             # uint8 [H, W, 3]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from ..world import canny_edges
from ..world.controls import PAPERS, draw_strokes
from .control_models import TransformersDepth, TransformersMask
from .edge_models import OnnxEdges
from .report import DataError
from .templates import CONTROL_TASKS

__all__ = [
    "ControlModels",
    "DepthModel",
    "EdgeModel",
    "MaskModel",
    "OnnxEdges",
    "TransformersDepth",
    "TransformersMask",
    "canny",
    "centre_cut",
]

EDGE_SIDE_PX = 384  # shorter side at which edges are looked for
SKETCH_SIDE_PX = 256
CUT_SIDE_PX = 192
MIN_SIDE_PX = 32  # smaller pictures are enlarged before they are sketched: strokes need room
OBJECT_SHARE = (0.01, 0.95)  # of the picture; a mask with less or more than this shows no object
# Where edge maps come from (§3.2, Table 1: "also from depth and mask"); the shares are ours.
_EDGE_ORIGINS = {"picture": 0.6, "depth": 0.2, "mask": 0.2}
_DILATED_SHARE = 0.3
# Grass, fur and gravel are no contours: a picture is blurred until no more than this share of it is edge.
_BLURS = (0.003, 0.005, 0.008, 0.011, 0.015, 0.02)  # standard deviations, of the shorter side
_MOST_EDGE = 0.07
_MOST_SKETCH = 0.045
_CUT_MARGIN = 0.08  # of each side, taken to be background
_CUT_ROUNDS = 4


class DepthModel(Protocol):
    """Estimates depth."""

    def __call__(self, image: Image.Image, /) -> np.ndarray:
        """RGB [H, W] to float32 [H, W], 0 farthest to 1 nearest."""
        ...


class MaskModel(Protocol):
    """Finds what the picture is about."""

    def __call__(self, image: Image.Image, /) -> np.ndarray:
        """RGB [H, W] to bool [H, W]; all False where it finds nothing."""
        ...


class EdgeModel(Protocol):
    """Finds edges: `canny`, or a learned detector such as the paper's HED through `OnnxEdges`."""

    def __call__(self, image: Image.Image, /) -> np.ndarray:
        """RGB [H, W] to bool [H, W]; edges about one pixel wide."""
        ...


def canny(image: Image.Image) -> np.ndarray:
    """Edges with the world's fixed thresholds; RGB [H, W] to bool [H, W]."""
    return canny_edges(np.asarray(image.convert("RGB")))


def centre_cut(image: Image.Image) -> np.ndarray:
    """The object in the middle, by GrabCut from a frame around it; RGB [H, W] to bool [H, W].

    Classical, needs no weights, and is often wrong in crowded pictures: for tests and machines without models.
    The largest connected part is kept, its holes filled.
    """
    small = np.asarray(_with_short_side(image, CUT_SIDE_PX))[..., ::-1].copy()  # OpenCV reads BGR
    height, width = small.shape[:2]
    left, top = max(1, round(width * _CUT_MARGIN)), max(1, round(height * _CUT_MARGIN))
    labels = np.zeros((height, width), np.uint8)
    ground, figure = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its colour clusters begin at random
    frame = (left, top, width - 2 * left, height - 2 * top)
    cv2.grabCut(small, labels, frame, ground, figure, _CUT_ROUNDS, cv2.GC_INIT_WITH_RECT)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    return _enlarged(_largest_part(found), image.size)


@dataclass(frozen=True)
class ControlModels:
    """What draws the controls of real pictures.

    Attributes:
        depth_model: estimates depth; there is no classical way, so without it depth cannot be asked for.
        mask_model: finds the object, where the picture's own transparency does not show it.
        edge_model: finds edges.
    """

    depth_model: DepthModel | None = None
    mask_model: MaskModel = centre_cut
    edge_model: EdgeModel = canny

    @classmethod
    def classical(cls) -> ControlModels:
        """What needs no weights: everything but depth."""
        return cls()

    def check(self, kind: str) -> None:
        """Refuses, before any work, a kind of control that cannot be drawn.

        Raises:
            DataError: there is no such kind, or no depth model.
        """
        if kind not in CONTROL_TASKS:
            raise DataError(f"There is no control {kind!r}; choose one of {', '.join(CONTROL_TASKS)}.")
        if kind == "depth" and self.depth_model is None:
            raise DataError(
                "Depth maps of real pictures need a model: give ControlModels a depth_model, such as "
                "TransformersDepth(FOLDER), or on the command line --depth-model FOLDER."
            )

    def draw(
        self, kind: str, image: Image.Image, rng: np.random.Generator, alpha: np.ndarray | None = None
    ) -> np.ndarray | None:
        """A control picture.

        Args:
            kind: one of `CONTROL_TASKS`.
            image: RGB [H, W].
            rng: source of the variety of edges and sketches.
            alpha: bool [H, W], what the picture's own transparency leaves, if it has any.

        Returns:
            uint8 [H, W, 3], or None where there is nothing to draw: no object, no edge.

        Raises:
            DataError: see `check`.
        """
        self.check(kind)
        if kind == "depth":
            return self.depth(image)
        if kind == "mask":
            return self.mask(image, alpha)
        if kind == "edge":
            return self.edge(image, rng, alpha)
        return self.sketch(image, rng)

    def depth(self, image: Image.Image) -> np.ndarray:
        """Depth as brightness, white is nearest; uint8 [H, W, 3].

        Raises:
            DataError: there is no depth model.
        """
        self.check("depth")
        assert self.depth_model is not None
        return _as_rgb(np.rint(255 * np.clip(self.depth_model(image), 0, 1)).astype(np.uint8))

    def mask(self, image: Image.Image, alpha: np.ndarray | None = None) -> np.ndarray | None:
        """The object white, the rest black, uint8 [H, W, 3]; None if there is no object."""
        found = self._object(image, alpha)
        return None if found is None else _as_rgb(found.astype(np.uint8) * 255)

    def edge(self, image: Image.Image, rng: np.random.Generator, alpha: np.ndarray | None = None) -> np.ndarray | None:
        """White edges on black, uint8 [H, W, 3]; None if there are none.

        They are those of the picture, of its depth, or of its mask, some of them dilated (§3.2, A.3). Where depth or
        mask has none, they are the picture's.
        """
        edges = self._edges(image, self._origin(rng), alpha)
        if not edges.any():
            edges = self._edges(image, "picture", alpha)
        if not edges.any():
            return None
        width_px = max(1, round(min(edges.shape) / 256))
        if rng.random() < _DILATED_SHARE:
            width_px += int(rng.integers(1, 2 + 2 * width_px))
        if width_px > 1:
            pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
            edges = cv2.dilate(edges.astype(np.uint8), pen) > 0
        return _as_rgb(_enlarged(edges, image.size).astype(np.uint8) * 255)

    def sketch(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray | None:
        """Wobbly, broken dark strokes along the long edges, uint8 [H, W, 3]; None if there are no long edges."""
        small = np.asarray(_with_short_side(image, SKETCH_SIDE_PX))
        edges = self._calm_edges(small, _MOST_SKETCH)
        lines = _long_lines(edges, round(min(small.shape[:2]) / 10))
        if not lines.any():
            return None
        paper = np.empty_like(small)
        paper[:] = PAPERS[int(rng.integers(len(PAPERS)))]
        width_px = max(1, round(min(small.shape[:2]) / 192 * float(rng.uniform(0.8, 1.5))))
        draw_strokes(paper, lines.astype(np.uint8), rng, width_px, float(rng.uniform(20, 70)), repeats=1)
        return np.asarray(Image.fromarray(paper).resize(image.size, Image.Resampling.BICUBIC))

    def _object(self, image: Image.Image, alpha: np.ndarray | None) -> np.ndarray | None:
        if alpha is not None and _shows_object(alpha):
            return alpha
        found = self.mask_model(image)
        return found if _shows_object(found) else None

    def _origin(self, rng: np.random.Generator) -> str:
        names = [name for name in _EDGE_ORIGINS if name != "depth" or self.depth_model is not None]
        shares = np.array([_EDGE_ORIGINS[name] for name in names])
        return names[int(rng.choice(len(names), p=shares / shares.sum()))]

    def _edges(self, image: Image.Image, origin: str, alpha: np.ndarray | None) -> np.ndarray:
        """Bool [h, w], at the size at which edges are looked for."""
        small = _with_short_side(image, EDGE_SIDE_PX)
        if origin == "depth":
            return canny(_with_short_side(Image.fromarray(self.depth(image)), EDGE_SIDE_PX))
        if origin == "mask" and (mask := self.mask(image, alpha)) is not None:
            inside = np.asarray(Image.fromarray(mask).resize(small.size, Image.Resampling.NEAREST))[..., 0]
            return (inside > 0) & (cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=255) == 0)
        return self._calm_edges(np.asarray(small), _MOST_EDGE)

    def _calm_edges(self, image: np.ndarray, most: float) -> np.ndarray:
        """Edges of a picture, uint8 [H, W, 3] to bool [H, W], after as little blur as leaves no more than `most`."""
        edges = self.edge_model(Image.fromarray(image))
        for blur in _BLURS:
            if edges.mean() <= most:
                break
            blurred = cv2.GaussianBlur(image, (0, 0), blur * min(image.shape[:2]))
            edges = self.edge_model(Image.fromarray(blurred))
        return edges


def _shows_object(mask: np.ndarray) -> bool:
    return bool(OBJECT_SHARE[0] <= mask.mean() <= OBJECT_SHARE[1])


def _with_short_side(image: Image.Image, side_px: int) -> Image.Image:
    """RGB whose shorter side is at most `side_px` and at least MIN_SIDE_PX."""
    short = min(image.size)
    scale = min(max(short, MIN_SIDE_PX), side_px) / short
    rgb = image.convert("RGB")
    if scale == 1:
        return rgb
    return rgb.resize((_scaled(image.width, scale), _scaled(image.height, scale)), Image.Resampling.LANCZOS)


def _scaled(side_px: int, scale: float) -> int:
    return max(1, round(side_px * scale))


def _enlarged(found: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bool [h, w] as bool [H, W], `size` being (W, H)."""
    if found.shape == (size[1], size[0]):
        return found > 0
    picture = Image.fromarray((found > 0).astype(np.uint8) * 255)
    return np.asarray(picture.resize((size[0], size[1]), Image.Resampling.NEAREST)) > 127


def _largest_part(found: np.ndarray) -> np.ndarray:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    if count < 2:
        return found > 0
    largest = (parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    outlines, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(largest, outlines, -1, 1, cv2.FILLED) > 0


def _long_lines(edges: np.ndarray, shortest_px: int) -> np.ndarray:
    """Edges without the connected parts of fewer than `shortest_px` pixels."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8), connectivity=8)
    long = stats[:, cv2.CC_STAT_AREA] >= shortest_px
    long[0] = False  # what is no edge
    return long[parts]


def _as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)
