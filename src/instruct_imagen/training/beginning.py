"""What a run begins with: a new model, one whose training goes on, or a base model that is adapted."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import set_seed

from ..cascade import SECOND_NETWORK, sizes
from ..errors import UserError
from ..extras import require
from ..files import replacing
from ..model import ModelParts, build_model
from ..model_folders import resolve_model
from ..pipeline import InstructImagenPipeline
from ..presets import AdaptedModel, Preset, TextEncoderConfig
from ..schedulers import ddpm_scheduler
from ..text import load_tokenizer, train_tokenizer
from ..world import GlyphPack
from .checkpoint import TRAINING_FILE, CheckpointError, TrainingPosition, read_position
from .processes import Processes
from .second_network import take_base, text_encoder_of_base
from .text_pretraining import train_text_encoder
from .transplant import can_begin_with, transplanted

DIGEST_FILE = "base.digest"
_READ_OF_BASE = ("text_encoder", "unet", "vae")


class BeginningError(UserError):
    """A model that a run cannot begin with."""


def with_base(preset: Preset, init: Path | None, checkpoints: Sequence[Path]) -> Preset:
    """The preset with the base model that it adapts, if it does so: `init`, or that of the run's checkpoints.

    What is refused is refused here, before the run has a folder.

    Raises:
        BeginningError: none is named, or it is another than the run began with; or `init` does not fit the preset; or
            adapters are asked for where the network itself is trained, too.
        CascadeError: it has no base network, or is damaged.
        UserError: adapters need peft, which is not installed.
    """
    ranks = {stage.lora_rank for stage in preset.stages}
    if len(ranks) > 1 or (ranks != {0} and not isinstance(preset.model, AdaptedModel)):
        raise BeginningError(
            "an adapter needs a model that stays as it is; set one lora_rank for all stages of adapt or finetune"
        )
    if ranks != {0}:
        require("peft", "lora", "LoRA")
    if not isinstance(preset.model, AdaptedModel):
        if init is not None and not checkpoints:
            _training_of(init, preset)
        return preset
    known = base_of(checkpoints)
    asked = init or (resolve_model(preset.base) if preset.base else known)
    if asked is None:
        raise BeginningError(f"preset {preset.name!r} adapts a model; name it with --init")
    folder = asked.resolve()
    if known is not None and folder != known:
        raise BeginningError(f"the run adapts {known}, not {folder}; name that one, or choose another --out")
    return replace(preset, model=AdaptedModel(*sizes(folder)), base=str(folder))


def base_of(checkpoints: Sequence[Path]) -> Path | None:
    """The base model that the newest readable checkpoint names."""
    for checkpoint in checkpoints:
        try:
            return Path(read_position(checkpoint)[1].base)
        except CheckpointError:
            continue  # resuming passes over it, with a warning
    return None


def begin(
    preset: Preset,
    out: Path,
    pack: GlyphPack,
    seed: int,
    init: Path | None,
    base: Path | None,
    is_new: bool,
    processes: Processes,
) -> tuple[ModelParts, TrainingPosition]:
    """The networks at the beginning, the same in every process, and where their training stands.

    Args:
        preset: what is trained, see `with_base`.
        out: the run's folder; keeps its tokenizer.
        pack: whose names a new tokenizer learns.
        seed: of random weights.
        init: folder of a model to go on from.
        base: of a super-resolution, as `checked_base` gives it.
        is_new: whether there is no checkpoint that will replace new weights.
        processes: all of them must call this.

    Raises:
        BeginningError: `init` does not fit the preset, or the base model is not what it was.
        ModelError: a model is missing or damaged.
    """
    position, trained = TrainingPosition(0, 0, seed), preset
    if isinstance(preset.model, AdaptedModel):
        _check_unchanged(Path(preset.base), out / DIGEST_FILE, processes)
        set_seed(seed)
        return _adapted(Path(preset.base), processes), position
    config = preset.built
    if init is not None:
        position, trained = _training_of(init, preset)
    if processes.is_main:
        if base is not None:
            take_base(base, out, init)
        elif init is not None:
            _take_over(init, out, with_log=trained.model == config)
        elif config.low_res is None and not _fits(out / "tokenizer", config.text):
            with replacing(out / "tokenizer") as partial:
                train_tokenizer(pack, config.text, partial)
    processes.wait()
    set_seed(position.seed)
    text_encoder = None if config.low_res is None else text_encoder_of_base(out)
    parts = build_model(config, load_tokenizer(out / "tokenizer"), text_encoder)
    parts = replace(parts, guidance=preset.guidance, image_guidance=preset.image_guidance)
    if init is not None:
        model = InstructImagenPipeline.from_pretrained(init)
        network = model.unet if config.low_res is None else model.super_resolution
        fresh = parts.unet.state_dict()
        parts.unet.load_state_dict(transplanted(network.state_dict(), trained.built, config, fresh))
        parts.text_encoder.load_state_dict(model.text_encoder.state_dict())
    elif is_new and text_encoder is None and preset.text_steps:
        encoder = parts.text_encoder.to(processes.device)
        train_text_encoder(encoder, parts.tokenizer, pack, steps=preset.text_steps, seed=seed)
        processes.take_from_main(encoder)
    return parts, position


def _check_unchanged(base: Path, known: Path, processes: Processes) -> None:
    """A run keeps what it trains only, so the rest of what it reads must stay as it was when the run began.

    The model's own adapters and super-resolution, which it does not read, may change.

    Raises:
        BeginningError: in every process, if the base model has other weights now.
    """
    changed = False
    if processes.is_main:
        digest = hashlib.blake2b(digest_size=16)
        for file in sorted(file for part in _READ_OF_BASE for file in (base / part).rglob("*.safetensors")):
            with file.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "blake2b").digest())
        changed = known.is_file() and known.read_text().strip() != digest.hexdigest()
        if not changed:
            known.write_text(digest.hexdigest() + "\n")
    if processes.any_of(changed)[0]:
        raise BeginningError(f"the model {base} has changed since this run began; begin again in another folder")


def _adapted(folder: Path, processes: Processes) -> ModelParts:
    """The base network of a model in float32, and the rest, which stays as it is, in the precision of the run."""
    frozen = torch.bfloat16 if processes.uses_bfloat16 else torch.float32
    model = InstructImagenPipeline.from_pretrained(
        folder,
        dtype={"unet": torch.float32, "default": frozen},
        super_resolution=None,
        super_resolution_scheduler=None,
    )
    for part in (model.text_encoder, model.vae):
        if part is not None:
            part.requires_grad_(False).eval().to(processes.device)
    scheduler = ddpm_scheduler(model.scheduler.config, bounded=model.vae is None)
    scales = model.config.default_guidance, model.config.default_image_guidance
    return ModelParts(model.unet, model.text_encoder, model.tokenizer, scheduler, model.vae, *scales, folder)


def _training_of(model: Path, preset: Preset) -> tuple[TrainingPosition, Preset]:
    """Where the training of a model stood, a new optimizer beginning there, and its preset.

    One that was complete stood at the end of its last stage, which goes on if the preset gives it more steps.

    Raises:
        BeginningError: it does not say, or differs from the preset's in more than `can_begin_with` allows.
    """
    part = model if preset.model.low_res is None else model / SECOND_NETWORK
    try:
        position, trained = read_position(part, TRAINING_FILE)
    except CheckpointError as error:
        raise BeginningError(
            f"{model} does not say where its training stood: {error}; an imported model is trained with --preset adapt"
        ) from error
    if isinstance(trained.model, AdaptedModel) or not can_begin_with(preset.built, trained.model):
        raise BeginningError(f"{model} is not a model of preset {preset.name!r}; repeat the --set it was trained with")
    position = reopened(position, trained, preset)
    return replace(position, optimizer_from=position.step), trained


def reopened(position: TrainingPosition, trained: Preset, preset: Preset) -> TrainingPosition:
    """The end of its last stage, where a training was complete, for more steps of it; or else `position`."""
    if not position.stage_index == len(trained.stages) == len(preset.stages):
        return position
    last = trained.stages[-1]
    examples = last.steps * last.batch_size
    return replace(position, stage_index=position.stage_index - 1, step=last.steps, examples=examples)


def _fits(folder: Path, config: TextEncoderConfig) -> bool:
    """Whether there is a tokenizer, and none of another preset whose run was begun here and given up."""
    if not folder.is_dir():
        return False
    tokenizer = load_tokenizer(folder)
    return (len(tokenizer), tokenizer.model_max_length) == (config.vocab_size, config.max_tokens)


def _take_over(model: Path, out: Path, with_log: bool) -> None:
    """Copies a model's tokenizer and, where its errors compare with the new run's, its validation log."""
    with replacing(out / "tokenizer") as partial:
        shutil.copytree(model / "tokenizer", partial)
    if with_log and (model / "validation.jsonl").is_file():
        shutil.copy(model / "validation.jsonl", out)
