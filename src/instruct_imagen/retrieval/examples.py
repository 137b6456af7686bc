"""The text form of a stage-1 example (A.2.2), one for rendered and for retrieved clusters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from PIL import Image

from ..instruction import MAX_REFERENCE_TEXT_CHARS, MAX_TEXT_CHARS, Instruction, Reference, marker_token

NUM_CONTEXT = 3  # context pairs of an example; a cluster has five pictures
_MARKER_SIGNS = re.compile(r"(?:\[\s*)+(?=ref)|(?:<\s*)+(?=\|image)", re.IGNORECASE)


def cluster_instruction(text: str, context: Sequence[tuple[Image.Image, str]]) -> Instruction:
    """A caption with its context pairs, whose markers stand after it.

    Departure: the paper's stage 1 has no markers; with them one record serves all stages.

    Args:
        text: caption of the target.
        context: (picture, caption) pairs.
    """
    references = tuple(Reference(image, words, number) for number, (image, words) in enumerate(context, start=1))
    markers = " ".join(marker_token(reference.marker) for reference in references)
    return Instruction(f"{text} {markers}".strip(), references)


def plain_caption(caption: str, max_chars: int = MAX_TEXT_CHARS - 100) -> str:
    """A caption from the web that can stand in an instruction.

    Control characters become blanks, what reads like a marker loses its bracket, and what is longer than `max_chars`
    is cut after a word, or anywhere if it is one long word.
    """
    readable = (" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in caption)
    text = _MARKER_SIGNS.sub("", " ".join("".join(readable).split()))
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars + 1].rpartition(" ")[0]
    return cut or text[:max_chars]


def context_caption(caption: str) -> str:
    """A caption that can stand beside a reference, whose text is shorter."""
    return plain_caption(caption, MAX_REFERENCE_TEXT_CHARS)
