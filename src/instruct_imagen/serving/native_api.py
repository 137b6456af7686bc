"""The project's own endpoint: instructions with any markers, progress with previews, cancelling."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from PIL import Image
from pydantic import BaseModel, ValidationError

from .bodies import InstructAnswer, InstructBody
from .document import ERRORS, STREAM, body_of, form_of
from .drawing import Accepted, DrawRequest, Progress
from .errors import ApiError
from .finishing import Output
from .receiving import Received, receive
from .references import read_instruction
from .service import Finished, Service
from .store import MEDIA_TYPES
from .streaming import EventStream, sse, while_connected

Item = TypeVar("Item")
_FORM = form_of(None, {"request": "json"})


class Cancelled(BaseModel):
    """What was cancelled."""

    id: str
    cancelled: bool = True


class _Active:
    """Requests that are being drawn, by id, with whose they are and what stops them."""

    def __init__(self) -> None:
        self._stops: dict[str, tuple[str, asyncio.Event]] = {}

    def stop(self, request_id: str, caller: str) -> bool:
        """Stops a request of this caller; false if there is none."""
        owner, event = self._stops.get(request_id, ("", None))
        if event is None or owner != caller:
            return False
        event.set()
        return True

    async def until_stopped(
        self, request_id: str, caller: str, items: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Item, None]:
        """The items, until somebody stops the request.

        Raises:
            ApiError: it was stopped.
        """
        event = asyncio.Event()
        self._stops[request_id] = caller, event
        stopping = asyncio.ensure_future(event.wait())
        following: asyncio.Future[Item] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(items))
                await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    raise ApiError(409, "The request was cancelled.", "cancelled")
                try:
                    item = following.result()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            del self._stops[request_id]
            running = [future for future in (following, stopping) if future is not None]
            for future in running:
                future.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await items.aclose()


def native_routes(service: Service) -> APIRouter:
    """The routes of one server."""
    router, active = APIRouter(prefix="/v1", responses=ERRORS, tags=["Instruct-Imagen"]), _Active()

    @router.post(
        "/instruct",
        response_model=InstructAnswer,
        openapi_extra=body_of(InstructBody, _FORM),
        responses=STREAM,
        response_model_exclude_none=True,
    )
    async def instruct(request: Request) -> Any:
        """Draws an instruction; with `stream`, answers with events (accepted, progress, picture, done, error)."""
        caller = service.caller(request)
        received = await receive(request, service.settings.limits, forms=True)
        body = _body(received)
        instruction = await read_instruction(body, [f for f in received.files if f[0] != "request"], service.pictures)
        drawing, output = service.plan(
            body, instruction, progress=body.stream, preview_every=body.preview_every if body.stream else 0
        )
        if body.stream:
            return await EventStream.begun(_events(service, active, request, caller, drawing, output))
        return await while_connected(request, _all(service, active, request, caller, drawing, output))

    @router.delete("/instruct/{request_id}")
    async def cancel(request: Request, request_id: str) -> Cancelled:
        """Cancels a request of the same key that is still being drawn; its place is free within a step."""
        caller = service.caller(request)
        if not active.stop(request_id, caller):
            raise ApiError(404, "There is no such request that is still being drawn.", "not_found", "request_id")
        return Cancelled(id=request_id)

    @router.get("/files/{name}", response_class=FileResponse, responses={200: {"content": _PICTURES}})
    async def picture(name: str) -> FileResponse:
        """A picture that was asked for by URL; its name is the secret."""
        path = service.store.path(name) if service.store is not None else None
        if path is None:
            raise ApiError(404, "There is no picture of this name, or no longer.", "not_found")
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers={"X-Content-Type-Options": "nosniff"})

    return router


_PICTURES: dict[str, Any] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}


def _body(received: Received) -> InstructBody:
    """The JSON of the body, or of the form's part `request`."""
    if not received.is_form:
        return received.validate(InstructBody)
    texts = [content.decode("utf-8", "replace") for name, content in received.files if name == "request"]
    text = received.fields.get("request", texts[0] if texts else None)
    if unknown := sorted(set(received.fields) - {"request"}):
        raise ApiError(400, f"Unknown parameter: '{unknown[0][:100]}'.", "unknown_parameter", unknown[0][:100])
    if not isinstance(text, str):
        raise ApiError(400, "Missing required parameter: 'request'.", "missing_parameter", "request")
    try:
        return InstructBody.model_validate_json(text, strict=True)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise ApiError(400, "The part 'request' is not valid JSON.", "invalid_json", "request") from error
        raise


async def _all(
    service: Service, active: _Active, request: Request, caller: str, drawing: DrawRequest, output: Output
) -> InstructAnswer:
    """Every picture, in one answer."""
    request_id, found = request.state.request_id, {}
    drawn = active.until_stopped(request_id, caller, service.draw(request, caller, drawing, output))
    async with aclosing(drawn) as events:
        async for event in events:
            if isinstance(event, Finished):
                found[event.picture] = event.body
    data, size = [found[picture] for picture in range(len(found))], f"{output.size_px}x{output.size_px}"
    return InstructAnswer(id=request_id, created=int(time.time()), data=data, output_format=output.form, size=size)


async def _events(
    service: Service, active: _Active, request: Request, caller: str, drawing: DrawRequest, output: Output
) -> AsyncGenerator[bytes, None]:
    """The events of one request."""
    request_id = request.state.request_id
    drawn = active.until_stopped(request_id, caller, service.draw(request, caller, drawing, output))
    async with aclosing(drawn) as events:
        async for event in events:
            if isinstance(event, Accepted):
                values = {"id": request_id, "seeds": list(drawing.seeds), "waiting": event.num_waiting}
                yield sse("accepted", values)
            elif isinstance(event, Finished):
                yield sse("picture", {"picture": event.picture, **event.body.model_dump(exclude_none=True)})
            else:
                yield sse("progress", _progress(event))
    yield sse("done", {"id": request_id, "created": int(time.time())})


def _progress(event: Progress) -> dict[str, Any]:
    values = {"picture": event.picture, "stage": event.stage, "step": event.step, "num_steps": event.num_steps}
    return values if event.preview is None else {**values, "preview": _data_url(event.preview)}


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
