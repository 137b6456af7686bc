"""Training of super-resolution: what it sees, what it takes from its base, and the cascade that it exports."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training_runs import newest_tensors

from instruct_imagen.cascade import CascadeError
from instruct_imagen.conditioning import image_to_tensor
from instruct_imagen.data.mixture import stage_source
from instruct_imagen.data.recipe import SUPER_RESOLUTION, DataRecipe, MixtureEntry, recipe_from_dict
from instruct_imagen.data.templates import TRAINING_TASKS
from instruct_imagen.instruction import Instruction
from instruct_imagen.model_folders import ModelError
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import LowResolutionConfig, Preset, PresetError, TextEncoderConfig, get_preset
from instruct_imagen.text import load_tokenizer, train_tokenizer
from instruct_imagen.training.augmentation import draw_small_picture
from instruct_imagen.training.beginning import BeginningError
from instruct_imagen.training.checkpoint import read_position
from instruct_imagen.training.loader import Collate, StageDataset
from instruct_imagen.training.trainer import Trainer
from instruct_imagen.world import GlyphPack

GOLDEN_LOSSES = (0.4236, 0.4880, 0.2388, 0.3340)


def preset(base: Path, *overrides: str) -> Preset:
    chosen = get_preset("debug-sr", [f"base={base}", *overrides])
    few = replace(chosen.data, super_resolution=(MixtureEntry("subject", 0.5), MixtureEntry("edit", 0.5)))
    return replace(chosen, data=few, stages=(replace(chosen.stages[0], optimizer="muon"),))


def picture(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def trained(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A finished run of four steps, and the loss of each."""
    out = tmp_path_factory.mktemp("super-resolution") / "run"
    losses: list[float] = []
    original = Trainer._step

    def record(self, batch):
        values = original(self, batch)
        losses.append(values.mean().item())
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", record)
        assert Trainer(preset(model_folder), out, seed=3).run().total_steps == 4
    return out, losses


def test_golden_losses(trained):
    """Guards refactorings; the first one is that of the enlarged pictures, which a fresh network predicts."""
    assert trained[1] == pytest.approx(GOLDEN_LOSSES, rel=0.02)


def test_the_export_is_the_cascade_of_the_base_and_the_new_network(trained, model_folder: Path, pipeline):
    folder = trained[0] / "pipeline"
    cascade = InstructImagenPipeline.from_pretrained(folder)
    cascade.set_progress_bar_config(disable=True)
    assert cascade(Instruction("a red star"), 2).images[0].size == (64, 64)
    for name, value in cascade.unet.state_dict().items():
        assert torch.equal(value, pipeline.unet.state_dict()[name]), name
    average = newest_tensors(trained[0])
    for name, value in cascade.super_resolution.state_dict().items():
        assert torch.equal(value, average[f"average.unet.{name}"].bfloat16().float()), name
    position, trained_preset = read_position(folder / "super_resolution", "training.json")
    assert (position.total_steps, trained_preset.name) == (4, "debug-sr")
    lines = (folder / "super_resolution" / "validation.jsonl").read_text().splitlines()
    assert set(json.loads(lines[-1])) >= {"validation/edit/0.95", "validation/subject/0.25"}
    assert sorted((trained[0] / "samples").glob("*.png"))
    assert not list(trained[0].glob(".*"))
    base = InstructImagenPipeline.from_pretrained(model_folder)  # what was linked is as it was
    assert base.super_resolution is None


def test_the_text_encoder_stays_the_bases(trained, model_folder: Path):
    base = load_file(model_folder / "text_encoder" / "model.safetensors")
    weights = newest_tensors(trained[0])
    for name, value in base.items():
        assert torch.equal(weights[f"weights.text_encoder.{name}"], value), name


def test_resuming_continues_exactly(trained, model_folder: Path, tmp_path: Path):
    for index, steps in enumerate((1, 2, 1)):
        Trainer(preset(model_folder), tmp_path, seed=3, resume=index > 0).run(max_steps=steps)
    first, second = newest_tensors(trained[0]), newest_tensors(tmp_path)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_run_keeps_its_base_when_that_is_replaced(model_folder: Path, tmp_path: Path):
    base, out = tmp_path / "base", tmp_path / "run"
    shutil.copytree(model_folder, base)
    Trainer(preset(base), out).run(max_steps=1)
    shutil.rmtree(base)
    assert Trainer(preset(base), out, resume=True).run(max_steps=1).total_steps == 2
    assert InstructImagenPipeline.from_pretrained(out / "pipeline").unet is not None


def test_what_a_run_left_that_was_given_up_is_replaced(model_folder: Path, tmp_path: Path):
    out = tmp_path / "run"
    shutil.copytree(model_folder, out / "base")
    (out / "base" / "unet" / "config.json").write_text("{}")
    Trainer(get_preset("debug-sr", [f"base={model_folder}"]), out)
    assert (out / "base" / "unet" / "config.json").read_text() != "{}"
    train_tokenizer(GlyphPack.builtin(), TextEncoderConfig(vocab_size=400), tmp_path / "base" / "tokenizer")
    assert len(Trainer(get_preset("debug"), tmp_path / "base").parts.tokenizer) == 512


