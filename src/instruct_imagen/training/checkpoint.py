"""Training checkpoints: safetensors and JSON, written beside and renamed, never pickled.

Layout of `OUT/checkpoints/NNN-STAGE-STEP/`: `tensors/`, with weights, moving average and optimizer moments in one file
per process, `random.safetensors`, and `state.json`, written last. Every process writes what it holds of each tensor
and reads what it will hold (torch.distributed.checkpoint), so nothing is gathered, and a run goes on with another
number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from ..errors import UserError
from ..files import write_json
from ..presets import Preset, PresetError, preset_from_dict, preset_to_dict
from .average import MovingAverage

if TYPE_CHECKING:
    from .processes import Processes

T = TypeVar("T")
STATE_FILE = "state.json"
TENSORS, RANDOM_FILE = "tensors", "random.safetensors"
TRAINING_FILE = "training.json"  # in a model's folder
_DAMAGED = ".damaged-"


class CheckpointError(UserError):
    """A checkpoint that cannot be used: of another preset or version, or not readable here and now."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is missing, or is not what was written; an older one may do."""


@dataclass(frozen=True)
class TrainingPosition:
    """Where a run stands.

    Attributes:
        stage_index: index into the preset's stages.
        step: optimizer steps done in that stage.
        seed: of the run.
        optimizer_from: step of the stage at which its optimizer began, from where the warm-up counts; above 0 where
            a run goes on from a model instead of a checkpoint.
        total_steps: optimizer steps done in all stages.
        seconds: training time so far, over all sessions.
        examples: of the stage's data seen so far; the next one has this index.
    """

    stage_index: int
    step: int
    seed: int
    optimizer_from: int = 0
    total_steps: int = 0
    seconds: float = 0.0
    examples: int = 0


