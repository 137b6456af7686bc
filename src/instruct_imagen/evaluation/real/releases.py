"""Readers of the public releases that the paper's evaluation is made of; each gives plain records, pictures unopened.

Nothing here is downloaded. docs/evaluation.md shows where each release is and how its files lie.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...data.example import Example
from ...data.pair_parquet import require_pyarrow
from ...data.report import DataError, Report
from ...data.sources import SourceOptions
from ...data.sources.faces import TEST_PART, face_examples
from ...data.sources.reading import folders_in, inside, picture_files, read_json, read_lines
from ...pictures import load_image

LIVE_CLASSES = ("cat", "dog")  # of DreamBench; they have prompts of their own
_PROMPT = re.compile(r"^'(.*)'\.format\(")
_CONTROL_KINDS = {  # ImagenHub's control_type, in any case and spelling, to ours
    "depth": "depth",
    "canny": "edge",
    "hed": "edge",
    "edge": "edge",
    "mask": "mask",
    "seg": "mask",
    "sketch": "sketch",
    "scribble": "sketch",
}


@dataclass(frozen=True)
class Subject:
    """One thing, with pictures of it.

    Attributes:
        name: of its folder.
        word: what it is, such as "backpack".
        pictures: paths.
        prompts: captions that ask for it; empty where only pairs have prompts.
    """

    name: str
    word: str
    pictures: tuple[Path, ...]
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubjectPair:
    """Two subjects and captions that ask for both."""

    first: Subject
    second: Subject
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class ControlPicture:
    """A control with a caption.

    Attributes:
        kind: "depth", "mask", "edge" or "sketch".
        guide: the control, an encoded picture.
        source: the picture that it was made of, encoded; empty if the release lacks it.
        caption: what to draw.
    """

    kind: str
    guide: bytes
    source: bytes
    caption: str


def read_dreambench(path: Path) -> list[Subject]:
    """DreamBench (DreamBooth's dataset): `prompts_and_classes.txt` beside a folder for each subject.

    Raises:
        DataError: the file is missing or has no classes or prompts.
    """
    folder = next((f for f in (path, path / "dataset") if (f / "prompts_and_classes.txt").is_file()), None)
    if folder is None:
        raise DataError(f"{path} lacks prompts_and_classes.txt; name the folder `dataset` of the DreamBooth release.")
    lines = read_lines(folder / "prompts_and_classes.txt")
    classes = [
        line.split(",", 1) for line in lines if re.fullmatch(r"\w+,[\w ]+", line) and line != "subject_name,class"
    ]
    prompts: list[list[str]] = []
    for line in lines:
        if line.startswith("prompt_list"):
            prompts.append([])
        elif prompts and (match := _PROMPT.match(line)):
            prompts[-1].append(match[1])
    if not classes or len(prompts) != 2 or not all(prompts):
        raise DataError(f"{folder / 'prompts_and_classes.txt'} lacks the classes or the two lists of prompts.")
    subjects = []
    for name, word in classes:
        texts = [text.replace("{0} {1}", word) for text in prompts[word in LIVE_CLASSES]]
        subjects.append(_subject(folder, name, word, texts))
    return _with_pictures(subjects, folder)


def read_custom_concepts(path: Path) -> list[SubjectPair]:
    """CustomConcept101's pairs: `dataset_multiconcept.json`, `prompts/`, `benchmark_dataset/CATEGORY_NAME/`.

    Raises:
        DataError: a file is missing, or none of the pairs can be used.
    """
    content = read_json(path / "dataset_multiconcept.json")
    pairs = []
    for entry in content if isinstance(content, list) else ():
        try:
            one, two, together = entry
            parts = [
                _subject(path, str(part["instance_data_dir"]), str(part["class_prompt"]), ()) for part in (one, two)
            ]
            texts = read_lines(path / str(together["prompt_filename_compose"]))
        except (KeyError, TypeError, ValueError, DataError):
            continue  # a pair whose files were not fetched
        prompts = tuple(text.format(parts[0].word, parts[1].word) for text in texts if "{0}" in text and "{1}" in text)
        if prompts and parts[0].pictures and parts[1].pictures:
            pairs.append(SubjectPair(parts[0], parts[1], prompts))
    if not pairs:
        raise DataError(f"{path} holds no pair of concepts with its pictures; see docs/evaluation.md for its layout.")
    return pairs


def _subject(root: Path, name: str, word: str, prompts: Sequence[str]) -> Subject:
    folder = inside(root, name)
    pictures = () if folder is None else tuple(folder / picture for picture in picture_files(folder))
    return Subject(Path(name).name, word.strip(), pictures, tuple(prompts))


def _with_pictures(subjects: list[Subject], folder: Path) -> list[Subject]:
    found = [subject for subject in subjects if subject.pictures]
    if not found:
        raise DataError(f"{folder} holds no pictures of its subjects.")
    return found


def read_style_pictures(path: Path) -> list[Path]:
    """StyleDrop's style images: pictures in a folder, or in its folders.

    Raises:
        DataError: there are none.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder.")
    found = [path / name for name in picture_files(path)]
    for folder in folders_in(path):
        found += [folder / name for name in picture_files(folder)]
    if not found:
        raise DataError(f"{path} holds no pictures.")
    return found


def read_prompts(path: Path) -> list[str]:
    """ImagenHub's prompts: its parquet files (column `prompt`), a `dataset_lookup.json`, or a `.txt` with one a line.

    Raises:
        DataError: there are none.
    """
    prompts: list[str] = []
    if path.is_dir():
        prompts = [str(row["prompt"]) for row in _parquet_rows(path, ("prompt",))]
    elif path.suffix == ".json":
        content = read_json(path)
        entries = content.values() if isinstance(content, Mapping) else ()
        prompts = [str(entry["prompt"]) for entry in entries if isinstance(entry, Mapping) and "prompt" in entry]
    elif path.is_file():
        prompts = read_lines(path)
    prompts = [prompt.strip() for prompt in prompts if prompt.strip()]
    if not prompts:
        raise DataError(f"{path} holds no prompts; it must be a folder of parquet files, a .json or a .txt file.")
    return prompts


def read_controls(path: Path) -> list[ControlPicture]:
    """ImagenHub's control-guided set: parquet files with `control_type`, `text`, `guide` and, mostly, `source`.

    Raises:
        DataError: there is no control of a kind that is known here.
    """
    found = []
    for row in _parquet_rows(path, ("control_type", "text", "guide"), ("source",)):
        kind = next((k for word, k in _CONTROL_KINDS.items() if word in str(row["control_type"]).lower()), None)
        guide, source = _bytes_of(row["guide"]), _bytes_of(row.get("source"))
        if kind and guide and str(row["text"]).strip():
            found.append(ControlPicture(kind, guide, source, str(row["text"]).strip()))
    if not found:
        raise DataError(f"{path} holds no controls; its parquet files need control_type, text and guide.")
    return found


def _parquet_rows(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Rows of all parquet files in a folder, or below its `data`; those of other columns are passed over.

    Raises:
        DataError: pyarrow is not installed, or a file is damaged.
    """
    _, parquet = require_pyarrow()
    files = sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")])
    evaluated = [file for file in files if file.name.startswith(("eval", "test"))] or files  # not what is left for more
    for file in evaluated:
        try:
            opened = parquet.ParquetFile(file)
            names = opened.schema_arrow.names
            if not set(needed) <= set(names):
                continue
            columns = [*needed, *(name for name in optional if name in names)]
            for batch in opened.iter_batches(16, columns=columns):
                yield from batch.to_pylist()
        except (OSError, ValueError) as error:
            raise DataError(f"{file} is damaged ({str(error).splitlines()[0]}); fetch it again.") from error


def _bytes_of(value: Any) -> bytes:
    """The bytes of a Hugging Face image column's cell, or nothing."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else b""


def read_faces(path: Path, seed: int, count: int) -> list[Example]:
    """CelebA's test people: other pictures of a person as references, one more as the target.

    Raises:
        DataError: a file of the release is missing, or nobody has two pictures.
    """
    found: dict[str, Example] = {}
    for example in face_examples(path, Report(), SourceOptions(seed=seed), part=TEST_PART):
        found[example.key] = example
        if len(found) == count:
            break
    if not found:
        raise DataError(f"{path} holds nobody of CelebA's test part with two pictures.")
    return list(found.values())


def open_picture(source: Path | bytes) -> Image.Image:
    """A picture of a release, RGB.

    Raises:
        InstructionError: it cannot be read.
    """
    return (
        load_image(io.BytesIO(source), "a picture of the release") if isinstance(source, bytes) else load_image(source)
    )
