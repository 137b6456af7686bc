"""Who may rate: links with a token, sessions, revoking.

A token is a selector and a secret, both random. The database holds the selector, to find the row by, and the SHA-256
of the secret, which is compared in constant time. A plain hash is enough for 256 random bits: there is no dictionary
of them to try. A session's cookie is made in the same way, so nothing in the database lets anybody in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from . import schema
from .database import Database
from .records import RatingError
from .study import DAY_S

Role = Literal["rater", "uploader"]
SESSION_DAYS = 30.0
MAX_TOKEN_CHARS = 200
_SELECTOR_BYTES, _SECRET_BYTES = 12, 32


@dataclass(frozen=True)
class Invitation:
    """A new token of somebody who rates or sends results; it is shown once and kept nowhere."""

    name: str
    token: str
    role: Role = "rater"

    def link(self, base_url: str) -> str:
        """The link to send: the token stands after "#", which browsers do not send and servers do not log."""
        return f"{base_url.rstrip('/')}/#{self.token}"


@dataclass(frozen=True)
class Visitor:
    """Who signed in.

    Attributes:
        id: row of the rater.
        name: theirs.
        role: whether they rate or send results.
    """

    id: int
    name: str
    role: Role


@dataclass(frozen=True)
class Session:
    """A signed-in browser.

    Attributes:
        visitor: who it is.
        cookie: the secret value of its cookie.
        seconds: how long it lasts.
    """

    visitor: Visitor
    cookie: str
    seconds: int


@dataclass(frozen=True)
class RaterStatus:
    """What the owner sees of a rater.

    Attributes:
        name: theirs.
        role: whether they rate or send results.
        state: "active", "expired", "revoked", "discarded", or "imported".
        num_ratings: pictures rated.
        num_complete: instructions of which all pictures are rated.
        mean_seconds: time a picture, pauses left out; None without any.
        last_at: when the last rating came, in seconds since 1970; None without any.
    """

    name: str
    role: Role
    state: str
    num_ratings: int
    num_complete: int
    mean_seconds: float | None
    last_at: float | None


def add_raters(
    database: Database,
    names: Sequence[str],
    *,
    days: float | None = None,
    max_instructions: int | None = None,
    role: Role = "rater",
) -> list[Invitation]:
    """Adds people and makes a token for each.

    Args:
        database: the study's.
        names: theirs; raters do not see those of others.
        days: after so many the token ends; never if None.
        max_instructions: how many instructions each rates at most.
        role: "uploader" for those who send results instead of rating.

    Raises:
        RatingError: a name is taken, repeated or cannot be used; nobody is added then.
    """
    if len(set(names)) != len(names):
        raise RatingError("A name is given twice; raters need names of their own.")
    invitations = []
    with database.writing() as connection:
        for name in names:
            row, token = _new_token()
            row |= {"expires_at": None if days is None else time.time() + days * DAY_S}
            insert_rater(connection, name, role=role, max_instructions=max_instructions, **row)
            invitations.append(Invitation(name, token, role))
    return invitations


def insert_rater(connection: sa.Connection, name: str, role: Role = "rater", **columns: object) -> int:
    """Adds one row; without a selector nobody can sign in as them.

    Raises:
        RatingError: the name is taken or cannot be used.
    """
    if not 1 <= len(name.strip()) <= 80 or not name.isprintable() or name != name.strip():
        raise RatingError(f"The name {name[:80]!r} cannot be used; write 1 to 80 printable characters.")
    if connection.scalar(sa.select(schema.raters.c.id).where(schema.raters.c.name == name)) is not None:
        raise RatingError(f"There is a rater {name!r} already; choose another name, or renew the link.")
    row = {"name": name, "role": role, "created_at": time.time(), **columns}
    inserted = connection.execute(sa.insert(schema.raters), row).inserted_primary_key
    assert inserted is not None
    return int(inserted[0])


def renew_rater(database: Database, name: str, days: float | None = None) -> Invitation:
    """A new token in place of the old one, which ends at once, as do its sessions; revoking is taken back.

    Raises:
        RatingError: there is no such rater, or the ratings were discarded, which nothing takes back.
    """
    with database.writing() as connection:
        rater_id = _rater_id(connection, name)
        known = connection.execute(sa.select(schema.raters).where(schema.raters.c.id == rater_id)).one()
        if known.discarded_at is not None:
            raise RatingError(f"The ratings of {name!r} were discarded; add a rater of another name.")
        row, token = _new_token()
        row |= {"expires_at": None if days is None else time.time() + days * DAY_S}
        row |= {"revoked_at": None}
        connection.execute(sa.update(schema.raters).where(schema.raters.c.id == rater_id).values(**row))
        _end_sessions(connection, rater_id)
    return Invitation(name, token, known.role)


def revoke_rater(database: Database, name: str, discard: bool = False) -> None:
    """Ends a rater's token and sessions at once.

    Args:
        database: the study's.
        name: the rater's.
        discard: the ratings given so far count no more, and their pictures go to others.

    Raises:
        RatingError: there is no such rater.
    """
    with database.writing() as connection:
        rater_id = _rater_id(connection, name)
        ended = {"revoked_at": time.time()} | ({"discarded_at": time.time()} if discard else {})
        connection.execute(sa.update(schema.raters).where(schema.raters.c.id == rater_id).values(**ended))
        _end_sessions(connection, rater_id)


def list_raters(database: Database) -> list[RaterStatus]:
    """All raters, in the order in which they were added."""
    raters, ratings, assignments = schema.raters, schema.ratings, schema.assignments
    per_rater = (
        sa.select(
            ratings.c.rater_id,
            sa.func.count().label("num_ratings"),
            sa.func.avg(ratings.c.seconds).label("mean_seconds"),
            sa.func.max(ratings.c.created_at).label("last_at"),
        )
        .group_by(ratings.c.rater_id)
        .subquery()
    )
    complete = (
        sa.select(assignments.c.rater_id, sa.func.count(assignments.c.completed_at).label("num_complete"))
        .group_by(assignments.c.rater_id)
        .subquery()
    )
    query = (
        sa.select(raters, per_rater.c.num_ratings, per_rater.c.mean_seconds, per_rater.c.last_at)
        .add_columns(complete.c.num_complete)
        .outerjoin(per_rater, per_rater.c.rater_id == raters.c.id)
        .outerjoin(complete, complete.c.rater_id == raters.c.id)
        .order_by(raters.c.id)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        RaterStatus(
            row.name,
            row.role,
            _state(row),
            row.num_ratings or 0,
            row.num_complete or 0,
            row.mean_seconds,
            row.last_at,
        )
        for row in rows
    ]


def sign_in(database: Database, token: str, role: Role = "rater") -> Session | None:
    """Exchanges a token for a session; None if the token is not, or no longer, good."""
    visitor = check_token(database, token, role)
    if visitor is None:
        return None
    now = time.time()
    with database.writing() as connection:
        connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.expires_at <= now))
        selector, secret = secrets.token_urlsafe(_SELECTOR_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        seconds = int(SESSION_DAYS * DAY_S)
        connection.execute(
            sa.insert(schema.sessions),
            {
                "selector": selector,
                "secret_hash": _hashed(secret),
                "rater_id": visitor.id,
                "expires_at": now + seconds,
            },
        )
    return Session(visitor, f"{selector}.{secret}", seconds)


def check_token(database: Database, token: str, role: Role) -> Visitor | None:
    """Who a token belongs to, without a session; None if it is not good or of another role."""
    with database.reading() as connection:
        visitor = _by_token(connection, token)
    return visitor if visitor is not None and visitor.role == role else None


def check_session(database: Database, cookie: str) -> Visitor | None:
    """Who a session's cookie belongs to; None if it ended, or its rater was revoked."""
    selector, secret = _split(cookie)
    sessions, raters = schema.sessions, schema.raters
    query = (
        sa.select(raters, sessions.c.secret_hash.label("session_hash"), sessions.c.expires_at.label("session_end"))
        .join(sessions, sessions.c.rater_id == raters.c.id)
        .where(sessions.c.selector == selector)
    )
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    if not _matches(secret, None if row is None else row.session_hash) or row is None:
        return None
    if row.session_end <= time.time() or _state(row) != "active":
        return None
    return Visitor(row.id, row.name, row.role)


