"""Embedders and quality filters: tiny models of the true classes, batch independence, errors that say what to mend."""

from __future__ import annotations

import json
import math
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from tiny_models import save_clip
from transformers import CLIPModel, CLIPTokenizer

from instruct_imagen.data.report import DataError
from instruct_imagen.retrieval import extras, train_glyph_embedder
from instruct_imagen.retrieval.embedders import ClipEmbedder, EmbedderError
from instruct_imagen.retrieval.glyph_embedder import (
    MAX_WEIGHT_BYTES,
    GlyphEmbedder,
    GlyphNet,
    GlyphNetConfig,
    as_input,
    load_net,
    save_net,
    text_pieces,
)
from instruct_imagen.retrieval.hashes import hash_distances, perceptual_hash
from instruct_imagen.retrieval.quality import AestheticHead, BasicQuality, NoFilter
from instruct_imagen.retrieval.train_glyph_embedder import (
    NAME_SCALE,
    Batch,
    CaptionedPictures,
    TrainingError,
    TrainOptions,
    contrastive_loss,
    losses_of,
    map_side,
    name_loss,
    train,
)
from instruct_imagen.world import glyphs_of

TINY = GlyphNetConfig((4, 8), (1, 1), num_buckets=64, text_width=8, subject_dim=12, scene_dim=4)
TEXTS = ["a red fox", "", "the moon over a very long street with many more words than the model can read at once"]


def pictures(num, sizes=((40, 40), (64, 30), (31, 90))):
    rng = np.random.default_rng(0)
    chosen = [sizes[i % len(sizes)] for i in range(num)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), "RGB") for w, h in chosen]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def glyph_weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("glyph") / "weights.safetensors"
    save_net(GlyphNet(TINY).eval(), path)
    return path


@pytest.mark.parametrize("kind", ["clip", "glyph"])
def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(kind, request):
    if kind == "clip":
        embedder = ClipEmbedder(str(request.getfixturevalue("clip_folder")), "cpu", batch_size=2)
    else:
        embedder = GlyphEmbedder(request.getfixturevalue("glyph_weights"), "cpu", batch_size=2)
    embedder = pickle.loads(pickle.dumps(embedder))
    images = pictures(5)
    for items, embed in ((images, embedder.images), (TEXTS, embedder.texts)):
        together = embed(items)
        assert together.shape == (len(items), embedder.dim) and together.dtype == np.float32
        assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.abs(together - np.concatenate([embed([item]) for item in items])).max() < 1e-5
        assert embed([]).shape == (0, embedder.dim)
    assert np.abs(embedder.images(images[:1]) - embedder.images(images[1:2])).max() > 1e-3
    assert embedder.name == embedder.name and kind in embedder.name


def test_clip_equals_the_model_of_transformers(clip_folder):
    model = CLIPModel.from_pretrained(clip_folder).eval()
    image = pictures(1, sizes=((32, 32),))[0]  # which the processor only normalises
    mean, std = np.array([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]], np.float32)
    pixels = torch.from_numpy((np.asarray(image, np.float32) / 255 - mean) / std).permute(2, 0, 1)[None]
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(["a red fox"], return_tensors="pt")
    with torch.no_grad():
        found = model(pixel_values=pixels, **tokens)
    embedder = ClipEmbedder(str(clip_folder), "cpu")
    assert embedder.images([image]) == pytest.approx(found.image_embeds.numpy(), abs=1e-4)
    assert embedder.texts(["a red fox"]) == pytest.approx(found.text_embeds.numpy(), abs=1e-4)


def test_missing_models_say_what_to_do(tmp_path):
    with pytest.raises(EmbedderError, match="name a folder"):
        _ = ClipEmbedder(str(tmp_path), "cpu").dim
    embedder = GlyphEmbedder(tmp_path / "none.safetensors")
    with pytest.raises(EmbedderError, match="train_glyph_embedder"):
        embedder.images(pictures(1))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(EmbedderError, match="holds no glyph embedder"):
        load_net(tmp_path / "bad.safetensors")


def test_missing_libraries_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(DataError, match=r"instruct-imagen\[data\]"):
        extras.require("imagehash")


@given(st.text(max_size=40))
def test_text_pieces_are_hashed_in_range_and_never_none(text):
    pieces = text_pieces(text, 64)
    assert pieces and all(0 <= piece < 64 for piece in pieces)
    assert pieces == text_pieces(text.upper() if text.isascii() else text, 64)


def test_text_pieces_know_the_order_of_neighbours():
    assert sorted(text_pieces("red fox", 8192)) != sorted(text_pieces("fox red", 8192))
    assert set(text_pieces("fox", 8192)) & set(text_pieces("foxes", 8192))


