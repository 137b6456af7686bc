"""Masked editing (the paper's fine-tuning set): MagicBrush, as parquet or as folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..example import Example
from ..pair_parquet import require_pyarrow
from ..report import DataError, Report
from .building import Builder, Shown, Tally
from .options import SourceOptions
from .reading import inside, opacity, read_json

LAYOUT = (
    "MagicBrush as released: data/train-*.parquet with img_id, turn_index, source_img, mask_img, instruction and "
    "target_img (dev-*.parquet is left to evaluation unless it is named); or edit_sessions.json beside images/IMG_ID/ "
    "with *-input.png, *-mask1.png and *-output1.png. Masks are the source with the part to change transparent."
)
_COLUMNS = ("img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img")
_ROWS_AT_ONCE = 8  # pictures of a megapixel or so
_BUFFER_BYTES = 1 << 20  # without a buffer, pyarrow reads a column of a whole row group at once
_WHITE = 250
_SHAPE_TOLERANCE = 0.03  # of width / height, between source, mask and target


@dataclass(frozen=True)
class Turn:
    """One edit.

    Attributes:
        key: its own in the corpus.
        instruction: what to do.
        source, mask, target: bytes of the pictures, or their paths in `folder`.
        folder: where the paths begin.
    """

    key: str
    instruction: str
    source: bytes | str
    mask: bytes | str
    target: bytes | str
    folder: Path


def edit_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """The source under marker 1, the mask (white is what may change) under marker 2, the edited picture as the target.

    Raises:
        DataError: nothing at the path is in a known layout, or pyarrow is not installed for parquet.
    """
    builder = Builder("edit", report, options)
    for turn in builder.mine(_turns(path, builder.listing)):
        pictures = _pictures(turn, builder)
        if pictures is None:
            continue
        source, mask, target = pictures
        for key, rng in builder.turns(turn.key):
            shown = [Shown("source", (source,)), Shown("mask", (mask,))]
            yield from builder.finish(key, rng, target, {"edit": as_wish(turn.instruction)}, shown)


def as_wish(instruction: str) -> str:
    """The instruction as the templates want it: single spaces, no full stop, its verb in lower case."""
    text = " ".join(instruction.split()).rstrip(" .")
    first = text.split(" ", 1)[0]
    plain = first.isalpha() and first[1:] == first[1:].lower() and first != "I"
    return text[:1].lower() + text[1:] if plain else text


def mask_of(image: Image.Image, opaque: np.ndarray | None) -> np.ndarray:
    """What may change, bool [H, W]: the transparent part, or the white part of a picture without transparency.

    Args:
        image: RGB [H, W].
        opaque: bool [H, W] as `reading.opacity` gives it.
    """
    return np.all(np.asarray(image) >= _WHITE, axis=2) if opaque is None else np.logical_not(opaque)


def _pictures(turn: Turn, builder: Builder) -> tuple[Image.Image, Image.Image, Image.Image] | None:
    """Source, mask and target, aligned; None, and counted, if one cannot be used."""
    source, marked, target = (_load(turn, data, builder) for data in (turn.source, turn.mask, turn.target))
    if source is None or marked is None or target is None:
        return None
    shapes = [image.width / image.height for image in (source, marked, target)]
    if max(shapes) > min(shapes) * (1 + _SHAPE_TOLERANCE):
        builder.damaged("pictures have not the same shape", turn.key)
        return None
    file = turn.mask if isinstance(turn.mask, bytes) else inside(turn.folder, turn.mask)
    mask = mask_of(marked, None if file is None else opacity(file))
    if not mask.any() or mask.all():
        builder.damaged("mask marks nothing or everything", turn.key)
        return None
    # a mask may have another resolution than its source, and so may the target: the source's is taken for all
    white = Image.fromarray(mask.astype(np.uint8) * 255).resize(source.size, Image.Resampling.NEAREST)
    if target.size != source.size:
        target = target.resize(source.size, Image.Resampling.LANCZOS)
    return builder.fitted(source), builder.fitted_mask(np.asarray(white) > 0), builder.fitted(target)


def _load(turn: Turn, data: bytes | str, builder: Builder) -> Image.Image | None:
    return builder.decode(data, turn.key) if isinstance(data, bytes) else builder.read(turn.folder, data)


def _turns(path: Path, listing: Tally) -> Iterator[Turn]:
    """All turns, each key once."""
    seen = set()
    for turn in _all_turns(path, listing):
        if turn.key in seen:
            listing.damaged("record comes twice", turn.key)
        else:
            seen.add(turn.key)
            yield turn


def _all_turns(path: Path, listing: Tally) -> Iterator[Turn]:
    if path.is_dir() and (path / "edit_sessions.json").is_file():
        return _sessions(path, listing)
    files = [path] if path.is_file() else sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")])
    training = [file for file in files if file.name.startswith("train")] or files
    if not training or training[0].suffix != ".parquet":
        raise DataError(f"{path} holds neither edit_sessions.json nor parquet files.")
    return _parquet(training, listing)


def _sessions(path: Path, listing: Tally) -> Iterator[Turn]:
    sessions = read_json(path / "edit_sessions.json")
    if not isinstance(sessions, Mapping):
        raise DataError(f"{path / 'edit_sessions.json'} is no object of edit sessions.")
    for img_id, turns in sessions.items():
        for number, turn in enumerate(turns if isinstance(turns, list) else [turns], start=1):
            place = f"{img_id}-{number}"
            values = turn if isinstance(turn, Mapping) else {}
            if not all(isinstance(values.get(name), str) for name in ("input", "mask", "output", "instruction")):
                listing.damaged("turn lacks input, mask, output or instruction", place)
            elif _has_words(values["instruction"], place, listing):
                source, mask, target = (f"{img_id}/{values[name]}" for name in ("input", "mask", "output"))
                yield Turn(place, values["instruction"], source, mask, target, path / "images")


def _parquet(files: list[Path], listing: Tally) -> Iterator[Turn]:
    arrow, parquet = require_pyarrow()
    for file in files:
        try:
            with parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES) as rows:
                for batch in rows.iter_batches(_ROWS_AT_ONCE, columns=list(_COLUMNS)):
                    for row in batch.to_pylist():
                        yield from _row(row, file.parent, listing)
        except (arrow.ArrowException, OSError):
            listing.damaged("parquet file is damaged or lacks a column", file.name)


def _row(row: Mapping[str, Any], folder: Path, listing: Tally) -> Iterator[Turn]:
    place = f"{row.get('img_id')}-{row.get('turn_index')}"
    source, mask, target = (_image_cell(row.get(name)) for name in ("source_img", "mask_img", "target_img"))
    if source is None or mask is None or target is None:
        listing.damaged("row lacks a picture", place)
    elif _has_words(row.get("instruction"), place, listing):
        yield Turn(place, str(row["instruction"]), source, mask, target, folder)


def _image_cell(cell: Any) -> bytes | str | None:
    """The bytes, or else the path, of an image as the datasets library stores it."""
    if not isinstance(cell, Mapping):
        return None
    found = cell.get("bytes") or cell.get("path")
    return found if isinstance(found, (bytes, str)) else None


def _has_words(instruction: Any, place: str, listing: Tally) -> bool:
    if isinstance(instruction, str) and instruction.strip():
        return True
    listing.damaged("no instruction", place)
    return False
