"""Exact resumption after kills, and checkpoints that are damaged or half-written."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training_runs import (
    Run,
    assert_same_tensors,
    new_folder,
    newest_tensors,
    seen_in,
    start,
    stepwise_preset,
)

from instruct_imagen.data.recipe import DataRecipe
from instruct_imagen.data.report import DataError
from instruct_imagen.training import trainer
from instruct_imagen.training.checkpoint import TENSORS, CheckpointError, list_checkpoints, read_position
from instruct_imagen.training.loader import PositionSampler
from instruct_imagen.training.trainer import Trainer, TrainingError

SHORT, SHORT_KILL = (1, 2, 1), 2
LONG, LONG_KILL = (14, 13, 13), 20
DDP, FSDP = "execution.parallel=ddp", "execution.parallel=fsdp"


def killed_and_resumed(folder: Path, preset, at: int, num_processes: int, then: int | None = None) -> None:
    """Saves after `at` steps, dies one step later as by `kill -9`, and is resumed to the end."""
    codes = start(Run(preset, folder, save_at=at, kill_at=at + 1), num_processes)
    assert codes == [-signal.SIGKILL] * num_processes
    assert steps_kept(folder) == [at]
    then = then or num_processes
    assert start(Run(preset, folder, resume=True, log="resumed"), then) == [0] * then


def steps_kept(folder: Path) -> list[int]:
    """Steps of the checkpoints that can be resumed from, newest first."""
    return [read_position(checkpoint)[0].total_steps for checkpoint in list_checkpoints(folder / "checkpoints")]


@pytest.mark.parametrize(
    ("num_processes", "parallel", "steps", "at"),
    [
        (1, DDP, SHORT, SHORT_KILL),
        (2, DDP, SHORT, SHORT_KILL),
        pytest.param(1, DDP, LONG, LONG_KILL, marks=pytest.mark.slow),
        pytest.param(2, DDP, LONG, LONG_KILL, marks=pytest.mark.slow),
        pytest.param(2, FSDP, LONG, LONG_KILL, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_with_the_same_bits(
    num_processes: int, parallel: str, steps, at: int, tokenizer_folder: Path, tmp_path: Path
):
    preset = stepwise_preset(steps, parallel, "stages.*.optimizer=muon")
    whole, killed = (new_folder(tokenizer_folder, tmp_path / name) for name in ("whole", "killed"))
    assert start(Run(preset, whole), num_processes) == [0] * num_processes
    killed_and_resumed(killed, preset, at, num_processes)
    assert_same_tensors(newest_tensors(whole), newest_tensors(killed))
    assert seen_in(whole) == {**seen_in(killed), **seen_in(killed, "resumed")}
    position, _ = read_position(list_checkpoints(killed / "checkpoints")[0])
    assert (position.stage_index, position.total_steps) == (3, sum(steps))


@pytest.mark.parametrize(
    ("before", "after", "parallel"),
    [
        (2, 1, DDP),
        pytest.param(1, 2, DDP, marks=pytest.mark.slow),
        pytest.param(2, 4, FSDP, marks=pytest.mark.slow),
        pytest.param(4, 1, FSDP, marks=pytest.mark.slow),
    ],
)
def test_another_number_of_processes_sees_the_same_examples(
    before: int, after: int, parallel: str, tokenizer_folder: Path, tmp_path: Path
):
    preset = stepwise_preset(SHORT, parallel)
    whole, killed = (new_folder(tokenizer_folder, tmp_path / name) for name in ("whole", "killed"))
    assert start(Run(preset, whole)) == [0]
    killed_and_resumed(killed, preset, SHORT_KILL, before, after)
    expected, first, then = seen_in(whole), seen_in(killed), seen_in(killed, "resumed")
    assert list(first) == list(range(1, SHORT_KILL + 2))
    assert list(then) == list(range(SHORT_KILL + 1, sum(SHORT) + 1))
    for step, seen in {**first, **then}.items():
        assert seen.marks == expected[step].marks
        assert seen.loss == pytest.approx(expected[step].loss, rel=1e-4)


@pytest.mark.parametrize("place", ["_checksums", "_write_state"])
def test_a_kill_in_the_middle_of_writing_leaves_the_last_good_checkpoint(
    place: str, tokenizer_folder: Path, tmp_path: Path
):
    preset = stepwise_preset(SHORT)
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    assert start(Run(preset, folder, max_steps=2)) == [0]
    good = newest_tensors(folder)
    assert start(Run(preset, folder, resume=True, save_at=3, kill_in_save=place)) == [-signal.SIGKILL]
    assert list((folder / "checkpoints").glob(".*.partial"))
    assert steps_kept(folder) == [2]
    assert_same_tensors(newest_tensors(folder), good)
    assert start(Run(preset, folder, resume=True)) == [0]
    assert steps_kept(folder)[0] == sum(SHORT)
    assert not list((folder / "checkpoints").glob(".*"))


@pytest.fixture
def two_checkpoints(tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has stopped twice."""
    monkeypatch.setattr(Trainer, "_report", lambda self: None)
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    for resume in (False, True):
        Trainer(stepwise_preset(SHORT), folder, resume=resume).run(max_steps=1)
    return folder


