"""What hostile clients send: 4xx with a sentence, never 5xx, and afterwards the server draws as before."""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import numpy as np
import pytest
import schemathesis
from damaged_pictures import BAD_PICTURES, png_header
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from serving_support import MODEL, data_url, picture, png, running

from instruct_imagen.serving.keys import ApiKeys
from instruct_imagen.serving.settings import Limits, ServerSettings

KEY = "a-key-of-the-test-0001"
SETTINGS = ServerSettings(
    MODEL,
    keys=ApiKeys.of([KEY], "the test"),
    default_steps=1,
    default_size_px=16,
    limits=Limits(num_images=2, num_steps=2, size_px=64, body_bytes=300_000, body_seconds=2, picture_pixels=1_000_000),
)
FAST_SCHEMA_CASES, SLOW_SCHEMA_CASES, SLOW_PICTURE_CASES = 12, 150, 1_200
Call = dict[str, Any]
PROMPT = {"prompt": "x"}


@pytest.fixture(scope="module")
def server(pipeline, tmp_path_factory):
    settings = ServerSettings(**{**SETTINGS.__dict__, "picture_folder": tmp_path_factory.mktemp("pictures")})
    with running(pipeline, settings) as found:
        found.http.headers["Authorization"] = f"Bearer {KEY}"
        yield found
        assert draws(found)


def draws(server) -> bool:
    """Whether the server still does its work."""
    answer = server.http.post("/v1/images/generations", json={"prompt": "a star", "seed": 1})
    return answer.status_code == 200 and server.http.get("/readyz").status_code == 200


