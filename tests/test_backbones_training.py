"""Imported backbones are trained by the one loop: noise with a learned variance, v, pixels and latents."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbones import save_stable_diffusion
from training_runs import assert_same_tensors, newest_tensors

from instruct_imagen.backbones.importer import import_pipeline
from instruct_imagen.cascade import CascadeError
from instruct_imagen.cli import main
from instruct_imagen.conditioning import ConditioningEncoder, Prompt, make_prompt_batch
from instruct_imagen.data.mixture import stage_source
from instruct_imagen.data.recipe import DataRecipe, MixtureEntry
from instruct_imagen.instruction import Instruction
from instruct_imagen.model import ModelParts
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import Preset, get_preset, preset_from_dict, preset_to_dict
from instruct_imagen.schedulers import ddpm_scheduler
from instruct_imagen.super_resolution import SuperResolutionOptions
from instruct_imagen.training.beginning import BeginningError, with_base
from instruct_imagen.training.loader import Collate, StageDataset
from instruct_imagen.training.objective import TrainingModule, denoise_batch
from instruct_imagen.training.text_cache import CachedTextEncoder, TextCache
from instruct_imagen.training.trainer import Trainer

SHORT = (
    "stages.*.steps=3",
    "stages.*.batch_size=4",
    "stages.*.warmup_steps=1",
    "stages.*.learning_rate=1e-3",
    "stages.*.noise_levels=2",
    "data_workers=0",
    "pack=builtin",
)
KINDS = ("if", "sd", "v")


@pytest.fixture(scope="module")
def models(if_folder: Path, sd_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imports: `if` (a cascade), `sd`, and `v`, a latent model that predicts v."""
    folder = tmp_path_factory.mktemp("models")
    import_pipeline(if_folder, if_folder.with_name("super-resolution")).save_pretrained(folder / "if")
    import_pipeline(sd_folder).save_pretrained(folder / "sd")
    save_stable_diffusion(folder / "source", "v_prediction", use_linear_projection=True)
    import_pipeline(folder / "source").save_pretrained(folder / "v")
    return folder


def short_preset() -> Preset:
    """The preset with few steps and one task, which leaves little to validate."""
    return replace(get_preset("adapt", SHORT), data=DataRecipe(stage2=(MixtureEntry("subject", 1.0),)))


