"""Pairs out of folders: pictures with a caption file beside each, or named in a list of captions (JSONL)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from .pair_captions import Record, find_words
from .pair_record import (
    MAX_TEXT_BYTES,
    READ,
    Pair,
    SampleError,
    Unit,
    check_picture_size,
    check_text_size,
    count_pairs,
    printable,
)
from .report import DataError, Report

UNIT_PICTURES = 1_000  # of a folder, or lines of a list
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_folder(unit: Unit, report: Report) -> Iterator[Pair]:
    """The pairs of a slice of a folder; see `pairs.read_unit`."""
    root = unit.root.resolve()
    samples = ((unit.place(path), partial(_read_beside, unit, root, path)) for path in unit.paths)
    return count_pairs(samples, report)


def _read_beside(unit: Unit, root: Path, path: Path) -> Pair:
    """A picture and the words in NAME.txt or NAME.json beside it."""
    record = Record.parse(partial(_read_text, path.with_suffix(".json"), root))
    record.check_status()
    image = _read_picture(path, root)
    words = find_words(record, partial(_read_text, path.with_suffix(".txt"), root))
    return Pair(f"{unit.name}/{unit.place(path)}", image, words.caption, words.url)


def read_list(unit: Unit, report: Report) -> Iterator[Pair]:
    """The pairs of a slice of a JSONL file; see `pairs.read_unit`."""
    path = unit.paths[0]
    try:
        file = path.open("rb")
    except OSError:
        report.damaged(READ, "file cannot be read", unit.place(path))
        return
    with file:
        file.seek(unit.start)
        yield from count_pairs(_lines(unit, islice(split_lines(file), unit.count)), report)


def _lines(unit: Unit, lines: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[str, Callable[[], Pair]]]:
    root = unit.root.resolve()
    for start, line in lines:
        yield unit.place(unit.paths[0], f"byte {start}"), partial(_read_line, unit, root, line)


def _read_line(unit: Unit, root: Path, line: bytes | None) -> Pair:
    record = Record.parse(partial(_checked_line, line))
    if record.fault:
        raise SampleError(record.fault)
    record.check_status()
    name = named_picture(unit, record)
    if name is None:
        raise SampleError("no file_name")
    if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
        raise SampleError("path leaves the folder")
    image = _read_picture(unit.root / name, root)
    words = find_words(record)
    return Pair(f"{unit.name}/{printable(name)}", image, words.caption, words.url)


def _checked_line(line: bytes | None) -> bytes:
    if line is None:
        check_text_size(MAX_TEXT_BYTES + 1)
    return line or b""


def named_picture(unit: Unit, record: Record) -> str | None:
    """The path, from the corpus, of the picture that a line of the unit's list names; it may lead out of it."""
    name = record.content.get("file_name")
    if not isinstance(name, str) or not name.strip():
        return None
    return os.path.normpath(os.path.join(os.path.relpath(unit.paths[0].parent, unit.root), name))


def split_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file that are not blank, and where each begins; None for one too long to be a record."""
    while True:
        start = file.tell()
        line = file.readline(MAX_TEXT_BYTES)
        if not line:
            return
        if len(line) == MAX_TEXT_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_TEXT_BYTES)
            yield start, None
        elif line.removeprefix(_BYTE_ORDER_MARK).strip():
            yield start, line


def list_lines(path: Path, root: Path, name_of: Callable[[int], str]) -> tuple[list[Unit], set[str]]:
    """The units of a list of captions, and the pictures that it names, as paths from the corpus.

    Args:
        path: the JSONL file.
        root: the corpus.
        name_of: the name of a unit by its number in the list.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; remove it from the corpus.")
    whole = Unit("", "jsonl", (path,), root)
    starts: list[int] = []
    named: set[str] = set()
    try:
        with path.open("rb") as file:
            for start, line in split_lines(file):
                starts.append(start)
                picture = named_picture(whole, Record.parse(partial(_checked_line, line)))
                named |= {picture} if picture is not None else set()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    units = []
    for number, begin in enumerate(range(0, len(starts), UNIT_PICTURES)):
        slice_ = starts[begin : begin + UNIT_PICTURES]
        units.append(Unit(name_of(number), "jsonl", (path,), root, slice_[0], len(slice_)))
    return units, named


def _read_picture(path: Path, root: Path) -> bytes:
    data = _read_inside(path, root, check_picture_size)
    if data is None:
        raise SampleError("no picture")
    return data


def _read_text(path: Path, root: Path) -> bytes | None:
    return _read_inside(path, root, check_text_size)


def _read_inside(path: Path, root: Path, check_size: Callable[[int], None]) -> bytes | None:
    """A file's content, or None if there is no such file.

    Args:
        path: of the file; it may be a symbolic link.
        root: the corpus, resolved. A link that leads out of it is refused: a corpus from the web must not bring
            other files of this machine into the training.
        check_size: raises SampleError for a file not worth reading.

    Raises:
        SampleError: it lies elsewhere, is a folder or device, too long, or cannot be read.
    """
    try:
        real = path.resolve()
        if not real.is_relative_to(root):
            raise SampleError("path leaves the folder")
        if not real.exists():
            return None
        if not real.is_file():  # opening a pipe would wait for ever
            raise SampleError("not a regular file")
        with real.open("rb") as file:
            check_size(os.fstat(file.fileno()).st_size)
            return file.read()
    except (OSError, RuntimeError, ValueError):  # no permission, a circle of links, a NUL in the name
        raise SampleError("file cannot be read") from None
