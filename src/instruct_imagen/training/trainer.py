"""The training loop: every stage of every preset runs through `Trainer.run`.

instruct-imagen train --preset nano --out train/nano --minutes 120 --resume latest
"""

from __future__ import annotations

import logging
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from ..cascade import SECOND_NETWORK
from ..data.mixture import stage_source
from ..errors import UserError
from ..files import make_folder
from ..model import build_model
from ..pipeline import InstructImagenPipeline
from ..precision import fast_bfloat16
from ..presets import Preset, StageConfig, write_preset
from ..text import load_tokenizer, train_tokenizer
from ..world import load_pack
from .checkpoint import (
    TRAINING_FILE,
    CheckpointError,
    TrainingPosition,
    TrainingState,
    list_checkpoints,
    load_checkpoint,
    read_position,
    save_checkpoint,
    set_aside,
)
from .loader import Collate, PositionSampler, StageDataset, make_loader
from .monitor import Monitor
from .objective import TrainingBatch, TrainingModule
from .optimizers import make_optimizer
from .resample import resample_patches, same_grid
from .second_network import checked_base, take_base, text_encoder_of_base
from .text_pretraining import train_text_encoder
from .winograd import use_winograd

logger = logging.getLogger(__name__)


class TrainingError(UserError):
    """A run that cannot start or go on as asked."""


@dataclass(frozen=True)
class Limits:
    """Where to stop before the stages are done: a `time.monotonic()` deadline, a total number of steps, or neither."""

    deadline: float | None = None
    total_steps: int | None = None

    def reached(self, total_steps: int) -> bool:
        """Whether it is time to stop."""
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return late or (self.total_steps is not None and total_steps >= self.total_steps)


def learning_rate_at(step: int, stage: StageConfig, optimizer_from: int = 0) -> float:
    """Linear warm-up from `optimizer_from`, constant, then linear to zero over the last `decay_steps`."""
    warm = min(1.0, (step - optimizer_from + 1) / max(1, stage.warmup_steps))
    left = (stage.steps - step) / stage.decay_steps if stage.decay_steps else 1.0
    return stage.learning_rate * warm * min(1.0, max(0.0, left))


def _training_of(model: Path, preset: Preset) -> tuple[TrainingPosition, Preset]:
    """Where the training of a model stood, a new optimizer beginning there, and its preset.

    Raises:
        TrainingError: it does not say, or differs from the preset's in more than the pixels of a patch.
    """
    part = model if preset.model.low_res is None else model / SECOND_NETWORK
    try:
        position, trained = read_position(part, TRAINING_FILE)
    except CheckpointError as error:
        raise TrainingError(f"{model} does not say where its training stood: {error}") from error
    if not same_grid(trained.model, preset.model):
        raise TrainingError(f"{model} is not a model of preset {preset.name!r}; repeat the --set it was trained with")
    return replace(position, optimizer_from=position.step), trained


def _take_over(model: Path, out: Path, with_log: bool) -> None:
    """Copies a model's tokenizer and, where its errors compare with the new run's, its validation log."""
    shutil.copytree(model / "tokenizer", out / "tokenizer")
    if with_log and (model / "validation.jsonl").is_file():
        shutil.copy(model / "validation.jsonl", out)


