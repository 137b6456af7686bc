"""PNG files that say how they were made: JSON in one text chunk, whose key is `PNG_KEY`.

    path.write_bytes(write_png(image, Provenance("Draw [ref#1].", ((1, "fox"),), "instruct-imagen-nano", seed=7, ...)))
    read_png_metadata(path).seed                    # 7

The pictures of the references are not in it.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import __version__
from .errors import UserError

PNG_KEY = "instruct-imagen"


class MetadataError(UserError):
    """A picture that does not say how it was made."""


@dataclass(frozen=True)
class Provenance:
    """How a picture was made; with the same references it can be made again.

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


def write_png(image: Image.Image, metadata: Provenance) -> bytes:
    """The content of a PNG file with the picture, and `metadata` as JSON under `PNG_KEY`."""
    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_itxt("Software", f"{PNG_KEY} {metadata.version}")
    chunks.add_itxt(PNG_KEY, json.dumps(asdict(metadata), ensure_ascii=False))
    image.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def read_png_metadata(source: str | os.PathLike[str] | bytes) -> Provenance:
    """How a picture was made.

    Args:
        source: the path or the content of a PNG file.

    Raises:
        MetadataError: no readable PNG, or it does not say.
    """
    name = "the picture" if isinstance(source, bytes) else f"'{os.fspath(source)}'"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG",)) as image:
            image.load()  # the chunk may stand behind the pixels
            values = json.loads(image.info[PNG_KEY])
        pairs = tuple((int(marker), str(text)) for marker, text in values.pop("references"))
        return Provenance(references=pairs, **values)
    except (OSError, SyntaxError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetadataError(f"{name} does not say how it was made; use a PNG file that was drawn here.") from error
