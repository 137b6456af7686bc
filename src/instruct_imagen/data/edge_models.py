"""Edges by a learned detector in ONNX, as `controls.ControlModels` takes them; OpenCV runs it, so nothing is installed.

    ControlModels(edge_model=OnnxEdges(Path("edge_detection_dexined_2024sep.onnx")))

The defaults fit DexiNed as OpenCV's model zoo has it, and HED, which the paper takes (Table 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .report import DataError

_SMOOTHING = 1.0  # standard deviation, pixels, before ridges are looked for
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class OnnxEdges:
    """A network that gives every pixel the strength of an edge there.

    Its input is one picture [1, 3, S, S]; of several outputs, [1, 1, s, s] each, the last counts (the fused one).

    Attributes:
        model: the ONNX file.
        size_px: S, which exported networks mostly have fixed.
        mean: of red, green and blue in 0..255, taken away from the picture.
        std: what it is divided by then.
        bgr: whether the network reads blue first, as those from Caffe and OpenCV do.
        threshold: strength, 0..1, from which a pixel is an edge.
    """

    model: Path
    size_px: int = 512
    mean: tuple[float, float, float] = (123.6, 116.2, 103.5)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = True
    threshold: float = 0.4

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB [H, W] to bool [H, W], edges about one pixel wide.

        Raises:
            DataError: the model cannot be read, or is none for pictures of this size.
        """
        size = (self.size_px, self.size_px)
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32)
        values = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        strength = self._run(values[..., ::-1] if self.bgr else values)
        if strength.min() < 0 or strength.max() > 1:  # not yet through a sigmoid
            strength = 1 / (1 + np.exp(-np.clip(strength, -30, 30)))
        return ridges(cv2.resize(strength, image.size, interpolation=cv2.INTER_LINEAR), self.threshold)

    def _run(self, values: np.ndarray) -> np.ndarray:
        """The network's last output, float32 [s, s], for a picture, float32 [S, S, 3]."""
        network = _load(self.model)
        try:
            network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
            found = network.forward(network.getUnconnectedOutLayersNames())[-1]
        except cv2.error as error:
            raise DataError(
                f"The edge model {self.model} cannot read pictures of {self.size_px} pixels ({_reason(error)}); give "
                "OnnxEdges the size_px that it was exported for."
            ) from error
        if found.ndim != 4 or found.shape[:2] != (1, 1):
            raise DataError(f"The edge model {self.model} gives {found.shape}, and no edge map of (1, 1, side, side).")
        return found[0, 0].astype(np.float32)


def ridges(strength: np.ndarray, threshold: float) -> np.ndarray:
    """The crests of an edge map, about one pixel wide.

    A pixel is kept if it is no lower than its two neighbours across the edge, which is the direction of the four in
    which the map falls off most.

    Args:
        strength: float32 [H, W], 0..1.
        threshold: lower pixels are no edge.

    Returns:
        bool [H, W].
    """
    smooth = np.pad(cv2.GaussianBlur(strength, (0, 0), _SMOOTHING), 1, mode="edge")
    height, width = strength.shape
    centre = smooth[1:-1, 1:-1]
    steepest, crest = np.zeros(strength.shape, np.float32), np.zeros(strength.shape, bool)
    for down, across in _DIRECTIONS:
        one = smooth[1 + down : 1 + down + height, 1 + across : 1 + across + width]
        other = smooth[1 - down : 1 - down + height, 1 - across : 1 - across + width]
        fall = (2 * centre - one - other) / (down * down + across * across)
        better = fall > steepest
        steepest[better] = fall[better]
        crest[better] = ((centre >= one) & (centre > other))[better]
    return crest & (strength >= threshold)


@lru_cache(maxsize=2)
def _load(path: Path) -> cv2.dnn.Net:
    if not path.is_file():
        raise DataError(f"The edge model {path} does not exist; name an ONNX file.")
    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise DataError(f"The edge model {path} is no ONNX file that OpenCV reads ({_reason(error)}).") from error


def _reason(error: cv2.error) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0].rpartition("error: ")[2]
