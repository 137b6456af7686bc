"""What a page or a client shows while the pipeline draws: how far it is, and the noisy pictures now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from .pipeline import Callback, InstructImagenPipeline, Stages, to_images

PREVIEW_PX = 256
SECONDS_BETWEEN_REPORTS = 0.2
PREVIEW_SHARE = 0.2  # of the time goes into previews at most; a latent model decodes each


@dataclass(frozen=True)
class Progress:
    """`step` of `num_steps` is done (0: it begins); `previews` are the noisy pictures as they are now."""

    step: int
    num_steps: int
    previews: tuple[Image.Image, ...]


def progress_callback(
    pipeline: InstructImagenPipeline,
    num_inference_steps: int | None,
    report: Callable[[Progress], object],
    check: Callable[[], object] = lambda: None,
    stages: Stages | None = None,
) -> Callback:
    """A `callback_on_step_end` that reports; the first report, of step 0, is made here.

    Args:
        pipeline: that will draw.
        num_inference_steps, stages: that it will be called with.
        report: gets the progress, after the first step and then from time to time.
        check: called after every step; what it raises ends the drawing.
    """
    enlarges = pipeline.super_resolution is not None and stages != "base"
    num_enlarging_steps = int(pipeline.super_resolution.default_steps) if enlarges else 0
    report(Progress(0, (num_inference_steps or int(pipeline.config.default_steps)) + num_enlarging_steps, ()))
    due = 0.0

    def after_step(
        pipeline: InstructImagenPipeline, index: int, timestep: int, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        nonlocal due
        check()
        started = time.monotonic()
        if started >= due:
            num_base_steps = len(pipeline.scheduler.timesteps)  # some schedulers take one more
            samples = tensors["latents"]
            pictures = pipeline.to_pictures(samples) if index < num_base_steps else samples
            report(Progress(index + 1, num_base_steps + num_enlarging_steps, previews(pictures)))
            due = started + max(SECONDS_BETWEEN_REPORTS, (time.monotonic() - started) / PREVIEW_SHARE)
        return tensors

    return after_step


def previews(pictures: torch.Tensor) -> tuple[Image.Image, ...]:
    """Noisy pictures [N, 3, S, S], clean ones in -1..1, of at most PREVIEW_PX a side."""
    images = to_images(pictures)
    for image in images:
        image.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return tuple(images)
