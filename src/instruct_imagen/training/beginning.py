"""What a run begins with: a new model, one whose training goes on, or a base model that is adapted."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from accelerate.utils import set_seed

from ..errors import UserError
from ..model import ModelParts, build_model
from ..pipeline import InstructImagenPipeline, paper_scheduler, resolve_model
from ..presets import Preset
from ..text import load_tokenizer, train_tokenizer
from ..world import GlyphPack
from .checkpoint import TRAINING_FILE, CheckpointError, TrainingPosition, read_position
from .processes import Processes
from .resample import resample_patches, same_grid

DIGEST_FILE = "base.txt"


class BeginningError(UserError):
    """A model that a run cannot begin with."""


def begin(
    preset: Preset, out: Path, pack: GlyphPack, seed: int, init: Path | None, processes: Processes
) -> tuple[ModelParts, TrainingPosition | None]:
    """The networks at the beginning, the same in every process, and where their training stood if it goes on.

    Args:
        preset: the model, or a base model's name.
        out: the run's folder; keeps its tokenizer.
        pack: whose names a new tokenizer learns.
        seed: of random weights.
        init: folder of a model to go on from.
        processes: all of them must call this.

    Raises:
        BeginningError: `init` does not fit the preset, or the base model is not the one that the run began with.
        ModelError: there is no such base model, or it is damaged.
    """
    if preset.base:
        return _adapted(preset, out, seed, processes), None
    position, trained = (None, preset) if init is None else _training_of(init, preset)
    if processes.is_main and not (out / "tokenizer").is_dir():
        if init is None:
            train_tokenizer(pack, preset.model.text, out / "tokenizer")
        else:
            _take_over(init, out, with_log=trained.model == preset.model)
    processes.wait()
    set_seed(seed if position is None else position.seed)
    parts = build_model(preset.model, load_tokenizer(out / "tokenizer"))
    if init is not None:
        model = InstructImagenPipeline.from_pretrained(init)
        sides = trained.model.patch_size, preset.model.patch_size
        parts.unet.load_state_dict(resample_patches(model.unet.state_dict(), *sides))
        parts.text_encoder.load_state_dict(model.text_encoder.state_dict())
    return parts, position


def _training_of(model: Path, preset: Preset) -> tuple[TrainingPosition, Preset]:
    """Where the training of a model stood, a new optimizer beginning there, and its preset.

    Raises:
        BeginningError: it does not say, or differs from the preset's in more than the pixels of a patch.
    """
    try:
        position, trained = read_position(model, TRAINING_FILE)
    except CheckpointError as error:
        raise BeginningError(f"{model} does not say where its training stood: {error}") from error
    if not same_grid(trained.model, preset.model):
        raise BeginningError(f"{model} is not a model of preset {preset.name!r}; repeat the --set it was trained with")
    return replace(position, optimizer_from=position.step), trained


def _take_over(model: Path, out: Path, with_log: bool) -> None:
    """Copies a model's tokenizer and, where its errors compare with the new run's, its validation log."""
    shutil.copytree(model / "tokenizer", out / "tokenizer")
    if with_log and (model / "validation.jsonl").is_file():
        shutil.copy(model / "validation.jsonl", out)


def _adapted(preset: Preset, out: Path, seed: int, processes: Processes) -> ModelParts:
    """The parts of the base model. A run that is resumed needs the very same one, for it keeps what is trained only."""
    folder = resolve_model(preset.base)
    digest = model_digest(folder)
    known = out / DIGEST_FILE
    if known.is_file() and known.read_text().strip() != digest:
        raise BeginningError(f"the model {preset.base} has changed since this run began; begin again in another folder")
    processes.wait()
    if processes.is_main:
        known.write_text(digest + "\n")
    set_seed(seed)
    model = InstructImagenPipeline.from_pretrained(folder)
    scheduler = paper_scheduler(model.scheduler.config)
    return ModelParts(model.unet, model.text_encoder, model.tokenizer, scheduler)


def model_digest(folder: Path) -> str:
    """A hash of a model's weights as they lie on disk."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
