"""Examples of every task from the glyph world: a scene, its truth, and an instruction in words and pictures.

Training and evaluation share these builders, so a suite differs from training only in its splits (held-out glyphs,
styles and wordings) and in tasks that training never draws (`COMBINATION_TASKS`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from ..instruction import Instruction, Reference
from ..retrieval.examples import cluster_instruction
from ..world import (
    GENERIC_WORDS,
    PERSON_WORDS,
    GlyphPack,
    Portraits,
    PortraitSampler,
    Render,
    Scene,
    SceneSampler,
    Split,
    Style,
    caption,
    identity_of,
    parse_portrait,
    portrait_caption,
    render,
    sample_style,
    style_phrases,
    subject_phrase,
)
from .example import Example
from .templates import COMBINATION_TASKS, CONTROL_TASKS, Template, fill, reference_text, templates
from .world_combinations import COMBINATIONS, told_apart
from .world_draft import PLAIN_STYLE, Draft, WorldExample, as_image, control_picture
from .world_edit import draw_edit

MIN_RENDER_PX = 64
GENERIC_SHARE = 0.5  # share of subject references that the text calls only "object", "thing", ...
PORTRAIT_SHARE = 0.1  # of pre-training and stage 1, as the two face sets are a tenth of stage 2
PORTRAITS = Portraits()
RAW = 0  # number of templates that stands for "no instruction": the bare caption and the pictures


def render_size(size_px: int) -> int:
    """Side at which the world is rendered for a model of side `size_px`; a small model sees it reduced, as users do."""
    return max(size_px, MIN_RENDER_PX)


@cache
def _templates(task: str, split: Split) -> tuple[Template, ...]:
    return templates(task, split)


class WorldTasks:
    """Builds examples of one split.

    Args:
        pack: the glyphs.
        split: of glyphs, styles and instruction wordings.
        size_px: side of targets and references.
        styles: split of the styles, where it differs from the glyphs' (in evaluation, trained styles are asked for
            on held-out glyphs).
        generic_share: how often a referenced subject is called only "object" and the like; 1.0 in evaluation, so that
            nothing but the reference tells what it is.
        name_styles: whether a style reference's text may name the style.
        num_templates: how many of the wordings of each training task are used, the first ones in their file; all
            without a number. `RAW` asks without an instruction: the bare caption, then the pictures, without texts.
        num_pictures: of each marker at most.
    """

    def __init__(
        self,
        pack: GlyphPack,
        split: Split = "train",
        size_px: int = 64,
        *,
        styles: Sequence[str] | None = None,
        wording: Split | None = None,
        generic_share: float = GENERIC_SHARE,
        name_styles: bool = True,
        num_templates: int | None = None,
        num_pictures: int | None = None,
    ):
        self.pack = pack
        self.size_px = size_px
        self.sampler = SceneSampler(pack, split, styles)
        self.portraits = PortraitSampler(split, self.sampler.styles)
        self.wording: Split = split if wording is None else wording
        self.generic_share = generic_share
        self.name_styles = name_styles
        self.num_templates = num_templates
        self.num_pictures = num_pictures

    def build(self, task: str, rng: np.random.Generator, key: str) -> WorldExample:
        """One example of `task`, a name from `TRAINING_TASKS`, `FINE_TUNING_TASKS` or `COMBINATION_TASKS`."""
        builders: dict[str, Callable[[np.random.Generator], Draft]] = {
            "text": self._text,
            "art": self._art,
            "depth": self._control("depth"),
            "mask": self._control("mask"),
            "edge": self._control("edge"),
            "sketch": self._control("sketch"),
            "subject": self._subject,
            "face": self._face(close=False),
            "face_hq": self._face(close=True),
            "style": self._style,
            "style_transfer": self._style_transfer,
            "edit": self._edit,
            **{name: partial(draw, self) for name, draw in COMBINATIONS.items()},
        }
        if task not in builders:
            raise ValueError(f"unknown task {task!r}; choose one of {', '.join(builders)}")
        draft = builders[task](rng)
        draft = replace(draft, references=tuple(pairs[: self.num_pictures] for pairs in draft.references))
        picture = render(draft.scene, self.pack, self.size_px) if draft.picture is None else draft.picture
        instruction = _raw_instruction(draft) if self.num_templates == RAW else self._instruction(task, draft, rng)
        example = Example(instruction, as_image(picture.image), task, key, picture.mask)
        return WorldExample(example, draft.scene, picture, draft.glyphs, draft.control, draft.edit)

    def caption_only(self, rng: np.random.Generator, key: str) -> WorldExample:
        """A captioned picture as pre-training sees it; some are portraits, maps or sketches, as on the web."""
        if rng.random() < PORTRAIT_SHARE:
            scene = self.portraits.scene(rng, close=rng.random() < 0.3, style_share=0.3)
            return self._captioned(
                scene, render(scene, PORTRAITS, self.size_px), portrait_caption(scene, rng), rng, key
            )
        scene = self.sampler.sample(rng)
        picture = render(scene, self.pack, self.size_px)
        text = caption(scene, self.pack, rng)
        if rng.random() < 0.08:
            kind = CONTROL_TASKS[int(rng.integers(len(CONTROL_TASKS)))]
            plain = caption(replace(scene, style=PLAIN_STYLE), self.pack, rng)
            image = control_picture(kind, picture, rng)
            example = Example(Instruction(f"{reference_text(kind, rng)} of {plain}", ()), as_image(image), "text", key)
            return WorldExample(example, scene, picture)
        return self._captioned(scene, picture, text, rng, key)

    def _captioned(self, scene: Scene, picture: Render, text: str, rng: np.random.Generator, key: str) -> WorldExample:
        """A picture with its caption, three times in ten inside an instruction."""
        if self.num_templates != RAW and rng.random() < 0.3:
            options = self._wordings("text")
            text = fill(options[int(rng.integers(len(options)))], caption=text)
        example = Example(Instruction(text, ()), as_image(picture.image), "text", key, picture.mask)
        return WorldExample(example, scene, picture)

    def cluster(self, rng: np.random.Generator, key: str, size: int = 5) -> WorldExample:
        """A stage-1 example: one target and three context pairs out of a cluster of `size` similar pictures (A.2.2).

        What retrieval by picture embedding brings together shares a subject, mostly, and sometimes the style or the
        ground. Departure: the three pairs carry markers, appended to the caption, so that one record serves all stages.
        """
        if rng.random() < PORTRAIT_SHARE:
            return self._portrait_cluster(rng, key, size)
        first = self.sampler.sample(rng, num_subjects=1 if rng.random() < 0.8 else 2)
        same_subject = rng.random() < 0.75
        same_style, same_ground = (rng.random(2) < (0.5, 0.25)) | (not same_subject, False)
        scenes = [first]
        while len(scenes) < size:
            scenes.append(
                self.sampler.sample(
                    rng,
                    glyphs=first.glyphs if same_subject else None,
                    style=first.style if same_style else None,
                    ground=first.ground if same_ground else None,
                )
            )
        pictures = [render(scene, self.pack, self.size_px) for scene in scenes[:4]]
        words = [self.subject_word(glyph, rng) for glyph in first.glyphs] if same_subject else None
        named_style = not (same_style and rng.random() < 0.5)
        text = caption(first, self.pack, rng, subject_words=words, with_style=named_style)
        return _cluster_example(text, first, pictures, [caption(scene, self.pack, rng) for scene in scenes[1:4]], key)

    def _portrait_cluster(self, rng: np.random.Generator, key: str, size: int) -> WorldExample:
        """Portraits of one person, whose looks the caption names or leaves to the context."""
        scenes = [self.portraits.scene(rng, style_share=0.2)]
        identity = parse_portrait(scenes[0].glyphs[0]).identity
        scenes += [self.portraits.scene(rng, identity=identity) for _ in range(size - 1)]
        pictures = [render(scene, PORTRAITS, self.size_px) for scene in scenes[:4]]
        text = portrait_caption(scenes[0], rng, named=rng.random() < 0.5)
        return _cluster_example(text, scenes[0], pictures, [portrait_caption(s, rng) for s in scenes[1:4]], key)

    def _instruction(self, task: str, draft: Draft, rng: np.random.Generator) -> Instruction:
        """A sentence of the task, filled, with the references."""
        options = self._wordings(task)
        text = fill(options[int(rng.integers(len(options)))], **draft.slots)
        references = tuple(
            Reference(as_image(image), words, marker)
            for marker, pairs in enumerate(draft.references, start=1)
            for image, words in pairs
        )
        return Instruction(text, references)

    def _wordings(self, task: str) -> tuple[Template, ...]:
        if task in COMBINATION_TASKS:
            return _templates(task, "held_out")
        return _templates(task, self.wording)[: self.num_templates]

    def _text(self, rng: np.random.Generator) -> Draft:
        scene = self.sampler.sample(rng, style=PLAIN_STYLE)
        return Draft(scene, {"caption": caption(scene, self.pack, rng)})

    def _art(self, rng: np.random.Generator) -> Draft:
        scene = self.sampler.sample(rng, style=self.draw_style(rng))
        phrases = style_phrases(scene.style)
        style = phrases[int(rng.integers(len(phrases)))]
        return Draft(scene, {"caption": caption(scene, self.pack, rng, with_style=False), "style": style})

    def _control(self, kind: str) -> Callable[[np.random.Generator], Draft]:
        def build(rng: np.random.Generator) -> Draft:
            scene = self.sampler.sample(rng, style=None if rng.random() < 0.5 else PLAIN_STYLE)
            picture = render(scene, self.pack, self.size_px)
            pair = (control_picture(kind, picture, rng), reference_text(kind, rng))
            return Draft(scene, {"caption": caption(scene, self.pack, rng)}, ((pair,),), picture, control=kind)

        return build

    def _subject(self, rng: np.random.Generator) -> Draft:
        """One subject from pictures; where the scene has two, the other one is named, or is just some object."""
        scene = self.sampler.sample(
            rng,
            num_subjects=1 if rng.random() < 0.6 else 2,
            style=None if rng.random() < 0.25 else PLAIN_STYLE,
        )
        shown = int(rng.integers(2)) if len(scene.glyphs) > 1 else 0
        words = [self.subject_word(glyph, rng) for glyph in scene.glyphs]
        named = words
        if len(words) > 1 and set(words) <= set(GENERIC_WORDS):
            words, named = told_apart(words)
        text = caption(scene, self.pack, rng, subject_words=named)
        word, glyph = words[shown], scene.glyphs[shown]
        pairs = self.subject_pairs(glyph, word, rng, num_pictures=1 + int(rng.integers(3)))
        return Draft(scene, {"caption": text, "subject": word}, (pairs,), glyphs=(glyph,))

    def _face(self, close: bool) -> Callable[[np.random.Generator], Draft]:
        def build(rng: np.random.Generator) -> Draft:
            scene = self.portraits.scene(rng, close=close)
            portrait = parse_portrait(scene.glyphs[0])
            word = None if rng.random() < 0.5 else identity_of(portrait.identity).kind
            others = [
                self.portraits.scene(rng, identity=portrait.identity, close=close)
                for _ in range(1 if close else 1 + int(rng.integers(3)))
            ]
            text = reference_text("face", rng, subject=word or PERSON_WORDS[0])
            pairs = tuple((render(other, PORTRAITS, self.size_px).image, text) for other in others)
            slots = {"caption": portrait_caption(scene, rng, named=False, word=word)}
            return Draft(scene, slots, (pairs,), render(scene, PORTRAITS, self.size_px), scene.glyphs)

        return build

    def _style(self, rng: np.random.Generator) -> Draft:
        scene = self.sampler.sample(rng, style=self.draw_style(rng))
        return Draft(
            scene,
            {"caption": caption(scene, self.pack, rng, with_style=False)},
            ((self.style_pair(scene.style, rng),),),
        )

    def _style_transfer(self, rng: np.random.Generator) -> Draft:
        scene = self.sampler.sample(rng, style=self.draw_style(rng))
        picture = render(scene, self.pack, self.size_px)
        content = (picture.plain, reference_text("content", rng))
        return Draft(scene, {}, ((self.style_pair(scene.style, rng),), (content,)), picture)

    def _edit(self, rng: np.random.Generator) -> Draft:
        edit = draw_edit(self.sampler, self.pack, self.size_px, PLAIN_STYLE, rng)
        mask = np.repeat(edit.mask[..., None], 3, axis=2).astype(np.uint8) * 255
        source = (edit.source.image, reference_text("source", rng))
        references = ((source,), ((mask, reference_text("mask", rng)),))
        return Draft(edit.after, {"edit": edit.words}, references, edit.target, edit=edit)

    def draw_style(self, rng: np.random.Generator) -> Style:
        return sample_style(rng, self.sampler.styles[int(rng.integers(len(self.sampler.styles)))])

    def subject_word(self, glyph: str, rng: np.random.Generator) -> str:
        if rng.random() < self.generic_share:
            return GENERIC_WORDS[int(rng.integers(len(GENERIC_WORDS)))]
        return subject_phrase(self.pack[glyph], rng)

    def subject_pairs(
        self, glyph: str, word: str, rng: np.random.Generator, num_pictures: int = 1
    ) -> tuple[tuple[np.ndarray, str], ...]:
        """Pictures of a glyph in other scenes, under one marker."""
        scenes = [self.sampler.sample(rng, glyphs=[glyph], style=PLAIN_STYLE) for _ in range(num_pictures)]
        text = reference_text("subject", rng, subject=word)
        return tuple((render(scene, self.pack, self.size_px).image, text) for scene in scenes)

    def style_pair(self, style: Style, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """Another scene in the same style."""
        scene = self.sampler.sample(rng, style=style)
        named = {"style": style_phrases(style)[0]} if self.name_styles else {}
        return render(scene, self.pack, self.size_px).image, reference_text("style", rng, **named)


def _cluster_example(
    text: str, scene: Scene, pictures: Sequence[Render], captions: Sequence[str], key: str
) -> WorldExample:
    """The first picture as the target, the others as its context."""
    context = [(as_image(picture.image), words) for picture, words in zip(pictures[1:], captions, strict=True)]
    instruction = cluster_instruction(text, context)
    example = Example(instruction, as_image(pictures[0].image), "cluster", key, pictures[0].mask)
    return WorldExample(example, scene, pictures[0])


def _raw_instruction(draft: Draft) -> Instruction:
    """What a data set without instructions gives: the caption, if there is one, and the pictures in their order."""
    words = draft.slots.get("caption", draft.slots.get("edit", ""))
    style = draft.slots.get("style", "")
    pictures = [(as_image(image), "") for pairs in draft.references for image, _ in pairs]
    return cluster_instruction(f"{words}, {style}" if style else words, pictures)
