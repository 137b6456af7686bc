"""Quality judge: how near a picture is to the distribution of true ones, whatever it shows.

features: the overview judge's; statistics: nearest neighbours among 1,536 true pictures of every kind, every other one
slightly touched, and the squared maximum mean discrepancy of two sets; numbers: `realism` per picture,
`kernel_distance` per set.

It stands in for the paper's perceptual quality (PQ, §4). A picture is compared with true pictures of its own size, as
FID is: a model of 32 pixels is not blamed for the pixels that it does not draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...world import GlyphPack
from ..pictures import JUDGE_SIZE_PX, judged
from .overview import shipped_overview_judge
from .spoiling import touched
from .train_overview import AllScenes

SEED = 8_400_000
NUM_TRUE = 1536
_NEIGHBOURS = 3  # k of Kynkäänniemi et al. 2019
_KEPT_SHARE = 0.5  # of the true pictures, those with the nearest neighbours: stray ones would let anything pass
MOST_REALISM = 2.0
_KERNEL_DEGREE = 3  # of Binkowski et al. 2018


@dataclass(frozen=True)
class TrueFeatures:
    """Features of true pictures at one size.

    Attributes:
        features: float64 [M, D], in units of their standard deviations.
        radii: float64 [M], distance of each to its k-th neighbour; infinite ones do not count.
        mean, std: float64 [D], of the features as the overview judge gives them.
    """

    features: np.ndarray
    radii: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> TrueFeatures:
        """From what the overview judge gave: float [M, D]."""
        values = features.astype(np.float64)
        mean, std = values.mean(0), values.std(0) + 1e-6
        values = (values - mean) / std
        radii = np.sort(distances(values, values), axis=1)[:, _NEIGHBOURS]  # the nearest is the picture itself
        return cls(values, radii, mean, std)

    def realism(self, features: np.ndarray) -> np.ndarray:
        """Realism score of pictures: above 1 lies within the true ones' manifold (k-NN precision), 0 is far away.

        The score of Kynkäänniemi et al. 2019 (eq. 3), cut at `MOST_REALISM`.

        Args:
            features: float [N, D] as the overview judge gives them.

        Returns:
            float64 [N].
        """
        kept = self.radii <= np.quantile(self.radii, _KEPT_SHARE)
        apart = distances((features - self.mean) / self.std, self.features[kept])
        return np.minimum((self.radii[kept] / np.maximum(apart, 1e-9)).max(1), MOST_REALISM)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances of float [N, D] to float [M, D]: float64 [N, M]."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0))


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """KID: unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)^3; about 0 for equal distributions.

    Args:
        first: float [N, D], N at least 2.
        second: float [M, D], M at least 2.
    """
    one, two = (values.astype(np.float64) for values in (first, second))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** _KERNEL_DEGREE

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(one) + within(two) - 2 * float(kernel(one, two).mean())


@lru_cache(maxsize=4)
def true_features(pack: GlyphPack, size_px: int) -> TrueFeatures:
    """Of pictures of every kind, every other one touched as raters would not mind; drawn when first asked for.

    Args:
        pack: the glyphs.
        size_px: at which the pictures are seen; no more than the judges' size counts.
    """
    rng = np.random.default_rng(SEED)
    source = AllScenes(pack)
    drawn = [source.draw(rng)[1].image for _ in range(NUM_TRUE)]
    seen = at_size(drawn, size_px)
    seen[1::2] = [touched(picture, rng) for picture in seen[1::2]]
    return TrueFeatures.of(shipped_overview_judge().look(seen).quality)


def at_size(pictures: Sequence[np.ndarray], size_px: int) -> list[np.ndarray]:
    """True pictures as a model of a size would give them, at the judges' size."""
    side = min(size_px, JUDGE_SIZE_PX)
    return [judged(judged(picture, side)) for picture in pictures]
