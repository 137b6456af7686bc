"""Answers that are bound to their client: when it leaves, what it asked for is cancelled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .errors import ApiError, as_api_error

Result = TypeVar("Result")


def sse(event: str, data: dict[str, Any]) -> bytes:
    """One server-sent event; JSON has no line breaks of its own."""
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class EventStream(StreamingResponse):
    """Server-sent events from a generator, which is closed whichever way the answer ends."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None]):
        self._events = events
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._all(first), media_type="text/event-stream", headers=headers)

    @classmethod
    async def begun(cls, events: AsyncGenerator[bytes, None]) -> EventStream:
        """The answer, once the first event is there: what is refused before is refused with a status of its own."""
        return cls(await anext(events), events)

    async def _all(self, first: bytes) -> AsyncGenerator[bytes, None]:
        yield first
        try:
            async for event in self._events:
                yield event
        except Exception as error:  # the status is long sent, so the fault is the last event
            yield sse("error", as_api_error(error).body())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As `StreamingResponse`."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves.

    Raises:
        ApiError: the client has left; nobody reads it, but the log shows 499 as other servers' logs do.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(499, "The client has left.", "client_left")
    finally:
        for running in (task, watch):
            running.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
