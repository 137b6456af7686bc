"""Style judge: which of the world's styles a picture is in.

features: `style_features`, colour moments, gradient statistics and local spectra; statistic: one score per style, by
kernel ridge regression; number: whether the best is the wanted one. The judge knows held-out styles too: it is no
part of the model. It is calibrated when first used, in about ten seconds, on scenes of its own seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from ...world import STYLE_NAMES, GlyphPack, SceneSampler, render, sample_style
from ..pictures import JUDGE_SIZE_PX, judged

SEED = 8_100_000
SCENES_PER_STYLE = 50
BLURS_PX = (0.3, 1.0)  # each scene is shown as it is, and blurred, as generated pictures are

_KERNEL_WIDTH = 1.0  # standard deviation, in root mean squares of the standardised features' differences
_RIDGE = 0.003


def style_features(picture: np.ndarray) -> np.ndarray:
    """Colour moments, gradient statistics and local spectra; uint8 [64, 64, 3] to float64 [F]."""
    colour = picture.astype(np.float32) / 255
    lab = cv2.cvtColor(colour, cv2.COLOR_RGB2LAB) / 100
    luma = lab[..., 0]
    flat = lab.reshape(-1, 3)
    moments = [flat.mean(0), flat.std(0), np.percentile(flat, (5, 25, 50, 75, 95), axis=0).ravel()]
    chroma = np.hypot(flat[:, 1], flat[:, 2])
    moments += [[chroma.mean(), chroma.std()], np.histogram(luma, 8, (0, 1))[0] / luma.size]
    edge = np.concatenate([colour[:3].reshape(-1, 3), colour[-3:].reshape(-1, 3), colour[:, :3].reshape(-1, 3)])
    moments += [edge.mean(0), edge.std(0)]
    steps = [luma[k:] - luma[:-k] for k in (1, 2, 4)] + [luma[:, k:] - luma[:, :-k] for k in (1, 2, 4)]
    steps += [luma[1:, 1:] - luma[:-1, :-1], luma[1:, :-1] - luma[:-1, 1:]]
    gradients = [stat for s in steps for stat in (np.log(np.abs(s).mean() + 0.01), s.std(), (np.abs(s) < 0.004).mean())]
    spectra = []
    for plane in (luma, lab[..., 1]):
        tiles = plane.reshape(4, 16, 4, 16).transpose(0, 2, 1, 3).reshape(16, 16, 16)
        power = np.abs(np.fft.rfft2(tiles - tiles.mean((1, 2), keepdims=True))) ** 2
        spectra.append(np.log(power.mean(0) + 1e-3)[:, ::2].ravel())
    return np.concatenate([*moments, gradients, *spectra]).astype(np.float64)


class StyleJudge:
    """Names the style of pictures.

    Args:
        features: float64 [N, F] of the calibration pictures.
        labels: int [N], positions in `STYLE_NAMES`.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.mean, self.std = features.mean(0), features.std(0) + 1e-6
        self.known = (features - self.mean) / self.std
        kernel = self._kernel(self.known)
        wanted = np.eye(len(STYLE_NAMES))[labels] - 1 / len(STYLE_NAMES)
        self.weights = np.linalg.solve(kernel + _RIDGE * np.eye(len(kernel)), wanted)

    @classmethod
    def calibrated(
        cls,
        pack: GlyphPack,
        scenes_per_style: int = SCENES_PER_STYLE,
        seed: int = SEED,
        sizes_px: Sequence[int] = (JUDGE_SIZE_PX,),
    ) -> StyleJudge:
        """A judge fitted to scenes of training glyphs in every style, held-out ones included.

        Args:
            pack: the glyphs.
            scenes_per_style: each is shown twice at each size, the second time blurred.
            seed: of the scenes.
            sizes_px: sides of the models whose pictures are to be judged.
        """
        sampler = SceneSampler(pack, "train")
        features, labels = [], []
        for label, name in enumerate(STYLE_NAMES):
            rng = np.random.default_rng((seed, label))
            for _ in range(scenes_per_style):
                scene = replace(sampler.sample(rng), style=sample_style(rng, name))
                picture = render(scene, pack, JUDGE_SIZE_PX).image
                blurred = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(*BLURS_PX)))
                for size_px in sizes_px:
                    features += [style_features(judged(judged(shown, size_px))) for shown in (picture, blurred)]
                    labels += [label, label]
        return cls(np.stack(features), np.array(labels))

    def margins(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Lead of every style over the best other one, about -1..1: float64 [N, styles]; uint8 [64, 64, 3] each."""
        scores = self._scores(pictures)
        best = np.sort(scores, axis=1)[:, -2:]
        return scores - np.where(scores == best[:, 1:], best[:, :1], best[:, 1:])

    def names(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """The style of each picture, uint8 [64, 64, 3]; one of `STYLE_NAMES`."""
        if not pictures:
            return []
        return [STYLE_NAMES[int(best)] for best in self._scores(pictures).argmax(1)]

    def _scores(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        features = np.stack([style_features(picture) for picture in pictures])
        return self._kernel((features - self.mean) / self.std) @ self.weights

    def _kernel(self, values: np.ndarray) -> np.ndarray:
        """Gaussian similarity of standardised features [M, F] to the calibration pictures': float64 [M, N]."""
        squares = (values**2).sum(1)[:, None] + (self.known**2).sum(1) - 2 * values @ self.known.T
        return np.exp(-0.5 * np.maximum(squares, 0) / (_KERNEL_WIDTH**2 * values.shape[1]))
