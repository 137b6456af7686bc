"""`instruct-imagen serve` as a process: options, a stop that finishes what was accepted, kill -9 and restart."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from instruct_imagen.cli import main
from instruct_imagen.serving.provenance import read_provenance
from instruct_imagen.serving.store import PictureStore

KEY = "a-key-of-the-test-0001"


class Process:
    """A running server."""

    def __init__(self, model: Path, *options: str):
        command = [sys.executable, "-m", "instruct_imagen.cli", "serve", "--model", str(model), "--port", "0", *options]
        paths = [str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines: list[dict[str, object]] = []
        self._said = threading.Event()
        self.url = ""
        threading.Thread(target=self._read, daemon=True).start()
        assert self._said.wait(120) and self.url, self.lines
        self.http = httpx2.Client(base_url=self.url, timeout=120, trust_env=False)

    def _read(self) -> None:
        for line in self.process.stderr:
            if line.startswith("{"):
                self.lines.append(json.loads(line))
                if found := re.search(r"serving .* at (\S+)", str(self.lines[-1]["message"])):
                    self.url = found[1]
                    self._said.set()
        self._said.set()

    def end(self, kind: signal.Signals) -> int:
        self.process.send_signal(kind)
        return self.process.wait(120)


@contextmanager
def serving(model: Path, *options: str):
    found = Process(model, *options)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait(30)


def ask(url: str, **fields: object) -> httpx2.Response:
    body = {"prompt": "a star", "size": "32x32", "num_inference_steps": 8, **fields}
    return httpx2.post(f"{url}/v1/images/generations", json=body, timeout=120, trust_env=False)


def test_a_stop_finishes_what_was_accepted(model_folder: Path):
    with serving(model_folder, "--batch", "2") as server, ThreadPoolExecutor(6) as pool:
        assert server.http.get("/readyz").status_code == 200
        steps = 150
        calls = [pool.submit(ask, server.url, seed=seed, num_inference_steps=steps) for seed in range(6)]
        deadline = time.monotonic() + 60
        while (
            "running_pictures 2.0" not in (text := server.http.get("/metrics").text) or "waiting_pictures 4" not in text
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert [call.result().status_code for call in calls] == [200] * 6
        assert server.process.wait(60) == 0
        with pytest.raises(httpx2.HTTPError):
            ask(server.url)
        assert any(line["message"].startswith("stopping") for line in server.lines)
        assert sum(line.get("status") == 200 and line.get("method") == "POST" for line in server.lines) == 6


def test_kill_and_restart_damage_nothing(model_folder: Path, tmp_path: Path):
    folder = tmp_path / "pictures"
    with serving(model_folder, "--picture-dir", str(folder)) as server, ThreadPoolExecutor(8) as pool:
        for seed in range(200):
            pool.submit(lambda seed=seed: ask(server.url, seed=seed, response_format="url", num_inference_steps=1))
        deadline = time.monotonic() + 60
        while len(list(folder.glob("[!.]*"))) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        pool.shutdown(cancel_futures=True)
    files = list(folder.glob("[!.]*"))
    assert len(files) >= 5
    for file in files:
        Image.open(file).load()
        assert read_provenance(file).instruction == "a star"
    with serving(model_folder, "--picture-dir", str(folder)) as server:
        assert ask(server.url).status_code == 200
        assert server.http.get(f"/v1/files/{files[0].name}").content == files[0].read_bytes()
        assert server.end(signal.SIGTERM) == 0


def test_the_store_clears_what_is_old_or_half_written(tmp_path: Path):
    store = PictureStore(tmp_path, 100)
    kept, old = (store.write(b"x", "png") for _ in range(2))
    half, foreign = tmp_path / f".{'A' * 32}.partial.png", tmp_path / "notes.txt"
    for path in (half, foreign):
        path.write_bytes(b"x")
    for path in (tmp_path / old, half, foreign):
        os.utime(path, (time.time() - 200,) * 2)
    assert store.path(old) is None and store.path(kept) == tmp_path / kept
    store.clean()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([kept, "notes.txt"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "none"), "no model"),
        (("--lora", "{tmp}/none"), "there is no adapter"),
        (("--host", "0.0.0.0"), "--keys"),
        (("--host", "192.0.2.1", "--allow-anonymous"), "cannot be listened on"),
        (("--port", "99999"), "cannot be listened on"),
        (("--keys", "{tmp}/none"), "cannot be read"),
        (("--keys", "{tmp}/short"), "characters"),
        (("--queue", "2"), "--queue"),
        (("--size", "2048"), "--max-size"),
        (("--watermark", "far too long a text"), "ASCII"),
        (("--picture-dir", "{tmp}/short/x"), "cannot be made"),
        (("--min-replicas", "9"), "--min-replicas"),
    ],
)
def test_bad_options_are_said_in_a_sentence(options, said, model_folder: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("instruct_imagen.serving.logs.use_json_logs", lambda level: None)
    (tmp_path / "short").write_text("abc")
    filled = [option.replace("{tmp}", str(tmp_path)) for option in options]
    model = [] if "--model" in filled else ["--model", str(model_folder)]
    port = [] if "--port" in filled else ["--port", "0"]
    assert main(["serve", *model, *port, *filled, "--quiet"]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("instruct-imagen: ") and said in message and "\n" not in message


def test_keys_come_from_the_environment(model_folder: Path, monkeypatch):
    monkeypatch.setenv("INSTRUCT_IMAGEN_API_KEYS", f"{KEY},studio a-key-of-the-test-0002")
    with serving(model_folder) as server:
        assert ask(server.url).status_code == 401
        answer = server.http.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"})
        assert answer.json()["data"][0]["id"] == model_folder.name
        assert KEY not in json.dumps(server.lines)
