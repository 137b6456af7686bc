"""The quick suite: one judge a task, with its ceiling and its floor; and, for all suites, what was copied."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..world import GlyphPack
from .cases import SuiteCase
from .judges.copies import is_copy
from .judges.edges import picture_edge_f1
from .judges.identity import IdentityJudge
from .judges.mask import mask_iou, shipped_mask_judge
from .judges.style import StyleJudge
from .pictures import JUDGE_SIZE_PX, judged
from .suites import JudgeName


class Judges:
    """All judges of one pack; each is made when it is first needed.

    Args:
        pack: the glyphs of the suite.
    """

    def __init__(self, pack: GlyphPack) -> None:
        self.pack = pack
        self._measured: dict[tuple[object, ...], float] = {}

    @cached_property
    def identity(self) -> IdentityJudge:
        """Which glyph."""
        return IdentityJudge(self.pack)

    @cached_property
    def style(self) -> StyleJudge:
        """Which style."""
        return StyleJudge.calibrated(self.pack)

    def figures(self, name: JudgeName, pictures: Sequence[np.ndarray], cases: Sequence[SuiteCase]) -> np.ndarray:
        """How well each picture does what its case asks.

        Args:
            name: the judge.
            pictures: uint8 [S, S, 3] each, any S.
            cases: one a picture.

        Returns:
            float64 [N]: region overlap, edge F1, or 1 for the right style or glyph and 0 otherwise.
        """
        seen = [judged(picture) for picture in pictures]
        if name == "mask":
            regions = shipped_mask_judge().regions(seen)
            figures = [mask_iou(region, case.world.picture.mask) for region, case in zip(regions, cases, strict=True)]
        elif name == "edge":
            figures = [picture_edge_f1(*pair) for pair in zip(seen, map(_wanted_edges, cases), strict=True)]
        elif name == "style":
            found = self.style.names(seen)
            figures = [float(style == case.world.scene.style.name) for style, case in zip(found, cases, strict=True)]
        else:
            chosen = [self.identity.choose(*pair) for pair in zip(seen, (c.candidates for c in cases), strict=True)]
            figures = [float(glyph == case.world.scene.glyphs[0]) for glyph, case in zip(chosen, cases, strict=True)]
        return np.array(figures, dtype=np.float64)

    def ceiling(self, name: JudgeName, cases: Sequence[SuiteCase]) -> float:
        """The mean figure of the true pictures: what the judge gives to perfection."""
        return self._figure_of_truth(name, cases, 0)

    def ceiling_at(self, name: JudgeName, cases: Sequence[SuiteCase], size_px: int) -> float:
        """The same of the true pictures at a model's size: what it could reach if it only lacked pixels."""
        return self._figure_of_truth(name, cases, 0, size_px)

    def floor(self, name: JudgeName, cases: Sequence[SuiteCase]) -> float:
        """The mean figure of true pictures of other instructions, each handed on by one: what ignoring all gets."""
        return self._figure_of_truth(name, cases, 1)

    def _figure_of_truth(
        self, name: JudgeName, cases: Sequence[SuiteCase], shift: int, size_px: int = JUDGE_SIZE_PX
    ) -> float:
        """Mean figure of true pictures handed on by `shift`; measured once for tasks with the same instructions."""
        size_px = min(size_px, JUDGE_SIZE_PX)
        same = (name, shift, size_px, tuple((case.instruction.text, case.seed) for case in cases))
        if same not in self._measured:
            shifted = [judged(case.truth, size_px) for case in [*cases[shift:], *cases[:shift]]]
            self._measured[same] = float(self.figures(name, shifted, cases).mean())
        return self._measured[same]


def copied(pictures: Sequence[np.ndarray], cases: Sequence[SuiteCase]) -> list[bool] | None:
    """Which pictures repeat one of their references; None where no case has a reference.

    What the true picture has in common with a reference is no fault: a slight edit nearly repeats its source.
    """
    if not any(case.instruction.references for case in cases):
        return None
    found = []
    for picture, case in zip(pictures, cases, strict=True):
        references = [judged(np.asarray(reference.image)) for reference in case.instruction.references]
        seen = judged(picture)
        found.append(any(is_copy(seen, other) and not is_copy(case.truth, other) for other in references))
    return found


def _wanted_edges(case: SuiteCase) -> np.ndarray:
    """The edges that a case's reference shows, bool [64, 64]."""
    return np.asarray(case.instruction.references[0].image)[..., 0] > 127
