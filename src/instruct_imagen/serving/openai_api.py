"""OpenAI's images API: generations, edits, models; what its clients send is taken, what changes nothing is ignored."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from PIL import Image

from ..instruction import Instruction
from ..sheet import tile
from .bodies import EditBody, EditFields, GenerationBody, ImagesAnswer, ModelBody, ModelList
from .document import ERRORS, STREAM, body_of, form_of
from .drawing import DrawRequest, Progress
from .errors import ApiError
from .finishing import Output
from .receiving import receive
from .references import Kept, read_edit
from .service import Finished, Service
from .streaming import EventStream, sse, while_connected

_EDIT_FORM = form_of(EditFields, {"image": "files", "mask": "file"})


def openai_routes(service: Service) -> APIRouter:
    """The routes of one server."""
    router, started = APIRouter(prefix="/v1", responses=ERRORS, tags=["OpenAI"]), int(time.time())
    limits = service.settings.limits

    @router.post(
        "/images/generations",
        response_model=ImagesAnswer,
        openapi_extra=body_of(GenerationBody),
        responses=STREAM,
        response_model_exclude_none=True,
    )
    async def generations(request: Request) -> Any:
        """Draws from a prompt alone."""
        caller = service.caller(request)
        received = await receive(request, limits, forms=False)
        body = received.validate(GenerationBody)
        service.check_model(body.model)
        return await _answer(service, request, caller, "image_generation", body, Instruction(body.prompt), None)

    @router.post(
        "/images/edits",
        response_model=ImagesAnswer,
        openapi_extra=body_of(EditBody, _EDIT_FORM),
        responses=STREAM,
        response_model_exclude_none=True,
    )
    async def edits(request: Request) -> Any:
        """Draws from a prompt and pictures: picture i is [ref#i] in the prompt."""
        caller = service.caller(request)
        received = await receive(request, limits, forms=True)
        body, instruction, kept = await read_edit(received, service.pictures)
        service.check_model(body.model)
        return await _answer(service, request, caller, "image_edit", body, instruction, kept)

    @router.get("/models")
    async def models(request: Request) -> ModelList:
        """The models served."""
        service.caller(request)
        names = (service.settings.name, *service.settings.aliases)
        return ModelList(data=[ModelBody(id=name, created=started, owned_by="instruct-imagen") for name in names])

    @router.get("/models/{model}")
    async def model(request: Request, model: str) -> ModelBody:
        """One model."""
        service.caller(request)
        service.check_model(model)
        return ModelBody(id=model, created=started, owned_by="instruct-imagen")

    return router


async def _answer(
    service: Service,
    request: Request,
    caller: str,
    kind: str,
    body: GenerationBody,
    instruction: Instruction,
    kept: Kept | None,
) -> Response | ImagesAnswer:
    """Draws, and answers at once or as a stream."""
    by_url, stream = body.response_format == "url", bool(body.stream)
    if stream and (by_url or (body.n or 1) > 1):
        raise ApiError(400, "A stream holds one picture as 'b64_json'; leave out n and url.", "invalid_value", "stream")
    num_partial = (body.partial_images or 0) if stream else 0
    num_steps = body.num_inference_steps or service.settings.default_steps
    every = max(1, num_steps // (num_partial + 1)) if num_partial else 0
    drawing, output = service.plan(
        body, instruction, kept=kept, by_url=by_url, progress=num_partial > 0, preview_every=every
    )
    if stream:
        return await EventStream.begun(_events(service, request, caller, kind, drawing, output, num_partial))
    pictures = await while_connected(request, service.collect(request, caller, drawing, output))
    size = f"{output.size_px}x{output.size_px}"
    return ImagesAnswer(created=int(time.time()), data=pictures, output_format=output.form, size=size)


async def _events(
    service: Service,
    request: Request,
    caller: str,
    kind: str,
    drawing: DrawRequest,
    output: Output,
    num_partial: int,
) -> AsyncGenerator[bytes, None]:
    """OpenAI's events: partial pictures, then the whole one. A comment comes first, when the request is accepted."""
    common = {
        "size": f"{output.size_px}x{output.size_px}",
        "quality": "auto",
        "background": "opaque",
        "output_format": output.form,
    }
    num_sent = 0
    async with aclosing(service.draw(request, caller, drawing, output)) as events:
        async for event in events:
            values = {**common, "created_at": int(time.time())}
            if isinstance(event, Finished):
                name = f"{kind}.completed"
                usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
                details = {"input_tokens_details": {"text_tokens": 0, "image_tokens": 0}}
                picture = {"b64_json": event.body.b64_json, "usage": {**usage, **details}}
                yield sse(name, {"type": name, **values, **picture})
            elif isinstance(event, Progress):
                if event.preview is not None and num_sent < num_partial:
                    name, content = f"{kind}.partial_image", await asyncio.to_thread(_enlarged, event.preview, output)
                    yield sse(name, {"type": name, **values, "b64_json": content, "partial_image_index": num_sent})
                    num_sent += 1
            else:
                yield b": accepted\n\n"


def _enlarged(preview: Image.Image, output: Output) -> str:
    buffer = io.BytesIO()
    tile(preview, output.size_px).save(buffer, output.form.upper())
    return base64.b64encode(buffer.getvalue()).decode()
