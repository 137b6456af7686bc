"""Suites on disk: exported for other systems and for raters, and pictures read back from any system.

    write_suites(get_suites("all"), pack, Path("suites"))       # instruct-imagen evaluate --suite all --export suites
    run_suites(suites, FolderPictures(Path("theirs")), ...)     # instruct-imagen evaluate --images theirs

An export holds

    jsonl/TASK.jsonl              one example a line, as `--data` and `JsonlSource` read it; pictures in jsonl/TASK/
    jsonl/TASK.facts.jsonl        for each key the seed and what the world knows: glyphs, style, ground, relation
    imagenhub/SUITE_TASK/         an experiment in ImagenHub's layout: dataset_lookup.json and .csv, GroundTruth/UID,
                                  each reference in a file of its own (input/UID, reference2/UID, ...); further
                                  folders are methods
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InstructionError
from ..files import make_folder, write_atomically, write_text
from ..pictures import fit_square, load_image
from ..rating.imagenhub import TRUTH, holds_references, reference_folder, write_lookup
from ..world import GlyphPack
from .cases import Case, SuiteCase, suite_cases
from .pictures import JUDGE_SIZE_PX
from .suites import EvaluationError, Suite, SuiteTask

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
JSONL_FOLDER, IMAGENHUB_FOLDER = "jsonl", "imagenhub"


def uid(task: SuiteTask, index: int) -> str:
    """Name of a case's picture in ImagenHub's layout."""
    return f"{task.name}_{index}.png"


def experiment(suite: Suite, task: SuiteTask) -> str:
    """Name of a task's folder in ImagenHub's layout."""
    return f"{suite.name}_{task.name}"


@dataclass(frozen=True)
class FolderPictures:
    """Pictures that some system drew, read from files: a `PictureSource`.

    The picture of a case is FOLDER/TASK/INDEX or FOLDER/TASK_INDEX, as .png, .jpg, .jpeg or .webp; so a folder that
    `evaluate` wrote, its `images/`, and a method's folder of an ImagenHub experiment all serve.

    Attributes:
        folder: where they are.
    """

    folder: Path

    def __call__(self, task: SuiteTask, cases: Sequence[Case]) -> list[np.ndarray]:
        """One picture a case, squares of one size: the smallest one's.

        Raises:
            EvaluationError: one is missing or unreadable, or so small that it would spoil the others.
        """
        paths = [self._find(task, case.index) for case in cases]
        missing = [case.key for case, path in zip(cases, paths, strict=True) if path is None]
        if missing:
            raise EvaluationError(
                f"{self.folder} lacks {len(missing)} of {len(cases)} pictures of {task.name}, first that of "
                f"{missing[0]}; each must be TASK/INDEX or TASK_INDEX, as {', '.join(SUFFIXES)}."
            )
        try:
            images = [load_image(path) for path in paths if path is not None]
        except InstructionError as error:
            raise EvaluationError(f"A picture of {task.name} cannot be judged: {error}") from error
        sides = [min(image.size) for image in images]
        side = min(sides)
        if side < min(JUDGE_SIZE_PX, max(sides)):
            odd = cases[sides.index(side)].key
            raise EvaluationError(
                f"The picture of {odd} has {side} pixels a side and others of its task {max(sides)}; all are judged at "
                "the size of the smallest. Draw it as large as the others."
            )
        return [np.asarray(fit_square(image, side)) for image in images]

    def _find(self, task: SuiteTask, index: int) -> Path | None:
        roots = (self.folder, self.folder / "images")
        stems = [root / stem for root in roots for stem in (f"{task.name}/{index}", f"{task.name}_{index}")]
        paths = (Path(f"{stem}{suffix}") for stem in stems for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


def write_suites(suites: Sequence[Suite], pack: GlyphPack, out: Path, num_templates: int | None = None) -> int:
    """Exports suites; returns the number of instructions.

    Args:
        suites: from `get_suites`.
        pack: the glyphs.
        out: folder; made if it does not exist.
        num_templates: see `suite_cases`.

    Raises:
        OutputError: nothing can be written there.
    """
    make_folder(out)
    total = 0
    for suite in suites:
        for task in suite.tasks:
            cases = suite_cases(task, suite, pack, num_templates)
            _write_jsonl(task, cases, make_folder(out / JSONL_FOLDER))
            _write_experiment(suite, task, cases, make_folder(out / IMAGENHUB_FOLDER / experiment(suite, task)))
            total += len(cases)
    return total


def write_method(suites: Sequence[Suite], drawn: Path, method: str, out: Path) -> None:
    """Puts what a method drew beside an export, as one more folder of each ImagenHub experiment.

    Args:
        suites: those that were exported.
        drawn: folder that `run_suites` wrote.
        method: name of the folder.
        out: the export.
    """
    if not method or "/" in method or method in (".", "..", TRUTH) or holds_references(method):
        raise EvaluationError(f"{method!r} cannot name a method; choose a name that can be a folder.")
    for suite in suites:
        for task in suite.tasks:
            folder = out / IMAGENHUB_FOLDER / experiment(suite, task) / method
            for index in range(suite.num_per_task):
                _write_picture(Image.open(drawn / "images" / task.name / f"{index}.png"), folder / uid(task, index))


def _write_jsonl(task: SuiteTask, cases: Sequence[SuiteCase], folder: Path) -> None:
    pictures = folder / task.name
    lines, facts = [], []
    for case in cases:
        example = case.world.example
        names = [f"{case.index}.ref{k}.png" for k in range(len(case.instruction.references))]
        target = f"{case.index}.target.png"
        _write_picture(example.target, pictures / target)
        for name, reference in zip(names, case.instruction.references, strict=True):
            _write_picture(reference.image, pictures / name)
        content = case.instruction.to_json([f"{task.name}/{name}" for name in names])
        key = f"{task.name}-{case.index}"
        lines.append({"task_type": task.task, "key": key, **content, "output_image": f"{task.name}/{target}"})
        facts.append({"key": key, "seed": case.seed, **_facts(case)})
    write_text(folder / f"{task.name}.jsonl", _json_lines(lines))
    write_text(folder / f"{task.name}.facts.jsonl", _json_lines(facts))


def _facts(case: SuiteCase) -> dict[str, Any]:
    scene = case.world.scene
    return {
        "glyphs": list(scene.glyphs),
        "style": scene.style.name,
        "ground": scene.ground.kind,
        "relation": scene.relation,
        "control": case.world.control or None,
        "edit": case.world.edit.kind if case.world.edit else None,
        "candidates": list(case.candidates),
    }


def _write_experiment(suite: Suite, task: SuiteTask, cases: Sequence[SuiteCase], folder: Path) -> None:
    lookup = {}
    for case in cases:
        name = uid(task, case.index)
        files = _reference_files(case, name)
        lookup[name] = {"suite": suite.name, "task": task.name, **case.instruction.to_json(files)}
        for file, reference in zip(files, case.instruction.references, strict=True):
            _write_picture(reference.image, folder / file)
        _write_picture(case.world.example.target, folder / TRUTH / name)
    write_lookup(folder, lookup)


def _reference_files(case: SuiteCase, name: str) -> list[str]:
    """Where the references of a case go, in their order; the first is in `input/`."""
    markers = [reference.marker for reference in case.instruction.references]
    return [f"{reference_folder(m, markers[:place].count(m))}/{name}" for place, m in enumerate(markers)]


def _write_picture(picture: Image.Image, path: Path) -> None:
    make_folder(path.parent)
    write_atomically(path, picture.save)


def _json_lines(records: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
