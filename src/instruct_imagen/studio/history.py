"""What was drawn: newest first, for one visit, or in a folder for all visits."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..files import make_folder
from ..instruction import Instruction
from ..metadata import read_png_metadata
from .board import Card, build_instruction, cards_of
from .drawing import DrawSettings
from .pictures import PictureStore, StudioError

MAX_DRAWINGS = 60
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawing:
    """One press of Draw: the pictures, and all that is needed to draw them again.

    Attributes:
        text, cards, settings: what was asked for.
        pictures: names of the pictures in the store, those of `settings.seed`, seed + 1, ...
        seconds: it took, waiting not counted; 0 if that is not known any more.
    """

    text: str
    cards: tuple[Card, ...]
    settings: DrawSettings
    pictures: tuple[str, ...]
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """Tells drawings apart: a picture file holds its instruction, settings and seed."""
        return self.pictures[0]


class Shelf:
    """Drawings, newest first, the newest MAX_DRAWINGS of them."""

    def __init__(self, drawings: tuple[Drawing, ...] = (), keep: Callable[[Drawing], None] | None = None):
        self._drawings, self._keep = drawings[:MAX_DRAWINGS], keep
        self._lock = threading.Lock()

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """Newest first."""
        return self._drawings

    def add(self, drawing: Drawing) -> None:
        """Puts a drawing in front; one that is there already moves there."""
        with self._lock:
            others = tuple(old for old in self._drawings if old.key != drawing.key)
            self._drawings = (drawing, *others)[:MAX_DRAWINGS]
        if self._keep is not None:
            self._keep(drawing)

    def find(self, key: object) -> Drawing:
        """The drawing with this key.

        Raises:
            StudioError: there is none.
        """
        for drawing in self._drawings:
            if drawing.key == key:
                return drawing
        raise StudioError("That drawing is no longer in the history.")


def kept_shelf(folder: Path, store: PictureStore) -> Shelf:
    """A shelf that begins with the drawings in `folder` and adds to them.

    Each drawing is a folder with `instruction.json`, its references, and `seed-N.png` for each picture.

    Raises:
        OutputError: nothing can be written to `folder`.
    """
    make_folder(folder)
    newest = sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)[:MAX_DRAWINGS]
    drawings = []
    for path in newest:
        try:
            drawings.append(_read(path, store))
        except (UserError, OSError) as error:
            _log.warning("%s is left out of the history: %s", path, error)
    return Shelf(tuple(drawings), lambda drawing: _write(folder, drawing, store))


def _write(folder: Path, drawing: Drawing, store: PictureStore) -> None:
    stamp = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{drawing.key[:8]}"
    partial = make_folder(folder / f".{stamp}.partial")
    try:
        build_instruction(drawing.text, drawing.cards, store).write(partial / "instruction.json")
        for number, name in enumerate(drawing.pictures):
            shutil.copyfile(store.path(name), partial / f"seed-{drawing.settings.seed + number}.png")
        partial.rename(folder / stamp)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(folder: Path, store: PictureStore) -> Drawing:
    instruction = Instruction.from_json(folder / "instruction.json", paths="inside")
    made = sorted((read_png_metadata(path).seed, path) for path in folder.glob("seed-*.png"))
    if not made:
        raise StudioError(f"{folder} holds no picture.")
    first = read_png_metadata(made[0][1])
    settings = DrawSettings(
        len(made), first.seed, first.num_inference_steps, first.guidance_scale, first.image_guidance_scale
    )
    pictures = tuple(store.add_png(path.read_bytes()) for _, path in made)
    return Drawing(instruction.text, cards_of(instruction, store), settings, pictures)
