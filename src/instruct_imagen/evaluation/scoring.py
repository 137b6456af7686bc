"""Verdicts: SC, PQ and O of every picture (§4), from readings and scales.

SC, semantic consistency, is the score of the least satisfied condition; PQ, perceptual quality, how near the picture
is to the true ones; O = √(SC · PQ). Each comes in levels (0, 0.5, 1), as raters give them, and continuously in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..world import GlyphPack
from .calibration import Scales, scale_of
from .cases import SuiteCase
from .conditions import PictureSet, Reading, read
from .judges.quality import kernel_distance
from .pictures import JUDGE_SIZE_PX, judged
from .suites import SuiteTask

QUALITY = "quality"


@dataclass(frozen=True)
class Judged:
    """One condition, or the quality, of one picture: its reading, and what that is worth in levels and continuously."""

    scale: str
    value: float
    level: float
    score: float


@dataclass(frozen=True)
class Verdict:
    """What is said of one picture.

    Attributes:
        conditions: by name, those that its case has.
        quality: how near it is to true pictures.
    """

    conditions: Mapping[str, Judged]
    quality: Judged

    @property
    def sc(self) -> float:
        """Level of the least satisfied condition."""
        return min(judged.level for judged in self.conditions.values())

    @property
    def pq(self) -> float:
        """Level of the quality."""
        return self.quality.level

    @property
    def o(self) -> float:
        """√(SC · PQ) of the levels."""
        return math.sqrt(self.sc * self.pq)

    @property
    def sc_score(self) -> float:
        """Continuous score of the least satisfied condition."""
        return min(judged.score for judged in self.conditions.values())

    @property
    def o_score(self) -> float:
        """√(SC · PQ), continuously."""
        return math.sqrt(self.sc_score * self.quality.score)


@dataclass(frozen=True)
class Verdicts:
    """What is said of a task's pictures.

    Attributes:
        each: one a picture.
        features: float [N, D], of the pictures, for the distance of distributions.
    """

    each: tuple[Verdict, ...]
    features: np.ndarray = field(repr=False)

    def values(self, name: str) -> np.ndarray:
        """One of "sc", "pq", "o", "sc_score", "o_score", or "pq_score" of every picture: float64 [N]."""
        if name == "pq_score":
            return np.array([verdict.quality.score for verdict in self.each])
        return np.array([getattr(verdict, name) for verdict in self.each], dtype=np.float64)

    def mean(self, name: str) -> float:
        """Mean of `values`."""
        return float(self.values(name).mean())

    def condition(self, name: str) -> float | None:
        """Mean level of one condition over the pictures that have it; None if none has."""
        levels = [verdict.conditions[name].level for verdict in self.each if name in verdict.conditions]
        return float(np.mean(levels)) if levels else None


def judge(
    task: SuiteTask, cases: Sequence[SuiteCase], pictures: Sequence[np.ndarray], pack: GlyphPack, scales: Scales
) -> Verdicts:
    """Verdicts of pictures, one a case.

    Args:
        task: says what is asked for.
        cases: of the task, at least one.
        pictures: uint8 [S, S, 3] each, any S, all of one size.
        pack: the glyphs of the suite.
        scales: what readings are worth.
    """
    opened = PictureSet(pictures, pack)
    columns = {condition.name: read(condition, opened, cases) for condition in task.conditions}
    verdicts = []
    for index in range(len(cases)):
        found = {name: readings[index] for name, readings in columns.items()}
        conditions = {name: _judged(reading, scales) for name, reading in found.items() if reading is not None}
        verdicts.append(Verdict(conditions, _judged(Reading(QUALITY, float(opened.realism[index])), scales)))
    return Verdicts(tuple(verdicts), opened.overview.features)


def _judged(reading: Reading, scales: Scales) -> Judged:
    scale = scale_of(scales, reading)
    return Judged(reading.scale, reading.value, scale.level(reading.value), scale.score(reading.value))


@dataclass(frozen=True)
class Anchors:
    """What a task's figures are to be read against.

    Attributes:
        truth: the true pictures, at 64 pixels.
        truth_at_size: the same reduced to the size of what is judged: what it could reach if it only lacked pixels.
        wrong: true pictures of other instructions, each handed on by one, at that size.
        copies: for each instruction the reference that scores best as the answer; None without references.
    """

    truth: Verdicts
    truth_at_size: Verdicts
    wrong: Verdicts
    copies: Verdicts | None


def anchors(task: SuiteTask, cases: Sequence[SuiteCase], size_px: int, pack: GlyphPack, scales: Scales) -> Anchors:
    """The anchors of a task for pictures of a size."""
    true = [case.truth for case in cases]
    reduced = [judged(picture, min(size_px, JUDGE_SIZE_PX)) for picture in true]
    truth = judge(task, cases, true, pack, scales)
    at_that_size = truth if size_px >= JUDGE_SIZE_PX else judge(task, cases, reduced, pack, scales)
    wrong = judge(task, cases, [*reduced[1:], reduced[0]], pack, scales)
    return Anchors(truth, at_that_size, wrong, _copies(task, cases, size_px, pack, scales))


def _copies(
    task: SuiteTask, cases: Sequence[SuiteCase], size_px: int, pack: GlyphPack, scales: Scales
) -> Verdicts | None:
    most = max(len(case.instruction.references) for case in cases)
    if not most:
        return None
    tried = []
    for number in range(most):
        chosen = [case.instruction.references[min(number, len(case.instruction.references) - 1)] for case in cases]
        pictures = [judged(np.asarray(reference.image), min(size_px, JUDGE_SIZE_PX)) for reference in chosen]
        tried.append(judge(task, cases, pictures, pack, scales))
    best = [max(range(most), key=partial(_worth, tried, k)) for k in range(len(cases))]
    features = np.stack([tried[number].features[k] for k, number in enumerate(best)])
    return Verdicts(tuple(tried[number].each[k] for k, number in enumerate(best)), features)


def _worth(tried: Sequence[Verdicts], index: int, number: int) -> tuple[float, float]:
    verdict = tried[number].each[index]
    return verdict.o, verdict.o_score


def distance_to_truth(verdicts: Verdicts, truth: Verdicts) -> float:
    """KID of what was drawn and the true pictures of the same size."""
    return kernel_distance(verdicts.features, truth.features)


def truth_apart(truth: Verdicts) -> float:
    """KID of one half of the true pictures and the other: how far from 0 chance alone leads."""
    return kernel_distance(truth.features[::2], truth.features[1::2])
