"""Controls of real pictures: classical ones, and adapters over tiny untrained models."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tiny_onnx import write_convolution

from instruct_imagen.data.control_models import central_class, stretched
from instruct_imagen.data.controls import ControlModels, TransformersDepth, TransformersMask, canny, centre_cut
from instruct_imagen.data.edge_models import OnnxEdges, ridges
from instruct_imagen.data.report import DataError

CLASSICAL = ControlModels.classical()


def disc(size: tuple[int, int] = (120, 90), radius: int = 28) -> tuple[Image.Image, np.ndarray]:
    """A disc in the middle of a slope, and where it is."""
    width, height = size
    slope = np.linspace(20, 90, width)[None, :, None] * np.array([0.3, 0.6, 1.0])
    image = Image.fromarray(np.broadcast_to(slope, (height, width, 3)).astype(np.uint8))
    box = (width // 2 - radius, height // 2 - radius, width // 2 + radius, height // 2 + radius)
    ImageDraw.Draw(image).ellipse(box, fill=(240, 180, 40))
    return image, np.asarray(image)[..., 0] > 200


def nearer_to_the_left(image: Image.Image) -> np.ndarray:
    return np.broadcast_to(np.linspace(1, 0, image.width, dtype=np.float32), (image.height, image.width))


def white(picture: np.ndarray | None) -> np.ndarray:
    assert picture is not None and picture.dtype == np.uint8 and picture.shape[2] == 3
    assert np.array_equal(picture[..., 0], picture[..., 2])
    return picture[..., 0] > 127


@pytest.mark.parametrize("size", [(120, 90), (90, 120), (500, 400)])
def test_the_cut_finds_the_disc(size: tuple[int, int]):
    image, truth = disc(size, radius=min(size) // 3)
    found = centre_cut(image)
    assert found.shape == truth.shape and found.dtype == bool
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    assert np.array_equal(found, centre_cut(image))


def test_the_alpha_of_a_picture_comes_before_the_model_unless_it_shows_nothing():
    image, truth = disc()
    alpha = np.zeros(truth.shape, bool)
    alpha[10:40, 10:40] = True
    assert np.array_equal(white(CLASSICAL.mask(image, alpha)), alpha)
    for useless in (np.ones_like(alpha), np.zeros_like(alpha)):
        assert (white(CLASSICAL.mask(image, useless)) & truth).sum() > 0.9 * truth.sum()
    empty = ControlModels(mask_model=lambda picture: np.zeros((picture.height, picture.width), bool))
    assert empty.mask(image) is None


def test_edges_of_picture_depth_and_mask():
    image, truth = disc()
    models = ControlModels(nearer_to_the_left, lambda picture: truth)
    origins = [models._origin(np.random.default_rng(seed)) for seed in range(400)]
    shares = {name: origins.count(name) / 400 for name in sorted(set(origins))}
    assert shares == pytest.approx({"depth": 0.2, "mask": 0.2, "picture": 0.6}, abs=0.08)
    assert "depth" not in [CLASSICAL._origin(np.random.default_rng(seed)) for seed in range(100)]
    outline = models._edges(image, "mask", None)
    assert outline.any() and not (outline & ~truth).any() and outline.sum() < truth.sum() / 4
    assert np.array_equal(models._edges(image, "picture", None), canny(image))
    block = ControlModels(lambda picture: truth.astype(np.float32))
    from_depth = block._edges(image, "depth", None)
    assert from_depth.any() and np.abs(np.argwhere(from_depth) - np.array(truth.shape) / 2).max() < 32


def test_some_edges_are_dilated_and_all_follow_the_generator():
    image, _ = disc()
    models = ControlModels(mask_model=lambda picture: np.zeros((picture.height, picture.width), bool))
    drawn = [white(models.edge(image, np.random.default_rng(seed))) for seed in range(30)]
    thinnest = min(edges.sum() for edges in drawn)
    assert 2 < sum(edges.sum() > 1.5 * thinnest for edges in drawn) < 18
    assert np.array_equal(drawn[4], white(models.edge(image, np.random.default_rng(4))))
    assert models.edge(Image.new("RGB", (50, 50)), np.random.default_rng(0)) is None
    flat_depth = ControlModels(nearer_to_the_left)
    assert all(flat_depth.edge(image, np.random.default_rng(seed)) is not None for seed in range(10))


def test_texture_is_no_contour():
    image, _ = disc((200, 160), radius=50)
    noise = np.random.default_rng(0).integers(-60, 61, (160, 200, 1))
    rough = Image.fromarray(np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8))
    assert canny(rough).mean() > 0.2
    edges = CLASSICAL._edges(rough, "picture", None)
    assert 0.005 < edges.mean() <= 0.07

    def share_on_outline(found: np.ndarray) -> float:
        rows, columns = np.nonzero(found)
        return float((np.abs(np.hypot(rows - 80, columns - 100) - 50) < 6).mean())

    assert share_on_outline(edges) > 0.5 > 3 * share_on_outline(canny(rough))
    assert CLASSICAL.sketch(rough, np.random.default_rng(0)) is not None


@pytest.mark.parametrize("size", [(64, 64), (300, 100), (700, 900), (40, 33)])
def test_sketches_follow_the_outline_loosely(size: tuple[int, int]):
    image, truth = disc(size, radius=min(size) // 3)
    first, second = (CLASSICAL.sketch(image, np.random.default_rng(seed)) for seed in (1, 2))
    assert first is not None and second is not None and first.shape == (*truth.shape, 3)
    assert np.array_equal(first, CLASSICAL.sketch(image, np.random.default_rng(1)))
    assert not np.array_equal(first, second)
    dark = first.max(axis=2) < 160
    assert dark.any() and dark.mean() < 0.4 and first[0, 0].min() > 220
    radius = min(size) // 3
    rows, columns = np.nonzero(dark)
    distance = np.hypot(rows - size[1] / 2, columns - size[0] / 2)
    assert (np.abs(distance - radius) < 0.25 * radius + 4).mean() > 0.95
    assert CLASSICAL.sketch(Image.new("RGB", size), np.random.default_rng(0)) is None


@settings(max_examples=15)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 100))
def test_no_size_is_too_odd(width: int, height: int, seed: int):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    models = ControlModels(nearer_to_the_left)
    for kind in ("depth", "mask", "edge", "sketch"):
        drawn = models.draw(kind, image, rng)
        assert drawn is None or (drawn.shape == (height, width, 3) and drawn.dtype == np.uint8)


def test_what_cannot_be_drawn_is_refused():
    image, _ = disc()
    with pytest.raises(DataError, match="depth_model"):
        CLASSICAL.draw("depth", image, np.random.default_rng(0))
    with pytest.raises(DataError, match="depth, mask, edge, sketch"):
        CLASSICAL.check("pose")


def test_depth_is_brightness():
    image, _ = disc()
    drawn = ControlModels(nearer_to_the_left).depth(image)
    assert drawn[0, 0].tolist() == [255] * 3 and drawn[-1, -1].tolist() == [0] * 3


@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_stretching_takes_away_scale_and_offset(scale: float, offset: float):
    values = np.random.default_rng(0).random((20, 30))
    stretched_values = stretched(values * scale + offset)
    assert np.allclose(stretched_values, stretched(values), atol=1e-3)
    assert stretched_values.min() == 0 and stretched_values.max() == 1
    assert not stretched(np.full((4, 4), offset)).any()


def test_the_central_class_is_no_ground():
    classes = np.zeros((40, 60), int)
    classes[10:30, 20:40] = 1
    classes[:6] = 2
    names = {0: "floor;flooring", 1: "teapot", 2: "lamp"}
    assert np.array_equal(central_class(classes, names), classes == 1)
    assert not central_class(np.zeros((4, 4), int), names).any()


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained DPT, the architecture of MiDaS 3."""
    from transformers import DPTConfig, DPTForDepthEstimation
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("depth")
    model = DPTForDepthEstimation(config)
    model.head.head[4].bias.data.fill_(1.0)  # or the last activation would cut everything off
    model.save_pretrained(folder)
    DPTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mask_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained SegFormer with three classes."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation
    from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8,
        id2label={0: "Wall", 1: "Fox", 2: "Cup"}, label2id={"Wall": 0, "Fox": 1, "Cup": 2},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("mask")
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_depth_by_a_model(depth_folder: Path):
    image, _ = disc((90, 60))
    model = TransformersDepth(str(depth_folder), device="cpu")
    found = model(image)
    assert found.shape == (60, 90) and found.dtype == np.float32 and found.min() == 0 and found.max() == 1
    assert np.array_equal(found, pickle.loads(pickle.dumps(model))(image))
    distance = TransformersDepth(str(depth_folder), device="cpu", metric=True)(image)
    inner = (found > 0) & (found < 1)
    assert np.corrcoef(found[inner], distance[inner])[0, 1] < 0  # what was near is now far
    assert ControlModels(model).depth(image).shape == (60, 90, 3)


