"""Runs the paper's suites over real data: pictures of any source, to metrics with their anchors.

run_real(["subject", "style"], source, {"dreambench": Path(...), ...}, RealMetrics.load(clip=..., ...), Path("out"))
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from ...files import make_folder
from ...sheet import SheetRow, contact_sheet
from ..bootstrap import mean_interval
from ..runner import NUM_ROWS, PictureSource, write_scores
from ..suites import EvaluationError, SuiteTask
from .cases import REAL_SUITES, RealCase, real_cases
from .metrics import RealMetrics, frechet_and_kernel_distance

PREFIX = "paper"


class MetricScore(TypedDict):
    """One metric on one suite: its mean, with 95 % interval, and the means of what it is to be read against.

    `floor` is the same of pictures drawn for the next instruction, `copies` of the references themselves (the best one
    of each instruction), `ceiling` of real pictures that fulfil it; None where there are none.
    """

    mean: float
    interval: list[float]
    floor: float
    copies: float | None
    ceiling: float | None
    count: int


class RealScore(TypedDict, total=False):
    """What `scores.json` says of one suite of real data."""

    count: int
    paper_count: int
    metrics: dict[str, MetricScore]
    fid: float
    kid: float


def suite_names(name: str, data: Mapping[str, Path]) -> list[str]:
    """Suites that "paper/NAME", or "paper" for all whose releases are given, stands for.

    Raises:
        EvaluationError: it stands for nothing.
    """
    _, _, task = name.partition("/")
    if task:
        return [task]
    names = [suite.name for suite in REAL_SUITES.values() if set(suite.releases) <= set(data)]
    if not names:
        raise EvaluationError("No suite of real data has all its releases; give them as --data NAME=DIR.")
    return names


def run_real(
    names: Sequence[str],
    source: PictureSource,
    data: Mapping[str, Path],
    metrics: RealMetrics,
    out: Path,
    *,
    count: int | None = None,
    progress: bool = True,
) -> dict[str, dict[str, RealScore]]:
    """Gets and measures the pictures of suites of real data.

    Args:
        names: keys in `REAL_SUITES`.
        source: of the pictures.
        data: where the releases are.
        metrics: what measures.
        out: folder; gets `scores.json`, `images/<suite>/<index>.png` and `contact_<suite>.png`.
        count: instructions per suite; the paper's number if None.
        progress: whether to report each suite on standard error.

    Returns:
        What is in `scores.json`: {"paper": {suite: RealScore}}.
    """
    prepared = {name: real_cases(name, data, count) for name in names}  # before anything is drawn or written
    make_folder(out)
    scores: dict[str, RealScore] = {}
    for name, cases in prepared.items():
        drawn = source(SuiteTask(name, name), cases)
        pictures = [Image.fromarray(picture) for picture in drawn]
        _write(out, name, cases, pictures)
        scores[name] = _score(name, cases, pictures, metrics)
        if progress:
            print(f"{PREFIX}/{name}: {len(cases)} pictures", file=sys.stderr, flush=True)
        write_scores({PREFIX: scores}, out)  # so that what is done stays, whatever ends the evaluation
    return {PREFIX: scores}


def _score(name: str, cases: Sequence[RealCase], pictures: Sequence[Image.Image], metrics: RealMetrics) -> RealScore:
    found = metrics.measure(cases, pictures)
    wrong = metrics.measure(cases, [*pictures[1:], pictures[0]])
    copies = _copies(cases, metrics)
    truths = [case.truth for case in cases if case.truth is not None]
    true = metrics.measure([case for case in cases if case.truth is not None], truths) if truths else {}
    score: RealScore = {"count": len(cases), "paper_count": REAL_SUITES[name].count, "metrics": {}}
    for metric, values in found.items():
        known = values[~np.isnan(values)]
        score["metrics"][metric] = {
            "mean": float(known.mean()),
            "interval": list(mean_interval(known)),
            "floor": float(np.nanmean(wrong[metric])),
            "copies": float(np.nanmean(copies[metric])) if metric in copies else None,
            "ceiling": float(np.nanmean(true[metric])) if metric in true else None,
            "count": len(known),
        }
    embedder = metrics.dino or metrics.clip
    if embedder is not None and min(len(truths), len(pictures)) > 1:
        score["fid"], score["kid"] = frechet_and_kernel_distance(embedder.images(truths), embedder.images(pictures))
    return score


def _copies(cases: Sequence[RealCase], metrics: RealMetrics) -> Mapping[str, np.ndarray]:
    """For each metric and case the best of the case's references; what has none counts nowhere."""
    most = max(len(case.instruction.references) for case in cases)
    tried = []
    for number in range(most):
        chosen = [case for case in cases if case.instruction.references]
        pictures = [
            case.instruction.references[min(number, len(case.instruction.references) - 1)].image for case in chosen
        ]
        tried.append(metrics.measure(chosen, pictures))
    return {name: np.max([values[name] for values in tried], axis=0) for name in tried[0]} if tried else {}


def _write(out: Path, name: str, cases: Sequence[RealCase], pictures: Sequence[Image.Image]) -> None:
    folder = make_folder(out / "images" / name)
    for case, picture in zip(cases, pictures, strict=True):
        picture.save(folder / f"{case.index}.png")
    rows = [
        SheetRow.of(case.key, case.instruction, [picture, *([case.truth] if case.truth else [])])
        for case, picture in list(zip(cases, pictures, strict=True))[:NUM_ROWS]
    ]
    contact_sheet(rows).save(out / f"contact_{name}.png")


def print_real_scores(scores: Mapping[str, Mapping[str, RealScore]]) -> None:
    """Prints a small table."""
    for group, suites in scores.items():
        for name, score in suites.items():
            distance = f", FID {score['fid']:.2f}, KID {score['kid']:.4f}" if "fid" in score else ""
            print(f"{group}/{name}: {score['count']} of {score['paper_count']} instructions{distance}")
            for metric, s in score["metrics"].items():
                low, high = s["interval"]
                rest = "".join(
                    f"  {what} {value:.3f}"
                    for what, value in (("floor", s["floor"]), ("copies", s["copies"]), ("ceiling", s["ceiling"]))
                    if value is not None
                )
                print(f"  {metric:14} {s['mean']:.3f}  ({low:.3f} .. {high:.3f}){rest}  n {s['count']}")
