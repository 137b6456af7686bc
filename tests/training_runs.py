"""Training runs in processes of their own, for tests that kill them or start several."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import socket
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.nn.parallel import DistributedDataParallel

from instruct_imagen.presets import Preset, get_preset
from instruct_imagen.training.checkpoint import TENSORS, list_checkpoints

# Children are forked from a server that has imported everything and computed nothing; CUDA cannot be forked.
_CONTEXT = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")
_CONTEXT.set_forkserver_preload(["instruct_imagen.training.trainer", "instruct_imagen.training.monitor"])
TIMEOUT_S = 300


@dataclass(frozen=True)
class Run:
    """What a child trains, and how it ends.

    Attributes:
        preset: of the run.
        out: folder.
        resume: go on from its newest checkpoint.
        max_steps: stop after so many further steps.
        save_at: also write a checkpoint after so many steps in all.
        kill_at: die, as by `kill -9`, after so many steps in all.
        kill_in_save: die in the middle of writing that checkpoint: when this function of its module is called.
        interrupt: rank that gets a signal after so many steps in all, as (rank, steps, signal).
        log: begins the name of the files in which each process writes what it has seen.
        report: also validate, draw samples and export.
    """

    preset: Preset
    out: Path
    resume: bool = False
    max_steps: int | None = None
    save_at: int | None = None
    kill_at: int | None = None
    kill_in_save: str | None = None
    interrupt: tuple[int, int, int] | None = None
    log: str = "seen"
    report: bool = False


def stepwise_preset(steps: tuple[int, int, int], *overrides: str) -> Preset:
    """The debug preset in float32, with so many steps in each stage."""
    preset = get_preset("debug", ["execution.precision=float32", *overrides])
    stages = (replace(stage, steps=number) for stage, number in zip(preset.stages, steps, strict=True))
    return replace(preset, stages=tuple(stages))


def start(run: Run, num_processes: int = 1) -> list[int | None]:
    """Trains in so many processes; returns their exit codes, negative ones for signals."""
    children = launch(run, num_processes)
    for child in children:
        child.join(TIMEOUT_S)
    stuck = [child for child in children if child.is_alive()]
    for child in stuck:
        child.kill()
    assert not stuck, "the processes wait for each other"
    return [child.exitcode for child in children]


def launch(run: Run, num_processes: int) -> list:
    """Starts the processes and returns them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [(run, rank, num_processes, port) for rank in range(num_processes)]
    children = [_CONTEXT.Process(target=_train, args=each, daemon=False) for each in arguments]
    for child in children:
        child.start()
    return children


def _train(run: Run, rank: int, num_processes: int, port: int) -> None:
    if num_processes > 1:
        launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
        os.environ.update({key: str(value) for key, value in launched.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)

    from instruct_imagen.training import checkpoint, trainer

    class Watched(trainer.Trainer):
        def _step(self, batches):
            keys = [example for batch in batches for example in batch.noise[:, 0, 0, 0, 0].tolist()]
            losses = super()._step(batches)
            total = self.position.total_steps + 1
            with (run.out / f"{run.log}-{rank}.txt").open("a") as file:
                file.write(f"{total} {losses.mean().item()!r} {keys}\n")
            return losses

        def _advance(self, seconds: float) -> None:
            super()._advance(seconds)
            total = self.position.total_steps
            if run.interrupt is not None and (rank, total) == run.interrupt[:2]:
                os.kill(os.getpid(), run.interrupt[2])
            if total == run.save_at:
                if run.kill_in_save is not None:
                    setattr(checkpoint, run.kill_in_save, lambda *args, **kwargs: _die())
                self._write_checkpoint()
            if total == run.kill_at:
                _die()

        def _report(self) -> None:
            if run.report:
                super()._report()

        def _leave(self) -> None:
            super()._leave()
            # The last holder of Gloo's group must not be a network: freeing both waits, now and then, for ever.
            assert not any(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects())

    Watched(run.preset, run.out, seed=3, resume=run.resume).run(run.max_steps)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def new_folder(tokenizer_folder: Path, out: Path) -> Path:
    """A run's folder that has its tokenizer already, which is what takes longest at the start."""
    shutil.copytree(tokenizer_folder, out / "tokenizer")
    return out


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, whole, however many processes wrote them."""
    reader = HuggingFaceStorageReader(str(checkpoint / TENSORS))
    stored = reader.read_metadata().state_dict_metadata
    found = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in stored.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*to load in a single process")
        dcp.load(found, storage_reader=reader, no_dist=True)
    return found


def newest_tensors(out: Path) -> dict[str, torch.Tensor]:
    """Those of a run's newest checkpoint."""
    return tensors_of(list_checkpoints(out / "checkpoints")[0])


@dataclass(frozen=True)
class Seen:
    """A step as all processes of a run saw it.

    Attributes:
        loss: the mean over its examples.
        marks: one of each example: the first number of its noise.
    """

    loss: float
    marks: tuple[str, ...]


def seen_in(out: Path, log: str = "seen") -> dict[int, Seen]:
    """What a run's processes wrote of every step; of one that was repeated, the last time."""
    steps: dict[int, list[tuple[float, list[str]]]] = {}
    for file in sorted(out.glob(f"{log}-*.txt")):
        own = {}
        for line in file.read_text().splitlines():
            step, loss, marks = line.split(" ", 2)
            own[int(step)] = float(loss), marks.strip("[]").split(", ")
        for step, seen in own.items():
            steps.setdefault(step, []).append(seen)
    return {
        step: Seen(sum(loss for loss, _ in seen) / len(seen), tuple(sorted(m for _, marks in seen for m in marks)))
        for step, seen in steps.items()
    }


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """The same names and the same bits."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
