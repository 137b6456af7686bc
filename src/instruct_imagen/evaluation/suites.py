"""Suites: sets of instructions with their truth, fixed by a seed and independent of any model.

    suites = get_suites("zero_shot")
    cases = suite_cases(suites[0].task("style_subject"), suites[0], pack)      # cases.py

The scenes come from the builders that training uses (`WorldTasks`). `quick` holds the tasks of a first look, each
with one judge and one subject. The others are the paper's suites (§4), what goes beyond it (§5.3), editing (Table 2),
and the in-domain ones in wordings that training never sees; there a picture is as good as its least satisfied
condition. The ground is no condition of styled pictures: no judge here reads it in them reliably.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..data.world_tasks import GENERIC_SHARE
from ..errors import UserError
from ..world import Split

JudgeName = Literal["mask", "edge", "style", "identity"]
ConditionKind = Literal[
    "identity", "style", "control", "ground", "relation", "count", "face", "hat", "content", "inside", "outside"
]
NUM_INSTRUCTIONS = 120
SEED = 9_000_101


class EvaluationError(UserError):
    """An evaluation was asked for that cannot be done; the message says what to mend."""


@dataclass(frozen=True)
class Condition:
    """One thing that an instruction asks for.

    Attributes:
        kind: what it is; `conditions.py` has a judge for each.
        subject: which of the scene's subjects it is about.
    """

    kind: ConditionKind
    subject: int = 0

    @property
    def name(self) -> str:
        """How tables call it: "identity", "identity 2"."""
        return f"{self.kind} {self.subject + 1}" if self.subject else self.kind


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite and what is measured on it.

    Attributes:
        name: name of the task in the suite and in the scores; its own in all suites but `quick`.
        task: name of the task that `WorldTasks` builds.
        judge: the one judge of a task of `quick`; the others have conditions.
        conditions: what an instruction asks for; those that a case does not have are left out.
        glyphs: split of the subjects, and of the people.
        styles: split of the target's style; None for plain pictures.
        generic_share: how often a referenced subject is called only "object" or the like.
        num_subjects: in each scene; None leaves it to the task, with two at most.
        wording: split of the sentences.
        drop_context: whether the model has to do without the references.
        stream: seeds the examples; tasks of one stream have the same instructions. The task's name if empty.
    """

    name: str
    task: str
    judge: JudgeName | None = None
    conditions: tuple[Condition, ...] = ()
    glyphs: Split = "train"
    styles: Split | None = None
    generic_share: float = GENERIC_SHARE
    num_subjects: int | None = 1
    wording: Split = "train"
    drop_context: bool = False
    stream: str = ""


