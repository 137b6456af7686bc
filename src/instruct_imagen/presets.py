"""Every model and run by name. A preset is a frozen dataclass; `--set key=value` overrides single fields, typed.

`paper` follows Table 5 and A.2.2; `nano` is what two CPU cores can train and what the project ships; `micro` is small
enough to train for a whole comparison; `small` waits for a GPU; `debug` is for tests. The second network of each
cascade is a run of its own, `nano-sr` and so on: it can be trained before, beside or after the first one, on another
machine, and each is replaced without the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from .data.recipe import DataRecipe, recipe_from_dict
from .data.report import DataError
from .errors import UserError
from .files import write_json
from .overrides import OverrideError, Ranges, overridden

StageName = Literal["pretrain", "stage1", "stage2", "super_resolution"]
PredictionType = Literal["sample", "v_prediction", "epsilon"]
OptimizerName = Literal["muon", "adamw", "adafactor", "adamw8bit"]
PrecisionName = Literal["auto", "bfloat16", "float32"]
ParallelName = Literal["ddp", "fsdp"]
TrackerName = Literal["tensorboard", "wandb"]
ContextPlaces = Literal["none", "lowest", "middle", "all"]


class PresetError(UserError):
    """An unknown preset or field, or a value of the wrong type."""


@dataclass(frozen=True)
class TextEncoderConfig:
    """A T5 encoder and its tokenizer (the paper uses a frozen T5-XXL).

    Attributes:
        vocab_size: tokenizer pieces, 256 byte pieces included.
        dim, feed_forward_dim, num_layers, num_heads: sizes of the encoder.
        max_tokens: longest instruction; longer ones are cut.
    """

    vocab_size: int = 3072
    dim: int = 256
    feed_forward_dim: int = 512
    num_layers: int = 3
    num_heads: int = 8
    max_tokens: int = 96


@dataclass(frozen=True)
class LowResolutionConfig:
    """What a super-resolution network enlarges.

    Attributes:
        size_px: side of the small picture, which is the base model's.
        max_noise_level: of the augmentation in training, where levels are drawn from 0 up to it.
        noise_level: of the augmentation in sampling, saved with the model; networks may differ in it and be the same.
        max_blur_px: in training half of the small pictures are blurred by up to so much (standard deviation in their
            own pixels), as a base model's pictures are; 0: none.
        residual: predict what the enlarged small picture lacks, see `SuperResolutionUNet`.
    """

    size_px: int = 32
    max_noise_level: float = 0.5
    noise_level: float = field(default=0.1, compare=False)
    max_blur_px: float = 0.0
    residual: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """One network of the cascade, and the text encoder before it.

    Attributes:
        size_px: side of the square picture.
        patch_size: pixels folded into channels before the backbone, see `InstructUNet`.
        channels: per down block, highest resolution first; attention sits in the last (Table 5).
        layers_per_block: residual blocks per down block (diffusers' up blocks hold one more).
        head_dim: width of an attention head.
        prediction_type: what the network predicts; the loss is weighted as for v whatever it is.
        context_places, context_positions, context_text: how references are read, see `InstructUNet`.
        time_dim: width of the embedding of time and pooled text (0: four times the first of `channels`).
        low_res: for super-resolution, what it enlarges; None for the base model.
    """

    size_px: int = 32
    patch_size: int = 4
    channels: tuple[int, ...] = (192,)
    layers_per_block: tuple[int, ...] = (2,)
    head_dim: int = 32
    prediction_type: PredictionType = "sample"
    context_places: ContextPlaces = "lowest"
    context_positions: bool = True
    context_text: bool = True
    time_dim: int = 0
    low_res: LowResolutionConfig | None = None
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels and sides of what is denoised."""
        return 3, self.size_px, self.size_px


@dataclass(frozen=True)
class AdaptedModel:
    """What a run that adapts `Preset.base` knows of that model beforehand; filled in from its folder.

    Attributes:
        size_px: side of its pictures.
        sample_shape: channels and sides of what its network denoises: the pictures, or a VAE's latents.
    """

    size_px: int = 0
    sample_shape: tuple[int, int, int] = (0, 0, 0)

    @property
    def low_res(self) -> None:
        """Only base models are adapted."""
        return None


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; stages differ in these fields only.

    Attributes:
        stage: which examples are drawn and what is frozen.
        steps: optimizer steps.
        batch_size: examples per step over all processes.
        noise_levels: noisy versions of each example per step; its text and context are encoded once.
        level_shift: draws noisier levels more often where above 1, see `training.loader.shifted`.
        optimizer, learning_rate, warmup_steps, weight_decay, betas, max_grad_norm: the optimization.
        decay_steps: the last so many steps take the learning rate linearly to zero (0: constant, as in the paper).
        ema_decay: of the exponential moving average that is sampled from and shipped.
        drop_both, drop_context: condition dropout (A.2.2: 10 % and another 10 %).
        any_markers: give each example's markers other numbers, so that a number says nothing of what its picture is
            for, see `training.loader.draw_numbers`.
        max_loss_weight: cap of the weight that turns an error of the clean picture into one of v.
        subject_weight: how much more an error inside subjects counts, where the source knows them and as far as the
            noise lets them be seen, see `training.objective.subject_weights` (1: as much as elsewhere).
        train_text_encoder: only in pre-training.
        lora_rank: train low-rank adapters of this rank on the attention and context layers, nothing else (0: the
            network itself).
    """

    stage: StageName
    steps: int
    batch_size: int = 16
    noise_levels: int = 4
    level_shift: float = 1.0
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 5e-4
    warmup_steps: int = 500
    decay_steps: int = 0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    max_grad_norm: float = 1.0
    ema_decay: float = 0.9995
    drop_both: float = 0.1
    drop_context: float = 0.1
    any_markers: bool = False
    max_loss_weight: float = 6.0
    subject_weight: float = 1.0
    train_text_encoder: bool = False
    lora_rank: int = 0


@dataclass(frozen=True)
class ExecutionConfig:
    """How a run is computed. Nothing here changes what is learnt, but for rounding.

    Attributes:
        precision: auto is bfloat16 autocast where the device is fast at it, else float32.
        micro_batch: examples that a process puts through the network at a time; their gradients add up to those of
            the whole batch (0: a process's whole share at once).
        checkpoint_activations: compute the insides of residual blocks and attention layers again in the backward
            pass instead of keeping them.
        parallel: over several processes, ddp keeps the whole network in each, fsdp a share of its weights, average
            and optimizer (FSDP2).
        text_cache: where the states of texts that a frozen text encoder has read are kept: "memory", a folder, or
            nowhere ("").
        tracker: what losses and samples are shown in.
    """

    precision: PrecisionName = "auto"
    micro_batch: int = 0
    checkpoint_activations: bool = False
    parallel: ParallelName = "ddp"
    text_cache: str = ""
    tracker: TrackerName = "tensorboard"


@dataclass(frozen=True)
class Preset:
    """A whole run: the model, its stages in order, and the world it is trained on.

    Attributes:
        pack: glyph pack, see `world.load_pack`.
        model: what is built; an `AdaptedModel` is not built but is that of `base`.
        base: name or folder of the model that is adapted, or for super-resolution of the base model, whose text
            encoder and tokenizer are used.
        text_steps: steps that a new text encoder learns the glyph world's words before the first stage, see
            `training.text_pretraining`; 0: none.
        data: where the examples of each stage come from.
        guidance, image_guidance: scales that its samples are drawn with, saved with the model; without the second one
            the first is that of text and references together.
        data_workers: processes that render examples (0: render in the training process).
        checkpoint_minutes: time between checkpoints.
        report_minutes: time between validations, each with a sample grid and an exported pipeline.
    """

    name: str
    model: ModelConfig | AdaptedModel
    stages: tuple[StageConfig, ...]
    pack: str = "auto"
    base: str = ""
    text_steps: int = 0
    data: DataRecipe = field(default_factory=DataRecipe)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    guidance: float = 3.0
    image_guidance: float | None = None
    data_workers: int = 1
    checkpoint_minutes: float = 10.0
    report_minutes: float = 30.0

    @property
    def built(self) -> ModelConfig:
        """The model that is built.

        Raises:
            PresetError: the preset adapts one that is there.
        """
        if isinstance(self.model, AdaptedModel):
            raise PresetError(f"preset {self.name!r} adapts a model and builds none")
        return self.model


def _three_stages(
    steps: tuple[int, int, int],
    pretrain: Mapping[str, Any] = MappingProxyType({}),
    stage2: Mapping[str, Any] = MappingProxyType({}),
    **common: Any,
) -> tuple[StageConfig, ...]:
    """Pre-training, stage 1, stage 2 (§3.2); pre-training has no context and trains the text encoder.

    `pretrain` and `stage2` are fields of these alone.
    """
    first = {**common, "drop_context": 0.0, "any_markers": False, "train_text_encoder": True, **pretrain}
    return (
        StageConfig("pretrain", steps[0], **first),
        StageConfig("stage1", steps[1], **common),
        StageConfig("stage2", steps[2], **{**common, **stage2}),
    )


def _super_resolution(steps: int, **options: Any) -> tuple[StageConfig, ...]:
    """One stage: all tasks at full size."""
    return (StageConfig("super_resolution", steps, **{"noise_levels": 2, **options}),)


_DEBUG_TEXT = TextEncoderConfig(512, 32, 64, 1, 2, max_tokens=96)
_PAPER_TEXT = TextEncoderConfig(32128, 4096, 10240, 24, 64, max_tokens=256)
# Where `text_steps` taught the words, and each step should show many of them.
_MANY_CAPTIONS: dict[str, Any] = {"train_text_encoder": False, "batch_size": 64, "noise_levels": 1}
_PAPER_OPTIMIZATION: dict[str, Any] = {
    "batch_size": 512,
    "noise_levels": 1,
    "optimizer": "adafactor",
    "learning_rate": 1e-4,
    "warmup_steps": 10_000,
    "betas": (0.9, 0.999),
    "ema_decay": 0.9999,
    "weight_decay": 0.0,
}

_ADAPTATION: dict[str, Any] = {
    "batch_size": 256,
    "noise_levels": 1,
    "learning_rate": 5e-5,
    "warmup_steps": 2_000,
    "betas": (0.9, 0.999),
    "ema_decay": 0.9999,
    "any_markers": True,
}

PRESETS: dict[str, Preset] = {
    "debug": Preset(
        "debug",
        ModelConfig(32, 4, (16, 32), (1, 1), 16, text=_DEBUG_TEXT),
        _three_stages((4, 4, 4), batch_size=4, noise_levels=2, warmup_steps=2),
        pack="builtin",
        data_workers=0,
    ),
    "nano": Preset(
        "nano",
        ModelConfig(32, 2, (64, 192), (2, 3), time_dim=768),
        _three_stages(
            (12_000, 400, 47_600),
            _MANY_CAPTIONS,
            stage2={"learning_rate": 4e-4},
            batch_size=48,
            noise_levels=1,
            level_shift=2.0,
            optimizer="muon",
            learning_rate=1e-3,
            warmup_steps=200,
            any_markers=True,
            subject_weight=4.0,
        ),
        pack="font",
        text_steps=600,
    ),
    "micro": Preset(
        "micro",
        ModelConfig(channels=(96,), text=TextEncoderConfig(2048, 128, 256, 2, 4)),
        _three_stages(
            (2_400, 200, 2_200),
            _MANY_CAPTIONS,
            batch_size=32,
            noise_levels=1,
            optimizer="muon",
            learning_rate=1e-3,
            warmup_steps=100,
            ema_decay=0.998,
            any_markers=True,
        ),
        pack="font",
        text_steps=600,
    ),
    "small": Preset(
        "small",
        ModelConfig(64, 2, (128, 256, 512), (2, 2, 3), 64),
        _three_stages(
            (50_000, 50_000, 150_000), {"train_text_encoder": False}, batch_size=128, noise_levels=2, any_markers=True
        ),
        text_steps=2_000,
        data_workers=8,
    ),
    "paper": Preset(
        "paper",
        ModelConfig(128, 2, (512, 1024, 2048), (5, 5, 6), 64, "v_prediction", text=_PAPER_TEXT),
        _three_stages((500_000, 500_000, 400_000), **_PAPER_OPTIMIZATION),
        data_workers=16,
    ),
    "debug-sr": Preset(
        "debug-sr",
        ModelConfig(64, 8, (16, 32), (1, 1), 16, low_res=LowResolutionConfig(32), text=_DEBUG_TEXT),
        _super_resolution(4, batch_size=4, warmup_steps=2),
        pack="builtin",
        data_workers=0,
    ),
    "nano-sr": Preset(
        "nano-sr",
        ModelConfig(128, 4, (64, 192), (1, 1), 32, time_dim=768, low_res=LowResolutionConfig(32, noise_level=0.0)),
        _super_resolution(
            12_000,
            batch_size=8,
            optimizer="muon",
            learning_rate=1e-3,
            warmup_steps=100,
            decay_steps=2_000,
            any_markers=True,
        ),
        pack="font",
        base="instruct-imagen-nano",
    ),
    "small-sr": Preset(
        "small-sr",
        ModelConfig(256, 8, (384,), (3,), 64, low_res=LowResolutionConfig(64)),
        _super_resolution(100_000, batch_size=128, any_markers=True),
        data_workers=12,
    ),
    "paper-sr": Preset(
        "paper-sr",
        ModelConfig(
            1024,
            2,
            (128, 256, 512, 1024),
            (2, 4, 8, 4),
            64,
            "v_prediction",
            context_places="none",
            low_res=LowResolutionConfig(128, max_noise_level=1.0, residual=False),
            text=_PAPER_TEXT,
        ),
        _super_resolution(500_000, **_PAPER_OPTIMIZATION),
        data_workers=16,
    ),
    # A pretrained backbone, by both stages of §3.2; a model that draws already needs less than one that does not.
    "adapt": Preset(
        "adapt",
        AdaptedModel(),
        (StageConfig("stage1", 50_000, **_ADAPTATION), StageConfig("stage2", 100_000, **_ADAPTATION)),
        data_workers=12,
    ),
    # A model that follows instructions, on a few examples of one's own.
    "finetune": Preset(
        "finetune",
        AdaptedModel(),
        (
            StageConfig(
                "stage2",
                500,
                batch_size=8,
                learning_rate=1e-3,
                warmup_steps=20,
                decay_steps=100,
                ema_decay=0.98,
                any_markers=True,
                lora_rank=16,
            ),
        ),
        pack="builtin",
        report_minutes=10.0,
    ),
}


_FROM_ONE = (1, None)
_FROM_ZERO = (0, None)
_SHARE = (0, 1)
_RANGES: Ranges = {
    **dict.fromkeys(("size_px", "patch_size", "channels", "layers_per_block", "head_dim", "batch_size"), _FROM_ONE),
    **dict.fromkeys(("noise_levels", "vocab_size", "dim", "feed_forward_dim", "num_layers", "num_heads"), _FROM_ONE),
    **dict.fromkeys(("max_tokens", "subject_weight"), _FROM_ONE),
    **dict.fromkeys(("steps", "warmup_steps", "decay_steps", "lora_rank", "micro_batch", "text_steps"), _FROM_ZERO),
    **dict.fromkeys(("time_dim", "data_workers", "learning_rate", "weight_decay", "max_grad_norm"), _FROM_ZERO),
    **dict.fromkeys(
        ("max_loss_weight", "max_blur_px", "level_shift", "checkpoint_minutes", "report_minutes"), _FROM_ZERO
    ),
    **dict.fromkeys(("drop_both", "drop_context", "ema_decay", "betas", "max_noise_level", "noise_level"), _SHARE),
}


def get_preset(name: str, overrides: Sequence[str] = ()) -> Preset:
    """A preset by name, with `key=value` overrides such as `model.size_px=32` or `stages.0.steps=100`.

    Raises:
        PresetError: unknown name or key, or a value that does not fit the field's type.
    """
    if name not in PRESETS:
        raise PresetError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    try:
        for override in overrides:
            preset = overridden(preset, override, _RANGES)
    except OverrideError as error:
        raise PresetError(str(error)) from error
    _check_sides(preset.model)
    return preset


def _check_sides(model: ModelConfig | AdaptedModel) -> None:
    """Refuses what no network can be built of; overrides of several fields are checked together."""
    if isinstance(model, AdaptedModel):
        return
    levels = len(model.channels)
    if not levels or levels != len(model.layers_per_block):
        raise PresetError("model.channels and model.layers_per_block must have one number for each level")
    lowest = model.patch_size * 2 ** (levels - 1)
    if model.size_px % lowest:
        raise PresetError(f"model.size_px={model.size_px} must be a multiple of {lowest}, a patch at the lowest level")
    if model.channels[-1] % model.head_dim:
        raise PresetError(f"model.channels must end with a multiple of model.head_dim={model.head_dim}")


def preset_to_dict(preset: Preset) -> dict[str, Any]:
    """JSON-able form, written beside every result."""
    return dataclasses.asdict(preset)


def preset_from_dict(values: Mapping[str, Any]) -> Preset:
    """Inverse of `preset_to_dict`.

    Raises:
        PresetError: a field is missing or unknown.
    """
    try:
        stages = tuple(StageConfig(**{**s, "betas": tuple(s["betas"])}) for s in values["stages"])
        rest = {
            "data": recipe_from_dict(values.get("data", {})),
            "execution": ExecutionConfig(**values.get("execution", {})),
        }
        return Preset(**{**values, "model": _model_from_dict(values["model"]), "stages": stages, **rest})
    except (KeyError, TypeError, DataError) as error:
        raise PresetError(f"not a preset of this version: {error}") from error


def _model_from_dict(values: Mapping[str, Any]) -> ModelConfig | AdaptedModel:
    if "sample_shape" in values:
        return AdaptedModel(**{**values, "sample_shape": tuple(values["sample_shape"])})
    model = dict(values)
    model["text"] = TextEncoderConfig(**model["text"])
    if model.get("low_res") is not None:
        model["low_res"] = LowResolutionConfig(**model["low_res"])
    model["channels"], model["layers_per_block"] = tuple(model["channels"]), tuple(model["layers_per_block"])
    return ModelConfig(**model)


def write_preset(preset: Preset, path: Path) -> None:
    """Writes the resolved preset as JSON."""
    write_json(path, preset_to_dict(preset))
