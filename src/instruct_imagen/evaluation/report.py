"""Writes the report of a comparison: tables beside the paper's, what its claims come to here, plots, picture grids.

    python -m instruct_imagen.evaluation.report ablations [--out DIR]

reads `ablations/scores/METHOD/` (as `ablations` or `evaluate --out` write them; any folder of such folders will do) and
writes `report.html`, which needs no other file, and `report.md` with `figures/`. Every number and every sentence on a
claim is computed from those files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..world import GlyphPack, load_pack
from .bootstrap import average_difference_interval
from .cases import suite_cases
from .claims import (
    IN_DOMAIN,
    IN_DOMAIN_WITHOUT_TRANSFER,
    REWORDED,
    THREE_CONDITIONS,
    ZERO_SHOT,
    check_claims,
)
from .methods import MANIFEST_FILE, SCORES_FOLDER
from .paper import TABLE_3, TABLE_4, TABLE_4_AVERAGES, PaperRow
from .plots import bars, line, picture_grid
from .report_pages import Figure, Section, Table, write_report
from .results import Results, read_results
from .suites import SUITES, get_suites

TITLE = "Instruct-Imagen: baselines and ablations"
ROWS_PER_GRID = 4
_TABLE_4_METHODS = ("single_task", "multi_task", "instruct")
_GROUPS = {"in_domain": IN_DOMAIN, "zero_shot": ZERO_SHOT, "three_conditions": THREE_CONDITIONS}
_UNLIKE = (
    "The paper's figures are ratings by people of a far larger model on photographs; ours are measured by judges in "
    "the glyph world. Orders and distances can be compared, numbers cannot."
)


def build(results: Mapping[str, Results], pack: GlyphPack, manifest: Mapping[str, Any] | None = None) -> list[Section]:
    """The report's sections.

    Args:
        results: from `read_results`.
        pack: the glyphs of the suites, for the picture grids.
        manifest: what `ablations` wrote, if it made the results.
    """
    claims = check_claims(results)
    sections = [
        Section("What was compared", _setting(results, manifest), tables=_runs(manifest)),
        Section(
            "The paper's claims, here",
            () if claims else ("The methods that the claims are about were not evaluated.",),
            tuple(claim.sentence for claim in claims),
        ),
        Section("Table 4 of the paper, side by side", (_UNLIKE,), tables=(_table_4(results),)),
        Section("Table 3 of the paper, side by side", tables=(_table_3(results),)),
        Section("Beyond the paper", tables=_beyond(results), figures=_lines(results)),
        Section(
            "All figures",
            (_READING,),
            tables=tuple(_all_figures(result) for result in results.values() if result.o),
            figures=tuple(_bar_figures(results)),
        ),
        Section("Conditions", (_CONDITIONS,), tables=_conditions(results)),
        Section("Pictures", ("The first instructions of each task, in every method.",), figures=_grids(results, pack)),
    ]
    return [
        section for section in sections if section.tables or section.figures or section.paragraphs or section.points
    ]


_READING = (
    "SC is the level of the least satisfied condition, PQ the level of quality, O = √(SC · PQ) per picture, each in "
    "{0, 0.5, 1}; O continuous runs evenly from 0 to 1. The ceiling is the true pictures' O, at 64 pixels and reduced "
    "to the model's size; the floor that of true pictures of other instructions; copies that of the reference which "
    "scores best as the answer. Copied is the share of outputs that repeat a reference, KID the distance of their "
    "distribution from the true one, beside what halves of the true pictures are apart."
)
_CONDITIONS = "Mean level of each condition alone, with floor and ceiling at the model's size in brackets."


def _setting(results: Mapping[str, Results], manifest: Mapping[str, Any] | None) -> tuple[str, ...]:
    scores = [score for result in results.values() for tasks in result.scores.values() for score in tasks.values()]
    counts = sorted({score["count"] for score in scores})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    names = ", ".join(f"“{result.title}”" for result in results.values())
    texts = [
        f"{len(results)} methods ({names}) on {number} instructions a task, the same instructions and seeds for all. "
        "Intervals are 95 % bootstrap intervals over instructions; differences are resampled in pairs. They know "
        "nothing of other trainings: each method was trained once."
    ]
    if manifest:
        preset = manifest["preset"]
        model = preset["model"]
        texts.append(
            f"Preset “{preset['name']}” ({model['size_px']} pixels, channels {model['channels']}), seed "
            f"{manifest['seed']}, {manifest['steps']} denoising steps, guidance {manifest['guidance_scale']:g}."
        )
    return tuple(texts)


def _runs(manifest: Mapping[str, Any] | None) -> tuple[Table, ...]:
    if not manifest or not manifest.get("runs"):
        return ()
    rows = [
        (name, run["state"], f"{run['steps']:,}", f"{run['examples']:,}", f"{run['seconds'] / 60:.0f}")
        for name, run in manifest["runs"].items()
    ]
    note = "Steps, examples and minutes include those of the runs that a run went on from."
    return (Table("Trainings", ("run", "state", "steps", "examples", "minutes"), tuple(rows), note),)


def _number(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval is not None else "")


def _table_4(results: Mapping[str, Results]) -> Table:
    """O of the paper's models and ours, task by task, with averages."""
    ours = [results.get(name) for name in _TABLE_4_METHODS]
    rows = []
    for group, tasks in (("in-domain", IN_DOMAIN), ("zero-shot", ZERO_SHOT)):
        for task in tasks:
            rows.append((task.replace("_", " "), *_paper_cells(TABLE_4[task]), *(_cell(r, (task,)) for r in ours)))
        average = TABLE_4_AVERAGES["in_domain" if tasks is IN_DOMAIN else "zero_shot"]
        rows.append((f"{group} average", *_paper_cells(average), *(_cell(r, tasks) for r in ours)))
        if tasks is IN_DOMAIN:
            rest = tuple(TABLE_4[task] for task in IN_DOMAIN_WITHOUT_TRANSFER)
            paper = PaperRow(*(_mean_column(rest, k) for k in ("single_task", "multi_task", "prior", "instruct")))
            cells = (_cell(r, IN_DOMAIN_WITHOUT_TRANSFER) for r in ours)
            rows.append(("average without style transfer", *_paper_cells(paper), *cells))
    header = (
        "task",
        *(f"paper: {name}" for name in ("single-task", "multi-task", "best prior", "Instruct-Imagen")),
        *(f"ours: {name}" for name in ("single-task", "multi-task", "instruct")),
    )
    return Table("O, the paper's and ours (95 % interval)", header, tuple(rows))


