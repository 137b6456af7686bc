"""Runs the application with uvicorn on one address."""

from __future__ import annotations

import socket
import sys

from starlette.types import ASGIApp

from .records import RatingError


def serve(app: ASGIApp, host: str, port: int, trusted_proxy: str = "127.0.0.1", quiet: bool = False) -> None:
    """Serves until it is stopped; says on standard output where.

    Args:
        app: the application.
        host: address to listen at.
        port: 0 for a free one.
        trusted_proxy: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed, parted by commas.
        quiet: say nothing.

    Raises:
        RatingError: nobody can listen there.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise RatingError(f"Nothing can listen at {host}:{port} ({error.strerror}); choose another --port.") from error
    shown = f"[{host}]" if ":" in host else host
    if not quiet:
        print(f"The page is at http://{shown}:{listener.getsockname()[1]}/ (Ctrl-C stops it)")
        sys.stdout.flush()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=trusted_proxy,
        timeout_graceful_shutdown=10,
    )
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