def damage(checkpoint: Path, how: str) -> None:
    tensors = next((checkpoint / TENSORS).iterdir())
    content = bytearray(tensors.read_bytes())
    if how == "truncated":
        tensors.write_bytes(content[: len(content) // 2])
    elif how == "a bit flipped":
        content[len(content) // 2] ^= 1
        tensors.write_bytes(content)
    elif how == "tensors missing":
        tensors.unlink()
    elif how == "state cut":
        state = checkpoint / "state.json"
        state.write_text(state.read_text()[:-500])
    else:
        (checkpoint / "random.safetensors").unlink()


DAMAGES = ("truncated", "a bit flipped", "tensors missing", "state cut", "random state missing")


@pytest.mark.parametrize("how", DAMAGES)
def test_the_newest_checkpoint_is_passed_over_if_damaged(how: str, two_checkpoints: Path, caplog):
    newest, older = list_checkpoints(two_checkpoints / "checkpoints")
    damage(newest, how)
    with caplog.at_level(logging.WARNING):
        position = Trainer(stepwise_preset(SHORT), two_checkpoints, resume=True).run(max_steps=1)
    assert position.total_steps == read_position(older)[0].total_steps + 1
    assert (newest.parent / f".damaged-{newest.name}").is_dir()
    assert "trying an older one" in caplog.text
    assert newest.name in caplog.text


def test_without_a_good_checkpoint_nothing_is_trained(two_checkpoints: Path):
    for checkpoint in list_checkpoints(two_checkpoints / "checkpoints"):
        damage(checkpoint, "truncated")
    with pytest.raises(TrainingError, match="no usable checkpoint"):
        Trainer(stepwise_preset(SHORT), two_checkpoints, resume=True).run(max_steps=1)

    with pytest.raises(TrainingError, match="no usable checkpoint"):
        Trainer(stepwise_preset(SHORT), two_checkpoints, resume=True)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory left"), OSError(24, "Too many open files")])
def test_a_checkpoint_that_cannot_be_read_for_another_reason_stays(error, two_checkpoints: Path, monkeypatch):
    kept = list_checkpoints(two_checkpoints / "checkpoints")

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("instruct_imagen.training.checkpoint.dcp.load", fails)
    with pytest.raises(CheckpointError, match="cannot be read: .*(memory|open files)"):
        Trainer(stepwise_preset(SHORT), two_checkpoints, resume=True).run(max_steps=1)
    assert list_checkpoints(two_checkpoints / "checkpoints") == kept


def test_other_data_is_refused_and_the_preset_stays(two_checkpoints: Path):
    before = (two_checkpoints / "preset.json").read_text()
    preset = replace(stepwise_preset(SHORT), data=DataRecipe(num_templates=1))
    with pytest.raises(TrainingError, match="other data"):
        Trainer(preset, two_checkpoints, resume=True).run(max_steps=1)
    assert (two_checkpoints / "preset.json").read_text() == before


def test_another_batch_size_goes_on_with_examples_not_seen(tokenizer_folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Trainer, "_report", lambda self: None)
    asked = []
    sample = PositionSampler.__iter__
    monkeypatch.setattr(PositionSampler, "__iter__", lambda self: (asked.append(list(sample(self))), sample(self))[1])
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    Trainer(stepwise_preset((3, 1, 1), "stages.*.batch_size=4"), folder).run(max_steps=2)
    Trainer(stepwise_preset((3, 1, 1), "stages.*.batch_size=2"), folder, resume=True).run()
    assert asked[0][:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert asked[1] == [[8, 9]] and asked[2] == [[0, 1]]


class _Damaged:
    """Examples of which the ninth cannot be read."""

    def __init__(self, source):
        self.source = source

    def __getitem__(self, index: int):
        if index == 8:
            raise DataError("shard 3: the picture is damaged")
        return self.source[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_cannot_be_read_ends_the_run_in_a_sentence_and_a_checkpoint(
    workers: int, tokenizer_folder: Path, tmp_path: Path, monkeypatch
):
    source = trainer.stage_source
    monkeypatch.setattr(trainer, "stage_source", lambda *args: _Damaged(source(*args)))
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    preset = stepwise_preset((3, 1, 1), "stages.*.batch_size=4", f"data_workers={workers}")
    with pytest.raises(DataError) as found:
        Trainer(preset, folder).run()
    assert str(found.value) == "shard 3: the picture is damaged"
    assert steps_kept(folder) == [2]


def test_a_checkpoint_of_another_model_is_refused(two_checkpoints: Path):
    preset = stepwise_preset(SHORT)
    wider = replace(preset, model=replace(preset.model, head_dim=8))
    with pytest.raises(TrainingError, match="of another model"):
        Trainer(wider, two_checkpoints, resume=True).run(max_steps=1)


def test_another_optimizer_is_refused_and_the_checkpoints_stay(two_checkpoints: Path):
    kept = list_checkpoints(two_checkpoints / "checkpoints")
    with pytest.raises(TrainingError, match="has optimizer adamw, not muon"):
        Trainer(stepwise_preset(SHORT, "stages.*.optimizer=muon"), two_checkpoints, resume=True).run(max_steps=1)
    assert list_checkpoints(two_checkpoints / "checkpoints") == kept


def test_damage_that_one_process_notices_is_passed_over_by_both(tokenizer_folder: Path, tmp_path: Path):
    preset = stepwise_preset(SHORT)
    folder = new_folder(tokenizer_folder, tmp_path / "run")
    assert start(Run(preset, folder, save_at=1, max_steps=2), 2) == [0, 0]
    newest, older = list_checkpoints(folder / "checkpoints")
    second = sorted((newest / TENSORS).iterdir())[1]
    second.write_bytes(second.read_bytes()[:-8])
    assert start(Run(preset, folder, resume=True, log="resumed"), 2) == [0, 0]
    assert list(seen_in(folder, "resumed")) == list(range(read_position(older)[0].total_steps + 1, sum(SHORT) + 1))


def test_a_checkpoint_of_the_first_layout_goes_on(tokenizer_folder: Path, tmp_path: Path, monkeypatch):
    """A file each for weights, average and moments, which are numbered: the checkpoints before several processes."""
    monkeypatch.setattr(Trainer, "_report", lambda self: None)
    preset = stepwise_preset(SHORT, "stages.*.optimizer=muon")
    old, new = (new_folder(tokenizer_folder, tmp_path / name) for name in ("old", "new"))
    for folder in (old, new):
        run = Trainer(preset, folder)
        run.run(max_steps=2)
    rewrite_in_first_layout(list_checkpoints(old / "checkpoints")[0], run)
    for folder in (old, new):
        Trainer(preset, folder, resume=True).run()
    assert_same_tensors(newest_tensors(old), newest_tensors(new))


def rewrite_in_first_layout(checkpoint: Path, trainer: Trainer) -> None:
    """Writes a checkpoint as it was written once, from the state that torch gives of an optimizer."""
    tensors, state = newest_tensors(checkpoint.parents[1]), json.loads((checkpoint / "state.json").read_text())
    for old, new in (("weights", "weights"), ("ema", "average")):
        chosen = {n.removeprefix(f"{new}."): t for n, t in tensors.items() if n.startswith(f"{new}.")}
        if old == "ema":  # it held what is frozen too
            chosen |= {name: p.detach() for name, p in trainer.plain_module.named_parameters() if name not in chosen}
        save_file(chosen, checkpoint / f"{old}.safetensors")
    packed = trainer.optimizer.state_dict()
    moments = {f"{i}.{k}": v.contiguous() for i, entries in packed["state"].items() for k, v in entries.items()}
    save_file(moments, checkpoint / "optimizer.safetensors")
    del state["files"]
    state["optimizer"] = {"param_groups": packed["param_groups"], "plain": {}}
    (checkpoint / "state.json").write_text(json.dumps(state))
    shutil.rmtree(checkpoint / TENSORS)