def _paper_cells(row: PaperRow) -> tuple[str, ...]:
    return tuple(_number(value) for value in (row.single_task, row.multi_task, row.prior, row.instruct))


def _mean_column(rows: Sequence[PaperRow], column: str) -> float | None:
    values = [getattr(row, column) for row in rows]
    return None if None in values else sum(values) / len(values)


def _cell(result: Results | None, tasks: Sequence[str]) -> str:
    if result is None or not result.has(tasks):
        return "–"
    return _number(result.average(tasks), result.average_interval(tasks))


def _table_3(results: Mapping[str, Results]) -> Table:
    """With and without stage 1."""
    without, with_it = results.get("instruct_without_stage1"), results.get("instruct")
    rows = []
    for name, tasks, paper in (
        ("in-domain, without style transfer", IN_DOMAIN_WITHOUT_TRANSFER, TABLE_3["in_domain"]),
        ("in-domain, all", IN_DOMAIN, None),
        ("zero-shot", ZERO_SHOT, TABLE_3["zero_shot"]),
    ):
        theirs = ("–", "–", "–") if paper is None else (*map(_number, paper), f"{paper[1] - paper[0]:+.2f}")
        rows.append((name, *theirs, _cell(without, tasks), _cell(with_it, tasks), _gain(with_it, without, tasks)))
    header = (
        "average O",
        "paper: without stage 1",
        "paper: with",
        "gain",
        "ours: without stage 1",
        "ours: with",
        "gain",
    )
    note = "The paper's in-domain .79 fits its average without style transfer, so both averages are given."
    return Table("Retrieval-augmented training (stage 1)", header, tuple(rows), note)


def _gain(more: Results | None, less: Results | None, tasks: Sequence[str]) -> str:
    if more is None or less is None or not (more.has(tasks) and less.has(tasks)):
        return "–"
    low, high = average_difference_interval([(more.o[task], less.o[task]) for task in tasks])
    return f"{more.average(tasks) - less.average(tasks):+.2f} ({low:+.2f} to {high:+.2f})"


def _beyond(results: Mapping[str, Results]) -> tuple[Table, ...]:
    """Averages of all methods over all groups, and the cost of new wordings."""
    groups = {**_GROUPS, "held_out_wording": REWORDED}
    rows = []
    for result in results.values():
        cells = [_cell(result, tasks) for tasks in groups.values()]
        if any(cell != "–" for cell in cells):
            rows.append((result.title, *cells, _wording_cost(result)))
    header = ("method", "in-domain", "zero-shot (two conditions)", "three conditions", "held-out wording", "its cost")
    note = "The cost of held-out wording is its O less that of the same scenes in trained wording."
    return (Table("Average O of all methods", header, tuple(rows), note),) if rows else ()


def _wording_cost(result: Results) -> str:
    if not result.has(IN_DOMAIN) or not result.has(REWORDED):
        return "–"
    low, high = average_difference_interval([(result.o[f"reworded_{task}"], result.o[task]) for task in IN_DOMAIN])
    return f"{result.average(REWORDED) - result.average(IN_DOMAIN):+.2f} ({low:+.2f} to {high:+.2f})"


