"""What a person watches: losses per task, speed, validation errors per noise level, sample grids."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..cascade import replace_base
from ..conditioning import ConditioningEncoder
from ..data.example import Example
from ..data.recipe import MIXTURES, WORLD
from ..data.shards import open_examples
from ..data.world_tasks import WorldTasks, render_size
from ..denoising import clean_from_prediction
from ..files import make_folder, replacing, write_atomically
from ..model import ModelParts
from ..model_folders import hide_loading_bars
from ..pictures import fit_square
from ..pipeline import InstructImagenPipeline
from ..presets import Preset, StageConfig
from ..schedulers import fast_scheduler
from ..sheet import SheetRow, contact_sheet
from ..super_resolution import SuperResolutionUNet
from ..world import GlyphPack
from .adapters import export_adapter
from .checkpoint import TrainingPosition, write_training_file
from .loader import Collate, prepare
from .objective import TrainingBatch, denoise_batch
from .processes import Processes, whole_state
from .second_network import export_cascade

VALIDATION_LEVELS = (0.25, 0.5, 0.75, 0.95)
VALIDATION_EXAMPLES = 16
VALIDATION_PIXELS = VALIDATION_EXAMPLES * 128**2  # of a task; larger pictures are fewer
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
        count = min(VALIDATION_EXAMPLES, max(2, VALIDATION_PIXELS // model.size_px**2))
        self._examples = _fixed_examples(preset, pack, stage, count)
        collate = Collate(parts.tokenizer, model, parts.unet.text_format)
        self._batches = {name: self._fixed_batch(name, collate) for name in self._examples}
        self._losses: dict[str, list[float]] = defaultdict(list)
        self._since, self._images = time.monotonic(), 0

    def _fixed_batch(self, name: str, collate: Collate) -> TrainingBatch:
        """The validation examples of one task, nothing dropped or renumbered, at the validation levels."""
        num_levels = len(VALIDATION_LEVELS)
        kept = replace(self.stage, drop_both=0.0, drop_context=0.0, any_markers=False, noise_levels=num_levels)
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
        export = export_pipeline if self.model.low_res is None else export_cascade
        export = export_adapter if self.stage.lora_rank else export
        export(self.parts, self.out, position, self.preset, self.processes)
        self._since, self._images = time.monotonic(), 0
        return Report(values, sheet)

    def _errors(self, batch: TrainingBatch) -> list[float]:
        """Mean squared error of the clean picture at each validation level."""
        encoder = ConditioningEncoder(self.parts.text_encoder, self.parts.unet, self.parts.vae)
        made = denoise_batch(batch, encoder, self.parts.scheduler)
        guess = clean_from_prediction(made.prediction, made.noisy, made.timesteps, self.parts.scheduler)
        error = (guess - made.clean).square().mean((1, 2, 3))
        return error.view(-1, len(VALIDATION_LEVELS)).mean(0).tolist()

    def _draw_samples(self) -> Image.Image:
        """Draws the first validation instructions of every task; the true picture comes last in each row.

        Super-resolution enlarges true pictures, which come first.
        """
        pipeline = make_pipeline(self.parts)
        pipeline.set_progress_bar_config(disable=True)
        chosen = [example for examples in self._examples.values() for example in examples[:SAMPLES_PER_TASK]]
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
        return contact_sheet(rows)


def _fixed_examples(preset: Preset, pack: GlyphPack, stage: StageConfig, count: int) -> dict[str, list[Example]]:
    """So many examples of every task that the stage learns from the world, and of every data set of a mixture."""
    tasks = WorldTasks(pack, "train", render_size(preset.model.size_px), num_templates=preset.data.num_templates)
    mixture = preset.data.super_resolution if stage.stage == "super_resolution" else preset.data.stage2
    mixed = [entry.name for entry in mixture if entry.source == WORLD]
    earlier = ["caption", "cluster"] if mixed else []
    names = {"pretrain": ["caption"], "stage1": ["caption", "cluster"], "super_resolution": mixed}.get(
        stage.stage, [*earlier, *mixed]
    )
    found = {name: [_fixed_example(tasks, name, index) for index in range(count)] for name in names}
    if stage.stage in MIXTURES:
        for entry in (entry for entry in mixture if entry.source != WORLD):
            source = open_examples(Path(entry.source))
            found[entry.name] = [source[index] for index in range(min(count, len(source)))]
    return found


def _fixed_example(tasks: WorldTasks, name: str, index: int) -> Example:
    rng, key = np.random.default_rng([VALIDATION_SEED, index, 0]), f"validation-{name}-{index}"
    if name == "caption":
        return tasks.caption_only(rng, key).example
    return (tasks.cluster(rng, key) if name == "cluster" else tasks.build(name, rng, key)).example


def make_pipeline(parts: ModelParts) -> InstructImagenPipeline:
    """The pipeline around the parts as they are, with the fast sampler; of a super-resolution, that network alone."""
    network, scheduler = parts.unet, fast_scheduler(parts.scheduler.config, bounded=parts.vae is None)
    if isinstance(network, SuperResolutionUNet):
        second = {"super_resolution": network, "super_resolution_scheduler": scheduler}
        return InstructImagenPipeline(parts.tokenizer, parts.text_encoder, **second)
    return InstructImagenPipeline(
        parts.tokenizer,
        parts.text_encoder,
        network,
        scheduler,
        vae=parts.vae,
        default_guidance=parts.guidance,
        default_image_guidance=parts.image_guidance,
    )


def export_pipeline(
    parts: ModelParts, out: Path, position: TrainingPosition, preset: Preset, processes: Processes | None = None
) -> None:
    """Saves `out/pipeline` in bfloat16 and where its training stands, written beside and renamed.

    The parts keep their precision. What a base model gave and no stage trained is not written again but named twice.
    Every process must call this.
    """
    adapts = parts.folder is not None
    states = [whole_state(part, torch.bfloat16) for part in (parts.unet, *(() if adapts else (parts.text_encoder,)))]
    if processes is not None and not processes.is_main:
        return
    hide_loading_bars()
    unet = type(parts.unet).from_config(parts.unet.config)
    torch.nn.Module.to(unet, torch.bfloat16)  # diffusers' own `to` warns of what does not matter here
    unet.load_state_dict(states[0])
    with replacing(out / "pipeline") as partial:
        if parts.folder is not None:
            pipeline = make_pipeline(replace(parts, unet=unet))
            replace_base(parts.folder, partial, pipeline)
        else:
            text_encoder = type(parts.text_encoder)(parts.text_encoder.config)
            text_encoder.to(dtype=torch.bfloat16)
            text_encoder.load_state_dict(states[1])
            make_pipeline(replace(parts, unet=unet, text_encoder=text_encoder)).save_pretrained(str(partial))
        write_training_file(partial, position, preset)
