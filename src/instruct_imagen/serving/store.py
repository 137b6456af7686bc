"""Finished pictures that are handed out by URL: files in a folder, with names that cannot be guessed."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

from ..files import make_folder, write_atomically
from .bodies import PictureForm

_NAME = re.compile(r"[A-Za-z0-9_-]{32}\.(?:png|jpeg|webp)")
MEDIA_TYPES = {".png": "image/png", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class PictureStore:
    """A folder of pictures; several servers may share it.

    Args:
        folder: is made; nothing in it but pictures of this kind is touched.
        seconds: a picture is deleted when it is older.
    """

    def __init__(self, folder: Path, seconds: float):
        self._folder, self._seconds = make_folder(folder), seconds
        self._cleaned = 0.0
        self.clean()

    def write(self, content: bytes, form: PictureForm) -> str:
        """Keeps a file whole or not at all; returns its name."""
        name = f"{secrets.token_urlsafe(24)}.{form}"
        write_atomically(self._folder / name, lambda path: path.write_bytes(content))
        if time.monotonic() - self._cleaned > self._seconds / 10:
            self.clean()
        return name

    def path(self, name: str) -> Path | None:
        """Where a picture lies; None if there is none of this name, or no more."""
        if not _NAME.fullmatch(name):
            return None
        path = self._folder / name
        return path if path.is_file() and self._age_s(path) < self._seconds else None

    def clean(self) -> None:
        """Deletes old pictures, and what a killed server left half-written."""
        self._cleaned = time.monotonic()
        for path in self._folder.iterdir():
            partial = re.sub(r"^\.(.*)\.partial(\.\w+)$", r"\1\2", path.name)
            old = self._age_s(path) > (self._seconds if partial == path.name else min(60.0, self._seconds))
            if _NAME.fullmatch(partial) and old:
                path.unlink(missing_ok=True)

    @staticmethod
    def _age_s(path: Path) -> float:
        try:
            return time.time() - path.stat().st_mtime
        except OSError:
            return 0.0
