"""A multi-modal instruction: a text that names its references, and the references themselves.

The paper's task format (§2): a payload text with markers `[ref#1]`, `[ref#2]`, ... and a multi-modal
context, one (marker + short text, image) pair per picture. This file parses, checks, reads and writes it, and
is the only place that knows how a marker is spelled.

    fox = load_image("fox.png")
    instruction = Instruction.build("Draw the fox in [ref#1] on a beach.", [(fox, "fox")])
    instruction.write("request.json")           # and request.ref0.png beside it
    instruction = Instruction.from_json("request.json")
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from .errors import InstructionError
from .pictures import MAX_SIDE_PX, check_size, load_image, to_rgb

MAX_MARKERS = 9
MAX_REFERENCES = 12
MAX_TEXT_CHARS = 2_000
MAX_REFERENCE_TEXT_CHARS = 200

PathAccess = Literal["any", "inside", "none"]

_BRACKET_MARKER = re.compile(r"\[\s*ref\s*#?\s*([0-9]{1,4})\s*\]", re.IGNORECASE)
_TAG_MARKER = re.compile(r"(?:<img>\s*)?<\|image_([0-9]{1,4})\|>(?:\s*</img>)?", re.IGNORECASE)
_WORD_MARKER = re.compile(r"\bimage #?([0-9]{1,4})(?!\w|[.,][0-9])", re.IGNORECASE)
_BROKEN_MARKER = re.compile(r"\[\s*ref\s*(?:[#0-9\]]|$)[^\s\]]{0,20}\]?|<\|image[^>]{0,20}>?", re.IGNORECASE)
_CANONICAL_MARKER = re.compile(r"\[ref#([0-9]{1,4})\]")


def marker_token(marker: int) -> str:
    """The marker as it stands in a text, `[ref#N]`; a special token of the text encoder (A.3)."""
    return f"[ref#{marker}]"


def markers_in(text: str) -> tuple[int, ...]:
    """The numbers of the canonical markers in `text`, in order of appearance, repeats included."""
    return tuple(int(number) for number in _CANONICAL_MARKER.findall(text))


def renumber_markers(text: str, numbers: Mapping[int, int]) -> str:
    """`text` with other numbers in its canonical markers; `numbers` has the new one for each."""
    return _CANONICAL_MARKER.sub(lambda found: marker_token(numbers[int(found[1])]), text)


def _clean_text(text: object, what: str, max_chars: int) -> str:
    """`text` with each run of white space as one space; refuses control characters and excess length."""
    if not isinstance(text, str):
        raise InstructionError(f"{what} must be a string, not {type(text).__name__}.")
    if len(text) > max_chars:
        raise InstructionError(f"{what} has {len(text):,} characters; shorten it to {max_chars:,} at most.")
    for character in text:
        if character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cs"):
            code = f"U+{ord(character):04X}"
            raise InstructionError(f"{what} contains the control character {code}; remove it.")
    return " ".join(text.split())


def normalise_markers(text: str, reference_markers: frozenset[int]) -> str:
    """Rewrite every accepted spelling of a marker as `[ref#N]`.

    Always read: `[ref#1]`, `[REF#1]`, `[ref #1]`, `[ref1]`, `<|image_1|>`, `<img><|image_1|></img>`. The
    plain words "image 1", "Image 1", "image #1" are read only if the text has none of these, and only for
    numbers in `reference_markers`, so that a caption which happens to say "image 1" stays as it is.

    Raises:
        InstructionError: something looks like a marker but has no number, such as `[ref#x]`.
    """

    def canonical(match: re.Match[str]) -> str:
        return marker_token(int(match[1]))

    text = _BRACKET_MARKER.sub(canonical, _TAG_MARKER.sub(canonical, text))
    if broken := _BROKEN_MARKER.search(_CANONICAL_MARKER.sub("", text)):
        raise InstructionError(f"'{broken[0]}' is not a marker; write [ref#1] to [ref#{MAX_MARKERS}].")
    if _CANONICAL_MARKER.search(text):
        return text
    return _WORD_MARKER.sub(lambda m: canonical(m) if int(m[1]) in reference_markers else m[0], text)


def _check_marker_number(marker: int, where: str) -> None:
    if not 1 <= marker <= MAX_MARKERS:
        raise InstructionError(f"{where} uses marker {marker}; markers are numbered from 1 to {MAX_MARKERS}.")


def _check_markers(text: str, references: Sequence[Reference]) -> None:
    """Refuse markers and references that do not agree, naming the first marker that is wrong."""
    in_text = set(markers_in(text))
    in_references = {reference.marker for reference in references}
    for marker in sorted(in_text):
        _check_marker_number(marker, "the text")
        if marker not in in_references:
            known = ", ".join(map(marker_token, sorted(in_references))) or "none"
            raise InstructionError(
                f"the text names {marker_token(marker)}, but no reference has marker {marker} "
                f"(references: {known}); add that reference or take the marker out of the text."
            )
    for marker in sorted(in_references):
        if marker not in in_text:
            raise InstructionError(
                f"reference {marker} is never named in the text; write {marker_token(marker)} where the text "
                "speaks of it, or drop the reference."
            )
    if in_text and max(in_text) != len(in_text):
        hole, last = min(set(range(1, max(in_text))) - in_text), max(in_text)
        raise InstructionError(
            f"marker {marker_token(hole)} is missing: markers must be numbered 1 to {len(in_text)} without "
            f"holes; rename {marker_token(last)} to {marker_token(hole)}, in the text and in its reference."
        )


def read_data_url(url: str, name: str) -> bytes:
    """The bytes that a `data:...;base64,...` URL holds; `name` stands for it in errors.

    Raises:
        InstructionError: no base64, or a damaged one.
    """
    header, comma, payload = url.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise InstructionError(f"{name} is a data: URL without base64; write data:image/png;base64,...")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InstructionError(f"{name} is a data: URL whose base64 content is damaged.") from error


def _load_named(image: object, name: str, base_dir: Path, paths: PathAccess) -> Image.Image:
    """Open the "image" of one JSON reference: a data: URL, or a path as far as `paths` allows."""
    if not isinstance(image, str) or not image or "\0" in image:
        raise InstructionError(f"{name} must be a path or a data: URL.")
    if image[:5].lower() == "data:":
        return load_image(read_data_url(image, name), name)
    if paths == "none":
        raise InstructionError(f"{name} is a path, and only data: URLs are read here; send the picture.")
    path = base_dir / image
    outside = not Path(image).is_absolute() and os.path.normpath(image).split(os.sep)[0] == os.pardir
    if paths == "inside":
        outside = not path.resolve().is_relative_to(base_dir.resolve())
    if outside:
        raise InstructionError(f"{name} ('{image}') lies outside the folder '{base_dir}'; move it inside.")
    return load_image(path)


@dataclass(frozen=True)
class Reference:
    """One picture of the multi-modal context (§2) with its short text and the marker that names it.

    Attributes:
        image: made RGB at construction, at most MAX_SIDE_PX a side; one that already is so is kept as it is.
        text: at most 200 characters, such as "fox" or "edge map"; may be empty. A leading own marker is
            taken off.
        marker: N of the `[ref#N]` in the instruction's text; several references may share it (one subject,
            several pictures). `Instruction.build` numbers references for you.
    """

    image: Image.Image
    text: str
    marker: int

    def __post_init__(self) -> None:
        if isinstance(self.marker, bool) or not isinstance(self.marker, int):
            raise InstructionError(f"a reference's marker must be a whole number, not {self.marker!r}.")
        _check_marker_number(self.marker, "a reference")
        what = f"the text of reference {self.marker}"
        text = normalise_markers(_clean_text(self.text, what, MAX_REFERENCE_TEXT_CHARS), frozenset())
        text = text.removeprefix(marker_token(self.marker)).strip()
        if markers := markers_in(text):
            raise InstructionError(f"{what} names {marker_token(markers[0])}; take that marker out of it.")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "image", self._normalised_image())

    def _normalised_image(self) -> Image.Image:
        name = f"the picture of reference {self.marker}"
        if not isinstance(self.image, Image.Image):
            kind = type(self.image).__name__
            raise InstructionError(f"{name} must be a PIL image, not {kind}; open files with load_image.")
        check_size(*self.image.size, name)
        image = self.image
        plain = type(image) is Image.Image and image.mode == "RGB" and not image.info
        if plain and max(image.size) <= MAX_SIDE_PX:
            return image
        try:
            return to_rgb(image)
        except Exception as error:  # a lazily opened file may be damaged in any way
            raise InstructionError(f"{name} is damaged or cannot be read ({error}); save it anew.") from error

    @property
    def conditioning_text(self) -> str:
        """The text that conditions this picture in the context encoder (§3.1), such as "[ref#1] fox"."""
        return f"{marker_token(self.marker)} {self.text}".rstrip()


@dataclass(frozen=True)
class Instruction:
    """A text with `[ref#N]` markers and the references it names (§2).

    Construction normalises and checks: aliases of markers become `[ref#N]`, white space becomes single
    spaces, references stand in the order of their markers (those that share one keep their order), and
    markers are 1..N without holes, in the text and in the references alike.

    Raises:
        InstructionError: the sentence says which marker, text or picture is wrong and what to mend.
    """

    text: str
    references: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        references = tuple(self.references)
        if not all(isinstance(reference, Reference) for reference in references):
            raise InstructionError("references must be Reference objects; Instruction.build makes them.")
        if len(references) > MAX_REFERENCES:
            raise InstructionError(f"there are {len(references)} references; use {MAX_REFERENCES} at most.")
        text = _clean_text(self.text, "the text", MAX_TEXT_CHARS)
        if not text:
            raise InstructionError("the text is empty; say what to draw.")
        text = normalise_markers(text, frozenset(reference.marker for reference in references))
        _clean_text(text, "the text", MAX_TEXT_CHARS)  # `[ref1]` grows by a character
        _check_markers(text, references)
        object.__setattr__(self, "text", text)
        in_order = sorted(references, key=lambda reference: reference.marker)
        object.__setattr__(self, "references", tuple(in_order))

    @classmethod
    def build(
        cls, text: str, references: Sequence[tuple[Image.Image | Sequence[Image.Image], str]] = ()
    ) -> Instruction:
        """An instruction whose references are numbered in order, from 1.

        Args:
            text: the payload text, with `[ref#1]`, `[ref#2]`, ...
            references: (picture, short text) pairs; several pictures of one subject are a list in the
                picture's place.
        """
        numbered: list[Reference] = []
        for marker, (images, reference_text) in enumerate(references, start=1):
            several = [images] if isinstance(images, Image.Image) else images
            if not isinstance(several, Sequence) or not several:
                raise InstructionError(f"reference {marker} has no picture; give a PIL image or a list.")
            numbered += [Reference(image, reference_text, marker) for image in several]
        return cls(text, tuple(numbered))

    @classmethod
    def from_json(
        cls,
        source: str | os.PathLike[str] | Mapping[str, object],
        base_dir: str | os.PathLike[str] | None = None,
        *,
        paths: PathAccess = "any",
    ) -> Instruction:
        """Read an instruction from a JSON file, or from the dictionary that such a file holds.

        Two layouts are read (docs/instruction-format.md): ours, `{"instruction", "references": [{"marker",
        "text", "image"}]}`, and `{"task_type", "instruction", "input_images": [...]}`, whose pictures are
        numbered in order.

        Args:
            source: the path of a JSON file, or a dictionary.
            base_dir: where relative picture paths start; by default the JSON file's folder, or the current
                folder for a dictionary.
            paths: "any": relative paths inside `base_dir` and absolute paths; "inside": only what really lies
                in `base_dir`, links followed; "none": only data: URLs, as a server must.

        Raises:
            InstructionError: broken JSON, wrong keys or types, an unreadable picture, an invalid
                instruction.
        """
        if isinstance(source, Mapping):
            content: object = source
            base = Path(base_dir if base_dir is not None else ".")
        else:
            content = _read_json(Path(source))
            base = Path(base_dir) if base_dir is not None else Path(source).parent
        if not isinstance(content, Mapping):
            raise InstructionError('the JSON must be an object such as {"instruction": "...", "references": []}.')
        if "input_images" in content or "task_type" in content:
            return cls._from_input_images(content, base, paths)
        _check_keys(content, {"instruction"}, {"references"}, "the instruction")
        entries = _list_of(content.get("references", []), "references", MAX_REFERENCES)
        references = []
        for index, entry in enumerate(entries):
            what = f"references[{index}]"
            if not isinstance(entry, Mapping):
                raise InstructionError(f'{what} must be an object with "marker", "text" and "image".')
            _check_keys(entry, {"marker", "text", "image"}, set(), what)
            image = _load_named(entry["image"], f"{what}.image", base, paths)
            references.append(Reference(image, entry["text"], entry["marker"]))
        return cls(_text_of(content), tuple(references))

    @classmethod
    def _from_input_images(cls, content: Mapping[str, object], base: Path, paths: PathAccess) -> Instruction:
        optional = {"task_type", "input_images", "output_image"}
        _check_keys(content, {"instruction"}, optional, "the instruction")
        names = _list_of(content.get("input_images") or [], "input_images", MAX_MARKERS)
        images = [_load_named(name, f"input_images[{i}]", base, paths) for i, name in enumerate(names)]
        return cls.build(_text_of(content), [(image, "") for image in images])

    def to_json(self, images: Sequence[str] | None = None) -> dict[str, Any]:
        """The dictionary that `from_json` reads.

        Args:
            images: the path to write for each reference; without it the pictures go in as PNG data: URLs.
        """
        if images is None:
            encoded = (base64.b64encode(_png(reference.image)).decode() for reference in self.references)
            images = [f"data:image/png;base64,{text}" for text in encoded]
        elif len(images) != len(self.references):
            raise InstructionError(f"{len(images)} picture paths for {len(self.references)} references.")
        entries = [
            {"marker": reference.marker, "text": reference.text, "image": image}
            for reference, image in zip(self.references, images, strict=True)
        ]
        return {"instruction": self.text, "references": entries}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write `NAME.json`, and `NAME.ref0.png`, `NAME.ref1.png`, ... beside it.

        Everything is written under temporary names first and then renamed, the JSON last: a reader never sees
        half a file, nor a JSON whose pictures are not there.
        """
        path = Path(path)
        names = [f"{path.stem}.ref{index}.png" for index in range(len(self.references))]
        files = {path.with_name(name): _png(ref.image) for name, ref in zip(names, self.references, strict=True)}
        files[path] = (json.dumps(self.to_json(names), ensure_ascii=False, indent=2) + "\n").encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = f".{secrets.token_hex(6)}.tmp"
        temporary = {target: target.with_name(f".{target.name}{suffix}") for target in files}
        try:
            for target, data in files.items():
                temporary[target].write_bytes(data)
            for target in files:
                os.replace(temporary[target], target)
        finally:
            for file in temporary.values():
                file.unlink(missing_ok=True)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise InstructionError(f'the key "{repeated}" appears twice in the JSON; keep one.')
    return content


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise InstructionError(f"'{path}' cannot be read ({error.strerror}); check the path.") from error
    except InstructionError as error:
        raise InstructionError(f"'{path}': {error}") from error
    except (ValueError, RecursionError) as error:
        raise InstructionError(f"'{path}' is not valid JSON ({error}).") from error


def _check_keys(content: Mapping[str, object], required: set[str], optional: set[str], what: str) -> None:
    if missing := sorted(required - set(content)):
        raise InstructionError(f'{what} lacks the key "{missing[0]}"; add it.')
    if unknown := sorted(map(str, set(content) - required - optional)):
        known = ", ".join(sorted(required | optional))
        raise InstructionError(f'{what} has the unknown key "{unknown[0]}"; the keys are {known}.')


def _list_of(value: object, key: str, max_length: int) -> list[Any]:
    if not isinstance(value, list):
        raise InstructionError(f'"{key}" must be a list, not {type(value).__name__}.')
    if len(value) > max_length:  # before any picture is opened
        raise InstructionError(f'"{key}" has {len(value)} entries; use {max_length} at most.')
    return value


def _text_of(content: Mapping[str, object]) -> str:
    """The instruction's text, checked before the pictures are numbered by it."""
    return _clean_text(content["instruction"], "the text", MAX_TEXT_CHARS)