def context_weights(model: InstructImagenPipeline) -> float:
    return sum(p.to_out_context.weight.abs().sum().item() for _, p in model.unet.context_layers if p.reads_context)


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_of_the_loop_and_what_they_leave(kind: str, models: Path, tmp_path: Path):
    out, base = tmp_path / "run", models / kind
    done = Trainer(short_preset(), out, init=base).run()
    assert (done.stage_index, done.total_steps) == (2, 6)
    stored = preset_from_dict(json.loads((out / "preset.json").read_text()))
    assert (stored.base, stored.name) == (str(base), "adapt")
    errors = json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    assert all(np.isfinite(value) for name, value in errors.items() if name.startswith("validation/"))
    fresh, trained = (
        InstructImagenPipeline.from_pretrained(folder, dtype=torch.float32) for folder in (base, out / "pipeline")
    )
    assert context_weights(fresh) == 0 < context_weights(trained)
    for name in ("text_encoder", "vae", "super_resolution"):
        before, after = getattr(fresh, name), getattr(trained, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert all(torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items())
    assert not torch.equal(fresh.unet.backbone.conv_in.weight, trained.unet.backbone.conv_in.weight)
    assert trained.config.default_steps == 24
    assert trained.config.default_guidance == fresh.config.default_guidance
    assert trained.scheduler.config.prediction_type == fresh.scheduler.config.prediction_type
    trained.set_progress_bar_config(disable=True)
    options = SuperResolutionOptions(2) if kind == "if" else None
    images = trained(Instruction("a red star"), 3, super_resolution_options=options).images
    assert images[0].size == (32, 32)


@pytest.mark.parametrize("kind", ["if", "sd"])
def test_an_adapter_of_an_import(kind: str, models: Path, tmp_path: Path):
    """Their layers have other names and shapes than the project's own networks."""
    short = [override for override in SHORT if "steps" not in override]
    preset = get_preset("finetune", [*short, "stages.*.steps=2", "stages.*.decay_steps=0", "stages.*.warmup_steps=1"])
    preset = replace(preset, data=DataRecipe(stage2=(MixtureEntry("subject", 1.0),)))
    Trainer(preset, tmp_path / "run", init=models / kind).run()
    names = {name.rsplit(".lora_", 1)[0] for name in newest_tensors(tmp_path / "run") if name.startswith("weights.")}
    assert any(name.endswith("to_q_context") for name in names)
    assert any(name.endswith("to_q") for name in names)
    base, tuned = (InstructImagenPipeline.from_pretrained(models / kind) for _ in range(2))
    tuned.load_lora(tmp_path / "run" / "lora")
    pictures = []
    for model in (base, tuned):
        model.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        drawn = model(Instruction("a red star"), 3, generator=generator, stages="base", output_type="pt").images
        pictures.append(drawn)
    assert not torch.equal(*pictures)


def test_frozen_parts_are_in_no_checkpoint_and_written_but_once(models: Path, tmp_path: Path):
    out = tmp_path / "run"
    Trainer(short_preset(), out, init=models / "sd").run(max_steps=2)
    assert {name.split(".")[1] for name in newest_tensors(out)} == {"unet"}
    for part in ("text_encoder", "vae"):
        mine, base = (next((folder / part).glob("*.safetensors")) for folder in (out / "pipeline", models / "sd"))
        assert mine.samefile(base)


def test_resuming_is_exact_and_finds_its_model(models: Path, tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Trainer(short_preset(), whole, seed=3, init=models / "if").run()
    Trainer(short_preset(), parts, seed=3, init=models / "if").run(max_steps=4)
    Trainer(short_preset(), parts, seed=3, resume=True).run()
    assert_same_tensors(newest_tensors(whole), newest_tensors(parts))
    with pytest.raises(BeginningError, match="not .*sd; name that one"):
        Trainer(short_preset(), parts, resume=True, init=models / "sd")


@pytest.mark.parametrize("kind", KINDS)
def test_adapting_lowers_the_loss(kind: str, models: Path, builtin_pack):
    """Twenty steps on one batch: the noise is fitted, and the variance's share does not break it."""
    preset = with_base(short_preset(), models / kind, [])
    model = InstructImagenPipeline.from_pretrained(models / kind)
    torch.manual_seed(0)
    parts = ModelParts(
        model.unet,
        model.text_encoder,
        model.tokenizer,
        ddpm_scheduler(model.scheduler.config, model.vae is None),
        model.vae,
        folder=models / kind,
    )
    stage = preset.stages[1]
    source = stage_source(DataRecipe(), "stage2", builtin_pack, preset.model.size_px, 0)
    dataset = StageDataset(source, preset.model, stage, 0)
    batch = Collate(model.tokenizer, preset.model, model.unet.text_format)([dataset[i] for i in range(4)])
    assert batch.noise.shape[2:] == preset.model.sample_shape
    assert batch.prompts.text_ids.shape[1] == 77
    module = TrainingModule.of(parts, stage)
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"unet"}
    made = denoise_batch(batch, ConditioningEncoder(model.text_encoder, model.unet, model.vae), parts.scheduler)
    assert (made.variance is not None) == (kind == "if")
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = module(batch).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    gradients = [p.grad for p in module.parameters()]
    assert sum(g is not None for g in gradients) > 0.9 * len(gradients)


@pytest.mark.parametrize("kind", ["if", "sd"])
def test_cached_texts_are_those_that_sampling_reads(kind: str, models: Path, tmp_path: Path):
    """Padding included: these networks were trained to read it."""
    model = InstructImagenPipeline.from_pretrained(models / kind)
    prompts = [Prompt("a red fox on a beach"), Prompt(""), Prompt("draw the [ref#1] dog")]
    batch = make_prompt_batch(prompts, model.tokenizer, model.size_px, model.unet.text_format)
    expected = ConditioningEncoder(model.text_encoder, model.unet).encode(batch).text_BLE
    assert expected[1, -1].abs().max() > 0
    cached = CachedTextEncoder(model.text_encoder, TextCache(str(tmp_path)), reads_padding=True)
    for _ in range(2):  # made, then found
        found = ConditioningEncoder(cached, model.unet).encode(batch).text_BLE
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_cannot_be_adapted_is_refused(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(BeginningError, match="adapts a model; name it with --init"):
        Trainer(short_preset(), tmp_path / "run")
    with pytest.raises(BeginningError, match="an imported model is trained with --preset adapt"):
        Trainer(get_preset("debug"), tmp_path / "run", init=models / "if")
    damaged = tmp_path / "damaged"
    shutil.copytree(models / "if", damaged)
    (damaged / "unet" / "config.json").write_text("{}")
    with pytest.raises(CascadeError, match="damaged"):
        Trainer(short_preset(), tmp_path / "run", init=damaged)
    assert main(["train", "--preset", "adapt", "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert "name it with --init" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_trains_an_import(models: Path, tmp_path: Path):
    out = tmp_path / "run"
    sets = [part for value in SHORT for part in ("--set", value)]
    (tmp_path / "data.json").write_text('{"stage2": [{"name": "subject", "ratio": 1}]}')
    sets += ["--data", str(tmp_path / "data.json"), "--out", str(out), "--quiet"]
    command = ["train", "--preset", "adapt", "--init", str(models / "if")]
    assert main([*command, *sets, "--steps", "2"]) == 0
    assert main([*command[:3], *sets, "--steps", "1", "--resume", "latest"]) == 0


@pytest.mark.slow
def test_the_command_evaluates_an_import(models: Path, tmp_path: Path):
    scores = tmp_path / "scores"
    evaluating = ["evaluate", "--model", str(models / "if"), "--stages", "base", "--count", "1", "--steps", "1"]
    assert main([*evaluating, "--out", str(scores), "--quiet"]) == 0
    assert json.loads((scores / "scores.json").read_text())["quick"]


def test_the_preset_survives_json_with_a_model_named(models: Path):
    preset = with_base(short_preset(), models / "sd", [])
    assert preset.model.sample_shape == (4, 16, 16)
    assert preset.model.size_px == 32
    assert preset_from_dict(json.loads(json.dumps(preset_to_dict(preset)))) == preset
