"""Metrics for photographs: CLIP-T, CLIP-I, DINO, re-extracted controls, FID and KID, with models of transformers.

Similarities are cosines of embeddings. They reward copying: read them beside the scores of copied references.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ...data.control_models import TransformersDepth
from ...data.controls import ControlModels
from ...pictures import fit_square
from ...retrieval.embedders import ClipEmbedder, EmbedderError, in_batches, pick_device
from ..judges.edges import edge_f1
from ..judges.extractor import depth_fidelity
from ..judges.mask import mask_iou
from ..suites import EvaluationError
from .cases import RealCase
from .vision_language import VisionLanguageJudge

CONTROL_PX = 256
_EDGE_TOLERANCE_PX = 8.0  # of 256, as 2 of 64
_KID_SUBSETS = 50


class PictureEmbedder(Protocol):
    """Pictures as vectors of unit length."""

    def images(self, images: Sequence[Image.Image], /) -> np.ndarray:
        """RGB pictures of any size as float32 [N, D]."""
        ...


@dataclass(frozen=True)
class DinoEmbedder:
    """DINO or DINOv2 from transformers: the class token of the last layer, as DreamBooth's DINO score has it.

    Attributes:
        model: folder, or name on a model hub, of a vision transformer with its image processor.
        device: "auto", "cpu", "cuda", ...
        batch_size: pictures at once.
        local_files_only: never ask the hub; False allows a download.
    """

    model: str
    device: str = "auto"
    batch_size: int = 64
    local_files_only: bool = True

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures as float32 [N, D]."""
        model, processor, place = _load_vision(self.model, self.device, self.local_files_only)

        def embed(batch: Sequence[Image.Image]) -> Tensor:
            pixels = processor(images=list(batch), return_tensors="pt")["pixel_values"].to(place)
            return model(pixel_values=pixels).last_hidden_state[:, 0]

        return in_batches(images, self.batch_size, int(model.config.hidden_size), embed)


@lru_cache(maxsize=2)
def _load_vision(name: str, device: str, local_files_only: bool) -> tuple[Any, Any, torch.device]:
    from transformers import AutoImageProcessor, AutoModel

    try:
        model: nn.Module = AutoModel.from_pretrained(name, local_files_only=local_files_only)
        # the processor that works with Pillow alone: the other one needs torchvision
        processor = AutoImageProcessor.from_pretrained(name, backend="pil", local_files_only=local_files_only)
    except (OSError, ValueError, ImportError) as error:
        raise EmbedderError(
            f"The vision model {name!r} cannot be loaded; name a folder that holds one, or allow the download "
            f"({str(error).splitlines()[0]})."
        ) from error
    place = pick_device(device)
    return model.to(place).eval(), processor, place


