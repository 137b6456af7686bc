"""Builds the parts of a network of the cascade from its configuration, and keeps them together in training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDPMScheduler
from transformers import CLIPTextModel, PreTrainedTokenizerBase, T5Config, T5EncoderModel

from .presets import ModelConfig, TextEncoderConfig
from .super_resolution import SuperResolutionUNet
from .unet import InstructUNet

NUM_TRAIN_TIMESTEPS = 1000


def build_unet(config: ModelConfig) -> InstructUNet:
    """The U-Net of `config`: attention only at the lowest resolution (Table 5), text also in the time embedding.

    That of a super-resolution reads the small picture beside the noisy one, and its noise level.
    """
    num_blocks = len(config.channels)
    folded = 3 * config.patch_size**2
    low_res = config.low_res
    backbone = {
        "sample_size": config.size_px // config.patch_size,
        "in_channels": folded if low_res is None else 2 * folded,
        "out_channels": folded,
        "down_block_types": ("ResnetDownsampleBlock2D",) * (num_blocks - 1) + ("SimpleCrossAttnDownBlock2D",),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D",) + ("ResnetUpsampleBlock2D",) * (num_blocks - 1),
        "block_out_channels": config.channels,
        "layers_per_block": config.layers_per_block,
        "attention_head_dim": config.head_dim,
        "cross_attention_dim": config.text.dim,
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": config.text.dim,
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_dim": config.time_dim or None,
        "norm_num_groups": math.gcd(32, *(c // 4 for c in config.channels)),
    }
    options: dict[str, Any] = {
        "patch_size": config.patch_size,
        "context_places": config.context_places,
        "context_positions": config.context_positions,
        "context_text": config.context_text,
    }
    if low_res is None:
        return InstructUNet(backbone_config=backbone, **options)
    return SuperResolutionUNet(
        backbone_config={**backbone, "time_cond_proj_dim": config.channels[0]},
        low_res_px=low_res.size_px,
        noise_level=low_res.noise_level,
        residual=low_res.residual,
        **options,
    )


def build_text_encoder(config: TextEncoderConfig, vocab_size: int) -> T5EncoderModel:
    """A T5 encoder with random weights, without dropout (its states are cached and reused)."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size,
            d_model=config.dim,
            d_kv=config.dim // config.num_heads,
            d_ff=config.feed_forward_dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def build_scheduler(config: ModelConfig) -> DDPMScheduler:
    """The paper's schedule: cosine, 1,000 training steps, DDPM (A.2.2); clean pictures are clipped to -1..1."""
    return DDPMScheduler(
        num_train_timesteps=NUM_TRAIN_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=config.prediction_type,
        clip_sample=True,
    )


@dataclass
class ModelParts:
    """The parts of one stage of the cascade; what the pipeline is made of.

    Attributes:
        unet: the network; of the second stage a `SuperResolutionUNet`.
        text_encoder, tokenizer: before it.
        scheduler: the noise that it is trained with.
        vae: of a latent model.
        guidance, image_guidance: scales that samples are drawn with, see `InstructImagenPipeline`.
        folder: of the model that is adapted; its text encoder and VAE stay as they lie there.
    """

    unet: InstructUNet
    text_encoder: T5EncoderModel | CLIPTextModel
    tokenizer: PreTrainedTokenizerBase
    scheduler: DDPMScheduler
    vae: AutoencoderKL | None = None
    guidance: float = 3.0
    image_guidance: float | None = None
    folder: Path | None = None


def build_model(
    config: ModelConfig, tokenizer: PreTrainedTokenizerBase, text_encoder: T5EncoderModel | None = None
) -> ModelParts:
    """A freshly initialised model, but for a given text encoder; seed torch before for a reproducible one."""
    if text_encoder is None:
        text_encoder = build_text_encoder(config.text, len(tokenizer))
    return ModelParts(build_unet(config), text_encoder, tokenizer, build_scheduler(config))
