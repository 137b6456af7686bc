"""Reading what corpora are made of: pictures that stay in their folder, tables, lines of JSON."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ...pictures import IMAGE_FORMATS
from ..report import DataError, Report

PICTURE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
CAPTIONS_FILE = "captions.csv"
_OPAQUE = 128  # alpha from which a pixel counts as part of the object


def inside(folder: Path, name: object) -> Path | None:
    """The path that `name`, which came with the data, means in `folder`; None if it leads out of it, links followed."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    root = Path(os.path.realpath(folder))
    path = Path(os.path.realpath(root / name))
    return path if path.is_relative_to(root) else None


def picture_files(folder: Path) -> list[str]:
    """Names of the pictures right in a folder, sorted; none if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def folders_in(folder: Path) -> list[Path]:
    """The folders right in a folder, sorted by name."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def opacity(source: Path | bytes) -> np.ndarray | None:
    """What a picture's transparency leaves, bool [H, W]; None if it has none or cannot be read."""
    file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            if not image.has_transparency_data:
                return None
            alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
    except Exception:  # noqa: BLE001 - decoders raise many kinds; whoever needs the pixels has counted the damage
        return None
    return np.asarray(alpha) >= _OPAQUE


def read_json(path: Path) -> Any:
    """The content of a JSON file that a corpus cannot be read without.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that a corpus cannot be read without, stripped; what is no UTF-8 is replaced.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def read_records(path: Path, report: Report, step: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records of a manifest, with their line numbers: JSON lines, or CSV with a header. Bad ones are counted.

    Raises:
        DataError: the file cannot be opened, or is neither `.jsonl` nor `.csv`.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv_rows}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} must be a .jsonl or a .csv file.")
    try:
        yield from readers[path.suffix.lower()](path, report, step)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def _json_lines(path: Path, report: Report, step: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, Mapping):
                yield number, content
            else:
                report.damaged(step, "line is no JSON object", f"{path.name}:{number}")


def _csv_rows(path: Path, report: Report, step: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                row = {}
            if row and None not in row and None not in row.values():
                yield rows.line_num, row
            else:
                report.damaged(step, "row does not fit its header", f"{path.name}:{rows.line_num}")


def read_captions(folder: Path, report: Report, step: str) -> dict[str, str]:
    """Captions of the folder's `captions.csv` (columns `file` and `caption`) by file; empty without one.

    Raises:
        DataError: the columns are not there.
    """
    path = folder / CAPTIONS_FILE
    if not path.is_file():
        return {}
    captions: dict[str, str] = {}
    for number, row in read_records(path, report, step):
        if "file" not in row or "caption" not in row:
            raise DataError(f"{path} must have the columns file and caption.")
        if row["caption"].strip():
            captions[row["file"]] = row["caption"]
        else:
            report.damaged(step, "no caption", f"{path.name}:{number}")
    return captions


def caption_beside(folder: Path, name: str) -> str:
    """The content of `NAME.txt` beside the picture `NAME.jpg`, or nothing."""
    path = inside(folder, f"{Path(name).stem}.txt")
    try:
        return "" if path is None else path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
