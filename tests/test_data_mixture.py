"""Shards, JSONL and mixtures: what is written is read back, everything once an epoch, ratios exact."""

from __future__ import annotations

import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from instruct_imagen.data.example import Example
from instruct_imagen.data.mixture import BLOCK, Mixture, _shares, stage_source
from instruct_imagen.data.recipe import TABLE_1, DataRecipe, MixtureEntry, read_recipe, recipe_from_dict
from instruct_imagen.data.report import DataError, Report
from instruct_imagen.data.shards import EpochSource, JsonlSource, ShardSource, ShardWriter, open_examples
from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.instruction import Instruction, Reference
from instruct_imagen.training.loader import PositionSampler


class Numbers:
    """A source whose examples say which index was asked for."""

    def __init__(self, name: str, length: int = 0):
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        return Example(Instruction(f"number {index}", ()), Image.new("RGB", (2, 2)), self.name, str(index))


def sample_examples(pack, count: int) -> list[Example]:
    tasks = WorldTasks(pack, "train", 32)
    names = ("text", "subject", "style_transfer", "face")
    return [tasks.build(names[i % 4], np.random.default_rng(i), f"example-{i:04d}").example for i in range(count)]


def assert_same(first: Example, second: Example) -> None:
    assert (first.task, first.key, first.instruction.text) == (second.task, second.key, second.instruction.text)
    assert first.target.tobytes() == second.target.tobytes()
    for one, two in zip(first.instruction.references, second.instruction.references, strict=True):
        assert (one.marker, one.text, one.image.tobytes()) == (two.marker, two.text, two.image.tobytes())


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_shares_are_whole_near_the_ratios_and_never_zero(ratios: list[float]):
    counts = _shares(np.array(ratios), BLOCK)
    assert counts.sum() == BLOCK
    assert counts.min() >= 1
    exact = np.array(ratios) / sum(ratios) * BLOCK
    if exact.min() >= 1:
        assert np.abs(counts - exact).max() < 1 + len(ratios) / 2


def test_a_mixture_keeps_its_ratios_and_reads_each_source_in_order():
    mixture = Mixture([Numbers("a"), Numbers("b"), Numbers("c")], [0.5, 0.3, 0.2], seed=3)
    drawn = [mixture[index] for index in range(2 * BLOCK)]
    for name, count in (("a", 500), ("b", 300), ("c", 200)):
        first = [int(e.key) for e in drawn[:BLOCK] if e.task == name]
        assert first == list(range(count))
        assert [int(e.key) for e in drawn[BLOCK:] if e.task == name] == list(range(count, 2 * count))
    orders = [[e.task for e in drawn[:BLOCK]], [e.task for e in drawn[BLOCK:]]]
    assert orders[0] != orders[1]
    assert max(len(run) for run in "".join(orders[0]).replace("b", " ").replace("c", " ").split()) < 20, (
        "it is shuffled"
    )
    again = pickle.loads(pickle.dumps(mixture))
    assert [again[i].key for i in (1700, 3, 999)] == [drawn[i].key for i in (1700, 3, 999)]


def test_ranks_of_any_number_of_processes_share_an_epoch_without_repeating():
    mixture = Mixture([EpochSource(Numbers("a", 700), 1), EpochSource(Numbers("b", 300), 1)], [0.7, 0.3], seed=0)
    for world_size in (1, 2, 4):
        keys = [
            (e.task, e.key) for rank in range(world_size) for e in (mixture[i] for i in range(rank, 1000, world_size))
        ]
        assert len(set(keys)) == 1000


class Keys(Dataset):
    """What a training process sees of a source."""

    def __init__(self, source: Mixture):
        self.source = source

    def __getitem__(self, index: int) -> tuple[int, str, str]:
        example = self.source[index]
        return index, example.task, example.key


