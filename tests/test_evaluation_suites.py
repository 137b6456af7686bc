"""Suites, runner and scores: fixed instructions, truth at the ceiling, noise at the floor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.data.templates import templates
from instruct_imagen.evaluation import anchor_store
from instruct_imagen.evaluation.anchor_store import AnchorStore
from instruct_imagen.evaluation.bootstrap import difference_interval, mean_interval
from instruct_imagen.evaluation.cases import suite_cases
from instruct_imagen.evaluation.judges.style import StyleJudge
from instruct_imagen.evaluation.judging import Judges
from instruct_imagen.evaluation.runner import Drawn, Evaluator, print_scores, run_suite, run_suites
from instruct_imagen.evaluation.scoring import anchors
from instruct_imagen.evaluation.suites import SUITES, EvaluationError, get_suite
from instruct_imagen.world import GENERIC_WORDS, glyph_split, style_phrases, style_split

QUICK = get_suite("quick")
PINNED = {
    "mask": "37ed1f14edb0",
    "edge": "f3f3670640c8",
    "style": "55a1e3787d97",
    "style_held_out": "723a88627d9a",
    "subject": "9482082ed025",
    "subject_without_reference": "9482082ed025",
    "text": "e4b82c2100ee",
}


def small(num, *names):
    return replace(QUICK, num_per_task=num, tasks=tuple(QUICK.task(name) for name in names) or QUICK.tasks)


def digest(cases):
    result = hashlib.sha256()
    for case in cases:
        result.update(case.instruction.text.encode() + repr((case.key, case.seed, case.candidates)).encode())
        result.update(case.truth.tobytes())
        for reference in case.instruction.references:
            result.update(reference.text.encode() + reference.image.tobytes())
    return result.hexdigest()[:16]


@pytest.fixture(scope="module")
def style_judge(builtin_pack):
    return StyleJudge.calibrated(builtin_pack, scenes_per_style=10)


class Truth:
    """A perfect model: it has seen the suite."""

    def __init__(self, suite, pack):
        self.known = {}
        for task in suite.tasks:
            self.known |= {(c.instruction.text, c.seed): c.truth for c in suite_cases(task, suite, pack)}
        self.dropped = []

    def __call__(self, instructions, seeds, drop_context=False):
        self.dropped.append(drop_context)
        return [self.known[i.text, seed] for i, seed in zip(instructions, seeds, strict=True)]


def noise(instructions, seeds, drop_context=False):
    return [np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8) for seed in seeds]


def test_suites_are_known_by_name():
    assert SUITES["quick"] is QUICK and QUICK.num_per_task == 64
    names = "mask edge style style_held_out subject subject_without_reference text".split()
    assert [task.name for task in QUICK.tasks] == names
    with pytest.raises(EvaluationError, match="quick"):
        get_suite("fast")
    with pytest.raises(EvaluationError, match="style_held_out"):
        QUICK.task("depth")


def test_instructions_are_always_the_same(builtin_pack):
    """Pinned: scores of different models and days are only comparable while this holds."""
    found = {}
    for task in QUICK.tasks:
        cases = suite_cases(task, small(4), builtin_pack)
        assert digest(cases) == digest(suite_cases(task, small(4), builtin_pack))
        texts = repr([(case.instruction.text, case.candidates, case.seed) for case in cases])
        found[task.name] = hashlib.sha256(texts.encode()).hexdigest()[:12]
    assert found == PINNED


def test_first_cases_do_not_depend_on_their_number(builtin_pack):
    for task in QUICK.tasks:
        assert digest(suite_cases(task, small(5), builtin_pack)[:2]) == digest(
            suite_cases(task, small(2), builtin_pack)
        )


def test_each_task_asks_for_what_it_measures(builtin_pack):
    cases = {task.name: suite_cases(task, small(12), builtin_pack) for task in QUICK.tasks}
    for name, found in cases.items():
        assert all(len(case.world.scene.subjects) == 1 for case in found)
        wanted = "held_out" if name.startswith("subject") else "train"
        assert all(glyph_split(glyph) == wanted for case in found for glyph in case.world.scene.glyphs)
        assert [len(case.instruction.references) for case in found] == [0 if name == "text" else 1] * 12
        styles = {case.world.scene.style.name for case in found}
        if not name.startswith("style"):
            assert styles == {"plain"}
            continue
        assert {style_split(style) for style in styles} == {"held_out" if name == "style_held_out" else "train"}
        for case in found:
            words = [case.instruction.text, *(reference.text for reference in case.instruction.references)]
            phrases = style_phrases(case.world.scene.style)
            assert not any(phrase.lower() in text.lower() for phrase in phrases for text in words)
    for case in cases["subject"]:
        assert any(word in case.instruction.text.lower() for word in GENERIC_WORDS)
        assert builtin_pack[case.world.scene.glyphs[0]].name not in case.instruction.text.lower()
        assert not np.array_equal(np.asarray(case.instruction.references[0].image), case.truth)
    pairs = zip(cases["subject"], cases["subject_without_reference"], strict=True)
    assert all(digest([a]) == digest([replace(b, key=a.key)]) for a, b in pairs)
    for case in cases["text"]:
        assert len(case.candidates) == 16 and case.world.scene.glyphs[0] in case.candidates
    for case in cases["edge"]:
        values = np.asarray(case.instruction.references[0].image)
        assert set(np.unique(values)) == {0, 255} and (values[..., 0] > 0).sum() >= 48


def test_wordings_are_those_of_training(builtin_pack):
    """A template's fixed words, in order, occur in the instruction: one of the training split's must fit."""
    from instruct_imagen.data.templates import _SLOT

    for task in QUICK.tasks:
        parts = [[part.lower() for part in _SLOT.split(t.text)[::3] if part] for t in templates(task.task, "train")]
        for case in suite_cases(task, small(4), builtin_pack):
            text = case.instruction.text.lower()
            assert any(all(part.strip(" .") in text for part in option) for option in parts), text


def test_truth_reaches_the_ceiling_and_noise_does_not(builtin_pack, style_judge, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(StyleJudge, "calibrated", lambda pack: style_judge)
    suite = small(6)
    truth = Truth(suite, builtin_pack)
    scores = run_suite(suite, truth, builtin_pack, tmp_path / "truth", progress=False)
    assert truth.dropped == [task.drop_context for task in suite.tasks]
    for name, score in scores["quick"].items():
        assert score["figure"] == score["ceiling"] > score["floor"], (name, score)
        assert score["ceiling"] >= (0.75 if name.startswith("style") else 0.8), (name, score)
    suite = small(6, "mask", "edge", "style", "subject")
    worst = run_suite(suite, noise, builtin_pack, tmp_path / "noise")
    for name, score in worst["quick"].items():
        assert score["figure"] <= max(score["floor"], 0.4) + 0.15, (name, score)
        assert score["copied"] == 0
    assert "quick/mask" in capsys.readouterr().err
    print_scores(scores)
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + len(QUICK.tasks) and "ceiling" in table[0] and table[1].startswith("mask")


def test_scores_and_pictures_are_written(builtin_pack, tmp_path):
    suite = small(3, "edge", "text")
    returned = run_suite(suite, Truth(suite, builtin_pack), builtin_pack, tmp_path, progress=False)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written == returned and list(written) == ["quick"] and list(written["quick"]) == ["edge", "text"]
    for score in written["quick"].values():
        assert list(score) == ["figure", "ceiling", "ceiling_at_size", "floor", "count", "interval", "copied"]
        low, high = score["interval"]
        assert score["count"] == 3 and 0 <= low <= score["figure"] <= high <= 1
    assert not list(tmp_path.glob(".scores*"))
    first = suite_cases(QUICK.task("edge"), suite, builtin_pack)[0]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "images/edge/0.png")), first.truth)
    assert {path.name for path in tmp_path.glob("*.png")} == {"contact_edge.png", "contact_text.png"}


def test_an_interrupted_evaluation_keeps_the_tasks_that_are_done(builtin_pack, tmp_path):
    suite = small(3, "edge", "text")
    truth = Drawn(Truth(suite, builtin_pack))

    def interrupted(task, cases):
        if task.name == "text":
            raise KeyboardInterrupt
        return truth(task, cases)

    with pytest.raises(KeyboardInterrupt):
        run_suites((suite,), interrupted, builtin_pack, tmp_path, progress=False)
    assert list(json.loads((tmp_path / "scores.json").read_text())["quick"]) == ["edge"]


def test_anchors_are_measured_once_for_all_models(builtin_pack, tmp_path, monkeypatch):
    edited = replace(get_suite("editing"), num_per_task=3)
    bare = replace(get_suite("in_domain"), num_per_task=3, tasks=(get_suite("in_domain").task("text"),))
    suites, store, measured = (edited, bare), AnchorStore(tmp_path / "anchors"), []
    monkeypatch.setattr(anchor_store, "anchors", lambda *given: measured.append(given) or anchors(*given))

    def scores(name, store, suites=suites):
        out, evaluator = tmp_path / name, Evaluator(builtin_pack, store)
        return run_suites(suites, Drawn(noise), builtin_pack, out, progress=False, evaluator=evaluator)

    expected = scores("without", None)
    assert not measured
    assert scores("first", store) == expected
    assert len(measured) == 2
    assert scores("second", store) == expected
    assert len(measured) == 2
    assert expected["in_domain"]["text"]["copies"] is None and expected["editing"]["edit"]["copies"] is not None
    scores("fewer", store, (replace(bare, num_per_task=2),))
    assert len(measured) == 3, "other instructions have other anchors"
    for content in (b"", b"PK", next((tmp_path / "anchors").glob("edit-*")).read_bytes()[:-2000]):
        for file in (tmp_path / "anchors").glob("edit-*"):
            file.write_bytes(content)
        measured.clear()
        assert scores("damaged", store) == expected
        assert len(measured) == 1, "only what is damaged"
    assert len(list((tmp_path / "anchors").iterdir())) == 3


def test_wrong_generators_and_suites_are_refused(builtin_pack, tmp_path):
    suite = small(2, "edge")

    def run(generate, suite=suite):
        return run_suite(suite, generate, builtin_pack, tmp_path, progress=False)

    with pytest.raises(EvaluationError, match="quick"):
        run(noise, "none")
    with pytest.raises(EvaluationError, match="at least 2"):
        run(noise, small(1))
    with pytest.raises(EvaluationError, match="1 pictures for 2"):
        run(lambda i, s, drop_context=False: noise(i, s)[:1])
    with pytest.raises(EvaluationError, match="float32"):
        run(lambda i, s, drop_context=False: [np.zeros((64, 64, 3), np.float32)] * 2)
    assert not (tmp_path / "scores.json").exists()


def test_outputs_of_any_size_are_judged(builtin_pack):
    cases = suite_cases(QUICK.task("edge"), small(4), builtin_pack)
    doubled = [case.truth.repeat(2, axis=0).repeat(2, axis=1) for case in cases]
    assert np.array_equal(Judges(builtin_pack).figures("edge", doubled, cases), np.ones(4))


def test_bootstrap_covers_the_mean():
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        low, high = mean_interval(rng.normal(0.3, 1.0, 50), num_resamples=400)
        covered.append(low <= 0.3 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99
    assert mean_interval([0.5] * 9) == (0.5, 0.5) and mean_interval([0, 1, 1], seed=4) == mean_interval(
        [0, 1, 1], seed=4
    )
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_paired_differences_cancel_what_instructions_share():
    rng = np.random.default_rng(1)
    hardness = rng.normal(0, 10, 60)
    better = hardness + 1 + rng.normal(0, 0.1, 60)
    low, high = difference_interval(better, hardness)
    assert 0.9 < low < 1 < high < 1.1
    with pytest.raises(ValueError, match="equally long"):
        difference_interval([1, 2], [1])
