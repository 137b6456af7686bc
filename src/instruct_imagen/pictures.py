"""Picture files become 8-bit RGB, and pictures of any shape become squares of the network's size; in one place each."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import InstructionError

MAX_PIXELS = 50_000_000
MAX_SIDE_PX = 2_048  # longer pictures are reduced while they are read: no network here reads more
# Formats we open; Pillow knows more, but some of them (EPS) start other programs.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_TRANSPOSES = {  # EXIF orientation -> what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def check_size(width: int, height: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture without pixels or with more than `max_pixels`, from its header alone."""
    if width < 1 or height < 1:
        raise InstructionError(f"{name} is {width} x {height} pixels; a picture needs at least one pixel.")
    if width * height > max_pixels:
        raise InstructionError(
            f"{name} is {width} x {height} pixels, more than {max_pixels / 1_000_000:g} megapixels; reduce it first."
        )


def _deep_grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Grey pictures of 16 or 32 bits or of floats, as 8-bit grey.

    Integers are read on the 16-bit scale (0..65535), floats on 0..1 if no value is above 1, else on 0..255.
    """
    values = np.nan_to_num(np.array(image, dtype=np.float32), copy=False, nan=0.0, posinf=65535.0, neginf=0.0)
    if image.mode != "F":
        values /= 257
    elif values.max() <= 1:
        values *= 255
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """A plain RGB copy: upright by its EXIF, alpha over white, within MAX_SIDE_PX, without metadata."""
    image.load()
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to refuse pixels that can be read
        orientation = 1
    if image.mode.startswith(("I", "F")):
        image = _deep_grey_to_8_bit(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if max(image.size) > MAX_SIDE_PX:
        scale = MAX_SIDE_PX / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if orientation in _TRANSPOSES:
        image = image.transpose(_TRANSPOSES[orientation])
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB") if image.mode != "RGB" else image.copy()
    image.info = {}
    return image


def _to_mask(image: Image.Image) -> Image.Image:
    image.load()
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    mask = image.convert("L") if alpha is None else alpha.point(lambda value: 255 - value)
    if max(mask.size) > MAX_SIDE_PX:
        mask.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return mask.point(lambda value: 255 if value >= 128 else 0)


def load_mask(
    source: str | os.PathLike[str] | bytes | BinaryIO, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read a mask as 0 and 255 (where to change): transparent pixels, or white ones of a picture without alpha.

    Raises:
        InstructionError: as `load_image`.
    """
    return _load(source, name, max_pixels, _to_mask)


def load_image(
    source: str | os.PathLike[str] | bytes | BinaryIO, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read a picture as 8-bit RGB.

    The first frame, upright by its EXIF, alpha over white; palette, grey (1 to 32 bits), and CMYK are
    converted. A side longer than MAX_SIDE_PX (2,048) is reduced to it, for JPEG already while decoding.

    Args:
        source: a path, the bytes of a file, or an open binary file.
        name: what to call it in errors; the path by default.
        max_pixels: more are refused.

    Raises:
        InstructionError: no such file, not one of IMAGE_FORMATS, damaged, without pixels, or larger than
            `max_pixels` (which is found before any pixel is decoded).
    """
    return _load(source, name, max_pixels, to_rgb)


def _load(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    name: str | None,
    max_pixels: int,
    convert: Callable[[Image.Image], Image.Image],
) -> Image.Image:
    """Opens a picture with every check, and converts it."""
    file: Any = source
    if isinstance(source, bytes):
        name, file = name or "the picture", io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        name = name or f"'{os.fspath(source)}'"
    else:
        name = name or f"'{getattr(source, 'name', None) or 'the picture'}'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                check_size(*image.size, name, max_pixels)
                image.draft(None, (MAX_SIDE_PX, MAX_SIDE_PX))
                return convert(image)
    except InstructionError:
        raise
    except FileNotFoundError as error:
        raise InstructionError(f"{name} does not exist; check the path.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = max_pixels / 1_000_000
        raise InstructionError(f"{name} has more than {limit:g} megapixels; reduce it first.") from error
    except UnidentifiedImageError as error:
        formats = ", ".join(IMAGE_FORMATS)
        raise InstructionError(f"{name} is not a picture this program reads ({formats}).") from error
    except Exception as error:  # decoders raise many kinds (OSError, SyntaxError, struct.error, ...)
        raise InstructionError(f"{name} is damaged or cannot be read ({error}); save it anew.") from error


def fit_square(image: Image.Image, size_px: int) -> Image.Image:
    """The largest centred square of `image`, resized to `size_px` x `size_px` RGB.

    The one way a picture of any shape meets a network of a fixed size, in training, evaluation and sampling,
    so that a control picture and its target stay aligned. Shrinking and enlarging both use Lanczos, with
    anti-aliasing.

    Raises:
        ValueError: `size_px` is below 1.
    """
    if size_px < 1:
        raise ValueError(f"size_px must be at least 1, not {size_px}.")
    if image.mode != "RGB":
        image = to_rgb(image)
    if image.size == (size_px, size_px):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    # not resize(box=box), whose filter reads pixels outside the box
    return image.crop(box).resize((size_px, size_px), Image.Resampling.LANCZOS)
