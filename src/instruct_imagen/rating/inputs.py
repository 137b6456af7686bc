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
    """Reads a JSONL file or a folder of shards, one instruction after the other.

    A line is `{"task_type", "instruction", "key"}` with `"references"` or `"input_images"`, and may name the true
    picture as `"output_image"`; paths are relative to the file and must lie in its folder. Without a key an
    instruction is called after its place, "00000" and so on.

    Raises:
        RatingError: there is nothing to read, or a line, a picture or a name cannot be used.
    """
    if path.is_dir():
        try:
            source = ShardSource(path)
            for index in range(len(source)):
                example = source[index]
                task = check_name(example.task, "The task")
                yield StudyInput(task, uid_of(task, example.key), example.instruction, example.target)
        except DataError as error:
            raise RatingError(str(error)) from error
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RatingError(f"{path} cannot be read ({error}); name a JSONL file or a folder of shards.") from error
    for index, line in enumerate(line for line in lines if line.strip()):
        yield _read_line(line, path, index)


def _read_line(line: str, path: Path, index: int) -> StudyInput:
    try:
        content = json.loads(line)
        task = check_name(str(content["task_type"]), "The task")
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
