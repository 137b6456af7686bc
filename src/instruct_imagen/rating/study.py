"""Makes a study and adds methods to it: checked pictures in, rows out; all of it or nothing.

Every picture is decoded and written anew as PNG without metadata, under a random name. A file's format, date or text
chunks would tell raters which method drew it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from PIL import Image

from . import schema
from .database import Database
from .imagenhub import TRUTH, holds_references
from .inputs import StudyInput
from .records import RatingError, bare, check_name
from .results import MethodResults, match_results, read_picture

DAY_S = 86_400.0
MAX_GUIDELINES_CHARS = 20_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyConfig:
    """How a study is run.

    Attributes:
        title: what raters see at the top of the page.
        guidelines: paragraphs of the owner, shown with the page's own.
        raters_per_image: so many people rate each picture; the paper has at least three (§4).
        seed: of all orders; drawn at random if None, since whoever knows it knows the orders.
        lease_days: an instruction that its rater began and left is given to somebody else after so many days.
    """

    title: str = "Picture rating"
    guidelines: str = ""
    raters_per_image: int = 3
    seed: int | None = None
    lease_days: float = 3.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.title.strip()) <= 200:
            raise RatingError("The title must have 1 to 200 characters.")
        if len(self.guidelines) > MAX_GUIDELINES_CHARS:
            raise RatingError(f"The guidelines have more than {MAX_GUIDELINES_CHARS:,} characters; shorten them.")
        if self.raters_per_image < 1 or self.lease_days <= 0:
            raise RatingError("raters_per_image and lease_days must be above zero.")


@dataclass(frozen=True)
class StudySize:
    """How much a study holds."""

    num_inputs: int
    num_methods: int
    num_outputs: int


@dataclass(frozen=True)
class Coverage:
    """How far a study is.

    Attributes:
        num_pictures: to be rated.
        num_covered: of them, how many have enough ratings.
        raters_per_image: what is enough.
        short_tasks: tasks with pictures that have fewer.
    """

    num_pictures: int
    num_covered: int
    raters_per_image: int
    short_tasks: tuple[str, ...]


class Spool:
    """Pictures written to a temporary folder until the transaction that stores them, so that it is short.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, image: Image.Image) -> str:
        """Keeps a picture; returns its random id, 128 bits."""
        name = secrets.token_urlsafe(16)
        image.save(self.folder / name, "PNG")
        return name

    def store(self, connection: sa.Connection) -> None:
        """Inserts all pictures."""
        for path in self.folder.iterdir():
            connection.execute(sa.insert(schema.pictures), {"id": path.name, "png": path.read_bytes()})


@contextmanager
def _spool() -> Iterator[Spool]:
    with tempfile.TemporaryDirectory(prefix="rating-") as folder:
        yield Spool(Path(folder))


def create_study(
    name: str,
    config: StudyConfig,
    inputs: Iterable[StudyInput],
    methods: Sequence[MethodResults],
    *,
    truth: bool = False,
    partial: bool = False,
) -> StudySize:
    """Makes the tables and fills them.

    Args:
        name: a new database, as `study_url` reads it.
        config: how the study is run.
        inputs: what raters are shown.
        methods: what they rate; more can be added later.
        truth: whether the inputs' true pictures are rated too, as the method "GroundTruth".
        partial: whether a method may lack pictures.

    Raises:
        RatingError: something about the inputs, the results or the database; nothing is left behind then.
    """
    database = Database(name)
    database.check_new()
    claimed: Path | None = None
    try:
        with _spool() as spool:
            rows, references, truths = _prepared_inputs(inputs, spool)
            numbers = {(row["task"], row["uid"]): row["id"] for row in rows}
            outputs = {method.name: _prepared_outputs(method, list(numbers), spool, partial) for method in methods}
            if len(outputs) != len(methods):
                raise RatingError("Two methods have the same name; rename one.")
            if truth:
                if not truths:
                    raise RatingError("No instruction names its true picture; leave --truth out.")
                outputs = {**outputs, TRUTH: truths}
            claimed = _claim(database)
            with database.creating() as connection:
                connection.execute(sa.insert(schema.study), _study_row(config))
                spool.store(connection)
                connection.execute(sa.insert(schema.inputs), rows)
                if references:
                    connection.execute(sa.insert(schema.references), references)
                _insert_outputs(connection, outputs, numbers)
        return study_size(database)
    except BaseException:
        if claimed is not None:
            database.close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{claimed}{suffix}").unlink(missing_ok=True)
        raise
    finally:
        database.close()


def _claim(database: Database) -> Path | None:
    """Makes the file of a new SQLite database, so that no other process makes it too; returns it if it was made."""
    if database.path is None:
        return None
    try:
        database.path.open("xb").close()
    except FileExistsError:
        return None  # `Database.creating` looks into it
    return database.path


def add_methods(database: Database, methods: Sequence[MethodResults], partial: bool = False) -> StudySize:
    """Adds the pictures of further methods; who rated an instruction already is given the new pictures of it too.

    Raises:
        RatingError: a method is there already, or its pictures are refused; nothing is added then.
    """
    with database.reading() as connection:
        numbers = _input_numbers(connection)
        known = set(connection.scalars(sa.select(schema.methods.c.name)))
    for method in methods:
        if method.name in known:
            raise RatingError(f"The study holds the method {method.name!r} already; name the new one otherwise.")
    with _spool() as spool:
        outputs = {method.name: _prepared_outputs(method, list(numbers), spool, partial) for method in methods}
        with database.writing() as connection:
            spool.store(connection)
            try:
                _insert_outputs(connection, outputs, numbers)
            except sa.exc.IntegrityError as error:  # somebody else added it meanwhile
                raise RatingError("The study holds a method of that name already; choose another.") from error
            answered = {numbers[place] for found in outputs.values() for place in found}
            _reopen(connection, answered)
    return study_size(database)


