"""Plots and picture grids of a report, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..sheet import tile, wrapped
from .bootstrap import mean_interval
from .cases import SuiteCase
from .results import Results
from .suites import EvaluationError

_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#999999",
    "#000000",
)  # Okabe and Ito 2008
_TILE_PX, _GAP_PX, _TEXT_PX = 96, 6, 300


def _pyplot() -> Any:
    """Matplotlib without a display.

    Raises:
        EvaluationError: it is not installed.
    """
    try:
        import_module("matplotlib").use("Agg")
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        raise EvaluationError("The report's plots need matplotlib; install instruct-imagen[report].") from error


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    _pyplot().close(figure)
    return buffer.getvalue()


def bars(results: Sequence[Results], tasks: Sequence[str], title: str) -> bytes:
    """O of each method on each task with its 95 % interval; floor and ceiling at the model's size as lines.

    Methods that have none of the tasks are left out; the others keep the colours they would have beside them.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(max(6.0, 1.1 * len(tasks) + 2), 4.6), layout="constrained")
    shown = [(k, result) for k, result in enumerate(results) if any(task in result.o for task in tasks)]
    width = 0.8 / max(1, len(shown))
    for number, (colour, result) in enumerate(shown):
        places = [k for k, task in enumerate(tasks) if task in result.o]
        means = np.array([result.o[tasks[k]].mean() for k in places])
        intervals = np.array([mean_interval(result.o[tasks[k]]) for k in places]).reshape(-1, 2)
        across = np.array(places) + (number - 0.5 * (len(shown) - 1)) * width
        error = np.abs(intervals.T - means)
        axes.bar(across, means, width, yerr=error, color=_COLOURS[colour % len(_COLOURS)], label=result.title)
    for field, ink, label in (("floor", "#aa0000", "floor"), ("ceiling_at_size", "#444444", "ceiling at this size")):
        for k, task in enumerate(tasks):
            score: Any = next((r.task(task) for r in results if r.task(task) is not None), None)
            if score is not None:
                axes.hlines(score[field], k - 0.45, k + 0.45, color=ink, linestyle=":", label=None if k else label)
    axes.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks])
    axes.set_ylim(0, 1)
    axes.set_ylabel("O = √(SC · PQ)")
    axes.set_title(title)
    figure.legend(fontsize=8, ncols=2, loc="outside lower center")
    return _png(figure)


def line(points: Mapping[str, Mapping[float, tuple[float, float, float]]], xlabel: str, title: str) -> bytes:
    """Lines of means with intervals: for each label, x to (mean, low, high)."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6, 4.4), layout="constrained")
    for number, (label, values) in enumerate(points.items()):
        xs = sorted(values)
        means, lows, highs = (np.array([values[x][part] for x in xs]) for part in range(3))
        axes.errorbar(
            xs,
            means,
            yerr=np.stack([means - lows, highs - means]),
            marker="o",
            capsize=3,
            color=_COLOURS[number % len(_COLOURS)],
            label=label,
        )
    ticks = sorted({x for values in points.values() for x in values})
    if ticks[-1] >= 20:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("O")
    axes.set_title(title)
    figure.legend(fontsize=8, ncols=2, loc="outside lower center")
    return _png(figure)


def picture_grid(cases: Sequence[SuiteCase], results: Sequence[Results], task: str) -> bytes:
    """One row an instruction: its words, its references, what each method drew, and the true picture."""
    shown = [result for result in results if result.task(task) is not None]
    columns = max(len(case.instruction.references) for case in cases)
    heads = [*(f"ref {k + 1}" for k in range(columns)), *(result.title for result in shown), "true picture"]
    step = _TILE_PX + _GAP_PX
    top = 54
    grid = Image.new("RGB", (_TEXT_PX + len(heads) * step, top + len(cases) * step), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(11)
    for k, head in enumerate(heads):
        for row, words in enumerate(wrapped(head, font, _TILE_PX)[:4]):
            draw.text((_TEXT_PX + k * step, 2 + 12 * row), words, fill="#205080", font=font)
    for row, case in enumerate(cases):
        y = top + row * step
        for number, words in enumerate(wrapped(case.instruction.text, font, _TEXT_PX - 12)[:7]):
            draw.text((4, y + 13 * number), words, fill="black", font=font)
        pictures: list[Image.Image | None] = [reference.image for reference in case.instruction.references]
        pictures += [None] * (columns - len(pictures))
        pictures += [_drawn(result.folder, task, case.index) for result in shown]
        for k, picture in enumerate([*pictures, Image.fromarray(case.truth)]):
            if picture is not None:
                grid.paste(tile(picture, _TILE_PX), (_TEXT_PX + k * step, y))
    buffer = io.BytesIO()
    grid.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _drawn(folder: Path, task: str, index: int) -> Image.Image | None:
    path = folder / "images" / task / f"{index}.png"
    return Image.open(path).convert("RGB") if path.is_file() else None