def sign_out(database: Database, cookie: str) -> None:
    """Ends one session."""
    selector, _ = _split(cookie)
    if check_session(database, cookie) is not None:
        with database.writing() as connection:
            connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.selector == selector))


def _by_token(connection: sa.Connection, token: str) -> Visitor | None:
    selector, secret = _split(token)
    row = connection.execute(sa.select(schema.raters).where(schema.raters.c.selector == selector)).one_or_none()
    if not _matches(secret, None if row is None else row.secret_hash) or row is None:
        return None
    return Visitor(row.id, row.name, row.role) if _state(row) == "active" else None


def _matches(secret: str, secret_hash: str | None) -> bool:
    """Compares in constant time, and as long for a selector that does not exist."""
    return hmac.compare_digest(_hashed(secret), secret_hash or _hashed("")) and secret_hash is not None


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _split(token: str) -> tuple[str, str]:
    if len(token) > MAX_TOKEN_CHARS or not token.isascii() or "\0" in token:
        return "", ""
    selector, _, secret = token.strip().partition(".")
    return selector, secret


def _new_token() -> tuple[dict[str, object], str]:
    """Columns of a rater, and the token that they belong to."""
    selector, secret = secrets.token_urlsafe(_SELECTOR_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    return {"selector": selector, "secret_hash": _hashed(secret)}, f"{selector}.{secret}"


def _state(row: sa.Row) -> str:
    if row.discarded_at is not None:
        return "discarded"
    if row.revoked_at is not None:
        return "revoked"
    if row.selector is None:
        return "imported"
    return "expired" if row.expires_at is not None and row.expires_at <= time.time() else "active"


def _rater_id(connection: sa.Connection, name: str) -> int:
    found = connection.scalar(sa.select(schema.raters.c.id).where(schema.raters.c.name == name))
    if found is None:
        raise RatingError(f"There is no rater {name!r}; `instruct-imagen rate raters list` names them.")
    return int(found)


def _end_sessions(connection: sa.Connection, rater_id: int) -> None:
    connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.rater_id == rater_id))
