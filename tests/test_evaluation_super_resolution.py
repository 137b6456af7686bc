"""What super-resolution keeps: the measures against independent computations, the cases, and the comparison."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from instruct_imagen.evaluation.judges.identity import IdentityJudge
from instruct_imagen.evaluation.similarity import (
    MAX_PSNR_DB,
    feature_distance,
    kernel_distance,
    psnr,
    structural_distance,
)
from instruct_imagen.evaluation.suites import EvaluationError
from instruct_imagen.evaluation.super_resolution import enlargement_cases, main
from instruct_imagen.world import glyph_split

DISTANCES = (structural_distance, feature_distance)


@pytest.fixture(scope="module")
def picture(builtin_pack) -> np.ndarray:
    return enlargement_cases("edit", builtin_pack, 64, 1)[0].truth


def noisy(picture: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_psnr_counts_the_region_alone(picture):
    changed = picture.copy()
    changed[:32] = 255 - changed[:32]
    lower = np.zeros((64, 64), bool)
    lower[32:] = True
    assert psnr(picture, changed, lower) == MAX_PSNR_DB
    assert psnr(picture, np.clip(picture.astype(int) + 10, 0, 255).astype(np.uint8)) >= 20 * np.log10(25.5)
    black, grey = np.zeros_like(picture), np.full_like(picture, 51)
    assert psnr(black, grey) == pytest.approx(20 * np.log10(5))


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_zero_for_equal_pictures_and_grow_with_damage(picture, distance):
    assert distance(picture, picture) == pytest.approx(0, abs=1e-6)
    blurred = [distance(picture, cv2.GaussianBlur(picture, (0, 0), s)) for s in (0.6, 1.2, 2.4)]
    spoiled = [distance(picture, noisy(picture, s)) for s in (4, 12, 36)]
    for values in (blurred, spoiled):
        assert 0 < values[0] < values[1] < values[2]
    assert distance(picture, picture[::-1]) > max(blurred[0], spoiled[0])


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_look_at_the_region(picture, distance):
    changed = picture.copy()
    changed[:, 40:] = np.random.default_rng(1).integers(0, 256, changed[:, 40:].shape)
    away = np.zeros((64, 64), bool)
    away[:, :16] = True
    assert distance(picture, changed, away) == pytest.approx(0, abs=1e-5)
    assert distance(picture, changed, ~away) > distance(picture, changed) > 0.05
    with pytest.raises(ValueError, match="empty region"):
        distance(picture, changed, np.zeros((64, 64), bool))


def test_structural_similarity_touches_nothing_beyond_the_region(picture):
    region = np.zeros((64, 64), bool)
    region[8:40, 8:40] = True
    one, two = noisy(picture, 6), noisy(picture, 6)
    two[~region] = 0
    blurred = cv2.GaussianBlur(picture, (0, 0), 1.0)
    assert structural_distance(one, blurred, region) == pytest.approx(structural_distance(two, blurred, region))


def test_structural_distance_agrees_with_a_direct_computation():
    """One scale (32 px), every window summed by itself."""
    rng = np.random.default_rng(3)
    one = cv2.GaussianBlur(rng.integers(0, 256, (31, 31, 3), dtype=np.uint8), (0, 0), 1.0)
    two = cv2.GaussianBlur(one, (0, 0), 0.7)
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    values = []
    for y in range(31):
        for x in range(31):
            rows, columns = slice(max(0, y - 5), y + 6), slice(max(0, x - 5), x + 6)
            weights = kernel[max(0, 5 - y) : 36 - y, max(0, 5 - x) : 36 - x]
            weights = weights[: one[rows].shape[0], : one[:, columns].shape[1], None] / weights.sum()
            a, b = one[rows, columns] / 255.0, two[rows, columns] / 255.0
            mean_a, mean_b = (weights * a).sum((0, 1)), (weights * b).sum((0, 1))
            variances = (weights * (a - mean_a) ** 2).sum((0, 1)) + (weights * (b - mean_b) ** 2).sum((0, 1))
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum((0, 1))
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            values.append(luminance * (2 * covariance + 9e-4) / (variances + 9e-4))
    assert structural_distance(one, two) == pytest.approx(1 - np.mean(values), abs=1e-4)


def test_kernel_distance_tells_sets_apart():
    rng = np.random.default_rng(0)
    truth, same, other = rng.normal(0, 1, (80, 6)), rng.normal(0, 1, (80, 6)), rng.normal(0.8, 1.4, (80, 6))
    assert abs(kernel_distance(same, truth)) < 0.2 < kernel_distance(other, truth)
    with pytest.raises(ValueError, match="two pictures"):
        kernel_distance(truth[:1], truth)


def test_cases_are_held_out_and_say_what_is_kept(builtin_pack):
    edits, subjects = (enlargement_cases(task, builtin_pack, 64, 6) for task in ("edit", "subject"))
    for case in edits:
        source = np.asarray(case.instruction.references[0].image)
        assert case.kept is not None and np.array_equal(source[case.kept], case.truth[case.kept])
        assert not np.array_equal(source, case.truth)
    for case in subjects:
        assert case.world.scene.glyphs[0] in case.candidates
        assert all(glyph_split(glyph) == "held_out" for glyph in case.world.scene.glyphs)
    again = enlargement_cases("subject", builtin_pack, 64, 3)
    assert [c.instruction.text for c in again] == [c.instruction.text for c in subjects[:3]]
    with pytest.raises(EvaluationError, match="no task"):
        enlargement_cases("mask", builtin_pack, 64, 1)


def test_subjects_are_told_at_full_size(font_pack):
    cases = enlargement_cases("subject", font_pack, 128, 8)
    judge = IdentityJudge(font_pack, 128)
    right = [judge.choose(case.truth, case.candidates) == case.world.scene.glyphs[0] for case in cases]
    others = [cases[index - 1].truth for index in range(len(cases))]
    wrong = [judge.choose(p, c.candidates) == c.world.scene.glyphs[0] for p, c in zip(others, cases, strict=True)]
    assert np.mean(right) >= 0.85
    assert np.mean(wrong) <= 0.4


def test_models_are_compared_on_the_same_pictures(cascade_folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "measured"
    models = ("--model", f"one={cascade_folder}", "--model", f"two={cascade_folder}")
    common = ("--out", str(out), "--count", "2", "--steps", "2", "--noise-level", "0", "--pack", "builtin")
    assert main([*models, *common, "--drawn"]) == 0
    assert "PSNR where kept" in capsys.readouterr().out
    found = json.loads((out / "super_resolution.json").read_text())
    assert found["size_px"] == 64
    scores = {(s["small"], s["task"], s["measure"], s["model"]): s for s in found["scores"]}
    assert scores["true", "edit", "PSNR where kept", "truth"]["figure"] == MAX_PSNR_DB
    assert scores["true", "subject", "subject told", "truth"]["figure"] == 1
    for measure in ("PSNR overall", "feature distance where kept", "structural distance where kept"):
        one, two = (scores["true", "edit", measure, name] for name in ("one", "two"))
        assert one["figure"] == two["figure"] and two["difference"] == [0, 0] and one["difference"] is None
    assert ("drawn", "subject", "distance of sets", "one") in scores
    assert ("drawn", "subject", "PSNR overall", "one") not in scores
    assert {path.name for path in out.iterdir()} == {"super_resolution.json", "edit.png", "subject.png"}


def test_bad_comparisons_end_with_2(model_folder: Path, cascade_folder: Path, tmp_path: Path, capsys):
    common = ["--out", str(tmp_path / "out"), "--pack", "builtin"]
    assert main(["--model", str(model_folder), *common]) == 2
    assert main(["--model", "none", *common]) == 2
    assert main(["--model", f"a={cascade_folder}", "--model", f"a={cascade_folder}", *common]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "no super-resolution" in lines[0] and "no model" in lines[1] and "same name" in lines[2]
    assert not (tmp_path / "out").exists()
