"""What all sources of real pictures are asked for in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..controls import ControlModels
from ..example import Example
from ..report import DataError, Report


class Embedder(Protocol):
    """Pictures and texts in one space, such as CLIP's; the inner product says how alike two are."""

    def images(self, images: Sequence[Image.Image], /) -> np.ndarray:
        """RGB pictures as float32 [N, D] of unit length."""
        ...

    def texts(self, texts: Sequence[str], /) -> np.ndarray:
        """Texts as float32 [N, D] of unit length."""
        ...


@dataclass(frozen=True)
class SourceOptions:
    """How a corpus becomes examples.

    Attributes:
        seed: of every choice; an example depends on it and on the example's key alone.
        size_px: pictures become squares of this side; None: they keep their shape, the longer side at most
            `building.MAX_SIDE_PX`.
        max_examples: stop after so many (each of several parts after its share); None: the whole corpus.
        part: number of the part of the corpus that is read, where several workers share it.
        num_parts: how many parts there are; together they give the same examples as one alone.
        examples_per_picture: how many examples have the same target, with other words, references or captions.
        controls: draws depth, masks, edges and sketches.
        embedder: filters styled pictures; None: they are not filtered.
        min_style_similarity: of a styled picture and its style reference, as the embedder sees them.
        max_style_similarity: above it the reference is nearly the picture itself, and would teach to copy.
        min_text_similarity: of a styled picture and its caption. The three bounds suit CLIP; measure them anew for
            another embedder.

    Raises:
        DataError: a value is out of range.
    """

    seed: int = 0
    size_px: int | None = None
    max_examples: int | None = None
    part: int = 0
    num_parts: int = 1
    examples_per_picture: int = 1
    controls: ControlModels = field(default_factory=ControlModels.classical)
    embedder: Embedder | None = None
    min_style_similarity: float = 0.6
    max_style_similarity: float = 0.97
    min_text_similarity: float = 0.2

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        least = {"seed": 0, "size_px": 1, "max_examples": 1, "examples_per_picture": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise DataError(f"{name} must be at least {lowest}, not {value}.")
        if not 0 <= self.part < self.num_parts:
            raise DataError(f"part must be from 0 to {self.num_parts - 1}, not {self.part}.")
        if not self.min_style_similarity < self.max_style_similarity:
            raise DataError("min_style_similarity must be below max_style_similarity.")

    def share(self, total: int) -> int:
        """How many of `total` things fall to this part."""
        return len(range(self.part, total, self.num_parts))


@dataclass(frozen=True)
class SourceSpec:
    """One source.

    Attributes:
        name: the data set's.
        task: whose templates it uses.
        layout: the files of the public release, in a paragraph.
        open: reads a corpus and yields its examples; bad records are counted and left out.
    """

    name: str
    task: str
    layout: str
    open: Callable[[Path, Report, SourceOptions], Iterator[Example]]