def _lines(results: Mapping[str, Results]) -> tuple[Figure, ...]:
    figures = []
    templates = {1: "templates_1", 10: "templates_10", 100: "instruct"}
    points: dict[str, dict[float, tuple[float, float, float]]] = {}
    for label, tasks in (("trained wordings", IN_DOMAIN), ("held-out wordings", REWORDED)):
        for count, name in templates.items():
            if name in results and results[name].has(tasks):
                values = (results[name].average(tasks), *results[name].average_interval(tasks))
                points.setdefault(label, {})[count] = values
    if any(len(values) > 1 for values in points.values()):
        png = line(points, "templates a task", "Number of templates")
        figures.append(Figure("templates", "Average in-domain O by the number of instruction templates.", png))
    conditions: dict[str, dict[float, tuple[float, float, float]]] = {}
    for result in results.values():
        for count, tasks in enumerate(_GROUPS.values(), start=1):
            if result.has(tasks):
                values = (result.average(tasks), *result.average_interval(tasks))
                conditions.setdefault(result.title, {})[count] = values
    if any(len(values) > 1 for values in conditions.values()):
        png = line(conditions, "conditions beside the text", "In-domain, two and three conditions")
        figures.append(Figure("conditions", "Average O by the number of conditions in an instruction.", png))
    return tuple(figures)


def _all_figures(result: Results) -> Table:
    header = (
        "task",
        "O",
        "O continuous",
        "SC",
        "PQ",
        "floor",
        "ceiling",
        "at size",
        "copies",
        "copied",
        "KID",
        "KID of truth",
        "count",
    )
    rows = []
    for tasks in result.scores.values():
        for name, s in tasks.items():
            if "o" not in s:
                continue
            copies = s["copies"]
            rows.append(
                (
                    name.replace("_", " "),
                    _number(s["o"], s["interval"]),
                    _number(s["continuous"]["o"]),
                    _number(s["sc"]),
                    _number(s["pq"]),
                    _number(s["floor"]),
                    _number(s["ceiling"]),
                    _number(s["ceiling_at_size"]),
                    _number(copies["o"] if copies else None),
                    _number(s["copied"]),
                    f"{s['kid']:.3f}",
                    f"{s['kid_of_truth']:.3f}",
                    str(s["count"]),
                )
            )
    return Table(result.title, header, tuple(rows))


def _bar_figures(results: Mapping[str, Results]) -> list[Figure]:
    figures = []
    for group, tasks in _GROUPS.items():
        if any(task in result.o for result in results.values() for task in tasks):
            name = group.replace("_", " ")
            png = bars([*results.values()], tasks, f"O, {name}")
            caption = f"O of each method on the {name} suites, with 95 % intervals; dotted: floor and ceiling."
            figures.append(Figure(f"o_{group}", caption, png))
    return figures


def _conditions(results: Mapping[str, Results]) -> tuple[Table, ...]:
    """For each group of suites, the level of every condition in every method."""
    tables = []
    for group in (*_GROUPS, "editing"):
        shown = [result for result in results.values() if group in result.scores]
        rows = []
        for task in SUITES[group].tasks:
            for condition in task.conditions:
                cells = [_condition_cell(result, task.name, condition.name) for result in shown]
                if any(cell != "–" for cell in cells):
                    rows.append((f"{task.name.replace('_', ' ')}: {condition.name}", *cells))
        if rows:
            header = ("condition", *(result.title for result in shown))
            tables.append(Table(group.replace("_", " "), header, tuple(rows)))
    return tuple(tables)


def _condition_cell(result: Results, task: str, condition: str) -> str:
    score = result.task(task)
    found = score["conditions"].get(condition) if score is not None and "conditions" in score else None
    if found is None:
        return "–"
    return f"{found['level']:.2f} [{found.get('floor', 0):.2f}–{found.get('ceiling_at_size', 0):.2f}]"


def _grids(results: Mapping[str, Results], pack: GlyphPack) -> tuple[Figure, ...]:
    figures = []
    for suite in get_suites("all"):
        for task in suite.tasks:
            shown = [r for r in results.values() if (score := r.task(task.name)) is not None and "o" in score]
            if not shown:
                continue
            least = min(r.scores[suite.name][task.name]["count"] for r in shown)
            few = replace(suite, num_per_task=min(ROWS_PER_GRID, least))
            png = picture_grid(suite_cases(task, few, pack), shown, task.name)
            caption = f"{task.name.replace('_', ' ')}: instruction, references, what each method drew, true picture."
            figures.append(Figure(f"grid_{task.name}", caption, png))
    return tuple(figures)


def read_manifest(folder: Path) -> Mapping[str, Any] | None:
    """What `ablations` wrote in a folder, or None."""
    try:
        content = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "preset" in content else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m instruct_imagen.evaluation.report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="of a comparison, or any folder with METHOD/scores.json")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (the folder itself)")
    parser.add_argument("--pack", default="auto", help="glyph pack of the suites (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        scores = options.folder / SCORES_FOLDER
        results = read_results(scores if scores.is_dir() else options.folder)
        manifest = read_manifest(options.folder)
        pack = load_pack(options.pack).prepare()
        page, text = write_report(TITLE, build(results, pack, manifest), options.out or options.folder)
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(page)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
