"""What stands before the application: headers, the origin of requests, their size, and how often one may try.

Written as plain ASGI, so that every answer passes here: errors, pictures and pages alike.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-robots-tag": "noindex",
}
MAX_BODY_BYTES = 16 * 2**10
_MAX_ADDRESSES = 10_000


class Protection:
    """Wraps an application.

    * Every answer gets HEADERS, and `Cache-Control: no-store` unless it says otherwise.
    * A request that changes something must come from the site's own pages: browsers say so in `Sec-Fetch-Site` and
      `Origin`, and another site can send no `application/json` without asking first. Requests with a bearer token are
      not a browser's. With the strict cookie this keeps other sites from acting for a rater.
    * A body longer than allowed is refused while it comes in.

    Args:
        app: the application.
        max_bodies: bytes by the beginning of a path, for those that take more than MAX_BODY_BYTES.
    """

    def __init__(self, app: App, max_bodies: MutableMapping[str, int] | None = None) -> None:
        self.app = app
        self.max_bodies = dict(max_bodies or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _protected(message.get("headers", ()))
            await send(message)

        if scope["method"] not in SAFE_METHODS and not _is_own(headers):
            await _refuse(send_protected, 403, "This request does not come from the page itself.")
            return
        limit = next((n for path, n in self.max_bodies.items() if scope["path"].startswith(path)), MAX_BODY_BYTES)
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit:
            await _refuse(send_protected, 413, f"The request has more than {limit:,} bytes.")
            return
        await self.app(scope, _limited(receive, limit), send_protected)


class AttemptLimiter:
    """Counts failed attempts by address; thread-safe, and in memory only.

    Args:
        most: so many failures are allowed ...
        seconds: ... in any such time.
    """

    def __init__(self, most: int = 10, seconds: float = 300.0) -> None:
        self.most, self.seconds = most, seconds
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> int:
        """How long this address has to wait before it may try; 0 if it may."""
        with self._lock:
            failures = self._recent(address)
            if len(failures) < self.most:
                return 0
            return max(1, round(failures[0] + self.seconds - time.monotonic()))

    def failed(self, address: str) -> None:
        """Notes a failure."""
        with self._lock:
            failures = self._recent(address)
            failures.append(time.monotonic())
            self._failures[address] = failures
            self._failures.move_to_end(address)
            while len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)

    def _recent(self, address: str) -> deque[float]:
        failures = self._failures.get(address, deque(maxlen=self.most))
        while failures and failures[0] <= time.monotonic() - self.seconds:
            failures.popleft()
        return failures


class BodyTooLongError(Exception):
    """More came in than was allowed, whatever its header said."""


def _limited(receive: Receive, limit: int) -> Receive:
    left = limit

    async def receive_counted() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise BodyTooLongError
        return message

    return receive_counted


def _is_own(headers: MutableMapping[str, str]) -> bool:
    if headers.get("authorization", "").lower().startswith("bearer "):
        return True
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:  # no page can forge it, and no proxy spoils it
        if site != "same-origin":
            return False
    elif origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return False
    return headers.get("content-type", "").split(";")[0].strip() == "application/json"


def _protected(headers: Any) -> list[tuple[bytes, bytes]]:
    kept = [(name.lower(), value) for name, value in headers]
    names = {name for name, _ in kept}
    added = {**HEADERS, "cache-control": "no-store"}
    return kept + [(n.encode(), v.encode()) for n, v in added.items() if n.encode() not in names]


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = b'{"error": "%s"}' % sentence.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
