"""The tables of a study; one database, or one PostgreSQL schema, holds one study.

SC and PQ are kept as halves (0, 1, 2), times as seconds since 1970. What a rater's browser ever sees of these rows
is the instruction, its references, and `pictures.id`, which is random: numbers that count up would tell the method.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1

metadata = MetaData()

study = Table(
    "rating_study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("title", String(200), nullable=False),
    Column("guidelines", Text, nullable=False),  # of the owner, beside those of the page
    Column("seed", BigInteger, nullable=False),  # of the orders; nobody but the owner knows it
    Column("raters_per_image", Integer, nullable=False),
    Column("lease_s", Double, nullable=False),  # how long a begun instruction waits for its rater
    Column("created_at", Double, nullable=False),
)

pictures = Table(
    "rating_pictures",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("png", LargeBinary, nullable=False),
)

inputs = Table(
    "rating_inputs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task", String(64), nullable=False),
    Column("uid", String(200), nullable=False),
    Column("text", Text, nullable=False),
    UniqueConstraint("task", "uid"),
)

references = Table(
    "rating_references",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("input_id", ForeignKey("rating_inputs.id"), nullable=False, index=True),
    Column("marker", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("picture_id", ForeignKey("rating_pictures.id"), nullable=False, index=True),
)

methods = Table(
    "rating_methods",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
)

outputs = Table(
    "rating_outputs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("input_id", ForeignKey("rating_inputs.id"), nullable=False),
    Column("method_id", ForeignKey("rating_methods.id"), nullable=False),
    Column("picture_id", ForeignKey("rating_pictures.id"), nullable=False, unique=True),
    UniqueConstraint("input_id", "method_id"),
)

raters = Table(
    "rating_raters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("selector", String(32), unique=True),  # null: imported, cannot sign in
    Column("secret_hash", String(64)),
    Column("max_instructions", Integer),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("discarded_at", Double),  # the ratings count no more
    CheckConstraint("role IN ('rater', 'uploader')"),
)

sessions = Table(
    "rating_sessions",
    metadata,
    Column("selector", String(32), primary_key=True),
    Column("secret_hash", String(64), nullable=False),
    Column("rater_id", ForeignKey("rating_raters.id"), nullable=False, index=True),
    Column("expires_at", Double, nullable=False),
)

assignments = Table(
    "rating_assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rater_id", ForeignKey("rating_raters.id"), nullable=False),
    Column("input_id", ForeignKey("rating_inputs.id"), nullable=False, index=True),
    Column("touched_at", Double, nullable=False),
    Column("completed_at", Double),  # when the last of its outputs was rated
    UniqueConstraint("rater_id", "input_id"),
)

ratings = Table(
    "rating_ratings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rater_id", ForeignKey("rating_raters.id"), nullable=False),
    Column("output_id", ForeignKey("rating_outputs.id"), nullable=False, index=True),
    Column("sc_halves", Integer, nullable=False),
    Column("pq_halves", Integer, nullable=False),
    Column("seconds", Double),  # looked at, pauses left out
    Column("created_at", Double, nullable=False),
    UniqueConstraint("rater_id", "output_id"),
    CheckConstraint("sc_halves BETWEEN 0 AND 2 AND pq_halves BETWEEN 0 AND 2"),
    Index("rating_ratings_latest", "rater_id", "id"),
)
