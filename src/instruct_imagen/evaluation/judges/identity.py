"""Subject judge: which of several glyphs is in a picture.

features: the picture and every candidate in the best pose that can be found for it; statistic: how well colours and
edges correlate there on a small copy (`glyph_templates`), plus the share of the variance in and around the silhouette
that "this glyph over a ground of one colour" explains; number: the candidate with the highest sum. Contrast,
brightness and ground are fitted and the sharpness is chosen, so that a blurred or faded glyph is still that glyph,
while its shape and the layout of its colours have to be right. Nothing is learned, so held-out glyphs are judged as
well as any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from ...world.render import Pictures
from ..pictures import JUDGE_SIZE_PX
from .glyph_templates import SINGLE, Pose, PoseGrid, draw_glyph, make_templates, search

NUM_REFINED = 8  # candidates of the coarse search that are fitted finely
CACHED_GLYPHS = 192  # about 0.8 MB each

_BLURS_PX = (0.5, 1.2, 2.2)
# In pixels of a picture of JUDGE_SIZE_PX; larger pictures are read at their own size.
_RING_PX = 3  # width of the ground around the silhouette that the fit looks at
_RING_WEIGHT = 0.5
_PRIOR = 0.02  # how firmly contrast is held near 0.9 and brightness near 0.05, per pixel
_CONTRASTS = (0.35, 1.4)
_NOISE = 0.02  # of each colour, 0..1
_MIN_AREA_PX = 30
_SHARPNESS = 0.05  # of the share that a score gives: a lead of so much is e to one
_CHANGES = np.diag([1 / JUDGE_SIZE_PX, 1 / JUDGE_SIZE_PX, 0.06, 6.0])  # of x, y, size (a share of it), and turn


class IdentityJudge:
    """Compares pictures with candidate glyphs of one pack.

    Args:
        pack: the glyphs, or portraits.
        size_px: side of the pictures.
        grid: the poses that they may have.
    """

    def __init__(self, pack: Pictures, size_px: int = JUDGE_SIZE_PX, grid: PoseGrid = SINGLE) -> None:
        self.pack, self.size_px, self.grid = pack, size_px, grid
        self._templates = lru_cache(CACHED_GLYPHS)(lambda glyph: make_templates(pack, glyph, grid))

    def scores(self, picture: np.ndarray, candidates: Sequence[str]) -> np.ndarray:
        """How well each candidate explains a picture.

        Args:
            picture: uint8 [S, S, 3].
            candidates: keys of glyphs.

        Returns:
            float64 [len(candidates)]; higher is better, -inf for those that the coarse search ruled out.
        """
        found = search(picture, [self._templates(glyph) for glyph in candidates], self.grid)
        values = picture.astype(np.float32) / 255
        result = np.full(len(candidates), -np.inf)
        for k in sorted(range(len(found)), key=lambda k: -found[k].score)[:NUM_REFINED]:
            result[k] = found[k].score + self._best_fit(values, candidates[k], found[k].pose)
        return result

    def choose(self, picture: np.ndarray, candidates: Sequence[str]) -> str:
        """The candidate that is most likely in the picture, uint8 [S, S, 3]."""
        return candidates[int(self.scores(picture, candidates).argmax())]

    def shares(self, picture: np.ndarray, candidates: Sequence[str]) -> np.ndarray:
        """Each candidate's share of their likelihood: float64 [len(candidates)], summing to 1."""
        scores = self.scores(picture, candidates)
        shares = np.exp((scores - scores.max()) / _SHARPNESS)
        return shares / shares.sum()

    def find(self, picture: np.ndarray, glyph: str) -> Pose:
        """Where a glyph fits a picture best, uint8 [S, S, 3], if it is there at all."""
        return search(picture, [self._templates(glyph)], self.grid)[0].pose

    def _best_fit(self, picture: np.ndarray, glyph: str, pose: Pose) -> float:
        """Best fit near a pose, by trying one change at a time with ever smaller steps."""
        blur_px = max(_BLURS_PX, key=lambda blur_px: self._fit(picture, glyph, pose, blur_px))
        best = self._fit(picture, glyph, pose, blur_px)
        for fineness in (1.0, 1.0, 0.5, 0.5, 0.25, 0.25):
            for change in _CHANGES:
                for sign in (fineness, -fineness):
                    other = self._changed(pose, sign * change)
                    fit = self._fit(picture, glyph, other, blur_px)
                    if fit > best:
                        best, pose = fit, other
                        break
        return best

    def _changed(self, pose: Pose, change: np.ndarray) -> Pose:
        """A pose moved, resized and turned by float64 [4], within the bounds of poses."""
        low, high = self.grid.size_bounds
        most = self.grid.most_turn_deg
        size = min(max(pose.size * (1 + change[2]), low), high)
        turn = min(max(pose.turn_deg + change[3], -most), most)
        return Pose(pose.x + change[0], pose.y + change[1], size, turn, pose.mirror)

    def _fit(self, picture: np.ndarray, glyph: str, pose: Pose, blur_px: float) -> float:
        scale = self.size_px / JUDGE_SIZE_PX
        drawn = cv2.GaussianBlur(draw_glyph(self.pack, glyph, pose, self.size_px), (0, 0), scale * blur_px)
        return explained_share(picture, drawn, scale)


