"""The same application on a Ray cluster: one front that speaks HTTP, and engines as autoscaling replicas behind it.

The front holds the whole application (keys, limits, both APIs) but no model; a request goes to a replica as a stream of
events. Pictures depend on their seed alone, so a request whose replica dies is begun again on another one, and its
client notices nothing but the time: what was accepted is answered, once.

    instruct-imagen serve --engine ray --min-replicas 2 --max-replicas 8
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from ..retrieval.ray_engine import check_answers
from .app import create_app
from .drawing import Accepted, Drawn, DrawRequest, EngineError, Event, QueueFullError
from .logs import use_json_logs
from .metrics import Metrics
from .server import local_engine
from .settings import ServerError, ServerSettings

APP_NAME = "instruct-imagen"
_RETRY_PAUSE_S = 0.5
_BUSY_RETRY_S = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayOptions:
    """Where and how large.

    Attributes:
        host, port: of the front, on the cluster's head.
        address: of a running cluster, or "auto"; None: a new one on this machine.
        min_replicas, max_replicas: engines; Ray starts and stops them by the number of open requests.
        cpus, gpus: of one engine.
        upscale_delay_s: how long there must be too much work before an engine is added.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    address: str | None = None
    min_replicas: int = 1
    max_replicas: int = 4
    cpus: float = 1.0
    gpus: float = 0.0
    upscale_delay_s: float = 10.0


@dataclass(frozen=True)
class _Full:
    """A replica's answer when it has no place; a value, because Ray wraps errors."""

    retry_after_s: int


class Drawer:
    """One replica: a model and its engine."""

    def __init__(self, settings: ServerSettings):
        use_json_logs()
        self._engine, self._model_px = local_engine(settings, Metrics())

    def model_px(self) -> int:
        """Side of the references that the model reads."""
        return self._model_px

    async def draw(self, request: DrawRequest) -> AsyncIterator[Event | _Full]:
        """See `drawing.Engine.draw`."""
        try:
            async with aclosing(self._engine.draw(request)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        except QueueFullError as error:
            yield _Full(error.retry_after_s)

    def check_health(self) -> None:
        """Asked by Ray; a replica whose engine has ended is replaced."""
        if not self._engine.ready():
            raise RuntimeError("the engine has ended")


class RayEngine:
    """Draws on whichever replica is there; see `drawing.Engine`.

    Args:
        drawers: handle of the replicas.
        metrics: where repeated requests are counted.
    """

    def __init__(self, drawers: Any, metrics: Metrics):
        self._draw, self._metrics = drawers.options(stream=True).draw, metrics

    def ready(self) -> bool:
        """A request waits for a replica, so it is always taken."""
        return True

    async def draw(self, request: DrawRequest) -> AsyncIterator[Event]:
        """See `drawing.Engine.draw`; a lost replica's work is done again by another one, as often as needed."""
        accepted, delivered = False, set[int]()
        while True:
            answers = self._draw.remote(request)
            try:
                async for event in answers:
                    if isinstance(event, _Full):
                        if not accepted:
                            raise QueueFullError(event.retry_after_s)
                        break  # it was accepted elsewhere, so it waits until there is a place
                    if isinstance(event, Accepted):
                        if accepted:
                            continue
                        accepted = True
                    if isinstance(event, Drawn):
                        if event.picture in delivered:
                            continue
                        delivered.add(event.picture)
                    yield event
                else:
                    return
            except BackPressureError as error:
                if not accepted:
                    raise QueueFullError(_BUSY_RETRY_S) from error
            except (ray.exceptions.RayTaskError, ray.exceptions.TaskCancelledError) as error:
                raise EngineError("drawing failed") from error
            except (ray.exceptions.RayError, ReplicaUnavailableError, DeploymentUnavailableError) as error:
                _log.warning("a replica was lost (%s); its request begins again", type(error).__name__)
                self._metrics.repeated.inc()
            finally:
                answers.cancel()
            await asyncio.sleep(_RETRY_PAUSE_S)


class Front:
    """The application; built in the replica itself, because it cannot be sent."""

    async def __init__(self, settings: ServerSettings, drawers: Any):  # type: ignore[misc]  # Ray awaits it
        use_json_logs()
        self._settings, self._drawers = settings, drawers
        self._model_px = await drawers.model_px.remote()

    def __serve_build_asgi_app__(self) -> Any:
        """Asked by Ray once the constructor is done."""
        metrics = Metrics()
        return create_app(self._settings, RayEngine(self._drawers, metrics), self._model_px, metrics)


def application(settings: ServerSettings, options: RayOptions) -> Any:
    """The Serve application: the front, bound to the replicas."""
    limits, grace = settings.limits, settings.grace_seconds
    drawers: Any = serve.deployment(
        Drawer,
        name="drawer",
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        max_ongoing_requests=limits.num_running + limits.num_waiting,
        max_queued_requests=limits.num_open,
        graceful_shutdown_timeout_s=grace,
        health_check_period_s=2,
        health_check_timeout_s=30,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": max(1, limits.num_running // 2),
            "upscale_delay_s": options.upscale_delay_s,
            "downscale_delay_s": 60 * options.upscale_delay_s,
        },
    )
    front: Any = serve.deployment(
        serve.ingress()(Front),
        name="front",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=limits.num_open,
        graceful_shutdown_timeout_s=grace,
    )
    return front.bind(settings, drawers.bind(settings))


def start_on_ray(settings: ServerSettings, options: RayOptions) -> None:
    """Connects to the cluster, or starts one, and deploys; returns when requests are taken.

    Raises:
        ServerError: no cluster answers, or the application does not start.
    """
    try:
        if not ray.is_initialized():
            check_answers(options.address)
            ray.init(
                address=options.address, log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING
            )
        serve.start(proxy_location="HeadOnly", http_options={"host": options.host, "port": options.port})
        serve.run(application(settings, options), name=APP_NAME, route_prefix="/")
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ServerError(
            f"the server did not start on Ray ({reason[:200]}); `ray status` shows the cluster"
        ) from error


def serve_on_ray(settings: ServerSettings, options: RayOptions) -> None:
    """Deploys and stays until SIGINT or SIGTERM; then what was accepted is finished."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    start_on_ray(settings, options)
    _log.info("serving %s at http://%s:%d on Ray", settings.name, options.host, options.port)
    stop.wait()
    _log.info("stopping: finishing what was accepted")
    serve.delete(APP_NAME)
    serve.shutdown()
