"""What is compared: the paper's baselines and ablations (§4, Tables 3 and 4), as runs of one preset at equal budgets.

    runs = plan(get_preset("micro"))

A run is a model to train; a method is what the tables name. Every model sees the same pre-training, on bare captions,
and then as many examples: those of stage 1 where it has one, the rest in stage 2. So a single-task model sees many
times the examples of its task that the mixture gives to it; to tell what that is worth, a second set of single-task
models, a departure from the paper, sees just as many of them as the mixture holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ..data.recipe import DataRecipe, MixtureEntry
from ..data.world_tasks import RAW
from ..presets import ContextPlaces, Preset, StageConfig
from .suites import EvaluationError, get_suite

BASE, STAGE_1 = "base", "stage1"
INSTRUCT = "instruct"  # the paper's own model among the methods
MANIFEST_FILE, RUNS_FOLDER, SCORES_FOLDER = "ablations.json", "runs", "scores"
SINGLE_TASKS = tuple(task.name for task in get_suite("in_domain").tasks)
_SUITES = ("in_domain", "zero_shot", "three_conditions")
_SUITES_OF_WORDING = (*_SUITES, "held_out_wording")  # of methods that differ in the wordings that training saw


@dataclass(frozen=True)
class Run:
    """One model to train.

    Attributes:
        name: its folder.
        preset: with the stages up to its last, the earlier ones having been trained by `parent`.
        parent: run that it goes on from; empty for the first.
    """

    name: str
    preset: Preset
    parent: str = ""


@dataclass(frozen=True)
class Method:
    """One column of the tables.

    Attributes:
        name: key in the scores.
        title: how tables call it.
        runs: the run whose model draws each task, by the task's name; "" stands for all other tasks.
        suites: on which it is evaluated.
    """

    name: str
    title: str
    runs: Mapping[str, str]
    suites: tuple[str, ...] = _SUITES

    def run_for(self, task: str) -> str:
        """Name of the run that draws a task."""
        return self.runs.get(task) or self.runs[""]


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "single_task",
            "single-task models",
            {task: f"single_{task}" for task in SINGLE_TASKS},
            suites=("in_domain",),
        ),
        Method(
            "single_task_share",
            "single-task models, no more examples than in the mixture",
            {task: f"single_{task}_share" for task in SINGLE_TASKS},
            suites=("in_domain",),
        ),
        Method("multi_task", "multi-task, no instructions", {"": "multi_task"}),
        Method("instruct_without_stage1", "instruct, without stage 1", {"": "instruct_without_stage1"}),
        Method(INSTRUCT, "instruct, with stage 1", {"": INSTRUCT}, _SUITES_OF_WORDING),
        Method("instruct_middle", "context attention in the middle block only", {"": "instruct_middle"}),
        Method("templates_10", "10 templates a task", {"": "templates_10"}, _SUITES_OF_WORDING),
        Method("templates_1", "1 template a task", {"": "templates_1"}, _SUITES_OF_WORDING),
    )
}


@dataclass(frozen=True)
class Plan:
    """All runs in an order in which they can be trained, and the methods made of them."""

    runs: tuple[Run, ...]
    methods: tuple[Method, ...]


def plan(preset: Preset, names: Collection[str] = tuple(METHODS)) -> Plan:
    """The runs for a preset that has pre-training, stage 1 and stage 2.

    Args:
        preset: of every model.
        names: of the methods to compare; only runs that these need are in the plan.

    Raises:
        EvaluationError: it has other stages, or trains on data that is not the world's; or there is no such method.
    """
    unknown = sorted(set(names) - set(METHODS))
    if unknown:
        raise EvaluationError(f"There is no method {unknown[0]!r}; the methods are {', '.join(METHODS)}.")
    if [stage.stage for stage in preset.stages] != ["pretrain", "stage1", "stage2"]:
        raise EvaluationError(f"The preset {preset.name!r} must have pre-training, stage 1 and stage 2 to be compared.")
    if preset.data != DataRecipe():
        raise EvaluationError("The comparison trains on the glyph world; leave the preset's data as it is.")
    pretrain, stage1, stage2 = preset.stages
    longer = replace(stage2, steps=stage1.steps + stage2.steps)
    middle = _with_places(preset, "middle")

    def stages(*chosen: StageConfig, of: Preset = preset, data: DataRecipe | None = None) -> Preset:
        if data is not None and data.num_templates == RAW:  # the pictures' order is all that tells them apart
            chosen = tuple(replace(stage, any_markers=False) for stage in chosen)
        return replace(of, stages=chosen, data=data or of.data)

    raw = DataRecipe(num_templates=RAW)
    runs = [
        Run(BASE, stages(pretrain, data=raw)),
        Run("multi_task", stages(pretrain, longer, data=raw), BASE),
        Run("instruct_without_stage1", stages(pretrain, longer), BASE),
        Run(STAGE_1, stages(pretrain, stage1), BASE),
        Run(INSTRUCT, preset, STAGE_1),
        Run("instruct_middle", middle, BASE),
        *(Run(f"templates_{n}", stages(*preset.stages, data=DataRecipe(num_templates=n)), STAGE_1) for n in (10, 1)),
    ]
    ratios = {entry.name: entry.ratio for entry in preset.data.stage2}
    for task in SINGLE_TASKS:
        alone = DataRecipe(stage2=(MixtureEntry(task, 1.0),), num_templates=RAW)
        runs.append(Run(f"single_{task}", stages(pretrain, longer, data=alone), BASE))
        short = _shortened(longer, ratios[task] / sum(ratios.values()))
        runs.append(Run(f"single_{task}_share", stages(pretrain, short, data=alone), BASE))
    methods = tuple(method for method in METHODS.values() if method.name in names)
    return Plan(tuple(_needed(runs, methods)), methods)


def _needed(runs: Sequence[Run], methods: Sequence[Method]) -> list[Run]:
    """Those among runs that methods draw with, and those that they go on from."""
    names = {name for method in methods for name in method.runs.values()}
    for run in reversed(runs):  # children come after their parents
        if run.name in names and run.parent:
            names.add(run.parent)
    return [run for run in runs if run.name in names]


def _shortened(stage: StageConfig, share: float) -> StageConfig:
    """A stage of a share of the steps; what is counted in steps becomes shorter with it, its moving average, too."""
    steps = max(1, round(share * stage.steps))
    return replace(
        stage,
        steps=steps,
        warmup_steps=round(share * stage.warmup_steps),
        decay_steps=round(share * stage.decay_steps),
        ema_decay=max(0.0, 1 - (1 - stage.ema_decay) * stage.steps / steps),
    )


def _with_places(preset: Preset, places: ContextPlaces) -> Preset:
    return replace(preset, model=replace(preset.built, context_places=places))
