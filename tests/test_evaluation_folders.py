"""Suites on disk: exports that are read back, pictures of other systems, ImagenHub's layout, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.cli import main
from instruct_imagen.data.shards import JsonlSource
from instruct_imagen.evaluation import model
from instruct_imagen.evaluation.cases import suite_cases
from instruct_imagen.evaluation.folders import FolderPictures, experiment, uid, write_method, write_suites
from instruct_imagen.evaluation.model import counted, trained_templates
from instruct_imagen.evaluation.suites import EvaluationError, get_suites
from instruct_imagen.presets import get_preset
from instruct_imagen.rating.imagenhub import read_experiments
from instruct_imagen.training.checkpoint import TrainingPosition, write_training_file


def test_exports_are_read_back_as_they_were(builtin_pack, tmp_path):
    suites = counted(get_suites("zero_shot"), 3)
    assert write_suites(suites, builtin_pack, tmp_path) == 12
    for task in suites[0].tasks:
        cases = suite_cases(task, suites[0], builtin_pack)
        source = JsonlSource(tmp_path / "jsonl" / f"{task.name}.jsonl")
        facts = [
            json.loads(line) for line in (tmp_path / "jsonl" / f"{task.name}.facts.jsonl").read_text().splitlines()
        ]
        assert len(source) == len(facts) == 3
        for case, example, known in zip(cases, map(source.__getitem__, range(3)), facts, strict=True):
            assert example.instruction.text == case.instruction.text and example.key == known["key"]
            assert np.array_equal(np.asarray(example.target), case.truth)
            pairs = zip(example.instruction.references, case.instruction.references, strict=True)
            assert all(a.image.tobytes() == b.image.tobytes() and a.text == b.text for a, b in pairs)
            assert known["seed"] == case.seed and known["glyphs"] == list(case.world.scene.glyphs)


def test_imagenhubs_layout(builtin_pack, tmp_path):
    suites = counted(get_suites("multi_subject"), 2)
    task = suites[0].tasks[0]
    write_suites(suites, builtin_pack, tmp_path / "export")
    folder = tmp_path / "export" / "imagenhub" / experiment(suites[0], task)
    lookup = json.loads((folder / "dataset_lookup.json").read_text())
    assert list(lookup) == [uid(task, 0), uid(task, 1)] and len(lookup[uid(task, 0)]["references"]) >= 2
    with (folder / "dataset_lookup.csv").open() as file:
        assert [row["uid"] for row in csv.DictReader(file)] == list(lookup)
    cases = suite_cases(task, suites[0], builtin_pack)
    shown = list(read_experiments(folder.parent))
    assert [item.task for item in shown] == ["zero_shot_multi_subject"] * 2
    for case, item in zip(cases, shown, strict=True):
        assert item.instruction.text == case.instruction.text
        pairs = list(zip(item.instruction.references, case.instruction.references, strict=True))
        assert all((a.marker, a.text) == (b.marker, b.text) for a, b in pairs)
        assert all(a.image.tobytes() == b.image.tobytes() for a, b in pairs)
    files = [entry["image"] for fields in lookup.values() for entry in fields["references"]]
    assert len(set(files)) == len(files) and files[0] == f"input/{uid(task, 0)}"
    assert np.array_equal(np.asarray(Image.open(folder / "GroundTruth" / uid(task, 1))), cases[1].truth)
    for index in range(2):
        path = tmp_path / "drawn" / "images" / task.name / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (index, 0, 0)).save(path)
    write_method(suites, tmp_path / "drawn", "mine", tmp_path / "export")
    found = FolderPictures(folder / "mine")(task, cases)
    assert [picture[0, 0, 0] for picture in found] == [0, 1]
    for name in ("", "a/b", "..", "input", "reference2", "GroundTruth"):
        with pytest.raises(EvaluationError, match="name a method"):
            write_method(suites, tmp_path / "drawn", name, tmp_path / "export")


def test_pictures_of_any_system_are_found_and_missing_ones_named(builtin_pack, tmp_path):
    suites = counted(get_suites("text"), 3)
    task = suites[0].tasks[0]
    cases = suite_cases(task, suites[0], builtin_pack)
    (tmp_path / "text").mkdir()
    Image.new("L", (90, 70), 7).save(tmp_path / "text" / "0.jpg")
    Image.new("RGBA", (80, 80), (9, 9, 9, 255)).save(tmp_path / "text_1.webp", lossless=True)
    with pytest.raises(EvaluationError, match="1 of 3 pictures of text, first that of text/2"):
        FolderPictures(tmp_path)(task, cases)
    (tmp_path / "text" / "2.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match="cannot be judged"):
        FolderPictures(tmp_path)(task, cases)
    Image.new("RGB", (16, 16)).save(tmp_path / "text" / "2.png")
    with pytest.raises(EvaluationError, match="text/2 has 16 pixels a side and others of its task 80"):
        FolderPictures(tmp_path)(task, cases)
    Image.new("RGB", (256, 256)).save(tmp_path / "text" / "2.png")
    found = FolderPictures(tmp_path)(task, cases)
    assert {picture.shape for picture in found} == {(70, 70, 3)} and all(p.dtype == np.uint8 for p in found)


def test_models_without_instructions_are_asked_without(tmp_path):
    preset = get_preset("debug")
    assert trained_templates(tmp_path) is None
    write_training_file(tmp_path, TrainingPosition(0, 0, 0), preset)
    assert trained_templates(tmp_path) is None
    write_training_file(
        tmp_path, TrainingPosition(0, 0, 0), replace(preset, data=replace(preset.data, num_templates=0))
    )
    assert trained_templates(tmp_path) == 0


def test_the_command_exports_draws_and_scores(model_folder, builtin_pack, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("instruct_imagen.world.load_pack", lambda source="auto": builtin_pack)
    common = ["evaluate", "--suite", "quick/edge", "--count", "2", "--quiet"]
    out, export, again = (str(tmp_path / name) for name in ("out", "export", "again"))
    assert main([*common, "--out", out, "--export", export, "--model", str(model_folder), "--steps", "1"]) == 0
    assert (tmp_path / "export" / "imagenhub" / "quick_edge" / model_folder.name / "edge_0.png").is_file()
    assert main([*common, "--out", again, "--images", out]) == 0
    scores = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("out", "again")]
    assert scores[0] == scores[1] and list(scores[0]) == ["quick"] and scores[0]["quick"]["edge"]["count"] == 2
    assert "2 instructions" in capsys.readouterr().out
    assert model.counted(get_suites("quick"), None) == get_suites("quick")
