"""Folders of models: two joined into a cascade, packaged, and described by a card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from instruct_imagen.cascade import CascadeError, check_same_text, copy_base, join, read_index
from instruct_imagen.instruction import Instruction
from instruct_imagen.packaging import main, model_card, package
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import get_preset, preset_to_dict
from instruct_imagen.text import load_tokenizer

SCORE = {"figure": 0.5, "ceiling": 0.9, "ceiling_at_size": 0.8, "floor": 0.1, "count": 4, "interval": [0.25, 0.75]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def training(name: str, **position: int) -> str:
    where = {"stage_index": 0, "step": 2, "seed": 0, "optimizer_from": 0, "total_steps": 2, "seconds": 7200.0}
    return json.dumps({"position": {**where, **position}, "preset": preset_to_dict(get_preset(name))})


@pytest.fixture
def parts_on_disk(model_folder: Path, cascade_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A base model and a cascade, each with its place in training."""
    base, second = tmp_path / "base" / "pipeline", tmp_path / "second" / "pipeline"
    shutil.copytree(model_folder, base)
    shutil.copytree(cascade_folder, second)
    (base / "training.json").write_text(training("debug", stage_index=3))
    (second / "super_resolution" / "training.json").write_text(training("debug-sr"))
    (base.parent / "validation.jsonl").write_text("{}\n")
    return base, second


def test_a_base_and_a_super_resolution_join(parts_on_disk, cascade, tmp_path: Path):
    base, second = parts_on_disk
    before = files_of(base), files_of(second)
    out = tmp_path / "joined"
    join(base, second, out)
    loaded = InstructImagenPipeline.from_pretrained(out)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.output_size_px == 64
    for name in ("unet", "super_resolution"):
        wanted = getattr(cascade, name).state_dict()
        assert all(torch.equal(v, wanted[k]) for k, v in getattr(loaded, name).state_dict().items())
    assert (files_of(base), files_of(second)) == before
    join(base, out, out)  # onto itself
    assert InstructImagenPipeline.from_pretrained(out).output_size_px == 64
    copy_base(out, tmp_path / "alone")
    assert "super_resolution" not in read_index(tmp_path / "alone")
    assert InstructImagenPipeline.from_pretrained(tmp_path / "alone").output_size_px == 32


def test_a_tokenizer_that_was_used_before_it_was_saved_is_the_same(parts_on_disk):
    base, second = parts_on_disk
    tokenizer = load_tokenizer(base / "tokenizer")
    tokenizer(["a fox", "a red fox on a beach"], padding=True, truncation=True, max_length=4)
    tokenizer.save_pretrained(second / "tokenizer")
    saved = [json.loads((model / "tokenizer" / "tokenizer.json").read_text()) for model in parts_on_disk]
    assert saved[0] != saved[1]
    check_same_text(base, second)
    (second / "tokenizer" / "tokenizer.json").write_text(json.dumps({**saved[1], "version": "2.0"}))
    with pytest.raises(CascadeError, match="another text encoder"):
        check_same_text(base, second)


def damage_text(base: Path, second: Path) -> None:
    with (second / "text_encoder" / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x01\x02\x03\x04")


def damage_size(base: Path, second: Path) -> None:
    path = second / "super_resolution" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "low_res_px": 16}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_text, "another text encoder"),
        (damage_size, "draws 32 pixels, but 16 are enlarged"),
        (lambda base, second: shutil.rmtree(second / "super_resolution"), "has no super_resolution"),
        (lambda base, second: (base / "model_index.json").write_text("{"), "missing or damaged"),
        (lambda base, second: (base / "model_index.json").write_text('{"unet": [null, null]}'), "no base network"),
        (lambda base, second: (base / "unet" / "config.json").unlink(), "missing or damaged"),
        (lambda base, second: (base / "unet" / "config.json").write_text("{}"), "holds no patch_size"),
        (lambda base, second: (second / "super_resolution" / "config.json").write_text("[]"), "no JSON object"),
    ],
)
def test_what_makes_no_cascade_is_refused_and_leaves_nothing(parts_on_disk, tmp_path: Path, damage, words: str):
    base, second = parts_on_disk
    damage(base, second)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(CascadeError, match=words):
        join(base, second, out / "model")
    assert main(["package", "--base", str(base), "--super-resolution", str(second), "--out", str(out / "model")]) == 2
    assert not list(out.iterdir())