def explained_share(picture: np.ndarray, drawn: np.ndarray, scale: float = 1.0) -> float:
    """Share of the variance near a silhouette that a glyph over an even ground explains.

    The model of a pixel with coverage a is `contrast * drawn + brightness * a + (1 - a) * ground`; contrast,
    brightness (one number each) and the ground's colour are fitted by least squares.

    Args:
        picture: float32 [S, S, 3] in 0..1.
        drawn: float32 [S, S, 4] in 0..1, the glyph alone, premultiplied.
        scale: S over JUDGE_SIZE_PX.

    Returns:
        At most 1; -1 if too little of the glyph is on the canvas.
    """
    rows, columns = (np.flatnonzero(line) for line in ((drawn[..., 3] > 0.3).any(1), (drawn[..., 3] > 0.3).any(0)))
    if len(rows) * len(columns) < _MIN_AREA_PX * scale**2:
        return -1.0
    ring = round(_RING_PX * scale)
    reach = ring + 1
    crop = (
        slice(max(rows[0] - reach, 0), rows[-1] + reach),
        slice(max(columns[0] - reach, 0), columns[-1] + reach),
    )
    glyph, inside, seen = drawn[crop][..., :3], drawn[crop][..., 3], picture[crop]
    near = cv2.dilate((inside > 0.3).astype(np.uint8), np.ones((2 * ring + 1,) * 2, np.uint8))
    weights = (near * (_RING_WEIGHT + (1 - _RING_WEIGHT) * inside))[..., None]
    total = float(weights.sum())
    parts = np.concatenate([glyph, inside[..., None], 1 - inside[..., None], seen], axis=-1).reshape(-1, 8)
    moments = (parts * weights.reshape(-1, 1)).T @ parts  # products of glyph (3), inside, outside, picture (3)
    return _solved_share(moments.astype(np.float64), (weights[..., 0].reshape(-1) @ seen.reshape(-1, 3)) / total, total)


def _solved_share(moments: np.ndarray, mean: np.ndarray, total: float) -> float:
    """The fit of `explained_share` from its second moments, float64 [8, 8]; unknowns: contrast, brightness, ground."""
    normal, right = np.zeros((5, 5)), np.empty(5)
    normal[0, 0] = np.trace(moments[:3, :3])
    normal[0, 1] = normal[1, 0] = moments[:3, 3].sum()
    normal[1, 1] = 3 * moments[3, 3]
    normal[0, 2:] = normal[2:, 0] = moments[:3, 4]
    normal[1, 2:] = normal[2:, 1] = moments[3, 4]
    normal[[2, 3, 4], [2, 3, 4]] = moments[4, 4]
    right[0] = np.trace(moments[:3, 5:])
    right[1] = moments[3, 5:].sum()
    right[2:] = moments[4, 5:]
    firm = np.array([_PRIOR, _PRIOR, 0, 0, 0]) * total
    held = normal + np.diag(firm + 1e-4)
    wanted = right + firm * (0.9, 0.05, 0, 0, 0)
    answer = np.linalg.solve(held, wanted)
    contrast = min(max(answer[0], _CONTRASTS[0]), _CONTRASTS[1])
    if contrast != answer[0]:
        answer[0] = contrast
        answer[1:] = np.linalg.solve(held[1:, 1:], wanted[1:] - normal[1:, 0] * contrast)
    power = float(np.trace(moments[5:, 5:]))
    left_over = power - 2 * answer @ right + answer @ normal @ answer
    noise = 3 * _NOISE**2 * total
    return float(1 - (left_over + noise) / (power - total * float(mean @ mean) + noise))
