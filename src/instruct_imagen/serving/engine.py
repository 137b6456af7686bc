"""The engine of one process: a thread that denoises, and whose batch requests join and leave between steps.

Continuous batching: every running picture, of whatever request, takes one step in one network call; then finished
ones leave, cancelled ones are dropped, and waiting ones join. Pictures of one request are independent of each other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import torch

from ..denoising import Branches, Denoising
from ..pipeline import to_images
from .drawing import Accepted, DrainingError, Drawn, DrawRequest, EngineError, Event, Progress, QueueFullError
from .metrics import Metrics
from .stages import Stage

_log = logging.getLogger(__name__)
_LONGEST_RETRY_S = 60


class _Job:
    """A request on its way; `emit` is called from the engine's thread, with None at the end."""

    def __init__(self, request: DrawRequest, emit: Callable[[Event | Exception | None], None]):
        self.request, self.emit = request, emit
        self.cancelled = False
        self.num_left = len(request.seeds)
        self.encoded: dict[str, Branches] = {}
        self.submitted = time.monotonic()


@dataclass(eq=False)
class _Picture:
    """One picture of a job: in which stage, and where in it."""

    job: _Job
    index: int
    stage: int = 0
    denoising: Denoising | None = None
    image: torch.Tensor | None = None
    generator: torch.Generator | None = None

    @property
    def num_steps_left(self) -> int:
        """Of the stage it is in, or waits for."""
        if self.denoising is None:
            return self.job.request.num_inference_steps
        return self.denoising.num_steps - self.denoising.index


