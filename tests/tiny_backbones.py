"""Tiny, randomly initialised pipelines of diffusers' own classes, saved in the layout of the released ones."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

TEXTS = (
    "a photo of a red fox on a beach",
    "draw the cat next to the dog in a forest at night",
    "a watercolour painting of a house, a tree and a river",
    "an edge map of a mountain, a mask of a bird, a depth map of a street",
    "the quick brown fox jumps over the lazy dog and 0123456789 [#]",
)
IF_BLOCKS = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "block_out_channels": (16, 32, 32),
    "cross_attention_dim": 32,
    "encoder_hid_dim": 24,
    "attention_head_dim": 8,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
    "norm_num_groups": 4,
    "out_channels": 6,
}
IF_SCHEDULE = {
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
}


def sentencepiece_tokenizer(folder: Path) -> T5Tokenizer:
    """A Unigram tokenizer from a spiece.model, which is all that the released pipelines hold."""
    import sentencepiece

    folder.mkdir(parents=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 100}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return T5Tokenizer.from_pretrained(folder)


def t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """A T5 encoder whose table, as in the released ones, has more rows than the tokenizer has tokens."""
    size = len(tokenizer) + 28
    return T5EncoderModel(T5Config(vocab_size=size, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3)).eval()


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """Moves what starts at zero or one, so that a test sees every weight."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def save_if(folder: Path, **unet_options) -> IFPipeline:
    """Stage I of DeepFloyd IF: learned variance, attention at two resolutions, text in the time embedding."""
    torch.manual_seed(0)
    tokenizer = sentencepiece_tokenizer(folder / "sentencepiece")
    sizes = {"sample_size": 16, "in_channels": 3, "layers_per_block": 1}
    unet = UNet2DConditionModel(**{**IF_BLOCKS, **sizes, **unet_options})
    pipeline = IFPipeline(
        tokenizer,
        t5(tokenizer),
        randomized(unet),
        DDPMScheduler(**IF_SCHEDULE, sample_max_value=1.5),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    as_released(folder, "safety_checker", "feature_extractor", "watermarker")
    return pipeline


def save_if_super_resolution(folder: Path, base: IFPipeline) -> IFSuperResolutionPipeline:
    """Stage II: reads the small picture beside the noisy one, and its noise level."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        **IF_BLOCKS,
        sample_size=32,
        in_channels=6,
        layers_per_block=(1, 1, 2),
        class_embed_type="timestep",
        time_embedding_dim=32,
        time_embedding_act_fn="gelu",
        resnet_skip_time_act=True,
        resnet_out_scale_factor=1 / 0.7071,
        mid_block_scale_factor=1 / 0.7071,
        only_cross_attention=True,
    )
    pipeline = IFSuperResolutionPipeline(
        base.tokenizer,
        base.text_encoder,
        randomized(unet),
        DDPMScheduler(**IF_SCHEDULE, sample_max_value=1.0),
        DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    as_released(folder, "safety_checker", "feature_extractor", "watermarker")
    return pipeline


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE with a few merges, in the vocab.json and merges.txt of the released pipelines."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir(parents=True)
    characters = sorted(ByteLevel.alphabet())
    merges = ["c a", "ca t</w>", "r e", "re d</w>", "d o", "do g</w>", "t h", "th e</w>"]
    pieces = [*characters, *(c + "</w>" for c in characters), *(m.replace(" ", "") for m in merges)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def save_stable_diffusion(folder: Path, prediction_type: str = "epsilon", **unet_options) -> StableDiffusionPipeline:
    """Stable Diffusion: four blocks of which the lowest holds no attention, CLIP, VAE, PNDM."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder / "byte-pairs")
    size = len(tokenizer)
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=3,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    unet = UNet2DConditionModel(
        **{
            "sample_size": 16,
            "block_out_channels": (16, 16, 32, 32),
            "layers_per_block": 1,
            "cross_attention_dim": 24,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            **unet_options,
        }
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    pipeline = StableDiffusionPipeline(
        randomized(vae),
        randomized(CLIPTextModel(config)),
        tokenizer,
        randomized(unet),
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    as_released(folder, "safety_checker", "feature_extractor")
    return pipeline


def as_released(folder: Path, *guards: str) -> None:
    """Names the guards in the index, as released pipelines do; their folders hold what nobody must read."""
    index = json.loads((folder / "model_index.json").read_text())
    for guard in guards:
        index[guard] = ["transformers", "SomeGuard"]
        (folder / guard).mkdir()
        (folder / guard / "model.safetensors").write_text("not to be read")
    index["requires_safety_checker"] = True
    (folder / "model_index.json").write_text(json.dumps(index))
