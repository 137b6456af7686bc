"""From a drawn picture to the file that is handed out: size, kept part, watermark, metadata."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageFilter

from ..pictures import fit_square
from ..sheet import tile
from .bodies import PictureForm
from .drawing import DrawRequest
from .provenance import Provenance, encode_picture
from .references import Kept
from .watermark import Watermark

_FEATHER_SHARE = 1 / 128  # of the side: how soft the border of a masked edit is


@dataclass(frozen=True)
class Output:
    """What a request wants to get.

    Attributes:
        size_px: side of the file.
        form: of the file.
        by_url: kept by the server and named by URL, instead of sent inside the answer.
        kept: of a masked edit: outside the mask the original's own pixels are put back.
    """

    size_px: int
    form: PictureForm = "png"
    by_url: bool = False
    kept: Kept | None = None


def finish(
    image: Image.Image, request: DrawRequest, picture: int, output: Output, model: str, watermark: Watermark | None
) -> bytes:
    """The file of one picture."""
    image = tile(image, output.size_px)
    if output.kept is not None:
        image = _put_back(image, output.kept)
    if watermark is not None:
        image = watermark.write(image)
    provenance = Provenance(
        instruction=request.instruction.text,
        references=tuple((r.marker, r.text) for r in request.instruction.references),
        model=model,
        seed=request.seeds[picture],
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        image_guidance_scale=request.image_guidance_scale,
        size_px=output.size_px,
    )
    return encode_picture(image, provenance, output.form)


def _put_back(image: Image.Image, kept: Kept) -> Image.Image:
    """The original where the mask is black, exactly; the drawn picture where it is white, softly from the border in."""
    size_px = image.size[0]
    mask = fit_square(kept.mask.convert("RGB"), size_px).getchannel(0).point(lambda value: 255 if value >= 128 else 0)
    soft = mask.filter(ImageFilter.GaussianBlur(max(1.0, size_px * _FEATHER_SHARE)))
    inside = Image.composite(soft, Image.new("L", mask.size), mask)
    return Image.composite(image, fit_square(kept.picture, size_px), inside)
