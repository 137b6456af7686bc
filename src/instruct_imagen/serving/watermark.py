"""An optional invisible watermark in the pixels, by the library that diffusers uses for its own.

invisible-watermark is the least bad choice: the better kept ones need torchvision and download networks. Its package
asks for opencv-python, which would take the place of the headless OpenCV here, so it is installed without its
requirements (docs/serving.md). The mark survives lossless files and mild JPEG compression, not cropping or resizing.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
from PIL import Image

from .settings import ServerError

MIN_SIZE_PX = 256  # the library's own limit
MAX_BYTES = 8
_METHOD = "dwtDctSvd"


class Watermark:
    """Writes `text` into pictures.

    Args:
        text: at most MAX_BYTES bytes of ASCII; fewer are read back more surely.

    Raises:
        ServerError: the text is too long, or the library is missing.
    """

    def __init__(self, text: str):
        if not text or not text.isascii() or len(text) > MAX_BYTES:
            raise ServerError(f"the watermark {text!r} must have 1 to {MAX_BYTES} characters of ASCII")
        try:
            library = import_module("imwatermark")
        except ImportError as error:
            raise ServerError(
                "the watermark needs invisible-watermark; install it with "
                "`pip install --no-deps invisible-watermark PyWavelets`"
            ) from error
        self._text, self._encoder = text.encode(), library.WatermarkEncoder()
        self._encoder.set_watermark("bytes", self._text)
        self._decoder = library.WatermarkDecoder("bytes", 8 * len(self._text))

    def write(self, image: Image.Image) -> Image.Image:
        """The marked picture; at least MIN_SIZE_PX a side."""
        marked = self._encoder.encode(np.asarray(image)[:, :, ::-1].copy(), _METHOD)
        return Image.fromarray(np.ascontiguousarray(marked[:, :, ::-1]))

    def found_in(self, image: Image.Image) -> bool:
        """Whether exactly this text is in a picture."""
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1].copy()
        return bool(self._decoder.decode(pixels, _METHOD) == self._text)
