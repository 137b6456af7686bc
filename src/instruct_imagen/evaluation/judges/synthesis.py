"""Subject judge for styled pictures: which candidate explains a picture, drawn anew as asked.

features: for every candidate, places where its silhouette fits the subjects that the extractor finds; statistic: how
far the whole scene, with the candidate there, over the asked ground and in the asked style, is from the picture, both
blurred so that the chance of a texture does not count; number: the candidates' shares of the likelihood.

Templates in plain colours (`identity`) read plain pictures nearly as well without knowing the ground, so that a wrong
ground is no fault of the subject; in styled ones they are lost. docs/evaluation.md has the figures. Nothing is learned
but the extractor, so held-out glyphs are judged as well as any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ...world import GlyphPack, Scene, Subject, render
from ..pictures import JUDGE_SIZE_PX, judged
from .glyph_templates import SEARCH_SIZE_PX, SEVERAL, SINGLE, Pose, PoseGrid, TemplateSet, make_templates
from .identity import CACHED_GLYPHS

NUM_PLACES = 6
_MARGIN_PX = 3  # how far a silhouette may reach over the rim of the small map
_RING_WEIGHT = 1.0  # of coverage around a silhouette, which speaks against it
_SIZE_WEIGHT = 0.15  # larger silhouettes fit less closely, but explain more
_NUM_BEST = 12  # places of each size that are looked at
_APART = 0.12  # of the side, or a fifth in size: what counts as another place
_BLUR_PX = 1.5
_INDEPENDENT = 30.0  # independent measurements that the blurred picture stands for, halved
_TEXTURE_SEED = 5


@dataclass(frozen=True)
class Sight:
    """What was made of one subject.

    Attributes:
        shares: float64 [candidates], likelihoods, summing to 1.
        poses: the best one of each candidate.
    """

    shares: np.ndarray
    poses: tuple[Pose, ...]


class SynthesisJudge:
    """Compares pictures with scenes that it renders.

    Args:
        pack: the glyphs.
    """

    def __init__(self, pack: GlyphPack) -> None:
        self.pack = pack
        self._templates = lru_cache(2 * CACHED_GLYPHS)(lambda glyph, grid: make_templates(pack, glyph, grid))

    def look(
        self,
        picture: np.ndarray,
        coverage: np.ndarray,
        scene: Scene,
        subject: int,
        candidates: Sequence[str],
        size_px: int,
    ) -> Sight:
        """Which candidate stands where a subject should.

        Args:
            picture: uint8 [64, 64, 3].
            coverage: float32 [64, 64], where the extractor sees subjects.
            scene: what was asked for; its ground, style, and other subject are rendered as asked.
            subject: place in the scene of the one to identify.
            candidates: keys of glyphs.
            size_px: side at which the picture was drawn.
        """
        grid = SINGLE if len(scene.subjects) == 1 else SEVERAL
        seen = _blurred(picture)
        others: tuple[Subject, ...] = ()
        if len(scene.subjects) > 1:
            others = (self._best_alone(seen, coverage, scene, scene.glyphs[1 - subject], size_px),)
        places = find_places(coverage, [self._templates(glyph, grid) for glyph in candidates], grid)
        errors, poses = [], []
        for glyph, options in zip(candidates, places, strict=True):
            tried = [
                self._error(seen, scene, (*others, _subject(glyph, pose, len(others))), size_px) for pose in options
            ]
            best = int(np.argmin(tried))
            errors.append(tried[best])
            poses.append(options[best])
        likelihood = (min(errors) / np.array(errors)) ** _INDEPENDENT
        return Sight(likelihood / likelihood.sum(), tuple(poses))

    def _best_alone(self, seen: np.ndarray, coverage: np.ndarray, scene: Scene, glyph: str, size_px: int) -> Subject:
        """The subject of a glyph where it explains the picture best by itself."""
        (options,) = find_places(coverage, [self._templates(glyph, SEVERAL)], SEVERAL)
        errors = [self._error(seen, scene, (_subject(glyph, pose, 0),), size_px) for pose in options]
        return _subject(glyph, options[int(np.argmin(errors))], 0)

    def _error(self, seen: np.ndarray, scene: Scene, subjects: tuple[Subject, ...], size_px: int) -> float:
        """Mean squared difference of the blurred picture and the scene with these subjects; never quite 0."""
        drawn = render(replace(scene, subjects=subjects, relation=None, seed=_TEXTURE_SEED), self.pack, JUDGE_SIZE_PX)
        reduced = judged(judged(drawn.image, min(size_px, JUDGE_SIZE_PX)))
        return float(np.square(_blurred(reduced) - seen).mean()) + 1.0


def _blurred(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _BLUR_PX)


def _subject(glyph: str, pose: Pose, layer: int) -> Subject:
    return Subject(glyph, pose.x, pose.y, pose.size, pose.turn_deg, pose.mirror, layer)


def find_places(
    coverage: np.ndarray, banks: Sequence[tuple[TemplateSet, ...]], grid: PoseGrid, num_places: int = NUM_PLACES
) -> list[list[Pose]]:
    """Distinct places where each glyph's silhouette fits a map of subjects, the best first.

    Args:
        coverage: float32 [64, 64] in 0..1.
        banks: the templates of each glyph.
        grid: that they were made with.
        num_places: at most so many.
    """
    small = cv2.resize(coverage, (SEARCH_SIZE_PX, SEARCH_SIZE_PX), interpolation=cv2.INTER_AREA)
    small = np.pad(small, _MARGIN_PX)
    found: list[list[tuple[float, Pose]]] = [[] for _ in banks]
    for rank, size in enumerate(grid.sizes):
        sets = [bank[rank] for bank in banks]
        side, num = sets[0].side_px, len(sets[0].inside)
        windows = sliding_window_view(small, (side, side))
        num_across = windows.shape[1]
        fits = _silhouette_fits(windows.reshape(-1, side * side), sets).reshape(-1, len(banks), num)
        for k, options in enumerate(found):
            best, which = fits[:, k].max(1), fits[:, k].argmax(1)
            for place in np.argsort(-best)[:_NUM_BEST]:
                down, across = divmod(int(place), num_across)
                x, y = ((at + 0.5 * side - _MARGIN_PX) / SEARCH_SIZE_PX for at in (across, down))
                pose = Pose(x, y, size, *grid.turned[int(which[place])])
                options.append((float(best[place]) + _SIZE_WEIGHT * float(np.log(size)), pose))
    return [_distinct(options, num_places) for options in found]


def _silhouette_fits(windows: np.ndarray, sets: Sequence[TemplateSet]) -> np.ndarray:
    """Coverage inside silhouettes less that around them: float32 [places, glyphs * poses]."""
    inside = np.concatenate([s.inside for s in sets])
    ring = np.clip(np.concatenate([s.around for s in sets]) - inside, 0, 1)
    within = windows @ inside.T / (inside.sum(1) + 1e-6)
    return within - _RING_WEIGHT * (windows @ ring.T) / (ring.sum(1) + 1e-6)


def _distinct(options: Sequence[tuple[float, Pose]], most: int) -> list[Pose]:
    kept: list[Pose] = []
    for _, pose in sorted(options, key=lambda option: -option[0]):
        if all(_apart(pose, other) for other in kept):
            kept.append(pose)
            if len(kept) == most:
                break
    return kept


def _apart(one: Pose, two: Pose) -> bool:
    return abs(one.x - two.x) + abs(one.y - two.y) > _APART or abs(np.log(one.size / two.size)) > 0.2
