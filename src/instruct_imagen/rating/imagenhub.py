"""ImagenHub's folder of results, read as a study.

    ROOT/EXPERIMENT/dataset_lookup.json     {"sample_0.jpg": {"prompt": ...}, ...}
    ROOT/EXPERIMENT/input/sample_0.jpg      and token/, mask/: what the models were given, where there is any
    ROOT/EXPERIMENT/MODEL/sample_0.jpg      what each model made
    ROOT/EXPERIMENT/GroundTruth/...         the true pictures, where there are any

An experiment is a task. Its instruction is put together from the lookup's fields, and every given picture becomes a
reference with a marker in the sentence, so that raters see ImagenHub's tasks as they see ours. A lookup that this
project wrote has the field "references" beside the text, as an instruction's JSON has, each with a file of its own
(`reference_folder`), and is read exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InstructionError
from ..files import make_folder, write_json, write_text
from ..instruction import Instruction, marker_token
from ..pictures import load_image
from .inputs import StudyInput
from .records import PICTURE_SUFFIXES, RatingError, bare, check_name, uid_of
from .results import FolderResults, MethodResults

LOOKUP = "dataset_lookup.json"
GIVEN = {"input": "the input picture", "token": "the subject", "mask": "the mask"}  # folders of references
TRUTH = "GroundTruth"
_REFERENCES = re.compile(rf"{'|'.join(GIVEN)}|reference\d+(_\d+)?")
_TEXT_FIELDS = ("instruction", "prompt", "text", "target_global_caption")


def read_experiments(root: Path) -> Iterator[StudyInput]:
    """All instructions of all experiments in a folder of results.

    Raises:
        RatingError: there is no experiment, or a lookup or a given picture cannot be read.
    """
    for folder in _experiments(root):
        task = check_name(folder.name, "The experiment")
        given = {name: _by_bare_name(folder / name) for name in GIVEN}
        shared = _by_bare_name(root / "input")  # where one of ImagenHub's tasks puts it
        for uid, fields in _read_lookup(folder / LOOKUP).items():
            pictures = [(GIVEN[name], files[bare(uid)]) for name, files in given.items() if bare(uid) in files]
            if not pictures and bare(uid) in shared:
                pictures = [(GIVEN["input"], shared[bare(uid)])]
            try:
                instruction = _own(fields, folder) if "references" in fields else _instruction(fields, pictures)
                yield StudyInput(task, uid_of(task, uid), instruction)
            except InstructionError as error:
                raise RatingError(f"{folder / LOOKUP}, {uid}: {error}") from error


def read_methods(root: Path, truth: bool) -> list[MethodResults]:
    """Every model's pictures in a folder of results, over all experiments.

    Args:
        root: the folder.
        truth: whether the true pictures are rated too, as the method "GroundTruth".
    """
    found: dict[str, dict[str, Path]] = {}
    for experiment in _experiments(root):
        for folder in sorted(path for path in experiment.iterdir() if path.is_dir()):
            if holds_references(folder.name) or (folder.name == TRUTH and not truth) or folder.name.startswith("."):
                continue
            files = {f"{experiment.name}/{path.name}": path for path in sorted(folder.iterdir())}
            found.setdefault(folder.name, {}).update(files)
    return [MethodResults(name, FolderResults(root, files)) for name, files in sorted(found.items())]


def _experiments(root: Path) -> list[Path]:
    folders = sorted(path.parent for path in root.glob(f"*/{LOOKUP}"))
    if not folders:
        raise RatingError(f"{root} holds no experiment (EXPERIMENT/{LOOKUP}); name ImagenHub's folder of results.")
    return folders


def _read_lookup(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RatingError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict) or not all(isinstance(fields, dict) for fields in content.values()):
        raise RatingError(f'{path} must be an object such as {{"sample_0.jpg": {{"prompt": "..."}}}}.')
    return content


def holds_references(folder: str) -> bool:
    """Whether a folder of an experiment is what the models were given, and no model's."""
    return _REFERENCES.fullmatch(folder) is not None


def reference_folder(marker: int, index: int) -> str:
    """Where a reference's picture goes in an experiment: the first one is ImagenHub's "input".

    Args:
        marker: its marker, from 1.
        index: its place among the pictures of that marker, from 0.
    """
    if marker == 1 and index == 0:
        return "input"
    return f"reference{marker}" + (f"_{index + 1}" if index else "")


def write_lookup(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes `dataset_lookup.json` and `.csv` of an experiment.

    Args:
        folder: of the experiment; made if it does not exist.
        entries: for each UID its text and, as `_own` reads them, its references.
    """
    path = make_folder(folder) / LOOKUP
    write_json(path, entries)
    table = "".join(f"{uid}\n" for uid in ("uid", *entries))
    write_text(path.with_suffix(".csv"), table)


def _own(fields: Mapping[str, Any], folder: Path) -> Instruction:
    """As this project wrote it."""
    text = next((fields[name] for name in _TEXT_FIELDS if name in fields), None)
    content = {"instruction": text, "references": fields["references"]}
    return Instruction.from_json(content, folder, paths="inside")


def _instruction(fields: Mapping[str, Any], pictures: list[tuple[str, Path]]) -> Instruction:
    """The fields' text, then what else they name, then one marker for each picture."""
    text = next((str(fields[name]).strip() for name in _TEXT_FIELDS if str(fields.get(name) or "").strip()), "")
    subjects = [str(fields[name]).replace("_", " ") for name in ("subject", "concept1", "concept2") if fields.get(name)]
    if not text and subjects:
        text = f"Replace the subject by the {subjects[0]}" if len(pictures) > 1 else f"A picture of the {subjects[0]}"
    if not text:
        raise InstructionError(f"there is no text in it; give one of {', '.join(_TEXT_FIELDS)}.")
    kind = str(fields.get("control_type") or "").strip()
    names = [name + (f" ({kind})" if kind and place == 0 else "") for place, (name, _) in enumerate(pictures)]
    tail = [f"{name} is {marker_token(marker)}" for marker, name in enumerate(names, start=1)]
    if subjects and "subject" not in " ".join(names):
        tail.insert(0, f"the subject is {' and '.join(subjects)}")
    sentence = text.rstrip(".") + (f". ({'; '.join(tail)})" if tail else "")
    loaded = [(load_image(path), name) for name, (_, path) in zip(names, pictures, strict=True)]
    return Instruction.build(sentence, loaded)


def _by_bare_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {bare(path.name): path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}
