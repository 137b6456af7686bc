"""What a rater does: sees the next picture, rates it, takes the last rating back.

Every answer is committed before it is confirmed, and where somebody stands follows from what is committed. So a server
that is killed loses nothing that a rater was told is saved, and a rater may close the page at any time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from ..instruction import marker_token, markers_in
from . import schema
from .assignment import current_input, open_inputs, touch, unrated_outputs
from .database import Database
from .records import LEVELS, RatingError

MAX_SECONDS = 86_400.0


class NotAssignedError(RatingError):
    """A picture that this rater is not to rate, or not any more."""


@dataclass(frozen=True)
class TextPart:
    """A piece of an instruction's text: words, or a marker (then `text` is "")."""

    text: str
    marker: int | None = None


@dataclass(frozen=True)
class ShownReference:
    """A reference as the page shows it.

    Attributes:
        marker: number of the `[ref#N]` that names it.
        text: what the instruction calls it; may be empty.
        pictures: ids of its pictures.
    """

    marker: int
    text: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """SC and PQ, each one of LEVELS."""

    sc: float
    pq: float


@dataclass(frozen=True)
class RatingItem:
    """One picture to rate, with all that the rater sees of it.

    Attributes:
        picture: its id, by which it is shown and rated.
        text: the instruction, cut at its markers.
        references: by marker.
        place: which of the instruction's pictures this is for the rater, from 1.
        num_places: how many pictures the instruction has.
        previous: the rating that was just taken back.
        following: id of the next picture of the same instruction, to be loaded ahead.
    """

    picture: str
    text: tuple[TextPart, ...]
    references: tuple[ShownReference, ...]
    place: int
    num_places: int
    previous: Answer | None = None
    following: str | None = None


@dataclass(frozen=True)
class DeskState:
    """Where a rater stands.

    Attributes:
        title: of the study.
        guidelines: the owner's.
        rater: the rater's own name.
        num_rated: pictures rated.
        num_total: pictures rated and to be rated, as far as can be said: others may rate some of them first.
        item: the picture to rate; None at the end.
        latest: id of the picture that was rated last, which may be taken back; None if there is none.
    """

    title: str
    guidelines: str
    rater: str
    num_rated: int
    num_total: int
    item: RatingItem | None
    latest: str | None


class RatingDesk:
    """The raters' side of a study; threads may share it.

    Args:
        database: the study's.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def state(self, rater_id: int) -> DeskState:
        """Where a rater stands; assigns the next instruction if one is due."""
        with self.database.writing() as connection:
            return _state(connection, rater_id)

    def submit(self, rater_id: int, picture: str, answer: Answer, seconds: float | None = None) -> DeskState:
        """Saves a rating; a second one of the same picture takes the place of the first.

        Args:
            rater_id: row of the rater.
            picture: id of the picture.
            answer: the rating.
            seconds: how long it was looked at, pauses left out.

        Returns:
            Where the rater stands then.

        Raises:
            NotAssignedError: this rater was not given that picture.
            RatingError: the rating is none of the levels.
        """
        if answer.sc not in LEVELS or answer.pq not in LEVELS:
            raise RatingError("SC and PQ must each be 0, 0.5 or 1.")
        ratings = schema.ratings
        with self.database.writing() as connection:
            output = _assigned_output(connection, rater_id, picture)
            mine = sa.and_(ratings.c.rater_id == rater_id, ratings.c.output_id == output.id)
            connection.execute(sa.delete(ratings).where(mine))  # a new row, so that undo finds it as the latest
            connection.execute(
                sa.insert(ratings),
                {
                    "rater_id": rater_id,
                    "output_id": output.id,
                    "sc_halves": round(answer.sc * 2),
                    "pq_halves": round(answer.pq * 2),
                    "seconds": None if seconds is None else min(max(seconds, 0.0), MAX_SECONDS),
                    "created_at": time.time(),
                },
            )
            touch(connection, rater_id, output.input_id)
            return _state(connection, rater_id)

    def undo(self, rater_id: int, picture: str) -> DeskState:
        """Takes the latest rating back and shows its picture again, with what was said of it.

        Args:
            rater_id: row of the rater.
            picture: id of the picture that was rated last, so that a request that is sent twice takes back one.

        Raises:
            NotAssignedError: another picture, or none, was rated last.
        """
        ratings = schema.ratings
        with self.database.writing() as connection:
            latest = _latest(connection, rater_id)
            if latest is None or latest.picture_id != picture:
                raise NotAssignedError("This rating is not your latest; load the page again.")
            connection.execute(sa.delete(ratings).where(ratings.c.id == latest.id))
            touch(connection, rater_id, latest.input_id)
            previous = Answer(latest.sc_halves / 2, latest.pq_halves / 2)
            return _state(connection, rater_id, latest.output_id, previous)

    def picture(self, rater_id: int, picture: str) -> bytes | None:
        """The PNG of a picture that belongs to an instruction of this rater; None for any other."""
        pictures, outputs, references = schema.pictures, schema.outputs, schema.references
        mine = sa.select(schema.assignments.c.input_id).where(schema.assignments.c.rater_id == rater_id)
        shown = sa.union_all(
            sa.select(outputs.c.picture_id).where(outputs.c.picture_id == picture, outputs.c.input_id.in_(mine)),
            sa.select(references.c.picture_id).where(
                references.c.picture_id == picture, references.c.input_id.in_(mine)
            ),
        ).subquery()
        query = sa.select(pictures.c.png).where(pictures.c.id.in_(sa.select(shown.c.picture_id)))
        with self.database.reading() as connection:
            found = connection.scalar(query)
        return None if found is None else bytes(found)


def _state(
    connection: sa.Connection, rater_id: int, output_id: int | None = None, previous: Answer | None = None
) -> DeskState:
    """The state; with `output_id` that output is shown, and otherwise the one whose turn it is."""
    study = connection.execute(sa.select(schema.study)).one()
    name = connection.scalar(sa.select(schema.raters.c.name).where(schema.raters.c.id == rater_id)) or ""
    if output_id is None:
        input_id = current_input(connection, rater_id)
    else:
        input_id = connection.scalar(sa.select(schema.outputs.c.input_id).where(schema.outputs.c.id == output_id))
    item = None if input_id is None else _item(connection, rater_id, input_id, output_id, previous)
    num_rated, num_left = _progress(connection, rater_id)
    latest = _latest(connection, rater_id)
    picture = None if latest is None else latest.picture_id
    return DeskState(study.title, study.guidelines, name, num_rated, num_rated + num_left, item, picture)


def _latest(connection: sa.Connection, rater_id: int) -> sa.Row | None:
    """A rater's latest rating, with its picture and instruction."""
    ratings, outputs = schema.ratings, schema.outputs
    return connection.execute(
        sa.select(ratings, outputs.c.input_id, outputs.c.picture_id)
        .join(outputs, outputs.c.id == ratings.c.output_id)
        .where(ratings.c.rater_id == rater_id)
        .order_by(ratings.c.id.desc())
        .limit(1)
    ).one_or_none()


