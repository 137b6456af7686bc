"""Tiny models with random weights of the classes that are loaded by name, saved as the published ones are."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

_SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} A:{% endif %}"
)


def _processor(kind: str, side: int) -> dict[str, object]:
    return {
        "image_processor_type": kind,
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
    }


def save_clip(folder: Path) -> Path:
    """A CLIP with its tokenizer and image processor."""
    letters = string.ascii_lowercase
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer({piece: i for i, piece in enumerate(pieces)}, [])
    words = {"vocab_size": len(pieces), "bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1}
    text = {**_SIZE, **words, "max_position_embeddings": 12, "projection_dim": 24}
    vision = {**_SIZE, "image_size": 32, "patch_size": 8, "projection_dim": 24}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_processor("CLIPImageProcessor", 32)))
    return folder


def save_dino(folder: Path) -> Path:
    """A DINOv2 with its image processor."""
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_processor("BitImageProcessor", 28)))
    return folder


def save_llava(folder: Path) -> Path:
    """A chat model that sees pictures, with its processor and chat template."""
    signs = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *string.printable[:95], "\n"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({sign: i for i, sign in enumerate(signs)}, [], unk_token="<unk>")),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    torch.manual_seed(0)
    text = LlamaConfig(
        **{**_SIZE, "num_key_value_heads": 2},
        vocab_size=len(signs),
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    vision = CLIPVisionConfig(**_SIZE, image_size=16, patch_size=8)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.chat_template = _CHAT
    tokenizer.save_pretrained(folder)
    processor = {
        "image_processor": _processor("CLIPImageProcessor", 16),
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": 8,
        "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": "default",
    }
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder
