"""Picture files that say how they were made: written into every picture that the server hands out, and read back."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin

from .. import __version__
from ..errors import UserError
from .bodies import PictureForm

KEY = "instruct-imagen"
_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131


class ProvenanceError(UserError):
    """A picture that does not say how it was made."""


@dataclass(frozen=True)
class Provenance:
    """How a picture was made; with the same references it is made again.

    Attributes:
        instruction: the text, markers in their canonical spelling.
        references: (marker, text) of each reference; the pictures themselves are not kept.
        model: its name.
        seed, num_inference_steps, guidance_scale, image_guidance_scale: of this picture.
        size_px: side of the file, enlarged from what the model drew.
        version: of this package.
    """

    instruction: str
    references: tuple[tuple[int, str], ...]
    model: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float | None
    size_px: int
    version: str = __version__


def encode_picture(image: Image.Image, provenance: Provenance, form: PictureForm = "png") -> bytes:
    """A file with the picture and its provenance: PNG in a text chunk, JPEG and WebP in EXIF's description."""
    text, software, buffer = json.dumps(asdict(provenance)), f"{KEY} {provenance.version}", io.BytesIO()
    if form == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Software", software)
        info.add_text(KEY, text)
        image.save(buffer, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif[_EXIF_SOFTWARE], exif[_EXIF_DESCRIPTION] = software, text
        image.save(buffer, form.upper(), exif=exif, quality=95)
    return buffer.getvalue()


def read_provenance(source: str | os.PathLike[str] | bytes | BinaryIO) -> Provenance:
    """How a picture file was made.

    Raises:
        ProvenanceError: unreadable, or it does not say.
    """
    file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as image:
            text = image.info[KEY] if image.format == "PNG" else image.getexif()[_EXIF_DESCRIPTION]
        values = json.loads(text)
        pairs = tuple((int(marker), str(reference)) for marker, reference in values.pop("references"))
        return Provenance(references=pairs, **values)
    except (OSError, KeyError, ValueError, TypeError, SyntaxError) as error:
        raise ProvenanceError("the picture does not say how it was made, or cannot be read") from error
