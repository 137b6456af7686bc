"""A user's own examples as what a model is fine-tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.recipe import DataRecipe, MixtureEntry
from ..data.report import DataError
from ..data.shards import open_examples

CHECKED_EXAMPLES = 100  # read of each data set before anything is written


def own_data(paths: Sequence[Path]) -> DataRecipe:
    """The recipe of a fine-tuning, in which every example of every data set is shown equally often.

    Args:
        paths: JSONL files and folders of shards.

    Raises:
        DataError: one cannot be read, holds nothing, or holds a damaged example among the first.
    """
    entries: list[MixtureEntry] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist; name a JSONL file or a folder of shards.")
        source = open_examples(path)
        for index in range(min(CHECKED_EXAMPLES, len(source))):
            source[index]
        name = path.stem if path.stem not in {entry.name for entry in entries} else str(path)
        entries.append(MixtureEntry(name, float(len(source)), str(path.resolve())))
    return DataRecipe(stage2=tuple(entries))
