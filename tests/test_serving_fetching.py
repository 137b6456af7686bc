"""References by web address: only if enabled, never from private addresses, whatever names and redirects say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from serving_support import MODEL, picture, png, running

from instruct_imagen.errors import InstructionError
from instruct_imagen.serving.fetching import Fetcher, is_public
from instruct_imagen.serving.settings import Limits, ServerSettings

PICTURE = png(picture(1))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


class Handler(BaseHTTPRequestHandler):
    """Answers by path; notes who was asked."""

    def do_GET(self) -> None:
        self.server.asked.append((self.headers["Host"], self.path))  # type: ignore[attr-defined]
        port = self.server.server_port
        redirects = {
            "/to-loopback": f"http://127.0.0.5:{port}/picture",
            "/to-name": f"http://inner.test:{port}/picture",
            "/to-file": "file:///etc/passwd",
            "/to-port": "http://outer.test:22/",
            "/around": f"http://outer.test:{port}/around",
            "/once": "/picture",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        self.wfile.write(bytes(200_000) if self.path == "/large" else PICTURE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[ThreadingHTTPServer]:
    """A web server on 127.0.0.1, which plays the open internet; 127.0.0.5 stays private."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


@pytest.fixture
def fetcher(web) -> Fetcher:
    names = {"outer.test": ["127.0.0.1"], "inner.test": ["127.0.0.5"], "both.test": ["127.0.0.1", "10.0.0.1"]}
    web.asked.clear()
    return Fetcher(
        100_000,
        timeout_s=5,
        allowed=lambda address: address == "127.0.0.1",
        resolve=lambda host, _: names.get(host, [host]),
        ports=frozenset({web.server_port}),
    )


def test_a_picture_is_fetched_from_the_address_that_was_checked(fetcher, web):
    assert fetcher.fetch(f"http://outer.test:{web.server_port}/once", "it") == PICTURE
    assert web.asked == [(f"outer.test:{web.server_port}", path) for path in ("/once", "/picture")]


@pytest.mark.parametrize(
    ("url", "said", "num_asked"),
    [
        ("http://inner.test:{port}/picture", "not fetched from", 0),
        ("http://127.0.0.5:{port}/picture", "not fetched from", 0),
        ("http://both.test:{port}/picture", "not fetched from", 0),
        ("http://outer.test:{port}/to-loopback", "not fetched from", 1),
        ("http://outer.test:{port}/to-name", "not fetched from", 1),
        ("http://outer.test:{port}/to-file", "plain http", 1),
        ("http://outer.test:{port}/to-port", "port", 1),
        ("http://outer.test:{port}/around", "redirected more than", 4),
        ("http://outer.test:{port}/large", "larger than", 1),
        ("http://outer.test:{port}/missing", "status 404", 1),
        ("http://outer.test:1/", "port", 0),
        ("http://name:word@outer.test:{port}/", "plain http", 0),
        ("ftp://outer.test/", "plain http", 0),
        ("http://outer.test:{port}/a b", "percent-encoded", 0),
        ("http://[::1/", "cannot be read", 0),
        ("http://outer.test:99999/", "cannot be read", 0),
    ],
)
def test_what_is_not_fetched(fetcher, web, url, said, num_asked):
    with pytest.raises(InstructionError, match=said):
        fetcher.fetch(url.format(port=web.server_port), "it")
    assert len(web.asked) == num_asked


def test_a_server_that_may_fetch_refuses_private_addresses(pipeline, web):
    settings = ServerSettings(MODEL, allow_url_references=True, default_steps=1, limits=Limits())
    web.asked.clear()
    with running(pipeline, settings) as server:
        for host in ("127.0.0.1", "localhost", "169.254.169.254", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]"):
            body = {"prompt": "x", "images": [{"image_url": f"http://{host}/picture"}]}
            answer = server.http.post("/v1/images/edits", json=body)
            assert answer.status_code == 400 and "not fetched from" in answer.json()["error"]["message"]
    assert web.asked == []
