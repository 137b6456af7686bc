"""Training checkpoints: safetensors and JSON, written beside and renamed, never pickled.

Layout of `OUT/checkpoints/NNN-STAGE-STEP/`: `weights.safetensors`, `ema.safetensors`, `optimizer.safetensors`,
`random.safetensors`, `tokenizer/`, and `state.json`, written last.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import UserError
from ..presets import Preset, PresetError, preset_from_dict, preset_to_dict

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"
TRAINING_FILE = "training.json"  # in a model's folder


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of another preset."""


@dataclass(frozen=True)
class TrainingPosition:
    """Where a run stands.

    Attributes:
        stage_index: index into the preset's stages.
        step: optimizer steps done in that stage; the data position is step * batch_size.
        seed: of the run.
        optimizer_from: step of the stage at which its optimizer began, from where the warm-up counts; above 0 where
            a run goes on from a model instead of a checkpoint.
        total_steps: optimizer steps done in all stages.
        seconds: training time so far, over all sessions.
    """

    stage_index: int
    step: int
    seed: int
    optimizer_from: int = 0
    total_steps: int = 0
    seconds: float = 0.0


@dataclass
class TrainingState:
    """Everything that exact resumption needs besides the position and the preset."""

    module: nn.Module
    ema: dict[str, torch.Tensor]
    optimizer: torch.optim.Optimizer


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Splits an optimizer's state into tensors, keyed `INDEX.NAME`, and JSON-able rest."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            target: dict[str, Any] = tensors if isinstance(value, torch.Tensor) else plain
            target[f"{index}.{name}"] = value
    return tensors, {"param_groups": state["param_groups"], "plain": plain}


def unpack_optimizer(tensors: Mapping[str, torch.Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `pack_optimizer`, in the form that `Optimizer.load_state_dict` takes."""
    state: dict[int, dict[str, Any]] = {}
    for source in (tensors, rest["plain"]):
        for key, value in source.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": rest["param_groups"]}


def save_checkpoint(
    folder: Path, state: TrainingState, position: TrainingPosition, preset: Preset, keep: int = 2
) -> Path:
    """Writes a checkpoint beside the others and renames it into place; older ones than the last `keep` go.

    Args:
        folder: `OUT/checkpoints`.
        state: networks, average, optimizer.
        position: where the run stands.
        preset: the resolved preset, checked on resumption.

    Returns:
        The checkpoint's folder.
    """
    stage = preset.stages[min(position.stage_index, len(preset.stages) - 1)].stage
    name = f"{position.total_steps:08d}-{stage}-{position.step:07d}"
    partial, final = folder / f".{name}.partial", folder / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in state.module.state_dict().items()}
    save_file(_unshared(weights), partial / "weights.safetensors")
    save_file({key: value.cpu().contiguous() for key, value in state.ema.items()}, partial / "ema.safetensors")
    tensors, rest = pack_optimizer(state.optimizer)
    save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, partial / "optimizer.safetensors")
    save_file(_random_state(), partial / "random.safetensors")
    _write_state(partial / STATE_FILE, position, preset, optimizer=rest)
    for file in partial.iterdir():
        _sync(file)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for old in sorted(p for p in folder.iterdir() if not p.name.startswith("."))[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and (p / STATE_FILE).is_file()]
    return sorted(found, reverse=True)


def set_aside(checkpoint: Path) -> None:
    """Hides a damaged checkpoint, so that it neither counts as one of the kept nor is tried again."""
    os.replace(checkpoint, checkpoint.with_name(f".damaged-{checkpoint.name}"))


def read_position(folder: Path, file: str = STATE_FILE) -> tuple[TrainingPosition, Preset]:
    """Position and preset of a checkpoint, or of a model by its `TRAINING_FILE`, without any tensor.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        description = json.loads((folder / file).read_text())
        return TrainingPosition(**description["position"]), preset_from_dict(description["preset"])
    except (OSError, ValueError, KeyError, TypeError, PresetError) as error:
        raise CheckpointError(f"{folder / file} is missing or damaged: {error}") from error


def write_training_file(folder: Path, position: TrainingPosition, preset: Preset) -> None:
    """Writes beside an exported model where its training stood and what it was."""
    _write_state(folder / TRAINING_FILE, position, preset)


def _write_state(path: Path, position: TrainingPosition, preset: Preset, **rest: Any) -> None:
    path.write_text(json.dumps({"position": asdict(position), "preset": preset_to_dict(preset), **rest}, indent=1))


def load_checkpoint(checkpoint: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Fills networks, optimizer and random state in place.

    Returns:
        The tensors of the moving average.

    Raises:
        CheckpointError: a file is missing, truncated, or of another shape.
    """
    try:
        weights = load_file(checkpoint / "weights.safetensors")
        ema = load_file(checkpoint / "ema.safetensors")
        tensors = load_file(checkpoint / "optimizer.safetensors")
        rest = json.loads((checkpoint / STATE_FILE).read_text())["optimizer"]
        random_state = load_file(checkpoint / "random.safetensors")
        missing, unexpected = module.load_state_dict(weights, strict=False)
        if unexpected or any(name not in _aliases(module) for name in missing):
            raise CheckpointError(f"checkpoint {checkpoint} is of another network: {(missing + unexpected)[0]} differs")
        optimizer.load_state_dict(unpack_optimizer(tensors, rest))
        _match_layout(optimizer)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {str(error).splitlines()[0]}") from error
    torch.set_rng_state(random_state["cpu"])
    if "cuda" in random_state and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_state["cuda"])
    return ema


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives each moment the memory layout of its parameter, on which fused optimizers rely without a check."""
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drops names that are another name for the same storage (T5's two names of its embedding)."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in tensors.items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            kept[name] = tensor
    return kept


def _aliases(module: nn.Module) -> set[str]:
    state = module.state_dict()
    return set(state) - set(_unshared(state))


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
