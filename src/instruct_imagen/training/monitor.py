"""What a person watches: losses per task, speed, validation errors per noise level, sample grids."""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..conditioning import ConditioningEncoder, to_unit_range
from ..data.recipe import WORLD
from ..data.world_tasks import WorldExample, WorldTasks, render_size
from ..denoising import clean_from_prediction
from ..files import make_folder, write_atomically
from ..model import ModelParts
from ..pictures import fit_square
from ..pipeline import InstructImagenPipeline, fast_scheduler, hide_loading_bars
from ..precision import autocast
from ..presets import Preset, StageConfig
from ..sheet import SheetRow, contact_sheet
from ..super_resolution import SuperResolutionUNet
from ..world import GlyphPack
from .checkpoint import TrainingPosition, write_training_file
from .loader import Collate, prepare
from .objective import TrainingBatch
from .second_network import export_cascade

VALIDATION_LEVELS = (0.25, 0.5, 0.75, 0.95)
VALIDATION_EXAMPLES = 16
VALIDATION_PIXELS = VALIDATION_EXAMPLES * 128**2  # of a task; larger pictures are fewer
VALIDATION_SEED = 20_240_103
SAMPLES_PER_TASK = 2
SAMPLE_STEPS = 16


class Monitor:
    """Collects losses between log lines, and reports on the averaged weights now and then.

    Args:
        preset, parts: the model.
        pack: glyphs for the fixed validation examples (training split: a fit, not a judgement; see `evaluation`).
        stage: which tasks to validate.
        out: run folder; `validation.jsonl`, `samples/` and `pipeline/` are written there.
    """

    log_every = 20

    def __init__(self, preset: Preset, parts: ModelParts, pack: GlyphPack, stage: StageConfig, out: Path):
        self.preset, self.parts, self.out, self.stage = preset, parts, out, stage
        self.model = model = preset.model
        tasks = WorldTasks(pack, "train", render_size(model.size_px), num_templates=preset.data.num_templates)
        mixed = [entry.name for entry in preset.data.stage2 if entry.source == WORLD]
        names = {
            "pretrain": ["caption"],
            "stage1": ["caption", "cluster"],
            "super_resolution": [entry.name for entry in preset.data.super_resolution if entry.source == WORLD],
        }.get(stage.stage, ["caption", "cluster", *mixed])
        count = min(VALIDATION_EXAMPLES, max(2, VALIDATION_PIXELS // model.size_px**2))
        self._examples = {name: [_fixed_example(tasks, name, i) for i in range(count)] for name in names}
        collate = Collate(parts.tokenizer, model)
        self._batches = {name: self._fixed_batch(name, collate) for name in names}
        self._losses: dict[str, list[float]] = defaultdict(list)
        self._since, self._images = time.monotonic(), 0

    def _fixed_batch(self, name: str, collate: Collate) -> TrainingBatch:
        """The validation examples of one task, nothing dropped, at the validation levels."""
        kept = replace(self.stage, drop_both=0.0, drop_context=0.0, noise_levels=len(VALIDATION_LEVELS))
        prepared = [
            prepare(example.example, self.model, kept, np.random.default_rng([VALIDATION_SEED, index, 1]))
            for index, example in enumerate(self._examples[name])
        ]
        return replace(collate(prepared), levels=torch.tensor(VALIDATION_LEVELS).expand(len(prepared), -1))

    def add(self, batch: TrainingBatch, losses: torch.Tensor) -> None:
        """Takes the losses of one step."""
        values = losses.float().cpu().tolist()
        for task, value in zip(batch.tasks, values, strict=True):
            self._losses[f"loss/{task}"].append(value)
        self._losses["loss/all"].extend(values)
        self._images += batch.levels.numel()

    def flush(self, learning_rate: float) -> dict[str, float]:
        """Means since the last call, and noisy pictures per second."""
        values = {name: float(np.mean(v)) for name, v in self._losses.items()}
        now = time.monotonic()
        values["speed/noisy_images_per_s"] = self._images / (now - self._since)
        values["learning_rate"] = learning_rate
        self._losses.clear()
        self._since, self._images = now, 0
        return values

    @torch.no_grad()
    def report(self, position: TrainingPosition) -> dict[str, float]:
        """Validation errors of the weights as they are now; writes a sample grid and the pipeline, in bfloat16."""
        device = next(self.parts.unet.parameters()).device
        values = {}
        for name, batch in self._batches.items():
            with autocast(device):
                errors = self._errors(batch.to(device))
            for level, error in zip(VALIDATION_LEVELS, errors, strict=True):
                values[f"validation/{name}/{level}"] = error
        entry = {"stage": self.stage.stage, "step": position.step, "total_steps": position.total_steps}
        with (self.out / "validation.jsonl").open("a") as file:
            file.write(json.dumps({**entry, "seconds": round(position.seconds), **values}) + "\n")
        self._write_samples(position)
        export = export_pipeline if self.model.low_res is None else export_cascade
        export(self.parts, self.out, position, self.preset)
        self._since, self._images = time.monotonic(), 0
        return values

    def _errors(self, batch: TrainingBatch) -> list[float]:
        """Mean squared error of the clean picture at each validation level."""
        num_levels = len(VALIDATION_LEVELS)
        encoder = ConditioningEncoder(self.parts.text_encoder, self.parts.unet)
        conditioning = encoder.encode(batch.prompts).repeat(num_levels)
        clean = to_unit_range(batch.targets).repeat_interleave(num_levels, dim=0)
        scheduler = self.parts.scheduler
        timesteps = (batch.levels.flatten() * scheduler.config.num_train_timesteps).long()
        noisy = scheduler.add_noise(clean, batch.noise.flatten(0, 1), timesteps)
        inputs = (noisy, timesteps, conditioning.text_BLE, conditioning.cache)
        prediction = self.parts.unet(*inputs, **batch.further_inputs).float()
        error = (clean_from_prediction(prediction, noisy, timesteps, scheduler) - clean).square().mean((1, 2, 3))
        return error.view(-1, num_levels).mean(0).tolist()

    def _write_samples(self, position: TrainingPosition) -> None:
        """Draws the first validation instructions of every task; the true picture comes last in each row.

        Super-resolution enlarges true pictures, which come first.
        """
        pipeline = make_pipeline(self.parts)
        pipeline.set_progress_bar_config(disable=True)
        chosen = [e.example for examples in self._examples.values() for e in examples[:SAMPLES_PER_TASK]]
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(chosen))]
        instructions = [example.instruction for example in chosen]
        if self.model.low_res is None:
            outputs = [[image] for image in pipeline(instructions, SAMPLE_STEPS, generator=generators).images]
        else:
            targets = [example.target for example in chosen]
            small = [fit_square(target, self.model.low_res.size_px) for target in targets]
            large = pipeline.super_resolve(small, instructions, generator=generators).images
            outputs = [list(pair) for pair in zip(small, large, strict=True)]
        rows = [
            SheetRow.of(example.task, example.instruction, [*drawn, example.target])
            for example, drawn in zip(chosen, outputs, strict=True)
        ]
        folder = make_folder(self.out / "samples")
        write_atomically(folder / f"{position.total_steps:08d}.png", contact_sheet(rows).save)


