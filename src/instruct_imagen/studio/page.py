"""The page: Gradio components around a `Studio`, and which event calls what.

Standard things are Gradio's own components. The board of references, the drawing pad and the pictures drawn are
`gr.HTML` components with the scripts in `assets/`, because they tie markers to pictures and work by keyboard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..data.templates import CONTROL_TASKS
from ..demo import EXAMPLE_TASKS, title
from ..pipeline import DEFAULT_STEPS
from . import views
from .drawing import MAX_IMAGES, MAX_SEED, DrawSettings
from .handlers import Handlers
from .studio import Studio
from .wording import in_answer, in_words

ASSETS = Path(__file__).parent / "assets"
_QUIET: dict[str, Any] = {"show_progress": "hidden"}
# on a narrow screen what is drawn stands below the fold
_LOOK = "() => { document.querySelector('#stage').scrollIntoView({ block: 'nearest', behavior: 'smooth' }); }"
_AT_ONCE: dict[str, Any] = {"queue": False, **_QUIET}


@dataclass(frozen=True)
class Parts:
    """The components that events read or change."""

    example: gr.Dropdown
    text: gr.Textbox
    reading: gr.HTML
    board: gr.HTML
    draw: gr.Button
    stop: gr.Button
    num_images: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider
    apart: gr.Checkbox
    image_guidance: gr.Slider
    seed: gr.Number
    vary: gr.Checkbox
    stage: gr.HTML
    history: gr.HTML

    @property
    def settings(self) -> list[gr.Component]:
        """What `_settings_of` takes, in its order."""
        return [self.num_images, self.steps, self.guidance, self.apart, self.image_guidance, self.seed]


def _settings_of(
    num_images: int, steps: int, guidance: float, apart: bool, image_guidance: float, seed: int | None
) -> DrawSettings:
    return DrawSettings(num_images, seed or 0, steps, guidance, image_guidance if apart else None)


def _values_of(settings: DrawSettings | None) -> tuple[Any, ...]:
    """Inverse of `_settings_of`; None leaves the components as they are."""
    if settings is None:
        return (gr.skip(),) * 6
    image_guidance = settings.image_guidance_scale
    return (
        settings.num_images,
        settings.num_inference_steps,
        settings.guidance_scale,
        image_guidance is not None,
        gr.skip() if image_guidance is None else image_guidance,
        settings.seed,
    )


def build_page(studio: Studio) -> gr.Blocks:
    """The page around a studio."""
    with gr.Blocks(title="Instruct-Imagen studio", analytics_enabled=False) as page:
        gr.HTML(views.header_html(studio.painter.model), apply_default_css=False)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=6, min_width=340):
                compose = _compose(studio)
            with gr.Column(scale=5, min_width=320, elem_id="result"):
                result = _result()
        parts, handlers = Parts(**compose, **result), Handlers(studio)
        _wire_board(handlers, parts)
        _wire_drawing(handlers, parts)
        _wire_visit(page, handlers, parts)
    return page


def _compose(studio: Studio) -> dict[str, Any]:
    """Left: what to draw and how."""
    parts: dict[str, Any] = {}
    parts["example"] = gr.Dropdown(
        [("Begin with an example ...", ""), *((title(task), task) for task in EXAMPLE_TASKS)],
        value="",
        label="Example",
        show_label=False,
        container=False,
        filterable=False,
        elem_id="example",
    )
    parts["text"] = gr.Textbox(
        lines=3,
        max_lines=10,
        label="Instruction (Shift+Enter draws)",
        placeholder="Draw the fox in [ref#1] on a beach, in the style of [ref#2].",
        elem_id="instruction",
    )
    parts["reading"] = gr.HTML(views.reading_html("", ()), apply_default_css=False, elem_id="reading")
    with gr.Row(elem_id="actions"):
        parts["draw"] = gr.Button("Draw", variant="primary", scale=3, min_width=120, elem_id="draw")
        parts["stop"] = gr.Button("Stop", scale=1, min_width=80, elem_id="stop")
    parts["board"] = _board(studio)
    with gr.Accordion("Draw a mask or a sketch by hand", open=False, elem_id="by-hand"):
        gr.HTML(html_template='<div class="pad"></div>', js_on_load=_script("pad.js"), apply_default_css=False)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        parts |= _settings()
    return parts


def _board(studio: Studio) -> gr.HTML:
    @in_answer
    def take(request: dict[str, Any]) -> str:
        return studio.store.take_upload(request.get("path"))

    @in_answer
    def control(request: dict[str, Any]) -> str:
        return studio.control(request.get("name"), request.get("kind"), request.get("variation"))

    return gr.HTML(
        value=[],
        html_template='<div class="board"></div>',
        js_on_load=_script("board.js"),
        server_functions=[take, control],
        apply_default_css=False,
        elem_id="board",
        controls=list(CONTROL_TASKS),
        needs_network=["depth"] if studio.controls.depth_model is None else [],
    )


def _settings() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row():
        parts["num_images"] = gr.Slider(1, MAX_IMAGES, 1, step=1, label="Pictures", elem_id="count")
        parts["steps"] = gr.Slider(1, 100, DEFAULT_STEPS, step=1, label="Steps", elem_id="steps")
    with gr.Row():
        parts["guidance"] = gr.Slider(0, 15, 3.0, step=0.1, label="Guidance", elem_id="guidance")
        parts["image_guidance"] = gr.Slider(
            0, 15, 2.0, step=0.1, label="Image guidance", interactive=False, elem_id="image-guidance"
        )
    with gr.Row():
        parts["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="seed")
        with gr.Column(min_width=160):
            parts["vary"] = gr.Checkbox(True, label="A new seed each time", container=False, elem_id="vary")
            parts["apart"] = gr.Checkbox(False, label="Separate image guidance", container=False, elem_id="apart")
    return parts


def _result() -> dict[str, Any]:
    """Right: what is drawn, and what was."""
    script = _script("buttons.js")
    stage = gr.HTML(views.empty_stage_html(), js_on_load=script, apply_default_css=False, elem_id="stage")
    history = gr.HTML(views.history_html(()), js_on_load=script, apply_default_css=False, elem_id="history")
    return {"stage": stage, "history": history}


def _script(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _wire_board(handlers: Handlers, parts: Parts) -> None:
    """The instruction and its references."""

    def renumber(text: str, event: gr.EventData) -> str:
        return handlers.renumber(text, event.order)

    def example(task: str) -> tuple[Any, Any]:
        if not task:
            return gr.skip(), gr.skip()
        found = handlers.example(task)
        return found.text, found.board

    for changed in (parts.text.change, parts.board.change):
        changed(
            in_words(handlers.read), [parts.text, parts.board], parts.reading, trigger_mode="always_last", **_AT_ONCE
        )
    parts.board.renumber(in_words(renumber), parts.text, parts.text, **_AT_ONCE)
    parts.example.input(in_words(example), parts.example, [parts.text, parts.board], **_QUIET)


def _wire_drawing(handlers: Handlers, parts: Parts) -> None:
    """Draw, Stop, and the seeds of what was drawn."""

    def draw(request: gr.Request, text: str, board: object, vary: bool, *settings: Any) -> Iterator[tuple[Any, ...]]:
        chosen = _settings_of(*settings)
        for shown in handlers.draw(str(request.session_hash), text, board, chosen, vary):
            changes = (shown.stage, shown.history, shown.seed)
            yield tuple(gr.skip() if change is None else change for change in changes)

    def ask(request: gr.Request) -> None:
        handlers.ask(str(request.session_hash))

    def stop(request: gr.Request) -> None:
        handlers.stop(str(request.session_hash))

    def reuse(event: gr.EventData) -> tuple[Any, Any]:
        return (handlers.seed(event.seed), False) if hasattr(event, "seed") else (gr.skip(), gr.skip())

    gr.on([parts.draw.click, parts.text.submit], in_words(ask), js=_LOOK, **_AT_ONCE).then(
        in_words(draw),
        [parts.text, parts.board, parts.vary, *parts.settings],
        [parts.stage, parts.history, parts.seed],
        concurrency_limit=1,
        trigger_mode="once",
        show_progress="minimal",
        show_progress_on=parts.stage,
    )
    parts.stop.click(in_words(stop), **_AT_ONCE)
    parts.stage.select(in_words(reuse), None, [parts.seed, parts.vary], **_AT_ONCE)
    parts.apart.change(lambda apart: gr.update(interactive=apart), parts.apart, parts.image_guidance, **_AT_ONCE)


def _wire_visit(page: gr.Blocks, handlers: Handlers, parts: Parts) -> None:
    """The history, and the beginning and end of a visit."""

    def begin(request: gr.Request) -> str:
        return handlers.history(str(request.session_hash))

    def end(request: gr.Request) -> None:
        handlers.end(str(request.session_hash))

    def reopen(request: gr.Request, event: gr.EventData) -> tuple[Any, ...]:
        found = handlers.open(str(request.session_hash), event.key)
        return found.text, found.board, found.stage, *_values_of(found.settings), False

    page.load(in_words(begin), None, parts.history, **_QUIET)
    page.unload(end)
    outputs = [parts.text, parts.board, parts.stage, *parts.settings, parts.vary]
    parts.history.select(in_words(reopen), None, outputs, **_QUIET)