class LocalEngine:
    """Draws in a thread of this process; see `drawing.Engine`.

    Args:
        stages: what every picture passes, in order.
        max_running: pictures in the batch.
        max_waiting: pictures that wait for a place in it; one more is refused.
        metrics: where to count.
    """

    def __init__(self, stages: Sequence[Stage], max_running: int, max_waiting: int, metrics: Metrics | None = None):
        self._stages, self._max_running, self._max_waiting = list(stages), max_running, max_waiting
        self._metrics = metrics or Metrics()
        self._waiting: deque[_Picture] = deque()
        self._running: list[_Picture] = []
        self._changed = threading.Condition()
        self._closing = False
        self._failure: BaseException | None = None
        self._step_s = 0.1
        self._metrics.watch_engine(lambda: len(self._waiting), lambda: len(self._running))
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    # --- asked from other threads

    async def draw(self, request: DrawRequest) -> AsyncIterator[Event]:
        """See `drawing.Engine.draw`."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event | Exception | None]()

        def emit(event: Event | Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        job = _Job(request, emit)
        num_before = self._submit(job)
        try:
            yield Accepted(num_before)
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    raise EngineError("drawing failed") from event
                yield event
        finally:
            self._cancel(job)

    def ready(self) -> bool:
        """Whether requests are taken and the thread is alive."""
        return not self._closing and self._thread.is_alive()

    def begin_draining(self) -> None:
        """From now on nothing new is taken; what was accepted is finished."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, timeout_s: float | None = None) -> bool:
        """Drains and waits for the end; false if the time did not suffice."""
        self.begin_draining()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _submit(self, job: _Job) -> int:
        with self._changed:
            if self._closing or self._failure is not None:
                raise DrainingError("the server is stopping" if self._closing else "the engine has failed")
            num_before = len(self._waiting)
            if num_before + len(job.request.seeds) > self._max_waiting:
                self._metrics.refused.labels("queue full").inc()
                raise QueueFullError(self._retry_after_s())
            self._waiting.extend(_Picture(job, index) for index in range(len(job.request.seeds)))
            self._changed.notify_all()
            return num_before

    def _cancel(self, job: _Job) -> None:
        with self._changed:
            if job.num_left and not job.cancelled:
                job.cancelled = True
                self._waiting = deque(picture for picture in self._waiting if picture.job is not job)
                self._metrics.cancelled.inc()
                self._changed.notify_all()

    def _retry_after_s(self) -> int:
        """Until about a quarter of the work at hand is done."""
        num_steps = sum(picture.num_steps_left for picture in (*self._running, *self._waiting))
        seconds = num_steps / max(1, len(self._running)) * self._step_s / 4
        return max(1, min(_LONGEST_RETRY_S, math.ceil(seconds)))

    # --- the thread

    def _work(self) -> None:
        torch.set_grad_enabled(False)  # holds for this thread alone
        try:
            while self._wait_and_take():
                self._step()
        except BaseException as error:
            _log.exception("the engine has failed")
            with self._changed:
                self._failure = error
                abandoned = {picture.job for picture in (*self._running, *self._waiting)}
                self._running, self._waiting = [], deque()
            for job in abandoned:
                job.emit(RuntimeError("the engine has failed"))

    def _wait_and_take(self) -> bool:
        """Waits for work, drops what was cancelled and fills the batch; false when all is done and it is closing."""
        with self._changed:
            while not (self._waiting or self._running):
                if self._closing:
                    return False
                self._changed.wait()
            self._running = [picture for picture in self._running if not picture.job.cancelled]
            while self._waiting and len(self._running) < self._max_running:
                self._running.append(self._waiting.popleft())
            return True

    def _step(self) -> None:
        """One step of every picture in the batch."""
        started = time.monotonic()
        for picture in [p for p in self._running if p.denoising is None]:
            self._guarded(self._begin, picture)
        self._leave()
        for index, stage in enumerate(self._stages):
            pictures = [p for p in self._running if p.stage == index and p.denoising is not None]
            if pictures:
                self._step_stage(stage, pictures)
        self._leave()
        seconds = time.monotonic() - started
        self._step_s += 0.2 * (seconds - self._step_s)
        self._metrics.step_seconds.observe(seconds)

    def _begin(self, picture: _Picture) -> None:
        job, stage = picture.job, self._stages[picture.stage]
        if not job.encoded:
            self._metrics.wait_seconds.observe(time.monotonic() - job.submitted)
        if stage.name not in job.encoded:
            job.encoded[stage.name] = stage.encode(job.request)
        if picture.generator is None:
            picture.generator = torch.Generator().manual_seed(job.request.seeds[picture.index])
        picture.denoising = stage.begin(job.request, picture.generator, job.encoded[stage.name], picture.image)

    def _step_stage(self, stage: Stage, pictures: list[_Picture]) -> None:
        denoisings = [picture.denoising for picture in pictures if picture.denoising is not None]
        self._metrics.batch_pictures.observe(len(denoisings))
        try:
            predictions = stage.denoiser.predict(denoisings)
        except Exception:
            # One of them cannot be drawn, or all do not fit the memory: each for itself, and only the guilty fail.
            _log.exception("a step of %d pictures failed; trying them one by one", len(pictures))
            for picture in pictures:
                self._guarded(self._step_alone, picture)
            return
        for picture, prediction in zip(pictures, predictions, strict=True):
            self._guarded(self._apply, picture, prediction)

    def _step_alone(self, picture: _Picture) -> None:
        if picture.denoising is not None:
            self._apply(picture, self._stages[picture.stage].denoiser.predict([picture.denoising])[0])

    def _apply(self, picture: _Picture, prediction: torch.Tensor) -> None:
        denoising, request = picture.denoising, picture.job.request
        if denoising is None:
            return
        stage = self._stages[picture.stage]
        denoising.apply(prediction)
        if request.progress:
            due = request.preview_every and denoising.index % request.preview_every == 0 and not denoising.done
            preview = to_images(stage.pictures(denoising.preview()))[0] if due else None
            picture.job.emit(Progress(picture.index, stage.name, denoising.index, denoising.num_steps, preview))
        if denoising.done:
            picture.image, picture.denoising = stage.pictures(denoising.sample), None
            picture.stage += 1

    def _guarded(self, function: Callable[..., None], picture: _Picture, *arguments: object) -> None:
        """An error fails the picture's own job and no other."""
        try:
            function(picture, *arguments)
        except Exception as error:
            _log.exception("a picture cannot be drawn")
            with self._changed:
                first, picture.job.cancelled = not picture.job.cancelled, True
                self._waiting = deque(waiting for waiting in self._waiting if waiting.job is not picture.job)
            if first:
                self._metrics.failed.inc()
                picture.job.emit(error)

    def _leave(self) -> None:
        """Hands over the pictures that passed every stage."""
        with self._changed:
            finished = [picture for picture in self._running if picture.stage == len(self._stages)]
            self._running = [p for p in self._running if p.stage < len(self._stages) and not p.job.cancelled]
        for picture in finished:
            job = picture.job
            if picture.image is None or job.cancelled:
                continue
            job.emit(Drawn(picture.index, to_images(picture.image)[0]))
            self._metrics.pictures.inc()
            with self._changed:
                job.num_left -= 1
            if not job.num_left:
                job.emit(None)
