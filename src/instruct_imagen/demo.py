"""The demo: at least ten instructions over every task family, and two combinations that were never trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .data.templates import COMBINATION_TASKS, FINE_TUNING_TASKS, TRAINING_TASKS, ZERO_SHOT_TASKS
from .data.world_tasks import WorldExample, WorldTasks, render_size
from .files import make_folder, write_atomically
from .pipeline import InstructImagenPipeline, Stages
from .sheet import SheetRow, contact_sheet, tile
from .world import GlyphPack, load_pack

DEMO_SEED = 11
DEMO_TASKS = (*TRAINING_TASKS, *ZERO_SHOT_TASKS)
EXAMPLE_TASKS = (*DEMO_TASKS, *FINE_TUNING_TASKS)
HELD_OUT_TASKS = ("subject", "style_subject", "control_subject", "multi_subject")
IMAGES_PER_INSTRUCTION = 2
SAVED_PX = 256


@dataclass(frozen=True)
class DemoResult:
    """`sheet`: path of the contact sheet; `num_images` drawn at `seconds_per_image` on average."""

    sheet: Path
    num_images: int
    seconds_per_image: float


def demo_examples(
    pack: GlyphPack, size_px: int, seed: int = DEMO_SEED, tasks: Sequence[str] = DEMO_TASKS
) -> list[WorldExample]:
    """One example of each of `tasks`, a choice of EXAMPLE_TASKS, which does not depend on the others.

    Referenced subjects are held out of training and called only "object".
    """
    size_px = render_size(size_px)
    trained = WorldTasks(pack, "train", size_px, wording="held_out", name_styles=False)
    new = WorldTasks(
        pack,
        "held_out",
        size_px,
        styles=trained.sampler.styles,
        wording="held_out",
        generic_share=1.0,
        name_styles=False,
    )
    examples = []
    for task in tasks:
        rng = np.random.default_rng([seed, EXAMPLE_TASKS.index(task)])
        examples.append((new if task in HELD_OUT_TASKS else trained).build(task, rng, f"demo-{task}"))
    return examples


def title(task: str) -> str:
    """What a row shows, in words."""
    words = task.replace("_", " ")
    return f"{words} (never trained)" if task in COMBINATION_TASKS else words


def run_demo(
    pipeline: InstructImagenPipeline,
    out: Path,
    steps: int | None = None,
    pack_source: str = "auto",
    stages: Stages | None = None,
    progress: bool = False,
) -> DemoResult:
    """Draws the demo's instructions and writes `contact_sheet.png` and every instruction with its pictures to `out`."""
    examples = demo_examples(load_pack(pack_source), pipeline.output_size_px)
    make_folder(out)
    rows, seconds = [], 0.0
    for example in tqdm(examples, "instructions", disable=not progress):
        record = example.example
        generators = [torch.Generator().manual_seed(seed) for seed in range(IMAGES_PER_INSTRUCTION)]
        started = time.perf_counter()
        images = pipeline(
            record.instruction,
            num_inference_steps=steps,
            num_images_per_prompt=IMAGES_PER_INSTRUCTION,
            generator=generators,
            stages=stages,
        ).images
        seconds += time.perf_counter() - started
        folder = make_folder(out / record.task)
        record.instruction.write(folder / "instruction.json")
        for number, image in enumerate(images):
            write_atomically(folder / f"image-{number}.png", tile(image, max(SAVED_PX, image.width)).save)
        rows.append(SheetRow.of(title(record.task), record.instruction, images))
    path = out / "contact_sheet.png"
    write_atomically(path, contact_sheet(rows).save)
    num_images = len(rows) * IMAGES_PER_INSTRUCTION
    return DemoResult(path, num_images, seconds / num_images)
