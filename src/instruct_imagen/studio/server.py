"""The studio as a web application, and serving it.

Nothing on the page asks another host for anything: Gradio's analytics, fonts and sharing are off, and a content
security policy makes the browser refuse whatever would be asked for all the same.
"""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.controls import ControlModels
from .pictures import PictureStore, StudioError
from .studio import Studio

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from .drawing import Painter

MAX_UPLOAD = "30mb"
MAX_WAITING = 32
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    # Gradio compiles its templates in the browser
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def serve_studio(
    painter: Painter,
    host: str,
    port: int,
    controls: ControlModels | None = None,
    pack: str = "auto",
    keep: Path | None = None,
) -> None:
    """Serves the page until it is stopped, and says on standard output where.

    Args:
        painter: what draws.
        host, port: address to listen at; port 0 is a free one.
        controls, pack, keep: see `Studio`.

    Raises:
        StudioError: Gradio is not installed, or nothing can listen there.
        OutputError: nothing can be written to `keep`.
    """
    _require_gradio()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise StudioError(f"Nothing can listen at {host}:{port} ({error.strerror}); choose another --port.") from error
    with listener, tempfile.TemporaryDirectory(prefix="instruct-imagen-studio-") as folder:
        app = make_app(painter, Path(folder), controls, pack, keep)
        shown = f"[{host}]" if ":" in host else host
        print(f"The studio is at http://{shown}:{listener.getsockname()[1]}/ (Ctrl-C stops it)", flush=True)
        make_server(app).run(sockets=[listener])


def make_app(
    painter: Painter,
    folder: Path,
    controls: ControlModels | None = None,
    pack: str = "auto",
    keep: Path | None = None,
) -> FastAPI:
    """The page as an application that any ASGI server runs.

    Args:
        painter: what draws.
        folder: a folder for the visits' files; whoever made it takes it away.
        controls, pack, keep: see `Studio`.

    Raises:
        StudioError: Gradio is not installed.
        OutputError: nothing can be written to `keep`.
    """
    _require_gradio()
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(folder / "uploads"))
    import gradio as gr
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse

    from .page import ASSETS, build_page

    for name in ("uploads", "pictures"):
        (folder / name).mkdir()
    store = PictureStore(folder / "pictures", folder / "uploads")
    studio = Studio(painter, store, controls, pack, keep)
    app = FastAPI(openapi_url=None)

    def picture(name: str, small: bool) -> FileResponse:
        try:
            path = store.path(name, small)
        except StudioError as error:
            raise HTTPException(404, str(error)) from error
        return FileResponse(path, media_type="image/png", headers={"cache-control": "private, max-age=86400"})

    @app.get("/pictures/{name}.png")
    def large(name: str) -> FileResponse:
        return picture(name, small=False)

    @app.get("/thumbnails/{name}.png")
    def small(name: str) -> FileResponse:
        return picture(name, small=True)

    app.add_middleware(_Headers)
    page = build_page(studio).queue(max_size=MAX_WAITING, api_open=False)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=_theme(gr),
        css_paths=ASSETS / "page.css",
        app_kwargs={"openapi_url": None},
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    mounted: Any = app.routes[-1]

    def end_streams() -> None:
        studio.end_all_visits()
        mounted.app.stop_event.set()

    app.state.end_streams = end_streams
    return app


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server for `make_app`'s application; when it is told to end, it ends the pages' open streams first."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.end_streams()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10
    )
    return Server(config)


def _theme(gr: Any) -> Any:
    """Gradio's plain theme with the system's own fonts and a calm colour."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="stone",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800")


def _require_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise StudioError("The studio needs gradio; install instruct-imagen[studio].") from error


class _Headers:
    """ASGI middleware that adds `_HEADERS` to every answer."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
