"""What a person watches: losses per task, speed, validation errors per noise level, sample grids."""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..conditioning import ConditioningEncoder, to_unit_range
from ..data.example import Example
from ..data.mixture import stage_source
from ..data.recipe import WORLD
from ..data.world_tasks import WorldTasks, render_size
from ..files import make_folder, write_atomically
from ..model import ModelParts
from ..pipeline import InstructImagenPipeline, fast_scheduler, hide_loading_bars
from ..presets import Preset, StageConfig
from ..sheet import SheetRow, contact_sheet
from ..world import GlyphPack
from .adapters import export_adapter
from .checkpoint import TrainingPosition, write_training_file
from .loader import Collate, prepare
from .objective import TrainingBatch, clean_from_prediction
from .processes import Processes, whole_state

VALIDATION_LEVELS = (0.25, 0.5, 0.75, 0.95)
VALIDATION_EXAMPLES = 16
VALIDATION_SEED = 20_240_103
SAMPLES_PER_TASK = 2
SAMPLE_STEPS = 16


@dataclass(frozen=True)
class Report:
    """What a report found.

    Attributes:
        values: validation errors by name.
        sheet: the samples.
    """

    values: dict[str, float]
    sheet: Image.Image


class Monitor:
    """Collects losses between log lines, and reports on the averaged weights now and then.

    Every process has one, for sharded weights are there for all at once or not at all; the main one writes.

    Args:
        preset, parts: the model.
        pack: glyphs for the fixed validation examples (training split: a fit, not a judgement; see `evaluation`).
        stage: which tasks to validate.
        out: run folder; `validation.jsonl`, `samples/` and `pipeline/` or `lora/` are written there.
        processes: of the run.
    """

    log_every = 20

    def __init__(
        self,
        preset: Preset,
        parts: ModelParts,
        pack: GlyphPack,
        stage: StageConfig,
        out: Path,
        processes: Processes,
    ):
        self.preset, self.parts, self.out, self.stage, self.processes = preset, parts, out, stage, processes
        self.model = model = preset.model
        self._examples = _own_examples(preset, pack) if stage.stage == "finetune" else _examples(preset, pack, stage)
        collate = Collate(parts.tokenizer, model)
        self._batches = {name: self._fixed_batch(name, collate) for name in self._examples}
        self._losses: dict[str, list[float]] = defaultdict(list)
        self._since, self._images = time.monotonic(), 0

    def _fixed_batch(self, name: str, collate: Collate) -> TrainingBatch:
        """The validation examples of one task, nothing dropped, at the validation levels."""
        kept = replace(self.stage, drop_both=0.0, drop_context=0.0, noise_levels=len(VALIDATION_LEVELS))
        prepared = [
            prepare(example, self.model, kept, np.random.default_rng([VALIDATION_SEED, index, 1]))
            for index, example in enumerate(self._examples[name])
        ]
        return replace(collate(prepared), levels=torch.tensor(VALIDATION_LEVELS).expand(len(prepared), -1))

    def add(self, batches: Sequence[TrainingBatch], losses: torch.Tensor) -> None:
        """Takes the losses of one step."""
        values = losses.float().cpu().tolist()
        for task, value in zip((task for batch in batches for task in batch.tasks), values, strict=True):
            self._losses[f"loss/{task}"].append(value)
        self._losses["loss/all"].extend(values)
        self._images += sum(batch.levels.numel() for batch in batches)

    def flush(self, learning_rate: float) -> dict[str, float]:
        """Means since the last call over all processes, and noisy pictures per second of all of them together."""
        parts = self.processes.gathered((dict(self._losses), self._images))
        names = sorted({name for losses, _ in parts for name in losses})
        values = {name: float(np.mean([v for losses, _ in parts for v in losses.get(name, ())])) for name in names}
        now = time.monotonic()
        values["speed/noisy_images_per_s"] = sum(images for _, images in parts) / (now - self._since)
        values["learning_rate"] = learning_rate
        self._losses.clear()
        self._since, self._images = now, 0
        return values

    @torch.no_grad()
    def report(self, position: TrainingPosition) -> Report:
        """Validation errors of the weights as they are now; writes a sample grid and the model, in bfloat16."""
        device = next(self.parts.unet.parameters()).device
        values = {}
        for name, batch in self._batches.items():
            with self.processes.autocast():
                errors = self._errors(batch.to(device))
            for level, error in zip(VALIDATION_LEVELS, errors, strict=True):
                values[f"validation/{name}/{level}"] = error
        entry = {"stage": self.stage.stage, "step": position.step, "total_steps": position.total_steps}
        sheet = self._draw_samples()
        if self.processes.is_main:
            with (self.out / "validation.jsonl").open("a") as file:
                file.write(json.dumps({**entry, "seconds": round(position.seconds), **values}) + "\n")
            folder = make_folder(self.out / "samples")
            write_atomically(folder / f"{position.total_steps:08d}.png", sheet.save)
        if self.stage.lora_rank:
            export_adapter(self.parts.unet, self.out / "lora", position, self.preset, self.processes)
        else:
            export_pipeline(self.parts, self.out / "pipeline", position, self.preset, self.processes)
        self._since, self._images = time.monotonic(), 0
        return Report(values, sheet)

    def _errors(self, batch: TrainingBatch) -> list[float]:
        """Mean squared error of the clean picture at each validation level."""
        num_levels = len(VALIDATION_LEVELS)
        encoder = ConditioningEncoder(self.parts.text_encoder, self.parts.unet)
        conditioning = encoder.encode(batch.prompts).repeat(num_levels)
        clean = to_unit_range(batch.targets).repeat_interleave(num_levels, dim=0)
        scheduler = self.parts.scheduler
        timesteps = (batch.levels.flatten() * scheduler.config.num_train_timesteps).long()
        noisy = scheduler.add_noise(clean, batch.noise.flatten(0, 1), timesteps)
        prediction = self.parts.unet(noisy, timesteps, conditioning.text_BLE, conditioning.cache).float()
        error = (clean_from_prediction(prediction, noisy, timesteps, scheduler) - clean).square().mean((1, 2, 3))
        return error.view(-1, num_levels).mean(0).tolist()

    def _draw_samples(self) -> Image.Image:
        """Draws the first validation instructions of every task; the true picture comes last in each row."""
        pipeline = make_pipeline(self.parts)
        pipeline.set_progress_bar_config(disable=True)
        chosen = [example for examples in self._examples.values() for example in examples[:SAMPLES_PER_TASK]]
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(chosen))]
        instructions = [example.instruction for example in chosen]
        images = pipeline(instructions, SAMPLE_STEPS, generator=generators).images
        rows = [
            SheetRow.of(example.task, example.instruction, [image, example.target])
            for example, image in zip(chosen, images, strict=True)
        ]
        return contact_sheet(rows)


