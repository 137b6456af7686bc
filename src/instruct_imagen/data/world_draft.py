"""What an example of the glyph world is made of, before and after it has words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..world import GRANULARITIES, Render, Scene, Style, depth_map, edge_map, mask_map, sketch
from .example import Example
from .world_edit import WorldEdit

PLAIN_STYLE = Style("plain", ())


@dataclass(frozen=True)
class WorldExample:
    """An example together with what the world knows about it.

    Attributes:
        example: what training and the model see.
        scene: the target's scene.
        picture: the target's render.
        glyphs: keys of the glyphs shown by subject references, in the order of their markers.
        control: kind of the control among the references; empty if there is none.
        edit: what is edited, in an example of editing.
    """

    example: Example
    scene: Scene
    picture: Render
    glyphs: tuple[str, ...] = ()
    control: str = ""
    edit: WorldEdit | None = None


@dataclass(frozen=True)
class Draft:
    """A scene to draw, the template's slots, per marker its (picture, text) pairs, and what `WorldExample` keeps."""

    scene: Scene
    slots: dict[str, str]
    references: tuple[tuple[tuple[np.ndarray, str], ...], ...] = ()
    picture: Render | None = None
    glyphs: tuple[str, ...] = ()
    control: str = ""
    edit: WorldEdit | None = None


def control_picture(kind: str, picture: Render, rng: np.random.Generator) -> np.ndarray:
    """A control as training sees it, uint8 [S, S, 3]; edges vary in granularity, width and completeness (A.3)."""
    if kind == "depth":
        return depth_map(picture)
    if kind == "mask":
        return mask_map(picture)
    if kind == "sketch":
        return sketch(picture, rng)
    granularity = GRANULARITIES[int(rng.choice(len(GRANULARITIES), p=(0.15, 0.25, 0.6)))]
    careless = rng if rng.random() < 0.3 else None
    return edge_map(picture, granularity, 1 + int(rng.random() < 0.25), careless)


def as_image(array: np.ndarray) -> Image.Image:
    """A picture, uint8 [S, S, 3]."""
    return Image.fromarray(array, "RGB")
