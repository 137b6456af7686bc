"""What a picture passes: the base model, then whatever stages a pipeline adds (super-resolution)."""

from __future__ import annotations

from typing import Protocol

import torch

from ..denoising import Branches, Denoiser, Denoising
from ..guidance import ConstantGuidance
from ..pipeline import InstructImagenPipeline
from .drawing import DrawRequest


class Stage(Protocol):
    """One denoising network with its beginning.

    Attributes:
        name: as told in progress reports, such as "base".
        denoiser: takes pictures of this stage a step further, those of many requests together.
    """

    name: str
    denoiser: Denoiser

    def encode(self, request: DrawRequest) -> Branches:
        """What no step changes, one row a branch; computed once a request."""
        ...

    def begin(self, request: DrawRequest, seed: int, encoded: Branches, image: torch.Tensor | None) -> Denoising:
        """One picture before its first step.

        Args:
            request: what to draw.
            seed: of this picture.
            encoded: of this request, by `encode`.
            image: what the stage before drew, [1, 3, S, S] in -1..1; None in the first stage.
        """
        ...


class BaseStage:
    """The pipeline's own network: from noise to a picture.

    Args:
        pipeline: the model.
        exact: one network call for each picture, for the same bits in any company (see `denoising`).
    """

    name = "base"

    def __init__(self, pipeline: InstructImagenPipeline, exact: bool = False):
        self._pipeline = pipeline
        self.denoiser = Denoiser(pipeline.unet, together=not exact)

    def encode(self, request: DrawRequest) -> Branches:
        """See `Stage.encode`; every request is encoded alone, so that its company changes nothing here."""
        return self._pipeline.encode_branches([request.instruction], _guidance(request), request.num_inference_steps)

    def begin(self, request: DrawRequest, seed: int, encoded: Branches, image: torch.Tensor | None) -> Denoising:
        """See `Stage.begin`."""
        generators = [torch.Generator().manual_seed(seed)]
        return self._pipeline.start(encoded, _guidance(request), request.num_inference_steps, generators=generators)


def _guidance(request: DrawRequest) -> ConstantGuidance:
    return ConstantGuidance(request.guidance_scale, request.image_guidance_scale)
