"""What the page can do, without the page: take pictures, make controls of them, draw, remember, show examples."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.controls import ControlModels
from ..data.templates import CONTROL_TASKS
from ..demo import EXAMPLE_TASKS, demo_examples
from ..metadata import Provenance, write_png
from ..sheet import tile
from ..world import GlyphPack, load_pack
from .board import Card, build_instruction, cards_of
from .drawing import DrawSettings, Painter, Progress
from .history import Drawing, Shelf, kept_shelf
from .pictures import PictureStore, StudioError

EXAMPLE_PX = 128
MIN_SAVED_PX = 256  # smaller pictures are enlarged
MAX_VISITS = 500


@dataclass
class Visit:
    """One open page: its history, and what stops the drawing that it waits for or watches."""

    shelf: Shelf
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Draw was pressed: what was stopped before does not stop this."""
        if self.stop.is_set():
            self.stop = threading.Event()


class Studio:
    """Everything behind the page.

    Args:
        painter: what draws.
        store: the visits' pictures.
        controls: what computes edges, masks, depth and sketches from photos.
        pack: glyph pack of the examples, see `world.load_pack`.
        keep: folder in which every drawing is kept; None: each visit remembers its own until it ends.

    Raises:
        OutputError: nothing can be written to `keep`.
    """

    def __init__(
        self,
        painter: Painter,
        store: PictureStore,
        controls: ControlModels | None = None,
        pack: str = "auto",
        keep: Path | None = None,
    ):
        self.painter, self.store = painter, store
        self.controls = controls or ControlModels.classical()
        self._pack_source = pack
        self._kept = None if keep is None else kept_shelf(keep, store)
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._examples: dict[str, tuple[str, tuple[Card, ...]]] = {}
        self._lock = threading.Lock()

    def visit(self, session: str) -> Visit:
        """The visit of a session; it begins when it is first asked for."""
        with self._lock:
            if session not in self._visits:
                self._visits[session] = Visit(self._kept or Shelf())
            self._visits.move_to_end(session)
            while len(self._visits) > MAX_VISITS:
                self._visits.popitem(last=False)
            return self._visits[session]

    def end_visit(self, session: str) -> None:
        """Stops what the visit waits for and forgets it."""
        with self._lock:
            visit = self._visits.pop(session, None)
        if visit is not None:
            visit.stop.set()

    def end_all_visits(self) -> None:
        """Ends every visit, as when the server stops."""
        for session in tuple(self._visits):
            self.end_visit(session)

    def draw(
        self, visit: Visit, text: str, cards: tuple[Card, ...], settings: DrawSettings
    ) -> Iterator[Progress | Drawing]:
        """Draws what the page shows; yields progress and, last, the drawing, which is then in the visit's history.

        Raises:
            UserError: the instruction cannot be drawn.
            Stopped: the visitor wanted no more.
        """
        instruction = build_instruction(text, cards, self.store)
        started = time.monotonic()
        for news in self.painter.draw(instruction, settings, visit.stop):
            if isinstance(news, Progress):
                if news.step == 0:
                    started = time.monotonic()
                yield news
                continue
            names = tuple(
                self._save(image, self._provenance(instruction.text, cards, settings, settings.seed + number))
                for number, image in enumerate(news)
            )
            drawing = Drawing(instruction.text, cards, settings, names, time.monotonic() - started)
            visit.shelf.add(drawing)
            yield drawing

    def _provenance(self, text: str, cards: tuple[Card, ...], settings: DrawSettings, seed: int) -> Provenance:
        pairs = [(marker, card.text) for marker, card in enumerate(cards, start=1) for _ in card.pictures]
        return Provenance(
            text,
            tuple(pairs),
            self.painter.model,
            seed,
            settings.num_inference_steps,
            settings.guidance_scale,
            settings.image_guidance_scale,
            size_px=0,
        )

    def _save(self, image: Image.Image, provenance: Provenance) -> str:
        size_px = max(MIN_SAVED_PX, image.width)
        return self.store.add_png(write_png(tile(image, size_px), replace(provenance, size_px=size_px)))

    def control(self, name: object, kind: object, variation: object = 0) -> str:
        """A control computed from a picture; returns its name.

        Args:
            name: of the picture.
            kind: one of `CONTROL_TASKS`.
            variation: edges and sketches come in many; a whole number chooses.

        Raises:
            StudioError: the picture is gone, nothing is found in it, or the control needs a network that is not here.
            DataError: the network cannot be loaded.
        """
        if kind not in CONTROL_TASKS or isinstance(variation, bool) or not isinstance(variation, int):
            raise StudioError(f"There is no control {kind!r}; choose one of {', '.join(CONTROL_TASKS)}.")
        if kind == "depth" and self.controls.depth_model is None:
            raise StudioError(
                "Depth of a photo needs a network for depth estimation, and this studio has none; start it with "
                "--depth-model FOLDER, or drop a depth map that is ready."
            )
        image, rng = self.store.open(name), np.random.default_rng(abs(variation))
        drawn = self.controls.draw(str(kind), image, rng, self.store.alpha(name))
        if drawn is None:
            what = {"mask": "an object", "edge": "an edge", "sketch": "a long line"}.get(str(kind), "depth")
            raise StudioError(f"Not {what} is found in this picture; choose another picture, or draw it by hand.")
        return self.store.add(Image.fromarray(drawn))

    @cached_property
    def _pack(self) -> GlyphPack:
        return load_pack(self._pack_source)

    def example(self, task: object) -> tuple[str, tuple[Card, ...]]:
        """Text and cards of an instruction of `task`, rendered when it is first asked for.

        Raises:
            StudioError: no such task.
        """
        if not isinstance(task, str) or task not in EXAMPLE_TASKS:
            raise StudioError(f"There is no example {task!r}; choose one of {', '.join(EXAMPLE_TASKS)}.")
        with self._lock:
            if task not in self._examples:
                instruction = demo_examples(self._pack, EXAMPLE_PX, tasks=(task,))[0].example.instruction
                self._examples[task] = instruction.text, cards_of(instruction, self.store)
            return self._examples[task]
