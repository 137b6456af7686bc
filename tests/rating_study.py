"""Studies for the tests of the rating tool: tiny ones of plain pictures, and one of the glyph world to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.instruction import Instruction
from instruct_imagen.rating.database import Database, open_database
from instruct_imagen.rating.inputs import StudyInput, read_inputs
from instruct_imagen.rating.results import FolderResults, MethodResults
from instruct_imagen.rating.study import StudyConfig, create_study
from instruct_imagen.world import GlyphPack

METHODS = ("SecretAlpha", "SecretBeta", "SecretGamma")  # names that are easy to find where they should not be


def plain_picture(*numbers: int, size_px: int = 12) -> Image.Image:
    """A picture that differs from any other of other numbers."""
    values = np.random.default_rng(numbers).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    return Image.fromarray(values)


def plain_inputs(count: int, task: str = "subject") -> list[StudyInput]:
    """Instructions with one reference each."""
    return [
        StudyInput(
            task,
            f"{index}.png",
            Instruction.build(f"Draw the [ref#1] dog number {index}", [(plain_picture(7, index), "dog")]),
            plain_picture(8, index),
        )
        for index in range(count)
    ]


def write_method(folder: Path, places: Sequence[str], number: int) -> Path:
    """One picture for each "TASK/UID", with the folder's name in its metadata."""
    for index, place in enumerate(places):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        written_by = PngImagePlugin.PngInfo()
        written_by.add_text("Software", folder.name)
        plain_picture(number, index).save(path, pnginfo=written_by)
    return folder


def make_study(
    folder: Path,
    num_inputs: int = 4,
    methods: Sequence[str] = METHODS,
    name: str | None = None,
    config: StudyConfig | None = None,
) -> Database:
    """A study of plain pictures, in a file of `folder` unless `name` says otherwise."""
    inputs = plain_inputs(num_inputs)
    places = [f"{item.task}/{item.uid}" for item in inputs]
    results = [
        MethodResults(method, FolderResults(write_method(folder / method, places, number)))
        for number, method in enumerate(methods)
    ]
    name = name or str(folder / "study.sqlite3")
    create_study(name, config or StudyConfig(seed=5), inputs, results)
    return open_database(name)


def write_world_suite(folder: Path, pack: GlyphPack, tasks: Sequence[str], per_task: int, size_px: int = 192) -> Path:
    """Instructions of the glyph world as JSONL with their true pictures, and three kinds of answers to them."""
    builder = WorldTasks(pack, "train", size_px, generic_share=0.0, wording="train")
    lines = []
    for number, task in enumerate(tasks):
        for index in range(per_task):
            example = builder.build(task, np.random.default_rng([11, number, index]), f"{task}/{index}").example
            stem = f"{task}-{index}"
            (folder / "suite").mkdir(parents=True, exist_ok=True)
            example.instruction.write(folder / "suite" / f"{stem}.json")
            content = json.loads((folder / "suite" / f"{stem}.json").read_text())
            example.target.save(folder / "suite" / f"{stem}.target.png")
            lines.append({"task_type": task, "key": f"{task}/{index}", "output_image": f"{stem}.target.png", **content})
            for method, answer in _answers(np.asarray(example.target)).items():
                path = folder / method / task / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(answer).save(path)
    suite = folder / "suite" / "suite.jsonl"
    suite.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(list(read_inputs(suite))) == len(lines)
    return suite


def _answers(truth: np.ndarray) -> dict[str, np.ndarray]:
    """What better and worse models might draw."""
    rng = np.random.default_rng(int(truth.sum()))
    noise = cv2.resize(rng.normal(0, 40, (24, 24, 3)), truth.shape[:2], interpolation=cv2.INTER_CUBIC)
    side = truth.shape[0]
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).astype(np.float32)
    wave = grid + 6 * np.sin(grid[..., ::-1] / 13).astype(np.float32)
    bent = cv2.remap(truth, wave, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return {
        METHODS[0]: truth,
        METHODS[1]: cv2.GaussianBlur(bent, (0, 0), 1.2),
        METHODS[2]: np.clip(cv2.GaussianBlur(truth, (0, 0), 5) + noise, 0, 255).astype(np.uint8),
    }