def test_files_are_read_once_an_epoch_over_ranks_and_workers_and_resumed_in_its_middle(tmp_path: Path):
    sources = []
    for name, length in (("a", 40), ("b", 16)):
        with ShardWriter(tmp_path / name, examples_per_shard=15) as writer:
            for index in range(length):
                writer.write(replace(Numbers(name)[index], key=f"{name}-{index}"))
        sources.append(EpochSource(open_examples(tmp_path / name), seed=5))
    mixture = Mixture(sources, [0.6, 0.4], seed=5)

    def read(first: int, world_size: int) -> list[tuple[int, str, str]]:
        """Steps `first` to 20 of all ranks, each with two workers."""
        samplers = [PositionSampler(first, 20, 8, rank, world_size) for rank in range(world_size)]
        loaders = [DataLoader(Keys(mixture), batch_sampler=s, collate_fn=list, num_workers=2) for s in samplers]
        return sorted(found for loader in loaders for batch in loader for found in batch)

    whole = read(0, 2)
    assert [index for index, *_ in whole] == list(range(160))
    for name, length in (("a", 40), ("b", 16)):
        keys = [key for _, task, key in whole if task == name]
        assert len(keys) > 2 * length
        for start in range(0, len(keys) - length, length):
            assert len(set(keys[start : start + length])) == length, "an example came twice in an epoch"
        assert keys[:length] != keys[length : 2 * length]
    assert read(3, 2) == whole[24:], "position 24 is within the first epoch of both"
    assert read(3, 1) == whole[24:], "with another number of processes"


