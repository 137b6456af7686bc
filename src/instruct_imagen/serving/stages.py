"""What a picture passes: the base model, then whatever stages a pipeline adds (super-resolution)."""

from __future__ import annotations

from typing import Protocol

import torch

from ..denoising import Branches, Denoiser, Denoising
from ..guidance import ConstantGuidance
from ..pipeline import InstructImagenPipeline
from ..sampling import Request
from ..super_resolution import SuperResolutionOptions
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

    def begin(
        self, request: DrawRequest, generator: torch.Generator, encoded: Branches, image: torch.Tensor | None
    ) -> Denoising:
        """One picture before its first step.

        Args:
            request: what to draw.
            generator: of this picture, begun with its seed; each stage draws on from where the one before stopped.
            encoded: of this request, by `encode`.
            image: what the stage before drew, [1, 3, S, S] in -1..1; None in the first stage.
        """
        ...

    def pictures(self, sample: torch.Tensor) -> torch.Tensor:
        """What the network denoises as pictures [1, 3, S, S] in -1..1."""
        ...


class BaseStage:
    """The base model: from noise to a picture.

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
        return self._pipeline.encode_branches(_one(request), _guidance(request), request.num_inference_steps)

    def begin(
        self, request: DrawRequest, generator: torch.Generator, encoded: Branches, image: torch.Tensor | None
    ) -> Denoising:
        """See `Stage.begin`."""
        scheduler = self._pipeline.new_scheduler(request.num_inference_steps)
        return self._pipeline.start(_one(request, generator), encoded, _guidance(request), scheduler)

    def pictures(self, sample: torch.Tensor) -> torch.Tensor:
        """See `Stage.pictures`."""
        return self._pipeline.to_pictures(sample)


class SuperResolutionStage:
    """The second network of the cascade, sampled as it was saved to be.

    Args:
        pipeline: the model; it has a super-resolution.
        exact: as for `BaseStage`.
    """

    name = "super_resolution"

    def __init__(self, pipeline: InstructImagenPipeline, exact: bool = False):
        self._pipeline, self._options = pipeline, SuperResolutionOptions()
        self._guidance = pipeline.enlarging_guidance(self._options)
        self.denoiser = Denoiser(pipeline.super_resolution, together=not exact)

    def encode(self, request: DrawRequest) -> Branches:
        """See `Stage.encode`."""
        num_steps = self._pipeline.super_resolution.default_steps
        return self._pipeline.encode_branches(_one(request), self._guidance, num_steps, "super_resolution")

    def begin(
        self, request: DrawRequest, generator: torch.Generator, encoded: Branches, image: torch.Tensor | None
    ) -> Denoising:
        """See `Stage.begin`."""
        if image is None:
            raise ValueError("super-resolution needs a picture to enlarge")
        scheduler = self._pipeline.new_scheduler(self._pipeline.super_resolution.default_steps, "super_resolution")
        parts = [(slice(0, 1), encoded, scheduler)]
        return next(self._pipeline.start_enlarging(image, _one(request, generator), self._options, parts))

    def pictures(self, sample: torch.Tensor) -> torch.Tensor:
        """See `Stage.pictures`."""
        return sample


def stages_of(pipeline: InstructImagenPipeline, exact: bool = False) -> list[Stage]:
    """All that a pipeline has."""
    base: list[Stage] = [BaseStage(pipeline, exact)]
    return base if pipeline.super_resolution is None else [*base, SuperResolutionStage(pipeline, exact)]


def _one(request: DrawRequest, generator: torch.Generator | None = None) -> Request:
    """One picture of a request."""
    return Request([request.instruction], [0], None if generator is None else [generator])


def _guidance(request: DrawRequest) -> ConstantGuidance:
    has_references = bool(request.instruction.references)
    return ConstantGuidance.of(request.guidance_scale, request.image_guidance_scale, has_references)
