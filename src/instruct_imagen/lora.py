"""Low-rank adapters (LoRA) of a network, as fine-tuning writes them (`training/adapters.py`), loaded and checked."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from .errors import UserError
from .extras import require
from .unet import InstructUNet

LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' name
DRAWING_FILE = "drawing.json"  # how an adapter wants to be drawn with: {"guidance": 1.5}
ADAPTERS = "lora"  # where a model's folder has adapters of its own, each in a folder


class AdapterError(UserError):
    """An adapter that is missing, damaged, or made for another model."""


def own_adapters(model: str | Path | None) -> dict[str, Path]:
    """The adapters that come with a model, by name: folders in its folder."""
    places = [] if model is None else sorted((Path(model) / ADAPTERS).glob("*"))
    return {place.name: place for place in places if (place / LORA_FILE).is_file()}


def find_adapter(name_or_path: str | Path, model: str | Path | None) -> Path:
    """Folder of an adapter, by its name if it comes with the model, or else by its path.

    Raises:
        AdapterError: there is none.
    """
    own = own_adapters(model)
    folder = own.get(str(name_or_path), Path(name_or_path))
    if not (folder / LORA_FILE).is_file():
        names = f"; the model has its own: {', '.join(own)}" if own else ""
        raise AdapterError(f"there is no adapter in {folder}: it has no {LORA_FILE}{names}")
    return folder


def adapter_guidance(folder: Path) -> float | None:
    """The guidance scale that suits an adapter, if its folder names one.

    Raises:
        AdapterError: the file that names it is damaged.
    """
    file = folder / DRAWING_FILE
    if not file.is_file():
        return None
    try:
        scale = json.loads(file.read_text(encoding="utf-8"))["guidance"]
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise ValueError(f"{scale!r} is no guidance scale")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{file} is damaged: {error}") from error
    return float(scale)


def load_adapter(unet: InstructUNet, folder: Path, scale: float = 1.0) -> None:
    """Adds an adapter to a network; those that were added before go on acting.

    Args:
        unet: the network.
        folder: from `find_adapter`.
        scale: how strongly it acts; 1 is as it was trained.

    Raises:
        AdapterError: it is damaged, or made for a network of other layers.
        UserError: peft is not installed.
    """
    require("peft", "lora", "A LoRA adapter")
    fitting_weights(unet, folder)
    known = list(getattr(unet, "peft_config", {}))
    name = f"lora{len(known)}"
    file = {"weight_name": LORA_FILE, "use_safetensors": True, "local_files_only": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are meant to act
        unet.load_lora_adapter(str(folder), prefix=None, adapter_name=name, **file)
    unet.set_adapter([*known, name])
    torch.nn.Module.to(unet, unet.dtype)  # peft keeps float32
    for module in unet.modules():
        if hasattr(module, "set_scale") and name in getattr(module, "scaling", {}):
            module.set_scale(name, scale)


def adapter_rank(folder: Path) -> int:
    """The rank of an adapter that fine-tuning has written, which training can go on from.

    Args:
        folder: from `find_adapter`.

    Raises:
        AdapterError: it is damaged, or another tool's: of a scale of its own, or with several ranks.
    """
    file = folder / LORA_FILE
    try:
        with safe_open(file, framework="pt") as opened:
            config = json.loads((opened.metadata() or {})[LORA_ADAPTER_METADATA_KEY])
        rank = int(config["r"])
        others = [key for key in ("rank_pattern", "alpha_pattern", "use_rslora") if config.get(key)]
        if config["lora_alpha"] != rank or others:
            raise ValueError(", ".join([f"scale {config['lora_alpha']} with rank {rank}", *others]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{file} is no adapter that fine-tuning wrote, to go on from: {error}") from error
    return rank


def fitting_weights(unet: InstructUNet, folder: Path) -> dict[str, torch.Tensor]:
    """An adapter's weights, by name, each of which belongs to a layer of the network and has its width.

    A mismatch in the middle of loading would leave half of it.

    Raises:
        AdapterError: it is damaged, or made for a network of other layers.
    """
    file = folder / LORA_FILE
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"the adapter {file} is damaged: {error}") from error
    layers = dict(unet.named_modules())
    for name, weight in weights.items():
        path, _, side = name.removesuffix(".weight").rpartition(".")
        layer = getattr(layers.get(path), "base_layer", layers.get(path))
        width, size = {
            "lora_A": (getattr(layer, "in_features", None), weight.shape[-1]),
            "lora_B": (getattr(layer, "out_features", None), weight.shape[0]),
        }.get(side, (None, 0))
        if width != size:
            raise AdapterError(f"the adapter {folder} is not for this model, whose {path or name} it does not fit")
    return weights
