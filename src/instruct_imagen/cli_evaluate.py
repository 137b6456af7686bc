"""The command `instruct-imagen evaluate`: suites of the glyph world, and the paper's over real data."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arguments import several
from .errors import UserError


def add_evaluate(
    commands: argparse._SubParsersAction, add_model_options: Callable[[argparse.ArgumentParser], None]
) -> argparse.ArgumentParser:
    """Adds the command; the model's options are those of the other commands."""
    command = commands.add_parser("evaluate", help="measure how well a model, or any other system, does what is asked")
    command.add_argument(
        "--suite",
        action="append",
        metavar="NAME",
        help="a suite, a task of one, all, or paper/NAME over real data; may be repeated (quick; docs/evaluation.md)",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="scores.json, verdicts and contact sheets go here")
    command.add_argument("--images", type=Path, metavar="DIR", help="score pictures of any system: TASK/INDEX.png")
    command.add_argument("--export", type=Path, metavar="DIR", help="write the instructions with all their pictures")
    command.add_argument("--name", metavar="NAME", help="what an export calls the method (the model or folder)")
    command.add_argument("--count", type=several, metavar="N", help="instructions per task (the suite's own)")
    command.add_argument("--guidance", type=float, help="guidance scale (the model's own, 3.0)")
    command.add_argument("--image-guidance", type=float, help="separate guidance scale of the references")
    command.add_argument(
        "--anchors", type=Path, metavar="DIR", help="keep ceilings, floors and copies here, and read those that are"
    )
    real = command.add_argument_group("real data", "suites of the paper; models are folders, or names with --download")
    real.add_argument("--data", action="append", default=[], metavar="RELEASE=DIR", help="where a public release is")
    real.add_argument("--clip", metavar="MODEL", help="for CLIP-T and CLIP-I")
    real.add_argument("--dino", metavar="MODEL", help="for the DINO score, FID and KID")
    real.add_argument("--depth-model", metavar="MODEL", help="to read depth from pictures")
    real.add_argument("--judge-model", metavar="MODEL", help="a vision-language model that rates SC and PQ")
    real.add_argument("--download", action="store_true", help="let these models be fetched from the hub")
    add_model_options(command)
    command.set_defaults(run=run)
    return command


def run(options: argparse.Namespace) -> None:
    """Exports, evaluates, or both."""
    from .evaluation.real.runner import PREFIX

    if options.images is not None and not options.images.is_dir():
        raise UserError(f"--images {options.images} is no folder; name one with pictures as TASK/INDEX.png")
    if options.out is None and options.export is None:
        raise UserError("give --out DIR for scores, or --export DIR for the instructions")
    options.suite = options.suite or ["quick"]
    real = [name.partition("/")[0] == PREFIX for name in options.suite]
    if any(real) and not all(real):
        raise UserError("suites of real data and of the glyph world are judged apart; give each its own command")
    if all(real):
        _run_real(options)
    else:
        _run_world(options)


def _run_world(options: argparse.Namespace) -> None:
    from .evaluation.anchor_store import AnchorStore
    from .evaluation.folders import write_method, write_suites
    from .evaluation.model import counted, trained_templates
    from .evaluation.runner import Evaluator, print_scores, run_suites
    from .evaluation.suites import get_suites
    from .files import make_folder
    from .model_folders import resolve_model
    from .world import load_pack

    suites = counted(get_suites(*options.suite), options.count)
    source = num_templates = None
    if options.out is not None:
        source = _source(options)
        num_templates = None if options.images else trained_templates(resolve_model(options.model))
        make_folder(options.out)
    pack = load_pack().prepare()
    if options.export is not None:
        print(f"{options.export}: {write_suites(suites, pack, options.export)} instructions")
    if source is None:
        return
    evaluator = Evaluator(pack, None if options.anchors is None else AnchorStore(options.anchors))
    progress = not options.quiet
    scores = run_suites(
        suites, source, pack, options.out, num_templates=num_templates, progress=progress, evaluator=evaluator
    )
    if options.export is not None:
        name = options.name or (options.images or Path(options.model)).resolve().name
        write_method(suites, options.out, name, options.export)
    print_scores(scores)


def _run_real(options: argparse.Namespace) -> None:
    from .evaluation.real.metrics import RealMetrics
    from .evaluation.real.runner import print_real_scores, run_real, suite_names
    from .evaluation.real.vision_language import ChatJudge

    if options.out is None or options.export is not None:
        raise UserError("suites of real data are not exported, since their releases have licences; give --out DIR")
    data = dict(map(_release, options.data))
    names = list(dict.fromkeys(task for name in options.suite for task in suite_names(name, data)))
    judge = (
        None if options.judge_model is None else ChatJudge(options.judge_model, local_files_only=not options.download)
    )
    metrics = RealMetrics.load(options.clip, options.dino, options.depth_model, judge, options.download)
    source = _source(options)
    scores = run_real(names, source, data, metrics, options.out, count=options.count, progress=not options.quiet)
    print_real_scores(scores)


def _release(argument: str) -> tuple[str, Path]:
    from .evaluation.real.cases import RELEASES

    name, equals, path = argument.partition("=")
    if not equals or name not in RELEASES:
        raise UserError(f"--data {argument!r} must be RELEASE=DIR, with one of {', '.join(RELEASES)}")
    return name, Path(path)


def _source(options: argparse.Namespace) -> Any:
    """Pictures that a model draws, or those of a folder."""
    from .evaluation.folders import FolderPictures

    if options.images is not None:
        return FolderPictures(options.images)
    from .cli import load_pipeline
    from .evaluation.model import PipelineGenerator
    from .evaluation.runner import Drawn

    pipeline = load_pipeline(options)
    pipeline.set_progress_bar_config(disable=True)
    return Drawn(PipelineGenerator(pipeline, options.steps, options.guidance, options.image_guidance, options.stages))
