"""The paper's suites over real data: which instruction goes with which pictures (§4), as many as the paper has.

    cases = real_cases("style_subject", {"styledrop": Path(...), "dreambench": Path(...)})

The paper does not say which style met which subject; here they are drawn from all combinations by a fixed seed, none
twice. Where a release holds too few, there are fewer cases, and the scores say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from ...data.controls import ControlModels
from ...data.sources.building import as_phrase
from ...data.templates import COMBINATION_TASKS, fill, reference_text, templates
from ...instruction import Instruction, Reference
from ..suites import EvaluationError
from .releases import (
    ControlPicture,
    Subject,
    open_picture,
    read_controls,
    read_custom_concepts,
    read_dreambench,
    read_faces,
    read_prompts,
    read_style_pictures,
)

SEED = 9_100_001
MOST_REFERENCES = 3
REFERENCE_PX = 1024  # longer pictures are reduced, as for training
RELEASES = ("imagenhub_text", "imagenhub_control", "dreambench", "customconcept101", "styledrop", "celeba")
_CONTROL_NAMES = {"depth": "depth map", "mask": "mask", "edge": "edge map", "sketch": "sketch"}

_Item = TypeVar("_Item")
_Shown = tuple[str, tuple[Image.Image, ...], dict[str, str]]  # kind, pictures, words of what one marker names


@dataclass(frozen=True)
class RealCase:
    """One instruction over real pictures.

    Attributes:
        key: "<suite>/<index>".
        instruction: what the model is asked.
        seed: for the noise from which a model draws.
        caption: what the picture should show, in words; empty where no words say it.
        subjects: for each subject (or person) the pictures that show it.
        style: the style picture.
        control: kind and picture of the control.
        truth: a real picture that fulfils the instruction, where the release has one.
    """

    key: str
    instruction: Instruction
    seed: int
    caption: str = ""
    subjects: tuple[tuple[Image.Image, ...], ...] = ()
    style: Image.Image | None = None
    control: tuple[str, Image.Image] | None = None
    truth: Image.Image | None = None

    @property
    def index(self) -> int:
        """Its place in the suite."""
        return int(self.key.rpartition("/")[2])


@dataclass(frozen=True)
class RealSuite:
    """One of the paper's suites.

    Attributes:
        name: of the suite, and of the task whose sentences it uses.
        count: number of instructions in the paper.
        releases: names in `RELEASES` that it is made of.
        draft: yields what `_finish` needs, in a fixed order.
    """

    name: str
    count: int
    releases: tuple[str, ...]
    draft: Callable[[Mapping[str, Path], np.random.Generator], Iterator[_Draft]]


@dataclass(frozen=True)
class _Draft:
    """Slots of the sentence, per marker its kind, pictures and words, and what `RealCase` keeps."""

    task: str
    slots: dict[str, str]
    shown: tuple[_Shown, ...] = ()
    subjects: tuple[tuple[Image.Image, ...], ...] = ()
    style: Image.Image | None = None
    control: tuple[str, Image.Image] | None = None
    truth: Image.Image | None = None
    instruction: Instruction | None = None


def real_cases(name: str, data: Mapping[str, Path], count: int | None = None, seed: int = SEED) -> list[RealCase]:
    """The cases of one suite.

    Args:
        name: key in `REAL_SUITES`.
        data: where the releases are, by their names in `RELEASES`.
        count: the first so many; the paper's number if None.
        seed: of all choices.

    Raises:
        EvaluationError: no such suite, or one of its releases is not given.
        DataError: a release cannot be read.
    """
    if name not in REAL_SUITES:
        raise EvaluationError(f"There is no suite {name!r} of real data; there are {', '.join(REAL_SUITES)}.")
    suite = REAL_SUITES[name]
    if missing := [release for release in suite.releases if release not in data]:
        raise EvaluationError(
            f"The suite {name!r} needs --data {missing[0]}=DIR; docs/evaluation.md says what that is."
        )
    wanted = suite.count if count is None else min(count, suite.count)
    cases: list[RealCase] = []
    for draft in suite.draft(data, np.random.default_rng([seed, list(REAL_SUITES).index(name)])):
        if len(cases) == wanted:
            break
        cases.append(_finish(draft, f"{name}/{len(cases)}", np.random.default_rng([seed, 1, len(cases)])))
    if not cases:
        raise EvaluationError(f"The releases hold nothing for the suite {name!r}.")
    return cases


def _finish(draft: _Draft, key: str, rng: np.random.Generator) -> RealCase:
    instruction = draft.instruction or _sentence(draft, rng)
    return RealCase(
        key,
        instruction,
        int(rng.integers(2**31)),
        draft.slots.get("caption", ""),
        draft.subjects,
        draft.style,
        draft.control,
        draft.truth,
    )


def _sentence(draft: _Draft, rng: np.random.Generator) -> Instruction:
    options = templates(draft.task, "held_out" if draft.task in COMBINATION_TASKS else "train")
    text = fill(options[int(rng.integers(len(options)))], **draft.slots)
    references = []
    for marker, (kind, pictures, words) in enumerate(draft.shown, start=1):
        named = reference_text(kind, rng, **words)
        references += [Reference(picture, named, marker) for picture in pictures]
    return Instruction(text, tuple(references))


def _open(source: Path | bytes) -> Image.Image:
    image = open_picture(source)
    image.thumbnail((REFERENCE_PX, REFERENCE_PX), Image.Resampling.LANCZOS)
    return image


def _shuffled(items: Sequence[_Item], rng: np.random.Generator) -> list[_Item]:
    return [items[int(k)] for k in rng.permutation(len(items))]


def _pairs(num_first: int, num_second: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """All combinations of two sets in a random order that spreads over both: diagonals of a shuffled table."""
    first, second = rng.permutation(num_first), rng.permutation(num_second)
    longer = max(num_first, num_second)
    for shift in range(min(num_first, num_second)):
        for k in range(longer):
            i, j = (k, (k + shift) % num_second) if num_first >= num_second else ((k + shift) % num_first, k)
            yield int(first[i]), int(second[j])


def _captioned(caption: str) -> dict[str, str]:
    return {"caption": as_phrase(caption)}


def _subject_shown(subject: Subject) -> _Shown:
    pictures = tuple(_open(path) for path in subject.pictures[:MOST_REFERENCES])
    return "subject", pictures, {"subject": subject.word}


def _text(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    for prompt in read_prompts(data["imagenhub_text"]):
        yield _Draft("text", _captioned(prompt))


def _control(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    """Depth, mask and edge in turn, as long as there are any of them."""
    kinds: dict[str, list[ControlPicture]] = {"depth": [], "mask": [], "edge": []}
    for control in _shuffled(read_controls(data["imagenhub_control"]), rng):
        if control.kind in kinds:
            kinds[control.kind].append(control)
    for place in range(max(len(found) for found in kinds.values())):
        for kind, found in kinds.items():
            if place < len(found):
                control, guide = found[place], _open(found[place].guide)
                truth = _open(control.source) if control.source else None
                shown: _Shown = (kind, (guide,), {})
                yield _Draft(kind, _captioned(control.caption), (shown,), control=(kind, guide), truth=truth)


def _style(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    styles, prompts = read_style_pictures(data["styledrop"]), read_prompts(data["imagenhub_text"])
    for i, j in _pairs(len(styles), len(prompts), rng):
        style = _open(styles[i])
        yield _Draft("style", _captioned(prompts[j]), (("style", (style,), {}),), style=style)


def _subject(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    for subject, prompt in _prompted(data, rng):
        shown = _subject_shown(subject)
        slots = {**_captioned(prompt), "subject": subject.word}
        yield _Draft("subject", slots, (shown,), (shown[1],))


def _prompted(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[tuple[Subject, str]]:
    """Subjects in turn, each with another of its prompts every time."""
    subjects = _shuffled(read_dreambench(data["dreambench"]), rng)
    prompts = [_shuffled(subject.prompts, rng) for subject in subjects]
    for place in range(max(len(texts) for texts in prompts)):
        for subject, texts in zip(subjects, prompts, strict=True):
            if place < len(texts):
                yield subject, texts[place]


def _face(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    """CelebA's examples come with their sentences."""
    for example in read_faces(data["celeba"], SEED, REAL_SUITES["face"].count):
        pictures = tuple(reference.image for reference in example.instruction.references)
        yield _Draft("face", {}, subjects=(pictures,), truth=example.target, instruction=example.instruction)