@dataclass
class TrainingState:
    """Everything that exact resumption needs besides the position and the preset.

    Attributes:
        weights: parameters by name: all of them, or those that are trained where the others come from a base model.
        average: their moving average.
        optimizer: over the trained ones.
    """

    weights: Mapping[str, nn.Parameter]
    average: MovingAverage
    optimizer: torch.optim.Optimizer

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name; those of weights and average are the ones that are trained, not copies."""
        found = {f"weights.{name}": parameter.detach() for name, parameter in self.weights.items()}
        found |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        return found | {name: value for name, value in self._moments() if isinstance(value, torch.Tensor)}

    def settings(self) -> dict[str, Any]:
        """What the optimizer keeps besides tensors: its groups, their parameters by name, and plain numbers."""
        names = self._names()
        groups = [{**group, "params": [names[id(p)] for p in group["params"]]} for group in self.optimizer.param_groups]
        plain = {name: value for name, value in self._moments() if not isinstance(value, torch.Tensor)}
        return {"groups": groups, "plain": plain}

    def room(self, shapes: Mapping[str, torch.Size], dtypes: Mapping[str, torch.dtype]) -> dict[str, torch.Tensor]:
        """Tensors to load into: those of `tensors`, with zeros for moments of so many shapes and types.

        A moment has the place of its parameter, and where the shapes are equal its layout and sharding, on which fused
        optimizers rely without a check. Other optimizers count their steps on the CPU.
        """
        found = {name: tensor for name, tensor in self.tensors().items() if not name.startswith("optimizer.")}
        fused = {id(p): bool(group.get("fused")) for group in self.optimizer.param_groups for p in group["params"]}
        for name, dtype in dtypes.items():
            path, key = name.removeprefix("optimizer.").rsplit(".", 1)
            parameter = self.weights[path]
            if shapes[name] == parameter.shape:
                found[name] = torch.zeros_like(parameter, dtype=dtype).detach()
            else:
                device = "cpu" if key == "step" and not fused[id(parameter)] else parameter.device
                found[name] = torch.zeros(shapes[name], dtype=dtype, device=device)
        return found

    def restore_optimizer(self, moments: Mapping[str, Any], groups: list[dict[str, Any]]) -> None:
        """Gives the optimizer its moments, by names as in `tensors`, and its settings."""
        self.optimizer.state.clear()
        for name, value in moments.items():
            parameter, key = name.removeprefix("optimizer.").rsplit(".", 1)
            self.optimizer.state[self.weights[parameter]][key] = value
        for group, stored in zip(self.optimizer.param_groups, groups, strict=True):
            group.update({key: value for key, value in stored.items() if key != "params"})

    def _names(self) -> dict[int, str]:
        return {id(parameter): name for name, parameter in self.weights.items()}

    def _moments(self) -> Iterator[tuple[str, Any]]:
        names = self._names()
        for parameter, entries in self.optimizer.state.items():
            for key, value in entries.items():
                yield f"optimizer.{names[id(parameter)]}.{key}", value


def save_checkpoint(
    folder: Path, state: TrainingState, position: TrainingPosition, preset: Preset, processes: Processes, keep: int = 2
) -> Path:
    """Writes a checkpoint beside the others and renames it into place; older ones than the last `keep` go.

    Args:
        folder: `OUT/checkpoints`; the same one for all processes.
        state: weights, average, optimizer.
        position: where the run stands.
        preset: the resolved preset, checked on resumption.
        processes: all of them must call this.

    Returns:
        The checkpoint's folder.
    """
    stage = preset.stages[min(position.stage_index, len(preset.stages) - 1)].stage
    name = f"{position.total_steps:08d}-{stage}-{position.step:07d}"
    partial, final = folder / f".{name}.partial", folder / name
    if processes.is_main:
        for left_over in folder.glob(".*.partial"):
            shutil.rmtree(left_over)
        (partial / TENSORS).mkdir(parents=True)
    processes.wait()
    tensors = {name: t if t.is_contiguous() else t.cpu().contiguous() for name, t in state.tensors().items()}
    writer = HuggingFaceStorageWriter(str(partial / TENSORS), save_distributed=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*to save in a single process")  # which is meant
        dcp.save(tensors, storage_writer=writer, no_dist=processes.count == 1)
    processes.wait()
    checksums = _checksums(partial / TENSORS, processes)
    if processes.is_main:
        save_file(_random_state(), partial / RANDOM_FILE)
        _sync(partial / RANDOM_FILE)
        _write_state(partial / STATE_FILE, position, preset, optimizer=state.settings(), files=checksums)
        _sync(partial / STATE_FILE)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in list_checkpoints(folder)[keep:]:
            shutil.rmtree(old)
    processes.wait()
    return final


def _checksums(folder: Path, processes: Processes) -> dict[str, int]:
    """CRC-32 of every file, each read, and written through to the disk, by one of the processes."""
    own = {}
    for file in sorted(folder.iterdir())[processes.rank :: processes.count]:
        _sync(file)
        own[file.name] = _checksum(file)
    return {name: value for part in processes.gathered(own) for name, value in part.items()}


def _checksum(file: Path) -> int:
    value = 0
    with file.open("rb") as handle:
        while block := handle.read(1 << 24):
            value = zlib.crc32(block, value)
    return value


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and (p / STATE_FILE).is_file()]
    return sorted(found, reverse=True)


def set_aside(checkpoint: Path) -> None:
    """Hides a damaged checkpoint, so that it neither counts as one of the kept nor is tried again."""
    hidden = checkpoint.with_name(f"{_DAMAGED}{checkpoint.name}")
    shutil.rmtree(hidden, ignore_errors=True)  # of an earlier time that the run came this far
    os.replace(checkpoint, hidden)


def has_damaged(folder: Path) -> bool:
    """Whether damaged checkpoints were set aside here."""
    return folder.is_dir() and any(path.name.startswith(_DAMAGED) for path in folder.iterdir())


def read_position(folder: Path, file: str = STATE_FILE) -> tuple[TrainingPosition, Preset]:
    """Position and preset of a checkpoint, or of a model by its `TRAINING_FILE`, without any tensor.

    Raises:
        DamagedCheckpointError: missing or damaged.
        CheckpointError: it cannot be read, or was written by another version of this program.
    """
    try:
        description = json.loads((folder / file).read_text(encoding="utf-8"))
        position, preset = description["position"], description["preset"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{folder / file} is missing or damaged: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{folder / file} cannot be read: {error.strerror}") from error
    try:
        known = preset_from_dict(preset)
        stage = known.stages[min(position["stage_index"], len(known.stages) - 1)]
        return TrainingPosition(**{"examples": position["step"] * stage.batch_size, **position}), known
    except (KeyError, TypeError, PresetError) as error:
        raise CheckpointError(f"{folder / file} is of another version of this program: {error}") from error


def write_training_file(folder: Path, position: TrainingPosition, preset: Preset) -> None:
    """Writes beside an exported model where its training stood and what it was."""
    _write_state(folder / TRAINING_FILE, position, preset)


def _write_state(path: Path, position: TrainingPosition, preset: Preset, **rest: Any) -> None:
    write_json(path, {"position": asdict(position), "preset": preset_to_dict(preset), **rest})


def load_checkpoint(checkpoint: Path, state: TrainingState, processes: Processes) -> None:
    """Fills weights, average, optimizer and random state in place; every process must call it.

    Raises:
        DamagedCheckpointError: a file is missing, truncated or altered; in every process, whichever noticed it.
        CheckpointError: it is of another network, or could not be read for a reason that does not lie in it, such as a
            lack of memory; likewise.
    """

    def read() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        description = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        return description, load_file(checkpoint / RANDOM_FILE)

    description, random_state = _in_all(checkpoint, processes, read)
    if "files" in description:
        files = sorted(description["files"].items())[processes.rank :: processes.count]
        _in_all(checkpoint, processes, lambda: _check_files(checkpoint / TENSORS, files))
        _in_all(checkpoint, processes, lambda: _load_tensors(checkpoint, state, description["optimizer"], processes))
    else:
        _in_all(checkpoint, processes, lambda: _load_first_layout(checkpoint, state, description))
    torch.set_rng_state(random_state["cpu"])
    if "cuda" in random_state and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_state["cuda"])


def _in_all(checkpoint: Path, processes: Processes, read: Callable[[], T]) -> T:
    """What `read` gives; what goes wrong in one process is raised in all, so that they go on together."""
    result: T | None = None
    problem: CheckpointError | None = None
    try:
        result = read()
    except CheckpointError as error:
        problem = error
    except (FileNotFoundError, SafetensorError, KeyError, ValueError) as error:
        problem = DamagedCheckpointError(f"checkpoint {checkpoint} is damaged: {_first_line(error)}")
    except (OSError, RuntimeError, CheckpointException) as error:  # it may be whole
        problem = CheckpointError(f"checkpoint {checkpoint} cannot be read: {_first_line(error)}")
    problems = [found for found in processes.gathered(problem) if found is not None]
    if problems:
        raise next((found for found in problems if not isinstance(found, DamagedCheckpointError)), problems[0])
    return cast(T, result)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_files(folder: Path, checksums: Iterable[tuple[str, int]]) -> None:
    for name, checksum in checksums:
        if not (folder / name).is_file():
            raise DamagedCheckpointError(f"checkpoint {folder.parent} is damaged: {name} is missing")
        if _checksum(folder / name) != checksum:
            raise DamagedCheckpointError(f"checkpoint {folder.parent} is damaged: {name} is not what was written")


def _load_tensors(checkpoint: Path, state: TrainingState, settings: Mapping[str, Any], processes: Processes) -> None:
    reader = HuggingFaceStorageReader(str(checkpoint / TENSORS))
    stored = cast(dict[str, TensorStorageMetadata], reader.read_metadata().state_dict_metadata)
    moments = {name for name in stored if name.startswith("optimizer.")}
    shapes = {name: stored[name].size for name in stored}
    _check_names(checkpoint, set(stored) - moments, {n for n in state.tensors() if not n.startswith("optimizer.")})
    room = state.room(shapes, {name: stored[name].properties.dtype for name in moments})
    for name in room:
        if shapes[name] != room[name].shape:
            raise CheckpointError(f"checkpoint {checkpoint} is of another network: {name} differs")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*to load in a single process")
        dcp.load(room, storage_reader=reader, no_dist=processes.count == 1)
    state.restore_optimizer({name: room[name] for name in moments} | settings["plain"], settings["groups"])


def _check_names(checkpoint: Path, stored: set[str], wanted: set[str]) -> None:
    for name in sorted(stored ^ wanted):
        raise CheckpointError(f"checkpoint {checkpoint} is of another network: {name} differs")


def _load_first_layout(checkpoint: Path, state: TrainingState, description: Mapping[str, Any]) -> None:
    """Reads a checkpoint from before training on several processes.

    It had a file each for weights, average and moments, the moments numbered in the order of the optimizer's
    parameters.
    """
    names = [name for group in state.settings()["groups"] for name in group["params"]]
    files = ("weights", "ema", "optimizer")
    weights, average, numbered = (load_file(checkpoint / f"{name}.safetensors") for name in files)

    def named(entries: Mapping[str, Any]) -> dict[str, Any]:
        pairs = ((key.split(".", 1), value) for key, value in entries.items())
        return {f"optimizer.{names[int(index)]}.{entry}": value for (index, entry), value in pairs}

    _check_names(checkpoint, set(weights), set(state.weights))
    moments = named(numbered)
    room = state.room({n: t.shape for n, t in moments.items()}, {n: t.dtype for n, t in moments.items()})
    for name, parameter in state.weights.items():
        parameter.detach().copy_(weights[name])
    state.average.load(average)
    loaded = {name: room[name].copy_(moment) for name, moment in moments.items()}
    state.restore_optimizer(loaded | named(description["optimizer"]["plain"]), description["optimizer"]["param_groups"])


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
