"""All pictures of a build as arrays: numbers in memory, embeddings on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .embedders import unit_length
from .extras import require
from .layout import Part, read_metadata, read_vectors

_COLUMNS = {"key": "large_string", "url": "large_string", "phash": "uint64", "quality": "float32", "pixels": "int64"}
_SAME_PAGE = r"^https?://(www\.)?|#.*$"  # http or https, and the place on the page, make no other picture


@dataclass(frozen=True)
class Rows:
    """Pictures, the best first: by quality, then size, then key, whatever the order in which they were read.

    Attributes:
        parts: where embeddings and metadata lie.
        part: number of each picture's part, int64 [N].
        row: its row there, int64 [N].
        keys: pyarrow array of N texts.
        urls: int64 [N], equal numbers for equal URLs, -1 for none.
        hashes: perceptual hashes, uint64 [N], or None if some part has none.
    """

    parts: tuple[Part, ...]
    part: np.ndarray
    row: np.ndarray
    keys: Any
    urls: np.ndarray
    hashes: np.ndarray | None

    def __len__(self) -> int:
        """How many."""
        return len(self.row)


def load_rows(parts: Sequence[Part]) -> Rows:
    """Reads the metadata of all parts.

    Columns that a part lacks are filled: key by the row's number, no URL, no hash, quality 0, size 0.
    """
    arrow, compute = require("pyarrow"), require("pyarrow.compute")
    tables, hashed = [], True
    for number, part in enumerate(parts):
        table = read_metadata(part, tuple(_COLUMNS))
        hashed = hashed and "phash" in table.column_names
        num = len(read_vectors(part.images))
        columns = {
            name: table[name].cast(kind)
            if name in table.column_names
            else arrow.array(_absent(name, number, num), kind)
            for name, kind in _COLUMNS.items()
        }
        places = {"part": np.full(num, number, np.int64), "row": np.arange(num)}
        tables.append(arrow.table({**columns, **places}))
    order = [("quality", "descending"), ("pixels", "descending")]
    order += [(name, "ascending") for name in ("key", "part", "row")]
    table = arrow.concat_tables(tables).sort_by(order)
    pages = compute.replace_substring_regex(compute.fill_null(table["url"], ""), _SAME_PAGE, "")
    codes = pages.combine_chunks().dictionary_encode()
    urls = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    empty = compute.equal(pages, "").to_numpy(zero_copy_only=False)
    return Rows(
        tuple(parts),
        table["part"].to_numpy(),
        table["row"].to_numpy(),
        table["key"].combine_chunks(),
        np.where(empty, -1, urls),
        table["phash"].to_numpy() if hashed else None,
    )


def _absent(name: str, number: int, num: int) -> list[str] | np.ndarray:
    """What stands in place of a column that part `number` lacks."""
    if name == "key":
        return [f"{number:05d}{row:09d}" for row in range(num)]
    return [""] * num if name == "url" else np.zeros(num, _COLUMNS[name])


def take_vectors(parts: Sequence[Part], part: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Embeddings of some rows, float32 [M, D] of unit length, in their order; others stay on disk.

    Args:
        parts: where they lie.
        part: numbers of the parts, int64 [M].
        row: rows there, int64 [M].
    """
    dim = read_vectors(parts[0].images).shape[1]
    vectors = np.empty((len(row), dim), np.float32)
    for number in np.unique(part):
        places = np.flatnonzero(part == number)
        places = places[np.argsort(row[places])]  # one pass over the file
        vectors[places] = read_vectors(parts[number].images)[row[places]]
    return unit_length(vectors)
