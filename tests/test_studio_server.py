"""The studio over HTTP: what it serves, what it refuses, and that it asks no other host for anything."""

from __future__ import annotations

import io
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.cli import main
from instruct_imagen.errors import InstructionError
from instruct_imagen.studio.drawing import PipelinePainter

gradio = pytest.importorskip("gradio", reason="gradio is not installed")

from fastapi.testclient import TestClient  # noqa: E402

from instruct_imagen.studio.server import make_app  # noqa: E402
from instruct_imagen.studio.wording import UNEXPECTED, in_answer, in_words  # noqa: E402

LOCAL = ("127.0.0.1", "::1", "localhost", "testserver")


@pytest.fixture(scope="module")
def hosts() -> list[str]:
    """Every host that was looked up or connected to."""
    return []


@pytest.fixture(scope="module")
def client(pipeline, tmp_path_factory, hosts: list[str]):
    """The page, begun and ended as a server does, while connections are watched."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
            patch.setenv(name, "")
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def watched_connect(self, address):
            hosts.append(str(address[0]))
            return connect(self, address)

        def watched_look_up(host, *values, **named):
            hosts.append(str(host))
            return look_up(host, *values, **named)

        patch.setattr(socket.socket, "connect", watched_connect)
        patch.setattr(socket, "getaddrinfo", watched_look_up)
        with TestClient(make_app(PipelinePainter(pipeline, "debug"), folder, pack="builtin")) as client:
            yield client


def board_of(client: TestClient) -> dict:
    components = client.get("/config").json()["components"]
    return next(component for component in components if component["props"].get("elem_id") == "board")


def call(client: TestClient, function: str, **data: object) -> dict:
    body = {"session_hash": "x", "component_id": board_of(client)["id"], "fn_name": function, "data": data}
    answer = client.post("/gradio_api/component_server", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def upload(client: TestClient, content: bytes, name: str = "fox.png") -> str:
    answer = client.post("/gradio_api/upload", files={"files": (name, content)})
    assert answer.status_code == 200
    return answer.json()[0]


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_comes_from_here_alone(client: TestClient, hosts: list[str]) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for tag in re.findall(r"<(?:script|link|img)[^>]*>", answer.text):
        for url in re.findall(r'(?:src|href)="([^"]*)"', tag):
            assert not re.match(r"(https?:)?//(?!testserver|127\.0\.0\.1)", url), tag
    theme = client.get("/theme.css").text
    assert "googleapis" not in theme and "@import" not in theme
    assert set(hosts) <= set(LOCAL)


def test_pictures_are_uploaded_named_and_served(client: TestClient) -> None:
    path = upload(client, png())
    name = call(client, "take", path=path)["name"]
    assert not Path(path).exists()
    for url in (f"/pictures/{name}.png", f"/thumbnails/{name}.png"):
        answer = client.get(url)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (40, 40)
    assert "name" in call(client, "control", name=name, kind="edge", variation=0)
    assert "--depth-model" in call(client, "control", name=name, kind="depth", variation=0)["error"]


def test_bad_requests_end_in_sentences(client: TestClient) -> None:
    assert "drop the picture again" in call(client, "take", path="/etc/passwd")["error"]
    assert "drop the picture again" in call(client, "take")["error"]
    assert "not a picture" in call(client, "take", path=upload(client, b"text"))["error"]
    assert "no longer here" in call(client, "control", name="../../x", kind="edge", variation=0)["error"]
    for url in ("/pictures/none.png", "/thumbnails/..%2F..%2Fx.png", f"/pictures/{'0' * 40}.png"):
        assert client.get(url).status_code == 404
    assert client.get("/gradio_api/file=/etc/passwd").status_code in (403, 404)
    assert client.get("/openapi.json").status_code == 404


def test_too_large_an_upload_is_refused(client: TestClient) -> None:
    answer = client.post("/gradio_api/upload", files={"files": ("big.png", b"0" * 32_000_000)})
    assert answer.status_code == 413


def test_errors_become_words() -> None:
    def refuse(*_):
        raise InstructionError("the text is empty; say what to draw.")

    def fail(*_):
        raise RuntimeError("secret")

    def refuse_later(*_):
        yield 1
        raise InstructionError("the text is empty; say what to draw.")

    for wrong, sentence in ((refuse, "The text is empty; say what to draw."), (fail, UNEXPECTED)):
        with pytest.raises(gradio.Error) as caught:
            in_words(wrong)()
        assert caught.value.message == sentence and not caught.value.print_exception
        assert in_answer(wrong)({}) == {"error": sentence}
    news = in_words(refuse_later)()
    assert next(news) == 1
    with pytest.raises(gradio.Error, match="The text is empty"):
        next(news)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "none"), "there is no model 'none'"),
        (("--depth-model", "{tmp}/none"), "--depth-model takes"),
        (("--mask-model", "{tmp}/file"), "--mask-model takes"),
        (("--keep", "{tmp}/file"), "cannot be made"),
        (("--port", "{port}"), "choose another --port"),
        (("--host", "256.0.0.1"), "Nothing can listen"),
    ],
)
def test_the_command_fails_in_one_sentence(arguments, sentence, model_folder, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        filled = [argument.format(tmp=tmp_path, port=taken.getsockname()[1]) for argument in (*arguments, "--quiet")]
        common = ["--model", str(model_folder)] if "--model" not in filled else []
        port = ["--port", "0"] if "--port" not in filled else []
        assert main(["studio", *common, *port, *filled]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1, error


def test_without_gradio_the_extra_is_named(model_folder, monkeypatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["studio", "--model", str(model_folder), "--port", "0", "--quiet"]) == 2
    assert "install instruct-imagen[studio]" in capsys.readouterr().err
