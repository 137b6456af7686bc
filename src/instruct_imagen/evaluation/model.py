"""The project's own models as an `ImageGenerator`: what `instruct-imagen evaluate` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..instruction import Instruction
from ..pipeline import InstructImagenPipeline, Stages
from ..world import load_pack
from .runner import Scores, run_suite
from .suites import get_suite


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


def evaluate_pipeline(
    generator: PipelineGenerator, suite_name: str, out: Path, count: int | None = None, progress: bool = True
) -> Scores:
    """Runs a suite on a pipeline and writes its scores to `out`.

    Args:
        generator: the model with its sampling options.
        suite_name: a name in `SUITES`.
        out: folder for `scores.json` and contact sheets.
        count: instructions per task; the suite's own number if None.
        progress: report each task on standard error.

    Raises:
        EvaluationError: no such suite.
    """
    suite = get_suite(suite_name)
    if count is not None:
        suite = replace(suite, num_per_task=count)
    return run_suite(suite, generator, load_pack(), out, progress)
