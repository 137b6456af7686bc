"""Runs a suite: instructions to pictures by any generator, pictures to scores by the judges.

    scores = run_suite(get_suite("quick"), generate, load_pack(), Path("out"))
    print_scores(scores)

Nothing here knows the model: `generate` is whatever turns instructions into pictures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
from PIL import Image

from ..files import make_folder, write_atomically
from ..instruction import Instruction
from ..sheet import SheetRow, contact_sheet
from ..world import GlyphPack
from .bootstrap import mean_interval
from .judging import Judges, copied_share
from .suites import EvaluationError, Suite, SuiteCase, SuiteTask, get_suite, suite_cases

BATCH = 16
NUM_ROWS = 16  # of a contact sheet


class TaskScore(TypedDict):
    """What `scores.json` says of one task; `run_suite` explains the fields."""

    figure: float
    ceiling: float
    ceiling_at_size: float
    floor: float
    count: int
    interval: list[float]
    copied: float | None


Scores = dict[str, dict[str, TaskScore]]


class ImageGenerator(Protocol):
    """What is evaluated."""

    def __call__(
        self, instructions: Sequence[Instruction], seeds: Sequence[int], drop_context: bool = False
    ) -> list[np.ndarray]:
        """One picture per instruction.

        Args:
            instructions: what to draw.
            seeds: one an instruction, for its noise.
            drop_context: whether to do without the references, as guidance's unconditional branch does.

        Returns:
            uint8 [S, S, 3] RGB each, of any side S.
        """
        ...


def run_suite(
    suite: Suite | str,
    generate: ImageGenerator,
    pack: GlyphPack,
    out: Path,
    progress: bool = True,
) -> Scores:
    """Generates, judges and writes a whole suite.

    Args:
        suite: a suite or the name of one.
        generate: the model.
        pack: the glyphs.
        out: folder; gets `scores.json`, `contact_<task>.png` and `images/<task>/<index>.png`.
        progress: whether to report each task on standard error.

    Returns:
        What is in `scores.json`: {suite: {task: {figure, ceiling, ceiling_at_size, floor, count, interval,
        copied}}}. `figure` is the mean over instructions and `interval` its 95 % bootstrap interval; `ceiling` and
        `floor` are what the judge gives to the true pictures and to those of other instructions, `ceiling_at_size`
        what it gives to the true pictures reduced to the size of the generated ones; `copied` is the share of
        pictures that nearly repeat a reference, None without references. All but `count` lie within 0..1.

    Raises:
        EvaluationError: the suite is unknown or empty, or the generator returns something else than pictures.
    """
    suite = get_suite(suite) if isinstance(suite, str) else suite
    if suite.num_per_task < 1:
        raise EvaluationError(f"num_per_task must be at least 1, not {suite.num_per_task}.")
    judges = Judges(pack)
    scores: Scores = {suite.name: {}}
    for task in suite.tasks:
        cases = suite_cases(task, suite, pack)
        pictures = _generated(task, cases, generate)
        figures = judges.figures(task.judge, pictures, cases)
        _write_pictures(out, task, pictures, cases, figures)
        score = _score(task, cases, pictures, figures, judges)
        scores[suite.name][task.name] = score
        if progress:
            print(f"{suite.name}/{task.name}: {score['figure']:.3f}", file=sys.stderr, flush=True)
    write_scores(scores, out)
    return scores


def _generated(task: SuiteTask, cases: Sequence[SuiteCase], generate: ImageGenerator) -> list[np.ndarray]:
    pictures: list[np.ndarray] = []
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        drawn = generate(
            [case.instruction for case in batch],
            [case.seed for case in batch],
            drop_context=task.drop_context,
        )
        if len(drawn) != len(batch):
            raise EvaluationError(f"The generator returned {len(drawn)} pictures for {len(batch)} instructions.")
        for picture in drawn:
            side = len(picture)
            if picture.dtype != np.uint8 or picture.shape != (side, side, 3):
                raise EvaluationError(
                    f"The generator returned {picture.dtype} {list(picture.shape)}; pictures must be uint8 [S, S, 3]."
                )
        pictures.extend(drawn)
    return pictures


def _score(
    task: SuiteTask,
    cases: Sequence[SuiteCase],
    pictures: Sequence[np.ndarray],
    figures: np.ndarray,
    judges: Judges,
) -> TaskScore:
    return {
        "figure": float(figures.mean()),
        "ceiling": judges.ceiling(task.judge, cases),
        "ceiling_at_size": judges.ceiling_at(task.judge, cases, len(pictures[0])),
        "floor": judges.floor(task.judge, cases),
        "count": len(cases),
        "interval": list(mean_interval(figures)),
        "copied": copied_share(pictures, cases),
    }


def _write_pictures(
    out: Path,
    task: SuiteTask,
    pictures: Sequence[np.ndarray],
    cases: Sequence[SuiteCase],
    figures: np.ndarray,
) -> None:
    folder = make_folder(out / "images" / task.name)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index}.png")
    rows = [
        SheetRow.of(f"{case.key}: {figure:.2f}", case.instruction, [Image.fromarray(p) for p in (picture, case.truth)])
        for picture, case, figure in zip(pictures[:NUM_ROWS], cases, figures, strict=False)
    ]
    contact_sheet(rows).save(out / f"contact_{task.name}.png")


def write_scores(scores: Scores, out: Path) -> Path:
    """Writes `scores.json` whole or not at all; returns its path."""
    path = make_folder(out) / "scores.json"
    text = json.dumps(scores, indent=2) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return path


def print_scores(scores: Scores) -> None:
    """Prints a small table of a suite's scores."""
    for suite, tasks in scores.items():
        width = max(len(name) for name in [suite, *tasks])
        print(f"{suite:<{width}}  figure        interval   floor  ceiling  at size  count  copied")
        for name, score in tasks.items():
            low, high = score["interval"]
            copied = "-" if score["copied"] is None else f"{score['copied']:.2f}"
            print(
                f"{name:<{width}}  {score['figure']:6.3f}  {low:6.3f} .. {high:5.3f}  {score['floor']:6.3f}"
                f"  {score['ceiling']:7.3f}  {score['ceiling_at_size']:7.3f}  {score['count']:5d}  {copied:>6}"
            )
