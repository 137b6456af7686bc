"""clip-retrieval's layout of embeddings: what this builder writes for each unit, and reads from others.

    FOLDER/img_emb/img_emb_0.npy            float16 or float32 [N, D]
    FOLDER/text_emb/text_emb_0.npy          the same for the captions; may be missing
    FOLDER/metadata/metadata_0.parquet      N rows: image_path, caption, url, key, ...

Row `i` of the metadata belongs to row `i` of the embeddings of the same number.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.report import DataError
from ..files import make_folder, write_atomically
from .embedders import unit_length
from .extras import require


@dataclass(frozen=True)
class Part:
    """The files of one number.

    Attributes:
        images: embeddings of the pictures.
        metadata: what the rows are.
        texts: embeddings of the captions, if they were made.
    """

    images: Path
    metadata: Path
    texts: Path | None = None


def find_parts(folder: Path) -> tuple[Part, ...]:
    """All parts of a layout, by number.

    Raises:
        DataError: there is none, or one lacks its metadata.
    """
    images = _numbered(folder / "img_emb", ".npy")
    texts = _numbered(folder / "text_emb", ".npy")
    metadata = _numbered(folder / "metadata", ".parquet")
    if not images:
        raise DataError(f"{folder} holds no embeddings; it must hold img_emb/img_emb_0.npy and so on.")
    if missing := sorted(images.keys() - metadata.keys()):
        raise DataError(f"{folder} lacks metadata/metadata_{missing[0]}.parquet, which says what its rows are.")
    return tuple(Part(images[number], metadata[number], texts.get(number)) for number in sorted(images))


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    found = {}
    for path in folder.glob(f"*{suffix}"):
        number = path.stem.rpartition("_")[2]
        if number.isdigit() and not path.name.startswith("."):
            found[int(number)] = path
    return found


def write_part(
    folder: Path,
    images: np.ndarray,
    metadata: Mapping[str, Any],
    texts: np.ndarray | None = None,
    number: int = 0,
) -> Part:
    """Writes one part of a layout, embeddings as float16 unless they are float32 already.

    Args:
        folder: of the layout; made if it does not exist.
        images: float [N, D].
        metadata: columns of N entries each: lists, or arrays of NumPy or pyarrow.
        texts: float [N, D], or None.
        number: of the part.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    part = Part(
        make_folder(folder / "img_emb") / f"img_emb_{number}.npy",
        make_folder(folder / "metadata") / f"metadata_{number}.parquet",
        None if texts is None else make_folder(folder / "text_emb") / f"text_emb_{number}.npy",
    )
    for path, vectors in ((part.images, images), (part.texts, texts)):
        if path is not None and vectors is not None:
            values = vectors if vectors.dtype == np.float32 else vectors.astype(np.float16)
            write_atomically(path, functools.partial(np.save, arr=values, allow_pickle=False))
    table = arrow.table(dict(metadata))
    if table.num_rows != len(images):
        raise DataError(f"{len(images)} embeddings and {table.num_rows} rows of metadata do not fit together.")
    write_atomically(part.metadata, lambda partial: parquet.write_table(table, partial))
    return part


def read_vectors(path: Path) -> np.ndarray:
    """Embeddings, float16 or float32 [N, D], left on disk: only the rows that are used are read.

    Raises:
        DataError: it is no such file.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} holds no embeddings ({error}); make it again.") from error
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{path} must be a matrix of float16 or float32, not {vectors.dtype} with {vectors.ndim} dimensions."
        )
    return vectors


def read_metadata(part: Part, columns: Sequence[str]) -> Any:
    """Those of `columns` that a part's metadata has, as a pyarrow table of as many rows as there are embeddings.

    Raises:
        DataError: it cannot be read, or has another number of rows.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    try:
        known = set(parquet.read_schema(part.metadata).names)
        table = parquet.read_table(part.metadata, columns=[name for name in columns if name in known])
        num_rows = parquet.read_metadata(part.metadata).num_rows
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{part.metadata} cannot be read ({error}).") from error
    if num_rows != len(read_vectors(part.images)):
        raise DataError(f"{part.metadata} has {num_rows} rows, and {part.images.name} another number of them.")
    return table


class StoredEmbeddings:
    """Embeddings that were made elsewhere, found by the key of their picture.

    The key is the metadata's column `key`, or, without it, `image_path` without folders and suffix. In memory are
    the keys alone.

    Args:
        folder: a layout.

    Raises:
        DataError: it has no keys, or the same key twice.
    """

    def __init__(self, folder: Path) -> None:
        self.parts = find_parts(folder)
        self._vectors = [read_vectors(part.images) for part in self.parts]
        self.dim = self._vectors[0].shape[1]
        keys = [_keys_of(part) for part in self.parts]
        flat = np.array([key.encode() for part in keys for key in part], dtype=np.bytes_)
        self._order = np.argsort(flat, kind="stable")
        self._keys = flat[self._order]
        self._starts = np.cumsum([0, *(len(part) for part in keys)])
        if twice := np.flatnonzero(self._keys[1:] == self._keys[:-1]).tolist():
            raise DataError(f"{folder} has two rows of the key {self._keys[twice[0]].decode()!r}; keys must differ.")

    def find(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Looks pictures up by the key of their pair, which is `UNIT/NAME`, or by NAME, or by NAME as a file's stem.

        Returns:
            Whether each is known, bool [N], and float32 [N, D] of unit length, zeros for those that are not.
        """
        known, rows = np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        names = [key.partition("/")[2] or key for key in keys]
        for tried in (keys, names, [Path(name).stem for name in names]):
            wanted = np.array([name.encode() for name in tried], dtype=np.bytes_)
            places = np.minimum(np.searchsorted(self._keys, wanted), max(0, len(self._keys) - 1))
            new = ~known & (self._keys[places] == wanted) if len(self._keys) else known
            rows[new], known = self._order[places[new]], known | new
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        vectors = np.zeros((len(keys), self.dim), np.float32)
        for i in np.flatnonzero(known):
            vectors[i] = self._vectors[numbers[i]][rows[i] - self._starts[numbers[i]]]
        return known, unit_length(vectors)


def _keys_of(part: Part) -> list[str]:
    table = read_metadata(part, ("key", "image_path"))
    if "key" in table.column_names:
        return [str(key) for key in table["key"].to_pylist()]
    if "image_path" in table.column_names:
        return [Path(str(path)).stem for path in table["image_path"].to_pylist()]
    raise DataError(f"{part.metadata} has neither a column key nor image_path; without one no picture can be found.")


@functools.lru_cache(maxsize=1)
def open_stored(folder: Path) -> StoredEmbeddings:
    """The embeddings of a folder, read once in a process."""
    return StoredEmbeddings(folder)
