"""The project's own models as an `ImageGenerator`: what `instruct-imagen evaluate` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..data.world_tasks import RAW
from ..instruction import Instruction
from ..pipeline import InstructImagenPipeline, Stages
from ..training.checkpoint import TRAINING_FILE, CheckpointError, read_position
from .suites import Suite


@dataclass(frozen=True)
class PipelineGenerator:
    """Draws with a pipeline; see `InstructImagenPipeline.__call__` for the options."""

    pipeline: InstructImagenPipeline
    steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    stages: Stages | None = None

    def __call__(
        self, instructions: Sequence[Instruction], seeds: Sequence[int], drop_context: bool = False
    ) -> list[np.ndarray]:
        """See `ImageGenerator`."""
        images = self.pipeline(
            list(instructions),
            self.steps,
            guidance_scale=self.guidance_scale,
            image_guidance_scale=self.image_guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            drop_context=drop_context,
            stages=self.stages,
        ).images
        return [np.asarray(image) for image in images]


def trained_templates(model: Path) -> int | None:
    """`RAW` if a model was trained on bare captions and pictures, else None: it is then asked in sentences."""
    try:
        preset = read_position(model, TRAINING_FILE)[1]
    except CheckpointError:  # a model of another origin
        return None
    return RAW if preset.data.num_templates == RAW else None


def counted(suites: Sequence[Suite], count: int | None) -> tuple[Suite, ...]:
    """Suites with so many instructions per task; with their own number if None."""
    return tuple(suite if count is None else replace(suite, num_per_task=count) for suite in suites)
