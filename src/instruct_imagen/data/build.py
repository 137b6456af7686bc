"""Builds one data set of the mixture into shards: from a public corpus, or from the rendered world."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..files import OutputError, make_folder, write_atomically
from ..retrieval.engines import Engine, LocalEngine
from ..sheet import SheetRow, contact_sheet
from ..world import load_pack
from .example import Example
from .mixture import WorldSource
from .recipe import WORLD
from .report import DataError, Report
from .shards import ShardSource, ShardWriter
from .sources import SOURCES, SourceOptions
from .templates import FINE_TUNING_TASKS, TRAINING_TASKS
from .world_tasks import WorldTasks

logger = logging.getLogger(__name__)

DATASETS = (*TRAINING_TASKS, *FINE_TUNING_TASKS)
EXAMPLES = "examples"  # the step's name in the report
NUM_ROWS = 12  # of the contact sheet
_WORLD_SALT = 4  # apart from the streams that training draws, see mixture


def build_dataset(
    name: str,
    source: str,
    out: Path,
    options: SourceOptions,
    *,
    pack: str = "auto",
    strict: bool = False,
    engine: Engine | None = None,
    num_parts: int = 1,
) -> Report:
    """Writes `OUT/00000.tar`, ..., `OUT/report.json` and `OUT/contact_sheet.png`, whole or not at all.

    The examples are the same for any engine and any number of parts; their order in the shards is not.

    Args:
        name: one of `DATASETS`.
        source: path of a corpus in a layout that docs/datasets.md describes, or "world".
        out: folder that does not exist yet, or is empty.
        options: seed, size and number of examples.
        pack: glyph pack of the world.
        strict: stop at the first damaged record.
        engine: where the parts are built; None: in this process.
        num_parts: how many workers share the source.

    Returns:
        What was kept and dropped.

    Raises:
        DataError: unknown name, missing or unreadable source, or no example in it.
        OutputError: `out` holds something already or cannot be written.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; choose one of {', '.join(DATASETS)}.")
    if source == WORLD and options.max_examples is None:
        raise DataError("The world has no end; say how many examples to build with --count.")
    if source != WORLD and not Path(source).exists():
        raise DataError(f"The source {source} does not exist; check the path.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} holds something already; choose another folder")
    partial_out = out.absolute().with_name(f".{out.name}.partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    make_folder(partial_out)
    try:
        parts = [replace(options, part=part, num_parts=num_parts) for part in range(num_parts)]
        place = source if source == WORLD else str(Path(source).absolute())  # workers may be elsewhere
        build = partial(_build_part, name=name, source=place, out=partial_out, pack=pack, strict=strict)
        report = Report(strict)
        results = (engine or LocalEngine()).map_units(build, parts)
        for found in tqdm(results, "parts", num_parts, disable=num_parts == 1 or not _is_talkative()):
            report.merge(found)
        if not report.step(EXAMPLES).kept:
            raise DataError(f"{source} holds no example for {name!r}: {_reasons(report)}")
        write_atomically(partial_out / "contact_sheet.png", _sheet(ShardSource(partial_out)).save)
        report.write(partial_out / "report.json", dataset=name, source=source, seed=options.seed)
        if out.exists():
            out.rmdir()
        os.replace(partial_out, out)
        return report
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)


def _build_part(options: SourceOptions, name: str, source: str, out: Path, pack: str, strict: bool) -> Report:
    """Writes the shards of one part; done again, it writes the same files."""
    report = Report(strict)
    examples = _open(name, source, report, options, pack)
    prefix = f"{options.part:04d}-" if options.num_parts > 1 else ""
    with ShardWriter(out, prefix) as writer:
        for example in tqdm(examples, desc=name, unit=" examples", disable=not _is_talkative()):
            writer.write(example)
            report.keep(EXAMPLES)
    return report


def _is_talkative() -> bool:
    return logger.isEnabledFor(logging.INFO)


def _open(name: str, source: str, report: Report, options: SourceOptions, pack: str) -> Iterator[Example]:
    if source != WORLD:
        return SOURCES[name].open(Path(source), report, options)
    tasks = WorldTasks(load_pack(pack).prepare(), "train", options.size_px or 64)
    rendered = WorldSource(partial(tasks.build, name), name, (options.seed, _WORLD_SALT, DATASETS.index(name)))
    return (rendered[index] for index in range(options.part, options.max_examples or 0, options.num_parts))


def _sheet(source: ShardSource) -> Image.Image:
    """Examples from the whole data set."""
    places = np.unique(np.linspace(0, len(source) - 1, NUM_ROWS).round().astype(int)).tolist()
    examples = [source[place] for place in places]
    return contact_sheet([SheetRow.of(example.key, example.instruction, [example.target]) for example in examples])


def _reasons(report: Report) -> str:
    """The most frequent reasons for dropping, in words."""
    counts: Counter[str] = Counter()
    for step in report.steps.values():
        counts.update(step.dropped)
    most = sorted(counts, key=lambda reason: -counts[reason])[:3]
    return ", ".join(f"{reason} ({counts[reason]})" for reason in most) or "nothing was found"