def _fixed_example(tasks: WorldTasks, name: str, index: int) -> WorldExample:
    rng, key = np.random.default_rng([VALIDATION_SEED, index, 0]), f"validation-{name}-{index}"
    if name == "caption":
        return tasks.caption_only(rng, key)
    return tasks.cluster(rng, key) if name == "cluster" else tasks.build(name, rng, key)


def make_pipeline(parts: ModelParts) -> InstructImagenPipeline:
    """The pipeline around the parts as they are, with the fast sampler; of a super-resolution, that network alone."""
    network, scheduler = parts.unet, fast_scheduler(parts.scheduler.config)
    if isinstance(network, SuperResolutionUNet):
        second = {"super_resolution": network, "super_resolution_scheduler": scheduler}
        return InstructImagenPipeline(parts.tokenizer, parts.text_encoder, **second)
    return InstructImagenPipeline(parts.tokenizer, parts.text_encoder, network, scheduler)


def export_pipeline(parts: ModelParts, out: Path, position: TrainingPosition, preset: Preset) -> None:
    """Saves `out/pipeline` in bfloat16 and where its training stands, written beside and renamed.

    The parts keep their precision.
    """
    folder = out / "pipeline"
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    hide_loading_bars()
    copies = ModelParts(
        type(parts.unet).from_config(parts.unet.config),
        type(parts.text_encoder)(parts.text_encoder.config),
        parts.tokenizer,
        parts.scheduler,
    )
    copies.unet.load_state_dict(parts.unet.state_dict())
    copies.text_encoder.load_state_dict(parts.text_encoder.state_dict())
    torch.nn.Module.to(copies.unet, torch.bfloat16)  # diffusers' own `to` warns of what does not matter here
    copies.text_encoder.to(dtype=torch.bfloat16)
    make_pipeline(copies).save_pretrained(str(partial))
    write_training_file(partial, position, preset)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
