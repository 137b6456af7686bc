"""What an engine is asked for and what it answers: the seam between HTTP and the model, on one machine or many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from ..instruction import Instruction


class EngineError(Exception):
    """A request that was not drawn, through no fault of its own."""


class QueueFullError(EngineError):
    """No place is left to wait.

    Attributes:
        retry_after_s: whole seconds after which a place is likely.
    """

    def __init__(self, retry_after_s: int):
        super().__init__(f"every place is taken; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s

    def __reduce__(self):
        return type(self), (self.retry_after_s,)


class DrainingError(EngineError):
    """The server is stopping: it finishes what it accepted and takes nothing new."""


@dataclass(frozen=True)
class DrawRequest:
    """Pictures of one instruction.

    Attributes:
        instruction: with its references.
        seeds: one per picture; a picture depends on its seed, the instruction and the fields below, on nothing else.
        num_inference_steps: denoising steps of the base model.
        guidance_scale, image_guidance_scale: see `InstructImagenPipeline.__call__`.
        progress: whether steps are reported.
        preview_every: every so many steps the report holds a preview; 0: never.
    """

    instruction: Instruction
    seeds: tuple[int, ...]
    num_inference_steps: int
    guidance_scale: float = 3.0
    image_guidance_scale: float | None = None
    progress: bool = False
    preview_every: int = 0


@dataclass(frozen=True)
class Accepted:
    """First answer: the request has its place; `num_waiting` pictures are before it."""

    num_waiting: int


@dataclass(frozen=True)
class Progress:
    """One step of one picture; `preview` is what the clean picture looks like so far, at the stage's own size."""

    picture: int
    stage: str
    step: int
    num_steps: int
    preview: Image.Image | None = None


@dataclass(frozen=True)
class Drawn:
    """One finished picture, at the model's own size; `picture` counts from 0 in the order of the seeds."""

    picture: int
    image: Image.Image


Event = Accepted | Progress | Drawn


class Engine(Protocol):
    """Draws; closing the iterator of `draw` cancels the request and frees its places."""

    def draw(self, request: DrawRequest) -> AsyncIterator[Event]:
        """`Accepted`, then steps if asked for, then every picture once.

        Raises:
            QueueFullError: no place is left.
            DrainingError: the server is stopping.
            EngineError: drawing failed.
        """
        ...

    def ready(self) -> bool:
        """Whether requests are taken and drawn."""
        ...
