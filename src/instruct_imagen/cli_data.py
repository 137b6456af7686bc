"""The command line's data part: instruct-imagen data templates | build."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from .arguments import natural, positive


def add_data(commands: argparse._SubParsersAction) -> Iterator[argparse.ArgumentParser]:
    """Adds `data` and its commands; yields those that run."""
    group = commands.add_parser("data", help="build and look at training data")
    parts = group.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    yield _add_templates(parts)
    yield _add_build(parts)


def _add_templates(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("templates", help="print a task's instruction templates, one a line")
    command.add_argument("task", metavar="NAME", help="such as subject")
    command.add_argument("--split", choices=("all", "train", "held_out"), default="all", help="(%(default)s)")
    command.set_defaults(run=_templates)
    return command


def _add_build(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("build", help="build one data set of the mixture into shards")
    command.add_argument("name", metavar="NAME", help="a data set of Table 1, such as subject, or edit")
    command.add_argument("--source", required=True, metavar="PATH", help="a corpus (docs/datasets.md), or world")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    command.add_argument("--count", type=positive, metavar="N", help="at most so many examples")
    command.add_argument("--size", type=positive, metavar="PX", help="side of the pictures (as they are; world: 64)")
    command.add_argument("--seed", type=natural, default=0, help="(%(default)s)")
    command.add_argument("--pack", default="auto", help="glyph pack of the world (%(default)s)")
    command.add_argument("--strict", action="store_true", help="stop at the first damaged record")
    command.set_defaults(run=_build)
    return command


def _templates(options: argparse.Namespace) -> None:
    from .data.templates import COMBINATION_TASKS, Split, templates

    splits: tuple[Split, ...] = ("train", "held_out") if options.split == "all" else (options.split,)
    if options.task in COMBINATION_TASKS and options.split == "all":
        splits = ("held_out",)
    for split in splits:
        for template in templates(options.task, split):
            print(template.text)


def _build(options: argparse.Namespace) -> None:
    from .data.build import build_dataset
    from .data.sources import SourceOptions

    settings = SourceOptions(seed=options.seed, size_px=options.size, max_examples=options.count)
    report = build_dataset(
        options.name, options.source, options.out, settings, pack=options.pack, strict=options.strict
    )
    dropped = sum(count for step in report.steps.values() for count in step.dropped.values())
    print(f"{options.out}: {report.step('examples').kept} examples, {dropped} records dropped")
