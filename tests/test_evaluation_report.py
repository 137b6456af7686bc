"""Baselines, ablations and their report: equal budgets, sentences that follow from the figures, whole pages."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.data.recipe import TABLE_1
from instruct_imagen.data.world_tasks import RAW
from instruct_imagen.evaluation import ablations
from instruct_imagen.evaluation.ablations import (
    Options,
    Task,
    check_manifest,
    compare,
    do_all,
    examples_seen,
    is_trained,
)
from instruct_imagen.evaluation.bootstrap import average_difference_interval, average_interval, mean_interval
from instruct_imagen.evaluation.claims import IN_DOMAIN, REWORDED, THREE_CONDITIONS, ZERO_SHOT, check_claims, outcome_of
from instruct_imagen.evaluation.methods import METHODS, SINGLE_TASKS, plan
from instruct_imagen.evaluation.paper import TABLE_3, TABLE_4, TABLE_4_AVERAGES
from instruct_imagen.evaluation.report import build, main
from instruct_imagen.evaluation.report_pages import Figure, Section, Table, html_page, markdown
from instruct_imagen.evaluation.results import Results, read_results
from instruct_imagen.evaluation.suites import SUITES, EvaluationError
from instruct_imagen.presets import get_preset

COUNT = 6


def write_results(folder, name, o_of_task, suites=("in_domain", "zero_shot", "three_conditions", "held_out_wording")):
    """What an evaluation leaves behind, with these levels of O."""
    scores = {}
    for suite in suites:
        scores[suite] = {}
        for task in SUITES[suite].tasks:
            levels = np.full(COUNT, o_of_task(task.name))
            levels[0] = max(0.0, levels[0] - 0.1)
            mean = float(levels.mean())
            scores[suite][task.name] = {
                "figure": mean, "o": mean, "sc": mean, "pq": 1.0, "ceiling": 0.9, "ceiling_at_size": 0.8, "floor": 0.05,
                "count": COUNT, "interval": list(mean_interval(levels)), "copied": 0.0,
                "continuous": {"sc": mean, "pq": 1.0, "o": mean}, "copies": {"sc": 0.1, "pq": 1.0, "o": 0.2},
                "kid": 0.1, "kid_of_truth": 0.0, "sc_interval": [0, 1], "pq_interval": [1, 1],
                "conditions": {c.name: {"level": mean, "ceiling_at_size": 0.9, "floor": 0.1} for c in task.conditions},
            }  # fmt: skip
            lines = [json.dumps({"key": f"{task.name}/{k}", "o": float(v)}) for k, v in enumerate(levels)]
            (folder / name / "verdicts").mkdir(parents=True, exist_ok=True)
            (folder / name / "verdicts" / f"{task.name}.jsonl").write_text("\n".join(lines) + "\n")
            (folder / name / "images" / task.name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), "red").save(folder / name / "images" / task.name / "0.png")
    (folder / name / "scores.json").write_text(json.dumps(scores))


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "scores"
    write_results(folder, "single_task", lambda task: 0.4, ("in_domain",))
    write_results(folder, "multi_task", lambda task: 0.0 if task == "style_transfer" else 0.3)
    write_results(folder, "instruct_without_stage1", lambda task: 0.5)
    write_results(
        folder, "instruct", lambda task: 0.4 if task in THREE_CONDITIONS else 0.8 if "reworded" not in task else 0.7
    )
    write_results(folder, "instruct_middle", lambda task: 0.8)
    write_results(folder, "templates_1", lambda task: 0.6)
    return read_results(folder)


def test_budgets_are_equal():
    preset = get_preset("micro")
    runs = {run.name: run for run in plan(preset).runs}
    pretrain, stage1, stage2 = preset.stages
    total = sum(stage.steps * stage.batch_size for stage in preset.stages)
    assert examples_seen(preset.stages, sum(stage.steps for stage in preset.stages)) == total >= 100_000
    assert examples_seen(preset.stages, pretrain.steps + 1) == pretrain.steps * pretrain.batch_size + stage1.batch_size
    assert stage1.batch_size == stage2.batch_size, "one stage's steps are worth the other's"
    for name, run in runs.items():
        assert run.parent == "" or run.parent in list(runs)[: list(runs).index(name)]
        if name.endswith("_share"):
            continue
        steps = sum(stage.steps for stage in run.preset.stages)
        expected = {"base": pretrain.steps, "stage1": pretrain.steps + stage1.steps}
        assert steps == expected.get(name, pretrain.steps + stage1.steps + stage2.steps), name
    assert len([name for name in runs if name.startswith("single_")]) == 16


def test_short_single_task_models_see_what_the_mixture_holds_of_their_task():
    preset = get_preset("micro")
    runs = {run.name: run.preset.stages for run in plan(preset, ["single_task_share", "multi_task"]).runs}
    whole = runs["multi_task"][1]
    for task in SINGLE_TASKS:
        (entry,) = (entry for entry in TABLE_1 if entry.name == task)
        pretrain, stage = runs[f"single_{task}_share"]
        assert pretrain == preset.stages[0]
        assert stage.steps == pytest.approx(entry.ratio * whole.steps, abs=1)
        assert (1 - stage.ema_decay) * stage.steps == pytest.approx((1 - whole.ema_decay) * whole.steps), task
        assert stage.warmup_steps < stage.steps
        assert stage.batch_size == whole.batch_size


def test_methods_differ_in_what_they_are_named_for():
    runs = {run.name: run for run in plan(get_preset("debug")).runs}
    presets = {name: run.preset for name, run in runs.items()}
    assert presets["instruct"] == get_preset("debug")
    assert presets["instruct_middle"].model.context_places == "middle"
    assert replace(presets["instruct_middle"], model=presets["instruct"].model) == presets["instruct"]
    assert [presets[name].data.num_templates for name in ("multi_task", "templates_1", "templates_10")] == [RAW, 1, 10]
    assert [stage.stage for stage in presets["instruct_without_stage1"].stages] == ["pretrain", "stage2"]
    assert [entry.name for entry in presets["single_depth"].data.stage2] == ["depth"]
    for method in METHODS.values():
        assert set(method.runs.values()) <= set(runs)
    with pytest.raises(EvaluationError, match="pre-training"):
        plan(presets["base"])


def test_bare_pictures_keep_their_order_where_instructions_take_any_marker():
    runs = plan(get_preset("micro")).runs
    renumbered = {run.name for run in runs if any(stage.any_markers for stage in run.preset.stages)}
    raw = {run.name for run in runs if run.preset.data.num_templates == RAW}
    assert raw >= {"base", "multi_task", "single_style_transfer"}
    assert renumbered == {run.name for run in runs} - raw


def test_a_part_of_the_methods_needs_a_part_of_the_runs():
    preset = get_preset("micro")
    assert [run.name for run in plan(preset, ["templates_1"]).runs] == ["base", "stage1", "templates_1"]
    assert [method.name for method in plan(preset, ["instruct", "multi_task"]).methods] == ["multi_task", "instruct"]
    assert len(plan(preset).runs) == 24
    with pytest.raises(EvaluationError, match="no method 'best'"):
        plan(preset, ["best"])


def test_a_folder_keeps_to_its_comparison(tmp_path):
    options = Options(tmp_path, get_preset("debug"), count=2)
    check_manifest(options)
    check_manifest(options)
    for other in (replace(options, seed=1), replace(options, count=3), replace(options, preset=get_preset("micro"))):
        with pytest.raises(EvaluationError, match="another"):
            check_manifest(other)
    (tmp_path / "ablations.json").write_text("{")
    with pytest.raises(EvaluationError, match="damaged"):
        check_manifest(options)


def written(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_tasks_wait_for_what_they_need_and_end_with_one_that_fails(tmp_path, jobs: int):
    first, second, third, never = (tmp_path / name for name in ("first", "second", "third", "never"))
    tasks = [
        Task(partial(written, second, "b"), second.is_file, first.is_file),
        Task(partial(written, first, "a"), first.is_file),
    ]
    assert do_all(tasks, jobs)
    assert (first.read_text(), second.read_text()) == ("a", "b")
    written(first, "done before")
    failing = Task(partial(written, first, "c"), never.is_file)
    later = Task(partial(written, third, "d"), third.is_file, never.is_file)
    assert not do_all([tasks[0], failing, later], jobs)
    assert first.read_text() == "c" and not third.exists()
    assert not do_all([Task(partial(written, third, "e"), third.is_file)], jobs, deadline=0.0)
    assert not third.exists()


def failing() -> None:
    raise EvaluationError("the pack is missing")


@pytest.mark.slow
def test_a_job_that_fails_ends_the_comparison(tmp_path, capfd):
    never = tmp_path / "never"
    with pytest.raises(EvaluationError, match="has failed"):
        do_all([Task(failing, never.is_file)], jobs=2)
    assert "ablations: the pack is missing" in capfd.readouterr().err


def running(path: Path) -> None:
    written(path, str(os.getpid()))
    time.sleep(600)


@pytest.mark.slow
def test_a_comparison_that_is_stopped_leaves_no_job_behind(tmp_path, monkeypatch):
    started, never = tmp_path / "started", tmp_path / "never"
    job = Task(partial(running, started), never.is_file)

    def stop() -> None:
        while not (started.is_file() and started.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ablations, "compare", lambda *_: do_all([job], jobs=2))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        threading.Thread(target=stop).start()
        assert ablations.main(["--out", str(tmp_path), "--jobs", "2"]) == 130
    finally:
        signal.signal(signal.SIGTERM, handler)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@pytest.mark.slow
def test_a_comparison_trains_stops_resumes_and_reports(tmp_path):
    options = Options(tmp_path, get_preset("debug", ["stages.*.steps=2"]), count=2, steps=1)
    runs = plan(options.preset).runs
    assert not compare(options, minutes=0.02)
    trained = [run.name for run in runs if is_trained(options, run)]
    assert len(trained) < len(runs)
    assert compare(options)
    assert all(is_trained(options, run) for run in runs)
    assert not list(tmp_path.glob("runs/*/checkpoints"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scores/**/*.json")}
    assert len([path for path in before if path.name == "scores.json"]) == len(METHODS)
    assert compare(options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("scores/**/*.json")} == before
    lost = tmp_path / "scores/instruct/tasks/zero_shot/multi_subject.json"
    lost.unlink()
    anchors = {path: path.stat().st_mtime_ns for path in (tmp_path / "anchors").iterdir()}
    assert compare(options)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "anchors").iterdir()} == anchors, "measured once"
    assert lost.is_file() and {path for path in before if path.stat().st_mtime_ns != before[path]} == {lost}
    assert main([str(tmp_path), "--pack", "builtin"]) == 0
    assert "Trainings" in (tmp_path / "report.md").read_text()


def test_averages_weigh_tasks_equally_and_differences_are_paired():
    easy, hard = np.ones(100), np.zeros(10)
    assert average_interval([easy, hard]) == (0.5, 0.5)
    rng = np.random.default_rng(0)
    base = rng.random(80)
    low, high = average_difference_interval([(base + 0.2, base), (base[:40] + 0.4, base[:40])])
    assert low == pytest.approx(0.3) and high == pytest.approx(0.3)
    for wrong in ([], [([1, 2], [1])], [([], [])]):
        with pytest.raises(ValueError, match="at least one|equally"):
            average_difference_interval(wrong)


def test_the_papers_averages_follow_from_its_rows():
    rows = [TABLE_4[task] for task in IN_DOMAIN]
    for column in ("single_task", "multi_task", "prior", "instruct"):
        mean = np.mean([getattr(row, column) for row in rows])
        assert mean == pytest.approx(getattr(TABLE_4_AVERAGES["in_domain"], column), abs=0.01), column
    assert np.mean([TABLE_4[task].instruct for task in ZERO_SHOT]) == pytest.approx(0.59, abs=0.01)
    without_transfer = np.mean([TABLE_4[task].instruct for task in IN_DOMAIN if task != "style_transfer"])
    assert without_transfer == pytest.approx(TABLE_3["in_domain"][1], abs=0.01)


def test_one_evaluation_is_a_report_of_the_instructed_model(tmp_path):
    write_results(tmp_path, "out", lambda task: 0.7, ("in_domain",))
    found = read_results(tmp_path / "out")
    assert list(found) == ["instruct"] and found["instruct"].average(IN_DOMAIN) == pytest.approx(0.7 - 0.1 / COUNT)
    with pytest.raises(EvaluationError, match="evaluate into it first"):
        read_results(tmp_path / "none")


def test_claims_say_what_the_figures_say(results):
    claims = {claim.text: claim for claim in check_claims(results)}
    gap = claims["“instruct, with stage 1” is ahead of “single-task models” on in-domain average"]
    assert gap.outcome == "holds" and gap.ours == pytest.approx(0.4) and "+0.40" in gap.sentence
    assert "+0.24" in gap.sentence and f"{0.4 / 0.24:.0%}" in gap.sentence
    assert gap.sentence.endswith("and that it is as wide here holds.")
    middle = claims[
        "“instruct, with stage 1” is ahead of “context attention in the middle block only” on in-domain average"
    ]
    assert middle.outcome == "is undecided"
    three = next(claim for text, claim in claims.items() if "three conditions" in text)
    assert three.outcome == "does not hold" and three.ours == pytest.approx(0.49, abs=0.02)
    aim = next(claim for text, claim in claims.items() if "reaches 0.76 in the in-domain average" in text)
    assert aim.outcome == "holds" and "above the aim" in aim.sentence
    words = next(claim for text, claim in claims.items() if "never saw" in text)
    assert words.outcome == "does not hold" and words.ours == pytest.approx(-0.1, abs=0.01)
    assert not any("10 templates" in text for text in claims), "what was not evaluated is not judged"
    assert [outcome_of(i) for i in ((0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1))] == [
        "holds",
        "is undecided",
        "does not hold",
    ]


def test_reversed_figures_reverse_the_sentences(results):
    swapped = dict(results)
    swapped["instruct"], swapped["single_task"] = (
        replace(results["single_task"], name="instruct"),
        replace(results["instruct"], name="single_task"),
    )
    claims = {claim.text: claim for claim in check_claims(swapped)}
    gap = claims["“instruct, with stage 1” is ahead of “single-task models” on in-domain average"]
    assert gap.outcome == "does not hold" and gap.ours == pytest.approx(-0.4)


def test_report_stands_alone_and_holds_every_table(results, builtin_pack, tmp_path):
    sections = build(results, builtin_pack)
    titles = [section.title for section in sections]
    assert {"The paper's claims, here", "Table 4 of the paper, side by side", "Pictures"} <= set(titles)
    page = html_page("Report", sections)
    assert not re.search(r'(?:src|href)="(?!data:)', page) and "<script" not in page
    assert page.count("<table>") == sum(len(section.tables) for section in sections)
    grids = [figure.name for section in sections for figure in section.figures if figure.name.startswith("grid_")]
    assert len(grids) == len(IN_DOMAIN) + len(ZERO_SHOT) + len(THREE_CONDITIONS) + len(REWORDED)
    for section in sections:
        for table in section.tables:
            assert all(len(row) == len(table.header) for row in table.rows), table.title
    assert main([str(tmp_path / "scores"), "--pack", "builtin", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    for name in re.findall(r"\]\((figures/[^)]+)\)", text):
        assert Image.open(tmp_path / "out" / name).size[0] > 100


def test_pages_escape_what_they_are_given():
    section = Section(
        "<b>", ("a & b",), ("x < y",), (Table("t|t", ("h",), (("a|b",),)),), (Figure("f", '"c"', b"png"),)
    )
    page, text = html_page("<i>", [section]), markdown("i", [section])
    assert "<b>" not in page and "<i>" not in page and "a &amp; b" in page and "&quot;c&quot;" in page
    assert "| a\\|b |" in text


def test_results_that_cannot_be_compared_are_refused(results, tmp_path, capsys):
    folder = tmp_path / "scores"
    (folder / "instruct" / "verdicts" / "depth.jsonl").write_text('{"o": 1}\n')
    with pytest.raises(EvaluationError, match="different numbers"):
        read_results(folder)
    (folder / "instruct" / "verdicts" / "depth.jsonl").write_text("no json\n")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_results(folder)
    (folder / "instruct" / "scores.json").write_text("[]")
    with pytest.raises(EvaluationError, match="cannot be read"):
        Results.read(folder / "instruct")
    assert main([str(tmp_path / "nothing")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("report: ") and "Traceback" not in message
