"""PNG files that say how they were made: JSON in one text chunk, whose key is `PNG_KEY`.

    path.write_bytes(write_png(image, Provenance("Draw [ref#1].", ((1, "fox"),), "instruct-imagen-nano", seed=7, ...)))
    read_png_metadata(path).seed                    # 7

The pictures of the references are not in it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
        model: its name, and those of adapters.
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


def title_with(model: str, adapters: Sequence[tuple[str, float]]) -> str:
    """What pictures say they were made with: `model + edit`, or `model + mine/lora x 0.5`; of a path its end alone."""
    names = ["/".join(Path(name).parts[-2:]) + (f" x {scale:g}" if scale != 1 else "") for name, scale in adapters]
    return " + ".join([model, *names])


def to_json(metadata: Provenance) -> str:
    """The text that a file carries; ASCII, because EXIF and simple PNG chunks hold nothing else."""
    return json.dumps(asdict(metadata))


def from_json(text: str) -> Provenance:
    """Inverse of `to_json`.

    Raises:
        MetadataError: it is something else.
    """
    try:
        values = json.loads(text)
        pairs = tuple((int(marker), str(reference)) for marker, reference in values.pop("references"))
        return Provenance(references=pairs, **values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetadataError("the picture does not say how it was made") from error


def write_png(image: Image.Image, metadata: Provenance) -> bytes:
    """The content of a PNG file with the picture, and `metadata` as JSON under `PNG_KEY`."""
    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_text("Software", f"{PNG_KEY} {metadata.version}")
    chunks.add_text(PNG_KEY, to_json(metadata))
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
            return from_json(image.info[PNG_KEY])
    except (OSError, SyntaxError, KeyError, MetadataError) as error:
        raise MetadataError(f"{name} does not say how it was made; use a PNG file that was drawn here") from error
