"""Low-rank adapters (LoRA, Hu et al. 2021) on the attention and context layers, through peft.

An adapter is a folder with `pytorch_lora_weights.safetensors`, which holds its configuration too, and
`training.json`. `lora.load_adapter` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors.torch import save_file

from ..files import replacing
from ..lora import LORA_FILE, AdapterError, fitting_weights
from ..model import ModelParts
from ..presets import Preset
from ..unet import InstructUNet
from .checkpoint import TrainingPosition, write_training_file
from .processes import Processes, whole_state

ADAPTER = "default"
# Linear layers by the end of their name: of text and self-attention, of the context, and of its texts.
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "add_k_proj",
    "add_v_proj",
    "to_q_context",
    "to_k_context",
    "to_v_context",
    "to_out_context",
    "context_text_proj",
)


def train_adapters(unet: InstructUNet, rank: int, start: Path | None = None) -> None:
    """Adds adapters of a rank and freezes everything else; once for all stages.

    Args:
        unet: the network that is adapted.
        rank: of the adapters.
        start: folder of an adapter of the same rank to go on from; without one they change nothing at first.

    Raises:
        AdapterError: `start` is damaged, made for a network of other layers, or on others than these.
    """
    from peft import LoraConfig
    from peft.utils import set_peft_model_state_dict

    if ADAPTER in getattr(unet, "peft_config", {}):
        return
    names = [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = [target for target in TARGETS if any(name == target or name.endswith(f".{target}") for name in names)]
    weights = None if start is None else fitting_weights(unet, start)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), ADAPTER)
    if weights is not None:
        wanted = {name for name in unet.state_dict() if ".lora_" in name}
        if {name.removesuffix(".weight") + f".{ADAPTER}.weight" for name in weights} != wanted:
            raise AdapterError(f"the adapter {start} is on other layers than fine-tuning adapts")
        set_peft_model_state_dict(unet, weights, adapter_name=ADAPTER)


def export_adapter(
    parts: ModelParts, out: Path, position: TrainingPosition, preset: Preset, processes: Processes
) -> None:
    """Writes `out/lora`, the adapter alone, beside and renamed; every process must call it.

    Args:
        parts: whose network has the adapter of `train_adapters`.
        out: the run's folder.
        position: where training stands.
        preset: of the run; says which base model the adapter is for.
        processes: of the run.
    """
    from peft.utils import get_peft_model_state_dict

    unet, folder = parts.unet, out / "lora"
    gathered = whole_state(unet, only="lora_")
    if not processes.is_main:
        return
    weights = get_peft_model_state_dict(unet, gathered, adapter_name=ADAPTER)
    config = {k: sorted(v) if isinstance(v, set) else v for k, v in unet.peft_config[ADAPTER].to_dict().items()}
    with replacing(folder) as partial:
        partial.mkdir()
        metadata = {"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(config, indent=2, sort_keys=True)}
        save_file(weights, partial / LORA_FILE, metadata=metadata)
        write_training_file(partial, position, preset)