def study_size(database: Database) -> StudySize:
    """Counts what a study holds."""
    with database.reading() as connection:
        counts = [
            connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (schema.inputs, schema.methods, schema.outputs)
        ]
    return StudySize(*counts)


def coverage(database: Database) -> Coverage:
    """Counts the pictures that enough people rated; discarded raters do not count."""
    ratings, raters, outputs, inputs = schema.ratings, schema.raters, schema.outputs, schema.inputs
    counted = (
        sa.select(ratings.c.output_id)
        .join(raters, raters.c.id == ratings.c.rater_id)
        .where(raters.c.discarded_at.is_(None))
        .group_by(ratings.c.output_id)
    )
    with database.reading() as connection:
        wanted = connection.scalar(sa.select(schema.study.c.raters_per_image)) or 0
        enough = counted.having(sa.func.count() >= wanted).subquery()
        num_covered = connection.scalar(sa.select(sa.func.count()).select_from(enough)) or 0
        num_pictures = connection.scalar(sa.select(sa.func.count()).select_from(outputs)) or 0
        short = (
            sa.select(inputs.c.task)
            .join(outputs, outputs.c.input_id == inputs.c.id)
            .where(outputs.c.id.not_in(sa.select(enough.c.output_id)))
            .distinct()
            .order_by(inputs.c.task)
        )
        short_tasks = tuple(connection.scalars(short))
    return Coverage(num_pictures, num_covered, wanted, short_tasks)


Place = tuple[str, str]  # task and uid of an input
Pictures = dict[Place, str]  # id of the picture that answers it


def _study_row(config: StudyConfig) -> dict[str, Any]:
    return {
        "id": 1,
        "version": schema.SCHEMA_VERSION,
        "title": config.title.strip(),
        "guidelines": config.guidelines.strip(),
        "seed": secrets.randbits(62) if config.seed is None else config.seed,
        "raters_per_image": config.raters_per_image,
        "lease_s": config.lease_days * DAY_S,
        "created_at": time.time(),
    }


def _prepared_inputs(
    inputs: Iterable[StudyInput], spool: Spool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Pictures]:
    """Rows of the inputs and of their references, and the true pictures."""
    rows: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    truths: Pictures = {}
    seen: set[Place] = set()
    for number, item in enumerate(inputs, start=1):
        if (item.task, bare(item.uid)) in seen:
            raise RatingError(f"The instruction {item.uid!r} of task {item.task!r} appears twice; rename one.")
        seen.add((item.task, bare(item.uid)))
        rows.append({"id": number, "task": item.task, "uid": item.uid, "text": item.instruction.text})
        references += [
            {"input_id": number, "marker": ref.marker, "text": ref.text, "picture_id": spool.add(ref.image)}
            for ref in item.instruction.references
        ]
        if item.target is not None:
            truths[item.task, item.uid] = spool.add(item.target)
    if not rows:
        raise RatingError("There is no instruction to rate; name a file with at least one.")
    return rows, references, truths


def _prepared_outputs(method: MethodResults, places: list[Place], spool: Spool, partial: bool) -> Pictures:
    """Checks and keeps a method's pictures."""
    check_name(method.name, "The method")
    if holds_references(method.name):
        raise RatingError(f"{method.name!r} is a folder of references in ImagenHub's layout; rename the method.")
    files = match_results(method.files, places, partial)
    first_with: dict[bytes, str] = {}
    pictures: Pictures = {}
    num_repeated = 0
    for place, name in files.items():
        image = read_picture(method.files, name)
        digest = hashlib.sha256(repr((place[0], image.size)).encode() + image.tobytes()).digest()
        num_repeated += first_with.setdefault(digest, name) != name
        pictures[place] = spool.add(image)
    if num_repeated:
        logger.warning("%s: %d pictures repeat another of the same task.", method.name, num_repeated)
    return pictures


def _insert_outputs(connection: sa.Connection, outputs: dict[str, Pictures], numbers: dict[Place, int]) -> None:
    for name, pictures in outputs.items():
        inserted = connection.execute(sa.insert(schema.methods), {"name": name}).inserted_primary_key
        assert inserted is not None
        rows = [
            {"input_id": numbers[place], "method_id": inserted[0], "picture_id": picture}
            for place, picture in pictures.items()
        ]
        connection.execute(sa.insert(schema.outputs), rows)


def _input_numbers(connection: sa.Connection) -> dict[Place, int]:
    columns = schema.inputs.c
    rows = connection.execute(sa.select(columns.task, columns.uid, columns.id).order_by(columns.id))
    return {(row.task, row.uid): row.id for row in rows}


def _reopen(connection: sa.Connection, input_ids: Iterable[int]) -> None:
    """Instructions that were rated completely have something new; their raters' time begins again."""
    assignments = schema.assignments
    for chunk in _chunks(sorted(input_ids), 500):
        connection.execute(
            sa.update(assignments)
            .where(assignments.c.input_id.in_(chunk))
            .values(completed_at=None, touched_at=time.time())
        )


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
