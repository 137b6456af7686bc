"""The training loop: every stage of every preset runs through `Trainer.run`, in one process or many.

instruct-imagen train --preset nano --out train/nano --minutes 120 --resume latest
torchrun --nproc-per-node 8 -m instruct_imagen.cli train --preset small --out train/small
"""

from __future__ import annotations

import itertools
import logging
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ..data.mixture import stage_source
from ..errors import UserError
from ..files import make_folder
from ..presets import Preset, StageConfig, preset_to_dict, write_preset
from ..world import load_pack
from .adapters import train_adapters
from .average import MovingAverage
from .beginning import begin, reopened, with_base
from .checkpoint import (
    DamagedCheckpointError,
    TrainingPosition,
    TrainingState,
    has_damaged,
    list_checkpoints,
    load_checkpoint,
    read_position,
    save_checkpoint,
    set_aside,
)
from .loader import Collate, PositionSampler, StageDataset, make_loader, plain_data_errors
from .memory import checkpoint_activations
from .monitor import Monitor
from .objective import TrainingBatch, TrainingModule, with_blank_reference
from .optimizers import make_optimizer
from .processes import Processes
from .second_network import checked_base
from .text_cache import TextCache
from .trackers import show_picture, start_tracker
from .winograd import use_winograd

logger = logging.getLogger(__name__)
_NONE_USABLE = "no usable checkpoint in {}; remove the folder to start again"


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


