"""A model between two states of its training: weights on the line from one to the other.

Fine-tuning on a narrower mixture, or with smaller batches, costs a little of what the model did before; part of the
way keeps nearly all of both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .cascade import CascadeError, check_same_text, copy_base, read_base_index, read_json
from .files import replacing, write_json
from .training.checkpoint import TRAINING_FILE

BLEND = "blend"  # in `training.json`: how far the weights went, and from where


def blend(before: Path, after: Path, share: float, out: Path) -> None:
    """Writes the base model whose network lies at `share` of the way from one model's to another's.

    Args:
        before, after: folders of models with the same network, text encoder and tokenizer; `before`'s is left where
            training began, say.
        share: 0 is `before`, 1 is `after`.
        out: the new folder, in all but the network's weights a copy of `after`'s base model; replaced if it exists. It
            appears whole or not at all.

    Raises:
        CascadeError: a part is missing or damaged, or the two are not states of one model.
    """
    for model in (before, after):
        read_base_index(model)
    if _network(before) != _network(after):
        raise CascadeError(f"{before} and {after} have different networks; only states of one can be blended")
    check_same_text(before, after)
    with replacing(out) as partial:
        copy_base(after, partial)
        try:
            for file in _files(after):
                _blend_file(before / "unet" / file.name, file, share, partial / "unet" / file.name)
        except (OSError, SafetensorError) as error:
            raise CascadeError(f"the models cannot be blended: {error}") from error
        if (partial / TRAINING_FILE).is_file():
            begun = read_json(before / TRAINING_FILE).get("position", {}) if (before / TRAINING_FILE).is_file() else {}
            how = {"share": share, "from_steps": begun.get("total_steps")}
            write_json(partial / TRAINING_FILE, {**read_json(partial / TRAINING_FILE), BLEND: how})


def _network(model: Path) -> dict[str, Any]:
    """The configuration of a model's network, without who saved it."""
    config = read_json(model / "unet" / "config.json")
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _files(model: Path) -> Iterator[Path]:
    found = sorted((model / "unet").glob("*.safetensors"))
    if not found:
        raise CascadeError(f"{model / 'unet'} has no weights")
    return iter(found)


def _blend_file(before: Path, after: Path, share: float, out: Path) -> None:
    """One file of weights, in the precision of `after`; `out` may be a second name of that file."""
    old, new = load_file(before), load_file(after)
    if old.keys() != new.keys():
        raise CascadeError(f"{before} and {after} hold different weights")
    weights = {
        name: torch.lerp(old[name].float(), weight.float(), share).to(weight.dtype)
        if weight.is_floating_point()
        else weight
        for name, weight in new.items()
    }
    out.unlink()
    save_file(weights, out, metadata={"format": "pt"})
