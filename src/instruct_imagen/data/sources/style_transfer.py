"""Style transfer (Table 1): a style picture and a content picture, and no words about the content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..example import Example
from ..report import DataError, Report
from .building import Builder, Shown, Tally
from .options import SourceOptions
from .reading import picture_files, read_records

LAYOUT = (
    "Triples that a style transfer model made: a .jsonl or .csv file with content, style and result (paths that begin "
    "at its folder) and, if it is known, style_name; or folders content/, style/ and result/ whose pictures have the "
    "same names but for the suffix. The paper's set is not public."
)
_ROLES = ("content", "style", "result")


@dataclass(frozen=True)
class Triple:
    """Where the three pictures are.

    Attributes:
        key: its own in the corpus.
        content, style, result: paths in the source's folder, not yet checked.
        style_name: in words; may be empty.
    """

    key: str
    content: object
    style: object
    result: object
    style_name: str = ""


def style_transfer_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """The style picture under marker 1, the content picture under marker 2, the result as the target.

    Raises:
        DataError: nothing at the path is in a known layout.
    """
    builder = Builder("style_transfer", report, options)
    folder = path.parent if path.is_file() else path
    triples = _manifest(path, builder.listing) if path.is_file() else _folders(path, builder.listing)
    for triple in builder.mine(triples):
        images = [builder.picture(folder, name) for name in (triple.style, triple.content, triple.result)]
        if any(image is None for image in images):
            continue
        style, content, result = (image for image in images if image is not None)
        if _shape(content.size) != _shape(result.size):
            builder.damaged("content and result have not the same shape", triple.key)
            continue
        named = {"style": triple.style_name} if triple.style_name else {}
        for key, rng in builder.turns(triple.key):
            shown = [Shown("style", (style,), named), Shown("content", (content,))]
            yield from builder.finish(key, rng, result, {}, shown)


def _shape(size: tuple[int, int]) -> int:
    """Width for each height in steps of about a twentieth, so that rounding of sizes does not count."""
    return round(20 * size[0] / size[1])


def _manifest(path: Path, listing: Tally) -> Iterator[Triple]:
    for number, record in read_records(path, listing.report, listing.task):
        if any(not isinstance(record.get(role), str) for role in _ROLES):
            listing.damaged("record lacks content, style or result", f"{path.name}:{number}")
            continue
        content, style, result = (record[role] for role in _ROLES)
        name = record.get("style_name")
        words = " ".join(name.split()) if isinstance(name, str) else ""
        yield Triple(f"{path.stem}-{number}", content, style, result, words)


def _folders(path: Path, listing: Tally) -> Iterator[Triple]:
    files = {role: {Path(name).stem: name for name in picture_files(path / role)} for role in _ROLES}
    if not all(files.values()):
        raise DataError(f"{path} needs the folders content, style and result with pictures, or name a manifest.")
    for stem in sorted(set().union(*(found for found in files.values()))):
        if all(stem in found for found in files.values()):
            content, style, result = (f"{role}/{files[role][stem]}" for role in _ROLES)
            yield Triple(stem, content, style, result)
        else:
            listing.damaged("picture lacks its content, style or result", stem)
