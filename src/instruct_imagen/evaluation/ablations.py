"""Trains and evaluates the paper's baselines and ablations with one command, which goes on where it stopped.

    python -m instruct_imagen.evaluation.ablations --out ablations --preset micro [--minutes 120] [--jobs 2]

OUT gets `ablations.json` (preset, seed, and how far each run is), `runs/NAME/` (training logs and the pipeline),
`scores/METHOD/` (what `evaluate` writes, and in `tasks/` the scores of each task that is done) and `anchors/` (see
`anchor_store`). A run that was stopped resumes from its checkpoint, an evaluation goes on with the tasks and methods
that are left. With several jobs, runs whose parents are trained, and then tasks, are taken at the same time by
processes of their own. Methods are evaluated task by task, since ceiling, floor and copies are the same for all.
`python -m instruct_imagen.evaluation.report OUT` then writes the report.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import natural, positive, positive_number, several
from ..data.world_tasks import RAW
from ..errors import UserError
from ..files import make_folder, write_json
from ..model_folders import DEFAULT_STEPS, hide_loading_bars
from ..pipeline import InstructImagenPipeline
from ..presets import Preset, StageConfig, get_preset, preset_to_dict
from ..training.checkpoint import TRAINING_FILE, CheckpointError, list_checkpoints, read_position
from ..training.trainer import Trainer
from ..world import load_pack
from .anchor_store import AnchorStore
from .cases import SuiteCase, suite_cases
from .methods import MANIFEST_FILE, METHODS, RUNS_FOLDER, SCORES_FOLDER, Method, Plan, Run, plan
from .model import PipelineGenerator, counted
from .results import Results
from .runner import SCORES_FILE, Drawn, Evaluator, write_scores
from .suites import EvaluationError, Suite, SuiteTask, get_suites

logger = logging.getLogger(__name__)
TASKS_FOLDER = "tasks"
ANCHORS_FOLDER = "anchors"  # what methods evaluated later are read against, too


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        out: folder of the comparison.
        preset: with its overrides.
        seed: of all trainings.
        count: instructions per task; the suites' own number if None.
        steps: denoising steps.
        guidance_scale: of all methods.
        methods: names of those to compare.
    """

    out: Path
    preset: Preset
    seed: int = 0
    count: int | None = None
    steps: int = DEFAULT_STEPS
    guidance_scale: float = 3.0
    methods: tuple[str, ...] = tuple(METHODS)

    def run_folder(self, run: str) -> Path:
        """Where a run is trained."""
        return self.out / RUNS_FOLDER / run

    def model_folder(self, run: str) -> Path:
        """Where its pipeline is when it is trained."""
        return self.run_folder(run) / "pipeline"

    def scores_folder(self, method: Method) -> Path:
        """What a method has reached."""
        return self.out / SCORES_FOLDER / method.name


