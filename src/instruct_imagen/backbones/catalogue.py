"""Public backbones by name, as they are built on the meta device: to count and to estimate, not to run.

Sources: the released configurations of Stable Diffusion 1.5 and 2.1; for DeepFloyd IF the conversion of its
configurations to diffusers (which blocks, activations and scales), the published widths of IF-I-XL, and for the other
sizes the widths that give the published numbers of parameters. An import reads its sizes from the source itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from ..latents import pixels_per_sample
from ..model import build_text_encoder, build_unet
from ..presets import PRESETS, TextEncoderConfig
from ..super_resolution import IFSuperResolutionUNet
from ..unet import InstructUNet
from .source import check_unet, kind_of, read_index, read_json

T5_XXL = TextEncoderConfig(32128, 4096, 10240, 24, 64)


@dataclass(frozen=True)
class Networks:
    """The networks of a model.

    Attributes:
        unet: denoiser; a super-resolution reads no references.
        text_encoder: frozen in fine-tuning.
        vae: of a latent model.
        text_tokens: tokens of a text.
    """

    unet: InstructUNet
    text_encoder: nn.Module
    vae: AutoencoderKL | None = None
    text_tokens: int = 77

    @property
    def size_px(self) -> int:
        """Side of its pictures."""
        return self.unet.size_px * pixels_per_sample(self.vae)

    def to(self, dtype: torch.dtype) -> Networks:
        """Changes their precision in place."""
        for part in (self.unet, self.text_encoder, self.vae):
            if part is not None:
                nn.Module.to(part, dtype)  # diffusers' own warns of what does not matter here
        return self


@dataclass(frozen=True)
class KnownModel:
    """A model by name.

    Attributes:
        build: makes it; called on the meta device.
        published: parameters of the denoiser, in millions, as its authors state them; None for our own.
    """

    build: Callable[[], Networks]
    published: float | None = None

    def on_meta(self) -> Networks:
        """The networks without memory."""
        with torch.device("meta"):
            return self.build()


def preset_model(name: str) -> KnownModel:
    """The model of one of our presets."""
    config = PRESETS[name].built

    def build() -> Networks:
        return Networks(
            build_unet(config), build_text_encoder(config.text, config.text.vocab_size), None, config.text.max_tokens
        )

    return KnownModel(build)


def _if_blocks(channels: tuple[int, ...], num_attention: int) -> dict[str, Any]:
    plain = len(channels) - num_attention
    return {
        "block_out_channels": channels,
        "down_block_types": ("ResnetDownsampleBlock2D",) * plain + ("SimpleCrossAttnDownBlock2D",) * num_attention,
        "up_block_types": ("SimpleCrossAttnUpBlock2D",) * num_attention + ("ResnetUpsampleBlock2D",) * plain,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "cross_attention_dim": channels[-1],
        "encoder_hid_dim": T5_XXL.dim,
        "attention_head_dim": 64,
        "addition_embed_type": "text",
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
        "out_channels": 6,
    }


def _stage_1(width: int, published: float) -> KnownModel:
    channels = tuple(width * factor for factor in (1, 2, 3, 4))
    config = {**_if_blocks(channels, 3), "sample_size": 64, "in_channels": 3, "layers_per_block": 3}

    def build() -> Networks:
        unet = InstructUNet.from_backbone(UNet2DConditionModel(**config), text_tokens=77)
        return Networks(unet, build_text_encoder(T5_XXL, T5_XXL.vocab_size))

    return KnownModel(build, published)


def _stage_2(width: int, layers: tuple[int, ...], published: float) -> KnownModel:
    channels = tuple(width * factor for factor in (1, 2, 4, 6))
    config = {
        **_if_blocks(channels, 1),
        "sample_size": 256,
        "in_channels": 6,
        "layers_per_block": layers,
        "class_embed_type": "timestep",
        "time_embedding_dim": channels[-1],
        "time_embedding_act_fn": "gelu",
        "resnet_skip_time_act": True,
        "resnet_out_scale_factor": 1 / 0.7071,
        "mid_block_scale_factor": 1 / 0.7071,
        "only_cross_attention": True,
    }

    def build() -> Networks:
        unet = IFSuperResolutionUNet.from_backbone(
            UNet2DConditionModel(**config), low_res_px=64, noising_config={}, text_tokens=77
        )
        return Networks(unet, build_text_encoder(T5_XXL, T5_XXL.vocab_size))

    return KnownModel(build, published)


def _stable_diffusion(clip: dict[str, Any], published: float, **unet: Any) -> KnownModel:
    def build() -> Networks:
        text = CLIPTextConfig(**clip)
        backbone = UNet2DConditionModel(cross_attention_dim=text.hidden_size, **unet)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        return Networks(InstructUNet.from_backbone(backbone, text_tokens=77), CLIPTextModel(text), vae)

    return KnownModel(build, published)


def model_in(folder: Path) -> KnownModel:
    """The model that importing a base pipeline's folder would give; only its configurations are read.

    Raises:
        BackboneError: it is unsupported, or a configuration is missing or damaged.
    """
    kind = kind_of(read_index(folder), folder)
    configs = {name: read_json(folder / name / "config.json") for name in kind.networks}
    check_unet(configs["unet"], kind.class_embed_type)

    def build() -> Networks:
        backbone = UNet2DConditionModel.from_config(configs["unet"])
        unet = InstructUNet.from_backbone(backbone, text_tokens=77)
        if "vae" not in configs:
            return Networks(unet, T5EncoderModel(T5Config(**configs["text_encoder"])))
        text = CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))
        return Networks(unet, text, AutoencoderKL.from_config(configs["vae"]))

    return KnownModel(build)


KNOWN_MODELS: dict[str, KnownModel] = {
    "nano": preset_model("nano"),
    "small": preset_model("small"),
    "paper": preset_model("paper"),
    "IF-I-M": _stage_1(192, 400),
    "IF-I-L": _stage_1(320, 900),
    "IF-I-XL": _stage_1(704, 4300),
    "IF-II-M": _stage_2(128, (2, 4, 6, 6), 450),
    "IF-II-L": _stage_2(192, (2, 4, 8, 8), 1200),
    "Stable Diffusion 1.5": _stable_diffusion(
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        860,
        sample_size=64,
        attention_head_dim=8,
    ),
    "Stable Diffusion 2.1": _stable_diffusion(
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
        865,
        sample_size=96,
        attention_head_dim=(5, 10, 20, 20),
        use_linear_projection=True,
    ),
}