def _item(
    connection: sa.Connection, rater_id: int, input_id: int, output_id: int | None, previous: Answer | None
) -> RatingItem:
    outputs = schema.outputs
    unrated = unrated_outputs(connection, rater_id, input_id)
    if output_id is not None:
        unrated = [output_id, *(number for number in unrated if number != output_id)]
    rows = connection.execute(sa.select(outputs.c.id, outputs.c.picture_id).where(outputs.c.input_id == input_id))
    picture_of = {row.id: row.picture_id for row in rows}
    text = connection.scalar(sa.select(schema.inputs.c.text).where(schema.inputs.c.id == input_id)) or ""
    return RatingItem(
        picture=picture_of[unrated[0]],
        text=_text_parts(text),
        references=_references(connection, input_id),
        place=len(picture_of) - len(unrated) + 1,
        num_places=len(picture_of),
        previous=previous,
        following=picture_of[unrated[1]] if len(unrated) > 1 else None,
    )


def _text_parts(text: str) -> tuple[TextPart, ...]:
    """An instruction's text, cut at its markers."""
    parts, rest = [], text
    for marker in markers_in(text):
        words, _, rest = rest.partition(marker_token(marker))
        parts += [TextPart(words), TextPart("", marker)]
    return tuple(part for part in (*parts, TextPart(rest)) if part.text or part.marker)


def _references(connection: sa.Connection, input_id: int) -> tuple[ShownReference, ...]:
    references = schema.references
    query = sa.select(references).where(references.c.input_id == input_id)
    shown: dict[int, ShownReference] = {}
    for row in connection.execute(query.order_by(references.c.marker, references.c.id)):
        known = shown.get(row.marker, ShownReference(row.marker, "", ()))
        shown[row.marker] = ShownReference(row.marker, known.text or row.text, (*known.pictures, row.picture_id))
    return tuple(shown.values())


def _progress(connection: sa.Connection, rater_id: int) -> tuple[int, int]:
    """How many pictures a rater has rated, and how many are left as things stand."""
    ratings, outputs, assignments = schema.ratings, schema.outputs, schema.assignments
    mine = sa.select(assignments.c.input_id).where(assignments.c.rater_id == rater_id)
    rated = sa.select(sa.func.count()).select_from(ratings).where(ratings.c.rater_id == rater_id)
    given = sa.select(sa.func.count()).select_from(outputs).where(outputs.c.input_id.in_(mine))
    num_rated = connection.scalar(rated) or 0
    num_open = sum(item.num_outputs for item in open_inputs(connection, rater_id))
    return num_rated, (connection.scalar(given) or 0) - num_rated + num_open


def _assigned_output(connection: sa.Connection, rater_id: int, picture: str) -> sa.Row:
    outputs, assignments = schema.outputs, schema.assignments
    row = connection.execute(
        sa.select(outputs.c.id, outputs.c.input_id)
        .join(assignments, assignments.c.input_id == outputs.c.input_id)
        .where(outputs.c.picture_id == picture, assignments.c.rater_id == rater_id)
    ).one_or_none()
    if row is None:
        raise NotAssignedError("This picture is not yours to rate; load the page again.")
    return row
