"""Classifier-free guidance over two conditions, text and context, with a schedule over the steps (A.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Scales:
    """Guidance scales of one step; 1.0 is no guidance.

    Attributes:
        text: scale of the whole condition when `image` is None, else of the text alone.
        image: scale of the context on top of the text; None guides both together with `text`, as in the paper.
    """

    text: float
    image: float | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        """Network evaluations this step needs: "full", "text" (context dropped), "null" (both dropped)."""
        if self.image is None or self.image == self.text:
            return ("full",) if self.text == 1.0 else ("full", "null")
        if self.text == 1.0:
            return ("full", "text")
        return ("full", "text", "null")


class Guidance(Protocol):
    """A schedule of guidance scales."""

    def scales(self, step_index: int, num_steps: int) -> Scales:
        """Scales of step `step_index` in 0 .. num_steps - 1, counted from the noisiest."""
        ...


@dataclass(frozen=True)
class ConstantGuidance:
    """The same scales in every step, optionally only in a part of the steps.

    Args:
        text, image: see `Scales`.
        start, stop: guide only where `start <= step / num_steps < stop`; outside it the plain prediction is used.
    """

    text: float = 3.0
    image: float | None = None
    start: float = 0.0
    stop: float = 1.0

    @classmethod
    def of(cls, text: float, image: float | None, has_references: bool) -> ConstantGuidance:
        """Guidance of these scales; without references `image` would only cost a third evaluation of each step."""
        return cls(text, image if has_references else None)

    def scales(self, step_index: int, num_steps: int) -> Scales:
        """See `Guidance.scales`."""
        inside = self.start <= step_index / num_steps < self.stop
        return Scales(self.text, self.image) if inside else Scales(1.0)


@dataclass(frozen=True)
class OscillatingGuidance:
    """Guidance on every `period`-th step, none on the others: 25.0 and none in turn in the paper (A.2.2)."""

    text: float = 25.0
    image: float | None = None
    period: int = 2

    def scales(self, step_index: int, num_steps: int) -> Scales:
        """See `Guidance.scales`."""
        return Scales(self.text, self.image) if step_index % self.period == 0 else Scales(1.0)


def combine(predictions: Sequence[torch.Tensor], scales: Scales) -> torch.Tensor:
    """Combines the predictions of `scales.branches`, in that order, into one.

    null + text * (text_only - null) + image * (full - text_only), or full guided against null when both share a scale.
    """
    by_branch = dict(zip(scales.branches, predictions, strict=True))
    full = by_branch["full"]
    if scales.branches == ("full",):
        return full
    if scales.branches == ("full", "null"):
        null = by_branch["null"]
        return null + scales.text * (full - null)
    text = by_branch["text"]
    image_scale = scales.text if scales.image is None else scales.image
    base = text if "null" not in by_branch else by_branch["null"] + scales.text * (text - by_branch["null"])
    return base + image_scale * (full - text)
