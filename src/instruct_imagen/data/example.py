"""The one record of training and evaluation, for every stage and every source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from ..instruction import Instruction


@dataclass(frozen=True)
class Example:
    """An instruction with its references and the picture that fulfils it.

    Attributes:
        instruction: text and references.
        target: RGB picture.
        task: the dataset or task it belongs to; losses are logged by it.
        key: unique in its source.
        subjects: bool [S, S], where in the target its subjects are, if the source knows.
    """

    instruction: Instruction
    target: Image.Image
    task: str
    key: str
    subjects: np.ndarray | None = None


class ExampleSource(Protocol):
    """An endless, random-access source: example `index` depends on the source's seed and `index` alone.

    So a position in the data is one integer, and resuming or sharding over processes is exact.
    """

    def __getitem__(self, index: int) -> Example:
        """The example at `index` >= 0."""
        ...
