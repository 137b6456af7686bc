"""Combinations of conditions that training never draws: the paper's zero-shot suites (§4) and three at once (§5.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..world import Render, Scene, caption, render
from .templates import CONTROL_TASKS, reference_text
from .world_draft import PLAIN_STYLE, Draft, control_picture

if TYPE_CHECKING:
    from .world_tasks import WorldTasks

CONTROL_NAMES = {"depth": "depth map", "mask": "mask", "edge": "edge map", "sketch": "sketch"}
_ORDER_WORDS = ("first", "second")


def style_subject(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """A subject (marker 1) in a style (2)."""
    scene = tasks.sampler.sample(rng, num_subjects=1, style=tasks.draw_style(rng))
    word = tasks.subject_word(scene.glyphs[0], rng)
    text = caption(scene, tasks.pack, rng, subject_words=[word], with_style=False)
    references = (
        tasks.subject_pairs(scene.glyphs[0], word, rng),
        (tasks.style_pair(scene.style, rng),),
    )
    return Draft(scene, {"caption": text, "subject": word}, references, glyphs=scene.glyphs)


def multi_subject(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """Two subjects (1, 2)."""
    scene = tasks.sampler.sample(rng, num_subjects=2, style=PLAIN_STYLE)
    slots, references = _two_subjects(tasks, scene, rng)
    return Draft(scene, slots, references, glyphs=scene.glyphs)


def control_subject(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """A control (1) and the subject that fills it (2)."""
    scene = tasks.sampler.sample(rng, num_subjects=1, style=PLAIN_STYLE)
    picture = render(scene, tasks.pack, tasks.size_px)
    kind = CONTROL_TASKS[int(rng.integers(len(CONTROL_TASKS)))]
    word = tasks.subject_word(scene.glyphs[0], rng)
    control = _control_pair(kind, picture, rng)
    slots = {
        "caption": caption(scene, tasks.pack, rng, subject_words=[word]),
        "subject": word,
        "control": CONTROL_NAMES[kind],
    }
    references = ((control,), tasks.subject_pairs(scene.glyphs[0], word, rng))
    return Draft(scene, slots, references, picture, scene.glyphs, kind)


def control_style(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """A control (1) and a style (2)."""
    scene = tasks.sampler.sample(rng, num_subjects=1, style=tasks.draw_style(rng))
    picture = render(scene, tasks.pack, tasks.size_px)
    kind = CONTROL_TASKS[int(rng.integers(len(CONTROL_TASKS)))]
    control = _control_pair(kind, picture, rng)
    slots = {"caption": caption(scene, tasks.pack, rng, with_style=False), "control": CONTROL_NAMES[kind]}
    return Draft(scene, slots, ((control,), (tasks.style_pair(scene.style, rng),)), picture, control=kind)


def subject_style_mask(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """A subject (1) in a style (2) where a mask (3) is."""
    return _subject_style_control(tasks, rng, "mask", control_second=False)


def subject_edge_style(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """A subject (1) along edges (2) in a style (3)."""
    return _subject_style_control(tasks, rng, "edge", control_second=True)


def two_subjects_style(tasks: WorldTasks, rng: np.random.Generator) -> Draft:
    """Two subjects (1, 2) in a style (3)."""
    scene = tasks.sampler.sample(rng, num_subjects=2, style=tasks.draw_style(rng))
    slots, references = _two_subjects(tasks, scene, rng)
    return Draft(scene, slots, (*references, (tasks.style_pair(scene.style, rng),)), glyphs=scene.glyphs)


def _subject_style_control(tasks: WorldTasks, rng: np.random.Generator, kind: str, control_second: bool) -> Draft:
    scene = tasks.sampler.sample(rng, num_subjects=1, style=tasks.draw_style(rng))
    picture = render(scene, tasks.pack, tasks.size_px)
    word = tasks.subject_word(scene.glyphs[0], rng)
    text = caption(scene, tasks.pack, rng, subject_words=[word], with_style=False)
    subject = tasks.subject_pairs(scene.glyphs[0], word, rng)
    style = (tasks.style_pair(scene.style, rng),)
    control = (_control_pair(kind, picture, rng),)
    references = (subject, control, style) if control_second else (subject, style, control)
    return Draft(scene, {"caption": text, "subject": word}, references, picture, scene.glyphs, kind)


def _control_pair(kind: str, picture: Render, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    return control_picture(kind, picture, rng), reference_text(kind, rng)


def told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Two subjects' words as "first object" and "second thing", and the same with their article for a caption."""
    counted = [f"{order} {word}" for order, word in zip(_ORDER_WORDS, words, strict=True)]
    return counted, [f"the {word}" for word in counted]


def _two_subjects(
    tasks: WorldTasks, scene: Scene, rng: np.random.Generator
) -> tuple[dict[str, str], tuple[tuple[tuple[np.ndarray, str], ...], ...]]:
    """Slots and references of a scene's two subjects, told apart as the first and the second."""
    words, named = told_apart([tasks.subject_word(glyph, rng) for glyph in scene.glyphs])
    text = caption(scene, tasks.pack, rng, subject_words=named, with_style=False)
    references = tuple(tasks.subject_pairs(glyph, word, rng) for glyph, word in zip(scene.glyphs, words, strict=True))
    return {"caption": text, "subject": words[0], "subject2": words[1]}, references


COMBINATIONS: Mapping[str, Callable[[WorldTasks, np.random.Generator], Draft]] = {
    "style_subject": style_subject,
    "multi_subject": multi_subject,
    "control_subject": control_subject,
    "control_style": control_style,
    "subject_style_mask": subject_style_mask,
    "two_subjects_style": two_subjects_style,
    "subject_edge_style": subject_edge_style,
}
