"""Judges: near perfect on true pictures, at chance on wrong ones, and equal to independent computations."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from instruct_imagen.data.world_tasks import PLAIN_STYLE
from instruct_imagen.evaluation.cases import suite_cases
from instruct_imagen.evaluation.judges.copies import correlation, is_copy
from instruct_imagen.evaluation.judges.edges import edge_f1
from instruct_imagen.evaluation.judges.identity import IdentityJudge, explained_share
from instruct_imagen.evaluation.judges.mask import (
    MASK_FILE,
    MaskNet,
    corrected_region,
    mask_iou,
    shipped_mask_judge,
)
from instruct_imagen.evaluation.judges.nets import WEIGHTS, JudgeError, read_weights, write_weights
from instruct_imagen.evaluation.judges.spoiling import reduced, ruin, spoil
from instruct_imagen.evaluation.judges.style import StyleJudge
from instruct_imagen.evaluation.judges.training import NAMES, get_recipe, train
from instruct_imagen.evaluation.judging import Judges
from instruct_imagen.evaluation.pictures import judged
from instruct_imagen.evaluation.suites import get_suite
from instruct_imagen.world import STYLE_NAMES, SceneSampler, glyphs_of, render, sample_style


def plain_renders(pack, split, count, seed):
    sampler, rng = SceneSampler(pack, split), np.random.default_rng(seed)
    scenes = [sampler.sample(rng, num_subjects=1, style=PLAIN_STYLE) for _ in range(count)]
    return scenes, [render(scene, pack, 64) for scene in scenes]


def brute_edge_f1(drawn, wanted, tolerance):
    one, two = np.argwhere(drawn).astype(float), np.argwhere(wanted).astype(float)
    distances = np.sqrt(((one[:, None] - two[None]) ** 2).sum(-1))
    precision, recall = (distances.min(1) <= tolerance).mean(), (distances.min(0) <= tolerance).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 3.0])
def test_edge_f1_equals_brute_force(tolerance):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        drawn, wanted = rng.random((2, 24, 24)) < rng.uniform(0.01, 0.2, (2, 1, 1))
        drawn[3, 3] = wanted[20, 20] = True
        assert edge_f1(drawn, wanted, tolerance) == pytest.approx(brute_edge_f1(drawn, wanted, tolerance))


def test_edge_f1_of_empty_maps():
    empty, some = np.zeros((8, 8), bool), np.eye(8, dtype=bool)
    assert edge_f1(empty, empty) == 1 and edge_f1(empty, some) == edge_f1(some, empty) == 0 and edge_f1(some, some) == 1


def test_mask_iou_equals_counting():
    for seed in range(8):
        one, two = np.random.default_rng(seed).random((2, 12, 12)) < 0.4
        pairs = list(zip(one.ravel().tolist(), two.ravel().tolist(), strict=True))
        expected = sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)
        assert mask_iou(one, two) == pytest.approx(expected)
    empty = np.zeros((4, 4), bool)
    assert mask_iou(empty, empty) == 1 and mask_iou(empty, ~empty) == 0


def test_judged_resizes_once_and_refuses_what_is_no_picture():
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    blocks = picture.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(judged(picture).astype(float) - blocks).max() <= 1
    assert judged(picture[:32, :32]).shape == (64, 64, 3) and judged(picture[:64, :64]).shape == (64, 64, 3)
    for wrong in (picture[:32], picture.astype(np.float32), picture[..., 0]):
        with pytest.raises(ValueError, match="uint8"):
            judged(wrong)


def test_copies_are_found_and_others_not(builtin_pack):
    _, renders = plain_renders(builtin_pack, "train", 6, 3)
    pictures = [picture.image for picture in renders]
    assert all(is_copy(np.clip(p * 0.9 + 8, 0, 255).astype(np.uint8), p) for p in pictures)
    assert not any(is_copy(a, b) for a, b in itertools.pairwise(pictures))
    assert correlation(pictures[0], np.zeros_like(pictures[0])) == 0
    flat = pictures[0].astype(float).ravel(), pictures[1].astype(float).ravel()
    assert correlation(*pictures[:2]) == pytest.approx(np.corrcoef(*flat)[0, 1])


def test_explained_share_is_one_for_the_model_itself():
    rng = np.random.default_rng(2)
    alpha = np.zeros((64, 64, 1), np.float32)
    alpha[20:44, 16:40] = 1
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1.0)[..., None]
    drawn = np.concatenate([rng.random((64, 64, 3), dtype=np.float32) * alpha, alpha], axis=-1)
    ground = np.array([0.2, 0.5, 0.7], np.float32)
    seen = 0.9 * drawn[..., :3] + 0.05 * alpha + (1 - alpha) * ground
    noise = rng.random((64, 64, 3), dtype=np.float32)
    assert explained_share(seen, drawn) > 0.97 > 0.3 > explained_share(noise, drawn)
    assert explained_share(seen, np.zeros_like(drawn)) == -1


def identity_hits(judge, glyphs, scenes, pictures):
    rng, hits = np.random.default_rng(1), []
    for scene, picture in zip(scenes, pictures, strict=True):
        others = [glyph for glyph in rng.permutation(glyphs).tolist() if glyph != scene.glyphs[0]]
        hits.append(judge.choose(picture, sorted([scene.glyphs[0], *others[:15]])) == scene.glyphs[0])
    return float(np.mean(hits))


def test_identity_is_right_on_true_pictures_and_at_chance_on_others(font_pack):
    scenes, renders = plain_renders(font_pack, "held_out", 16, 21)
    glyphs, judge = glyphs_of(font_pack.keys, "held_out"), IdentityJudge(font_pack)
    pictures = [picture.image for picture in renders]
    blurred = [cv2.GaussianBlur(picture, (0, 0), 2.0) for picture in pictures]
    assert identity_hits(judge, glyphs, scenes, pictures) >= 0.9
    assert identity_hits(judge, glyphs, scenes, blurred) >= 0.8
    assert identity_hits(judge, glyphs, scenes, [*pictures[1:], pictures[0]]) <= 0.25


def test_identity_judge_reads_any_picture(builtin_pack):
    glyphs = builtin_pack.keys[:4]
    for picture in (np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)):
        scores = IdentityJudge(builtin_pack).scores(picture, glyphs)
        assert scores.shape == (4,) and not np.isnan(scores).any() and (scores < 0.5).all()


@pytest.fixture(scope="module")
def style_judge(builtin_pack):
    return StyleJudge.calibrated(builtin_pack, scenes_per_style=16)


def test_style_judge_names_new_pictures(builtin_pack, style_judge):
    sampler, rng = SceneSampler(builtin_pack, "held_out"), np.random.default_rng(77)
    names = [name for name in STYLE_NAMES for _ in range(4)]
    scenes = [sampler.sample(rng, style=sample_style(rng, name)) for name in names]
    pictures = [render(scene, builtin_pack, 64).image for scene in scenes]
    found = np.array(style_judge.names(pictures))
    blurred = np.array(style_judge.names([cv2.GaussianBlur(picture, (0, 0), 0.7) for picture in pictures]))
    assert (found == names).mean() >= 0.9 and (blurred == names).mean() >= 0.8
    assert (np.roll(found, 4) == names).mean() <= 0.1
    assert style_judge.names([]) == []
    assert style_judge.names(pictures[:3]) == found[:3].tolist()  # alone or in a batch


def test_mask_judge_finds_subjects(font_pack):
    """On all glyphs, fine ones too, 0.88 is expected; the bounds leave room for what 64 pictures can tell."""
    judge = shipped_mask_judge()
    for split in ("train", "held_out"):
        _, renders = plain_renders(font_pack, split, 64, 5)
        regions = judge.regions([picture.image for picture in renders])
        overlaps = [mask_iou(region, picture.mask) for region, picture in zip(regions, renders, strict=True)]
        others = [mask_iou(region, picture.mask) for region, picture in zip(regions, renders[1:], strict=False)]
        assert np.mean(overlaps) >= 0.84 and np.mean(others) <= 0.4, (split, np.mean(overlaps))
        faded = [cv2.GaussianBlur(picture.image, (0, 0), 1.0) for picture in renders]
        overlaps = [mask_iou(a, b.mask) for a, b in zip(judge.regions(faded), renders, strict=True)]
        assert np.mean(overlaps) >= 0.8, split


def test_mask_judge_reaches_its_ceiling_on_the_suite(font_pack):
    suite = get_suite("quick")
    cases = suite_cases(suite.task("mask"), suite, font_pack)
    judges = Judges(font_pack)
    assert judges.ceiling("mask", cases) >= 0.9 and judges.floor("mask", cases) <= 0.3


def test_mask_judge_is_small_and_independent_of_the_batch(builtin_pack):
    assert (WEIGHTS / MASK_FILE).stat().st_size <= 700_000
    assert sum(parameter.numel() for parameter in MaskNet().parameters()) <= 150_000
    _, renders = plain_renders(builtin_pack, "train", 5, 6)
    pictures = [picture.image for picture in renders]
    together = shipped_mask_judge().regions(pictures)
    alone = np.concatenate([shipped_mask_judge().regions([picture]) for picture in pictures])
    assert (together != alone).mean() < 0.002
    assert shipped_mask_judge().regions([]).shape == (0, 64, 64)


def test_corrected_region_keeps_sure_pixels_and_survives_flat_pictures():
    logits = np.full((64, 64), -9, np.float32)
    assert not corrected_region(np.zeros((64, 64, 3), np.uint8), logits).any()
    logits[20:40, 20:40], logits[24:36, 24:36] = 0.5, 9
    region = corrected_region(np.full((64, 64, 3), 90, np.uint8), logits)
    assert region[24:36, 24:36].all() and not region[:10].any()
    picture = np.full((64, 64, 3), 30, np.uint8)
    picture[22:38, 22:38] = (240, 200, 30)
    region = corrected_region(picture, logits)
    assert mask_iou(region, (picture[..., 0] > 100)) > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_training_repeats_itself(name, builtin_pack):
    torch.set_num_threads(1)
    recipe = get_recipe(name)
    runs = [train(recipe, builtin_pack, num_pictures=2 * recipe.batch_size, seed=3).state_dict() for _ in range(2)]
    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())


def test_judges_weights_are_read_or_the_command_is_named(tmp_path):
    net = get_recipe("extractor").make()
    path = tmp_path / "extractor_judge.safetensors"
    write_weights(net, path)
    read = read_weights(get_recipe("extractor").make(), path)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(net.parameters(), read.parameters(), strict=True))
    path.write_bytes(path.read_bytes()[:1000])
    for bad in (path, tmp_path / "none.safetensors"):
        with pytest.raises(JudgeError, match="judges.training"):
            read_weights(get_recipe("extractor").make(), bad)
    write_weights(get_recipe("mask").make(), path)
    with pytest.raises(JudgeError, match="judges.training extractor"):
        read_weights(get_recipe("extractor").make(), path)


def test_shipped_weights_are_small():
    sizes = {path.name: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert len(sizes) == len(NAMES) and sum(sizes.values()) <= 3_000_000, sizes


def test_faults_change_pictures_as_they_say(builtin_pack):
    black = np.zeros((64, 64, 3), np.uint8)
    spoiled = [spoil(black, np.random.default_rng(seed)) for seed in range(20)]
    assert all(p.dtype == np.uint8 and p.shape == black.shape for p in spoiled)
    assert 4 <= sum(p.any() for p in spoiled) <= 16
    _, renders = plain_renders(builtin_pack, "train", 12, 8)
    pictures = [picture.image for picture in renders]
    for seed, (one, two) in enumerate(itertools.pairwise(pictures)):
        ruined, _ = ruin(one, two, renders[seed].mask, np.random.default_rng(seed))
        assert ruined.shape == one.shape and np.abs(ruined.astype(int) - one).mean() > 1
        assert np.array_equal(reduced(one, 64), one) and not np.array_equal(reduced(one, 32), one)
