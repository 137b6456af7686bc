"""Builds one data set of the mixture into shards: from a public corpus, or from the rendered world."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..files import OutputError, make_folder, write_atomically
from ..sheet import SheetRow, contact_sheet
from ..world import load_pack
from .example import Example
from .mixture import WorldSource
from .recipe import WORLD
from .report import DataError, Report
from .shards import ShardWriter
from .sources import SOURCES, SourceOptions
from .templates import FINE_TUNING_TASKS, TRAINING_TASKS
from .world_tasks import WorldTasks

logger = logging.getLogger(__name__)

DATASETS = (*TRAINING_TASKS, *FINE_TUNING_TASKS)
NUM_ROWS = 12  # of the contact sheet
_WORLD_SALT = 4  # apart from the streams that training draws, see mixture


def build_dataset(
    name: str, source: str, out: Path, options: SourceOptions, *, pack: str = "auto", strict: bool = False
) -> Report:
    """Writes `OUT/00000.tar`, ..., `OUT/report.json` and `OUT/contact_sheet.png`, whole or not at all.

    Args:
        name: one of `DATASETS`.
        source: path of a corpus in a layout that docs/datasets.md describes, or "world".
        out: folder that does not exist yet, or is empty.
        options: seed, size and number of examples.
        pack: glyph pack of the world.
        strict: stop at the first damaged record.

    Returns:
        What was kept and dropped.

    Raises:
        DataError: unknown name, missing or unreadable source, or no example in it.
        OutputError: `out` holds something already or cannot be written.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; choose one of {', '.join(DATASETS)}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} holds something already; choose another folder")
    partial_out = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    make_folder(partial_out)
    try:
        report = Report(strict)
        examples = _open(name, source, report, options, pack)
        rows: list[SheetRow] = []
        with ShardWriter(partial_out) as writer:
            for example in tqdm(examples, desc=name, unit=" examples", disable=not logger.isEnabledFor(logging.INFO)):
                writer.write(example)
                report.keep("examples")
                if len(rows) < NUM_ROWS:
                    rows.append(SheetRow.of(example.key, example.instruction, [example.target]))
        if not writer.num_examples:
            raise DataError(f"{source} holds no example for {name!r}: {_reasons(report)}")
        write_atomically(partial_out / "contact_sheet.png", contact_sheet(rows).save)
        report.write(partial_out / "report.json", dataset=name, source=source, seed=options.seed)
        if out.exists():
            out.rmdir()
        os.replace(partial_out, out)
        return report
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)


def _open(name: str, source: str, report: Report, options: SourceOptions, pack: str) -> Iterator[Example]:
    if source != WORLD:
        path = Path(source)
        if not path.exists():
            raise DataError(f"The source {source} does not exist; check the path.")
        return SOURCES[name].open(path, report, options)
    if options.max_examples is None:
        raise DataError("The world has no end; say how many examples to build with --count.")
    tasks = WorldTasks(load_pack(pack).prepare(), "train", options.size_px or 64)
    rendered = WorldSource(partial(tasks.build, name), name, (options.seed, _WORLD_SALT, DATASETS.index(name)))
    return (rendered[index] for index in range(options.max_examples))


def _reasons(report: Report) -> str:
    """The most frequent reasons for dropping, in words."""
    counts: Counter[str] = Counter()
    for step in report.steps.values():
        counts.update(step.dropped)
    most = sorted(counts, key=lambda reason: -counts[reason])[:3]
    return ", ".join(f"{reason} ({counts[reason]})" for reason in most) or "nothing was found"