@dataclass(frozen=True)
class RealMetrics:
    """What measures pictures of real suites; a part that is None is left out.

    Attributes:
        clip: for CLIP-T and CLIP-I.
        dino: for the DINO score of subjects.
        controls: reads controls from pictures.
        judge: a vision-language model that rates SC and PQ.
    """

    clip: ClipEmbedder | None = None
    dino: PictureEmbedder | None = None
    controls: ControlModels = field(default_factory=ControlModels)
    judge: VisionLanguageJudge | None = None

    @classmethod
    def load(
        cls, clip: str | None, dino: str | None, depth: str | None, judge: VisionLanguageJudge | None, download: bool
    ) -> RealMetrics:
        """From folders of models, or names on a hub if downloads are allowed."""
        local = not download
        return cls(
            None if clip is None else ClipEmbedder(clip, local_files_only=local),
            None if dino is None else DinoEmbedder(dino, local_files_only=local),
            ControlModels() if depth is None else ControlModels(TransformersDepth(depth, local_files_only=local)),
            judge,
        )

    def measure(self, cases: Sequence[RealCase], pictures: Sequence[Image.Image]) -> Mapping[str, np.ndarray]:
        """All metrics that apply to at least one case.

        Args:
            cases: of one suite.
            pictures: one a case, RGB.

        Returns:
            For each metric float64 [N], not a number where it does not apply.
        """
        found: dict[str, np.ndarray] = {}
        if self.clip is not None:
            embedded = self.clip.images(pictures)
            found["clip_t"] = _per_case(cases, lambda k, case: _cosine(embedded[k], self._text(case)))
            found |= self._likeness("clip_i", self.clip, embedded, cases)
        if self.dino is not None:
            found |= self._likeness("dino", self.dino, self.dino.images(pictures), cases)
        found["control"] = _per_case(cases, lambda k, case: self._control(pictures[k], case))
        if self.judge is not None:
            found |= self._rated(cases, pictures)
        return {name: values for name, values in found.items() if not np.isnan(values).all()}

    def _text(self, case: RealCase) -> np.ndarray | None:
        return self.clip.texts([case.caption])[0] if self.clip is not None and case.caption else None

    def _likeness(
        self, name: str, embedder: PictureEmbedder, embedded: np.ndarray, cases: Sequence[RealCase]
    ) -> dict[str, np.ndarray]:
        """Cosines with what subjects and style look like; of several subjects, the least alike counts."""

        def to_subjects(index: int, case: RealCase) -> float:
            means = [float((embedder.images(shown) @ embedded[index]).mean()) for shown in case.subjects]
            return min(means) if means else np.nan

        def to_style(index: int, case: RealCase) -> float:
            return np.nan if case.style is None else _cosine(embedded[index], embedder.images([case.style])[0])

        return {f"{name}_subject": _per_case(cases, to_subjects), f"{name}_style": _per_case(cases, to_style)}

    def _control(self, picture: Image.Image, case: RealCase) -> float:
        """How well the control, read anew from a picture, fits the one that was given; not a number without one."""
        if case.control is None:
            return np.nan
        kind, guide = case.control
        seen, wanted = fit_square(picture, CONTROL_PX), np.asarray(fit_square(guide, CONTROL_PX).convert("L"))
        if kind == "edge":
            return edge_f1(self.controls.edge_model(seen), wanted > 127, _EDGE_TOLERANCE_PX)
        if kind == "mask":
            return mask_iou(self.controls.mask_model(seen), wanted > 127)
        if kind == "depth" and self.controls.depth_model is not None:
            near = self.controls.depth(seen)[..., 0].astype(np.float32) / 255
            depth = wanted.astype(np.float32) / 255
            return depth_fidelity(near, depth, depth > np.median(depth))
        return np.nan

    def _rated(self, cases: Sequence[RealCase], pictures: Sequence[Image.Image]) -> dict[str, np.ndarray]:
        assert self.judge is not None
        ratings = [self.judge.rate(case, picture) for case, picture in zip(cases, pictures, strict=True)]
        sc, pq = (np.array([np.nan if r is None else r[part] for r in ratings], np.float64) for part in range(2))
        return {"judge_sc": sc, "judge_pq": pq, "judge_o": np.sqrt(sc * pq)}


def _per_case(cases: Sequence[RealCase], value: Callable[[int, RealCase], float]) -> np.ndarray:
    return np.array([value(index, case) for index, case in enumerate(cases)], np.float64)


def _cosine(first: np.ndarray, second: np.ndarray | None) -> float:
    return np.nan if second is None else float(first @ second)


class _Given(nn.Module):
    """Features that are already computed, where torchmetrics asks for a network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_and_kernel_distance(real: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """FID and KID of two sets of features, by torchmetrics; their names elsewhere mean Inception's features.

    Args:
        real: float32 [N, D], N at least 2.
        drawn: float32 [M, D], M at least 2.

    Raises:
        EvaluationError: torchmetrics is not installed, or a set is too small.
    """
    if min(len(real), len(drawn)) < 2:
        raise EvaluationError("A distance of distributions needs at least two pictures on each side.")
    try:
        fid = import_module("torchmetrics.image.fid").FrechetInceptionDistance(_Given(real.shape[1]))
        size = min(len(real), len(drawn))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it keeps the features, which are here already
            kid = import_module("torchmetrics.image.kid").KernelInceptionDistance(
                _Given(real.shape[1]), subsets=_KID_SUBSETS, subset_size=size
            )
    except ImportError as error:
        raise EvaluationError("FID and KID need torchmetrics; install instruct-imagen[metrics].") from error
    torch.manual_seed(0)  # of the subsets
    for metric in (fid, kid):
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(drawn), real=False)
    return float(fid.compute()), float(kid.compute()[0])
