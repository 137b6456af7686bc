"""Trains and evaluates the paper's baselines and ablations with one command, which goes on where it stopped.

    python -m instruct_imagen.evaluation.ablations --out ablations --preset micro [--minutes 120] [--jobs 2]

OUT gets `ablations.json` (preset, seed, and how far each run is), `runs/NAME/` (training logs and the pipeline) and
`scores/METHOD/` (what `evaluate` writes). A run that was stopped resumes from its checkpoint, a method that was not
evaluated to its end is evaluated anew. With several jobs, runs whose parents are trained, and then methods, are taken
at the same time by processes of their own. `python -m instruct_imagen.evaluation.report OUT` then writes the report.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import natural, positive, positive_number, several
from ..data.world_tasks import RAW
from ..errors import UserError
from ..files import make_folder, write_atomically
from ..model import build_model
from ..pipeline import DEFAULT_STEPS, InstructImagenPipeline, hide_loading_bars
from ..presets import Preset, get_preset, preset_to_dict
from ..training.checkpoint import TRAINING_FILE, CheckpointError, list_checkpoints, read_position
from ..training.monitor import export_pipeline
from ..training.trainer import Trainer
from ..world import load_pack
from .cases import Case
from .methods import MANIFEST_FILE, RUNS_FOLDER, SCORES_FOLDER, Method, Plan, Run, plan
from .model import PipelineGenerator, counted
from .runner import SCORES_FILE, Drawn, Evaluator, run_suites
from .suites import EvaluationError, SuiteTask, get_suites

logger = logging.getLogger(__name__)


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
    """

    out: Path
    preset: Preset
    seed: int = 0
    count: int | None = None
    steps: int = DEFAULT_STEPS
    guidance_scale: float = 3.0

    def run_folder(self, run: str) -> Path:
        """Where a run is trained."""
        return self.out / RUNS_FOLDER / run

    def model_folder(self, run: str) -> Path:
        """Where its pipeline is when it is trained."""
        return self.run_folder(run) / "pipeline"


def check_manifest(options: Options) -> None:
    """Writes what is compared, or compares it with what the folder holds.

    Raises:
        EvaluationError: the folder holds a comparison of another preset, seed or number of instructions.
    """
    path = make_folder(options.out) / MANIFEST_FILE
    wanted = _manifest(options)
    if not path.is_file():
        _write_json(path, wanted)
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


def _note(options: Options, run: Run) -> None:
    """Writes into the manifest how far a run is."""
    folder = options.run_folder(run.name)
    if is_trained(options, run):
        state, (position, _) = "complete", read_position(options.model_folder(run.name), TRAINING_FILE)
    elif checkpoints := list_checkpoints(folder / "checkpoints"):
        position, _ = read_position(checkpoints[0])
        state = run.preset.stages[position.stage_index].stage
    else:
        return
    path = options.out / MANIFEST_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["runs"][run.name] = {"state": state, "steps": position.total_steps, "seconds": round(position.seconds)}
    _write_json(path, content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, lambda partial: partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8"))


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
    if parent is not None and run.converted:
        parent = _converted(parent, run.preset, folder / "start")
    position = Trainer(run.preset, folder, options.seed, resume=True, init=parent).run(max_minutes=minutes)
    if position.stage_index == len(run.preset.stages):
        shutil.rmtree(folder / "checkpoints")
        shutil.rmtree(folder / "start", ignore_errors=True)


def _converted(model: Path, preset: Preset, out: Path) -> Path:
    """A model with other places of context attention: all weights that both have, the rest as at the start."""
    start = out / "pipeline"
    if start.is_dir():
        return start
    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(model)
    position, _ = read_position(model, TRAINING_FILE)
    parts = build_model(preset.built, pipeline.tokenizer)
    own = parts.unet.state_dict()
    kept = {name: value for name, value in pipeline.unet.state_dict().items() if name in own}
    parts.unet.load_state_dict({**own, **kept})
    parts.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())
    make_folder(out)
    export_pipeline(parts, out, position, preset)
    return start