def check_manifest(options: Options) -> None:
    """Writes what is compared, or compares it with what the folder holds.

    Raises:
        EvaluationError: the folder holds a comparison of another preset, seed or number of instructions.
    """
    path = make_folder(options.out) / MANIFEST_FILE
    wanted = _manifest(options)
    if not path.is_file():
        write_json(path, wanted)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in wanted if key != "runs" and found.get(key) != wanted[key]]
    except (OSError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{path} is damaged ({error}); choose another folder.") from error
    if differing:
        raise EvaluationError(f"{options.out} holds a comparison with another {differing[0]}; choose another folder.")


def _manifest(options: Options) -> dict[str, Any]:
    return {
        "preset": json.loads(json.dumps(preset_to_dict(options.preset))),
        "seed": options.seed,
        "count": options.count,
        "steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "runs": {},
    }


def _note(options: Options, what: Plan) -> None:
    """Writes into the manifest how far each run is."""
    path = options.out / MANIFEST_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    for run in what.runs:
        if is_trained(options, run):
            state, (position, _) = "complete", read_position(options.model_folder(run.name), TRAINING_FILE)
        elif checkpoints := list_checkpoints(options.run_folder(run.name) / "checkpoints"):
            position, _ = read_position(checkpoints[0])
            state = run.preset.stages[position.stage_index].stage
        else:
            continue
        content["runs"][run.name] = {
            "state": state,
            "steps": position.total_steps,
            "examples": examples_seen(run.preset.stages, position.total_steps),
            "seconds": round(position.seconds),
        }
    write_json(path, content)


def examples_seen(stages: Sequence[StageConfig], steps: int) -> int:
    """Examples that so many steps in all have shown, over the stages in their order."""
    examples = 0
    for stage in stages:
        examples += min(steps, stage.steps) * stage.batch_size
        steps -= min(steps, stage.steps)
    return examples


def is_trained(options: Options, run: Run) -> bool:
    """Whether a run's pipeline is there and complete."""
    try:
        position, preset = read_position(options.model_folder(run.name), TRAINING_FILE)
    except CheckpointError:
        return False
    return preset == run.preset and position.stage_index == len(preset.stages)


def train_run(options: Options, run: Run, minutes: float | None = None) -> None:
    """Trains a run, from its checkpoint where it has one."""
    logger.info("training %s", run.name)
    folder = options.run_folder(run.name)
    parent = options.model_folder(run.parent) if run.parent else None
    position = Trainer(run.preset, folder, options.seed, resume=True, init=parent).run(max_minutes=minutes)
    if position.stage_index == len(run.preset.stages):
        shutil.rmtree(folder / "checkpoints")


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated in one go: the tasks of one stream of instructions, for all methods.

    Attributes:
        options, what: of the comparison.
        tasks: with their suites; of one stream, so that they share ceiling, floor and copies.
    """

    options: Options
    what: Plan
    tasks: tuple[tuple[Suite, SuiteTask], ...]

    def is_done(self) -> bool:
        """Whether every method has been evaluated on every task that is asked of it."""
        return not list(self._missing())

    def run(self, minutes: float | None = None) -> None:
        """Evaluates what is missing, as long as there is time."""
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        pack = load_pack(self.options.preset.pack).prepare()
        evaluator = Evaluator(pack, AnchorStore(self.options.out / ANCHORS_FOLDER))
        for suite, task, method in self._missing():
            if time.monotonic() >= deadline:
                break
            templates = RAW if self._is_raw(method) else None
            cases = suite_cases(task, suite, pack, templates)
            folder = self.options.scores_folder(method)
            score = evaluator.evaluate(suite, task, cases, self._draw(method, task, cases), folder)
            logger.info("%s/%s, %s: %.3f", suite.name, task.name, method.name, score["figure"])
            file = _task_file(folder, suite, task)
            write_json(make_folder(file.parent) / file.name, score)

    def _missing(self) -> Iterator[tuple[Suite, SuiteTask, Method]]:
        for suite, task in self.tasks:
            for method in self.what.methods:
                done = _task_file(self.options.scores_folder(method), suite, task)
                if suite.name in method.suites and not done.is_file():
                    yield suite, task, method

    def _is_raw(self, method: Method) -> bool:
        presets = {run.name: run.preset for run in self.what.runs}
        return all(presets[run].data.num_templates == RAW for run in method.runs.values())

    def _draw(self, method: Method, task: SuiteTask, cases: Sequence[SuiteCase]) -> list[np.ndarray]:
        hide_loading_bars()
        pipeline = InstructImagenPipeline.from_pretrained(self.options.model_folder(method.run_for(task.name)))
        pipeline.set_progress_bar_config(disable=True)
        return Drawn(PipelineGenerator(pipeline, self.options.steps, self.options.guidance_scale))(task, cases)


def _task_file(folder: Path, suite: Suite, task: SuiteTask) -> Path:
    return folder / TASKS_FOLDER / suite.name / f"{task.name}.json"


def evaluations(options: Options, what: Plan) -> list[Evaluation]:
    """All that is to be evaluated, in the order of the suites."""
    names = dict.fromkeys(name for method in what.methods for name in method.suites)
    streams: dict[tuple[int, str], list[tuple[Suite, SuiteTask]]] = {}
    for suite in counted(get_suites(*names), options.count):
        for task in suite.tasks:
            streams.setdefault((suite.seed, task.stream or task.name), []).append((suite, task))
    return [Evaluation(options, what, tuple(tasks)) for tasks in streams.values()]


def _collect(options: Options, what: Plan) -> None:
    """Writes each method's `scores.json`, where tasks have been evaluated that it lacks."""
    suites = [(suite, task) for part in evaluations(options, what) for suite, task in part.tasks]
    for method in what.methods:
        folder = options.scores_folder(method)
        scores: dict[str, dict[str, Any]] = {}
        for suite, task in suites:
            file = _task_file(folder, suite, task)
            if file.is_file():
                scores.setdefault(suite.name, {})[task.name] = json.loads(file.read_text(encoding="utf-8"))
        if scores and (not (folder / SCORES_FILE).is_file() or Results.read(folder).scores != scores):
            write_scores(scores, folder)


@dataclass(frozen=True)
class Task:
    """Something to do once that which it needs is done.

    Attributes:
        do: where time is limited it is given `minutes`.
        is_done: whether it is done, as the folder shows.
        can_start: whether what it needs is done.
    """

    do: Callable[..., None]
    is_done: Callable[[], bool]
    can_start: Callable[[], bool] = lambda: True


def do_all(tasks: Sequence[Task], jobs: int, deadline: float | None = None) -> bool:
    """Does what is not done, `jobs` tasks at a time; returns whether all is done.

    With one job it is done in this process, otherwise each task has a process of its own. None is started after the
    deadline, or after one has ended without being done.

    Raises:
        EvaluationError: a process has failed; the others are stopped first.
    """
    waiting = [task for task in tasks if not task.is_done()]
    running: list[tuple[Task, Any]] = []
    stopped = False
    try:
        while waiting or running:
            left = {} if deadline is None else {"minutes": (deadline - time.monotonic()) / 60}
            stopped = stopped or left.get("minutes", 1) <= 0
            startable = iter(()) if stopped else (task for task in waiting if task.can_start())
            ready = list(islice(startable, jobs - len(running)))
            if not ready and not running:
                break
            for task in ready:
                waiting.remove(task)
                if jobs == 1:
                    task.do(**left)
                    stopped = not task.is_done()
                else:
                    process = multiprocessing.get_context("spawn").Process(target=_child, args=(task.do, left))
                    process.start()
                    running.append((task, process))
            if running:
                wait([process.sentinel for _, process in running])
            for task, process in list(running):
                if not process.is_alive():
                    running.remove((task, process))
                    if process.exitcode:
                        raise EvaluationError("One of the jobs has failed; it has said above why.")
                    stopped = stopped or not task.is_done()
    finally:
        for _, process in running:
            process.terminate()  # a training writes its checkpoint first
        for _, process in running:
            process.join()
    return all(task.is_done() for task in tasks)


def _child(do: Callable[..., None], arguments: Mapping[str, float]) -> None:
    _log()
    try:
        do(**arguments)
    except UserError as error:
        print(f"ablations: {error}", file=sys.stderr)
        sys.exit(2)


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def compare(options: Options, minutes: float | None = None, jobs: int = 1) -> bool:
    """Trains and evaluates whatever is missing; returns whether all is done.

    Args:
        options: what to compare.
        minutes: after which training stops with a checkpoint, or evaluation after the task and method under way; None
            goes on to the end.
        jobs: runs trained, and tasks evaluated, at the same time.

    Raises:
        EvaluationError: see `check_manifest` and `plan`.
    """
    what = plan(options.preset, options.methods)
    check_manifest(options)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    trained = {run.name: partial(is_trained, options, run) for run in what.runs}
    trainings = [
        Task(partial(train_run, options, run), trained[run.name], trained.get(run.parent, lambda: True))
        for run in what.runs
    ]
    try:
        done = do_all(trainings, jobs, deadline)
    finally:
        _note(options, what)
    if not done:
        return False
    try:
        return do_all([Task(part.run, part.is_done) for part in evaluations(options, what)], jobs, deadline)
    finally:
        _collect(options, what)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m instruct_imagen.evaluation.ablations", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--preset", default="micro", metavar="NAME", help="%(default)s; nano or larger on a GPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a preset field")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--minutes", type=positive_number, metavar="M", help="stop after so many minutes")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="at the same time (%(default)s)")
    parser.add_argument("--count", type=several, metavar="N", help="instructions per task (the suites' own)")
    parser.add_argument("--steps", type=positive, default=DEFAULT_STEPS, help="denoising steps (%(default)s)")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance scale (%(default)s)")
    parser.add_argument("--methods", nargs="+", default=[*METHODS], metavar="NAME", help="only these methods")
    chosen = parser.parse_args(arguments)
    _log()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that jobs end with it, with their checkpoints
    try:
        preset = get_preset(chosen.preset, chosen.set)
        options = Options(
            chosen.out, preset, chosen.seed, chosen.count, chosen.steps, chosen.guidance, tuple(chosen.methods)
        )
        done = compare(options, chosen.minutes, chosen.jobs)
    except UserError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{chosen.out}: {'complete' if done else 'to be continued; call the same command again'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
