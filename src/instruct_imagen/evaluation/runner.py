"""Runs suites: instructions to pictures by any source, pictures to scores by the judges.

    scores = run_suite(get_suite("quick"), generate, load_pack(), Path("out"))
    print_scores(scores)

Nothing here knows the model: a `PictureSource` gives the pictures of a task's cases, drawn by a generator or read
from a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from PIL import Image

from ..files import make_folder, write_json, write_text
from ..instruction import Instruction
from ..sheet import SheetRow, contact_sheet
from ..world import GlyphPack
from .anchor_store import AnchorStore
from .bootstrap import mean_interval
from .calibration import shipped_scales
from .cases import Case, SuiteCase, suite_cases
from .judging import Judges, copied
from .scoring import Anchors, Verdicts, anchors, distance_to_truth, judge, truth_apart
from .suites import EvaluationError, Suite, SuiteTask, get_suite

BATCH = 16
NUM_ROWS = 16  # of a contact sheet
SCORES_FILE = "scores.json"
VERDICTS_FOLDER = "verdicts"

PictureSource = Callable[[SuiteTask, Sequence[Case]], list[np.ndarray]]


class Triple(TypedDict):
    """SC, PQ and O, each a mean over pictures in 0..1."""

    sc: float
    pq: float
    o: float


class TaskScore(TypedDict, total=False):
    """What `scores.json` says of one task; docs/evaluation.md explains the fields.

    Those after `copied` are not in the quick suite, whose `figure` is its one judge's; elsewhere it is O.
    """

    figure: float
    ceiling: float
    ceiling_at_size: float
    floor: float
    count: int
    interval: list[float]
    copied: float | None
    sc: float
    pq: float
    o: float
    continuous: Triple
    sc_interval: list[float]
    pq_interval: list[float]
    copies: Triple | None
    kid: float
    kid_of_truth: float
    conditions: dict[str, dict[str, float]]


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


@dataclass(frozen=True)
class Drawn:
    """The pictures that a generator draws: a `PictureSource`."""

    generate: ImageGenerator

    def __call__(self, task: SuiteTask, cases: Sequence[Case]) -> list[np.ndarray]:
        """One picture a case.

        Raises:
            EvaluationError: the generator returns something else than pictures.
        """
        pictures: list[np.ndarray] = []
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            drawn = self.generate(
                [case.instruction for case in batch],
                [case.seed for case in batch],
                drop_context=task.drop_context,
            )
            if len(drawn) != len(batch):
                raise EvaluationError(f"The generator returned {len(drawn)} pictures for {len(batch)} instructions.")
            pictures.extend(drawn)
        for picture in pictures:
            side = len(picture)
            if picture.dtype != np.uint8 or picture.shape != (side, side, 3):
                raise EvaluationError(
                    f"The generator returned {picture.dtype} {list(picture.shape)}; pictures must be uint8 [S, S, 3]."
                )
        return pictures


def run_suite(
    suite: Suite | str, generate: ImageGenerator, pack: GlyphPack, out: Path, progress: bool = True
) -> Scores:
    """Generates, judges and writes one suite; see `run_suites`."""
    suite = get_suite(suite) if isinstance(suite, str) else suite
    return run_suites((suite,), Drawn(generate), pack, out, progress=progress)


def run_suites(
    suites: Sequence[Suite],
    source: PictureSource,
    pack: GlyphPack,
    out: Path,
    *,
    num_templates: int | None = None,
    progress: bool = True,
    evaluator: Evaluator | None = None,
) -> Scores:
    """Gets, judges and writes the pictures of suites.

    Args:
        suites: from `get_suites`.
        source: of the pictures.
        pack: the glyphs.
        out: folder; gets `scores.json`, `contact_<task>.png`, `images/<task>/<index>.png` and, but for the quick
            suite, `verdicts/<task>.jsonl`.
        num_templates: 0 asks without instructions, for a model that was trained so.
        progress: whether to report each task on standard error.
        evaluator: judges and anchors of an earlier call with the same pack, which are then not measured again.

    Returns:
        What is in `scores.json`: {suite: {task: TaskScore}}.

    Raises:
        EvaluationError: a task has fewer than two instructions, or the source gives something else than pictures.
    """
    evaluator = evaluator or Evaluator(pack)
    scores: Scores = {}
    for suite in suites:
        if suite.num_per_task < 2:  # the floor is another instruction's picture
            raise EvaluationError(f"A task needs at least 2 instructions to have a floor, not {suite.num_per_task}.")
        scores[suite.name] = {}
        for task in suite.tasks:
            cases = suite_cases(task, suite, pack, num_templates)
            score = evaluator.evaluate(suite, task, cases, source(task, cases), out)
            scores[suite.name][task.name] = score
            if progress:
                print(f"{suite.name}/{task.name}: {score['figure']:.3f}", file=sys.stderr, flush=True)
            write_scores(scores, out)  # so that what is done stays, whatever ends the evaluation
    return scores


class Evaluator:
    """Judges tasks of one pack, and remembers what does not depend on who drew.

    Args:
        pack: the glyphs.
        store: where that is kept for the next evaluation; nowhere by default.
    """

    def __init__(self, pack: GlyphPack, store: AnchorStore | None = None) -> None:
        self.pack = pack
        self._measured = anchors if store is None else store.anchors
        self._quick = Judges(pack)
        self._anchors: dict[tuple[object, ...], Anchors] = {}

    def evaluate(
        self, suite: Suite, task: SuiteTask, cases: Sequence[SuiteCase], pictures: Sequence[np.ndarray], out: Path
    ) -> TaskScore:
        """Judges one task's pictures, writes them with what was said of each, and returns the score."""
        if task.judge is not None:
            figures = self._quick.figures(task.judge, pictures, cases)
            score = self._quick_score(task, cases, pictures, figures)
            titles = [f"{case.key}: {figure:.2f}" for case, figure in zip(cases, figures, strict=True)]
        else:
            verdicts = judge(task, cases, pictures, self.pack, shipped_scales())
            score = self._score(suite, task, cases, pictures, verdicts)
            titles = [_title(case, verdict_line(verdicts, k)) for k, case in enumerate(cases)]
            _write_verdicts(out, task, cases, verdicts, copied(pictures, cases))
        _write_pictures(out, task, pictures, cases, titles)
        return score

    def _quick_score(
        self, task: SuiteTask, cases: Sequence[SuiteCase], pictures: Sequence[np.ndarray], figures: np.ndarray
    ) -> TaskScore:
        judge_name = task.judge
        assert judge_name is not None
        return {
            "figure": float(figures.mean()),
            "ceiling": self._quick.ceiling(judge_name, cases),
            "ceiling_at_size": self._quick.ceiling_at(judge_name, cases, len(pictures[0])),
            "floor": self._quick.floor(judge_name, cases),
            "count": len(cases),
            "interval": list(mean_interval(figures)),
            "copied": _share(copied(pictures, cases)),
        }

    def _score(
        self,
        suite: Suite,
        task: SuiteTask,
        cases: Sequence[SuiteCase],
        pictures: Sequence[np.ndarray],
        verdicts: Verdicts,
    ) -> TaskScore:
        known = self.anchors_of(suite, task, cases, len(pictures[0]))
        return {
            "figure": verdicts.mean("o"),
            "ceiling": known.truth.mean("o"),
            "ceiling_at_size": known.truth_at_size.mean("o"),
            "floor": known.wrong.mean("o"),
            "count": len(cases),
            "interval": list(mean_interval(verdicts.values("o"))),
            "copied": _share(copied(pictures, cases)),
            "sc": verdicts.mean("sc"),
            "pq": verdicts.mean("pq"),
            "o": verdicts.mean("o"),
            "continuous": _triple(verdicts, "_score"),
            "sc_interval": list(mean_interval(verdicts.values("sc"))),
            "pq_interval": list(mean_interval(verdicts.values("pq"))),
            "copies": None if known.copies is None else _triple(known.copies),
            "kid": distance_to_truth(verdicts, known.truth_at_size),
            "kid_of_truth": truth_apart(known.truth_at_size) if len(cases) > 3 else 0.0,
            "conditions": _of_conditions(task, verdicts, known),
        }

    def anchors_of(self, suite: Suite, task: SuiteTask, cases: Sequence[SuiteCase], size_px: int) -> Anchors:
        """Ceiling, floor and copies of a task for pictures of a size; tasks of the same pictures share them."""
        same = (suite.seed, task.stream or task.name, task.conditions, len(cases), size_px)
        if same not in self._anchors:
            self._anchors[same] = self._measured(task, cases, size_px, self.pack, shipped_scales())
        return self._anchors[same]