def unit(rng, *shape):
    values = rng.standard_normal(shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_contrastive_loss_equals_its_definition():
    images, texts = unit(np.random.default_rng(0), 2, 4, 6)
    loss = contrastive_loss(torch.tensor(images), torch.tensor(texts), torch.tensor(math.log(5.0)))
    logits = np.exp(5.0 * images @ texts.T)
    expected = -0.5 * (np.log(np.diag(logits) / logits.sum(0)).mean() + np.log(np.diag(logits) / logits.sum(1)).mean())
    assert loss.item() == pytest.approx(expected)
    capped = contrastive_loss(torch.tensor(images), torch.tensor(texts), torch.tensor(50.0))
    assert capped.item() == pytest.approx(
        contrastive_loss(torch.tensor(images), torch.tensor(texts), torch.tensor(math.log(100.0))).item()
    )


def test_name_loss_equals_its_definition():
    rng = np.random.default_rng(0)
    found, names = unit(rng, 3, 6), unit(rng, 5, 6)
    loss = name_loss(torch.tensor(3 * found), torch.tensor(2 * names), torch.tensor([4, 0, 4]))
    logits = np.exp(NAME_SCALE * found @ names.T)
    assert loss.item() == pytest.approx(-np.log((logits / logits.sum(1, keepdims=True))[range(3), [4, 0, 4]]).mean())
    none = name_loss(torch.zeros(0, 6), torch.tensor(names).float(), torch.zeros(0, dtype=torch.int64))
    assert none.item() == 0


def test_embeddings_have_a_part_for_the_subject_and_one_for_the_scene():
    torch.manual_seed(0)
    net = GlyphNet(TINY).eval()
    images, texts = net.images(as_input([np.asarray(p) for p in pictures(2, ((64, 64),))])), net.texts(TEXTS)
    for vectors in (images, texts):
        subjects, scenes = vectors[:, : TINY.subject_dim], vectors[:, TINY.subject_dim :]
        assert scenes.shape[1] == TINY.scene_dim
        assert (scenes**2).sum(1).tolist() == pytest.approx([TINY.scene_share] * len(vectors))
        assert (subjects**2).sum(1).tolist() == pytest.approx([1 - TINY.scene_share] * len(vectors))
    values = torch.randn(1, 8, 4, 4)
    somewhere = torch.zeros(1, 16)
    somewhere[0, [3, 7]] = 1
    expected = net.subject_head(values.flatten(2)[:, :, [3, 7]].mean(2))
    assert torch.allclose(net.subjects(values, somewhere), expected, atol=1e-5)


def test_pairs_say_what_they_show_and_name_nothing_held_out(builtin_pack):
    pairs = CaptionedPictures(builtin_pack, seed=0, map_px=16)
    assert len(pairs.names) == len(glyphs_of(builtin_pack.keys, "train")) < len(builtin_pack.keys)
    found = [pairs[index] for index in range(60)]
    assert 0 < sum(not pair.subjects for pair in found) < 20  # portraits
    named = [[pairs.names[number].split()[-1] in pair.caption for number in pair.subjects] for pair in found]
    assert np.mean([share for row in named for share in row]) > 0.5  # the others are called by a synonym
    batch = Batch.of(found)
    assert batch.covered.shape == (60, 16, 16) and batch.covered.min() >= 0 and batch.covered.max() <= 1.001
    assert len(batch.subjects) == len(batch.owners) == len(batch.masks) <= sum(len(pair.subjects) for pair in found)
    for owner, mask, subject in zip(batch.owners, batch.masks, batch.subjects, strict=True):
        assert int(subject) in found[owner].subjects
        assert (mask <= batch.covered[owner].flatten() + 1e-5).all() and mask.sum() > 0
    portraits = Batch.of([pair for pair in found if not pair.subjects])
    assert portraits.masks.shape == (0, 256) and (portraits.covered.sum((1, 2)) > 10).all()


def test_the_glyph_net_learns_a_batch(builtin_pack):
    torch.manual_seed(0)
    net, pairs = GlyphNet(TINY), CaptionedPictures(builtin_pack, seed=0, map_px=map_side(TINY))
    batch = Batch.of([pairs[index] for index in range(8)])
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    log = []
    for _ in range(80):
        losses = losses_of(net, batch, pairs.names)
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        log.append([loss.item() for loss in losses])
    first, last = log[0], log[-1]
    assert (
        first[0] > 1.5
        and last[0] < 0.5
        and first[1] > 2.5
        and last[1] < 0.7
        and last[2] < first[2]
        and last[3] < 0.8 * first[3]
    )


def test_training_repeats_itself_and_its_weights_come_back(builtin_pack, tmp_path):
    torch.set_num_threads(1)
    options = TrainOptions(steps=3, batch_size=8, num_workers=0, device="cpu")
    (first, losses), (second, _) = (train(builtin_pack, options, TINY) for _ in range(2))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert [step for step, *_ in losses] == [1, 3] and np.isfinite(losses).all() and len(losses[0]) == 5
    save_net(first, tmp_path / "w.safetensors")
    loaded = load_net(tmp_path / "w.safetensors")
    assert loaded.config == TINY and not loaded.training
    for name, value in first.state_dict().items():
        assert loaded.state_dict()[name].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=1e-4)