def test_masks_by_a_model(mask_folder: Path):
    image, _ = disc((90, 60))
    parts = [TransformersMask(str(mask_folder), "cpu", labels=(label,))(image) for label in ("wall", "Fox", "cup")]
    assert np.array_equal(np.sum(parts, axis=0), np.ones((60, 90)))  # each pixel has one class
    chosen = TransformersMask(str(mask_folder), "cpu")(image)
    assert chosen.dtype == bool and any(np.array_equal(chosen, part) for part in (*parts[1:], np.zeros_like(chosen)))
    with pytest.raises(DataError, match="'owl'.*cup, fox, wall"):
        TransformersMask(str(mask_folder), "cpu", labels=("owl",))(image)


def test_masks_by_a_model_of_queries(tmp_path: Path):
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, SwinConfig
    from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil

    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    decoder = DetrConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5, use_timm_backbone=False,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32,
        id2label={0: "ground", 1: "object"}, label2id={"ground": 0, "object": 1},
    )  # fmt: skip
    MaskFormerForInstanceSegmentation(config).save_pretrained(tmp_path)
    MaskFormerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    image, _ = disc((90, 60))
    found = TransformersMask(str(tmp_path), "cpu")(image)
    assert found.shape == (60, 90) and found.dtype == bool
    ground = TransformersMask(str(tmp_path), "cpu", labels=("ground",))(image)
    assert np.array_equal(found, ~ground)  # of two classes the second is the object


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    image, _ = disc()
    for model in (TransformersDepth(str(tmp_path)), TransformersMask(str(tmp_path))):
        with pytest.raises(DataError, match="cannot be loaded"):
            model(image)


