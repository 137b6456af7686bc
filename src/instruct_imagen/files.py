"""Writing files so that nothing half-written is left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


class OutputError(UserError):
    """A place where nothing can be written."""


def check_writable(path: Path) -> None:
    """Raises OutputError unless a file can be written at `path`; called before work that takes time."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} cannot be written")


def make_folder(path: Path) -> Path:
    """Makes a folder for results; it may exist already.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise OutputError(f"nothing can be written to the folder {path}")
    return path


def check_destination(out: Path) -> None:
    """Refuses a destination that exists, before work that takes time.

    Raises:
        OutputError: it exists and is no empty folder, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already; name a new folder")
    make_folder(out.parent)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path`, then renames it into place; on an error nothing stays."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")  # others may write the same file
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8, whole or not at all."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes JSON with an indentation of two, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A place beside `folder`, where nothing is yet, for what becomes it at the end; on an error nothing changes."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