def verdict_line(verdicts: Verdicts, index: int) -> str:
    """One picture's verdict in short: O, SC and PQ, and the level of each condition."""
    verdict = verdicts.each[index]
    conditions = ", ".join(f"{name} {found.level:g}" for name, found in verdict.conditions.items())
    return f"O {verdict.o:.2f} (SC {verdict.sc:g}, PQ {verdict.pq:g}; {conditions})"


def _title(case: SuiteCase, line: str) -> str:
    return f"{case.key}: {line}"


def _triple(verdicts: Verdicts, suffix: str = "") -> Triple:
    return {"sc": verdicts.mean(f"sc{suffix}"), "pq": verdicts.mean(f"pq{suffix}"), "o": verdicts.mean(f"o{suffix}")}


def _of_conditions(task: SuiteTask, verdicts: Verdicts, known: Anchors) -> dict[str, dict[str, float]]:
    """For each condition its mean level, with ceiling, ceiling at the size, and floor."""
    table: dict[str, dict[str, float]] = {}
    sets = {"level": verdicts, "ceiling": known.truth, "ceiling_at_size": known.truth_at_size, "floor": known.wrong}
    for condition in task.conditions:
        levels = {name: found.condition(condition.name) for name, found in sets.items()}
        present = {name: level for name, level in levels.items() if level is not None}
        if present:
            table[condition.name] = present
    return table


