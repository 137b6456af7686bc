"""Drawing for the page: settings, progress with previews, and a painter that runs the pipeline and can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any, Protocol

import torch
from PIL import Image

from ..instruction import Instruction
from ..model_folders import DEFAULT_GUIDANCE, DEFAULT_STEPS, PAPER_STEPS
from ..pipeline import InstructImagenPipeline, Stages
from ..progress import Progress, progress_callback
from .pictures import StudioError

MAX_IMAGES = 8
MAX_SEED = 2**31 - 1
MAX_GUIDANCE = 30.0


@dataclass(frozen=True)
class DrawSettings:
    """How to draw.

    Attributes:
        num_images: pictures; picture i uses seed + i.
        seed: of the first.
        num_inference_steps: denoising steps.
        guidance_scale, image_guidance_scale: see `InstructImagenPipeline.__call__`.

    Raises:
        StudioError: a value is out of its range.
    """

    num_images: int = 1
    seed: int = 0
    num_inference_steps: int = DEFAULT_STEPS
    guidance_scale: float = DEFAULT_GUIDANCE
    image_guidance_scale: float | None = None

    def __post_init__(self) -> None:
        _check_range("The number of pictures", self.num_images, 1, MAX_IMAGES, whole=True)
        _check_range("The seed", self.seed, 0, MAX_SEED, whole=True)
        _check_range("The number of steps", self.num_inference_steps, 1, PAPER_STEPS, whole=True)
        _check_range("The guidance", self.guidance_scale, 0, MAX_GUIDANCE)
        if self.image_guidance_scale is not None:
            _check_range("The guidance of the pictures", self.image_guidance_scale, 0, MAX_GUIDANCE)


def _check_range(what: str, value: object, low: float, high: float, whole: bool = False) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise StudioError(f"{what} must be {kind} from {low:,} to {high:,.0f}.")


class Stopped(Exception):
    """Somebody pressed Stop."""


class Painter(Protocol):
    """What draws for the page.

    Attributes:
        model: its name, to show and to write into the pictures.
        defaults: the settings that the page begins with.
    """

    model: str
    defaults: DrawSettings

    def draw(
        self, instruction: Instruction, settings: DrawSettings, stop: threading.Event
    ) -> Iterator[Progress | tuple[Image.Image, ...]]:
        """Yields progress from time to time and, last, the pictures.

        Raises:
            Stopped: `stop` was set.
        """
        ...


class PipelinePainter:
    """Draws with a pipeline in this process, for one visitor at a time.

    Args:
        pipeline: its scheduler is used as it is.
        model: see `Painter`.
        num_inference_steps: that the page begins with; None: the model's own.
        stages: see `InstructImagenPipeline.__call__`.
    """

    def __init__(
        self,
        pipeline: InstructImagenPipeline,
        model: str,
        num_inference_steps: int | None = None,
        stages: Stages | None = None,
    ):
        config = pipeline.config
        self.model = model
        self.defaults = DrawSettings(
            num_inference_steps=num_inference_steps or config.default_steps,
            guidance_scale=config.default_guidance,
            image_guidance_scale=config.default_image_guidance,
        )
        self._pipeline, self._stages = pipeline, stages
        self._lock = threading.Lock()

    def draw(
        self, instruction: Instruction, settings: DrawSettings, stop: threading.Event
    ) -> Iterator[Progress | tuple[Image.Image, ...]]:
        """See `Painter.draw`; when it is not read to its end, the drawing stops after the step it is in."""
        news: Queue[Progress | tuple[Image.Image, ...] | BaseException] = Queue()
        worker = threading.Thread(target=self._work, args=(instruction, settings, stop, news), daemon=True)
        worker.start()
        try:
            while True:
                item = _newest(news)
                if isinstance(item, BaseException):
                    raise item
                yield item
                if not isinstance(item, Progress):
                    return
        finally:
            stop.set()
            worker.join()

    def _work(self, instruction: Instruction, settings: DrawSettings, stop: threading.Event, news: Queue) -> None:
        def check() -> None:
            if stop.is_set():
                raise Stopped

        steps = settings.num_inference_steps
        try:
            with self._lock:
                check()
                seeds = range(settings.seed, settings.seed + settings.num_images)
                images = self._pipeline(
                    instruction,
                    num_inference_steps=steps,
                    guidance_scale=settings.guidance_scale,
                    image_guidance_scale=settings.image_guidance_scale,
                    num_images_per_prompt=settings.num_images,
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                    callback_on_step_end=progress_callback(self._pipeline, steps, news.put, check, self._stages),
                    stages=self._stages,
                ).images
            news.put(tuple(images))
        except BaseException as error:  # noqa: BLE001 - it is raised where the news are read
            news.put(error)


def _newest(news: Queue) -> Any:
    """The newest of the news, waiting for one; older progress that nobody has seen is left out."""
    item = news.get()
    try:
        while isinstance(item, Progress):
            item = news.get_nowait()
    except Empty:
        pass
    return item
