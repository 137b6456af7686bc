"""The board of references: cards, one for each marker, and how they become an `Instruction`.

The page hands the board over as JSON, `[{"text": "fox", "pictures": [{"name": "..."}]}]`; the first card is
`[ref#1]`. It comes from a browser, so everything in it is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..errors import InstructionError
from ..instruction import MAX_MARKERS, Instruction, Reference, marker_token, markers_in, normalise_markers
from .pictures import PictureStore, StudioError

_NO_PICTURE = Image.new("RGB", (1, 1))


@dataclass(frozen=True)
class Card:
    """One marker's short text, and the names of its pictures in the store."""

    text: str
    pictures: tuple[str, ...]


def read_board(value: object) -> tuple[Card, ...]:
    """The cards of a board's JSON.

    Raises:
        StudioError: it is not of the form above.
    """
    cards = []
    for entry in _items(value, MAX_MARKERS):
        text = entry.get("text")
        names = [picture.get("name") for picture in _items(entry.get("pictures"), 100)]
        named = tuple(name for name in names if isinstance(name, str))
        if not isinstance(text, str) or not names or len(named) < len(names):
            raise _odd()
        cards.append(Card(text, named))
    return tuple(cards)


def _items(value: object, most: int) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most or not all(isinstance(item, dict) for item in value):
        raise _odd()
    return value


def _odd() -> StudioError:
    return StudioError(f"The page's pictures cannot be understood; reload it ({MAX_MARKERS} markers are the most).")


def write_board(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Inverse of `read_board`."""
    return [{"text": card.text, "pictures": [{"name": name} for name in card.pictures]} for card in cards]


def build_instruction(text: str, cards: Sequence[Card], store: PictureStore) -> Instruction:
    """The instruction that the page shows.

    Raises:
        InstructionError: text and cards do not fit; the sentence says what to mend.
        StudioError: a picture is gone.
    """
    check(text, cards)
    return Instruction(text, _references(cards, store))


def check(text: str, cards: Sequence[Card]) -> None:
    """Checks text and markers without opening a picture.

    Raises:
        InstructionError: what `build_instruction` would say.
    """
    Instruction(text, _references(cards, None))


def _references(cards: Sequence[Card], store: PictureStore | None) -> tuple[Reference, ...]:
    return tuple(
        Reference(_NO_PICTURE if store is None else store.open(name), card.text, marker)
        for marker, card in enumerate(cards, start=1)
        for name in card.pictures
    )


def cards_of(instruction: Instruction, store: PictureStore) -> tuple[Card, ...]:
    """An instruction's references as cards, its pictures put into the store."""
    markers = sorted({reference.marker for reference in instruction.references})
    grouped = [[r for r in instruction.references if r.marker == marker] for marker in markers]
    return tuple(Card(group[0].text, tuple(store.add(r.image) for r in group)) for group in grouped)


def renumber(text: str, order: Sequence[int]) -> str:
    """`text` after cards were moved or taken away.

    Args:
        text: with the markers as they were.
        order: for each card that is left, the marker it had; a marker that is not in it goes from the text.
    """
    try:
        text = normalise_markers(text, frozenset(order))
    except InstructionError:
        return text  # half a marker is being typed; nothing is lost by leaving it
    for new, old in enumerate(order, start=1):
        text = text.replace(marker_token(old), f"\0{new}\0")
    for gone in set(markers_in(text)):
        text = text.replace(f"{marker_token(gone)} ", "").replace(marker_token(gone), "")
    for new in range(1, len(order) + 1):
        text = text.replace(f"\0{new}\0", marker_token(new))
    return text
