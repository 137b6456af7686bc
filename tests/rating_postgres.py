"""A PostgreSQL server of its own for the tests that ask for one, on loopback, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _tool(name: str) -> str:
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found and not places:
        pytest.skip(f"PostgreSQL is not installed ({name} is missing)")
    return found or str(places[-1])


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server in a temporary folder; yields a URL without a database's name."""
    initdb, pg_ctl = _tool("initdb"), _tool("pg_ctl")
    prefix: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="rating-postgres-"))
    if os.getuid() == 0:  # PostgreSQL does not run as root
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "log"
    run = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL, "timeout": 120}
    try:
        subprocess.run([*prefix, initdb, "-D", str(data), "-A", "trust", "-U", "rating", "--no-sync"], **run)
        options = f"-h 127.0.0.1 -p {port} -k {folder}"
        subprocess.run([*prefix, pg_ctl, "-D", str(data), "-l", str(log), "-o", options, "-w", "start"], **run)
        try:
            yield f"postgresql://rating@127.0.0.1:{port}"
        finally:
            subprocess.run([*prefix, pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop"], **run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_schema(url: str, name: str) -> str:
    """Makes a schema of its own for a study; returns the URL that leads to it."""
    import psycopg

    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")  # a name of our own making
    return f"{url}/postgres?options=-csearch_path%3D{name}"