def _examples(preset: Preset, pack: GlyphPack, stage: StageConfig) -> dict[str, list[Example]]:
    """Fixed examples of every task that the stage learns from the world."""
    tasks = WorldTasks(pack, "train", render_size(preset.model.size_px))
    mixed = [entry.name for entry in preset.data.stage2 if entry.source == WORLD]
    names = {"pretrain": ["caption"], "stage1": ["caption", "cluster"]}.get(stage.stage, ["caption", "cluster", *mixed])
    return {name: [_fixed_example(tasks, name, index) for index in range(VALIDATION_EXAMPLES)] for name in names}


def _fixed_example(tasks: WorldTasks, name: str, index: int) -> Example:
    rng, key = np.random.default_rng([VALIDATION_SEED, index, 0]), f"validation-{name}-{index}"
    if name == "caption":
        return tasks.caption_only(rng, key).example
    return (tasks.cluster(rng, key) if name == "cluster" else tasks.build(name, rng, key)).example


def _own_examples(preset: Preset, pack: GlyphPack) -> dict[str, list[Example]]:
    """Some of the examples that are fine-tuned on, by task."""
    source = stage_source(preset.data, "finetune", pack, preset.model.size_px, VALIDATION_SEED)
    found: dict[str, dict[str, Example]] = defaultdict(dict)
    for example in (source[index] for index in range(4 * VALIDATION_EXAMPLES)):
        if len(found[example.task]) < VALIDATION_EXAMPLES:
            found[example.task].setdefault(example.key, example)
    return {task: list(examples.values()) for task, examples in found.items()}


def make_pipeline(parts: ModelParts) -> InstructImagenPipeline:
    """The pipeline around the parts as they are, with the fast sampler."""
    scheduler = fast_scheduler(parts.scheduler.config)
    return InstructImagenPipeline(parts.tokenizer, parts.text_encoder, parts.unet, scheduler)


def export_pipeline(
    parts: ModelParts, folder: Path, position: TrainingPosition, preset: Preset, processes: Processes
) -> None:
    """Saves the pipeline in bfloat16 and where its training stands, written beside and renamed.

    The parts keep their precision. Every process must call this.
    """
    unet, text_encoder = (whole_state(part, torch.bfloat16) for part in (parts.unet, parts.text_encoder))
    if not processes.is_main:
        return
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    hide_loading_bars()
    copies = ModelParts(
        type(parts.unet).from_config(parts.unet.config),
        type(parts.text_encoder)(parts.text_encoder.config),
        parts.tokenizer,
        parts.scheduler,
    )
    torch.nn.Module.to(copies.unet, torch.bfloat16)  # diffusers' own `to` warns of what does not matter here
    copies.text_encoder.to(dtype=torch.bfloat16)
    copies.unet.load_state_dict(unet)
    copies.text_encoder.load_state_dict(text_encoder)
    make_pipeline(copies).save_pretrained(str(partial))
    write_training_file(partial, position, preset)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
