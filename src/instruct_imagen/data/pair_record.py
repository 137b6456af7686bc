"""The records of corpus reading, and the one place where its samples are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .report import Report

READ = "read"  # the step's name in the report
MAX_PICTURE_BYTES = 256 << 20  # 50 megapixels uncompressed, with alpha, and some room
MAX_TEXT_BYTES = 4 << 20  # a caption file, a JSON record (some hold the whole EXIF block), a line of JSONL

# What a picture's file may be called. Pillow looks at the content and opens fewer formats; the last four are listed
# so that such pictures are counted as unreadable and not passed over.
PICTURE_SUFFIXES = frozenset("jpg jpeg jfif png webp gif bmp dib tif tiff ppm pgm pbm pnm avif heic heif jxl".split())

UnitKind = Literal["tar", "parquet", "jsonl", "folder"]


@dataclass(frozen=True)
class Pair:
    """One picture with its caption, as found.

    Attributes:
        key: its own in the corpus: the unit's name, "/", and the sample's name or row in the unit.
        image: bytes of the picture file, not yet decoded.
        caption: text, stripped, valid Unicode, at most MAX_CAPTION_CHARS long, not empty.
        url: where it came from, or empty.
    """

    key: str
    image: bytes
    caption: str
    url: str = ""


@dataclass(frozen=True)
class Unit:
    """A part of a corpus that one worker reads.

    Attributes:
        name: its own in the corpus, fit for a file name: letters, digits, "-" and "_".
        kind: what `read_unit` makes of `paths`.
        paths: the tar (and its sidecar parquet, if there is one), the parquet file, the JSONL file, or the
            pictures of a folder's slice.
        root: the corpus; pictures and captions of folders must lie in it.
        start: the byte of the JSONL file at which the unit begins.
        count: how many lines of the JSONL file it has.
    """

    name: str
    kind: UnitKind
    paths: tuple[Path, ...]
    root: Path = Path()
    start: int = 0
    count: int = 0

    def place(self, path: Path, more: str = "") -> str:
        """What a report calls a file of the unit, or a part of it."""
        inside = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return printable(f"{inside.as_posix()}{': ' if more else ''}{more}")


class SampleError(Exception):
    """A sample that cannot be used: the reason to count it under. It never leaves the reader.

    Attributes:
        reason: a few words, the same for all like it.
        as_intended: the corpus itself says that the sample is no good, so it is dropped and not damaged.
    """

    def __init__(self, reason: str, as_intended: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.as_intended = reason, as_intended


def count_pairs(samples: Iterable[tuple[str, Callable[[], Pair]]], report: Report) -> Iterator[Pair]:
    """Reads samples one by one and counts each: kept, dropped or damaged, or one whose key was there before.

    Args:
        samples: for each its place, for the report, and what reads it, which may raise SampleError.
        report: what counts.

    Raises:
        DataError: the report is strict and a sample is damaged.
    """
    seen: set[str] = set()
    for place, read in samples:
        try:
            pair = read()
        except SampleError as error:
            if error.as_intended:
                report.drop(READ, error.reason, place)
            else:
                report.damaged(READ, error.reason, place)
            continue
        if pair.key in seen:
            report.damaged(READ, "duplicate key", place)
            continue
        seen.add(pair.key)
        report.keep(READ)
        yield pair


def check_picture_size(num_bytes: int) -> None:
    """Raises SampleError for a file that holds nothing, or more than any picture that would be opened."""
    if num_bytes == 0:
        raise SampleError("empty picture")
    if num_bytes > MAX_PICTURE_BYTES:
        raise SampleError(f"picture of more than {MAX_PICTURE_BYTES >> 20} MB")


def check_text_size(num_bytes: int) -> None:
    """Raises SampleError for a caption file or record too long to be one."""
    if num_bytes > MAX_TEXT_BYTES:
        raise SampleError(f"text of more than {MAX_TEXT_BYTES >> 20} MB")


def printable(name: str) -> str:
    """A file name of whatever bytes as text that every encoder takes and a line of a report can show."""
    if name.isprintable():
        return name
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in name
    )
