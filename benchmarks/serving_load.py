"""Load on the server from a second process, over loopback: mixed requests, some cancelled, some invalid.

    python benchmarks/serving_load.py                             # 1,000 requests of 32 clients on the shipped model
    python benchmarks/serving_load.py --num-requests 60 --kill    # and what kill -9 under load leaves

The server is `instruct-imagen serve` in a process of its own. First every valid request is sent one by one, then all
of them at a time from the clients, cancelled and invalid ones between them. Every picture is compared with what the
pipeline draws in this process for the same instruction and seed, and by its metadata, so that an answer that was
crossed with another is found. Written as JSON: answers by kind, latencies, pictures per second both ways, memory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import psutil
import torch
from PIL import Image

from instruct_imagen.files import write_json
from instruct_imagen.instruction import Instruction
from instruct_imagen.model_folders import hide_loading_bars
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.serving.provenance import read_provenance
from instruct_imagen.sheet import tile

KINDS = ("valid", "cancelled", "invalid")
KIND_SHARES = (0.86, 0.08, 0.06)
STEPS = (4, 6, 8, 12)
GUIDANCE = ((3.0, None), (1.0, None), (2.0, 4.0))
MAX_LEVELS = 2  # of 255: what rounding may move a picture by in company
START_S, REQUEST_S = 180.0, 600.0
_WORDS = ("a fox on a beach", "two red stars", "a cat at night", "a house in a forest")


@dataclass(frozen=True)
class Request:
    """One request: what is sent, and what it must come to."""

    number: int
    kind: str
    instruction: Instruction
    steps: int
    guidance: tuple[float, float | None]

    @property
    def body(self) -> dict[str, object]:
        """The JSON; an invalid one names a marker without a reference."""
        content = self.instruction.to_json()
        extra = " and [ref#9]" if self.kind == "invalid" else ""
        return {
            "instruction": content["instruction"] + extra,
            "references": content["references"],
            "seed": self.number,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance[0],
            "image_guidance_scale": self.guidance[1],
            "stream": self.kind == "cancelled",
        }


@dataclass
class Tally:
    """What came of a run."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    num_retries: int = 0
    wall_s: float = 0.0

    def summary(self) -> dict[str, object]:
        """As it is printed."""
        measured = self.seconds or [0.0]
        return {
            "outcomes": dict(self.outcomes),
            "wrong": self.wrong[:20],
            "num_429": self.num_retries,
            "wall_s": round(self.wall_s, 2),
            "pictures_per_s": round(self.outcomes["drawn"] / max(self.wall_s, 1e-9), 3),
            "latency_s": {f"p{p}": round(float(np.percentile(measured, p)), 3) for p in (50, 95, 99)},
        }


def make_requests(count: int, seed: int) -> list[Request]:
    """Mixed requests of 0 to 4 references."""
    rng = np.random.default_rng(seed)
    requests = []
    for number in range(count):
        num_references = int(rng.integers(0, 5))
        pictures = [rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(num_references)]
        pairs = [(Image.fromarray(picture), "object") for picture in pictures]
        markers = "".join(f" with [ref#{i + 1}]" for i in range(num_references))
        text = _WORDS[int(rng.integers(len(_WORDS)))] + markers
        kind = str(rng.choice(KINDS, p=KIND_SHARES))
        steps, guidance = STEPS[int(rng.integers(len(STEPS)))], GUIDANCE[int(rng.integers(len(GUIDANCE)))]
        requests.append(Request(number, kind, Instruction.build(text, pairs), steps, guidance))
    return requests


