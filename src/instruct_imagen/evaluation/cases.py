"""Cases: the instructions of one task of a suite, with all that the world knows about each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from ..data.world_tasks import RAW, WorldExample, WorldTasks
from ..instruction import Instruction
from ..world import (
    STYLE_NAMES,
    GlyphPack,
    PortraitSampler,
    SceneSampler,
    canny_edges,
    edge_map,
    parse_portrait,
    styles_of,
)
from .pictures import JUDGE_SIZE_PX
from .suites import Condition, Suite, SuiteTask

NUM_CANDIDATES = 16
MIN_EDGE_PX = 48  # paler pictures have nothing to follow
MIN_SOLID_SHARE = 0.85  # of a mask's area, in 3 x 3 pixel squares; one glyph in nine is finer than that
READABLE_RELATIONS = ("next to", "left of", "right of", "above", "below")  # what covers what, no judge here can tell
MAX_SUBJECTS = 2  # three are too small to be told apart at 32 pixels
_CONTROL_MARKERS = {"subject_style_mask": 3, "subject_edge_style": 2}  # in the others the control comes first


class Case(Protocol):
    """What a source of pictures is asked for: one of the world's, or one over real pictures."""

    @property
    def key(self) -> str:
        """ "<task>/<index>"."""
        ...

    @property
    def index(self) -> int:
        """Its place in the task."""
        ...

    @property
    def instruction(self) -> Instruction:
        """What to draw."""
        ...

    @property
    def seed(self) -> int:
        """For the noise from which a model draws."""
        ...


@dataclass(frozen=True)
class SuiteCase:
    """One instruction to follow, with all that is known about it.

    Attributes:
        key: "<task>/<index>".
        world: instruction, true picture, scene and masks.
        candidates: sorted keys of the glyphs or people among which an identity judge chooses: those of the scene and
            others; empty where nothing is to be told apart.
        seed: for the noise from which a model draws.
    """

    key: str
    world: WorldExample
    candidates: tuple[str, ...]
    seed: int

    @property
    def index(self) -> int:
        """Its place in the task."""
        return int(self.key.rpartition("/")[2])

    @property
    def instruction(self) -> Instruction:
        """What the model is asked."""
        return self.world.example.instruction

    @property
    def truth(self) -> np.ndarray:
        """The true picture, uint8 [64, 64, 3]."""
        return self.world.picture.image

    @property
    def styled(self) -> bool:
        """Whether the true picture is in a style."""
        return self.world.scene.style.name != STYLE_NAMES[0]

    def candidates_for(self, subject: int) -> tuple[str, ...]:
        """The candidates without the scene's other subjects, which are rightly there."""
        glyphs = self.world.scene.glyphs
        others = set(glyphs) - {glyphs[subject]}
        return tuple(candidate for candidate in self.candidates if candidate not in others)

    def has(self, condition: Condition) -> bool:
        """Whether the case asks for this: a second subject, say, or a relation."""
        scene = self.world.scene
        if condition.kind == "relation":
            return len(scene.subjects) > 1 and scene.relation is not None
        if condition.kind == "hat":  # without one, the caption says nothing of it
            return parse_portrait(scene.glyphs[0]).hat != "none"
        return condition.kind != "identity" or condition.subject < len(scene.subjects)


def suite_cases(task: SuiteTask, suite: Suite, pack: GlyphPack, num_templates: int | None = None) -> list[SuiteCase]:
    """The cases of one task.

    Args:
        task: one of the suite's tasks.
        suite: gives the number of cases and the seed.
        pack: the glyphs; another pack gives other scenes.
        num_templates: 0 (`RAW`) asks for the very same pictures without instructions, for a model that was trained so.
    """
    builder = _builder(task, pack)
    raw = _builder(task, pack, RAW) if num_templates == RAW else None
    stream = zlib.crc32((task.stream or task.name).encode())
    return [_case(task, builder, raw, (suite.seed, stream, index), index) for index in range(suite.num_per_task)]


