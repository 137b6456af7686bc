"""From a checked body to an `Instruction`: pictures from files, data URLs and, if allowed, the web."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from ..errors import InstructionError
from ..instruction import Instruction, Reference, marker_token, markers_in, normalise_markers, read_data_url
from ..pictures import fit_square, load_image, load_mask
from .bodies import EditBody, EditFields, InstructBody
from .errors import ApiError
from .fetching import Fetcher
from .receiving import Received
from .settings import Limits

_IMAGE_PART = re.compile(r"image(?:\[(\d{0,4})\])?")
MASK_TEXT = "mask"


@dataclass(frozen=True)
class Kept:
    """What a masked edit does not change: the picture, and the mask that is white where it does; of one size."""

    picture: Image.Image
    mask: Image.Image


class Pictures:
    """Opens what a body names, a few at a time.

    Args:
        limits: of the pixels of one picture.
        size_px: references are reduced to this square at once, so that waiting requests hold little.
        fetcher: for web addresses; None refuses them.
        num_at_once: pictures decoded at the same time.
    """

    def __init__(self, limits: Limits, size_px: int, fetcher: Fetcher | None, num_at_once: int = 2):
        self._limits, self._size_px, self._fetcher = limits, size_px, fetcher
        self._places = asyncio.Semaphore(num_at_once)

    async def read(self, source: str | bytes, name: str) -> Image.Image:
        """A picture from a file's bytes, a data URL or a web address."""
        data = await self._bytes(source, name)
        async with self._places:
            return await asyncio.to_thread(load_image, data, name, self._limits.picture_pixels)

    async def read_mask(self, source: str | bytes, name: str) -> Image.Image:
        """Likewise a mask, see `load_mask`."""
        data = await self._bytes(source, name)
        async with self._places:
            return await asyncio.to_thread(load_mask, data, name, self._limits.picture_pixels)

    def reduced(self, instruction: Instruction) -> Instruction:
        """The instruction with its pictures as small as the network reads them, which changes no result."""
        references = (replace(r, image=fit_square(r.image, self._size_px)) for r in instruction.references)
        return replace(instruction, references=tuple(references))

    async def _bytes(self, source: str | bytes, name: str) -> bytes:
        if isinstance(source, bytes):
            return source
        scheme = source[:8].lower()
        if scheme.startswith("data:"):
            return await asyncio.to_thread(read_data_url, source, name)
        if not scheme.startswith(("http://", "https://")):
            raise InstructionError(f"{name} must be a data: URL or an uploaded file.")
        if self._fetcher is None:
            raise InstructionError(f"{name} is a web address, and this server fetches none; send the picture itself.")
        return await asyncio.to_thread(self._fetcher.fetch, source, name)


async def read_instruction(body: InstructBody, files: Sequence[tuple[str, bytes]], pictures: Pictures) -> Instruction:
    """The instruction of the native endpoint; uploaded pictures are named by their part."""
    uploaded = _by_name(files)
    named = {reference.image for reference in body.references}
    if unused := sorted(set(uploaded) - named):
        raise InstructionError(f"the part '{unused[0][:100]}' is the picture of no reference; name it or leave it out.")
    references = []
    for index, reference in enumerate(body.references):
        what = f"references[{index}].image"
        image = await pictures.read(uploaded.get(reference.image, reference.image), what)
        references.append(Reference(image, reference.text, reference.marker))
    return pictures.reduced(Instruction(body.instruction, tuple(references)))