def _style_transfer(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    """Style pictures over pictures of subjects, of which no words are told."""
    styles = read_style_pictures(data["styledrop"])
    contents = [subject.pictures[0] for subject in read_dreambench(data["dreambench"])]
    for i, j in _pairs(len(styles), len(contents), rng):
        style, content = _open(styles[i]), _open(contents[j])
        shown: tuple[_Shown, ...] = (("style", (style,), {}), ("content", (content,), {}))
        yield _Draft("style_transfer", {}, shown, ((content,),), style)


def _style_subject(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    styles, prompted = read_style_pictures(data["styledrop"]), list(_prompted(data, rng))
    for i, j in _pairs(len(styles), len(prompted), rng):
        (subject, prompt), style = prompted[j], _open(styles[i])
        shown = _subject_shown(subject)
        slots = {**_captioned(prompt), "subject": subject.word}
        yield _Draft("style_subject", slots, (shown, ("style", (style,), {})), (shown[1],), style)


def _multi_subject(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    pairs = _shuffled(read_custom_concepts(data["customconcept101"]), rng)
    for place in range(max(len(pair.prompts) for pair in pairs)):
        for pair in pairs:
            if place < len(pair.prompts):
                shown = (_subject_shown(pair.first), _subject_shown(pair.second))
                slots = {
                    **_captioned(pair.prompts[place]),
                    "subject": pair.first.word,
                    "subject2": pair.second.word,
                }
                yield _Draft("multi_subject", slots, shown, tuple(pictures for _, pictures, _ in shown))


def _control_subject(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    """The edges of one picture of a subject, filled by another subject of the same kind."""
    models = ControlModels.classical()
    subjects = read_dreambench(data["dreambench"])
    kin = [(a, b) for a in subjects for b in subjects if a.word == b.word and a.name != b.name]
    for shape, subject in _shuffled([(a, b) for a, b in kin for _ in range(MOST_REFERENCES)], rng):
        picture = _open(shape.pictures[int(rng.integers(len(shape.pictures)))])
        edges = models.edge(picture, rng)
        if edges is None:
            continue
        control, shown = Image.fromarray(edges), _subject_shown(subject)
        prompt = subject.prompts[int(rng.integers(len(subject.prompts)))]
        slots = {**_captioned(prompt), "subject": subject.word, "control": _CONTROL_NAMES["edge"]}
        yield _Draft(
            "control_subject", slots, (("edge", (control,), {}), shown), (shown[1],), control=("edge", control)
        )


def _control_style(data: Mapping[str, Path], rng: np.random.Generator) -> Iterator[_Draft]:
    styles, controls = read_style_pictures(data["styledrop"]), read_controls(data["imagenhub_control"])
    for i, j in _pairs(len(styles), len(controls), rng):
        style, control = _open(styles[i]), controls[j]
        guide = _open(control.guide)
        slots = {**_captioned(control.caption), "control": _CONTROL_NAMES[control.kind]}
        shown: tuple[_Shown, ...] = ((control.kind, (guide,), {}), ("style", (style,), {}))
        yield _Draft("control_style", slots, shown, style=style, control=(control.kind, guide))


REAL_SUITES: Mapping[str, RealSuite] = {  # with the paper's numbers (§4)
    suite.name: suite
    for suite in (
        RealSuite("text", 197, ("imagenhub_text",), _text),
        RealSuite("control", 300, ("imagenhub_control",), _control),
        RealSuite("style", 120, ("styledrop", "imagenhub_text"), _style),
        RealSuite("subject", 220, ("dreambench",), _subject),
        RealSuite("face", 100, ("celeba",), _face),
        RealSuite("style_transfer", 455, ("styledrop", "dreambench"), _style_transfer),
        RealSuite("style_subject", 132, ("styledrop", "dreambench"), _style_subject),
        RealSuite("multi_subject", 120, ("customconcept101",), _multi_subject),
        RealSuite("control_subject", 99, ("dreambench",), _control_subject),
        RealSuite("control_style", 100, ("styledrop", "imagenhub_control"), _control_style),
    )
}