class Trainer:
    """Trains a preset's stages one after the other, from scratch or from the newest good checkpoint.

    Args:
        preset: what to train.
        out: folder for checkpoints, logs, sample grids and the exported pipeline.
        seed: of weights, data and noise.
        resume: continue from the newest good checkpoint in `out`, if it holds one.
        init: folder of a model to begin with where there is no checkpoint: its weights instead of random ones, and
            the position that its training had reached, with a new optimizer. It may have larger or smaller patches,
            see `resample`.

    Raises:
        TrainingError: `out` already holds a run and `resume` is false, or holds no usable checkpoint; or `init` is of
            another model than the preset's.
    """

    def __init__(self, preset: Preset, out: Path, seed: int = 0, resume: bool = False, init: Path | None = None):
        self.preset, self.out = preset, out
        self.checkpoints = out / "checkpoints"
        self._found = list_checkpoints(self.checkpoints)
        if self._found and not resume:
            raise TrainingError(f"{out} already holds a training; add --resume latest or choose another folder")
        self.pack = load_pack(preset.pack).prepare()
        base = checked_base(preset, out, init)
        make_folder(out)
        precision = "bf16" if fast_bfloat16("cuda" if torch.cuda.is_available() else "cpu") else "no"
        self.accelerator = Accelerator(mixed_precision=precision, log_with="tensorboard", project_dir=str(out))
        self.position = TrainingPosition(0, 0, seed)
        init = None if self._found else init
        trained = preset
        if init is not None:
            self.position, trained = _training_of(init, preset)
        if self.accelerator.is_main_process and base is not None:
            take_base(base, out, init)
        if self.accelerator.is_main_process and not (out / "tokenizer").is_dir():
            if init is None:
                train_tokenizer(self.pack, preset.model.text, out / "tokenizer")
            else:
                _take_over(init, out, with_log=trained.model == preset.model)
        self.accelerator.wait_for_everyone()
        set_seed(self.position.seed)
        text_encoder = None if preset.model.low_res is None else text_encoder_of_base(out)
        self.parts = build_model(preset.model, load_tokenizer(out / "tokenizer"), text_encoder)
        if init is not None:
            model = InstructImagenPipeline.from_pretrained(init)
            network = model.unet if preset.model.low_res is None else model.super_resolution
            sides = trained.model.patch_size, preset.model.patch_size
            self.parts.unet.load_state_dict(resample_patches(network.state_dict(), *sides))
            self.parts.text_encoder.load_state_dict(model.text_encoder.state_dict())
        elif not self._found and text_encoder is None and preset.text_steps:
            encoder, steps = self.parts.text_encoder.to(self.accelerator.device), preset.text_steps
            train_text_encoder(encoder, self.parts.tokenizer, self.pack, steps=steps, seed=seed)
        if self.accelerator.device.type == "cpu" and precision == "no":
            use_winograd(self.parts.unet)
        self.stage = preset.stages[0]
        self._interrupted = False
        if self.accelerator.is_main_process:
            write_preset(preset, out / "preset.json")
        self.accelerator.init_trackers("logs")

    def run(self, max_steps: int | None = None, max_minutes: float | None = None) -> TrainingPosition:
        """Trains until all stages are done, or so many further steps or minutes, or until interrupted.

        A checkpoint is written whatever ended it, so that at most the step under way is lost.

        Returns:
            Where the run stands; `stage_index == len(preset.stages)` when it is complete.
        """
        deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        resumed = self._resume() if self._found else False
        limits = Limits(deadline, None if max_steps is None else self.position.total_steps + max_steps)
        with self._catch_signals():
            while self.position.stage_index < len(self.preset.stages):
                if not resumed:
                    self._start_stage()
                resumed = False
                if not self._run_stage(limits):
                    break
                self._finish_stage()
        self.accelerator.end_training()
        return self.position

    def _resume(self) -> bool:
        """Loads the newest good checkpoint; a damaged one is passed over with a warning."""
        for checkpoint in self._found:
            try:
                self.position, trained = read_position(checkpoint)
                if trained.model != self.preset.model:
                    raise TrainingError(f"{checkpoint} is of another model; repeat the --set it was started with")
                if self.position.stage_index >= len(self.preset.stages):
                    return True
                self._start_stage()
                average = load_checkpoint(checkpoint, self.plain_module, self.optimizer)
            except CheckpointError as error:
                logger.warning("%s; trying an older one", error)
                set_aside(checkpoint)
                continue
            device = self.accelerator.device
            self.ema.shadow_params = [average[name].to(device) for name, _ in self.plain_module.named_parameters()]
            logger.info("resumed from %s", checkpoint)
            return True
        raise TrainingError(f"no usable checkpoint in {self.checkpoints}; remove the folder to start again")

    def _start_stage(self) -> None:
        """Networks, optimizer and average for the stage at `self.position`."""
        self.stage = self.preset.stages[self.position.stage_index]
        module = TrainingModule(self.parts.unet, self.parts.text_encoder, self.parts.scheduler, self.stage)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = make_optimizer(self.stage, [(n, p) for n, p in module.named_parameters() if p.requires_grad])
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.plain_module = self.accelerator.unwrap_model(self.module)
        self.ema = EMAModel(list(self.plain_module.parameters()), decay=self.stage.ema_decay, foreach=True)
        self.ema.optimization_step = self.position.step
        self.monitor = Monitor(self.preset, self.parts, self.pack, self.stage, self.out)

    def _finish_stage(self) -> None:
        """The next stage starts from the average, which is what the finished stage would ship."""
        self.ema.copy_to(self.plain_module.parameters())
        self.position = replace(self.position, stage_index=self.position.stage_index + 1, step=0, optimizer_from=0)
        if self.position.stage_index == len(self.preset.stages):
            self._write_checkpoint()
            self._report()

    def _run_stage(self, limits: Limits) -> bool:
        """Runs the current stage; true when it is complete, false when a limit or a signal ended it."""
        size_px, seed = self.preset.model.size_px, self.position.seed
        source = stage_source(self.preset.data, self.stage.stage, self.pack, size_px, seed)
        dataset = StageDataset(source, self.preset.model, self.stage, seed)
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        sampler = PositionSampler(self.position.step, self.stage.steps, self.stage.batch_size, rank, world_size)
        collate = Collate(self.parts.tokenizer, self.preset.model)
        pinned = self.accelerator.device.type == "cuda"
        loader = make_loader(dataset, collate, sampler, self.preset.data_workers, pinned)
        last_saved = last_report = time.monotonic()
        progress = tqdm(
            loader,
            desc=self.stage.stage,
            initial=self.position.step,
            total=self.stage.steps,
            disable=not self.accelerator.is_main_process,
            mininterval=10,
        )
        self.module.train()
        for batch in progress:
            if self._interrupted or limits.reached(self.position.total_steps):
                self._write_checkpoint()
                self._report()
                return False
            if time.monotonic() - last_saved >= 60 * self.preset.checkpoint_minutes:
                self._write_checkpoint()
                last_saved = time.monotonic()
            if time.monotonic() - last_report >= 60 * self.preset.report_minutes:
                self._report()
                last_report = time.monotonic()
            started = time.monotonic()
            losses = self._step(batch.to(self.accelerator.device))
            self._advance(time.monotonic() - started)
            self.monitor.add(batch, losses)
            if self.position.step % self.monitor.log_every == 0:
                values = self.monitor.flush(self._learning_rate())
                self.accelerator.log(values, step=self.position.total_steps)
                progress.set_postfix(loss=f"{values['loss/all']:.4f}")
        return True

    def _step(self, batch: TrainingBatch) -> torch.Tensor:
        """One optimizer step; returns the loss of every example."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        losses = self.module(batch)
        self.accelerator.backward(losses.mean())
        self.accelerator.clip_grad_norm_(self.module.parameters(), self.stage.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.plain_module.parameters())
        return losses.detach()

    def _learning_rate(self) -> float:
        return learning_rate_at(self.position.step, self.stage, self.position.optimizer_from)

    def _advance(self, seconds: float) -> None:
        position = self.position
        self.position = replace(
            position,
            step=position.step + 1,
            total_steps=position.total_steps + 1,
            seconds=position.seconds + seconds,
        )

    def _write_checkpoint(self) -> None:
        if not self.accelerator.is_main_process:
            return
        names = [name for name, _ in self.plain_module.named_parameters()]
        average = dict(zip(names, self.ema.shadow_params, strict=True))
        state = TrainingState(self.plain_module, average, self.optimizer)
        save_checkpoint(self.checkpoints, state, self.position, self.preset)

    def _report(self) -> None:
        if not self.accelerator.is_main_process:
            return
        with self._averaged_weights():
            values = self.monitor.report(self.position)
        self.accelerator.log(values, step=self.position.total_steps)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The networks hold the moving average inside this context."""
        parameters = list(self.plain_module.parameters())
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        self.module.eval()
        try:
            yield
        finally:
            self.ema.restore(parameters)
            self.module.train()

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """Ctrl-C and kill end the run after the step under way, with a checkpoint."""

        def interrupt(*_: object) -> None:
            self._interrupted = True

        previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
