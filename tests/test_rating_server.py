"""A killed server loses nothing that it confirmed; on SQLite, and with `-m postgres` on PostgreSQL."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from pathlib import Path

import httpx2 as httpx
import pytest
from rating_server import RatingServer
from rating_study import make_study

from instruct_imagen.rating.export import stored_ratings
from instruct_imagen.rating.raters import add_raters, list_raters


class Client:
    """Rates whatever comes, and notes what was confirmed."""

    def __init__(self, name: str, token: str) -> None:
        self.name, self.token = name, token
        self.confirmed: dict[str, tuple[float, float]] = {}
        self.sent: dict[str, tuple[float, float]] = {}
        self.http = httpx.Client(timeout=10)
        self.choices = random.Random(name)

    def sign_in(self, url: str) -> None:
        self.url = url
        assert self.http.post(f"{url}/api/session", json={"token": self.token}).status_code == 204

    def rate(self, most: int, stop: threading.Event | None = None) -> None:
        state = self.http.get(f"{self.url}/api/state").json()
        while state["item"] and most > 0 and not (stop and stop.is_set()):
            picture = state["item"]["picture"]
            answer = self.choices.choice((0.0, 0.5, 1.0)), self.choices.choice((0.0, 0.5, 1.0))
            self.sent[picture] = answer
            body = {"picture": picture, "sc": answer[0], "pq": answer[1]}
            reply = self.http.post(f"{self.url}/api/ratings", json=body)
            assert reply.status_code == 200
            state = reply.json()
            self.confirmed[picture] = answer
            most -= 1


@pytest.mark.slow
def test_a_killed_server_loses_nothing_between_submissions(tmp_path):
    _kill_and_compare(tmp_path, str(tmp_path / "study.sqlite3"), in_flight=False)


@pytest.mark.slow
def test_a_killed_server_loses_nothing_while_three_rate(tmp_path):
    _kill_and_compare(tmp_path, str(tmp_path / "study.sqlite3"), in_flight=True)


@pytest.mark.postgres
def test_a_killed_server_loses_nothing_on_postgresql(postgres_url, tmp_path):
    from rating_postgres import create_schema

    _kill_and_compare(tmp_path, create_schema(postgres_url, "killed"), in_flight=True)


def _kill_and_compare(tmp_path: Path, name: str, in_flight: bool) -> None:
    database = make_study(tmp_path, num_inputs=10, name=name)
    clients = [Client(i.name, i.token) for i in add_raters(database, ["Ada", "Grace", "Edsger"])]
    for _ in range(3):
        server = RatingServer(name)
        for client in clients:
            client.sign_in(server.url)
        if in_flight:
            _rate_until_killed(clients, server)
        else:
            for client in clients:
                client.rate(2)
            server.kill()
    confirmed = {(c.name, picture): answer for c in clients for picture, answer in c.confirmed.items()}
    assert len(confirmed) >= 12
    server = RatingServer(name)
    try:
        for client in clients:
            client.sign_in(server.url)
            state = client.http.get(f"{client.url}/api/state").json()
            # what was under way when the server died may be there or not, but never twice or half
            assert 0 <= state["num_rated"] - len(client.confirmed) <= 3
            assert state["item"] is None or state["item"]["picture"] not in client.confirmed
            client.rate(1000)
            assert client.http.get(f"{client.url}/api/state").json()["num_rated"] == 30
    finally:
        assert server.stop() in (0, 130)
    assert [status.num_ratings for status in list_raters(database)] == [30, 30, 30]
    _assert_all_there(database, clients)


def _rate_until_killed(clients: list[Client], server: RatingServer) -> None:
    def work(client: Client) -> None:
        with contextlib.suppress(httpx.HTTPError):  # when the server is gone
            client.rate(1000, stop)

    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    before = sum(len(client.confirmed) for client in clients)
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while sum(len(client.confirmed) for client in clients) < before + 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join(30)


def _assert_all_there(database, clients: list[Client]) -> None:
    """Each confirmed rating is in the database with its own values."""
    import sqlalchemy as sa

    from instruct_imagen.rating import schema

    query = (
        sa.select(schema.raters.c.name, schema.outputs.c.picture_id, schema.ratings.c.sc_halves)
        .add_columns(schema.ratings.c.pq_halves)
        .select_from(schema.ratings)
        .join(schema.raters)
        .join(schema.outputs)
    )
    with database.reading() as connection:
        stored = {(row[0], row[1]): (row[2] / 2, row[3] / 2) for row in connection.execute(query)}
    for client in clients:
        for picture, answer in client.confirmed.items():
            assert stored[client.name, picture] == answer
    assert len(stored) == len(stored_ratings(database)) == 90
