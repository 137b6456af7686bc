"""The pictures of the studio's visits: what visitors hand in and what is drawn for them, in one folder of PNG files.

A picture is named by a hash of what it holds. A visitor's browser knows pictures by these names alone; no path ever
comes from it, but for an upload, which must lie in the upload folder.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.sources.reading import opacity
from ..errors import UserError
from ..pictures import load_image

KEPT_PX = 1024  # longest side; no network here reads more
THUMBNAIL_PX = 192
MAX_PICTURES = 2_000
_NAME = re.compile(r"[0-9a-f]{40}")


class StudioError(UserError):
    """Something that the studio cannot do; the page shows the sentence."""


class PictureStore:
    """Pictures in a folder; the ones that nobody asked for longest go when there are too many.

    Args:
        folder: an empty folder of this store alone.
        upload_folder: where the page's uploads arrive.
        max_pictures: kept at most.
    """

    def __init__(self, folder: Path, upload_folder: Path, max_pictures: int = MAX_PICTURES):
        self._folder, self._upload_folder, self._max_pictures = folder, upload_folder.resolve(), max_pictures
        self._used: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def take_upload(self, upload: object) -> str:
        """Reads an uploaded file, deletes it, and keeps its picture.

        Returns:
            The picture's name.

        Raises:
            StudioError: it lies elsewhere, or is gone.
            InstructionError: it is no picture that can be read.
        """
        path = Path(upload).resolve() if isinstance(upload, str) and "\0" not in upload else None
        if path is None or not path.is_relative_to(self._upload_folder) or not path.is_file():
            raise StudioError("That upload has not arrived; drop the picture again.")
        try:
            return self.add(load_image(path, f"'{path.name}'"), opacity(path))
        finally:
            path.unlink(missing_ok=True)

    def add(self, image: Image.Image, alpha: np.ndarray | None = None) -> str:
        """Keeps a picture, reduced to KEPT_PX, and returns its name.

        Args:
            image: RGB [H, W].
            alpha: bool [h, w] of the same shape or larger, what the picture's transparency leaves; None: all.
        """
        if max(image.size) > KEPT_PX:
            image = image.copy()
            image.thumbnail((KEPT_PX, KEPT_PX), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        name = self.add_png(buffer.getvalue())
        if alpha is not None:
            mask = Image.fromarray(alpha).resize(image.size, Image.Resampling.NEAREST)
            mask.save(self._folder / f"{name}.alpha.png")
        return name

    def add_png(self, content: bytes) -> str:
        """Keeps a PNG file as it is, metadata included, and returns its picture's name."""
        name = hashlib.sha256(content).hexdigest()[:40]
        with self._lock:
            if name not in self._used:
                with Image.open(io.BytesIO(content)) as image:
                    small = image.convert("RGB")
                small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
                small.save(self._folder / f"{name}.small.png")
                (self._folder / f"{name}.png").write_bytes(content)
            self._used[name] = None
            self._used.move_to_end(name)
            while len(self._used) > self._max_pictures:
                oldest, _ = self._used.popitem(last=False)
                for path in self._folder.glob(f"{oldest}.*"):
                    path.unlink(missing_ok=True)
        return name

    def path(self, name: object, small: bool = False) -> Path:
        """The file of a picture, or of its small version.

        Raises:
            StudioError: there is no such picture (any more).
        """
        with self._lock:
            if isinstance(name, str) and _NAME.fullmatch(name) and name in self._used:
                self._used.move_to_end(name)
                return self._folder / (f"{name}.small.png" if small else f"{name}.png")
        raise StudioError("A picture is no longer here; take its card away and drop it again.")

    def open(self, name: object) -> Image.Image:
        """A picture as RGB.

        Raises:
            StudioError: see `path`.
        """
        return load_image(self.path(name))

    def alpha(self, name: object) -> np.ndarray | None:
        """What the transparency of a picture leaves, bool [H, W]; None if it has none.

        Raises:
            StudioError: see `path`.
        """
        path = self.path(name).with_suffix(".alpha.png")
        if not path.is_file():
            return None
        with Image.open(path) as mask:
            return np.asarray(mask) > 0