def test_a_run_goes_on_from_an_exported_cascade(trained, model_folder: Path, tmp_path: Path):
    shorter = replace(preset(model_folder), stages=(replace(preset(model_folder).stages[0], steps=9),))
    trainer = Trainer(shorter, tmp_path / "further", init=trained[0] / "pipeline")
    exported = load_file(next((trained[0] / "pipeline" / "super_resolution").glob("*.safetensors")))
    for name, value in trainer.parts.unet.state_dict().items():
        assert torch.equal(value, exported[name].float()), name
    assert (tmp_path / "further" / "validation.jsonl").is_file()
    with pytest.raises(BeginningError, match="not a model of preset"):
        Trainer(preset(model_folder, "model.head_dim=8"), tmp_path / "other", init=trained[0] / "pipeline")
    with pytest.raises(BeginningError, match="does not say where its training stood"):
        Trainer(preset(model_folder), tmp_path / "other", init=model_folder)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("base=", PresetError, "needs a base model"),
        ("base=nowhere", ModelError, "no model"),
        ("model.low_res.size_px=16", CascadeError, "draws 32 pixels"),
        ("model.text.dim=64", PresetError, "model.text.dim=32"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_before_anything_is_written(
    model_folder: Path, tmp_path: Path, override: str, error: type, words: str
):
    with pytest.raises(error, match=words):
        Trainer(preset(model_folder, override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_text_encoder_than_that_of_the_model_to_go_on_from_is_refused(trained, model_folder: Path, tmp_path):
    from safetensors.torch import save_file

    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    file = other / "text_encoder" / "model.safetensors"
    tensors = {name: value + 1 for name, value in load_file(file).items()}
    file.unlink()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CascadeError, match="another text encoder"):
        Trainer(preset(other), tmp_path / "run", init=trained[0] / "pipeline")


def test_small_pictures_are_reduced_as_the_base_sees_them():
    target, config = picture(1, 100), LowResolutionConfig(32, max_noise_level=0.4)
    small = draw_small_picture(target, config, 4, np.random.default_rng(0))
    assert torch.equal(small.images, image_to_tensor(target, 32))
    assert small.noise.shape == (4, 3, 32, 32)
    levels = np.concatenate(
        [draw_small_picture(target, config, 4, np.random.default_rng(i)).levels.numpy() for i in range(200)]
    )
    assert levels.min() >= 0
    assert 0.39 < levels.max() < 0.4
    assert levels.mean() == pytest.approx(0.2, abs=0.01)


def test_small_pictures_are_blurred_only_where_asked():
    target = picture(2)
    config = LowResolutionConfig(32, max_blur_px=0.8)
    clean = image_to_tensor(target, 32).float()
    drawn = [draw_small_picture(target, config, 1, np.random.default_rng(i)).images.float() for i in range(200)]
    blurred = [image for image in drawn if not torch.equal(image, clean)]
    assert 35 < len(blurred) < 130  # half, but for deviations too small to change a pixel
    assert all(image.std() < clean.std() for image in blurred)


def test_examples_depend_on_their_index_alone(builtin_pack, tokenizer_folder: Path):
    chosen = get_preset("debug-sr")
    collate = Collate(load_tokenizer(tokenizer_folder), chosen.model)
    first, second = (
        StageDataset(
            stage_source(chosen.data, "super_resolution", builtin_pack, 64, 5), chosen.model, chosen.stages[0], seed=5
        )
        for _ in range(2)
    )
    _ = [first[index] for index in range(4)]
    a, b = collate([first[7], first[2]]), collate([second[7], second[2]])
    assert a.small is not None and b.small is not None
    for name in ("images", "noise", "levels"):
        assert torch.equal(getattr(a.small, name), getattr(b.small, name))
    low_res = a.further_inputs["low_res"]
    assert low_res.images_BCHW.shape == (4, 3, 32, 32)
    assert low_res.levels_B.tolist() == a.small.levels.flatten().tolist()


def test_all_tasks_are_drawn_at_full_size(builtin_pack):
    assert {entry.name for entry in SUPER_RESOLUTION} == {*TRAINING_TASKS, "edit"}
    source = stage_source(DataRecipe(), "super_resolution", builtin_pack, 128, seed=0)
    drawn = [source[index] for index in range(60)]
    assert {example.target.size for example in drawn} == {(128, 128)}
    edits = [example for example in drawn if example.task == "edit"]
    assert edits and all(
        image.size == (128, 128) for e in edits for image in (r.image for r in e.instruction.references)
    )
    own = recipe_from_dict({"super_resolution": [{"name": "text", "ratio": 1}]})
    assert stage_source(own, "super_resolution", builtin_pack, 64, seed=0)[0].task == "text"
