"""Captioned pictures (Table 1, natural images): COCO captions, or any corpus of image-text pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..example import Example
from ..pairs import Pair, decode, list_units, read_unit
from ..report import DataError, Report
from .building import Builder, Tally, as_phrase
from .options import SourceOptions
from .reading import inside, read_json

LAYOUT = (
    "COCO captions as released (annotations/captions_train2017.json beside train2017/000000000009.jpg; 2014 as well), "
    "or one of its caption files for another split; or pairs as img2dataset writes them (00000.tar of KEY.jpg, KEY.txt "
    "and KEY.json; parquet; folders of NAME.jpg with NAME.txt)."
)
_COCO_PREFIX = "captions_"


@dataclass(frozen=True)
class Captioned:
    """A picture with its captions.

    Attributes:
        pair: the picture, with the first caption.
        captions: one or more.
    """

    pair: Pair
    captions: tuple[str, ...]

    def phrase(self, turn: int) -> str:
        """The caption for the example number `turn` of this picture; each comes once before any comes again."""
        return as_phrase(self.captions[turn % len(self.captions)])


def captioned_pictures(path: Path, builder: Builder) -> Iterator[Captioned]:
    """Reads a corpus in any layout of `LAYOUT`, or the builder's part of it; bad records are counted.

    Raises:
        DataError: nothing at the path is in such a layout.
    """
    annotations = _coco_captions(path)
    if annotations is not None:
        yield from _coco(annotations, builder)
        return
    for unit in builder.mine(list_units(path)):
        for pair in read_unit(unit, builder.report):
            yield Captioned(pair, (pair.caption,))


def captioned_targets(path: Path, builder: Builder) -> Iterator[tuple[Captioned, Image.Image]]:
    """The pictures of a corpus that can be used, with their captions; see `captioned_pictures`."""
    for captioned in captioned_pictures(path, builder):
        image = decode(captioned.pair, builder.report)
        if image is not None and builder.usable(image, captioned.pair.key) is not None:
            yield captioned, builder.fitted(image)


def text_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """The picture is the target; its caption, or one of them, the instruction."""
    builder = Builder("text", report, options)
    for captioned, target in captioned_targets(path, builder):
        for turn, (key, rng) in enumerate(builder.turns(captioned.pair.key)):
            yield from builder.finish(key, rng, target, {"caption": captioned.phrase(turn)})


def _coco_captions(path: Path) -> Path | None:
    """The caption file of a COCO folder (that of training, if there are several), or `path` if it is one."""
    if path.is_file():
        return path if path.name.startswith(_COCO_PREFIX) and path.suffix == ".json" else None
    found = sorted((path / "annotations").glob(f"{_COCO_PREFIX}*.json"))
    training = [file for file in found if file.stem.startswith(f"{_COCO_PREFIX}train")]
    if found and not training:
        raise DataError(f"{path} holds no captions for training; name the caption file that is meant, {found[0]}.")
    return training[-1] if training else None  # the newest release


def _coco(annotations: Path, builder: Builder) -> Iterator[Captioned]:
    content = read_json(annotations)
    lists = [content.get(name) for name in ("images", "annotations")] if isinstance(content, Mapping) else [None]
    if not all(isinstance(entries, list) for entries in lists):
        raise DataError(f"{annotations} is no COCO caption file: it must have images and annotations.")
    folder = annotations.parent.parent / annotations.stem.removeprefix(_COCO_PREFIX)
    if not folder.is_dir():
        raise DataError(f"The pictures of {annotations.name} must lie in {folder}, which does not exist.")
    captions = _captions_by_image(content["annotations"], builder.listing)
    for number, image in builder.mine(enumerate(content["images"])):
        if not isinstance(image, Mapping) or not isinstance(image.get("id"), (int, str)):
            builder.damaged("image entry is not COCO's", f"images[{number}]")
            continue
        place = str(image.get("file_name"))
        path = inside(folder, image.get("file_name"))
        if path is None:
            builder.damaged("path leaves its folder", place)
        elif image["id"] not in captions:
            builder.damaged("no caption", place)
        elif (data := _bytes(path)) is None:
            builder.damaged("picture is missing", place)
        else:
            texts = tuple(captions[image["id"]])
            # the position keeps the key apart where a damaged file has an identifier twice
            key = f"{image['id']}-{number}"
            yield Captioned(Pair(key, data, texts[0], str(image.get("coco_url", ""))), texts)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _captions_by_image(annotations: Any, listing: Tally) -> dict[Any, list[str]]:
    captions: dict[Any, list[str]] = {}
    for number, entry in enumerate(annotations):
        text = entry.get("caption") if isinstance(entry, Mapping) else None
        owner = entry.get("image_id") if isinstance(entry, Mapping) else None
        if not isinstance(text, str) or not text.strip() or not isinstance(owner, (int, str)):
            listing.damaged("caption entry is not COCO's", f"annotations[{number}]")
            continue
        captions.setdefault(owner, []).append(text)
    return captions