class Server:
    """`instruct-imagen serve` in a process of its own."""

    def __init__(self, model: str, options: list[str]):
        command = [sys.executable, "-m", "instruct_imagen.cli", "serve", "--model", model, "--port", "0", *options]
        started = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.url = self._address()
        with httpx2.Client(trust_env=False) as client:
            while client.get(f"{self.url}/readyz").status_code != 200:
                time.sleep(0.05)
        self.start_s = time.monotonic() - started
        self.memory_mib: list[float] = []
        self._watching = threading.Event()

    def _address(self) -> str:
        """Reads the log until the address stands in it; then goes on reading, so that the pipe never fills."""
        assert self.process.stderr is not None
        found: list[str] = []
        said = threading.Event()

        def read() -> None:
            for line in self.process.stderr or ():
                if match := re.search(r"serving .* at (http://[0-9.:]+)", line):
                    found.append(match[1])
                    said.set()
            said.set()

        threading.Thread(target=read, daemon=True).start()
        if not said.wait(START_S) or not found:
            self.process.kill()
            raise SystemExit("the server did not start")
        return found[0]

    def watch_memory(self) -> None:
        """Notes the resident memory every half second."""

        def watch() -> None:
            process = psutil.Process(self.process.pid)
            while not self._watching.wait(0.5) and self.process.poll() is None:
                self.memory_mib.append(process.memory_info().rss / 1024**2)

        threading.Thread(target=watch, daemon=True).start()

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> float:
        """Stops it; returns the seconds until it had ended."""
        self._watching.set()
        started = time.monotonic()
        self.process.send_signal(kind)
        self.process.wait(180)
        return time.monotonic() - started


class Judge:
    """Draws the same pictures with the pipeline in this process, and compares."""

    def __init__(self, model: str):
        hide_loading_bars()
        self._pipeline = InstructImagenPipeline.from_pretrained(model)
        self._pipeline.set_progress_bar_config(disable=True)

    def fault(self, request: Request, content: bytes) -> str | None:
        """What is wrong with an answer; None: nothing."""
        made = read_provenance(content)
        if (made.seed, made.instruction) != (request.number, request.instruction.text):
            return f"request {request.number} got the picture of {made.seed}"
        text, image = request.guidance
        generator = [torch.Generator().manual_seed(request.number)]
        drawn = self._pipeline(request.instruction, request.steps, text, image, generator=generator).images[0]
        found = Image.open(io.BytesIO(content))
        difference = np.abs(np.asarray(found, dtype=int) - np.asarray(tile(drawn, found.size[0]), dtype=int)).max()
        return None if difference <= MAX_LEVELS else f"request {request.number} differs by {difference} levels"


async def send(client: httpx2.AsyncClient, request: Request, tally: Tally) -> bytes | None:
    """One request to its end; a refusal for want of a place is tried again when the server says."""
    while True:
        started = time.monotonic()
        if request.kind == "cancelled":
            async with client.stream("POST", "/v1/instruct", json=request.body) as answer:
                if answer.status_code == 200:
                    lines = answer.aiter_lines()
                    for _ in range(1 + request.number % 8):
                        await anext(lines, "")
                    await lines.aclose()
                    tally.outcomes["left"] += 1
                    return None
                await answer.aread()
        else:
            answer = await client.post("/v1/instruct", json=request.body)
        if answer.status_code == 429:
            tally.num_retries += 1
            await asyncio.sleep(min(2.0, float(answer.headers["Retry-After"])))
            continue
        if request.kind == "invalid":
            tally.outcomes["refused" if answer.status_code == 400 else f"invalid: {answer.status_code}"] += 1
            return None
        if answer.status_code != 200:
            tally.outcomes[f"status {answer.status_code}"] += 1
            return None
        pictures = answer.json()["data"]
        tally.outcomes["drawn" if len(pictures) == 1 else "not one picture"] += 1
        tally.seconds.append(time.monotonic() - started)
        return base64.b64decode(pictures[0]["b64_json"])


async def load(url: str, requests: list[Request], concurrency: int) -> tuple[Tally, dict[int, bytes]]:
    """Sends all requests from `concurrency` clients; the pictures by request."""
    tally, pictures, waiting = Tally(), dict[int, bytes](), iter(requests)
    async with httpx2.AsyncClient(base_url=url, timeout=REQUEST_S, trust_env=False) as client:

        async def one_client() -> None:
            for request in waiting:
                content = await send(client, request, tally)
                if content is not None:
                    pictures[request.number] = content

        started = time.monotonic()
        await asyncio.gather(*(one_client() for _ in range(concurrency)))
        tally.wall_s = time.monotonic() - started
    return tally, pictures