@dataclass(frozen=True)
class Suite:
    """Tasks that are run together.

    Attributes:
        name: key in `SUITES`.
        tasks: in the order of the report.
        num_per_task: number of instructions of each task; the first ones stay the same when it changes.
        seed: of everything; no training source uses it, nor any judge.
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


_QUICK_SUBJECT = SuiteTask("subject", "subject", "identity", glyphs="held_out", generic_share=1.0, stream="subject")
_QUICK = Suite(
    "quick",
    (
        SuiteTask("mask", "mask", "mask"),
        SuiteTask("edge", "edge", "edge"),
        SuiteTask("style", "style", "style", styles="train"),
        SuiteTask("style_held_out", "style", "style", styles="held_out"),
        _QUICK_SUBJECT,
        replace(_QUICK_SUBJECT, name="subject_without_reference", drop_context=True),
        SuiteTask("text", "text", "identity"),
    ),
)


def _conditions(*kinds: ConditionKind | tuple[ConditionKind, int]) -> tuple[Condition, ...]:
    return tuple(Condition(*kind) if isinstance(kind, tuple) else Condition(kind) for kind in kinds)


_CONTROLLED = _conditions("control", "identity", "ground")
_TWO: tuple[ConditionKind | tuple[ConditionKind, int], ...] = (
    "identity",
    ("identity", 1),
    "relation",
    "count",
    "ground",
)

_IN_DOMAIN = (
    SuiteTask("depth", "depth", conditions=_CONTROLLED),
    SuiteTask("mask", "mask", conditions=_CONTROLLED),
    SuiteTask("edge", "edge", conditions=_CONTROLLED),
    SuiteTask("style", "style", conditions=_conditions("style", "identity"), styles="train"),
    SuiteTask("subject", "subject", conditions=_conditions("identity", "ground"), glyphs="held_out", generic_share=1.0),
    SuiteTask("text", "text", conditions=_conditions(*_TWO), num_subjects=None),
    SuiteTask("face", "face", conditions=_conditions("face", "hat", "ground"), glyphs="held_out"),
    SuiteTask(
        "style_transfer", "style_transfer", conditions=_conditions("style", "content", "identity"), styles="train"
    ),
)
_NEW_SUBJECT = SuiteTask("", "", glyphs="held_out", generic_share=1.0)
_ZERO_SHOT = (
    replace(
        _NEW_SUBJECT,
        name="style_subject",
        task="style_subject",
        conditions=_conditions("style", "identity"),
        styles="train",
    ),
    replace(
        _NEW_SUBJECT,
        name="multi_subject",
        task="multi_subject",
        conditions=_conditions(*_TWO),
        num_subjects=None,
    ),
    replace(_NEW_SUBJECT, name="control_subject", task="control_subject", conditions=_CONTROLLED),
    SuiteTask(
        "control_style",
        "control_style",
        conditions=_conditions("control", "style", "identity"),
        styles="train",
    ),
)
_THREE_CONDITIONS = (
    replace(
        _NEW_SUBJECT,
        name="subject_style_mask",
        task="subject_style_mask",
        conditions=_conditions("identity", "style", "control"),
        styles="train",
    ),
    replace(
        _NEW_SUBJECT,
        name="two_subjects_style",
        task="two_subjects_style",
        conditions=_conditions("identity", ("identity", 1), "style", "relation", "count"),
        styles="train",
        num_subjects=None,
    ),
    replace(
        _NEW_SUBJECT,
        name="subject_edge_style",
        task="subject_edge_style",
        conditions=_conditions("identity", "control", "style"),
        styles="train",
    ),
)
_EDITING = (SuiteTask("edit", "edit", conditions=_conditions("inside", "outside"), num_subjects=None),)
_REWORDED = tuple(
    replace(task, name=f"reworded_{task.name}", wording="held_out", stream=task.name) for task in _IN_DOMAIN
)

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        _QUICK,
        Suite("in_domain", _IN_DOMAIN, NUM_INSTRUCTIONS, SEED),
        Suite("zero_shot", _ZERO_SHOT, NUM_INSTRUCTIONS, SEED),
        Suite("three_conditions", _THREE_CONDITIONS, NUM_INSTRUCTIONS, SEED),
        Suite("editing", _EDITING, NUM_INSTRUCTIONS, SEED),
        Suite("held_out_wording", _REWORDED, NUM_INSTRUCTIONS, SEED),
    )
}
ALL = "all"
_NOT_IN_ALL = ("quick",)


def get_suite(name: str) -> Suite:
    """The suite of that name, whole.

    Raises:
        EvaluationError: there is none.
    """
    if name not in SUITES:
        raise EvaluationError(f"There is no suite {name!r}; the suites are {', '.join(sorted(SUITES))}.")
    return SUITES[name]


def get_suites(*names: str) -> tuple[Suite, ...]:
    """The suites that names stand for; tasks of one suite that are named apart are one suite again.

    Args:
        names: each a suite such as "zero_shot", a task such as "depth" or "quick/mask" (the suite with that task
            alone), or "all" (all suites but `quick`).

    Raises:
        EvaluationError: one stands for nothing, or two suites have a task of one name, whose files would be mixed.
    """
    chosen: dict[str, Suite] = {}
    for suite in (suite for name in names for suite in _suites_of(name)):
        known = chosen[suite.name].tasks if suite.name in chosen else ()
        chosen[suite.name] = replace(suite, tasks=(*known, *(task for task in suite.tasks if task not in known)))
    owners: dict[str, str] = {}
    for suite in chosen.values():
        for task in suite.tasks:
            owner = owners.setdefault(task.name, suite.name)
            if owner != suite.name:
                raise EvaluationError(
                    f"{task.name} is a task of {owner} and of {suite.name}; evaluate them one by one, each into a "
                    "folder of its own."
                )
    return tuple(chosen.values())


def _suites_of(name: str) -> tuple[Suite, ...]:
    if name == ALL:
        return tuple(suite for suite in SUITES.values() if suite.name not in _NOT_IN_ALL)
    if name in SUITES:
        return (SUITES[name],)
    group, slash, task = name.partition("/")
    if slash and group in SUITES:
        return (replace(SUITES[group], tasks=(SUITES[group].task(task),)),)
    for suite in get_suites(ALL):
        for candidate in suite.tasks:
            if candidate.name == name:
                return (replace(suite, tasks=(candidate,)),)
    tasks = ", ".join(task.name for suite in get_suites(ALL) for task in suite.tasks)
    raise EvaluationError(
        f"There is no suite {name!r}; the suites are {', '.join(SUITES)} and all, and single tasks are {tasks}."
    )