def refused(answer: httpx2.Response) -> str:
    """The sentence of an answer that must be a refusal."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    message = answer.json()["error"]["message"]
    assert len(message) > 10 and message[-1] in ".!" and "Traceback" not in message, message
    return message


def edit(*images: bytes, prompt: str = "draw [ref#1]", **fields: object) -> Call:
    return {"files": [("image", image) for image in images], "data": {"prompt": prompt, **fields}}


def instruct(text: str = "draw [ref#1]", marker: object = 1, image: object = None, **fields: object) -> Call:
    image = data_url(png(picture(1))) if image is None else image
    return {"json": {"instruction": text, "references": [{"marker": marker, "text": "", "image": image}], **fields}}


def picture_cases() -> Iterator[tuple[str, bytes]]:
    rng, good = np.random.default_rng(0), png(picture(1, (40, 40)))
    for name, (make, _) in BAD_PICTURES.items():
        yield name, make(rng)
    yield "100 megapixels", png_header(10_000, 10_000)
    yield "more than the server takes", png_header(1_100, 1_000)
    yield "no pixels", png_header(0, 0)
    yield "four thousand million wide", png_header(2**31 - 1, 1)
    yield "nothing", b""
    yield "a program", b"\x7fELF" + bytes(100)
    yield "a drawing that runs", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n"
    yield "a claim of text without end", _with_chunk(good, b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))
    yield "cut after the header", good[:40]


def _with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize(("name", "data"), picture_cases(), ids=[name for name, _ in picture_cases()])
def test_bad_pictures_are_refused_on_every_way_in(server, name, data):
    for path, call in {
        "edits as form": ("/v1/images/edits", edit(data)),
        "edits as JSON": ("/v1/images/edits", {"json": {"prompt": "x", "images": [{"image_url": data_url(data)}]}}),
        "native": ("/v1/instruct", instruct(image=data_url(data))),
        "mask": ("/v1/images/edits", {"files": [("image", png(picture(1))), ("mask", data)], "data": {"prompt": "x"}}),
    }.values():
        refused(server.http.post(path, **call))


CALLS: Mapping[str, tuple[str, Call]] = {
    "marker beyond the pictures": ("/v1/images/edits", edit(png(picture(1)), prompt="[ref#2]")),
    "marker 0": ("/v1/images/edits", edit(png(picture(1)), prompt="[ref#0]")),
    "marker 9999": ("/v1/images/edits", edit(png(picture(1)), prompt="[ref#9999]")),
    "no number": ("/v1/images/edits", edit(png(picture(1)), prompt="[ref#x]")),
    "thirteen pictures": ("/v1/images/edits", edit(*[png(picture(1))] * 13)),
    "fifty pictures": ("/v1/images/edits", edit(*[png(picture(1))] * 50)),
    "no picture": ("/v1/images/edits", {"data": {"prompt": "x"}, "files": [("mask", png(picture(1)))]}),
    "empty prompt": ("/v1/images/edits", edit(png(picture(1)), prompt="")),
    "two masks": (
        "/v1/images/edits",
        {"files": [("image", b"x"), ("mask", b"x"), ("mask", b"x")], "data": {"prompt": "x"}},
    ),
    "unknown field": ("/v1/images/edits", edit(png(picture(1)), image_dir="/etc")),
    "unknown file": ("/v1/images/edits", {"files": [("image", png(picture(1))), ("a", b"x")], "data": {"prompt": "x"}}),
    "number that is none": ("/v1/images/edits", edit(png(picture(1)), n="many")),
    "not a number": ("/v1/images/edits", edit(png(picture(1)), guidance_scale="nan")),
    "without end": ("/v1/images/edits", edit(png(picture(1)), guidance_scale="inf")),
    "field twice": ("/v1/images/edits", {"files": [("image", b"x")], "data": {"prompt": ["a", "b"]}}),
    "control character": ("/v1/images/generations", {"json": {"prompt": "a\0b"}}),
    "half a character": ("/v1/images/generations", {"content": rb'{"prompt": "\ud800"}'}),
    "long text": ("/v1/images/generations", {"json": {"prompt": "x" * 90_000}}),
    "n of 0": ("/v1/images/generations", {"json": {"prompt": "x", "n": 0}}),
    "n of a million": ("/v1/images/generations", {"json": {"prompt": "x", "n": 10**6}}),
    "steps without end": ("/v1/images/generations", {"json": {"prompt": "x", "num_inference_steps": 10**9}}),
    "seed of 10**40": ("/v1/images/generations", {"json": {"prompt": "x", "seed": 10**40}}),
    "size that is none": ("/v1/images/generations", {"json": {"prompt": "x", "size": "0x0"}}),
    "size of signs": ("/v1/images/generations", {"json": {"prompt": "x", "size": "\u0661\u0666x\u0661\u0666"}}),
    "deep nesting": ("/v1/images/generations", {"content": b"[" * 100_000}),
    "key twice": ("/v1/images/generations", {"content": b'{"prompt": "x", "prompt": "y"}'}),
    "a list": ("/v1/images/generations", {"json": ["x"]}),
    "infinite number": ("/v1/images/generations", {"content": b'{"prompt": "x", "guidance_scale": Infinity}'}),
    "no JSON": ("/v1/images/generations", {"content": b"\xff\xfe"}),
    "nothing": ("/v1/images/generations", {"content": b""}),
    "xml": ("/v1/images/generations", {"content": b"<x/>", "headers": {"Content-Type": "application/xml"}}),
    "form where JSON is": ("/v1/images/generations", {"data": {"prompt": "x"}}),
    "file of the machine": ("/v1/instruct", instruct(image="/etc/passwd")),
    "path up": ("/v1/instruct", instruct(image="../../etc/passwd")),
    "file address": ("/v1/instruct", instruct(image="file:///etc/passwd")),
    "web address": ("/v1/instruct", instruct(image="http://127.0.0.1/")),
    "data without base64": ("/v1/instruct", instruct(image="data:image/png,abc")),
    "damaged base64": ("/v1/instruct", instruct(image="data:image/png;base64,!!!!")),
    "marker 10": ("/v1/instruct", instruct("draw [ref#10]", 10)),
    "marker as text": ("/v1/instruct", instruct(marker="1")),
    "hole": ("/v1/instruct", instruct("draw [ref#2]", 2)),
    "never named": ("/v1/instruct", instruct("draw")),
    "too many references": ("/v1/instruct", {"json": {"instruction": "x", "references": [{}] * 10_000}}),
    "form without request": ("/v1/instruct", {"files": {"a": b"x"}}),
    "request that is no JSON": ("/v1/instruct", {"files": {"request": (None, "{")}}),
    "request that is a picture": ("/v1/instruct", {"files": {"request": ("a.png", png(picture(1)))}}),
    "file with a path": ("/v1/instruct", {"files": {"request": (None, "{}"), "../x": ("../../x", b"x")}}),
    "boundary that is missing": (
        "/v1/images/edits",
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ),
    "form cut off": (
        "/v1/images/edits",
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\nabc',
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
    ),
    "part without a name": (
        "/v1/images/edits",
        {"content": b"--b\r\n\r\nabc\r\n--b--", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    ),
    "too large": ("/v1/images/generations", {"content": bytes(400_000)}),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_calls_are_refused_in_a_sentence(server, name):
    path, call = CALLS[name]
    headers = {"Content-Type": "application/json"} if "content" in call and "headers" not in call else {}
    call = {**call, "headers": {**headers, **call.get("headers", {})}}
    refused(server.http.post(path, **call))


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "\u00e4"],
)
def test_wrong_keys_are_refused_before_anything_is_read(server, authorization):
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
        for method, path in (("POST", "/v1/instruct"), ("POST", "/v1/images/edits"), ("GET", "/v1/models")):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401 and "API key" in refused(answer)
        assert client.delete("/v1/instruct/x", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/v1/files/../../etc/passwd", "/v1/files/..%2F..%2Fetc%2Fpasswd", "/../etc/passwd", "/v1/models/..%2f..", "/%00"],
)
def test_paths_lead_nowhere(server, path):
    assert "root:" not in refused(server.http.get(path))
    refused(server.http.put("/v1/images/edits", content=b"x"))


def raw(server, data: bytes) -> bytes:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65_536):
            found += chunk
        return found


HEAD = (
    f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    "Content-Type: application/json\r\nConnection: close\r\n"
)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (f"{HEAD}Content-Length: 99999999999\r\n\r\n", 413),
        (f"{HEAD}Content-Length: -5\r\n\r\n", 400),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (f"{HEAD}Content-Length: 50\r\n\r\nslow", 408),
        ("nonsense\r\n\r\n", 400),
    ],
)
def test_lies_about_the_body(server, data, status):
    assert raw(server, data.encode()).startswith(f"HTTP/1.1 {status}".encode())


def test_a_body_that_grows_without_saying_so_is_cut_off(server):
    def endless() -> Iterator[bytes]:
        for _ in range(400):
            yield bytes(1_000)

    headers = {"Content-Type": "application/json"}
    assert server.http.post("/v1/images/generations", content=endless(), headers=headers).status_code == 413


def mutated(rng: random.Random, good: list[bytes]) -> bytes:
    """A good file with bytes changed, cut, doubled or put in."""
    data = bytearray(rng.choice(good))
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(4):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[place : place + rng.randint(1, 40)]
            case 2:
                data[place:place] = data[place : place + rng.randint(1, 40)]
            case _:
                data = data[: max(1, place)]
    return bytes(data)


def mutated_pictures(server, count: int) -> None:
    rng, images = random.Random(5), [picture(seed, (16, 16)) for seed in range(3)]
    good = [png(image) for image in images]
    for form in ("JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        buffer = io.BytesIO()
        images[0].save(buffer, form)
        good.append(buffer.getvalue())
    for _ in range(count):
        data = mutated(rng, good)
        answer = server.http.post("/v1/images/edits", **edit(data))
        if answer.status_code != 200:  # some damage leaves a picture that can be read
            refused(answer)


def test_mutated_pictures(server):
    mutated_pictures(server, 60)


@pytest.mark.slow
def test_many_mutated_pictures(server):
    mutated_pictures(server, SLOW_PICTURE_CASES)


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def hostile_to_the_document(server, schema, count: int) -> int:
    """Sends what schemathesis makes of the document, valid and invalid; returns how many requests."""
    num_sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:
            check = _checked(server, operation.as_strategy(generation_mode=mode), count)
            num_sent += check()
    return num_sent


def _checked(server, strategy, count: int) -> Callable[[], int]:
    sent = [0]

    @seed(1)
    @hypothesis_settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, with_key=st.integers(0, 9))
    def check(case, with_key) -> None:
        sent[0] += 1
        if with_key:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {KEY}"}
        answer = case.call(timeout=60)
        assert answer.status_code < 500, (case.as_curl_command()[:2000], answer.text[:500])
        if answer.status_code >= 400 and answer.headers.get("content-type", [""])[0].startswith("application/json"):
            message = json.loads(answer.content)["error"]["message"]
            assert len(message) > 10

    def run() -> int:
        with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be called wrongly
            check()
        return sent[0]

    return run


def test_requests_made_from_the_document(server, schema):
    assert hostile_to_the_document(server, schema, FAST_SCHEMA_CASES) >= FAST_SCHEMA_CASES


@pytest.mark.slow
def test_many_requests_made_from_the_document(server, schema):
    num_sent = hostile_to_the_document(server, schema, SLOW_SCHEMA_CASES)
    assert num_sent + SLOW_PICTURE_CASES >= 2_000
