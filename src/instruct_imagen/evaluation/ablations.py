"""Trains and evaluates the paper's baselines and ablations with one command, which goes on where it stopped.

    python -m instruct_imagen.evaluation.ablations --out ablations --preset micro [--minutes 120]

OUT gets `ablations.json` (preset, seed, and how far each run is), `runs/NAME/` (training logs and the pipeline) and
`scores/METHOD/` (what `evaluate` writes). A run that was stopped resumes from its checkpoint, a method that was not
evaluated to its end is evaluated anew. `python -m instruct_imagen.evaluation.report OUT` then writes the report.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from ..training.checkpoint import TRAINING_FILE, CheckpointError, read_position
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


def _note(options: Options, run: str, **what: Any) -> None:
    """Adds to what the manifest says of a run."""
    path = options.out / MANIFEST_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["runs"][run] = {**content["runs"].get(run, {}), **what}
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


def train_run(options: Options, run: Run, minutes: float | None) -> bool:
    """Trains a run, from its checkpoint where it has one; returns whether it is complete."""
    folder = options.run_folder(run.name)
    parent = options.model_folder(run.parent) if run.parent else None
    if parent is not None and run.converted:
        parent = _converted(parent, run.preset, options.run_folder(run.name) / "start")
    trainer = Trainer(run.preset, folder, options.seed, resume=True, init=parent)
    position = trainer.run(max_minutes=minutes)
    done = position.stage_index == len(run.preset.stages)
    stage = "complete" if done else run.preset.stages[position.stage_index].stage
    _note(options, run.name, state=stage, steps=position.total_steps, seconds=round(position.seconds))
    if done:
        shutil.rmtree(folder / "checkpoints")
        shutil.rmtree(folder / "start", ignore_errors=True)
    return done


def _converted(model: Path, preset: Preset, out: Path) -> Path:
    """A model with other places of context attention: all weights that both have, the rest as at the start."""
    if out.is_dir():
        return out
    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(model)
    position, _ = read_position(model, TRAINING_FILE)
    parts = build_model(preset.built, pipeline.tokenizer)
    own = parts.unet.state_dict()
    kept = {name: value for name, value in pipeline.unet.state_dict().items() if name in own}
    parts.unet.load_state_dict({**own, **kept})
    parts.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())
    make_folder(out.parent)
    export_pipeline(parts, out, position, preset)
    return out


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


def evaluate_method(options: Options, method: Method, what: Plan, evaluator: Evaluator) -> None:
    """Evaluates a method unless its scores are there."""
    out = options.out / SCORES_FOLDER / method.name
    if (out / SCORES_FILE).is_file():
        return
    presets = {run.name: run.preset for run in what.runs}
    raw = all(presets[run].data.num_templates == RAW for run in method.runs.values())
    suites = counted(get_suites(*method.suites), options.count)
    run_suites(
        suites,
        MethodPictures(options, method),
        evaluator.pack,
        out,
        num_templates=RAW if raw else None,
        evaluator=evaluator,
    )


def compare(options: Options, minutes: float | None = None) -> bool:
    """Trains and evaluates whatever is missing; returns whether all is done.

    Args:
        options: what to compare.
        minutes: after which training stops, with a checkpoint; None goes on to the end.

    Raises:
        EvaluationError: see `check_manifest` and `plan`.
    """
    what = plan(options.preset)
    check_manifest(options)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for run in what.runs:
        if is_trained(options, run):
            continue
        left = None if deadline is None else (deadline - time.monotonic()) / 60
        if left is not None and left <= 0:
            return False
        logger.info("training %s", run.name)
        if not train_run(options, run, left):
            return False
    evaluator = Evaluator(load_pack(options.preset.pack).prepare())
    for method in what.methods:
        logger.info("evaluating %s", method.name)
        evaluate_method(options, method, what, evaluator)
    return True


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
    parser.add_argument("--count", type=several, metavar="N", help="instructions per task (the suites' own)")
    parser.add_argument("--steps", type=positive, default=DEFAULT_STEPS, help="denoising steps (%(default)s)")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance scale (%(default)s)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        preset = get_preset(chosen.preset, chosen.set)
        options = Options(chosen.out, preset, chosen.seed, chosen.count, chosen.steps, chosen.guidance)
        done = compare(options, chosen.minutes)
    except UserError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{chosen.out}: {'complete' if done else 'to be continued; call the same command again'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
