"""Conditions, scales and verdicts: each judge can fail, and a picture is as good as its least satisfied condition."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from instruct_imagen.data.world_tasks import RAW
from instruct_imagen.evaluation import conditions, scoring
from instruct_imagen.evaluation.calibrate import (
    ANOTHER,
    TRUE,
    TRUE_KINDS,
    calibrate,
    fulfils,
    gather,
    measure,
)
from instruct_imagen.evaluation.calibration import Scale, read_scales, scale_of, scales_text, shipped_scales
from instruct_imagen.evaluation.cases import READABLE_RELATIONS, suite_cases
from instruct_imagen.evaluation.conditions import PictureSet, Reading, read
from instruct_imagen.evaluation.judges import quality
from instruct_imagen.evaluation.judges.copies import is_copy
from instruct_imagen.evaluation.judges.extractor import count_fidelity, depth_fidelity
from instruct_imagen.evaluation.judges.quality import TrueFeatures, distances, kernel_distance
from instruct_imagen.evaluation.judges.spoiling import RUINS, touched
from instruct_imagen.evaluation.judges.style import StyleJudge
from instruct_imagen.evaluation.judging import copied
from instruct_imagen.evaluation.scoring import Judged, Verdict, anchors, judge
from instruct_imagen.evaluation.suites import ALL, SUITES, Condition, EvaluationError, get_suites
from instruct_imagen.world import glyph_split


@pytest.fixture(scope="module", autouse=True)
def quick_judges(builtin_pack):
    """Fewer calibration pictures: the tests ask for order, not for figures."""
    patch = pytest.MonkeyPatch()
    calibrated = StyleJudge.calibrated.__func__
    patch.setattr(
        StyleJudge, "calibrated", classmethod(lambda cls, pack, **kw: calibrated(cls, pack, scenes_per_style=6, **kw))
    )
    patch.setattr(quality, "NUM_TRUE", 96)
    conditions.pack_judges.cache_clear()
    quality.true_features.cache_clear()
    yield
    patch.undo()
    conditions.pack_judges.cache_clear()
    quality.true_features.cache_clear()


def some_cases(name, pack, num, **changes):
    (suite,) = get_suites(name)
    return suite.tasks[0], suite_cases(replace(suite.tasks[0], **changes), replace(suite, num_per_task=num), pack)


def values(condition, pictures, cases, pack):
    return np.array([r.value for r in read(condition, PictureSet(pictures, pack), cases) if r is not None])


def test_names_stand_for_suites_and_tasks():
    assert [suite.name for suite in get_suites(ALL)] == [name for name in SUITES if name != "quick"]
    (suite,) = get_suites("mask")
    assert suite.name == "in_domain" and [task.name for task in suite.tasks] == ["mask"] and suite.num_per_task >= 100
    (suite,) = get_suites("quick/mask")
    assert suite.name == "quick" and suite.num_per_task == 64
    several = get_suites("mask", "quick/text", "edge", "mask")
    assert [(suite.name, [task.name for task in suite.tasks]) for suite in several] == [
        ("in_domain", ["mask", "edge"]),
        ("quick", ["text"]),
    ]
    names = [task.name for suite in get_suites(ALL) for task in suite.tasks]
    assert len(names) == len(set(names)) == 24
    with pytest.raises(EvaluationError, match="one by one"):
        get_suites("quick", "in_domain")
    for wrong in ("fast", "quick/depth", "in_domain/quick"):
        with pytest.raises(EvaluationError, match="depth|mask"):
            get_suites(wrong)


def assert_same_but_for_words(one, other):
    assert np.array_equal(one.truth, other.truth)
    assert (one.candidates, one.seed) == (other.candidates, other.seed)
    pictures = zip(one.instruction.references, other.instruction.references, strict=True)
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in pictures)


@pytest.mark.parametrize("name", [name for name in SUITES if name != "held_out_wording"])
def test_models_without_instructions_are_asked_for_the_same(name: str, builtin_pack):
    """Also where scenes that no judge could read were replaced."""
    suite = replace(SUITES[name], num_per_task=12)
    for task in suite.tasks:
        cases, raw = (suite_cases(task, suite, builtin_pack, number) for number in (None, RAW))
        for one, other in zip(cases, raw, strict=True):
            assert one.instruction.text != other.instruction.text or not one.instruction.references
            assert not any(reference.text for reference in other.instruction.references)
            assert_same_but_for_words(one, other)


def test_held_out_wordings_change_nothing_else(builtin_pack):
    for name in ("edge", "subject", "face"):
        _, cases = some_cases(name, builtin_pack, 4)
        _, reworded = some_cases(f"reworded_{name}", builtin_pack, 4)
        for one, other in zip(cases, reworded, strict=True):
            assert one.instruction.text != other.instruction.text
            assert_same_but_for_words(one, other)


def test_suites_ask_for_what_their_judges_can_read(builtin_pack):
    for suite in get_suites("all"):
        for task in suite.tasks:
            for case in suite_cases(task, replace(suite, num_per_task=6), builtin_pack):
                scene = case.world.scene
                assert len(scene.subjects) <= 2 and (
                    task.task == "edit" or scene.relation in (None, *READABLE_RELATIONS)
                )
                assert case.styled == (task.styles is not None)
                asked = [condition.kind for condition in task.conditions if case.has(condition)]
                assert asked and ("control" in asked) == bool(case.world.control)
                if task.glyphs == "held_out" and task.task != "face":
                    assert all(glyph_split(glyph) == "held_out" for glyph in scene.glyphs)
                if "identity" in asked:
                    for subject, glyph in enumerate(scene.glyphs):
                        candidates = case.candidates_for(subject)
                        assert glyph in candidates and not set(scene.glyphs) - {glyph} & set(candidates) - {glyph}


def test_three_condition_references_stand_under_their_markers(builtin_pack):
    _, cases = some_cases("subject_edge_style", builtin_pack, 3)
    for case in cases:
        subject, edges, _ = case.instruction.references
        found = np.asarray(edges.image)
        assert set(np.unique(found)) == {0, 255} and np.asarray(subject.image).std() > 0
    _, cases = some_cases("subject_style_mask", builtin_pack, 3)
    for case in cases:
        mask = np.asarray(case.instruction.references[2].image)[..., 0] > 127
        assert np.array_equal(mask, case.world.picture.mask)


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("depth", Condition("control")),
        ("mask", Condition("control")),
        ("edge", Condition("control")),
        ("control_style", Condition("control")),
        ("subject", Condition("identity")),
        ("style_subject", Condition("identity")),
        ("multi_subject", Condition("identity", 1)),
        ("multi_subject", Condition("relation")),
        ("style", Condition("style")),
        ("subject", Condition("ground")),
        ("face", Condition("face")),
        ("style_transfer", Condition("content")),
        ("edit", Condition("inside")),
        ("edit", Condition("outside")),
    ],
)
def test_each_judge_prefers_the_truth(name, condition, builtin_pack):
    _, cases = some_cases(name, builtin_pack, 8)
    cases = [case for case in cases if case.has(condition)]
    truth = [case.truth for case in cases]
    true = values(condition, truth, cases, builtin_pack)
    wrong = values(condition, [*truth[1:], truth[0]], cases, builtin_pack)
    assert ((true >= 0) & (true <= 1 + 1e-9)).all()
    assert true.mean() > wrong.mean() + 0.12, (true, wrong)


def test_count_is_read_from_the_middles_of_subjects():
    centres = np.zeros((64, 64), np.float32)
    centres[20, 20], centres[40, 44] = 0.9, 0.8
    assert count_fidelity(centres, 2) == pytest.approx(0.8)
    assert count_fidelity(centres, 1) == pytest.approx(0.1)
    assert count_fidelity(centres, 3) == 0 and count_fidelity(np.zeros((64, 64), np.float32), 1) == 0


def test_depth_fidelity_is_one_for_equal_and_none_for_even_depth():
    rng = np.random.default_rng(0)
    depth, mask = rng.random((64, 64), dtype=np.float32), rng.random((64, 64)) < 0.3
    assert depth_fidelity(depth, depth, mask) == 1
    assert depth_fidelity(np.full_like(depth, np.median(depth)), depth, mask) == pytest.approx(0, abs=1e-6)
    assert depth_fidelity(1 - depth, depth, mask) == 0
    assert depth_fidelity(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32), mask) == 1


def test_an_unchanged_source_fails_inside_and_passes_outside(builtin_pack):
    _, cases = some_cases("edit", builtin_pack, 8)
    sources = [case.world.edit.source.image for case in cases]
    inside = values(Condition("inside"), sources, cases, builtin_pack)
    truth = values(Condition("inside"), [case.truth for case in cases], cases, builtin_pack)
    assert inside.mean() < truth.mean() - 0.3
    assert (values(Condition("outside"), sources, cases, builtin_pack) == 1).all()
    grey = [np.full((64, 64, 3), 128, np.uint8)] * len(cases)
    assert values(Condition("outside"), grey, cases, builtin_pack).mean() < 0.5


def test_scales_are_fitted_to_what_they_promise():
    rng = np.random.default_rng(0)
    true, wrong = rng.normal(0.8, 0.05, 400), rng.normal(0.3, 0.1, 400)
    scale = Scale.fit(true, wrong)
    assert (true >= scale.full).mean() == pytest.approx(0.9, abs=0.01) and scale.wrong_full <= 0.05
    assert scale.zero < scale.half < scale.full < scale.one and scale.wrong_half == pytest.approx(0.1, abs=0.01)
    assert [scale.level(v) for v in (0.2, scale.half, scale.full)] == [0, 0.5, 1]
    assert scale.score(scale.zero) == 0 and scale.score(scale.one) == 1 and 0 < scale.score(0.5) < 1
    tied = Scale.fit(true, np.where(np.arange(400) < 390, 0.0, 0.5))
    assert tied.level(0.0) == 0 and tied.wrong_half <= 0.1, "readings that many wrong pictures share count for nothing"
    useless = Scale.fit(wrong, wrong)
    assert useless.wrong_full <= 0.06, "a judge that cannot tell gives no full marks to wrong pictures"
    assert Scale.fit(np.ones(9), np.ones(9)).score(1.0) == 1


def test_scales_are_fitted_and_measured_by_the_same_readings(builtin_pack):
    readings = gather(builtin_pack, 8, seed=5, names=("mask", "reworded_mask"))
    assert set(readings) == {"mask", "ground", "quality"}, "the subject is read where there is no control"
    assert {kind: len(values) for kind, values in readings["mask"].items()} == {
        **dict.fromkeys(TRUE_KINDS, 8),
        ANOTHER: 16,
    }
    faults = set(readings["quality"]) - set(TRUE_KINDS)
    assert faults and faults <= set(RUINS)
    scales = calibrate(readings)
    assert set(scales) == set(readings) and scales["mask"].count == 24
    figures = {judge.scale: judge for judge in measure(readings)}
    mask = figures["mask"]
    assert mask.count == 8 and mask.levels[TRUE] > mask.levels[ANOTHER] and mask.told_apart > 0.9


def test_what_happens_to_be_right_is_no_wrong_picture(builtin_pack):
    _, cases = some_cases("text", builtin_pack, 12)
    asked = [Condition("ground"), Condition("count"), Condition("identity")]
    assert all(fulfils(condition, case, case) for condition in asked for case in cases)
    one = next(case for case in cases if len(case.world.scene.subjects) == 1)
    two = next(case for case in cases if len(case.world.scene.subjects) == 2)
    assert not fulfils(Condition("count"), one, two)
    other = next(case for case in cases if case.world.scene.ground.kind != one.world.scene.ground.kind)
    assert not fulfils(Condition("ground"), one, other)
    _, edits = some_cases("edit", builtin_pack, 12)
    ground = next(case for case in edits if case.world.edit.kind == "ground")
    assert fulfils(Condition("inside"), ground, ground) and not fulfils(Condition("outside"), ground, ground)
    with pytest.raises(EvaluationError, match="larger --count"):
        calibrate({"count": {kind: [0.5] for kind in TRUE_KINDS}})


def test_wrong_numbers_and_relations_are_asked_of_true_pictures(builtin_pack):
    readings = gather(builtin_pack, 6, seed=5, names=("multi_subject",))
    for scale in ("count", "relation"):
        assert np.mean(readings[scale][TRUE]) > np.mean(readings[scale][ANOTHER]) + 0.05, scale


def test_judges_that_cannot_tell_are_at_chance():
    values = np.random.default_rng(0).random(400).tolist()
    readings = {"blind": {**dict.fromkeys(TRUE_KINDS, values), ANOTHER: values}}
    (blind,) = measure(readings)
    assert blind.told_apart == pytest.approx(0.5) and blind.levels[TRUE] == blind.levels[ANOTHER] == blind.floor
    assert blind.floor < 0.1, "a judge that cannot tell turns true pictures down"


def test_scales_survive_their_file_and_bad_ones_are_refused(tmp_path):
    scales = shipped_scales()
    path = tmp_path / "scales.json"
    path.write_text(scales_text(scales))
    assert read_scales(path) == scales
    for bad in ("{", '{"x": {"zero": 1}}', "[1]"):
        path.write_text(bad)
        with pytest.raises(EvaluationError, match="holds no scales"):
            read_scales(path)
    with pytest.raises(EvaluationError, match="no scale"):
        scale_of(scales, Reading("nothing", 1.0))


def test_the_least_satisfied_condition_counts():
    def found(level, score):
        return Judged("x", 0.0, level, score)

    verdict = Verdict({"a": found(1.0, 0.9), "b": found(0.5, 0.3)}, found(0.5, 0.64))
    assert (verdict.sc, verdict.pq, verdict.o) == (0.5, 0.5, 0.5)
    assert verdict.sc_score == 0.3 and verdict.o_score == pytest.approx(math.sqrt(0.3 * 0.64))


def test_anchors_are_in_order(builtin_pack):
    task, cases = some_cases("depth", builtin_pack, 6)
    found = anchors(task, cases, 32, builtin_pack, shipped_scales())
    assert found.truth.mean("sc_score") > found.wrong.mean("sc_score")
    assert found.truth_at_size.mean("sc_score") > found.wrong.mean("sc_score")
    assert found.copies is not None and found.copies.mean("o") <= found.truth.mean("o")
    assert found.truth.condition("control") > found.wrong.condition("control")
    assert found.truth.condition("relation") is None


def test_verdicts_do_not_depend_on_the_batch(builtin_pack):
    task, cases = some_cases("style_subject", builtin_pack, 4)
    pictures = [case.truth for case in cases]
    together = judge(task, cases, pictures, builtin_pack, shipped_scales())
    alone = judge(task, cases[2:3], pictures[2:3], builtin_pack, shipped_scales())
    for name, judged in alone.each[0].conditions.items():
        assert judged.value == pytest.approx(together.each[2].conditions[name].value, abs=2e-3)


def test_realism_is_high_within_the_true_pictures_and_low_outside():
    rng = np.random.default_rng(0)
    true = TrueFeatures.of(rng.normal(0, 1, (300, 8)))
    near, far = true.realism(rng.normal(0, 1, (50, 8))), true.realism(rng.normal(0, 1, (50, 8)) + 6)
    assert np.median(near) > 0.8 and far.max() < 0.5
    one, two = rng.random((5, 3)), rng.random((4, 3))
    assert np.allclose(distances(one, two), np.linalg.norm(one[:, None] - two[None], axis=2))


def test_kernel_distance_equals_its_definition():
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, (6, 4)), rng.normal(0.5, 1, (5, 4))

    def k(x, y):
        return (x @ y / 4 + 1) ** 3

    within = [np.mean([k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]) for a in (one, two)]
    across = np.mean([k(x, y) for x in one for y in two])
    assert kernel_distance(one, two) == pytest.approx(sum(within) - 2 * across)
    same = kernel_distance(rng.normal(0, 1, (200, 4)), rng.normal(0, 1, (200, 4)))
    assert abs(same) < 0.3 < kernel_distance(rng.normal(0, 1, (200, 4)), rng.normal(1, 1, (200, 4)))


def test_pasted_references_are_found_and_true_pictures_are_not(builtin_pack):
    for name in ("subject", "style_transfer", "edit", "mask"):
        _, cases = some_cases(name, builtin_pack, 8)
        assert not any(copied([case.truth for case in cases], cases)), name
    _, cases = some_cases("subject", builtin_pack, 6)
    references = [np.asarray(case.instruction.references[0].image) for case in cases]
    assert all(copied(references, cases))
    assert all(copied([np.ascontiguousarray(r[:, ::-1]) for r in references], cases)), "mirrored"
    assert all(copied([np.roll(r, 2, axis=1) for r in references], cases)), "shifted"
    pasted = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pasted[8:40, 20:52] = references[0].reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert is_copy(pasted, references[0]) and not is_copy(pasted, references[1])


def test_a_slight_touch_costs_little(builtin_pack):
    _, cases = some_cases("edit", builtin_pack, 6)
    rng = np.random.default_rng(0)
    pictures = [touched(case.truth, rng) for case in cases]
    assert values(Condition("outside"), pictures, cases, builtin_pack).min() > 0.7


def test_the_verdict_of_other_packs_uses_the_same_scales(builtin_pack):
    """No scale is missing for any condition of any suite."""
    for suite in get_suites("all"):
        for task in suite.tasks:
            cases = suite_cases(task, replace(suite, num_per_task=2), builtin_pack)
            verdicts = scoring.judge(task, cases, [case.truth for case in cases], builtin_pack, shipped_scales())
            assert all(0 <= verdict.o <= 1 for verdict in verdicts.each)


def test_a_turned_picture_is_not_kept(builtin_pack):
    """Beside pictures of other instructions, which keep nothing, any ground of like colours would pass in part."""
    _, cases = some_cases("edit", builtin_pack, 12)
    readings = gather(builtin_pack, 3, seed=5, names=("edit",))["outside"]
    others = values(Condition("outside"), [case.truth for case in [*cases[1:], cases[0]]], cases, builtin_pack)
    assert np.mean(readings[ANOTHER]) > others.mean() + 0.05 and np.median(readings[ANOTHER]) < 0.8
    assert np.mean(readings[TRUE]) == 1