def edge_network(path: Path, last: str = "Abs", strength: float = 1.0) -> Path:
    """How much green changes from left to right; at the picture's sides it knows nothing."""
    weights = np.zeros((1, 3, 3, 3))
    weights[0, 1] = np.array([[-1, 0, 1]] * 3) / 3 / 256 * strength
    return write_convolution(path, weights, 96, last)


def test_edges_by_a_model(tmp_path: Path):
    image, truth = disc((120, 90))
    model = OnnxEdges(edge_network(tmp_path / "edges.onnx"), size_px=96)
    edges = pickle.loads(pickle.dumps(model))(image)
    assert edges.shape == (90, 120) and edges.dtype == bool
    row = np.flatnonzero(edges[45, 10:-10]) + 10
    left, right = np.flatnonzero(truth[45])[[0, -1]]
    assert len(row) <= 4 and np.abs(row[[0, -1]] - [left, right]).max() <= 2  # the two sides, and nothing between
    assert not edges[:12, 10:-10].any() and not edges[-12:, 10:-10].any()
    drawn = white(ControlModels(edge_model=model).edge(image, np.random.default_rng(0)))
    assert drawn.shape == (90, 120) and drawn[truth.any(1)].any()
    assert not OnnxEdges(edge_network(tmp_path / "weak.onnx", strength=0.1), size_px=96)(image).any()


def test_edges_that_are_no_shares_yet_go_through_a_sigmoid(tmp_path: Path):
    image, truth = disc((120, 90))
    both = OnnxEdges(edge_network(tmp_path / "raw.onnx", "Identity", 20.0), size_px=96, threshold=0.9)(image)
    row = np.flatnonzero(both[45, 10:-10]) + 10
    assert (
        len(row) and np.abs(row - np.flatnonzero(truth[45])[0]).max() <= 2
    )  # where it brightens, not where it darkens


def test_ridges_are_thin_and_whole():
    strength = np.zeros((40, 60), np.float32)
    strength[:, 28:33] = np.array([0.2, 0.6, 1.0, 0.6, 0.2])
    strength[18:23] = np.maximum(strength[18:23], np.array([[0.2], [0.6], [1.0], [0.6], [0.2]], np.float32))
    found = ridges(strength, 0.5)
    assert found[:15].sum(1).max() == 1 and found[:15, 30].all()
    assert found[:, :25].sum(0).max() == 1 and found[20, :25].all()
    assert not ridges(np.full((5, 5), 0.9, np.float32), 0.5).any()


def test_edge_models_that_cannot_be_used_are_named(tmp_path: Path):
    image, _ = disc()
    with pytest.raises(DataError, match=r"none.onnx does not exist"):
        OnnxEdges(tmp_path / "none.onnx")(image)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="no ONNX file"):
        OnnxEdges(tmp_path / "bad.onnx")(image)
    three = write_convolution(tmp_path / "three.onnx", np.zeros((3, 3, 3, 3)), 32)
    with pytest.raises(DataError, match="no edge map"):
        OnnxEdges(three, size_px=32)(image)
    other = write_convolution(tmp_path / "other.onnx", np.zeros((1, 3, 3, 3)), 32, "NoSuchOperator")
    with pytest.raises(DataError, match=r"other.onnx"):
        OnnxEdges(other, size_px=32)(image)