def test_packaging_replaces_a_model_and_keeps_its_scores_as_those_before(parts_on_disk, tmp_path: Path):
    base, second = parts_on_disk
    out, measured = tmp_path / "weights" / "nano", tmp_path / "measured.json"
    measure = {"model": "context", "small": "true", "task": "edit", "noise_level": 0.1, "measure": "PSNR where kept"}
    score = {**measure, "figure": 31.25, "interval": [30.0, 32.0], "difference": [1.5, 2.5], "count": 4}
    measured.write_text(json.dumps({"size_px": 64, "steps": 12, "scores": [score]}))
    size = package(base, out)
    assert size == pytest.approx(sum(len(data) for data in files_of(base).values()) / 2**20, rel=0.01)
    (out / "scores.json").write_text(json.dumps({"quick": {"mask": {**SCORE, "figure": 0.25}}}))
    assert package(base, out, second, 0.35, measured) > size
    card = (out / "README.md").read_text()
    assert "Not measured yet." in card
    (out / "scores.json").write_text(json.dumps({"quick": {"mask": SCORE, "edge": SCORE}}))
    assert main(["card", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert "| `mask` | 0.250 | 0.500 | 0.250 .. 0.750 | 0.100 | 0.900 | 0.800 | 4 |" in card
    assert "| `edge` | not measured | 0.500 |" in card
    assert "| `unet` | 32 px | 0.3 M | `debug`: complete; 2 steps, 2.0 hours |" in card
    assert "| `super_resolution` | 32 to 64 px | 0.3 M | `debug-sr`: in super_resolution, step 2 of 4;" in card
    assert "| true | edit | PSNR where kept | context | 0.1 | 31.250 | 30.000 .. 32.000 | 1.500 .. 2.500 |" in card
    assert "glyph world" in card
    assert (out / "validation.jsonl").is_file()
    loaded = InstructImagenPipeline.from_pretrained(out)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.super_resolution.config.noise_level == 0.35
    assert loaded(Instruction("a star"), 2).images[0].size == (64, 64)
    config = json.loads((second / "super_resolution" / "config.json").read_text())
    assert config["noise_level"] == 0.1, "the training's own file is another"


def test_a_card_says_only_what_is_known(parts_on_disk):
    base, _ = parts_on_disk
    own = json.loads((base / "training.json").read_text())
    own["preset"]["data"]["stage2"] = [{"name": "mine", "ratio": 1.0, "source": "mine/train.jsonl"}]
    (base / "training.json").write_text(json.dumps(own))
    assert "photograph" not in model_card(base, "x")
    (base / "training.json").unlink()
    assert "photograph" not in model_card(base, "x")
    assert "not recorded" in model_card(base, "x")


def test_too_large_a_model_is_refused_and_the_old_one_stays(parts_on_disk, tmp_path: Path, capsys):
    base, _ = parts_on_disk
    out = tmp_path / "model"
    package(base, out)
    before = files_of(out)
    assert main(["package", "--base", str(base), "--out", str(out), "--max-mib", "0.1"]) == 2
    assert "MiB, more than 0.1" in capsys.readouterr().err
    assert files_of(out) == before
    assert [path.name for path in tmp_path.iterdir() if "model" in path.name] == ["model"]


def moved(model: Path, out: Path) -> Path:
    """A model with other weights in its network, as training leaves it."""
    shutil.copytree(model, out)
    file = next((out / "unet").glob("*.safetensors"))
    weights = {name: weight + 1 for name, weight in load_file(file).items()}
    save_file(weights, file)
    return out


def test_a_blend_lies_between_two_states(parts_on_disk, tmp_path: Path):
    before, _ = parts_on_disk
    after = moved(before, tmp_path / "after")
    (before / "training.json").write_text(training("debug", total_steps=7))
    (after / "training.json").write_text(training("debug", total_steps=9))
    kept, out = (files_of(before), files_of(after)), tmp_path / "blend"
    for share in (0.25, 1.0):
        assert main(["blend", str(before), str(after), "--share", str(share), "--out", str(out)]) == 0
        old, new = (load_file(next((model / "unet").glob("*.safetensors"))) for model in (before, out))
        assert old.keys() == new.keys()
        for name, weight in old.items():
            torch.testing.assert_close(new[name], weight + share, rtol=0.01, atol=0.01)
            assert new[name].dtype == weight.dtype
    assert (files_of(before), files_of(after)) == kept, "the blend shares files with what it was made of"
    InstructImagenPipeline.from_pretrained(out)
    found = json.loads((out / "training.json").read_text())
    assert (found["position"]["total_steps"], found["blend"]) == (9, {"share": 1.0, "from_steps": 7})
    card = model_card(out, "blend")
    assert "9 steps" in card and "100% of the way from its state after 7 steps" in card


def test_states_of_different_models_are_not_blended(parts_on_disk, tmp_path: Path, capsys):
    base, _ = parts_on_disk
    after = moved(base, tmp_path / "after")
    config = after / "unet" / "config.json"
    original = json.loads(config.read_text())
    config.write_text(json.dumps({**original, "context_text": not original["context_text"]}))
    weights = next((base / "unet").glob("*.safetensors")).name
    wrong = [(base, after, "different networks"), (base, tmp_path, "is missing")]
    for first, other, words in wrong:
        assert main(["blend", str(first), str(other), "--share", "0.5", "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    config.write_text(json.dumps(original))
    damaged = shutil.copytree(base, tmp_path / "damaged")
    for content in (b"", None):
        (damaged / "unet" / weights).unlink()
        if content is not None:
            (damaged / "unet" / weights).write_bytes(content)
        assert main(["blend", str(damaged), str(after), "--share", "0.5", "--out", str(tmp_path / "out")]) == 2
        assert "cannot be blended" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
