"""Perceptual hashes: 64 bits of a picture's coarse light and dark, the same after rescaling or recompression."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .extras import require


def perceptual_hash(image: Image.Image) -> int:
    """The DCT hash of a picture, 0 <= hash < 2**64.

    Raises:
        DataError: the library `imagehash` is not installed.
    """
    bits = require("imagehash").phash(image).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def hash_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Differing bits of hashes, uint64 of any equal shape each; 0..64."""
    return np.bitwise_count(first ^ second)
