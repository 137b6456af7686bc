"""Masked edits of rendered scenes: source, mask, instruction, target (the paper's fine-tuning set, Table 2).

Source and target are the same scene but for one change, so every pixel outside the mask is equal in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..world import (
    GlyphPack,
    Render,
    Scene,
    SceneSampler,
    Style,
    ground_phrase,
    render,
    sample_ground,
    subject_phrase,
    with_article,
)

MIN_CHANGED_SHARE, MIN_KEPT_SHARE = 0.01, 0.02  # of the picture; less cannot be seen
EDITS = ("replace", "remove", "add", "ground")
_REPLACE = (
    "replace the {a} with {b}",
    "turn the {a} into {b}",
    "swap the {a} for {b}",
    "exchange the {a} for {b}",
    "change the {a} to {b}",
    "put {b} where the {a} is",
)
_REMOVE = (
    "remove the {a}",
    "take the {a} away",
    "delete the {a}",
    "erase the {a}",
    "let the {a} disappear",
    "make the picture without the {a}",
)
_ADD = (
    "add {a}",
    "put {a} there",
    "place {a} here",
    "insert {a}",
    "draw {a} into the picture",
    "let there be {a} as well",
)
_GROUND = (
    "change the background and show the {a} {ground}",
    "put the {a} {ground}",
    "show the {a} {ground} instead",
    "move the {a} elsewhere, so that we see it {ground}",
)


@dataclass(frozen=True)
class WorldEdit:
    """One edit.

    Attributes:
        kind: one of `EDITS`.
        words: what to do, without a full stop.
        before, after: the scenes.
        source, target: their pictures.
        mask: bool [S, S]; outside of it the pictures are equal.
    """

    kind: str
    words: str
    before: Scene
    after: Scene
    source: Render
    target: Render
    mask: np.ndarray


def draw_edit(
    sampler: SceneSampler, pack: GlyphPack, size_px: int, style: Style, rng: np.random.Generator
) -> WorldEdit:
    """Draws an edit whose change can be seen, and what it leaves as it is, too.

    Args:
        sampler: of the scenes; its split holds for what is put in, too.
        pack: the glyphs.
        size_px: side of the pictures.
        style: of both pictures; one without texture, or all pixels would change.
        rng: source of all chance here.
    """
    while True:
        kind = EDITS[int(rng.integers(len(EDITS)))]
        words, before, after = _scenes(kind, sampler, pack, style, rng)
        source, target = render(before, pack, size_px), render(after, pack, size_px)
        changed = (source.image != target.image).any(axis=2)
        if changed.mean() < MIN_CHANGED_SHARE:
            continue
        mask = _mask_around(changed, rng)
        if (~mask).mean() >= MIN_KEPT_SHARE:
            return WorldEdit(kind, words, before, after, source, target, mask)


def _scenes(
    kind: str, sampler: SceneSampler, pack: GlyphPack, style: Style, rng: np.random.Generator
) -> tuple[str, Scene, Scene]:
    """Words, and the scene before and after."""
    if kind == "ground":
        scene = sampler.sample(rng, num_subjects=1, style=style)
        grounds = iter(lambda: sample_ground(rng), None)
        after = replace(scene, ground=next(ground for ground in grounds if ground.kind != scene.ground.kind))
        alone = subject_phrase(pack[scene.glyphs[0]], rng)
        return _pick(rng, _GROUND).format(a=alone, ground=ground_phrase(after.ground, rng)), scene, after
    least = 1 if kind == "replace" else 2
    scene = sampler.sample(rng, num_subjects=least + int(rng.random() < 0.3), style=style)
    place = int(rng.integers(len(scene.subjects)))
    chosen = subject_phrase(pack[scene.glyphs[place]], rng)
    if kind == "replace":
        others = [glyph for glyph in sampler.glyphs if glyph not in scene.glyphs]
        glyph = others[int(rng.integers(len(others)))]
        subjects = list(scene.subjects)
        subjects[place] = replace(subjects[place], glyph=glyph)
        words = _pick(rng, _REPLACE).format(a=chosen, b=with_article(subject_phrase(pack[glyph], rng)))
        return words, scene, replace(scene, subjects=tuple(subjects))
    rest = tuple(subject for index, subject in enumerate(scene.subjects) if index != place)
    fewer = replace(scene, subjects=rest, relation=None)
    if kind == "remove":
        return _pick(rng, _REMOVE).format(a=chosen), scene, fewer
    return _pick(rng, _ADD).format(a=with_article(chosen)), fewer, scene


def _mask_around(changed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The changed pixels and some around them, as a person would paint over the place."""
    reach = 3 + 2 * int(rng.integers(1 + max(1, changed.shape[0] // 24)))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return cv2.morphologyEx(cv2.dilate(changed.astype(np.uint8), brush), cv2.MORPH_CLOSE, brush) > 0


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
