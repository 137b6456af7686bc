"""Suites: sets of instructions with their truth, fixed by a seed and independent of any model.

    suite = get_suite("quick")
    cases = suite_cases(suite.task("mask"), suite, pack)

Scenes, references and wordings come from the builders that training uses (`WorldTasks`), with one subject in each
picture. What a task measures is held apart from what else could help: a style is shown and never named, a subject
that the model has never seen is called only "object" or the like.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from ..data.world_tasks import GENERIC_SHARE, WorldExample, WorldTasks
from ..errors import UserError
from ..instruction import Instruction
from ..world import (
    STYLE_NAMES,
    GlyphPack,
    SceneSampler,
    Split,
    canny_edges,
    edge_map,
    styles_of,
)
from .pictures import JUDGE_SIZE_PX

JudgeName = Literal["mask", "edge", "style", "identity"]
NUM_CANDIDATES = 16
MIN_EDGE_PX = 48  # paler pictures have nothing to follow
MIN_SOLID_SHARE = 0.85  # of a mask's area, in 3 x 3 pixel squares; one glyph in nine is finer than that


class EvaluationError(UserError):
    """An evaluation was asked for that cannot be done; the message says what to mend."""


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite and what is measured on it.

    Attributes:
        name: name of the task in the suite and in the scores.
        task: name of the task that `WorldTasks` builds.
        judge: what judges its pictures.
        glyphs: split of the subjects.
        styles: split of the target's style; None for plain pictures.
        generic_share: how often a referenced subject is called only "object" or the like.
        drop_context: whether the model has to do without the references.
        stream: seeds the examples; tasks of one stream have the same instructions. The task's name if empty.
    """

    name: str
    task: str
    judge: JudgeName
    glyphs: Split = "train"
    styles: Split | None = None
    generic_share: float = GENERIC_SHARE
    drop_context: bool = False
    stream: str = ""


@dataclass(frozen=True)
class Suite:
    """Tasks that are run together.

    Attributes:
        name: key in `SUITES`.
        tasks: in the order of the report.
        num_per_task: number of instructions of each task; the first ones stay the same when it changes.
        seed: of everything; suites differ in it, and no training source uses it.
    """

    name: str
    tasks: tuple[SuiteTask, ...]
    num_per_task: int = 64
    seed: int = 9_000_001

    def task(self, name: str) -> SuiteTask:
        """The task of that name.

        Raises:
            EvaluationError: there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        known = ", ".join(task.name for task in self.tasks)
        raise EvaluationError(f"The suite {self.name!r} has no task {name!r}; its tasks are {known}.")


@dataclass(frozen=True)
class SuiteCase:
    """One instruction to follow, with all that is known about it.

    Attributes:
        key: "<task>/<index>".
        world: instruction, true picture, scene and masks.
        candidates: sorted keys of the glyphs among which the identity judge chooses; empty for other judges.
        seed: for the noise from which a model draws.
    """

    key: str
    world: WorldExample
    candidates: tuple[str, ...]
    seed: int

    @property
    def instruction(self) -> Instruction:
        """What the model is asked."""
        return self.world.example.instruction

    @property
    def truth(self) -> np.ndarray:
        """The true picture, uint8 [64, 64, 3]."""
        return self.world.picture.image


_SUBJECT = SuiteTask("subject", "subject", "identity", glyphs="held_out", generic_share=1.0, stream="subject")

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "quick",
            (
                SuiteTask("mask", "mask", "mask"),
                SuiteTask("edge", "edge", "edge"),
                SuiteTask("style", "style", "style", styles="train"),
                SuiteTask("style_held_out", "style", "style", styles="held_out"),
                _SUBJECT,
                replace(_SUBJECT, name="subject_without_reference", drop_context=True),
                SuiteTask("text", "text", "identity"),
            ),
        ),
    )
}


def get_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        EvaluationError: there is none.
    """
    if name not in SUITES:
        raise EvaluationError(f"There is no suite {name!r}; the suites are {', '.join(sorted(SUITES))}.")
    return SUITES[name]


def _builder(task: SuiteTask, pack: GlyphPack) -> WorldTasks:
    builder = WorldTasks(
        pack,
        "held_out",
        JUDGE_SIZE_PX,
        wording="train",
        generic_share=task.generic_share,
        name_styles=False,
    )
    styles = () if task.styles is None else styles_of(STYLE_NAMES, task.styles)
    # "held_out" is the split that may show everything.
    builder.sampler = SceneSampler(pack, "held_out", styles, glyphs=task.glyphs, num_subjects=1, plain_share=1.0)
    return builder


def suite_cases(task: SuiteTask, suite: Suite, pack: GlyphPack) -> list[SuiteCase]:
    """The cases of one task.

    Args:
        task: one of the suite's tasks.
        suite: gives the number of cases and the seed.
        pack: the glyphs; another pack gives other scenes.
    """
    builder = _builder(task, pack)
    stream = zlib.crc32((task.stream or task.name).encode())
    return [_case(task, builder, (suite.seed, stream, index), index) for index in range(suite.num_per_task)]


def _case(task: SuiteTask, builder: WorldTasks, seed: tuple[int, int, int], index: int) -> SuiteCase:
    rng = np.random.default_rng(seed)
    key = f"{task.name}/{index}"
    world = builder.build(task.task, rng, key)
    while not _readable(task, world):
        world = builder.build(task.task, rng, key)
    if task.task == "subject":
        world = _with_one_reference(world)
    if task.judge == "edge":
        world = _with_whole_edges(world)
    candidates: tuple[str, ...] = ()
    if task.judge == "identity":
        true = world.scene.glyphs[0]
        others = [glyph for glyph in builder.sampler.glyphs if glyph != true]
        drawn = rng.choice(len(others), min(NUM_CANDIDATES - 1, len(others)), replace=False)
        candidates = tuple(sorted([true, *(others[int(k)] for k in drawn)]))
    return SuiteCase(key, world, candidates, int(rng.integers(2**31)))


def _readable(task: SuiteTask, world: WorldExample) -> bool:
    """Whether the judge could read the truth: an edge map with edges on it, a mask that is more than thin lines."""
    if task.judge == "edge":
        return int(np.count_nonzero(canny_edges(world.picture.image))) >= MIN_EDGE_PX
    if task.judge == "mask":
        mask = world.picture.mask.astype(np.uint8)
        solid = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return int(solid.sum()) >= MIN_SOLID_SHARE * int(mask.sum())
    return True


def _with_one_reference(world: WorldExample) -> WorldExample:
    """Keeps the first picture of the subject alone."""
    instruction = world.example.instruction
    kept = Instruction(instruction.text, instruction.references[:1])
    return replace(world, example=replace(world.example, instruction=kept))


def _with_whole_edges(world: WorldExample) -> WorldExample:
    """Replaces the edge reference by all edges, one pixel wide and without gaps."""
    instruction = world.example.instruction
    edges = Image.fromarray(edge_map(world.picture, "full"))
    reference = replace(instruction.references[0], image=edges)
    exact = Instruction(instruction.text, (reference,))
    return replace(world, example=replace(world.example, instruction=exact))
