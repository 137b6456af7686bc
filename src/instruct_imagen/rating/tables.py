"""ImagenHub's tables of ratings: one file a rater and task, a row for each picture, a column for each method.

    uid             ModelA      ModelB
    sample_0.jpg    [0.5, 1]    [1, 0.5]

Columns are parted by tabs (or commas, as in its `dataset_lookup.csv`); a cell is `[SC, PQ]`, each 0, 0.5 or 1. An
empty cell was not rated.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .records import LEVELS, Rating, RatingError, check_name

_NUMBER = r"\s*([0-9]*\.?[0-9]+|[0-9]+\.)\s*"
_CELL = re.compile(rf"[\[(]{_NUMBER},{_NUMBER}[\])]")
_EMPTY = ("", "nan", "none", "[]")


def read_table(path: Path, task: str | None = None, rater: str | None = None) -> list[Rating]:
    """One rater's ratings of one task.

    Args:
        path: `TASK_RATER.tsv`, or any name if task and rater are given.
        task: the task; by default the name of the file's folder.
        rater: who rated; by default what follows `TASK_` in the file's name, or all of it.

    Raises:
        RatingError: it cannot be read, or a cell is no rating; the line and column are named.
    """
    task = check_name(task or path.resolve().parent.name, "The task")
    rater = rater or path.stem.removeprefix(f"{task}_") or path.stem
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RatingError(f"{path} cannot be read ({error}).") from error
    header, _, _ = text.partition("\n")
    rows = list(csv.reader(io.StringIO(text), delimiter="\t" if "\t" in header else ","))
    if not rows or len(rows[0]) < 2 or rows[0][0].strip().lower() != "uid":
        raise RatingError(f"{path} is no table of ratings: its first line must be uid and then the methods.")
    methods = [check_name(name.strip(), f"{path}: the method") for name in rows[0][1:]]
    if len(set(methods)) != len(methods):
        raise RatingError(f"{path} has two columns of the same name; rename one.")
    ratings: list[Rating] = []
    seen: set[str] = set()
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        uid = row[0].strip()
        if len(row) > len(methods) + 1 or not uid or uid in seen:
            raise RatingError(f"{path}, line {number}: {uid!r} must be a new name with at most {len(methods)} cells.")
        seen.add(uid)
        for method, cell in zip(methods, row[1:], strict=False):
            if cell.strip().lower() not in _EMPTY:
                ratings.append(Rating(task, uid, method, rater, *_levels(cell, f"{path}, line {number}, {method}")))
    return ratings


def read_tables(root: Path) -> list[Rating]:
    """All tables in a folder: `ROOT/TASK/TASK_rater1.tsv`, ..., as ImagenHub keeps them.

    Raises:
        RatingError: there is none, or one is damaged.
    """
    paths = sorted(root.glob("*/*.tsv"))
    if not paths:
        raise RatingError(f"{root} holds no tables of ratings (TASK/TASK_rater1.tsv).")
    return [rating for path in paths for rating in read_table(path)]


def table_text(ratings: Iterable[Rating], methods: Sequence[str], uids: Sequence[str]) -> str:
    """One rater's table of one task.

    Args:
        ratings: of one rater and task.
        methods: the columns.
        uids: the rows; those that hold no rating are left out.
    """
    cells = {(rating.uid, rating.method): f"[{rating.sc:g}, {rating.pq:g}]" for rating in ratings}
    lines = [["uid", *methods]]
    for uid in uids:
        row = [cells.get((uid, method), "") for method in methods]
        if any(row):
            lines.append([uid, *row])
    return "".join("\t".join(line) + "\n" for line in lines)


def by_rater(ratings: Iterable[Rating]) -> Mapping[tuple[str, str], list[Rating]]:
    """Ratings by (task, rater), in order of appearance."""
    found: dict[tuple[str, str], list[Rating]] = {}
    for rating in ratings:
        found.setdefault((rating.task, rating.rater), []).append(rating)
    return found


def _levels(cell: str, where: str) -> tuple[float, float]:
    match = _CELL.fullmatch(cell.strip())
    values = tuple(float(number) for number in match.groups()) if match else ()
    if len(values) != 2 or any(value not in LEVELS for value in values):
        raise RatingError(f"{where}: {cell.strip()[:40]!r} is no rating; write [SC, PQ], each 0, 0.5 or 1.")
    return values[0], values[1]
