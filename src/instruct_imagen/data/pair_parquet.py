"""Pairs out of parquet files with the pictures in them: img2dataset's, and Hugging Face's `{bytes, path}` columns."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .pair_captions import CAPTION_NAMES, URL_NAMES, Record, find_words
from .pair_record import READ, Pair, SampleError, Unit, check_picture_size, count_pairs, printable
from .report import DataError, Report

# Column names in the order in which they are tried, in any case. A column of pictures may have any name if it is the
# only one of its type.
IMAGE_NAMES = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes", "picture", "content")
KEY_NAMES = ("key", "__key__")
STATUS_NAMES = ("status",)

_BATCH_ROWS = 16  # pictures in memory at a time
_BUFFER_BYTES = 1 << 20  # without a buffer, pyarrow reads a column of a whole row group at once


def require_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet, imported by name since their types are not published.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            "Parquet files are read with pyarrow, which is not installed: pip install 'instruct-imagen[data]'."
        ) from error


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what; `texts` are captions, address and status, those that there are."""

    image: str | None
    key: str | None
    texts: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.image, self.key, *self.texts) if name is not None))


def _find_columns(schema: Any) -> _Columns:
    types = require_pyarrow()[0].types
    fields = {name: schema.field(position).type for position, name in reversed(list(enumerate(schema.names)))}
    lower = {name.lower(): name for name in fields}

    def is_binary(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    def is_image(kind: Any) -> bool:
        if types.is_struct(kind):
            position = kind.get_field_index("bytes")
            return position >= 0 and is_binary(kind.field(position).type)
        return is_binary(kind)

    texts = tuple(lower[name] for name in (*CAPTION_NAMES, *URL_NAMES, *STATUS_NAMES) if name in lower)
    key = next((lower[name] for name in KEY_NAMES if name in lower), None)
    images = [name for name, kind in fields.items() if is_image(kind) and name not in (*texts, key)]
    named = [lower[name] for name in IMAGE_NAMES if lower.get(name) in images]
    image = named[0] if named else images[0] if len(images) == 1 else None
    return _Columns(image, key, texts)


def _open(path: Path) -> tuple[Any, _Columns]:
    """The file and its columns.

    Raises:
        SampleError: it cannot be read.
        DataError: pyarrow is not installed.
    """
    parquet = require_pyarrow()[1]
    try:
        if not path.is_file():
            raise SampleError("not a regular file")
        if path.stat().st_size == 0:
            raise SampleError("empty file")
        file = parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES)
        return file, _find_columns(file.schema_arrow)
    except SampleError:
        raise
    except Exception:  # noqa: BLE001 - damage comes as OSError, ValueError, NotImplementedError, MemoryError, ...
        raise SampleError("unreadable parquet file") from None


def read_parquet(unit: Unit, report: Report) -> Iterator[Pair]:
    """The pairs of a parquet file; see `pairs.read_unit`."""
    path = unit.paths[0]
    place = unit.place(path)
    try:
        file, columns = _open(path)
        if columns.image is None or not any(name.lower() in CAPTION_NAMES for name in columns.texts):
            file.close()
            raise SampleError("wrong columns")
    except SampleError as error:
        report.damaged(READ, error.reason, place)
        return
    with file:
        rows = _rows(file, columns.names, place, report)
        samples = ((f"{place}: row {row}", partial(_read_row, unit, columns, row, cells)) for row, cells in rows)
        yield from count_pairs(samples, report)


_Row = tuple[int, dict[str, Any]]  # its number in the file, and its cells by column name


def _rows(file: Any, names: list[str], place: str, report: Report) -> Iterator[_Row]:
    """All rows that can be read; damage in one row group leaves the others as they are."""
    begin = 0
    for group in range(file.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        batches = file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names, use_threads=False)
        done = 0
        while (batch := _next_batch(batches)) is not None:
            columns = {name: batch.column(batch.schema.get_all_field_indices(name)[0]) for name in names}
            for row in range(batch.num_rows):
                yield begin + done + row, {name: column[row] for name, column in columns.items()}
            done += batch.num_rows
        if done < num_rows:
            where, reason = f"{place}: rows {begin + done} to {begin + num_rows - 1}", "damaged row group"
            report.damaged(READ, reason, where)
            if done + 1 < num_rows:
                report.drop(READ, reason, count=num_rows - done - 1)
        begin += num_rows


def _next_batch(batches: Iterator[Any]) -> Any:
    """The next batch, or None where the row group ends or is damaged."""
    try:
        return next(batches, None)
    except Exception:  # noqa: BLE001 - decoders of pages raise many kinds
        return None


def _read_row(unit: Unit, columns: _Columns, row: int, cells: dict[str, Any]) -> Pair:
    record = Record.of({name: _value(cells[name]) for name in columns.texts})
    record.check_status()
    assert columns.image is not None
    image = _picture(cells[columns.image])
    words = find_words(record)
    key = _value(cells[columns.key]) if columns.key is not None else None
    name = printable(str(key)) if isinstance(key, (str, int)) and key != "" else f"row{row:08d}"
    return Pair(f"{unit.name}/{name}", image, words.caption, words.url)


def _picture(cell: Any) -> bytes:
    """The bytes of a binary cell, or of a struct's "bytes"."""
    data = cell.as_py() if not hasattr(cell, "keys") else cell["bytes"].as_py() if cell.is_valid else None
    if data is None:
        raise SampleError("no picture")
    check_picture_size(len(data))
    return data


def _value(cell: Any) -> object:
    """A cell as Python has it; text that is not UTF-8, which parquet does not rule out, as bytes."""
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.as_buffer().to_pybytes() if hasattr(cell, "as_buffer") else None


class Sidecar:
    """The parquet that img2dataset writes beside a tar: captions and addresses by key; read when first asked.

    Args:
        unit: the tar's, for the report.
        path: the parquet file.
        report: counts it, once, if it cannot be read.
    """

    def __init__(self, unit: Unit, path: Path, report: Report) -> None:
        self.unit, self.path, self.report = unit, path, report
        self._records: dict[str, Record] | None = None

    def record(self, key: str) -> Record:
        """What it says about a sample, which may be nothing.

        Raises:
            DataError: pyarrow is not installed, or the report is strict and the file is damaged.
        """
        if self._records is None:
            self._records = {}
            try:
                self._read(self._records)
            except SampleError:
                self.report.damaged(READ, "unreadable sidecar", self.unit.place(self.path))
        return self._records.get(key, Record())

    def _read(self, records: dict[str, Record]) -> None:
        file, columns = _open(self.path)
        with file:
            if columns.key is None:
                raise SampleError("wrong columns")
            damage = Report()  # rows of a sidecar are not samples, so they are not counted as such
            for _, cells in _rows(file, [columns.key, *columns.texts], "", damage):
                record = Record.of({name: _value(cells[name]) for name in columns.texts})
                records.setdefault(str(_value(cells[columns.key])), record)
            if damage.steps:
                raise SampleError("damaged row group")