class Trainer:
    """Trains a preset's stages one after the other, from scratch or from the newest good checkpoint.

    Args:
        preset: what to train.
        out: folder for checkpoints, logs, sample grids and the exported pipeline; the same one for all processes.
        seed: of weights, data and noise.
        resume: continue from the newest good checkpoint in `out`, if it holds one.
        init: folder of a model to begin with where there is no checkpoint: its weights instead of random ones, and
            the position that its training had reached, with a new optimizer. It may have other patches, or fewer
            levels, see `transplant`. Where the preset adapts a model, this is the model, and training begins anew.
        progress: whether to show a progress bar.
        adapter: folder of an adapter that a new run goes on from, where the preset trains one of its rank.

    Raises:
        TrainingError: `out` already holds a run and `resume` is false, or holds no usable checkpoint.
        BeginningError: `init` is of another model than the preset's, or a model to adapt is not named.
        ExecutionError: a way of running that cannot be had here.
    """

    def __init__(
        self,
        preset: Preset,
        out: Path,
        seed: int = 0,
        resume: bool = False,
        init: Path | None = None,
        progress: bool = True,
        adapter: Path | None = None,
    ):
        self.out, self.progress = out, progress
        self.checkpoints = out / "checkpoints"
        self._found = list_checkpoints(self.checkpoints)
        if self._found and not resume:
            raise TrainingError(f"{out} already holds a training; add --resume latest or choose another folder")
        if not self._found and has_damaged(self.checkpoints):
            raise TrainingError(_NONE_USABLE.format(self.checkpoints))
        self.preset = preset = with_base(preset, init, self._found)
        self.pack = load_pack(preset.pack).prepare()
        base = checked_base(preset, out, init, bool(self._found))
        execution = preset.execution
        self.processes = processes = Processes(execution, out)
        make_folder(out)
        if not processes.is_main:
            logging.getLogger(__package__).setLevel(logging.ERROR)  # one voice is enough
        init = None if self._found else init
        self._adapter = None if self._found else adapter
        self.parts, self.position = begin(preset, out, self.pack, seed, init, base, not self._found, processes)
        if processes.device.type == "cpu" and not processes.uses_bfloat16:
            use_winograd(self.parts.unet)
        if execution.checkpoint_activations:
            checkpoint_activations(self.parts.unet, self.parts.text_encoder)
        self.text_cache = TextCache(execution.text_cache) if execution.text_cache else None
        if self.text_cache and processes.sharded and any(stage.train_text_encoder for stage in preset.stages):
            raise TrainingError("with fsdp, texts are cached only where no stage trains the text encoder")
        self.stage = preset.stages[0]
        self._interrupted = False
        start_tracker(processes.accelerator, execution.tracker, out, preset_to_dict(preset))

    def run(self, max_steps: int | None = None, max_minutes: float | None = None) -> TrainingPosition:
        """Trains until all stages are done, or so many further steps or minutes, or until interrupted.

        A checkpoint is written whatever ended it, so that at most the step under way is lost. All processes stop at
        the same step, whichever was interrupted.

        Returns:
            Where the run stands; `stage_index == len(preset.stages)` when it is complete.
        """
        deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        with self._catch_signals(), plain_data_errors():
            resumed = self._resume() if self._found else False
            if self.processes.is_main:
                write_preset(self.preset, self.out / "preset.json")
            limits = Limits(deadline, None if max_steps is None else self.position.total_steps + max_steps)
            while self.position.stage_index < len(self.preset.stages):
                if not resumed:
                    self._start_stage()
                if self.position.total_steps == 0 and self.preset.text_steps and not self._found:
                    self._write_checkpoint()  # the text encoder's minutes are not to be lost
                resumed = False
                if not self._run_stage(limits):
                    break
                self._finish_stage()
        self._leave()
        return self.position

    def _resume(self) -> bool:
        """Loads the newest good checkpoint; a damaged one is passed over with a warning."""
        for checkpoint in self._found:
            try:
                self.position, trained = read_position(checkpoint)
                if self.preset.stages[-1].steps > trained.stages[-1].steps:
                    self.position = reopened(self.position, trained, self.preset)
                if trained.model != self.preset.model:
                    raise TrainingError(f"{checkpoint} is of another model; repeat the --set it was started with")
                if self.position.stage_index >= len(self.preset.stages):
                    return True
                self._check_stage(checkpoint, trained)
                self._start_stage()
                load_checkpoint(checkpoint, self._state(), self.processes)
            except DamagedCheckpointError as error:
                logger.warning("%s; trying an older one", error)
                self.processes.wait()
                if self.processes.is_main:
                    set_aside(checkpoint)
                continue
            logger.info("resumed from %s", checkpoint)
            return True
        raise TrainingError(_NONE_USABLE.format(self.checkpoints))

    def _check_stage(self, checkpoint: Path, trained: Preset) -> None:
        """Refuses a checkpoint that holds other tensors than the stage needs, which would look like damage."""
        stages = [preset.stages[self.position.stage_index] for preset in (trained, self.preset)]
        for field in ("optimizer", "lora_rank", "train_text_encoder"):
            then, now = (getattr(stage, field) for stage in stages)
            if then != now:
                raise TrainingError(f"{checkpoint} has {field} {then}, not {now}; repeat the --set it was started with")
        if trained.data != self.preset.data:
            raise TrainingError(
                f"{checkpoint} was trained on other data; repeat its --data, or begin another run with it"
            )

    def _start_stage(self) -> None:
        """Networks, optimizer and average for the stage at `self.position`."""
        self.stage = self.preset.stages[self.position.stage_index]
        parts, processes = self.parts, self.processes
        if self.stage.lora_rank:
            train_adapters(parts.unet, self.stage.lora_rank, self._adapter)
        module = TrainingModule.of(parts, self.stage, self.text_cache)
        if not processes.sharded:  # FSDP takes contiguous parameters only
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = processes.spread(module, whole=() if self.text_cache is None else (parts.text_encoder,))
        self.plain_module = module
        self.optimizer = make_optimizer(self.stage, self._trained())
        num_before = self.position.step - self.position.optimizer_from  # weights it begins with may be another model's
        self.average = MovingAverage(self._trained(), self.stage.ema_decay, num_before)
        self.monitor = Monitor(self.preset, parts, self.pack, self.stage, self.out, processes)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.plain_module.named_parameters() if p.requires_grad]

    def _state(self) -> TrainingState:
        """What a checkpoint holds: of adapters only themselves, for the rest stays as it was."""
        kept = self._trained() if self.stage.lora_rank else list(self.plain_module.named_parameters())
        return TrainingState(dict(kept), self.average, self.optimizer)

    def _finish_stage(self) -> None:
        """The next stage starts from the average, which is what the finished stage would ship."""
        self.average.copy_to_parameters()
        following = self.position.stage_index + 1
        self.position = replace(self.position, stage_index=following, step=0, optimizer_from=0, examples=0)
        if self.position.stage_index == len(self.preset.stages):
            self._write_checkpoint()
            self._report()

    def _run_stage(self, limits: Limits) -> bool:
        """Runs the current stage; true when it is complete, false when a limit or a signal ended it."""
        loader, per_step = self._make_loader()
        saved = reported = time.monotonic()
        self.module.train()
        try:
            for batches in _in_groups(loader, per_step):
                now = time.monotonic()
                due = (now - saved) / 60 >= self.preset.checkpoint_minutes
                report_due = (now - reported) / 60 >= self.preset.report_minutes
                ending = limits.reached(self.position.total_steps)
                interrupted, ending, due, report_due = self.processes.any_of(self._interrupted, ending, due, report_due)
                if interrupted or ending:
                    self._write_checkpoint()
                    if not interrupted or self.processes.count == 1:  # a launcher soon kills what it has interrupted
                        self._report()
                    return False
                if due:
                    self._write_checkpoint()
                    saved = time.monotonic()
                if report_due:
                    self._report()
                    reported = time.monotonic()
                started = time.monotonic()
                losses = self._step([batch.to(self.processes.device) for batch in batches])
                self._advance(time.monotonic() - started)
                self.monitor.add(batches, losses)
                if self.position.step % self.monitor.log_every == 0:
                    values = self.monitor.flush(self._learning_rate())
                    self.processes.accelerator.log(values, step=self.position.total_steps)
                    loader.set_postfix(loss=f"{values['loss/all']:.4f}")
        except UserError:  # an example that cannot be read
            if self.processes.count == 1:  # the others do not know of it
                self._write_checkpoint()
            raise
        return True

    def _make_loader(self) -> tuple[tqdm, int]:
        """The micro-batches of this process from the current step on, and how many make a step."""
        preset, stage, processes, seed = self.preset, self.stage, self.processes, self.position.seed
        source = stage_source(preset.data, stage.stage, self.pack, preset.model.size_px, seed)
        dataset = StageDataset(source, preset.model, stage, seed)
        sampler = PositionSampler(
            self.position.step,
            stage.steps,
            stage.batch_size,
            processes.rank,
            processes.count,
            preset.execution.micro_batch,
            self.position.examples,
        )
        collate = Collate(self.parts.tokenizer, preset.model, self.parts.unet.text_format)
        loader = make_loader(dataset, collate, sampler, preset.data_workers, processes.device.type == "cuda")
        progress = tqdm(
            loader,
            desc=stage.stage,
            initial=self.position.step * sampler.per_step,
            total=stage.steps * sampler.per_step,
            disable=not (self.progress and processes.is_main),
            mininterval=10,
        )
        return progress, sampler.per_step

    def _step(self, batches: Sequence[TrainingBatch]) -> torch.Tensor:
        """One optimizer step on the examples of one or more micro-batches; returns the loss of every example."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        losses = []
        for number, batch in enumerate(batches, start=1):
            has_references = len(batch.prompts.reference_rows) > 0
            if self.processes.sharded and self.processes.any_of(has_references)[0] and not has_references:
                batch = with_blank_reference(batch)
            with self.processes.accumulating(self.module, last=number == len(batches)):
                with self.processes.autocast():
                    loss = self.module(batch)
                (loss.mean() / len(batches)).backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_([p for _, p in self._trained()], self.stage.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return torch.cat(losses)

    def _learning_rate(self) -> float:
        return learning_rate_at(self.position.step, self.stage, self.position.optimizer_from)

    def _advance(self, seconds: float) -> None:
        position = self.position
        self.position = replace(
            position,
            step=position.step + 1,
            total_steps=position.total_steps + 1,
            seconds=position.seconds + seconds,
            examples=position.examples + self.stage.batch_size,
        )

    def _write_checkpoint(self) -> None:
        save_checkpoint(self.checkpoints, self._state(), self.position, self.preset, self.processes)

    def _report(self) -> None:
        """Validation, samples and the exported model, of the average; in all processes, as sharded weights need."""
        self.module.eval()
        with self.average.applied():
            report = self.monitor.report(self.position)
        self.module.train()
        accelerator, step = self.processes.accelerator, self.position.total_steps
        accelerator.log(report.values, step=step)
        show_picture(accelerator, "samples", report.sheet, step)
        self.processes.wait()

    def _leave(self) -> None:
        """Ends trackers and the group of processes.

        What spreads the network goes first. Were it the last to hold the group, it would wait, with the interpreter
        locked, for a thread of Gloo that may be waiting for the interpreter.
        """
        vars(self).pop("module", None)
        self.processes.accelerator.end_training()

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


def _in_groups(batches: Iterable[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
    """The micro-batches of one step after another."""
    remaining = iter(batches)
    while group := list(itertools.islice(remaining, size)):
        yield group
