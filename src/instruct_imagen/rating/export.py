"""Ratings out of a study and into it, and a whole study as ImagenHub's folders.

    OUT/ratings.jsonl                          every rating, a line each
    OUT/ratings/TASK/TASK_rater1.tsv           ImagenHub's tables, one a rater
    OUT/results/TASK/METHOD/UID.jpg            with pictures: ImagenHub's folder of results
    OUT/results/TASK/dataset_lookup.json, .csv

Raters are called rater1, rater2, ... in the order in which they were added, unless their names are asked for.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from PIL import Image

from ..files import OutputError, make_folder
from . import schema
from .assignment import assign, touch
from .database import Database
from .imagenhub import reference_folder, write_lookup
from .raters import insert_rater
from .records import Rating, RatingError, bare, uid_of
from .tables import by_rater, table_text


@dataclass(frozen=True)
class StoredRating:
    """A rating with what is known of its making.

    Attributes:
        rating: what was said.
        seconds: how long the picture was looked at; None if it is not known.
        created_at: when, in seconds since 1970.
    """

    rating: Rating
    seconds: float | None
    created_at: float


def stored_ratings(database: Database, names: bool = True) -> list[StoredRating]:
    """All ratings that count, in the order in which they were given.

    Args:
        database: the study's.
        names: whether raters go by their names, or as rater1, rater2, ...
    """
    ratings, raters, outputs = schema.ratings, schema.raters, schema.outputs
    inputs, methods = schema.inputs, schema.methods
    query = (
        sa.select(ratings, raters.c.name.label("rater"), inputs.c.task, inputs.c.uid, methods.c.name.label("method"))
        .join(raters, raters.c.id == ratings.c.rater_id)
        .join(outputs, outputs.c.id == ratings.c.output_id)
        .join(inputs, inputs.c.id == outputs.c.input_id)
        .join(methods, methods.c.id == outputs.c.method_id)
        .where(raters.c.discarded_at.is_(None))
        .order_by(ratings.c.id)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    numbers = {rater_id: place for place, rater_id in enumerate(sorted({row.rater_id for row in rows}), start=1)}
    return [
        StoredRating(
            Rating(
                row.task,
                row.uid,
                row.method,
                row.rater if names else f"rater{numbers[row.rater_id]}",
                row.sc_halves / 2,
                row.pq_halves / 2,
            ),
            row.seconds,
            row.created_at,
        )
        for row in rows
    ]


def import_ratings(database: Database, ratings: Sequence[Rating]) -> int:
    """Adds ratings that were made elsewhere, all or none; raters that are not known are added, and cannot sign in.

    Args:
        database: the study's.
        ratings: of pictures that the study holds; names of pictures may differ in their suffix.

    Returns:
        How many were new; those that the study holds already, with the same values, are passed over.

    Raises:
        RatingError: a picture is not in the study, or the study holds another rating of it by the same rater.
    """
    num_new = 0
    with database.writing() as connection:
        places = _outputs(connection)
        known = {row.name: row.id for row in connection.execute(sa.select(schema.raters.c.name, schema.raters.c.id))}
        touched: set[tuple[int, int]] = set()
        for rating in ratings:
            place = places.get((rating.task, bare(uid_of(rating.task, rating.uid)), rating.method))
            if place is None:
                raise RatingError(
                    f"The study has no picture {rating.uid!r} of {rating.method!r} in task {rating.task!r}; "
                    "name tasks and methods as the study does, or leave that row out."
                )
            if rating.rater not in known:
                known[rating.rater] = insert_rater(connection, rating.rater)
            output_id, input_id = place
            num_new += _import(connection, known[rating.rater], output_id, rating)
            touched.add((known[rating.rater], input_id))
        for rater_id, input_id in sorted(touched):
            if not _is_assigned(connection, rater_id, input_id):
                assign(connection, rater_id, input_id)
            touch(connection, rater_id, input_id)
    return num_new


def export_study(
    database: Database, out: Path, *, names: bool = False, slots: bool = False, pictures: bool = False
) -> int:
    """Writes a study's ratings, and on request its pictures, into a new folder; whole or not at all.

    Args:
        database: the study's.
        out: a folder that does not exist, or is empty.
        names: whether raters go by their names.
        slots: table k holds the k-th rating of each picture, whoever gave it, instead of one rater's. ImagenHub's
            own analysis needs tables without gaps, and with more raters than ratings a picture only these have none.
        pictures: whether the pictures are written too.

    Returns:
        How many ratings were written.

    Raises:
        RatingError: the folder is in use.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RatingError(f"{out} holds something already; name a new folder.")
    stored = stored_ratings(database, names)
    make_folder(out.absolute().parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as beside:
            partial = Path(beside) / out.name
            partial.mkdir()
            _write_ratings(partial, database, stored, slots)
            if pictures:
                _write_pictures(partial / "results", database)
            if out.exists():
                out.rmdir()
            shutil.move(partial, out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}).") from error
    return len(stored)