def flatness(memory_mib: list[float]) -> dict[str, float]:
    """Resident memory after a quarter of the run and at its end (medians of an eighth each), and the highest."""
    if len(memory_mib) < 16:
        return {"highest_mib": round(max(memory_mib, default=0.0), 1)}
    eighth = len(memory_mib) // 8
    quarter = float(np.median(memory_mib[2 * eighth : 3 * eighth]))
    end = float(np.median(memory_mib[-eighth:]))
    return {"quarter_mib": round(quarter, 1), "end_mib": round(end, 1), "highest_mib": round(max(memory_mib), 1)}


def measure(model: str, requests: list[Request], concurrency: int, num_single: int) -> dict[str, object]:
    """One by one, then all together, against the same server."""
    server = Server(model, ["--size", "64", "--queue", "64"])
    valid = [request for request in requests if request.kind == "valid"]
    asyncio.run(load(server.url, valid[:2], 1))  # warm
    single, _ = asyncio.run(load(server.url, valid[:num_single], 1))
    server.watch_memory()
    together, pictures = asyncio.run(load(server.url, requests, concurrency))
    stop_s = server.stop()
    judge = Judge(model)
    found = {request.number: request for request in requests}
    faults = (judge.fault(found[number], content) for number, content in pictures.items())
    together.wrong = [fault for fault in faults if fault is not None]
    one, many = single.outcomes["drawn"] / single.wall_s, together.outcomes["drawn"] / together.wall_s
    return {
        "num_requests": len(requests),
        "by_kind": dict(Counter(request.kind for request in requests)),
        "concurrency": concurrency,
        "start_s": round(server.start_s, 2),
        "stop_s": round(stop_s, 2),
        "one_by_one": single.summary(),
        "together": together.summary(),
        "speed_up": round(many / one, 3),
        "memory": flatness(server.memory_mib),
    }


def kill(model: str, requests: list[Request], concurrency: int) -> dict[str, object]:
    """Kill -9 under load, restart, and whether every picture that was written is whole."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--size", "64", "--picture-dir", folder]
        first = Server(model, options)
        body = {"prompt": "a star", "response_format": "url", "num_inference_steps": 4}
        stop = threading.Event()

        def ask() -> None:
            with httpx2.Client(base_url=first.url, timeout=30, trust_env=False) as client:
                while not stop.is_set():
                    try:
                        client.post("/v1/images/generations", json=body)
                    except httpx2.HTTPError:
                        return

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(concurrency)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 120
        while len(list(Path(folder).iterdir())) < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        first.stop(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join(60)
        files = [path for path in Path(folder).iterdir() if not path.name.startswith(".")]
        for path in files:
            read_provenance(path)
            Image.open(path).load()
        second = Server(model, options)
        tally, _ = asyncio.run(load(second.url, [r for r in requests if r.kind == "valid"][:4], 2))
        left = len(list(Path(folder).glob(".*")))
        second.stop()
    return {
        "num_whole_files": len(files),
        "num_half_files": left,
        "first_start_s": round(first.start_s, 2),
        "restart_s": round(second.start_s, 2),
        "drawn_after_restart": tally.outcomes["drawn"],
    }


def main() -> None:
    """Prints the measures and, if asked, writes them as JSON; ends with 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="instruct-imagen-nano")
    parser.add_argument("--num-requests", type=int, default=1_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--num-single", type=int, default=10**9, help="valid requests sent one by one (all)")
    parser.add_argument("--kill", action="store_true", help="also kill -9 under load, and restart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    requests = make_requests(args.num_requests, args.seed)
    found = measure(args.model, requests, args.concurrency, args.num_single)
    if args.kill:
        found["kill"] = kill(args.model, requests, args.concurrency)
    print(json.dumps(found, indent=2))
    if args.json:
        write_json(args.json, found)
    outcomes = Counter(found["together"]["outcomes"])  # type: ignore[index]
    expected = {"drawn": "valid", "left": "cancelled", "refused": "invalid"}
    wanted = {outcome: found["by_kind"].get(kind, 0) for outcome, kind in expected.items()}  # type: ignore[union-attr]
    if found["together"]["wrong"] or dict(outcomes) != {k: v for k, v in wanted.items() if v}:  # type: ignore[index]
        sys.exit("an answer was wrong or missing")


if __name__ == "__main__":
    main()
