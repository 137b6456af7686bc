"""Sketches (Table 1): drawings that people made over photos (Li et al. 2019), or computed from captioned pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..example import Example
from ..report import DataError, Report
from .building import Builder, Shown, Tally, as_phrase, pick
from .controlled import controlled_examples
from .options import SourceOptions
from .reading import caption_beside, inside, picture_files, read_captions, read_lines

LAYOUT = (
    "The Contour Drawing dataset as released (image/NAME.jpg, sketch-rendered/width-5/NAME_01.png ... NAME_05.png, "
    "list/train.txt with one NAME a line); it has no captions, so image/NAME.txt or captions.csv (file,caption) may be "
    "put beside. Or captioned pictures as for text, whose sketches are computed."
)
_DRAWINGS = "sketch-rendered"
_WIDTH = "width-5"  # pixels, as the authors train; the thinner ones vanish in small pictures
_NO_CAPTION = (  # where nothing tells what a photo shows
    "a photo of what is drawn there",
    "a real photo of this place",
    "the scene as a photo",
    "the same scene in full colour",
    "a photograph taken outdoors",
    "a realistic picture of the scene",
)


def sketch_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """The drawing under marker 1, the photo as the target.

    Raises:
        DataError: nothing at the path is in a known layout.
    """
    if not (path / _DRAWINGS).is_dir():
        yield from controlled_examples("sketch", path, report, options)
        return
    builder = Builder("sketch", report, options)
    photos, drawings = path / "image", _drawings_folder(path)
    known = _by_photo(picture_files(drawings))
    captions = read_captions(path, builder.listing.report, builder.task)
    for name in builder.mine(_photo_names(path, builder.listing)):
        if not known.get(name):
            builder.damaged("photo has no drawing", name)
            continue
        target = builder.picture(photos, f"{name}.jpg")
        if target is None:
            continue
        caption = captions.get(f"image/{name}.jpg") or captions.get(f"{name}.jpg") or caption_beside(photos, name)
        order = None
        for turn, (key, rng) in enumerate(builder.turns(name)):
            order = rng.permutation(len(known[name])) if order is None else order
            drawing = builder.picture(drawings, known[name][order[turn % len(order)]])
            if drawing is None:
                continue
            words = as_phrase(caption) if caption else pick(rng, _NO_CAPTION)
            yield from builder.finish(key, rng, target, {"caption": words}, [Shown("sketch", (drawing,))])


def _drawings_folder(path: Path) -> Path:
    found = sorted((path / _DRAWINGS).glob("width-*"))
    if (path / _DRAWINGS / _WIDTH) in found:
        return path / _DRAWINGS / _WIDTH
    if not found:
        raise DataError(f"{path / _DRAWINGS} holds no folder {_WIDTH} with the drawings.")
    return found[-1]


def _by_photo(drawings: list[str]) -> dict[str, list[str]]:
    """`NAME_01.png`, `NAME_02.png`, ... by NAME."""
    known: dict[str, list[str]] = {}
    for drawing in drawings:
        name, _, number = Path(drawing).stem.rpartition("_")
        if number.isdigit():
            known.setdefault(name, []).append(drawing)
    return known


def _photo_names(path: Path, listing: Tally) -> Iterator[str]:
    """Names of the photos for training, without suffix; all of them where there are no lists."""
    names = path / "list" / "train.txt"
    if not names.is_file():
        yield from (Path(name).stem for name in picture_files(path / "image"))
        return
    seen = set()
    for name in read_lines(names):
        if name and inside(path / "image", f"{name}.jpg") is None:
            listing.damaged("path leaves its folder", name)
        elif name and name not in seen:
            seen.add(name)
            yield name
