"""What both APIs share: who asks, what is drawn within the limits, and the finished files."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import Request

from ..instruction import Instruction
from .bodies import DrawingOptions, PictureBody
from .drawing import Accepted, Drawn, DrawRequest, Engine, Progress
from .errors import ApiError, too_many
from .fetching import Fetcher
from .finishing import Output, finish
from .keys import RateLimiter
from .metrics import Metrics
from .references import Kept, Pictures
from .settings import ServerSettings
from .store import PictureStore
from .watermark import MIN_SIZE_PX as MIN_WATERMARK_PX
from .watermark import Watermark

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_MIN_SIZE_PX = 16


@dataclass(frozen=True)
class Finished:
    """One picture as it is handed out: `picture` counts in the order of the seeds."""

    picture: int
    body: PictureBody


class Service:
    """One server's state.

    Args:
        settings: see there.
        engine: draws.
        model_px: side of the references that the model reads.
        metrics: where to count.

    Raises:
        ServerError: the watermark cannot be written, or the folder of pictures not be used.
    """

    def __init__(self, settings: ServerSettings, engine: Engine, model_px: int, metrics: Metrics):
        self.settings, self.engine, self.metrics = settings, engine, metrics
        limits = settings.limits
        fetcher = Fetcher(limits.body_bytes) if settings.allow_url_references else None
        self.pictures = Pictures(limits, model_px, fetcher)
        folder = settings.picture_folder
        self.store = PictureStore(folder, settings.picture_seconds) if folder is not None else None
        self._watermark = Watermark(settings.watermark) if settings.watermark else None
        self._rates = RateLimiter(limits.pictures_per_minute)
        self._finishing = asyncio.Semaphore(4)

    def caller(self, request: Request) -> str:
        """Name of the key that a request brings, or its address where there are no keys.

        Raises:
            ApiError: a key is needed, and there is none or a wrong one.
        """
        if not self.settings.keys:
            return request.client.host if request.client else "unknown"
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        name = self.settings.keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
        if name is None:
            self.metrics.refused.labels("key").inc()
            said = "is not valid" if key else "is missing"
            message = f"The API key {said}; send it as 'Authorization: Bearer KEY'."
            raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        request.state.key = name
        return name

    def check_model(self, name: str | None) -> None:
        """Refuses a model that is not served here."""
        if name is not None and name not in (self.settings.name, *self.settings.aliases):
            message = f"The model '{name}' does not exist here; this server has '{self.settings.name}'."
            raise ApiError(404, message, "model_not_found", "model")

    def plan(
        self,
        options: DrawingOptions,
        instruction: Instruction,
        *,
        kept: Kept | None = None,
        by_url: bool = False,
        progress: bool = False,
        preview_every: int = 0,
    ) -> tuple[DrawRequest, Output]:
        """What to draw and what to hand out, defaults filled in.

        Raises:
            ApiError: beyond a limit; the sentence names it.
        """
        settings, limits = self.settings, self.settings.limits
        num_images, num_steps = options.n or 1, options.num_inference_steps or settings.default_steps
        _at_most(num_images, limits.num_images, "n")
        _at_most(num_steps, limits.num_steps, "num_inference_steps")
        guidance, image_guidance = options.guidance_scale, options.image_guidance_scale
        if guidance is None and image_guidance is None:
            image_guidance = settings.default_image_guidance
        if guidance is None:
            guidance = settings.default_guidance
        _at_most(guidance, limits.guidance, "guidance_scale")
        _at_most(image_guidance or 0, limits.guidance, "image_guidance_scale")
        size_px = self._size_px(options.size)
        if num_images * size_px**2 > limits.output_pixels:
            message = f"{num_images} pictures of {size_px} x {size_px} are too many pixels; ask for fewer or smaller."
            raise ApiError(400, message, "invalid_value", "size")
        if by_url and self.store is None:
            message = "This server gives out no URLs; use response_format 'b64_json'."
            raise ApiError(400, message, "invalid_value", "response_format")
        first = secrets.randbelow(2**32) if options.seed is None else options.seed
        seeds = tuple(range(first, first + num_images))
        request = DrawRequest(instruction, seeds, num_steps, guidance, image_guidance, progress, preview_every)
        return request, Output(size_px, options.output_format or "png", by_url, kept)

    def _size_px(self, size: str | None) -> int:
        limits = self.settings.limits
        if size is None or size == "auto":
            return self.settings.default_size_px
        match = _SIZE.fullmatch(size)
        if match is None or match[1] != match[2]:
            raise ApiError(400, "'size' must be square, such as '256x256', or 'auto'.", "invalid_value", "size")
        smallest = _MIN_SIZE_PX if self._watermark is None else MIN_WATERMARK_PX
        if not smallest <= int(match[1]) <= limits.size_px:
            message = f"'size' must be from {smallest}x{smallest} to {limits.size_px}x{limits.size_px}."
            raise ApiError(400, message, "invalid_value", "size")
        return int(match[1])

    async def draw(
        self, http: Request, caller: str, request: DrawRequest, output: Output
    ) -> AsyncGenerator[Accepted | Progress | Finished, None]:
        """Draws and finishes; `Accepted` first, then progress if asked for, and every picture once.

        Raises:
            ApiError: the caller asks too often.
            EngineError: see `Engine.draw`.
        """
        wait_s = self._rates.take(caller, len(request.seeds))
        if wait_s:
            self.metrics.refused.labels("rate").inc()
            limit = self.settings.limits.pictures_per_minute
            raise too_many(f"More than {limit:g} pictures a minute; try again later.", "rate_limit_exceeded", wait_s)
        http.state.drawing = self._logged(request, output)
        async with aclosing(self.engine.draw(request)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Drawn):
                    yield Finished(event.picture, await self._finished(http, event, request, output))
                else:
                    yield event

    async def collect(self, http: Request, caller: str, request: DrawRequest, output: Output) -> list[PictureBody]:
        """All pictures, in the order of their seeds."""
        found = {}
        async with aclosing(self.draw(http, caller, request, output)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    found[event.picture] = event.body
        return [found[picture] for picture in range(len(request.seeds))]

    async def _finished(self, http: Request, drawn: Drawn, request: DrawRequest, output: Output) -> PictureBody:
        name, mark = self.settings.made_with, self._watermark
        async with self._finishing:
            content = await asyncio.to_thread(finish, drawn.image, request, drawn.picture, output, name, mark)
            seed = request.seeds[drawn.picture]
            if output.by_url and self.store is not None:
                stored = await asyncio.to_thread(self.store.write, content, output.form)
                root = self.settings.public_url or str(http.base_url)
                return PictureBody(url=f"{root.rstrip('/')}/v1/files/{stored}", seed=seed)
            return PictureBody(b64_json=base64.b64encode(content).decode(), seed=seed)

    def _logged(self, request: DrawRequest, output: Output) -> dict[str, object]:
        """What the log says about a request: numbers, and the text only where the operator wants it."""
        fields: dict[str, object] = {
            "images": len(request.seeds),
            "references": len(request.instruction.references),
            "steps": request.num_inference_steps,
            "size_px": output.size_px,
        }
        if self.settings.log_instructions:
            fields["instruction"] = request.instruction.text
        return fields


def _at_most(value: float, limit: float, name: str) -> None:
    if value > limit:
        raise ApiError(400, f"'{name}' is {value:g}; this server takes {limit:g} at most.", "invalid_value", name)
