"""Runs the application in this process, until a signal: then what was accepted is finished and nothing new taken."""

from __future__ import annotations

import logging
import signal
import socket
from types import FrameType
from typing import Any

import torch

from ..model_folders import hide_loading_bars
from ..pipeline import InstructImagenPipeline
from .app import create_app
from .engine import LocalEngine
from .metrics import Metrics
from .settings import ServerSettings
from .stages import stages_of

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 15


def local_engine(settings: ServerSettings, metrics: Metrics) -> tuple[LocalEngine, int]:
    """The engine of this process and the side of the references that its model reads.

    Raises:
        ModelError: no such model.
        AdapterError: no such adapter, or it does not fit.
    """
    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(settings.model)
    for name_or_path, scale in settings.adapters:
        pipeline.load_lora(name_or_path, scale)
    if torch.cuda.is_available():
        pipeline.to("cuda")
    limits = settings.limits
    engine = LocalEngine(stages_of(pipeline, settings.exact), limits.num_running, limits.num_waiting, metrics)
    return engine, pipeline.size_px


def run_server(app: Any, listening: socket.socket, engine: LocalEngine, grace_seconds: float) -> None:
    """Serves until SIGINT or SIGTERM; a second SIGINT stops at once."""
    import uvicorn

    class Server(uvicorn.Server):
        """Tells the engine at once, so that nothing new is accepted while what was accepted is finished."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            _log.info("stopping: finishing what was accepted")
            engine.begin_draining()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
    )
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn sends it on when it has stopped; the exit code is 0
    try:
        Server(config).run(sockets=[listening])
    finally:
        if not engine.close(timeout_s=5):
            _log.warning("the time to finish is over; what was left is lost")


def serve(settings: ServerSettings, listening: socket.socket) -> None:
    """Loads the model and serves it; the address is said once requests are taken."""
    metrics = Metrics()
    engine, model_px = local_engine(settings, metrics)
    app = create_app(settings, engine, model_px, metrics)
    host, port = listening.getsockname()[:2]
    _log.info("serving %s at http://%s:%d", settings.name, f"[{host}]" if ":" in host else host, port)
    run_server(app, listening, engine, settings.grace_seconds)
