"""Picture files as the web has them: unusual but good, and damaged in every way that can be told apart."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

Rng = np.random.Generator


def drawing(rng: Rng) -> Image.Image:
    """RGB noise in blocks: looks like nothing, compresses like a picture."""
    blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((48, 36), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def animation(rng: Rng, form: str) -> bytes:
    return encoded(drawing(rng), form, save_all=True, append_images=[drawing(rng), drawing(rng)], duration=50)


def deep(rng: Rng) -> bytes:
    """Grey of 16 bits."""
    return encoded(Image.fromarray(rng.integers(0, 65536, (20, 24), dtype=np.uint16)), "PNG")


def turned(rng: Rng) -> bytes:
    """A JPEG whose EXIF says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(drawing(rng), "JPEG", exif=exif)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is enormous, and of which there is little more than that."""
    kind = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (kind, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_wrong_bytes(data: bytes) -> bytes:
    """A PNG whose compressed pixels begin with what cannot begin them."""
    begin = data.index(b"IDAT") + 4
    return data[:begin] + b"\xff\xff\xff" + data[begin + 3 :]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


GOOD_PICTURES: Mapping[str, Callable[[Rng], bytes]] = {
    "JPEG": lambda rng: encoded(drawing(rng), "JPEG"),
    "progressive JPEG": lambda rng: encoded(drawing(rng), "JPEG", progressive=True),
    "PNG": lambda rng: encoded(drawing(rng), "PNG"),
    "WebP": lambda rng: encoded(drawing(rng), "WEBP"),
    "BMP": lambda rng: encoded(drawing(rng), "BMP"),
    "TIFF": lambda rng: encoded(drawing(rng), "TIFF"),
    "animated GIF": lambda rng: animation(rng, "GIF"),
    "animated WebP": lambda rng: animation(rng, "WEBP"),
    "animated PNG": lambda rng: animation(rng, "PNG"),
    "CMYK": lambda rng: encoded(drawing(rng).convert("CMYK"), "JPEG"),
    "16 bits": deep,
    "palette": lambda rng: encoded(drawing(rng).quantize(16), "PNG", transparency=3),
    "grey with alpha": lambda rng: encoded(drawing(rng).convert("LA"), "PNG"),
    "one bit": lambda rng: encoded(drawing(rng).convert("1"), "PNG"),
    "turned by its EXIF": turned,
    "one pixel": lambda rng: encoded(drawing(rng).resize((1, 1)), "PNG"),
}

# Files that are no pictures, each with the reason it is counted under.
BAD_PICTURES: Mapping[str, tuple[Callable[[Rng], bytes], str]] = {
    "half a JPEG": (lambda rng: half(encoded(drawing(rng), "JPEG")), "picture cut off"),
    "half a PNG": (lambda rng: half(encoded(drawing(rng), "PNG")), "picture cut off"),
    "half a GIF": (lambda rng: half(encoded(drawing(rng), "GIF")), "picture cut off"),
    "half a WebP": (lambda rng: half(encoded(drawing(rng), "WEBP")), "unreadable picture"),
    "PNG with wrong bytes": (lambda rng: with_wrong_bytes(encoded(drawing(rng), "PNG")), "unreadable picture"),
    "web page": (lambda rng: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not a picture"),
    "noise": (lambda rng: rng.bytes(500), "not a picture"),
    "zeros": (lambda rng: bytes(500), "not a picture"),
    "bomb": (lambda rng: png_header(60_000, 60_000), "more than 50 megapixels"),
    "small bomb": (lambda rng: png_header(8_000, 7_000), "more than 50 megapixels"),  # below Pillow's own limit
}