def test_an_epoch_shows_every_example_once_in_an_order_of_its_own():
    source = EpochSource(Numbers("a", 50), seed=7)
    epochs = [[int(source[50 * epoch + i].key) for i in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [int(source[i].key) for i in (120, 3)] == [epochs[2][20], epochs[0][3]], "whatever was read before"
    assert [int(EpochSource(Numbers("a", 50), seed=8)[i].key) for i in range(50)] != epochs[0]


def test_shards_give_back_what_was_written(builtin_pack, tmp_path: Path):
    examples = sample_examples(builtin_pack, 7)
    with ShardWriter(tmp_path / "out", examples_per_shard=3) as writer:
        for example in examples:
            writer.write(example)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00000.tar", "00001.tar", "00002.tar"]
    source = open_examples(tmp_path / "out")
    assert len(source) == 7
    for index in (6, 0, 3, 1, 2, 4, 5):
        assert_same(source[index], examples[index])


def test_an_error_leaves_whole_shards_only(builtin_pack, tmp_path: Path):
    examples = sample_examples(builtin_pack, 4)

    def write_and_fail() -> None:
        with ShardWriter(tmp_path, examples_per_shard=3) as writer:
            for example in examples:
                writer.write(example)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert [p.name for p in tmp_path.iterdir()] == ["00000.tar"]
    assert len(ShardSource(tmp_path)) == 3
    with pytest.raises(DataError, match="cannot be written"), ShardWriter(tmp_path / "other") as writer:
        writer.write(replace(examples[0], key="a/b"))


def test_damaged_shards_are_refused_with_a_sentence(builtin_pack, tmp_path: Path):
    with pytest.raises(DataError, match="holds no shards"):
        ShardSource(tmp_path)
    with ShardWriter(tmp_path) as writer:
        for example in sample_examples(builtin_pack, 2):
            writer.write(example)
    shard = tmp_path / "00000.tar"
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        place = tar.getmember("example-0000.target.png")
    shard.write_bytes(whole[: place.offset_data] + bytes(place.size) + whole[place.offset_data + place.size :])
    source = ShardSource(tmp_path)
    with pytest.raises(DataError, match="example-0000.json is damaged"):
        source[0]
    assert source[1].key == "example-0001"
    with tarfile.open(shard, "w"):
        pass
    with pytest.raises(DataError, match="no examples"):
        ShardSource(tmp_path)
    with tarfile.open(shard, "w") as tar:
        tar.addfile(tarfile.TarInfo("lonely.target.png"))
    with pytest.raises(DataError, match=r"no record KEY.json"):
        ShardSource(tmp_path)[0]
    shard.write_bytes(b"not a tar" * 100)
    with pytest.raises(DataError, match="is damaged"):
        ShardSource(tmp_path)


def write_jsonl(folder: Path, examples: list[Example]) -> Path:
    lines = []
    for example in examples:
        names = []
        for index, picture in enumerate([example.target, *(r.image for r in example.instruction.references)]):
            names.append(f"{example.key}-{index}.png")
            picture.save(folder / names[-1])
        lines.append(
            {
                "task_type": example.task,
                "instruction": example.instruction.text,
                "input_images": names[1:],
                "output_image": names[0],
            }
        )
    path = folder / "train.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    return path


def two_reference_examples() -> list[Example]:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    instruction = Instruction("Put [ref#1] on [ref#2].", (Reference(red, "", 1), Reference(blue, "", 2)))
    return [Example(instruction, blue, "mine", f"mine-{i}") for i in range(3)]


def test_jsonl_is_read_at_random(tmp_path: Path):
    source = open_examples(write_jsonl(tmp_path, two_reference_examples()))
    assert len(source) == 3
    example = source[2]
    assert (example.task, example.key) == ("mine", "train-00000002")
    assert [r.marker for r in example.instruction.references] == [1, 2]
    assert example.target.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"instruction": "a", "output_image": "x.png"}',
        '{"task_type": "t", "instruction": "a", "output_image": "../x.png"}',
        '{"task_type": "t", "instruction": "a", "output_image": "missing.png"}',
        '{"task_type": "t", "instruction": "see [ref#1]", "output_image": "x.png"}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    path = tmp_path / "train.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match="example 0 is damaged"):
        JsonlSource(path)[0]


def test_recipes_mix_the_world_with_files(builtin_pack, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    write_jsonl(tmp_path / "mine", two_reference_examples())
    entries = [{"name": "subject", "ratio": 1}, {"name": "mine", "ratio": 3, "source": "mine/train.jsonl"}]
    (tmp_path / "recipe.json").write_text(json.dumps({"stage2": entries}))
    recipe = read_recipe(tmp_path / "recipe.json")
    source = stage_source(recipe, "stage2", builtin_pack, 32, seed=0)
    tasks = [source[index].task for index in range(40)]
    assert {"subject", "mine"} == set(tasks)
    assert source[0].instruction.text == source[0].instruction.text
    wrong = DataRecipe(stage2=(MixtureEntry("mine", 1.0),))
    with pytest.raises(DataError, match="no task 'mine'"):
        stage_source(wrong, "stage2", builtin_pack, 32, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage2": []}, "empty"),
        ({"stage2": [{"name": "a", "ratio": 0}]}, "above zero"),
        ({"stage2": [{"name": "a", "ratio": 1}, {"name": "a", "ratio": 2}]}, "twice"),
        ({"stage2": [{"ratio": 1}]}, "not a data recipe"),
        ({"stage3": "world"}, "not a data recipe"),
    ],
)
def test_wrong_recipes_are_refused(values: dict, message: str):
    with pytest.raises(DataError, match=message):
        recipe_from_dict(values)
    assert recipe_from_dict({}).stage2 == TABLE_1


def test_reports_count_merge_and_come_back():
    first, second = Report(), Report()
    first.keep("read", 3)
    first.damaged("read", "no caption", "00000.tar/a")
    second.keep("read")
    second.drop("read", "no caption", "00001.tar/b", count=2)
    second.drop("quality", "too small")
    first.merge(Report.from_json(json.loads(json.dumps(second.to_json()))))
    assert first.to_json()["steps"] == {
        "read": {"kept": 4, "dropped": {"no caption": 3}, "places": {"no caption": ["00000.tar/a", "00001.tar/b"]}},
        "quality": {"kept": 0, "dropped": {"too small": 1}, "places": {"too small": []}},
    }
    with pytest.raises(DataError, match="no caption"):
        Report(strict=True).damaged("read", "no caption", "here")
