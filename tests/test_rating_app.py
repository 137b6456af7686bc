"""The web server: signing in, rating, what raters can find out, and what is refused."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rating_study import METHODS, make_study, plain_picture
from starlette.testclient import TestClient

from instruct_imagen.rating.app import COOKIE, create_app
from instruct_imagen.rating.database import Database
from instruct_imagen.rating.export import stored_ratings
from instruct_imagen.rating.protection import HEADERS, MAX_BODY_BYTES, AttemptLimiter
from instruct_imagen.rating.raters import add_raters, renew_rater, revoke_rater
from instruct_imagen.rating.study import study_size

JSON = {"content-type": "application/json"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = make_study(tmp_path, num_inputs=2)
    yield made
    made.close()


@pytest.fixture
def visit(database: Database) -> Callable[..., TestClient]:
    """Opens the page, as a new rater of that name if one is given."""
    app = create_app(database)

    def open_page(name: str = "", url: str = "http://rating.test") -> TestClient:
        client = TestClient(app, url, raise_server_exceptions=False)
        if name:
            [invitation] = add_raters(database, [name])
            assert client.post("/api/session", json={"token": invitation.token}).status_code == 204
        return client

    return open_page


def rate(client: TestClient, state: dict, sc: float = 1, pq: float = 0.5, **more) -> dict:
    answer = client.post("/api/ratings", json={"picture": state["item"]["picture"], "sc": sc, "pq": pq, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_rater_signs_in_rates_everything_and_takes_back(visit, database):
    client = visit("Ada")
    state = client.get("/api/state").json()
    assert state["rater"] == "Ada" and (state["num_rated"], state["num_total"]) == (0, 6)
    assert [part for part in state["item"]["text"] if part["marker"]] == [{"text": "", "marker": 1}]
    assert state["item"]["references"][0]["text"] == "dog"
    while state["item"]:
        assert client.get(f"/pictures/{state['item']['picture']}").headers["content-type"] == "image/png"
        state = rate(client, state, seconds=3.5)
    assert state["num_rated"] == 6
    state = client.post("/api/undo", json={"picture": state["latest"]}).json()
    assert state["num_rated"] == 5 and state["item"]["previous"] == {"sc": 1.0, "pq": 0.5}
    assert {stored.seconds for stored in stored_ratings(database)} == {3.5}


def test_nothing_is_given_without_signing_in(visit):
    client = visit()
    picture = visit("Ada").get("/api/state").json()["item"]["picture"]
    for method, path in (("get", "/api/state"), ("get", f"/pictures/{picture}")):
        assert getattr(client, method)(path).status_code == 401
    body = {"picture": picture, "sc": 1, "pq": 1}
    for path in ("/api/ratings", "/api/undo"):
        assert client.post(path, json=body).status_code in (401, 422)
    for cookie in ("", "x", ".", "a.b", "\x00", "x" * 10_000):
        client.cookies.set(COOKIE, cookie)
        assert client.get("/api/state").status_code == 401


def test_the_cookie_is_not_for_scripts_nor_for_other_sites(visit, database):
    for url, secure in (("http://rating.test", False), ("https://rating.test", True)):
        client = visit(url=url)
        [invitation] = add_raters(database, [url])
        cookie = client.post("/api/session", json={"token": invitation.token}).headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and ("secure" in cookie) == secure
        assert invitation.token.lower() not in cookie


def test_a_link_ends_with_its_sessions(visit, database):
    ada, grace = visit("Ada"), visit("Grace")
    revoke_rater(database, "Ada")
    renew_rater(database, "Grace")
    for client in (ada, grace):
        answer = client.get("/api/state")
        assert answer.status_code == 401 and answer.json()["error"] == "You are signed out; open your link again."
    client = visit("Edsger")
    assert client.delete("/api/session", headers=JSON).status_code == 204
    assert client.get("/api/state").status_code == 401


def test_raters_find_out_nothing_of_methods_nor_of_one_another(visit, database):
    """Everything that a whole visit brings, bodies, headers and addresses alike."""
    names = ("AdaTheFirst", "GraceTheSecond")
    clients = [visit(name) for name in names]
    brought: list[list[bytes]] = [[], []]
    order: list[list[str]] = [[], []]

    def fetch(k: int, path: str) -> None:
        answer = clients[k].get(path)
        assert answer.status_code == 200
        brought[k].append(path.encode() + repr(sorted(answer.headers.items())).encode() + answer.content)
        assert not {"etag", "last-modified", "server"} & set(answer.headers)

    for k in range(2):
        for path in ("/", "/static/rating.js", "/static/view.js", "/static/rating.css", "/static/icon.svg"):
            fetch(k, path)
        state = clients[k].get("/api/state").json()
        while state["item"]:
            item = state["item"]
            order[k].append(item["picture"])
            for picture in (item["picture"], *(p for ref in item["references"] for p in ref["pictures"])):
                fetch(k, f"/pictures/{picture}")
            brought[k].append(repr(state).encode())
            state = rate(clients[k], state, sc=k, pq=1 - k)
    for k in range(2):
        everything = b"".join(brought[k])
        for secret in (*METHODS, "Software", names[1 - k], ".png"):
            assert secret.encode() not in everything, secret
        assert names[k].encode() in everything
    assert set(order[0]) == set(order[1]) and order[0] != order[1]
    assert all(re.fullmatch(r"[\w-]{22}", picture) for picture in order[0])
    assert set(state) == {"title", "guidelines", "rater", "num_rated", "num_total", "item", "latest"}


def test_one_rater_cannot_rate_or_see_what_another_was_given(visit, tmp_path):
    big = make_study(tmp_path / "big", num_inputs=12)
    app = create_app(big)
    clients = []
    for name in ("Ada", "Grace"):
        client = TestClient(app, "http://rating.test")
        client.post("/api/session", json={"token": add_raters(big, [name])[0].token})
        clients.append(client)
    own, other = (client.get("/api/state").json()["item"] for client in clients)
    assert own["picture"] != other["picture"]
    assert clients[0].get(f"/pictures/{other['picture']}").status_code == 404
    answer = clients[0].post("/api/ratings", json={"picture": other["picture"], "sc": 1, "pq": 1})
    assert answer.status_code == 409 and "not yours" in answer.json()["error"]
    assert clients[0].post("/api/undo", json={"picture": other["picture"]}).status_code == 409
    assert stored_ratings(big) == []


def test_every_answer_carries_the_headers(visit):
    client = visit("Ada")
    answers = [
        client.get("/"),
        client.get("/static/rating.js"),
        client.get("/api/state"),
        client.get("/nothing"),
        client.get("/pictures/nothing"),
        client.post("/api/ratings", json={}),
        client.post("/api/ratings", content=b"x" * (MAX_BODY_BYTES + 1), headers=JSON),
        client.post("/api/session", json={"token": "x"}),
        client.post("/api/session", headers={"sec-fetch-site": "cross-site"}),
        client.get("/healthz"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 404, 422, 413, 401, 403, 200]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items()
        assert "cache-control" in answer.headers and answer.headers["referrer-policy"] == "no-referrer"
    policy = answers[0].headers["content-security-policy"]
    assert "'unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_the_page_asks_nothing_of_other_sites(visit):
    client = visit()
    page = client.get("/").text
    everything = page + "".join(client.get(path).text for path in re.findall(r'(?:src|href)="(/[^"#]+)"', page))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", everything)
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page)  # the policy would not run them


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://elsewhere.test"},
        {"origin": "null"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data"},
    ],
)
def test_other_sites_cannot_act_for_a_rater(headers, visit, database):
    client = visit("Ada")
    picture = client.get("/api/state").json()["item"]["picture"]
    body = f'{{"picture": "{picture}", "sc": 1, "pq": 1}}'
    answer = client.post("/api/ratings", content=body, headers={**JSON, **headers})
    assert answer.status_code == 403 and stored_ratings(database) == []
    for own in ({"origin": "http://rating.test"}, {"sec-fetch-site": "same-origin", "origin": "https://proxy.test"}):
        assert client.post("/api/ratings", content=body, headers={**JSON, **own}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sc": 1, "pq": 1},
        {"picture": "PICTURE", "sc": 1},
        {"picture": "PICTURE", "sc": 0.7, "pq": 1},
        {"picture": "PICTURE", "sc": 2, "pq": 1},
        {"picture": "PICTURE", "sc": "1", "pq": 1},
        {"picture": "PICTURE", "sc": True, "pq": 1},
        {"picture": "PICTURE", "sc": None, "pq": 1},
        {"picture": "PICTURE", "sc": 1, "pq": 1, "rater": "Grace"},
        {"picture": "PICTURE", "sc": 1, "pq": 1, "seconds": "long"},
        {"picture": "' OR 1=1 --", "sc": 1, "pq": 1},
        {"picture": "x" * 65, "sc": 1, "pq": 1},
        {"picture": 7, "sc": 1, "pq": 1},
        [],
        "text",
    ],
)
def test_malformed_ratings_are_refused_with_a_sentence(body, visit, database):
    client = visit("Ada")
    picture = client.get("/api/state").json()["item"]["picture"]
    if isinstance(body, dict) and body.get("picture") == "PICTURE":
        body["picture"] = picture
    answer = client.post("/api/ratings", json=body)
    assert answer.status_code in (400, 422) and answer.json()["error"].endswith(".")
    for raw in (b"", b"{", b"\xff\xfe", b'{"picture": NaN}', b"[" * 5000):
        assert client.post("/api/ratings", content=raw, headers=JSON).status_code in (400, 422)
    assert stored_ratings(database) == []
    assert rate(client, client.get("/api/state").json(), seconds=-5)["num_rated"] == 1
    assert stored_ratings(database)[0].seconds == 0


def test_bodies_longer_than_they_say_are_cut_off(visit):
    def endless() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * 4096

    answer = visit("Ada").post("/api/ratings", content=endless(), headers=JSON)  # chunked, without a length
    assert answer.status_code in (400, 413)


def test_wrong_links_are_slowed_down(visit, database):
    client = visit()
    [invitation] = add_raters(database, ["Ada"])
    statuses = [client.post("/api/session", json={"token": f"a.{k}"}).status_code for k in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    answer = client.post("/api/session", json={"token": invitation.token})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


def test_the_limit_passes_and_stays_small(monkeypatch):
    from instruct_imagen.rating import protection

    now = [1000.0]
    monkeypatch.setattr(protection.time, "monotonic", lambda: now[0])
    limiter = AttemptLimiter(most=2, seconds=60)
    for _ in range(2):
        assert limiter.wait_seconds("a") == 0
        limiter.failed("a")
    assert limiter.wait_seconds("a") == 60 and limiter.wait_seconds("b") == 0
    now[0] += 61
    assert limiter.wait_seconds("a") == 0
    monkeypatch.setattr(protection, "_MAX_ADDRESSES", 5)
    for k in range(20):
        limiter.failed(str(k))
    assert len(limiter._failures) == 5


def results(count: int, name: str = "subject/{}.png") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for k in range(count):
            picture = io.BytesIO()
            plain_picture(77, k).save(picture, "PNG")
            file.writestr(name.format(k), picture.getvalue())
    return buffer.getvalue()


def test_results_are_uploaded_with_a_token_of_their_own(visit, database):
    client = visit("Ada")
    [sender] = add_raters(database, ["Sender"], role="uploader")
    [other] = add_raters(database, ["Other"])
    bearer = {"authorization": f"Bearer {sender.token}"}

    def send(content: bytes, headers: dict, method: str = "SentByWire") -> int:
        return client.post(f"/api/results/{method}", content=content, headers=headers).status_code

    assert send(results(2), {"authorization": f"Bearer {other.token}"}) == 401
    assert send(results(2), {"authorization": sender.token}) == 403  # no bearer, no JSON: nobody's request
    assert send(results(1), bearer) == 400  # one is missing
    assert send(results(2, "../{}.png"), bearer) == 400
    assert send(b"no archive", bearer) == 400
    assert send(results(2), bearer, ".hidden") == 400
    assert study_size(database).num_methods == 3
    assert send(results(2), bearer) == 200
    assert send(results(2), bearer) == 400  # there already
    assert study_size(database).num_methods == 4
    assert client.get("/api/state").json()["num_total"] == 8


def test_what_the_database_cannot_do_is_said_and_not_confirmed(visit, database, monkeypatch):
    client = visit("Ada")
    state = client.get("/api/state").json()
    database.engine.dispose()
    monkeypatch.setattr(database.engine, "connect", _broken)
    answer = client.post("/api/ratings", json={"picture": state["item"]["picture"], "sc": 1, "pq": 1})
    assert answer.status_code == 503 and "nothing was saved" in answer.json()["error"]
    assert client.get("/healthz").status_code == 503


def _broken(*_):
    import sqlalchemy as sa

    raise sa.exc.OperationalError("BEGIN", {}, Exception("disk full"))
