"""Presets: overrides, errors, and that no field is dead."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

import instruct_imagen
from instruct_imagen.presets import (
    PRESETS,
    AdaptedModel,
    ExecutionConfig,
    LowResolutionConfig,
    ModelConfig,
    Preset,
    PresetError,
    StageConfig,
    TextEncoderConfig,
    get_preset,
    preset_from_dict,
    preset_to_dict,
)


def test_overrides_are_typed():
    preset = get_preset(
        "debug",
        [
            "model.size_px=16",
            "stages.0.steps=7",
            "stages.*.learning_rate=1",
            "model.prediction_type=epsilon",
            "model.channels=[8,16]",
            "model.text.dim=64",
            "pack=font",
        ],
    )
    assert (preset.model.size_px, preset.stages[0].steps, preset.stages[1].steps) == (
        16,
        7,
        PRESETS["debug"].stages[1].steps,
    )
    assert [stage.learning_rate for stage in preset.stages] == [1.0] * 3
    assert (preset.model.prediction_type, preset.model.channels) == ("epsilon", (8, 16))
    assert (preset.model.text.dim, preset.pack) == (64, "font")


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("huge", ""),
        ("debug", "model.size_px"),
        ("debug", "model.size=3"),
        ("debug", "model.size_px=big"),
        ("debug", "model.size_px=true"),
        ("debug", "model.prediction_type=noise"),
        ("debug", "stages.9.steps=3"),
        ("debug", "stages.x.steps=3"),
        ("debug", "name.x=3"),
        ("debug", "model.channels=3"),
        ("debug", "model.low_res.size_px=16"),
        ("debug-sr", "model.context_places=some"),
        ("debug", "stages.*.batch_size=0"),
        ("debug", "stages.0.steps=-1"),
        ("debug", "stages.0.drop_both=1.5"),
        ("debug", "stages.0.learning_rate=NaN"),
        ("debug", "stages.0.betas=[0.9]"),
        ("debug", "model.patch_size=0"),
        ("debug", "model.size_px=33"),
        ("debug", 'model.channels=["a", 32]'),
        ("debug", "model.channels=[16, 33]"),
        ("debug", "model.layers_per_block=[1]"),
        ("debug", "execution.micro_batch=-1"),
    ],
)
def test_bad_names_and_overrides_are_refused(name: str, override: str):
    with pytest.raises(PresetError, match=r"\w"):
        get_preset(name, [override] if override else [])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str):
    assert preset_from_dict(json.loads(json.dumps(preset_to_dict(PRESETS[name])))) == PRESETS[name]


def test_a_damaged_description_is_refused():
    with pytest.raises(PresetError, match="not a preset"):
        preset_from_dict({"name": "x"})


@pytest.mark.parametrize(
    "config", [Preset, ModelConfig, AdaptedModel, LowResolutionConfig, StageConfig, TextEncoderConfig, ExecutionConfig]
)
def test_every_field_is_read_somewhere(config: type):
    root = Path(instruct_imagen.__file__).parent
    sources = "\n".join(file.read_text() for file in root.rglob("*.py") if file.name != "presets.py")
    unread = [f.name for f in dataclasses.fields(config) if not re.search(rf"\.{f.name}\b", sources)]
    assert not [name for name in unread if name != "name"]
