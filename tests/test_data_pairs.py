"""Corpora: nothing good is lost, whatever is bad is counted under its reason, and nothing raises."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_reading import PICTURE, captions, dropped, read, tar_of
from damaged_corpus import ExpectedCounts, Sample, make_damaged_corpus, members_of
from damaged_pictures import BAD_PICTURES, GOOD_PICTURES
from PIL import Image

from instruct_imagen.data import pair_parquet
from instruct_imagen.data.pairs import DECODE, READ, Pair, Unit, decode, list_units, read_unit
from instruct_imagen.data.report import DataError, Report


@pytest.fixture(scope="module", params=[0, 1])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExpectedCounts]:
    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    return folder, make_damaged_corpus(folder, request.param)


# The damaged corpus


def test_everything_good_is_read_and_everything_bad_is_counted(corpus):
    folder, expected = corpus
    assert expected.num_good >= 100 and expected.num_damaged >= 200
    pairs, report = read(folder)
    good = [pair for pair in pairs if decode(pair, report) is not None]
    assert Counter(pair.caption for pair in good) == Counter(expected.captions)
    assert dropped(report) == expected.read
    assert dropped(report, DECODE) == expected.decode
    assert report.step(READ).kept == len(pairs) == expected.num_good + sum(expected.decode.values())
    assert report.step(DECODE).kept == len(good)
    assert all(report.step(READ).places[reason] for reason in expected.read)


def test_keys_are_unique_and_the_order_is_always_the_same(corpus):
    folder, _ = corpus
    units = list_units(folder)
    assert units == list_units(folder) == pickle.loads(pickle.dumps(units))
    assert len({unit.name.lower() for unit in units}) == len(units)
    assert all(
        set(unit.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for unit in units
    )
    pairs, _ = read(folder)
    assert len({pair.key for pair in pairs}) == len(pairs)
    assert [(pair.key, pair.image) for pair in pairs] == [(pair.key, pair.image) for pair in read(folder)[0]]
    for unit in units:
        assert all(pair.key.startswith(f"{unit.name}/") for pair in read_unit(unit, Report()))


def test_a_report_of_anything_can_be_written(corpus, tmp_path):
    _, report = read(corpus[0])
    report.write(tmp_path / "report.json")
    assert Report.from_json(json.loads((tmp_path / "report.json").read_text())).to_json() == report.to_json()


def test_a_strict_report_stops_at_the_first_damage_and_not_before(corpus):
    folder, _expected = corpus
    for unit in list_units(folder):
        lenient, strict = Report(), Report(strict=True)
        kept = list(read_unit(unit, lenient))
        reasons = set(dropped(lenient)) - {"status is not success"}
        if reasons:
            with pytest.raises(DataError, match="|".join(reasons)):
                list(read_unit(unit, strict))
            assert not set(dropped(strict)) - {"status is not success"}
        else:
            assert list(read_unit(unit, strict)) == kept


def test_pairs_come_one_at_a_time(tmp_path):
    report = Report()
    pairs = read_unit(list_units(tar_of(tmp_path / "x.tar", "a", "b", "c"))[0], report)
    assert next(pairs).caption == "a"
    assert report.step(READ).kept == 1


# Decoding


@pytest.mark.parametrize("kind", GOOD_PICTURES)
def test_unusual_pictures_are_good_pictures(kind):
    for seed in range(3):
        report = Report()
        image = decode(Pair("k", GOOD_PICTURES[kind](np.random.default_rng(seed)), "c"), report)
        assert image is not None and image.mode == "RGB"
        assert report.step(DECODE).kept == 1 and not dropped(report, DECODE)


def test_a_picture_is_turned_upright():
    image = decode(Pair("k", GOOD_PICTURES["turned by its EXIF"](np.random.default_rng(0)), "c"), Report())
    assert image is not None and image.size == (36, 48)


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_a_bad_picture_is_counted_under_its_reason(kind):
    make, reason = BAD_PICTURES[kind]
    pair = Pair("50 megapixels/truncated", make(np.random.default_rng(0)), "c")
    report = Report()
    assert decode(pair, report) is None
    assert dropped(report, DECODE) == {reason: 1} and report.step(DECODE).places == {reason: [pair.key]}
    with pytest.raises(DataError, match=reason):
        decode(pair, Report(strict=True))


# Parquet


def test_columns_are_found_by_name_and_type(tmp_path):
    struct = [{"path": "x.png", "bytes": PICTURE}]
    for columns in (
        {"IMAGE": [PICTURE], "Caption": ["a"]},
        {"whatever": [PICTURE], "text": ["a"]},
        {"mask": [b"m"], "png": [PICTURE], "prompt": [["a", "b"]]},
        {"image": struct, "caption": [None], "TEXT": ["a"]},
        {"image": pa.array([PICTURE], pa.large_binary()), "caption": pa.array(["a"], pa.large_string())},
        {"image": [PICTURE], "caption": pa.array(["a"]).dictionary_encode()},
    ):
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        (pair,) = read(tmp_path)[0]
        assert (pair.caption, pair.image, pair.key) == ("a", PICTURE, "x/row00000000")


def test_all_rows_are_read_across_row_groups_and_batches(tmp_path):
    words = [f"c{row}" for row in range(100)]
    table = pa.table({"image": [PICTURE] * 100, "text": words, "key": range(100)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=37)
    pairs, report = read(tmp_path / "x.parquet")
    assert [pair.caption for pair in pairs] == words and report.step(READ).kept == 100
    assert [pair.key for pair in pairs] == [f"x/{row}" for row in range(100)]


def test_without_pyarrow_the_error_names_the_extra(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [PICTURE], "text": ["a"]}), tmp_path / "x.parquet")
    (unit,) = list_units(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for use in (lambda: list_units(tmp_path), lambda: list(read_unit(unit, Report())), pair_parquet.require_pyarrow):
        with pytest.raises(DataError, match=r"pip install 'instruct-imagen\[data\]'"):
            use()
    (tmp_path / "x.parquet").unlink()
    tar_of(tmp_path / "x.tar", "a")
    assert captions(tmp_path) == ["a"]  # tars need none


# Folders and lists


def test_a_folder_is_sliced_in_the_order_of_its_names(tmp_path):
    for number in reversed(range(2_300)):
        (tmp_path / f"{number:05d}.jpg").touch()
    units = list_units(tmp_path)
    assert [(unit.name, len(unit.paths)) for unit in units] == [
        ("pictures-00000", 1000),
        ("pictures-00001", 1000),
        ("pictures-00002", 300),
    ]
    paths = [path for unit in units for path in unit.paths]
    assert paths == sorted(paths)


def test_a_list_is_sliced_by_its_lines(tmp_path):
    (tmp_path / "x.png").write_bytes(PICTURE)
    lines = [json.dumps({"file_name": f"{n}.png" if n else "x.png", "text": str(n)}) for n in range(2_300)]
    (tmp_path / "all.jsonl").write_text("\n\n".join(lines))
    units = list_units(tmp_path / "all.jsonl")
    assert [(unit.name, unit.count) for unit in units] == [("all-00000", 1000), ("all-00001", 1000), ("all-00002", 300)]
    report = Report()
    assert [pair.caption for unit in units for pair in read_unit(unit, report)] == ["0"]
    assert dropped(report) == {"no picture": 2_299}


def test_a_list_may_name_pictures_elsewhere_in_the_corpus(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(PICTURE)
    (tmp_path / "lists/captions.jsonl").write_text('{"file_name": "../pictures/a.png", "caption": "a"}')
    pairs, report = read(tmp_path)
    assert [(pair.key, pair.caption) for pair in pairs] == [("lists-captions-00000/pictures/a.png", "a")]
    assert not dropped(report)
    assert dropped(read(tmp_path / "lists/captions.jsonl")[1]) == {"path leaves the folder": 1}


def test_a_line_without_end_does_not_swallow_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("instruct_imagen.data.pair_folders.MAX_TEXT_BYTES", 100)
    (tmp_path / "x.png").write_bytes(PICTURE)
    line = '{"file_name": "x.png", "text": "a"}'
    (tmp_path / "metadata.jsonl").write_text("\n".join(["x" * 99, "x" * 100, "y" * 1000, line, "z" * 500]))
    pairs, report = read(tmp_path)
    assert [pair.caption for pair in pairs] == ["a"] and sum(dropped(report).values()) == 4


def test_img2datasets_files_are_pictures_with_a_sidecar_that_is_no_unit(tmp_path):
    (tmp_path / "00000").mkdir()
    for name, data in members_of("00000/000000000", Sample(PICTURE, b"a")):
        (tmp_path / name).write_bytes(data)
    record = {"url": "https://example.org", "status": "success", "caption": "other"}
    (tmp_path / "00000/000000000.json").write_text(json.dumps(record))
    pq.write_table(pa.table({"key": ["000000000"], "caption": ["a"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    pairs, report = read(tmp_path)
    assert [(pair.caption, pair.url) for pair in pairs] == [("a", "https://example.org")] and not dropped(report)


def test_units_of_like_names_are_told_apart(tmp_path):
    for folder in ("a-b", "A", "a"):
        (tmp_path / folder).mkdir()
    for name in ("a-b/c.tar", "a-b-c.tar", "a/b-c.tar", "A/B-c.tar", "猫.tar", "pictures-00000.tar"):
        tar_of(tmp_path / name, "k")
    (tmp_path / "k.png").write_bytes(PICTURE)
    (tmp_path / "k.txt").write_text("k")
    pairs, report = read(tmp_path)
    assert len({pair.key.lower() for pair in pairs}) == 7 and not dropped(report)


def test_a_relative_source_is_read_like_an_absolute_one(tmp_path, monkeypatch):
    (tmp_path / "k.png").write_bytes(PICTURE)
    (tmp_path / "k.txt").write_text("k")
    tar_of(tmp_path / "x.tar", "a")
    expected = read(tmp_path)[0]
    monkeypatch.chdir(tmp_path)
    assert read(Path("."))[0] == expected
    assert read(Path("x.tar"))[0] == expected[:1]


# What is no corpus


def nothing_recognised(folder: Path) -> Iterator[Path]:
    yield folder / "missing"
    yield folder
    (folder / "notes.txt").write_text("no corpus")
    (folder / ".x.tar").touch()
    (folder / "inner").mkdir()
    yield folder
    yield folder / "notes.txt"
    (folder / "one.png").write_bytes(PICTURE)
    yield folder / "one.png"
    (folder / "empty.jsonl").touch()
    yield folder / "empty.jsonl"


def test_a_source_that_is_no_corpus_is_refused(tmp_path):
    for source in nothing_recognised(tmp_path):
        with pytest.raises(DataError, match="does not exist|no corpus that can be read"):
            list_units(source)


def test_devices_and_vanished_files_are_counted_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    os.mkfifo(tmp_path / "y.parquet")
    (tmp_path / "z.tar").symlink_to("nowhere")
    assert dropped(read(tmp_path)[1]) == {"not a regular file": 3}
    gone = tmp_path / "gone.tar"
    for kind in ("tar", "parquet", "folder", "jsonl"):
        report = Report()
        assert not list(read_unit(Unit("gone", kind, (gone,), tmp_path, count=1), report))
        assert sum(dropped(report).values()) == 1


def test_a_picture_larger_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("instruct_imagen.data.pair_record.MAX_PICTURE_BYTES", len(PICTURE) - 1)
    tar_of(tmp_path / "x.tar", "a")
    Image.new("RGB", (1, 1)).save(tmp_path / "small.png")
    (tmp_path / "large.png").write_bytes(PICTURE)
    for name in ("small", "large"):
        (tmp_path / f"{name}.txt").write_text(name)
    pairs, report = read(tmp_path)
    assert [pair.caption for pair in pairs] == ["small"] and sum(dropped(report).values()) == 2
