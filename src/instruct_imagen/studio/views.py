"""HTML of what the page shows: the instruction with its chips, the pictures drawn, the history. Pure functions.

Every text of a visitor is escaped. Pictures are named as the server serves them (`server.py`), relative to the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from ..errors import UserError
from ..instruction import marker_token, markers_in, normalise_markers
from .board import Card, check
from .drawing import Progress
from .history import Drawing

EMPTY_READING = "Write what to draw, and name your pictures in it: [ref#1], [ref#2], and so on."


def picture_url(name: str) -> str:
    """Of the file itself."""
    return f"pictures/{name}.png"


def thumbnail_url(name: str) -> str:
    """Of its small version."""
    return f"thumbnails/{name}.png"


def header_html(model: str) -> str:
    """The head of the page."""
    line = f"Pictures from instructions that name pictures, by {escape(model)}"
    return f"<header><h1>Instruct-Imagen</h1><p>{line}</p></header>"


def reading_html(text: str, cards: Sequence[Card]) -> str:
    """The instruction as it is read: markers as coloured chips with their pictures, and what is still to mend."""
    if not text.strip():
        return f'<p class="reading empty">{escape(EMPTY_READING)}</p>'
    shown, hint, state = text, "Ready to draw.", "ready"
    try:
        shown = normalise_markers(text, frozenset(range(1, len(cards) + 1)))
        check(text, cards)
    except UserError as error:
        hint, state = str(error)[:1].upper() + str(error)[1:], "wrong"
    body = escape(shown)
    for marker in set(markers_in(shown)):
        body = body.replace(marker_token(marker), _chip(marker, cards))
    return f'<p class="reading">{body}</p><p class="hint {state}" role="status">{escape(hint)}</p>'


def _chip(marker: int, cards: Sequence[Card]) -> str:
    if not 1 <= marker <= len(cards):
        return f'<span class="chip missing">{marker_token(marker)}</span>'
    card = cards[marker - 1]
    words = f" {escape(card.text)}" if card.text else ""
    more = f" ×{len(card.pictures)}" if len(card.pictures) > 1 else ""
    picture = f'<img src="{escape(thumbnail_url(card.pictures[0]))}" alt="">'
    return f'<span class="chip m{marker}">{picture}<b>[ref#{marker}]</b>{words}{more}</span>'


def empty_stage_html() -> str:
    """Before anything is drawn."""
    return '<div class="stage empty"><p>What you draw appears here.</p></div>'


def progress_html(progress: Progress) -> str:
    """The noisy pictures and how far they are."""
    figures = "".join(f'<figure><img src="{_data_url(image)}" alt=""></figure>' for image in progress.previews)
    done = f"Step {progress.step} of {progress.num_steps}" if progress.step else "Reading the instruction ..."
    return (
        f'<div class="stage {_columns(len(progress.previews))}" aria-hidden="true">{figures}</div>'
        f'<p class="line" role="status"><progress max="{progress.num_steps}" value="{progress.step}" '
        f'aria-label="Denoising"></progress> {done}</p>'
    )


def drawing_html(drawing: Drawing) -> str:
    """The pictures of a drawing, with what can be done with each."""
    figures = "".join(_figure(drawing, number) for number in range(len(drawing.pictures)))
    settings = drawing.settings
    count = len(drawing.pictures)
    facts = [
        f"{count} picture{'s' * (count > 1)}" + (f" in {drawing.seconds:.1f} s" if drawing.seconds else ""),
        f"{settings.num_inference_steps} steps",
        f"guidance {settings.guidance_scale:g}",
    ]
    if settings.image_guidance_scale is not None:
        facts.append(f"of the pictures {settings.image_guidance_scale:g}")
    return (
        f'<div class="stage {_columns(count)}">{figures}</div>'
        f'<p class="line" role="status">{", ".join(facts)}</p>'
        f'<p class="line quote">{escape(drawing.text)}</p>'
    )


def _figure(drawing: Drawing, number: int) -> str:
    name, seed = drawing.pictures[number], drawing.settings.seed + number
    url = escape(picture_url(name))
    return (
        f'<figure><img src="{url}" alt="Drawn with seed {seed}: {escape(drawing.text)}"><figcaption>'
        f'<button type="button" data-seed="{seed}" >Use seed {seed}</button>'
        f'<a href="{url}" download="instruct-imagen-{seed}.png" aria-label="Download the picture of seed {seed}">'
        f"Download</a>"
        f'<button type="button" data-name="{name}" aria-label="Use the picture of seed {seed} as a reference">'
        f"Use as reference</button></figcaption></figure>"
    )


def history_html(drawings: Sequence[Drawing]) -> str:
    """A button for each drawing, newest first."""
    if not drawings:
        return '<h2>History</h2><p class="line">Nothing drawn yet.</p>'
    entries = "".join(
        f'<li><button type="button" data-key="{drawing.key}" title="{escape(drawing.text)}">'
        f'<img src="{escape(thumbnail_url(drawing.pictures[0]))}" alt="Open: {escape(drawing.text)}">'
        + (f"<span>{len(drawing.pictures)}</span>" if len(drawing.pictures) > 1 else "")
        + "</button></li>"
        for drawing in drawings
    )
    return f'<h2>History</h2><ol class="history">{entries}</ol>'


def message_html(sentence: str) -> str:
    """A line in the place of the pictures."""
    return f'<div class="stage empty"><p role="status">{escape(sentence)}</p></div>'


def _columns(count: int) -> str:
    return "one" if count <= 1 else "two" if count <= 4 else "three"


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
