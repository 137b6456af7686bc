"""Runs the application with uvicorn on one address."""

from __future__ import annotations

import sys

from starlette.types import ASGIApp

from ..listening import address_of, listen


def serve(app: ASGIApp, host: str, port: int, trusted_proxy: str = "127.0.0.1", quiet: bool = False) -> None:
    """Serves until it is stopped; says on standard output where.

    Args:
        app: the application.
        host: address to listen at.
        port: 0 for a free one.
        trusted_proxy: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed, parted by commas.
        quiet: say nothing.

    Raises:
        ListenError: nobody can listen there.
    """
    import uvicorn

    listener = listen(host, port)
    if not quiet:
        print(f"The page is at {address_of(listener)} (Ctrl-C stops it)")
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