def test_training_goes_on_from_a_network_and_keeps_it_now_and_then(builtin_pack, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(train_glyph_embedder, "_KEEP_SECONDS", 0)
    torch.manual_seed(1)
    init, kept = GlyphNet(TINY), []
    before = init.gaze.weight.clone()
    options = TrainOptions(steps=3, batch_size=8, num_workers=0, device="cpu", learning_rate=1e-4)
    found, _ = train(builtin_pack, options, init=init, keep=kept.append)
    assert found is init and kept == [init] * 3
    assert 0 < (found.gaze.weight - before).abs().max() < 1e-3


def test_training_command_writes_weights_of_the_allowed_size(tmp_path, monkeypatch):
    command = ["train", "--out", str(tmp_path), "--steps", "1", "--batch-size", "2", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", [*command, "--pack", "builtin", "--device", "cpu"])
    train_glyph_embedder.main()
    log = json.loads((tmp_path / "training.json").read_text())
    assert log["before"] is None
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--init", str(tmp_path / "glyph_embedder.safetensors")])
    train_glyph_embedder.main()
    assert json.loads((tmp_path / "training.json").read_text())["before"] == log
    assert 0 <= log["caption_accuracy_of_256"] <= 1 and 0 <= log["name_accuracy"] <= 1 and log["options"]["steps"] == 1
    weights = tmp_path / "glyph_embedder.safetensors"
    assert weights.stat().st_size <= MAX_WEIGHT_BYTES
    assert GlyphEmbedder(weights, "cpu").images(pictures(1)).shape == (1, 256)


@pytest.mark.parametrize("wrong", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"steps": 1, "batch_size": 1}])
def test_options_that_cannot_be_trained_with(wrong):
    with pytest.raises(TrainingError):
        TrainOptions(**wrong)


def test_perceptual_hash_survives_rescaling_and_tells_pictures_apart():
    smooth = [image.resize((9, 9)).resize((120, 120), Image.Resampling.BICUBIC) for image in pictures(2)]
    first, second, small = (
        np.uint64(perceptual_hash(image)) for image in (smooth[0], smooth[1], smooth[0].resize((70, 70)))
    )
    assert hash_distances(first, small) <= 4 < 16 <= hash_distances(first, second)


def test_basic_quality_names_the_fault():
    picture = pictures(1, sizes=((400, 300),))[0]
    judge = BasicQuality()
    assert judge.fault(picture) is None
    assert judge.fault(picture.crop((0, 0, 80, 63))) == "too small"
    assert judge.fault(picture.crop((0, 0, 400, 100))) == "too long and narrow"
    assert judge.fault(Image.new("RGB", (300, 300), "red")) == "nearly uniform"
    coloured = Image.fromarray(np.tile(np.array([[76, 76, 76], [202, 25, 0]], np.uint8), (100, 50, 1)), "RGB")
    assert np.asarray(coloured.convert("L")).std() < 1 and judge.fault(coloured) is None
    gradient = Image.linear_gradient("L").resize((300, 300)).convert("RGB")
    assert judge.fault(gradient.filter(ImageFilter.GaussianBlur(4))) == "blurred"
    assert not judge.scores(np.zeros((3, 4))).any() and NoFilter().fault(Image.new("RGB", (1, 1))) is None
    assert judge.name != BasicQuality(min_contrast=5).name


@pytest.mark.parametrize("form", ["linear", "stack"])
def test_aesthetic_head_scores_as_its_layers_do(form, tmp_path):
    torch.manual_seed(0)
    if form == "linear":
        head = torch.nn.Linear(8, 1)
    else:
        numbers = {0: (8, 5), 2: (5, 4), 10: (4, 1)}  # LAION's stack has dropout between its layers, and no activation
        head = torch.nn.Sequential(*(torch.nn.Dropout() for _ in range(11)))
        for number, (num_in, num_out) in numbers.items():
            head[number] = torch.nn.Linear(num_in, num_out)
    prefix = "" if form == "linear" else "layers."
    save_file({prefix + name: value for name, value in head.state_dict().items()}, tmp_path / "head.safetensors")
    values = torch.randn(6, 8)
    expected = head.eval()(torch.nn.functional.normalize(values, dim=1))[:, 0].detach().numpy()
    judge = AestheticHead(tmp_path / "head.safetensors", min_score=4.5)
    assert judge.scores(values.numpy()) == pytest.approx(expected, abs=1e-5)
    assert "4.5" in judge.name and judge.fault(Image.new("RGB", (9, 9))) == "too small"
    with pytest.raises(DataError, match="embeddings of 8"):
        judge.scores(np.zeros((2, 7)))


def test_what_is_no_aesthetic_head_is_refused(tmp_path):
    wrong = {
        "two": {"weight": torch.zeros(2, 8), "bias": torch.zeros(2)},
        "apart": {"0.weight": torch.zeros(5, 8), "0.bias": torch.zeros(5), "1.weight": torch.zeros(1, 4)},
        "other": {"weight": torch.zeros(1, 8), "bias": torch.zeros(1), "conv": torch.zeros(3)},
    }
    for name, tensors in wrong.items():
        save_file(tensors, tmp_path / name)
        with pytest.raises(DataError, match="no aesthetic head"):
            AestheticHead(tmp_path / name).scores(np.zeros((1, 8)))
    with pytest.raises(DataError, match="cannot be read"):
        AestheticHead(tmp_path / "nothing").scores(np.zeros((1, 8)))
