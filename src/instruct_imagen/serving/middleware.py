"""What every request passes first: identity, limits, counting, logging."""

from __future__ import annotations

import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, too_many
from .logs import log_event
from .metrics import Metrics
from .receiving import BodyTooLarge
from .settings import Limits


class Gate:
    """Bounds open requests and bodies, names each request, and counts and logs it when it ends.

    Args:
        app: what comes after.
        limits: see `Limits`.
        metrics: where to count.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics):
        self._app, self._limits, self._metrics = app, limits, metrics
        self._num_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id, started, status = secrets.token_hex(8), time.monotonic(), [0]
        scope.setdefault("state", {})["request_id"] = request_id

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        self._num_open += 1
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, answered)
            else:
                await self._app(scope, self._bounded(receive), answered)
        finally:
            self._num_open -= 1
            self._record(scope, status[0], time.monotonic() - started)

    def _refusal(self, scope: Scope) -> ApiError | None:
        if self._num_open > self._limits.num_open:
            return too_many("Too many requests are open; try again in a moment.", "too_many_open", 1)
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self._limits.body_bytes:
            return BodyTooLarge(self._limits.body_bytes)
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """Counts a body that does not say its length, or lies about it."""
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._limits.body_bytes:
                raise BodyTooLarge(self._limits.body_bytes)
            return message

        return counted

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if route in ("/healthz", "/readyz", "/metrics"):
            return
        state: dict[str, Any] = scope["state"]
        client = scope.get("client")
        log_event(
            "request",
            request_id=state["request_id"],
            method=scope["method"],
            route=route,
            status=status or None,
            seconds=round(seconds, 3),
            key=state.get("key"),
            client=client[0] if client else None,
            drawing=state.get("drawing"),
        )
