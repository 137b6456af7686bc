"""Every model and run by name. A preset is a frozen dataclass; `--set key=value` overrides single fields, typed.

`paper` follows Table 5 and A.2.2; `nano` is what two CPU cores can train and what the project ships; `small` waits
for a GPU; `debug` is for tests.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .data.recipe import DataRecipe, recipe_from_dict
from .data.report import DataError
from .errors import UserError

StageName = Literal["pretrain", "stage1", "stage2", "finetune"]
PredictionType = Literal["sample", "v_prediction", "epsilon"]
OptimizerName = Literal["muon", "adamw", "adafactor", "adamw8bit"]
PrecisionName = Literal["auto", "bfloat16", "float32"]
ParallelName = Literal["ddp", "fsdp"]
TrackerName = Literal["tensorboard", "wandb"]


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
class ModelConfig:
    """The base model of the cascade.

    Attributes:
        size_px: side of the square picture.
        patch_size: pixels folded into channels before the backbone, see `InstructUNet`.
        channels: per down block, highest resolution first; attention sits in the last (Table 5).
        layers_per_block: residual blocks per down block (diffusers' up blocks hold one more).
        head_dim: width of an attention head.
        prediction_type: what the network predicts; the loss is weighted as for v whatever it is.
    """

    size_px: int = 32
    patch_size: int = 4
    channels: tuple[int, ...] = (192,)
    layers_per_block: tuple[int, ...] = (2,)
    head_dim: int = 32
    prediction_type: PredictionType = "sample"
    context_positions: bool = True
    context_text: bool = True
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; stages differ in these fields only.

    Attributes:
        stage: which examples are drawn and what is frozen.
        steps: optimizer steps.
        batch_size: examples per step over all processes.
        noise_levels: noisy versions of each example per step; its text and context are encoded once.
        optimizer, learning_rate, warmup_steps, weight_decay, betas, max_grad_norm: the optimization.
        decay_steps: the last so many steps take the learning rate linearly to zero (0: constant, as in the paper).
        ema_decay: of the exponential moving average that is sampled from and shipped.
        drop_both, drop_context: condition dropout (A.2.2: 10 % and another 10 %).
        max_loss_weight: cap of the weight that turns an error of the clean picture into one of v.
        train_text_encoder: only in pre-training.
        lora_rank: train low-rank adapters of this rank on the attention and context layers, nothing else (0: the
            network itself).
    """

    stage: StageName
    steps: int
    batch_size: int = 16
    noise_levels: int = 4
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
    max_loss_weight: float = 6.0
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
        base: for fine-tuning, name or folder of the model that is adapted.
        data: where the examples of each stage come from.
        data_workers: processes that render examples (0: render in the training process).
        checkpoint_minutes: time between checkpoints.
        report_minutes: time between validations, each with a sample grid and an exported pipeline.
    """

    name: str
    model: ModelConfig
    stages: tuple[StageConfig, ...]
    pack: str = "auto"
    base: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    data_workers: int = 1
    checkpoint_minutes: float = 10.0
    report_minutes: float = 30.0


def _three_stages(steps: tuple[int, int, int], **common: Any) -> tuple[StageConfig, ...]:
    """Pre-training, stage 1, stage 2 (§3.2); pre-training has no context to drop and trains the text encoder."""
    return (
        StageConfig("pretrain", steps[0], drop_context=0.0, train_text_encoder=True, **common),
        StageConfig("stage1", steps[1], **common),
        StageConfig("stage2", steps[2], **common),
    )


_DEBUG_TEXT = TextEncoderConfig(512, 32, 64, 1, 2, max_tokens=96)
_PAPER_TEXT = TextEncoderConfig(32128, 4096, 10240, 24, 64, max_tokens=256)
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
        ModelConfig(),
        _three_stages((4_000, 400, 55_600), optimizer="muon", learning_rate=1e-3, warmup_steps=200),
        pack="font",
    ),
    "small": Preset(
        "small",
        ModelConfig(64, 2, (128, 256, 512), (2, 2, 3), 64),
        _three_stages((50_000, 50_000, 150_000), batch_size=128, noise_levels=2),
        data_workers=8,
    ),
    "paper": Preset(
        "paper",
        ModelConfig(128, 2, (512, 1024, 2048), (5, 5, 6), 64, "v_prediction", text=_PAPER_TEXT),
        _three_stages((500_000, 500_000, 400_000), **_PAPER_OPTIMIZATION),
        data_workers=16,
    ),
}


def get_preset(name: str, overrides: Sequence[str] = ()) -> Preset:
    """A preset by name, with `key=value` overrides such as `model.size_px=32` or `stages.0.steps=100`.

    Raises:
        PresetError: unknown name or key, or a value that does not fit the field's type.
    """
    if name not in PRESETS:
        raise PresetError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise PresetError(f"override {override!r} must look like key=value")
        preset = _replace(preset, key.split("."), value, override)
    return preset


def _replace(config: Any, path: list[str], text: str, override: str) -> Any:
    """`config` with the field at `path` replaced; `*` as an index stands for every stage."""
    if isinstance(config, tuple):
        if path[0] != "*" and not (path[0].isdigit() and int(path[0]) < len(config)):
            raise PresetError(f"{override!r}: {path[0]!r} must be 0 .. {len(config) - 1}, or * for all")
        chosen = range(len(config)) if path[0] == "*" else [int(path[0])]
        return tuple(
            _replace(item, path[1:], text, override) if index in chosen else item for index, item in enumerate(config)
        )
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise PresetError(f"{override!r}: there is no field {path[0]!r}")
    if path[0] not in {f.name for f in dataclasses.fields(config)}:
        raise PresetError(f"{override!r}: there is no field {path[0]!r}")
    value = getattr(config, path[0])
    if len(path) > 1:
        return dataclasses.replace(config, **{path[0]: _replace(value, path[1:], text, override)})
    return dataclasses.replace(config, **{path[0]: _parse(text, get_type_hints(type(config))[path[0]], override)})


def _parse(text: str, kind: Any, override: str) -> Any:
    """Reads `text` as a value of the annotated type `kind`."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise PresetError(f"{override!r}: choose one of {', '.join(map(str, get_args(kind)))}")
        return text
    if kind is str:
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if get_origin(kind) is tuple and isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, get_origin(kind) or kind) or (kind is int and isinstance(value, bool)):
        raise PresetError(f"{override!r}: {text!r} is not a value of type {getattr(kind, '__name__', kind)}")
    return value


def preset_to_dict(preset: Preset) -> dict[str, Any]:
    """JSON-able form, written beside every result."""
    return dataclasses.asdict(preset)


def preset_from_dict(values: Mapping[str, Any]) -> Preset:
    """Inverse of `preset_to_dict`.

    Raises:
        PresetError: a field is missing or unknown.
    """
    try:
        model = dict(values["model"])
        model["text"] = TextEncoderConfig(**model["text"])
        model["channels"], model["layers_per_block"] = tuple(model["channels"]), tuple(model["layers_per_block"])
        stages = tuple(StageConfig(**{**s, "betas": tuple(s["betas"])}) for s in values["stages"])
        rest = {
            "data": recipe_from_dict(values.get("data", {})),
            "execution": ExecutionConfig(**values.get("execution", {})),
        }
        return Preset(**{**values, "model": ModelConfig(**model), "stages": stages, **rest})
    except (KeyError, TypeError, DataError) as error:
        raise PresetError(f"not a preset of this version: {error}") from error


def write_preset(preset: Preset, path: Path) -> None:
    """Writes the resolved preset as JSON."""
    path.write_text(json.dumps(preset_to_dict(preset), indent=2) + "\n")