def _share(flags: list[bool] | None) -> float | None:
    return None if flags is None else float(np.mean(flags))


def _write_verdicts(
    out: Path, task: SuiteTask, cases: Sequence[SuiteCase], verdicts: Verdicts, copies: list[bool] | None
) -> None:
    def line(index: int) -> dict[str, Any]:
        verdict = verdicts.each[index]
        names = ("sc", "pq", "o", "sc_score", "o_score")
        return {
            "key": cases[index].key,
            **{name: round(float(getattr(verdict, name)), 6) for name in names},
            "pq_score": round(verdict.quality.score, 6),
            "realism": round(verdict.quality.value, 6),
            "copied": None if copies is None else copies[index],
            "conditions": {
                name: {"scale": j.scale, "value": round(j.value, 6), "level": j.level, "score": round(j.score, 6)}
                for name, j in verdict.conditions.items()
            },
        }

    text = "".join(json.dumps(line(index)) + "\n" for index in range(len(cases)))
    path = make_folder(out / VERDICTS_FOLDER) / f"{task.name}.jsonl"
    write_text(path, text)


def _write_pictures(
    out: Path,
    task: SuiteTask,
    pictures: Sequence[np.ndarray],
    cases: Sequence[SuiteCase],
    titles: Iterable[str],
) -> None:
    folder = make_folder(out / "images" / task.name)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index}.png")
    rows = [
        SheetRow.of(title, case.instruction, [Image.fromarray(p) for p in (picture, case.truth)])
        for picture, case, title in list(zip(pictures, cases, titles, strict=False))[:NUM_ROWS]
    ]
    contact_sheet(rows).save(out / f"contact_{task.name}.png")


def write_scores(scores: Mapping[str, Mapping[str, Any]], out: Path) -> Path:
    """Writes `scores.json` whole or not at all; returns its path."""
    path = make_folder(out) / SCORES_FILE
    write_json(path, scores)
    return path


def print_scores(scores: Scores) -> None:
    """Prints a small table of each suite's scores."""
    for suite, tasks in scores.items():
        width = max(len(name) for name in [suite, *tasks])
        judged = any("o" in score for score in tasks.values())
        more = "      SC     PQ  copies     KID" if judged else ""
        print(f"{suite:<{width}}  figure        interval   floor  ceiling  at size  count  copied{more}")
        for name, score in tasks.items():
            low, high = score["interval"]
            line = (
                f"{name:<{width}}  {score['figure']:6.3f}  {low:6.3f} .. {high:5.3f}  {score['floor']:6.3f}"
                f"  {score['ceiling']:7.3f}  {score['ceiling_at_size']:7.3f}  {score['count']:5d}"
                f"  {_optional(score['copied'], 6, 2)}"
            )
            if "o" in score:
                copies = score["copies"]
                line += f"  {score['sc']:6.3f} {score['pq']:6.3f}  {_optional(copies and copies['o'], 6, 3)}"
                line += f"  {score['kid']:6.3f}"
            print(line)


def _optional(value: float | None, width: int, digits: int) -> str:
    return "-".rjust(width) if value is None else f"{value:{width}.{digits}f}"
