"""Image-text pairs from the web, in the layouts that corpora really have, read with nothing good lost.

A corpus is split into units (a tar, a parquet file, a slice of a folder) that workers read apart from one another:

    for unit in list_units(Path("corpus")):
        for pair in read_unit(unit, report):
            image = decode(pair, report)  # None if it cannot be read; the report says why

docs/corpora.md describes the layouts, and what is refused and why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import InstructionError
from ..pictures import MAX_PIXELS, load_image
from .pair_folders import UNIT_PICTURES, list_lines, read_folder, read_list
from .pair_parquet import read_parquet, require_pyarrow
from .pair_record import PICTURE_SUFFIXES, READ, Pair, Unit, UnitKind
from .pair_tars import read_tar
from .report import DataError, Report

__all__ = ["DECODE", "READ", "Pair", "Unit", "decode", "list_units", "read_unit"]

DECODE = "decode"  # the step's name in the report
LIST_NAMES = ("captions.jsonl", "metadata.jsonl")
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")  # compressed ones are counted as such, and not passed over
_MAX_NAME_CHARS = 80

_READERS: Mapping[UnitKind, Callable[[Unit, Report], Iterator[Pair]]] = {
    "tar": read_tar,
    "parquet": read_parquet,
    "jsonl": read_list,
    "folder": read_folder,
}


def list_units(source: Path) -> list[Unit]:
    """The units of a corpus, in an order that depends on its file names alone.

    Every tar and parquet file is a unit; lists of captions are sliced into units of 1,000 lines in their order, and
    all pictures that no list names into units of 1,000 in the order of their names. Folders may be nested and
    layouts mixed. Files and folders whose names begin with a dot are passed over.

    Args:
        source: a folder, or one tar, parquet or JSONL file.

    Raises:
        DataError: it does not exist or cannot be read, nothing in it is recognised, or pyarrow is needed and missing.
    """
    if source.is_dir():
        found = _Files(source)
        found.search()
    elif source.is_file():
        found = _Files(source.parent)
        found.add(source)
        if source.suffix == ".jsonl":
            found.lists = [source]
        found.add_sidecar(source.with_suffix(".parquet"))
        found.pictures = []
    else:
        raise DataError(f"{source} does not exist; check the path.")
    units = found.units()
    if not units:
        raise DataError(
            f"{source} holds no corpus that can be read: no tars, no parquet files, no lists of captions "
            f"({', '.join(LIST_NAMES)}), and no pictures."
        )
    return units


def read_unit(unit: Unit, report: Report) -> Iterator[Pair]:
    """The pairs of a unit, one at a time, in an order that depends on its files alone.

    Everything is counted under the step "read". Nothing that is damaged stops the reading, and what lies beside it
    is read; pictures are not decoded here, but by `decode`.

    Args:
        unit: from `list_units`.
        report: what counts.

    Raises:
        DataError: the report is strict and something is damaged; or pyarrow is needed and missing.
    """
    return _READERS[unit.kind](unit, report)


def decode(pair: Pair, report: Report) -> Image.Image | None:
    """The picture of a pair as 8-bit RGB (`pictures.load_image`), or None; counted under the step "decode".

    The extension of the file says nothing here. Animated pictures give their first frame; CMYK, palette, grey and
    16-bit pictures are converted, and pictures are turned upright by their EXIF.

    Args:
        pair: from `read_unit`.
        report: what counts.

    Raises:
        DataError: the report is strict and the picture cannot be read.
    """
    try:
        image = load_image(pair.image, "the picture")
    except InstructionError as error:
        report.damaged(DECODE, _decode_reason(error), pair.key)
        return None
    report.keep(DECODE)
    return image


def _decode_reason(error: InstructionError) -> str:
    """What to count a picture under that `load_image` has refused."""
    cause = error.__cause__
    if isinstance(cause, UnidentifiedImageError):
        return "not a picture"
    if "megapixels" in str(error):
        return f"more than {MAX_PIXELS // 1_000_000} megapixels"
    if isinstance(cause, EOFError) or "truncated" in str(cause).lower():
        return "picture cut off"
    return "unreadable picture"


@dataclass
class _Files:
    """The files of a corpus by what they are."""

    root: Path
    tars: list[Path] = field(default_factory=list)
    parquets: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)

    def search(self) -> None:
        """Goes through the corpus; links to folders are not followed."""

        def refuse(error: OSError) -> None:
            raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error

        for here, folders, files in os.walk(self.root, onerror=refuse):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
            for name in folders:
                self.add_folder(Path(here, name))
            for name in files:
                if not name.startswith("."):
                    self.add(Path(here, name))

    def add_folder(self, path: Path) -> None:
        """Notes a folder; one that is called like a picture, or a link out of the corpus, is there to be counted."""
        self.folders.add(path)
        leaves = path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve())
        if leaves or path.suffix[1:].lower() in PICTURE_SUFFIXES:
            self.pictures.append(path)

    def add(self, path: Path) -> None:
        """Notes a file."""
        name = path.name.lower()
        if name.endswith(_TAR_ENDINGS):
            self.tars.append(path)
        elif name.endswith(".parquet"):
            self.parquets.append(path)
        elif name in LIST_NAMES:
            self.lists.append(path)
        elif path.suffix[1:].lower() in PICTURE_SUFFIXES:
            self.pictures.append(path)

    def add_sidecar(self, path: Path) -> None:
        """Notes the parquet beside a tar that was named alone."""
        if self.tars and path.is_file():
            self.parquets.append(path)

    def units(self) -> list[Unit]:
        """The units, each with a name of its own."""
        tars = set(self.tars)
        sidecars = {path.with_suffix(""): path for path in self.parquets if self._is_sidecar(path, tars)}
        names = _Names(self.root)
        units = []
        for path in self._sorted(self.tars):
            sidecar = sidecars.get(path.with_suffix(""))
            units.append(Unit(names.of(path), "tar", (path, sidecar) if sidecar else (path,), self.root))
        for path in self._sorted(self.parquets):
            if path.with_suffix("") not in sidecars:
                require_pyarrow()
                units.append(Unit(names.of(path), "parquet", (path,), self.root))
        listed: set[str] = set()
        for path in self._sorted(self.lists):
            found, named = list_lines(path, self.root, partial(names.of, path))
            units += found
            listed |= named
        pictures = [path for path in self._sorted(self.pictures) if str(path.relative_to(self.root)) not in listed]
        for number, begin in enumerate(range(0, len(pictures), UNIT_PICTURES)):
            paths = tuple(pictures[begin : begin + UNIT_PICTURES])
            units.append(Unit(names.of(self.root / "pictures", number), "folder", paths, self.root))
        return units

    def _is_sidecar(self, path: Path, tars: set[Path]) -> bool:
        """Whether a parquet is what img2dataset writes about a tar or a folder, and holds no pictures itself."""
        statistics = path.with_name(f"{path.stem}_stats.json")
        return path.with_suffix(".tar") in tars or (path.with_suffix("") in self.folders and statistics.is_file())

    def _sorted(self, paths: list[Path]) -> list[Path]:
        return sorted(paths, key=lambda path: path.relative_to(self.root).as_posix())


class _Names:
    """Names of units made from paths, all different on every file system.

    Args:
        root: the corpus.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._taken: set[str] = set()

    def of(self, path: Path, number: int | None = None) -> str:
        """A new name for the unit of a file, or for a slice of it."""
        text = path.relative_to(self.root).with_suffix("").as_posix() + (f"-{number:05d}" if number is not None else "")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[-_MAX_NAME_CHARS:] or "unit"
        name, times = plain, 1
        while name.lower() in self._taken:
            times += 1
            name = f"{plain}-{times}"
        self._taken.add(name.lower())
        return name
