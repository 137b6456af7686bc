"""The text encoder's own training: what is asked of it, that it learns, and what becomes of the model."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from transformers import T5EncoderModel

from instruct_imagen.model import build_text_encoder
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import TextEncoderConfig, get_preset
from instruct_imagen.text import load_tokenizer, train_tokenizer
from instruct_imagen.training import text_pretraining
from instruct_imagen.training.checkpoint import TRAINING_FILE, read_position
from instruct_imagen.training.text_pretraining import (
    LOOK_DIM,
    NUM_ATTRIBUTES,
    CaptionSource,
    TextPretrainingError,
    attributes,
    layout,
    looks,
    train_text_encoder,
)
from instruct_imagen.training.trainer import Trainer
from instruct_imagen.world import HELD_OUT_STYLES, GlyphPack, SceneSampler, glyphs_of

PACK = GlyphPack.builtin().prepare()
CONFIG = TextEncoderConfig(512, 64, 64, 1, 2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(PACK, CONFIG, folder)
    return load_tokenizer(folder)


def new_encoder(tokenizer):
    torch.manual_seed(0)
    return build_text_encoder(CONFIG, len(tokenizer))


def test_looks_tell_glyphs_apart_and_have_one_scale():
    keys = glyphs_of(PACK.keys, "train")
    codes = looks(PACK, keys)
    assert codes.shape == (len(keys), LOOK_DIM)
    assert codes[:, : len(keys)].std().item() == pytest.approx(1, abs=0.01) and not codes[:, len(keys) :].any()
    assert codes.mean(0).abs().max() < 0.01
    distances = torch.cdist(codes, codes) + 1e6 * torch.eye(len(keys))
    assert distances.min() > 0.1


def test_a_scene_gives_its_attributes_and_layouts():
    sampler, rng = SceneSampler(PACK, "train"), np.random.default_rng(0)
    for _ in range(50):
        scene = sampler.sample(rng, num_subjects=2, relation="left of")
        found = attributes(scene)
        assert found.shape == (NUM_ATTRIBUTES,) and 2 <= found.sum() <= 4
        first, second = (layout(subject, 2) for subject in scene.subjects)
        assert first[0] < second[0] and {first[2], second[2]} == {-1, 1}
        assert max(map(abs, (*first, *second))) <= 1.0 + 1e-6


def test_captions_depend_on_the_step_alone_and_show_nothing_held_out():
    source = CaptionSource(PACK, seed=3)
    first = source.batch(7, 40)
    again = CaptionSource(PACK, seed=3).batch(7, 40)
    assert first.texts == again.texts and torch.equal(first.layouts, again.layouts)
    assert source.batch(8, 40).texts != first.texts
    assert set(source.keys) == set(glyphs_of(PACK.keys, "train"))
    held_out = {PACK[key].name for key in glyphs_of(PACK.keys, "held_out")}
    assert not held_out & set(source.names()[0])
    columns = [text_pretraining.STYLE_NAMES.index(name) for name in HELD_OUT_STYLES]
    assert sum(float(source.batch(step, 40).attributes[:, columns].sum()) for step in range(5)) == 0
    assert torch.equal(first.counts.sum(1).bool(), torch.ones(40, dtype=torch.bool))


def test_the_encoder_learns_names_that_it_did_not_know(tokenizer):
    encoder = new_encoder(tokenizer)
    before = train_text_encoder(encoder, tokenizer, PACK, steps=1, batch_size=1, learning_rate=0.0)
    after = train_text_encoder(encoder, tokenizer, PACK, steps=60, batch_size=16, learning_rate=3e-3)
    assert before < 0.2 and after > 0.8


def test_the_same_seed_gives_the_same_encoder(tokenizer):
    weights = []
    for _ in range(2):
        encoder = new_encoder(tokenizer)
        train_text_encoder(encoder, tokenizer, PACK, steps=3, batch_size=4, seed=5)
        weights.append(encoder.get_input_embeddings().weight.detach().clone())
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], new_encoder(tokenizer).get_input_embeddings().weight)


@pytest.mark.parametrize("length", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}])
def test_a_length_that_says_nothing_is_refused(tokenizer, length):
    with pytest.raises(TextPretrainingError):
        train_text_encoder(new_encoder(tokenizer), tokenizer, PACK, **length)


def test_a_new_run_begins_with_the_words_and_a_resumed_one_does_not(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("instruct_imagen.training.beginning.train_text_encoder", lambda *a, **k: calls.append(k))
    preset = get_preset("debug", ["text_steps=5"])
    Trainer(preset, tmp_path / "run", seed=2).run(max_steps=1)
    assert calls == [{"steps": 5, "seed": 2}]
    Trainer(preset, tmp_path / "run", seed=2, resume=True)
    assert len(calls) == 1
    monkeypatch.setattr(Trainer, "_step", lambda *_: sys.exit("killed"))
    with pytest.raises(SystemExit):
        Trainer(preset, tmp_path / "killed", seed=2).run()
    assert Trainer(preset, tmp_path / "killed", seed=2, resume=True).position.total_steps == 0
    assert len(calls) == 2, "its minutes are not lost"


def test_command_gives_a_model_a_new_encoder_and_sends_it_back_to_pretraining(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    Trainer(get_preset("debug"), run).run(max_steps=5)
    model, out = run / "pipeline", tmp_path / "new"
    command = ["text", "--init", str(model), "--out", str(out), "--steps", "2", "--pack", "builtin"]
    monkeypatch.setattr(sys, "argv", command)
    text_pretraining.main()
    assert '"right_names"' in capsys.readouterr().out
    position, preset = read_position(out, TRAINING_FILE)
    assert (position.stage_index, position.step) == (0, 0) and position.total_steps == 5
    old, new = (T5EncoderModel.from_pretrained(str(folder / "text_encoder")) for folder in (model, out))
    assert not torch.equal(old.get_input_embeddings().weight, new.get_input_embeddings().weight)
    assert not (out / "validation.jsonl").exists()
    trained = Trainer(preset, tmp_path / "on", init=out)
    assert torch.equal(
        trained.parts.text_encoder.get_input_embeddings().weight, new.get_input_embeddings().weight.float()
    )


def test_a_cascade_becomes_a_base_model_with_a_new_encoder_and_stays_as_it_is(tmp_path):
    run, out = tmp_path / "run", tmp_path / "new"
    Trainer(get_preset("debug"), run).run(max_steps=1)
    second = get_preset("debug-sr", [f"base={run / 'pipeline'}"])
    Trainer(second, tmp_path / "second").run(max_steps=1)
    cascade = tmp_path / "second" / "pipeline"
    before = {path: path.read_bytes() for path in cascade.rglob("*") if path.is_file()}
    encoder = T5EncoderModel.from_pretrained(str(cascade / "text_encoder"))
    text_pretraining.replace_text_encoder(cascade, encoder, out)
    assert InstructImagenPipeline.from_pretrained(out).super_resolution is None
    assert read_position(out, TRAINING_FILE)[0].step == 0
    assert before == {path: path.read_bytes() for path in cascade.rglob("*") if path.is_file()}


@pytest.mark.parametrize("wrong", [["--init", "nowhere"], ["--steps", "0"]])
def test_command_says_what_is_wrong_and_writes_nothing(tmp_path, monkeypatch, wrong):
    Trainer(get_preset("debug"), tmp_path / "run").run(max_steps=1)
    command = ["text", "--init", str(tmp_path / "run" / "pipeline"), "--out", str(tmp_path / "new"), "--steps", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--pack", "builtin", *wrong])
    with pytest.raises(SystemExit) as stopped:
        text_pretraining.main()
    assert stopped.value.code == 2 and not (tmp_path / "new").exists()