async def read_edit(received: Received, pictures: Pictures) -> tuple[EditFields, Instruction, Kept | None]:
    """Fields, instruction and kept part of an edit, whichever way its pictures came."""
    if received.is_form:
        body: EditFields = received.validate(EditFields, _form_fields(received))
        sources: list[str | bytes] = list(_form_images(received))
        masks: list[str | bytes] = [content for name, content in received.files if name == "mask"]
    else:
        body = edit = received.validate(EditBody)
        sources = [image.image_url for image in edit.images]
        masks = [edit.mask.image_url] if edit.mask else []
    images = [await pictures.read(source, f"image {number}") for number, source in enumerate(sources, start=1)]
    mask = await pictures.read_mask(masks[0], "the mask") if masks else None
    if mask is not None and mask.size != images[0].size:
        raise InstructionError(
            f"the mask has {mask.size[0]} x {mask.size[1]} pixels and image 1 has {images[0].size[0]} x "
            f"{images[0].size[1]}; give them the same size."
        )
    texts = list(body.reference_texts or [])
    if len(texts) > len(images):
        raise InstructionError(f"there are {len(texts)} reference_texts for {len(images)} images; give one for each.")
    texts += [""] * (len(images) - len(texts))
    pairs = list(zip(images, texts, strict=True))
    if mask is not None:
        pairs.append((mask.convert("RGB"), MASK_TEXT))
    references = tuple(Reference(image, text, marker) for marker, (image, text) in enumerate(pairs, start=1))
    instruction = Instruction(name_pictures(body.prompt, len(images), mask is not None), references)
    return body, pictures.reduced(instruction), None if mask is None else Kept(images[0], mask)


def name_pictures(prompt: str, num_images: int, masked: bool) -> str:
    """A prompt that names no picture, as OpenAI's clients send it, in the words of this model's instructions.

    "make it blue" with a picture and a mask becomes "make it blue. Picture [ref#1], mask [ref#2]."; markers of a
    prompt that has some are left as they are, but for the mask's.
    """
    markers = markers_in(normalise_markers(prompt, frozenset(range(1, num_images + 2))))
    words = []
    if not markers:
        names = ", ".join(marker_token(marker) for marker in range(1, num_images + 1))
        words.append(f"picture {names}" if num_images == 1 else f"pictures {names}")
    if masked and num_images + 1 not in markers:
        words.append(f"mask {marker_token(num_images + 1)}")
    if not words:
        return prompt
    added = ", ".join(words)
    return f"{prompt.strip().rstrip('.')}. {added[0].upper()}{added[1:]}." if prompt.strip() else prompt


def _by_name(files: Sequence[tuple[str, bytes]]) -> Mapping[str, bytes]:
    found = dict(files)
    if len(found) != len(files):
        raise InstructionError("two parts of the form have the same name; give every picture its own.")
    return found


def _form_fields(received: Received) -> dict[str, object]:
    """The fields of a form but for pictures that came as text."""
    fields = {name: value for name, value in received.fields.items() if name != "mask" and not _image_part(name)}
    if isinstance(texts := fields.get("reference_texts"), str):
        fields["reference_texts"] = [texts]
    if "mask" in received.fields:
        raise ApiError(400, "The mask must be a file.", "invalid_value", "mask")
    return fields


def _form_images(received: Received) -> list[bytes | str]:
    """Pictures of `image`, `image[]` or `image[0]`, `image[1]`, in order; files, or data URLs as text."""
    found: list[tuple[int, bytes | str]] = []
    for name, content in received.files:
        match = _IMAGE_PART.fullmatch(name)
        if match:
            found.append((int(match[1] or 0), content))
        elif name != "mask":
            raise ApiError(400, f"Unknown parameter: '{name[:100]}'.", "unknown_parameter", name[:100])
    if sum(name == "mask" for name, _ in received.files) > 1:
        raise ApiError(400, "There are several masks; send one.", "invalid_value", "mask")
    for name, value in received.fields.items():
        if _image_part(name):
            found += [(0, text) for text in (value if isinstance(value, list) else [value])]
    if not found:
        raise ApiError(400, "Missing required parameter: 'image'.", "missing_parameter", "image")
    return [content for _, content in sorted(found, key=lambda entry: entry[0])]


def _image_part(name: str) -> bool:
    return _IMAGE_PART.fullmatch(name) is not None
