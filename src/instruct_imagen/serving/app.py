"""The application: both APIs, health, metrics, around any engine."""

from __future__ import annotations

from fastapi import FastAPI, Response

from .. import __version__
from .document import describe
from .drawing import Engine
from .errors import ApiError, add_handlers
from .metrics import Metrics
from .middleware import Gate
from .native_api import native_routes
from .openai_api import openai_routes
from .service import Service
from .settings import ServerSettings


def create_app(settings: ServerSettings, engine: Engine, model_px: int, metrics: Metrics) -> FastAPI:
    """The ASGI application of one server.

    Args:
        settings: what is served, to whom, within which limits.
        engine: draws; the caller closes it.
        model_px: side of the references that the model reads.
        metrics: where to count; the engine's too.

    Raises:
        ServerError: the settings cannot be met.
    """
    service = Service(settings, engine, model_px, metrics)
    app = FastAPI(
        title="Instruct-Imagen",
        version=__version__,
        description="Pictures from instructions with references, as OpenAI's images API has them and as its own.",
    )
    add_handlers(app)
    app.include_router(openai_routes(service))
    app.include_router(native_routes(service))

    @app.get("/healthz", tags=["Operation"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["Operation"], responses={503: {"description": "Starting, stopping or broken"}})
    async def readyz() -> dict[str, str]:
        """Requests are taken and drawn."""
        if not engine.ready():
            raise ApiError(503, "The server takes no requests now.", "not_ready")
        return {"status": "ready"}

    @app.get("/metrics", tags=["Operation"], response_class=Response)
    async def counted() -> Response:
        """For Prometheus."""
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    describe(app)
    app.add_middleware(Gate, limits=settings.limits, metrics=metrics)
    return app
