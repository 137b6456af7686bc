"""Who rates what, and in which order.

A rater is given whole instructions: all methods of it, one picture after the other. Instructions come in an order of
the rater's own, and so do the methods of each, both drawn from the study's seed, so that no place in the order says
anything of a method. An instruction that enough people rate already is passed over. One that its rater left for longer
than the study's lease, or whose rater was revoked or expired, goes to somebody else.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from . import schema


@dataclass(frozen=True)
class OpenInput:
    """An instruction that a rater could still be given.

    Attributes:
        id: row of the instruction.
        num_outputs: methods that answered it.
    """

    id: int
    num_outputs: int


def in_order(seed: int, rater_id: int, kind: str, ids: Iterable[int]) -> list[int]:
    """`ids` in the order that belongs to this rater; the same whenever it is asked for.

    Each id has a place of its own, so one that is added later does not change the order of the others.

    Args:
        seed: the study's.
        rater_id: the rater's row.
        kind: what is ordered, so that the orders of different things have nothing to do with each other.
        ids: rows.
    """

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{seed}/{rater_id}/{kind}/{number}".encode()).digest()

    return sorted(ids, key=place)


def open_inputs(connection: sa.Connection, rater_id: int) -> list[OpenInput]:
    """Instructions that this rater could still be given, in the rater's order, as many as the rater takes."""
    study = connection.execute(sa.select(schema.study)).one()
    assignments, outputs = schema.assignments, schema.outputs
    own = sa.select(assignments.c.input_id).where(assignments.c.rater_id == rater_id)
    covered = _covered(study.lease_s).subquery()
    query = (
        sa.select(outputs.c.input_id, sa.func.count().label("num_outputs"))
        .outerjoin(covered, covered.c.input_id == outputs.c.input_id)
        .where(sa.func.coalesce(covered.c.num_raters, 0) < study.raters_per_image, outputs.c.input_id.not_in(own))
        .group_by(outputs.c.input_id)
    )
    found = {row.input_id: OpenInput(row.input_id, row.num_outputs) for row in connection.execute(query)}
    ordered = [found[number] for number in in_order(study.seed, rater_id, "input", found)]
    most = connection.scalar(sa.select(schema.raters.c.max_instructions).where(schema.raters.c.id == rater_id))
    if most is None:
        return ordered
    num_own = connection.scalar(sa.select(sa.func.count()).select_from(own.subquery())) or 0
    return ordered[: max(0, most - num_own)]


def current_input(connection: sa.Connection, rater_id: int) -> int | None:
    """The instruction that this rater is at; if there is none, the next one is assigned; None at the end."""
    assignments = schema.assignments
    begun = connection.scalars(
        sa.select(assignments.c.input_id)
        .where(assignments.c.rater_id == rater_id, assignments.c.completed_at.is_(None))
        .order_by(assignments.c.id)
    ).all()
    for input_id in begun:
        if unrated_outputs(connection, rater_id, input_id):
            return int(input_id)
    following = open_inputs(connection, rater_id)
    if not following:
        return None
    assign(connection, rater_id, following[0].id)
    return following[0].id


def assign(connection: sa.Connection, rater_id: int, input_id: int) -> None:
    """Gives a rater an instruction."""
    row = {"rater_id": rater_id, "input_id": input_id, "touched_at": time.time()}
    connection.execute(sa.insert(schema.assignments), row)


def unrated_outputs(connection: sa.Connection, rater_id: int, input_id: int) -> list[int]:
    """The outputs of an instruction that this rater has not rated, in the rater's order."""
    outputs, ratings = schema.outputs, schema.ratings
    rated = sa.select(ratings.c.output_id).where(ratings.c.rater_id == rater_id)
    query = sa.select(outputs.c.id).where(outputs.c.input_id == input_id, outputs.c.id.not_in(rated))
    seed = connection.scalar(sa.select(schema.study.c.seed)) or 0
    return in_order(seed, rater_id, "output", connection.scalars(query))


def touch(connection: sa.Connection, rater_id: int, input_id: int) -> None:
    """Notes that a rater is at an instruction, and whether it is complete now."""
    complete = not unrated_outputs(connection, rater_id, input_id)
    now = time.time()
    assignments = schema.assignments
    connection.execute(
        sa.update(assignments)
        .where(assignments.c.rater_id == rater_id, assignments.c.input_id == input_id)
        .values(touched_at=now, completed_at=now if complete else None)
    )


def _covered(lease_s: float) -> sa.Select:
    """For each instruction, how many people rated it or are at it."""
    assignments, raters = schema.assignments, schema.raters
    now = time.time()
    active = sa.and_(
        raters.c.revoked_at.is_(None),
        sa.or_(raters.c.expires_at.is_(None), raters.c.expires_at > now),
        assignments.c.touched_at > now - lease_s,
    )
    return (
        sa.select(assignments.c.input_id, sa.func.count().label("num_raters"))
        .join(raters, raters.c.id == assignments.c.rater_id)
        .where(raters.c.discarded_at.is_(None), sa.or_(assignments.c.completed_at.is_not(None), active))
        .group_by(assignments.c.input_id)
    )