@dataclass
class MethodPictures:
    """Draws each task with the model that a method has for it: a `PictureSource`."""

    options: Options
    method: Method
    _loaded: dict[str, Drawn] = field(default_factory=dict)

    def __call__(self, task: SuiteTask, cases: Sequence[Case]) -> list[np.ndarray]:
        """One picture a case."""
        run = self.method.run_for(task.name)
        if run not in self._loaded:
            hide_loading_bars()
            pipeline = InstructImagenPipeline.from_pretrained(self.options.model_folder(run))
            pipeline.set_progress_bar_config(disable=True)
            self._loaded = {run: Drawn(PipelineGenerator(pipeline, self.options.steps, self.options.guidance_scale))}
        return self._loaded[run](task, cases)


def evaluate_method(options: Options, method: Method, what: Plan) -> None:
    """Evaluates a method."""
    logger.info("evaluating %s", method.name)
    presets = {run.name: run.preset for run in what.runs}
    raw = all(presets[run].data.num_templates == RAW for run in method.runs.values())
    pack = load_pack(options.preset.pack).prepare()
    run_suites(
        counted(get_suites(*method.suites), options.count),
        MethodPictures(options, method),
        pack,
        options.out / SCORES_FOLDER / method.name,
        num_templates=RAW if raw else None,
        evaluator=Evaluator(pack),
    )


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
    """
    waiting = [task for task in tasks if not task.is_done()]
    running: list[tuple[Task, Any]] = []
    stopped = False
    try:
        while waiting or running:
            left = {} if deadline is None else {"minutes": (deadline - time.monotonic()) / 60}
            stopped = stopped or left.get("minutes", 1) <= 0
            ready = [] if stopped else [task for task in waiting if task.can_start()][: jobs - len(running)]
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
            for task, process in list(running):
                process.join(0.2)
                if not process.is_alive():
                    running.remove((task, process))
                    stopped = stopped or not task.is_done()
    finally:
        for _, process in running:
            process.terminate()  # a training writes its checkpoint first
        for _, process in running:
            process.join()
    return all(task.is_done() for task in tasks)


def _child(do: Callable[..., None], arguments: Mapping[str, float]) -> None:
    _log()
    do(**arguments)


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def compare(options: Options, minutes: float | None = None, jobs: int = 1) -> bool:
    """Trains and evaluates whatever is missing; returns whether all is done.

    Args:
        options: what to compare.
        minutes: after which training stops, with a checkpoint; None goes on to the end.
        jobs: runs trained, and methods evaluated, at the same time.

    Raises:
        EvaluationError: see `check_manifest` and `plan`.
    """
    what = plan(options.preset)
    check_manifest(options)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    trained = {run.name: partial(is_trained, options, run) for run in what.runs}
    trainings = [
        Task(partial(train_run, options, run), trained[run.name], trained.get(run.parent, lambda: True))
        for run in what.runs
    ]
    evaluations = [
        Task(
            partial(evaluate_method, options, method, what),
            (options.out / SCORES_FOLDER / method.name / SCORES_FILE).is_file,
        )
        for method in what.methods
    ]
    try:
        done = do_all(trainings, jobs, deadline)
    finally:
        for run in what.runs:
            _note(options, run)
    return done and do_all(evaluations, jobs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m instruct_imagen.evaluation.ablations", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--preset", default="micro", metavar="NAME", help="%(default)s; nano or larger on a GPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a preset field")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--minutes", type=positive_number, metavar="M", help="stop training after so many minutes")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="at the same time (%(default)s)")
    parser.add_argument("--count", type=several, metavar="N", help="instructions per task (the suites' own)")
    parser.add_argument("--steps", type=positive, default=DEFAULT_STEPS, help="denoising steps (%(default)s)")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance scale (%(default)s)")
    chosen = parser.parse_args(arguments)
    _log()
    try:
        preset = get_preset(chosen.preset, chosen.set)
        options = Options(chosen.out, preset, chosen.seed, chosen.count, chosen.steps, chosen.guidance)
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
