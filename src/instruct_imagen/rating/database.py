"""Opens the database of a study: a file is SQLite, a URL may be PostgreSQL.

Writers go one after the other: SQLite's `BEGIN IMMEDIATE`, and a lock on the study's row in PostgreSQL. People rate
slowly, so nobody waits, and no rule about who rates what can be broken by two at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from ..files import check_writable
from . import schema
from .records import RatingError

BUSY_TIMEOUT_MS = 30_000
_WRITES = "rating_writes"  # execution option of a connection


def study_url(name: str) -> sa.URL:
    """The database that `name` means: a path, `sqlite:///PATH`, or `postgresql://USER@HOST/DATABASE`.

    Raises:
        RatingError: it is some other kind of URL.
    """
    if "://" not in name:
        return sa.URL.create("sqlite", database=os.fspath(Path(name)))
    try:
        url = sa.make_url(name)
        backend = url.get_backend_name()
    except sa.exc.ArgumentError as error:
        raise RatingError(f"{name!r} is not a database URL; write postgresql://USER@HOST/DATABASE.") from error
    if backend in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database:
        return url
    raise RatingError(f"Studies are kept in a file (SQLite) or at postgresql://..., not in {backend!r}.")


class Database:
    """A study's database; threads may share it.

    Args:
        name: as `study_url` reads it.
    """

    def __init__(self, name: str) -> None:
        self.url = study_url(name)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": 10, "max_overflow": 40, "pool_pre_ping": not self.is_sqlite}
        self.engine = sa.create_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def path(self) -> Path | None:
        """The file of SQLite."""
        return Path(str(self.url.database)) if self.is_sqlite else None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes, with no other writer beside it; committed at the end, undone on an error."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                if not self.is_sqlite:
                    connection.execute(sa.select(schema.study.c.id).with_for_update())
                yield connection

    def check_new(self) -> None:
        """Raises UserError unless a study can be made here; called before work that takes time."""
        if self.path is not None:
            check_writable(self.path)
            if not self.path.exists():
                return
        with said_plainly(self.shown), self.reading() as connection:
            self._check_empty(connection)

    @contextmanager
    def creating(self) -> Iterator[sa.Connection]:
        """A transaction in which the tables are made.

        Raises:
            RatingError: there is a study already, or the database cannot be reached.
        """
        with said_plainly(self.shown), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                self._check_empty(connection)
                schema.metadata.create_all(connection)
                yield connection

    def _check_empty(self, connection: sa.Connection) -> None:
        if sa.inspect(connection).has_table(schema.study.name):
            raise RatingError(f"{self.shown} holds a study already; name another database.")

    @property
    def shown(self) -> str:
        """The database as messages name it: without the password."""
        return shown(self.url)

    def close(self) -> None:
        """Gives the connections back."""
        self.engine.dispose()


def open_database(name: str) -> Database:
    """An existing study's database.

    Raises:
        RatingError: it cannot be reached, holds no study, or one of another version.
    """
    database = Database(name)
    if database.path is not None and not database.path.is_file():
        raise RatingError(f"There is no study {database.shown}; `instruct-imagen rate create` makes one.")
    with said_plainly(database.shown), database.reading() as connection:
        if not sa.inspect(connection).has_table(schema.study.name):
            raise RatingError(f"{database.shown} holds no study; `instruct-imagen rate create` makes one.")
        version = connection.scalar(sa.select(schema.study.c.version))
    if version != schema.SCHEMA_VERSION:
        raise RatingError(
            f"{database.shown} is a study of version {version}, and this program reads version "
            f"{schema.SCHEMA_VERSION}; use the program that made it."
        )
    return database


def shown(url: sa.URL) -> str:
    """A database as messages name it: without the password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


@contextmanager
def said_plainly(name: str) -> Iterator[None]:
    """Turns a driver's error about a database, reached, opened or written to, into a sentence that names it so."""
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig and str(error.orig).strip() else str(error)
        raise RatingError(f"The database {name} cannot be used: {reason}") from error


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, DDL included
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
    cursor.execute("PRAGMA synchronous = FULL")  # what is committed survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