def _outputs(connection: sa.Connection) -> dict[tuple[str, str, str], tuple[int, int]]:
    """(output, input) by task, bare uid and method."""
    outputs, inputs, methods = schema.outputs, schema.inputs, schema.methods
    query = (
        sa.select(outputs.c.id, outputs.c.input_id, inputs.c.task, inputs.c.uid, methods.c.name)
        .join(inputs, inputs.c.id == outputs.c.input_id)
        .join(methods, methods.c.id == outputs.c.method_id)
    )
    return {(row.task, bare(row.uid), row.name): (row.id, row.input_id) for row in connection.execute(query)}


def _import(connection: sa.Connection, rater_id: int, output_id: int, rating: Rating) -> bool:
    ratings = schema.ratings
    halves = (round(rating.sc * 2), round(rating.pq * 2))
    found = connection.execute(
        sa.select(ratings.c.sc_halves, ratings.c.pq_halves).where(
            ratings.c.rater_id == rater_id, ratings.c.output_id == output_id
        )
    ).one_or_none()
    if found is not None:
        if tuple(found) != halves:
            raise RatingError(
                f"{rating.rater!r} has rated {rating.task}/{rating.uid} of {rating.method!r} otherwise in the study; "
                "give the imported rater another name with --rater."
            )
        return False
    row = {"rater_id": rater_id, "output_id": output_id, "sc_halves": halves[0], "pq_halves": halves[1]}
    connection.execute(sa.insert(ratings), {**row, "created_at": time.time()})
    return True


def _is_assigned(connection: sa.Connection, rater_id: int, input_id: int) -> bool:
    assignments = schema.assignments
    mine = sa.and_(assignments.c.rater_id == rater_id, assignments.c.input_id == input_id)
    return connection.scalar(sa.select(assignments.c.id).where(mine)) is not None


def _write_ratings(out: Path, database: Database, stored: Sequence[StoredRating], slots: bool) -> None:
    lines = (
        json.dumps({**asdict(item.rating), "seconds": item.seconds, "created_at": item.created_at}, ensure_ascii=False)
        for item in stored
    )
    (out / "ratings.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    with database.reading() as connection:
        rows = connection.execute(sa.select(schema.inputs.c.task, schema.inputs.c.uid).order_by(schema.inputs.c.id))
        uids: dict[str, list[str]] = {}
        for task, uid in rows:
            uids.setdefault(task, []).append(uid)
    ratings = [item.rating for item in stored]
    methods = {task: sorted({r.method for r in ratings if r.task == task}) for task in uids}
    for (task, rater), found in by_rater(_by_slot(ratings) if slots else ratings).items():
        folder = make_folder(out / "ratings" / task)
        text = table_text(found, methods[task], uids[task])
        _new_file(folder, f"{task}_{_file_name(rater)}", ".tsv").write_text(text, encoding="utf-8")


def _by_slot(ratings: Sequence[Rating]) -> list[Rating]:
    """The k-th rating of each picture as if "rater{k}" had given it."""
    counts: dict[tuple[str, str, str], int] = {}
    slotted = []
    for rating in ratings:
        place = (rating.task, rating.uid, rating.method)
        counts[place] = counts.get(place, 0) + 1
        slotted.append(replace(rating, rater=f"rater{counts[place]}"))
    return slotted


def _file_name(rater: str) -> str:
    return "".join(c if c.isalnum() or c in " .+-@_" else "_" for c in rater).strip(". ") or "rater"


def _new_file(folder: Path, stem: str, suffix: str) -> Path:
    """A file that is not there yet: different names may differ in signs alone that files cannot have."""
    numbers = itertools.count(2)
    path = folder / f"{stem}{suffix}"
    while path.exists():
        path = folder / f"{stem} {next(numbers)}{suffix}"
    return path


def _write_pictures(out: Path, database: Database) -> None:
    """ImagenHub's folder of results; the lookup says how the references belong to the text."""
    inputs, outputs, methods, references = schema.inputs, schema.outputs, schema.methods, schema.references
    with database.reading() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(inputs).order_by(inputs.c.id))}
        made = connection.execute(
            sa.select(outputs.c.input_id, outputs.c.picture_id, methods.c.name).join(
                methods, methods.c.id == outputs.c.method_id
            )
        ).all()
        for row in made:
            place = rows[row.input_id]
            _write_picture(connection, row.picture_id, out / place.task / row.name / place.uid)
        given: dict[int, list[dict[str, object]]] = {number: [] for number in rows}
        for row in connection.execute(sa.select(references).order_by(references.c.marker, references.c.id)).all():
            known, place = given[row.input_id], rows[row.input_id]
            index = sum(entry["marker"] == row.marker for entry in known)
            name = f"{reference_folder(row.marker, index)}/{place.uid}"
            known.append({"marker": row.marker, "text": row.text, "image": name})
            _write_picture(connection, row.picture_id, out / place.task / name)
    lookup: dict[str, dict[str, dict[str, object]]] = {}
    for number, row in rows.items():
        lookup.setdefault(row.task, {})[row.uid] = {"prompt": row.text, "references": given[number]}
    for task, entries in lookup.items():
        write_lookup(out / task, entries)


def _write_picture(connection: sa.Connection, picture: str, path: Path) -> None:
    png = connection.scalar(sa.select(schema.pictures.c.png).where(schema.pictures.c.id == picture)) or b""
    make_folder(path.parent)
    if path.suffix.lower() == ".png":
        path.write_bytes(png)
    else:
        Image.open(io.BytesIO(png)).save(path, quality=98, subsampling=0)
