"""A real server on loopback in a thread of the test's process, around the debug model."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import numpy as np
import torch
import uvicorn
from PIL import Image

from instruct_imagen.instruction import Instruction
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.serving.app import create_app
from instruct_imagen.serving.engine import LocalEngine
from instruct_imagen.serving.metrics import Metrics
from instruct_imagen.serving.server import bind
from instruct_imagen.serving.settings import ServerSettings
from instruct_imagen.serving.stages import BaseStage, Stage
from instruct_imagen.sheet import tile

MODEL = "debug"


def picture(seed: int, size: tuple[int, int] = (24, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def opened(b64_json: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def reference_picture(
    pipeline: InstructImagenPipeline, instruction: Instruction, seed: int, steps: int, size_px: int, **options: float
) -> np.ndarray:
    """What the pipeline alone draws, at the size of the server's file."""
    image = pipeline(instruction, steps, generator=[torch.Generator().manual_seed(seed)], **options).images[0]
    return np.asarray(tile(image, size_px), dtype=int)


def difference(image: Image.Image, expected: np.ndarray) -> int:
    return int(np.abs(np.asarray(image.convert("RGB"), dtype=int) - expected).max())


class Held(BaseStage):
    """A base stage that takes no step while `hold` is set."""

    def __init__(self, pipeline: InstructImagenPipeline):
        super().__init__(pipeline)
        self.inner, self.denoiser = self.denoiser, self
        self.free = threading.Event()
        self.free.set()

    def predict(self, denoisings):
        self.free.wait(60)
        return self.inner.predict(denoisings)

    @contextmanager
    def hold(self) -> Iterator[None]:
        self.free.clear()
        try:
            yield
        finally:
            self.free.set()


@dataclass(frozen=True)
class Running:
    """A server: its address, its engine, and a client for it."""

    url: str
    engine: LocalEngine
    metrics: Metrics
    http: httpx2.Client

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"instruct_imagen_{name}"))

    def wait_until(self, condition, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)


@contextmanager
def running(
    pipeline: InstructImagenPipeline, settings: ServerSettings, stages: Sequence[Stage] | None = None
) -> Iterator[Running]:
    """A server with these settings."""
    metrics, limits = Metrics(), settings.limits
    engine = LocalEngine(
        stages or [BaseStage(pipeline, settings.exact)], limits.num_running, limits.num_waiting, metrics
    )
    app = create_app(settings, engine, pipeline.size_px, metrics)
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield Running(url, engine, metrics, client)
    server.should_exit = True
    thread.join(20)
    engine.close(20)
    listening.close()
