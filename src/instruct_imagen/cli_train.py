"""The command line's training part: instruct-imagen train | finetune."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import natural, positive, positive_number

if TYPE_CHECKING:
    from .presets import Preset

_DEFAULT_MODEL = "instruct-imagen-nano"


def add_train(commands: argparse._SubParsersAction) -> Iterator[argparse.ArgumentParser]:
    """Adds `train` and `finetune`; yields them."""
    yield _add_train(commands)
    yield _add_finetune(commands)


def _add_train(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("train", help="train a preset's stages")
    command.add_argument(
        "--preset",
        required=True,
        metavar="NAME",
        help="debug, nano, small or paper; with -sr: its super-resolution; adapt: a model named by --init",
    )
    command.add_argument("--steps", type=positive, metavar="N", help="stop after so many further steps")
    command.add_argument("--data", type=Path, metavar="FILE", help="JSON recipe of what each stage is trained on")
    command.add_argument(
        "--init",
        metavar="MODEL",
        help="without a checkpoint, go on from this model, where its training stood; with adapt: what is adapted",
    )
    _add_shared(command)
    command.set_defaults(run=_train)
    return command


def _add_finetune(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("finetune", help="adapt a model to your own examples, by LoRA or as a whole")
    command.add_argument(
        "data", nargs="+", type=Path, metavar="DATA", help="JSONL files or folders of shards (docs/finetuning.md)"
    )
    command.add_argument(
        "--model", metavar="NAME_OR_PATH", help=f"what is adapted (the run's own, for a new run {_DEFAULT_MODEL})"
    )
    trained = command.add_mutually_exclusive_group()
    trained.add_argument("--rank", type=positive, default=16, metavar="N", help="of the LoRA adapter (%(default)s)")
    trained.add_argument(
        "--lora", metavar="NAME_OR_PATH", help="go on from this adapter, such as one of an earlier state of the model"
    )
    trained.add_argument("--full", action="store_true", help="train the whole network instead of an adapter")
    command.add_argument("--steps", type=positive, metavar="N", help="steps in all (500)")
    command.add_argument("--batch-size", type=positive, metavar="N", help="examples a step (8)")
    command.add_argument("--learning-rate", type=positive_number, metavar="RATE", help="(1e-3; with --full 1e-4)")
    _add_shared(command)
    command.set_defaults(run=_finetune)
    return command


def _add_shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    command.add_argument("--seed", type=natural, default=0, help="of weights, data and noise (%(default)s)")
    command.add_argument("--minutes", type=positive_number, metavar="M", help="stop after so many minutes of training")
    command.add_argument("--resume", choices=("latest",), help="continue from the newest good checkpoint in DIR")
    command.add_argument(
        "--tracker", choices=("tensorboard", "wandb"), help="where losses and samples are shown (tensorboard)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a preset field, such as stages.0.steps=100",
    )


def _train(options: argparse.Namespace) -> None:
    from .data.recipe import read_recipe
    from .model_folders import resolve_model
    from .presets import get_preset

    preset = get_preset(options.preset, options.set)
    if options.data is not None:
        preset = replace(preset, data=read_recipe(options.data))
    init = None if options.init is None else resolve_model(options.init)
    _run(options, preset, init, options.steps)


def _finetune(options: argparse.Namespace) -> None:
    from .lora import adapter_rank, find_adapter
    from .model_folders import resolve_model
    from .presets import get_preset
    from .training.beginning import base_of
    from .training.checkpoint import list_checkpoints
    from .training.own_data import own_data

    checkpoints = list_checkpoints(options.out / "checkpoints") if options.resume else []
    known = base_of(checkpoints) if options.model is None else None
    base = known or resolve_model(options.model or _DEFAULT_MODEL)
    adapter = None if options.lora is None else find_adapter(options.lora, base)
    rank = 0 if options.full else options.rank if adapter is None else adapter_rank(adapter)
    given = {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate}
    overrides = [f"stages.0.{name}={value}" for name, value in given.items() if value is not None]
    if options.steps is not None:
        overrides.append(f"stages.0.decay_steps={options.steps // 5}")  # the preset's share
    overrides.append(f"stages.0.lora_rank={rank}")
    if options.full and options.learning_rate is None:
        overrides.append("stages.0.learning_rate=1e-4")
    preset = get_preset("finetune", [*overrides, *options.set])
    _run(options, replace(preset, data=own_data(options.data)), base, None, adapter)


def _run(
    options: argparse.Namespace, preset: Preset, init: Path | None, steps: int | None, adapter: Path | None = None
) -> None:
    from .training.trainer import Trainer

    if options.tracker is not None:
        preset = replace(preset, execution=replace(preset.execution, tracker=options.tracker))
    trainer = Trainer(preset, options.out, options.seed, options.resume is not None, init, not options.quiet, adapter)
    position = trainer.run(steps, options.minutes)
    done = position.stage_index == len(preset.stages)
    state = "complete" if done else f"in {preset.stages[position.stage_index].stage} at step {position.step}"
    if trainer.processes.is_main:
        print(f"{options.out}: {state}, {position.total_steps} steps in all")
