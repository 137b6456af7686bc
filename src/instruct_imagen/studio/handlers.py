"""What the page's events do: values of components in, values of components out; nothing of Gradio.

Values come from a browser, so each is checked where it is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import views
from .board import read_board, renumber, write_board
from .drawing import MAX_SEED, DrawSettings, Progress, Stopped
from .history import Drawing
from .pictures import StudioError
from .studio import Studio


@dataclass(frozen=True)
class Shown:
    """What changes on the page; None stays as it is."""

    stage: str | None = None
    history: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Restored:
    """What fills the page again, from an example or, with what was drawn then, from the history."""

    text: str
    board: list[dict[str, Any]]
    settings: DrawSettings | None = None
    stage: str | None = None


class Handlers:
    """The page's events around a studio."""

    def __init__(self, studio: Studio):
        self._studio = studio

    def read(self, text: str, board: object) -> str:
        """The instruction as it is read, HTML."""
        return views.reading_html(text, read_board(board))

    def renumber(self, text: str, order: object) -> str:
        """The text after cards moved; `order` holds, for each card left, the marker it had."""
        if not isinstance(order, list) or not all(isinstance(marker, int) for marker in order):
            return text
        return renumber(text, order)

    def ask(self, session: str) -> None:
        """Draw was pressed; its turn comes later, and Stop counts from now."""
        self._studio.visit(session).ask()

    def draw(self, session: str, text: str, board: object, settings: DrawSettings, vary: bool) -> Iterator[Shown]:
        """Draws, showing progress.

        Raises:
            UserError: what is on the page cannot be drawn.
        """
        visit = self._studio.visit(session)
        if vary:
            settings = DrawSettings(**{**vars(settings), "seed": secrets.randbelow(MAX_SEED)})
        drawing: Drawing | None = None
        try:
            for news in self._studio.draw(visit, text, read_board(board), settings):
                if isinstance(news, Progress):
                    yield Shown(views.progress_html(news), seed=settings.seed)
                else:
                    drawing = news
        except Stopped:
            yield Shown(views.message_html("Stopped."))
        if drawing is not None:
            yield Shown(views.drawing_html(drawing), views.history_html(visit.shelf.drawings), settings.seed)

    def end(self, session: str) -> None:
        """The page was closed."""
        self._studio.end_visit(session)

    def stop(self, session: str) -> None:
        """Stops the drawing that the visit waits for."""
        self._studio.visit(session).stop.set()

    def seed(self, value: object) -> int:
        """The seed that a picture's button carries.

        Raises:
            StudioError: it carries none.
        """
        if not isinstance(value, str) or not value.isdecimal() or int(value) > MAX_SEED:
            raise StudioError("That picture has no seed.")
        return int(value)

    def history(self, session: str) -> str:
        """The history, HTML."""
        return views.history_html(self._studio.visit(session).shelf.drawings)

    def open(self, session: str, key: object) -> Restored:
        """A drawing of the history, to look at and go on from.

        Raises:
            StudioError: it is not there any more.
        """
        drawing = self._studio.visit(session).shelf.find(key)
        return Restored(drawing.text, write_board(drawing.cards), drawing.settings, views.drawing_html(drawing))

    def example(self, task: object) -> Restored:
        """An example instruction with its references.

        Raises:
            StudioError: no such task.
        """
        text, cards = self._studio.example(task)
        return Restored(text, write_board(cards))