def _builder(task: SuiteTask, pack: GlyphPack, num_templates: int | None = None) -> WorldTasks:
    builder = WorldTasks(
        pack,
        "held_out",
        JUDGE_SIZE_PX,
        wording=task.wording,
        generic_share=task.generic_share,
        name_styles=False,
        num_templates=num_templates,
        num_pictures=1 if task.judge is not None and task.task == "subject" else None,
    )
    styles = () if task.styles is None else styles_of(STYLE_NAMES, task.styles)
    # "held_out" is the split that may show everything.
    builder.sampler = SceneSampler(
        pack, "held_out", styles, glyphs=task.glyphs, num_subjects=task.num_subjects, plain_share=1.0
    )
    builder.portraits = PortraitSampler(task.glyphs)
    return builder


def _case(
    task: SuiteTask, builder: WorldTasks, raw: WorldTasks | None, seed: tuple[int, int, int], index: int
) -> SuiteCase:
    """One case; `raw` asks for it without an instruction, once `builder` has found a scene that can be judged."""
    rng = np.random.default_rng(seed)
    key = f"{task.name}/{index}"
    while True:
        before = rng.bit_generator.state
        world = builder.build(task.task, rng, key)
        if _readable(task, world):
            break
    marker = _CONTROL_MARKERS.get(task.task, 1)
    controls = [place for place, found in enumerate(world.example.instruction.references) if found.marker == marker]
    if raw is not None:
        again = np.random.default_rng()
        again.bit_generator.state = before
        world = raw.build(task.task, again, key)
    if task.judge is None:  # whatever the sentence, the same candidates and the same noise
        rng = np.random.default_rng((*seed, 1))
    if "edge" in (task.judge, world.control):
        world = _with_whole_edges(world, controls)
    return SuiteCase(key, world, _candidates(task, builder, world, rng), int(rng.integers(2**31)))


def _candidates(task: SuiteTask, builder: WorldTasks, world: WorldExample, rng: np.random.Generator) -> tuple[str, ...]:
    """The scene's glyphs and fifteen others; for portraits, fifteen other people."""
    kinds = {condition.kind for condition in task.conditions}
    if "face" in kinds:
        others = [builder.portraits.portrait(rng).key for _ in range(NUM_CANDIDATES - 1)]
        return tuple(sorted([world.scene.glyphs[0], *others]))
    if task.judge != "identity" and not kinds & {"identity", "inside"}:
        return ()
    shown = set(world.scene.glyphs) | (set(world.edit.before.glyphs) if world.edit else set())
    rest = [glyph for glyph in builder.sampler.glyphs if glyph not in shown]
    drawn = rng.choice(len(rest), min(NUM_CANDIDATES - 1, len(rest)), replace=False)
    return tuple(sorted([*shown, *(rest[int(k)] for k in drawn)]))


def _readable(task: SuiteTask, world: WorldExample) -> bool:
    """Whether judges could read the truth; it looks at the truth alone, never at a model.

    Edge maps have edges on them, masks are more than thin lines, there are two subjects at most, and their relation is
    one that their places tell.
    """
    kinds = {task.judge, world.control}
    if "edge" in kinds and int(np.count_nonzero(canny_edges(world.picture.image))) < MIN_EDGE_PX:
        return False
    if kinds & {"mask", "sketch"}:
        mask = world.picture.mask.astype(np.uint8)
        solid = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        if int(solid.sum()) < MIN_SOLID_SHARE * int(mask.sum()):
            return False
    if world.edit is not None and max(len(world.edit.before.subjects), len(world.edit.after.subjects)) > MAX_SUBJECTS:
        return False
    scene = world.scene
    if len(scene.subjects) > MAX_SUBJECTS or (task.task == "multi_subject" and scene.relation is None):
        return False
    return task.task == "edit" or scene.relation in (None, *READABLE_RELATIONS)


def _with_whole_edges(world: WorldExample, places: Sequence[int]) -> WorldExample:
    """Replaces the references in these places by all edges, one pixel wide and without gaps."""
    instruction = world.example.instruction
    edges = Image.fromarray(edge_map(world.picture, "full"))
    references = tuple(
        replace(reference, image=edges) if place in places else reference
        for place, reference in enumerate(instruction.references)
    )
    exact = Instruction(instruction.text, references)
    return replace(world, example=replace(world.example, instruction=exact))
