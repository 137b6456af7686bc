"""What raters are shown beside a picture: instructions with their references, from JSONL or shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..data.report import DataError
from ..data.shards import ShardSource
from ..errors import InstructionError
from ..instruction import Instruction
from ..pictures import load_image
from .records import RatingError, check_name, uid_of


@dataclass(frozen=True)
class StudyInput:
    """One instruction that every method answered.

    Attributes:
        task: what its scores are averaged with.
        uid: its name within the task, and that of its pictures' files.
        instruction: text and references.
        target: the true picture, where one is known.
    """

    task: str
    uid: str
    instruction: Instruction
    target: Image.Image | None = None


def read_inputs(path: Path) -> Iterator[StudyInput]:
    """Reads a JSONL file, a folder of them, or a folder of shards, one instruction after the other.

    A line is `{"task_type", "instruction", "key"}` with `"references"` or `"input_images"`, and may name the true
    picture as `"output_image"`; paths are relative to the file and must lie in its folder. Without a key an
    instruction is called after its place, "00000" and so on. In a folder of files each file is a task, TASK.jsonl, as
    `evaluate --export` writes suites; TASK.facts.jsonl is left out.

    Raises:
        RatingError: there is nothing to read, or a line, a picture or a name cannot be used.
    """
    if not path.is_dir():
        yield from _read_file(path, None)
        return
    files = sorted(file for file in path.glob("*.jsonl") if not file.name.endswith(".facts.jsonl"))
    for file in files:
        yield from _read_file(file, file.stem)
    if not files:
        yield from _read_shards(path)


def _read_shards(folder: Path) -> Iterator[StudyInput]:
    try:
        source = ShardSource(folder)
        for index in range(len(source)):
            example = source[index]
            task = check_name(example.task, "The task")
            yield StudyInput(task, uid_of(task, example.key), example.instruction, example.target)
    except DataError as error:
        raise RatingError(str(error)) from error


def _read_file(path: Path, task: str | None) -> Iterator[StudyInput]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RatingError(f"{path} cannot be read ({error}); name a JSONL file or a folder.") from error
    for index, line in enumerate(line for line in lines if line.strip()):
        yield _read_line(line, path, index, task)


def _read_line(line: str, path: Path, index: int, task: str | None) -> StudyInput:
    try:
        content = json.loads(line)
        task = check_name(task or str(content["task_type"]), "The task")
        uid = uid_of(task, str(content.get("key", f"{index:05d}")))
        target = content.get("output_image")
        kept = {name: value for name, value in content.items() if name not in ("task_type", "key", "output_image")}
        instruction = Instruction.from_json(kept, path.parent, paths="inside")
        return StudyInput(task, uid, instruction, _target(path.parent, target))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise RatingError(f"{path}, instruction {index + 1}: {said}") from error


def _target(folder: Path, name: object) -> Image.Image | None:
    if name is None:
        return None
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InstructionError(f"the picture {str(name)!r} lies outside {folder}.")
    return load_image(path)
