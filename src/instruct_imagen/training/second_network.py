"""What the training of a super-resolution takes from its base model, and how its cascade is exported."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import T5EncoderModel

from ..cascade import SECOND_NETWORK, SECOND_SCHEDULER, check_fit, check_same_text, copy_base, join, read_json
from ..model import ModelParts
from ..model_folders import resolve_model
from ..presets import Preset, PresetError
from ..schedulers import fast_scheduler
from ..super_resolution import SuperResolutionUNet
from .checkpoint import TrainingPosition, write_training_file
from .processes import Processes, whole_state

BASE = "base"  # the base model's folder in that of the run
LOG = "validation.jsonl"


def checked_base(preset: Preset, out: Path, init: Path | None, begun: bool) -> Path | None:
    """The base model that a run has still to take; None where it has its own or needs none.

    Args:
        preset: names the base model, and what is enlarged.
        out: the run's folder.
        init: a cascade whose super-resolution the run begins with.
        begun: whether the run has a checkpoint; the base of one that was given up before may be another.

    Raises:
        PresetError: the preset names no base model, or one with other text states.
        CascadeError: it draws another size than is enlarged, has another text encoder than `init`, or is damaged.
        ModelError: there is no such model.
    """
    config = preset.model
    if config.low_res is None or (begun and (out / BASE).is_dir()):
        return None
    if not preset.base:
        raise PresetError(f"preset {preset.name!r} needs a base model; add --set base=NAME_OR_PATH")
    model = resolve_model(preset.base)
    check_fit(model, config.low_res.size_px)
    dim = read_json(model / "text_encoder" / "config.json").get("d_model")
    if dim != config.text.dim:
        raise PresetError(f"the text encoder of {preset.base} has {dim} channels; add --set model.text.dim={dim}")
    if init is not None:
        check_same_text(model, init)
    return model


def take_base(model: Path, out: Path, init: Path | None = None) -> None:
    """Keeps a base model in the run's folder, where nobody replaces it; also its tokenizer and the log of `init`."""
    if init is not None and (init / SECOND_NETWORK / LOG).is_file():
        shutil.copy(init / SECOND_NETWORK / LOG, out)
    shutil.rmtree(out / "tokenizer", ignore_errors=True)
    shutil.copytree(model / "tokenizer", out / "tokenizer")
    copy_base(model, out / BASE)


def text_encoder_of_base(out: Path) -> T5EncoderModel:
    """The kept base model's text encoder, in float32; it stays as it is."""
    folder = str(out / BASE / "text_encoder")
    return T5EncoderModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def export_cascade(
    parts: ModelParts, out: Path, position: TrainingPosition, preset: Preset, processes: Processes
) -> None:
    """Writes `out/pipeline`: the kept base model joined with the network as it is now, in bfloat16.

    Its `super_resolution/` says where training stands and holds the validation log. Every process must call this.
    """
    state = whole_state(parts.unet, torch.bfloat16)
    if not processes.is_main:
        return
    staged = out / f".{SECOND_NETWORK}.partial"
    shutil.rmtree(staged, ignore_errors=True)
    copy = SuperResolutionUNet.from_config(parts.unet.config)
    torch.nn.Module.to(copy, torch.bfloat16)
    copy.load_state_dict(state)
    copy.save_pretrained(str(staged / SECOND_NETWORK))
    fast_scheduler(parts.scheduler.config).save_pretrained(str(staged / SECOND_SCHEDULER))
    write_training_file(staged / SECOND_NETWORK, position, preset)
    if (out / LOG).is_file():
        shutil.copy(out / LOG, staged / SECOND_NETWORK)
    join(out / BASE, staged, out / "pipeline")
    shutil.rmtree(staged)
