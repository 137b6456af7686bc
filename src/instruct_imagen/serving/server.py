"""Runs the application in this process, until a signal: then what was accepted is finished and nothing new taken."""

from __future__ import annotations

import logging
import signal
import socket
from types import FrameType
from typing import Any

import torch

from ..pipeline import InstructImagenPipeline, hide_loading_bars
from .app import create_app
from .engine import LocalEngine
from .metrics import Metrics
from .settings import ServerError, ServerSettings
from .stages import stages_of

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 15


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ServerError: the address is taken, or is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(256)
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ServerError(f"{host}:{port} cannot be listened on ({reason}); choose another --host or --port") from error
    return found


def local_engine(settings: ServerSettings, metrics: Metrics) -> tuple[LocalEngine, int]:
    """The engine of this process and the side of the references that its model reads.

    Raises:
        ModelError: no such model.
    """
    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(settings.model)
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
