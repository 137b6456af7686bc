"""Picture files that say how they were made, in every form that the server hands out."""

from __future__ import annotations

import io
import os

from PIL import Image

from ..metadata import PNG_KEY, MetadataError, Provenance, from_json, read_png_metadata, to_json, write_png
from .bodies import PictureForm

_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131


def encode_picture(image: Image.Image, provenance: Provenance, form: PictureForm = "png") -> bytes:
    """A file with the picture and its provenance: PNG in a text chunk, JPEG and WebP in EXIF's description."""
    if form == "png":
        return write_png(image, provenance)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[_EXIF_SOFTWARE], exif[_EXIF_DESCRIPTION] = f"{PNG_KEY} {provenance.version}", to_json(provenance)
    image.save(buffer, form.upper(), exif=exif, quality=95)
    return buffer.getvalue()


def read_provenance(source: str | os.PathLike[str] | bytes) -> Provenance:
    """How a picture file was made, PNG, JPEG or WebP.

    Raises:
        MetadataError: unreadable, or it does not say.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.format != "PNG":
                return from_json(image.getexif()[_EXIF_DESCRIPTION])
    except (OSError, KeyError, SyntaxError) as error:
        raise MetadataError("the picture does not say how it was made, or cannot be read") from error
    return read_png_metadata(source)
