"""What is read and written: instructions, results from anybody, ImagenHub's folders and tables."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rating_study import METHODS, make_study, plain_inputs, plain_picture, write_method

from instruct_imagen.data.example import Example
from instruct_imagen.data.shards import ShardWriter
from instruct_imagen.instruction import Instruction
from instruct_imagen.rating import results
from instruct_imagen.rating.database import open_database
from instruct_imagen.rating.desk import Answer, RatingDesk
from instruct_imagen.rating.export import export_study, stored_ratings
from instruct_imagen.rating.imagenhub import read_experiments, read_methods
from instruct_imagen.rating.inputs import read_inputs
from instruct_imagen.rating.raters import add_raters, sign_in
from instruct_imagen.rating.records import LEVELS, Rating, RatingError, check_name, uid_of
from instruct_imagen.rating.results import FolderResults, MethodResults, ZipResults, match_results, open_results
from instruct_imagen.rating.study import StudyConfig, create_study, study_size
from instruct_imagen.rating.tables import read_table, read_tables, table_text

INPUTS = [("subject", "0.png"), ("subject", "1.png"), ("mask", "0.png")]


def png(*numbers: int) -> bytes:
    buffer = io.BytesIO()
    plain_picture(*numbers).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


# Results


@pytest.mark.parametrize("wrapper", ["", "my model/"])
def test_results_are_found_in_folders_and_archives_whatever_holds_them(wrapper, tmp_path):
    members = {f"{wrapper}{task}/{uid}": png(k) for k, (task, uid) in enumerate(INPUTS)}
    litter = {f"{wrapper}.DS_Store": b"x", f"__MACOSX/{wrapper}._0.png": b"x", f"{wrapper}Thumbs.db": b"x"}
    packed = open_results(archive(tmp_path / "all.zip", members | litter))
    for name, data in (members | litter).items():
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_bytes(data)
    for files in (packed, open_results(tmp_path / "all")):
        found = match_results(files, INPUTS, partial=False)
        assert found == {place: f"{wrapper}{place[0]}/{place[1]}" for place in INPUTS}
        assert files.read(found["mask", "0.png"]) == png(2)


def test_results_may_have_other_suffixes_and_bare_names_where_they_are_clear(tmp_path):
    packed = ZipResults(archive(tmp_path / "a.zip", {"1.JPG": b"", "mask/0.webp": b"", "subject/0.jpeg": b""}))
    assert match_results(packed, INPUTS, partial=False)["subject", "1.png"] == "1.JPG"
    keyed = [("mask", uid_of("mask", "mask/3")), ("style", uid_of("style", "suite/style/4"))]
    packed = ZipResults(archive(tmp_path / "b.zip", {"mask/3.png": b"", "style/suite/style/4.png": b""}))
    assert set(match_results(packed, keyed, partial=False)) == set(keyed)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["subject/0.png"], "lacks 1 pictures (subject/1)"),
        (["subject/0.png", "subject/0.jpg", "subject/1.png"], "answer one instruction"),
        (["subject/0.png", "subject/1.png", "subject/2.png"], "belongs to no instruction"),
        (["0.png", "1.png"], "belongs to no instruction"),  # two tasks have a 0
        (["subject/0.png", "subject/1.png", "notes.txt"], "not named as a picture"),
        (["subject/0.png", "subject/1.svg"], "not named as a picture"),
        ([], "holds no pictures"),
    ],
)
def test_results_that_do_not_fit_are_refused(names, sentence, tmp_path):
    packed = ZipResults(archive(tmp_path / "a.zip", dict.fromkeys(names, b"")))
    with pytest.raises(RatingError) as refused:
        match_results(packed, INPUTS, partial=False)
    assert sentence in str(refused.value)


def test_a_method_may_leave_out_whole_tasks_and_pictures_if_allowed(tmp_path):
    packed = ZipResults(archive(tmp_path / "a.zip", {"mask/0.png": b""}))
    assert set(match_results(packed, INPUTS, partial=False)) == {("mask", "0.png")}
    packed = ZipResults(archive(tmp_path / "b.zip", {"subject/0.png": b""}))
    assert set(match_results(packed, INPUTS, partial=True)) == {("subject", "0.png")}


@pytest.mark.parametrize(
    "name", ["../0.png", "a/../../0.png", "/etc/0.png", "C:/0.png", "a\\..\\0.png", "..", "//host/0.png"]
)
def test_paths_that_leave_the_archive_are_refused(name, tmp_path):
    path = archive(tmp_path / "a.zip", {"subject/0.png": png(1)})
    with zipfile.ZipFile(path, "a") as file:
        entry = zipfile.ZipInfo("placeholder")
        entry.filename = name
        file.writestr(entry, png(1))
    with pytest.raises(RatingError, match="does not lie inside"):
        ZipResults(path)


def test_links_devices_passwords_and_repetitions_are_refused(tmp_path):
    def with_member(change) -> Path:
        entry = zipfile.ZipInfo("subject/0.png")
        change(entry)
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(entry, png(1))
        return path

    def linked(entry):
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16

    def device(entry):
        entry.external_attr = (stat.S_IFCHR | 0o777) << 16

    for change in (linked, device):
        with pytest.raises(RatingError, match="a link or a device"):
            ZipResults(with_member(change))
    path = archive(tmp_path / "b.zip", {"subject/0.png": png(1)})
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(signature) + place
        data[start : start + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    with pytest.raises(RatingError, match="encrypted"):
        ZipResults(path)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as file:
        file.writestr("0.png", png(1))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("0.png", png(2))
    with pytest.raises(RatingError, match="twice"):
        ZipResults(tmp_path / "c.zip")


def test_bombs_are_refused_by_their_header_and_while_they_unpack(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", {"subject/0.png": b"\0" * 2**23}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RatingError, match="unpacks to 8,388,608 bytes"):
        ZipResults(path)
    honest = path.read_bytes()
    lying = honest.replace(struct.pack("<I", 2**23), struct.pack("<I", 999))  # says that it is small
    assert lying != honest
    path.write_bytes(lying)
    files = ZipResults(path)
    with pytest.raises(RatingError, match="damaged|more than is allowed"):
        files.read("subject/0.png")
    monkeypatch.setattr(results, "MAX_FILES", 2)
    with pytest.raises(RatingError, match="more than 2 files"):
        ZipResults(archive(tmp_path / "b.zip", {f"{k}.png": b"" for k in range(3)}))
    monkeypatch.setattr(results, "MAX_TOTAL_BYTES", 3000)
    files = ZipResults(archive(tmp_path / "c.zip", {"a.png": b"x" * 2000, "b.png": b"y" * 2000}))
    files.read("a.png")
    with pytest.raises(RatingError, match="more than is allowed"):
        files.read("b.png")


def test_a_picture_that_explodes_is_refused(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    files = ZipResults(archive(tmp_path / "a.zip", {"0.png": bomb}))
    with pytest.raises(RatingError, match="megapixels"):
        results.read_picture(files, "0.png")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"#!/bin/sh\n"])
def test_what_is_no_picture_is_refused(content, tmp_path):
    files = ZipResults(archive(tmp_path / "a.zip", {"0.png": content}))
    with pytest.raises(RatingError):
        results.read_picture(files, "0.png")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cut=st.integers(0, 400), place=st.integers(0, 400), byte=st.integers(0, 255))
def test_damaged_archives_end_in_a_sentence_or_in_whole_pictures(cut, place, byte, tmp_path):
    whole = archive(tmp_path / "a.zip", {"subject/0.png": png(1)}, zipfile.ZIP_DEFLATED).read_bytes()
    data = bytearray(whole[: len(whole) - cut % len(whole)] if cut % 3 else whole)
    data[place % len(data)] = byte
    (tmp_path / "b.zip").write_bytes(data)
    try:
        files = ZipResults(tmp_path / "b.zip")
        for name in files.names():
            results.read_picture(files, name)
    except RatingError:
        pass


def test_links_out_of_a_folder_are_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").symlink_to(tmp_path / "secret.png")
    files = FolderResults(tmp_path / "in")
    with pytest.raises(RatingError, match="link out of"):
        files.read("0.png")
    with pytest.raises(RatingError, match="does not exist"):
        open_results(tmp_path / "nothing")


# Names


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "../a", "a/b", "a\tb", "a\nb", ".hidden", "x" * 65, "a\0", "a\u202eb"]
)
def test_names_that_are_no_names_are_refused(name):
    with pytest.raises(RatingError):
        check_name(name, "The method")


@given(st.text(max_size=40))
def test_a_uid_is_a_file_name_or_refused(key):
    try:
        uid = uid_of("task", key)
    except RatingError:
        return
    assert Path(uid).name == uid and not uid.startswith(".") and uid == uid_of("other", uid)


# Instructions


def test_instructions_come_from_jsonl_in_both_layouts(tmp_path):
    plain_picture(1).save(tmp_path / "dog.png")
    lines = [
        {"task_type": "subject", "key": "subject/7", "instruction": "Draw [ref#1]", "input_images": ["dog.png"]},
        {
            "task_type": "subject",
            "instruction": "Draw the [ref#1] dog",
            "references": [{"marker": 1, "text": "dog", "image": "dog.png"}],
            "output_image": "dog.png",
        },
    ]
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    first, second = read_inputs(path)
    assert (first.uid, second.uid) == ("7.png", "00001.png")
    assert first.target is None and second.target.size == (12, 12)
    assert second.instruction.references[0].text == "dog"


def test_a_folder_of_jsonl_has_a_task_in_each_file(tmp_path):
    line = {"task_type": "style", "key": "style_held_out-3", "instruction": "Draw a dog"}
    (tmp_path / "style_held_out.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "style_held_out.facts.jsonl").write_text("{}\n")
    [item] = read_inputs(tmp_path)
    assert (item.task, item.uid) == ("style_held_out", "3.png")
    drawn = ZipResults(archive(tmp_path / "a.zip", {"images/style_held_out/3.png": b""}))
    assert set(match_results(drawn, [(item.task, item.uid)], partial=False)) == {(item.task, item.uid)}


def test_references_outside_of_an_experiment_are_refused(tmp_path):
    entries = [{"marker": 1, "text": "dog", "image": "../../secret.png"}]
    (tmp_path / "quick_style").mkdir()
    path = tmp_path / "quick_style" / "dataset_lookup.json"
    path.write_text(json.dumps({"0.png": {"instruction": "A [ref#1] dog", "references": entries}}))
    with pytest.raises(RatingError, match="outside"):
        list(read_experiments(tmp_path))


def test_instructions_come_from_shards(tmp_path):
    with ShardWriter(tmp_path) as writer:
        for item in plain_inputs(2):
            key = f"{item.task}-{item.uid[0]}"
            writer.write(Example(item.instruction, item.target, item.task, key))
    assert [item.uid for item in read_inputs(tmp_path)] == ["0.png", "1.png"]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"instruction": "Draw a dog"}',
        '{"task_type": "a/b", "instruction": "Draw a dog"}',
        '{"task_type": "text", "instruction": "Draw [ref#1]"}',
        '{"task_type": "text", "instruction": "Draw a dog", "output_image": "../out.png"}',
        '{"task_type": "text", "instruction": "Draw a dog", "output_image": "gone.png"}',
        '{"task_type": "text", "instruction": "Draw a dog", "key": "///"}',
    ],
)
def test_damaged_instructions_name_their_line(line, tmp_path):
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps({"task_type": "text", "instruction": "A dog"}) + f"\n{line}\n")
    with pytest.raises(RatingError, match="instruction 2"):
        list(read_inputs(path))
    with pytest.raises(RatingError, match="cannot be read"):
        list(read_inputs(tmp_path / "gone.jsonl"))


def test_studies_without_sense_are_refused(tmp_path):
    def create(inputs, methods=(), **options):
        create_study(str(tmp_path / "a.sqlite3"), StudyConfig(), inputs, methods, **options)

    answered = MethodResults("A", FolderResults(write_method(tmp_path / "A", ["subject/0.png"], 1)))
    with pytest.raises(RatingError, match="no instruction to rate"):
        create([])
    with pytest.raises(RatingError, match="appears twice"):
        create([*plain_inputs(1), *plain_inputs(1)], [answered])
    with pytest.raises(RatingError, match="same name"):
        create(plain_inputs(1), [answered, answered])
    with pytest.raises(RatingError, match="folder of references"):
        create(plain_inputs(1), [MethodResults("input", answered.files)])
    without = [item.__class__(item.task, item.uid, item.instruction) for item in plain_inputs(1)]
    with pytest.raises(RatingError, match="true picture"):
        create(without, [answered], truth=True)
    for config in ({"title": " "}, {"raters_per_image": 0}, {"guidelines": "x" * 30_000}):
        with pytest.raises(RatingError):
            StudyConfig(**config)
    assert not (tmp_path / "a.sqlite3").exists()
    create(plain_inputs(1), [answered], truth=True)
    assert study_size(open_database(str(tmp_path / "a.sqlite3"))).num_methods == 2


def test_a_study_that_another_process_made_meanwhile_is_left_alone(tmp_path):
    answered = MethodResults("A", FolderResults(write_method(tmp_path / "A", ["subject/0.png"], 1)))
    name = str(tmp_path / "a.sqlite3")

    def inputs():
        create_study(name, StudyConfig(), plain_inputs(1), [answered])  # the other one
        yield from plain_inputs(1)

    with pytest.raises(RatingError, match="holds a study already"):
        create_study(name, StudyConfig(), inputs(), [answered])
    assert study_size(open_database(name)).num_outputs == 1


def test_repeated_pictures_are_said(tmp_path, caplog):
    folder = write_method(tmp_path / "A", ["subject/0.png", "subject/1.png"], 1)
    (folder / "subject" / "1.png").write_bytes((folder / "subject" / "0.png").read_bytes())
    create_study(str(tmp_path / "a"), StudyConfig(), plain_inputs(2), [MethodResults("A", FolderResults(folder))])
    assert "1 pictures repeat another" in caplog.text


# ImagenHub


@pytest.fixture
def imagenhub(tmp_path) -> Path:
    """A folder of results as ImagenHub's benchmark leaves it, with several kinds of tasks."""
    lookups = {
        "Control": {"s0.jpg": {"text": "a house.", "control_type": "depth"}},
        "Edit": {"s0.jpg": {"source_global_caption": "a cat", "instruction": "put a hat on it"}},
        "Swap": {"s0.jpg": {"subject": "red_teapot"}},
        "Text": {"s0.jpg": {"prompt": "two dogs", "category": "x"}, "s1.jpg": {"prompt": "three dogs"}},
        "Compose": {"s0.jpg": {"prompt": "both on grass", "concept1": "dog", "concept2": "cat"}},
    }
    given = {"Control": ["input"], "Edit": ["input", "mask"], "Swap": ["input", "token"]}
    for number, (task, lookup) in enumerate(lookups.items()):
        for model in ("ModelA", "ModelB", *given.get(task, ()), *(["GroundTruth"] if task == "Edit" else [])):
            for index, uid in enumerate(lookup):
                path = tmp_path / "results" / task / model / uid
                path.parent.mkdir(parents=True, exist_ok=True)
                plain_picture(number, index, len(model)).resize((48, 48)).save(path, quality=95)
        (tmp_path / "results" / task / "dataset_lookup.json").write_text(json.dumps(lookup))
    (tmp_path / "results" / "input").mkdir()
    plain_picture(99).save(tmp_path / "results" / "input" / "s0.jpg")
    return tmp_path / "results"


def test_imagenhubs_tasks_become_instructions(imagenhub):
    found = {(item.task, item.uid): item.instruction for item in read_experiments(imagenhub)}
    texts = {task: instruction.text for (task, uid), instruction in found.items() if uid == "s0.jpg"}
    assert texts == {
        "Compose": "both on grass. (the subject is dog and cat; the input picture is [ref#1])",
        "Control": "a house. (the input picture (depth) is [ref#1])",
        "Edit": "put a hat on it. (the input picture is [ref#1]; the mask is [ref#2])",
        "Swap": "Replace the subject by the red teapot. (the input picture is [ref#1]; the subject is [ref#2])",
        "Text": "two dogs. (the input picture is [ref#1])",
    }
    assert found["Text", "s1.jpg"].text == "three dogs"
    assert [method.name for method in read_methods(imagenhub, truth=False)] == ["ModelA", "ModelB"]


def test_a_study_goes_to_imagenhubs_folders_and_comes_back(imagenhub, tmp_path):
    name = str(tmp_path / "study.sqlite3")
    methods = read_methods(imagenhub, truth=True)
    create_study(name, StudyConfig(), read_experiments(imagenhub), methods)
    database = open_database(name)
    assert study_size(database).num_outputs == 13
    export_study(database, tmp_path / "out", pictures=True)
    written = tmp_path / "out" / "results"
    assert (written / "Edit" / "dataset_lookup.csv").read_text().splitlines() == ["uid", "s0.jpg"]
    again = {(item.task, item.uid): item.instruction for item in read_experiments(written)}
    for item in read_experiments(imagenhub):
        back = again[item.task, item.uid]
        assert back.text == item.instruction.text
        assert [(r.marker, r.text, r.image.size) for r in back.references] == [
            (r.marker, r.text, r.image.size) for r in item.instruction.references
        ]
    create_study(str(tmp_path / "again"), StudyConfig(), read_experiments(written), read_methods(written, truth=True))
    before, after = Image.open(imagenhub / "Text/ModelA/s0.jpg"), Image.open(written / "Text/ModelA/s0.jpg")
    assert np.abs(np.asarray(before, dtype=int) - np.asarray(after, dtype=int)).mean() < 3  # JPEG once more


def test_damaged_lookups_are_refused(imagenhub):
    lookup = imagenhub / "Text" / "dataset_lookup.json"
    for content, sentence in (("{", "as JSON"), ("[1]", "must be an object"), ('{"s0.jpg": {"x": 1}}', "no text")):
        lookup.write_text(content)
        with pytest.raises(RatingError, match=sentence):
            list(read_experiments(imagenhub))
    with pytest.raises(RatingError, match="holds no experiment"):
        list(read_experiments(imagenhub / "Text"))


def test_several_pictures_of_one_marker_survive_the_way(tmp_path):
    references = [([plain_picture(1), plain_picture(2)], "dog"), (plain_picture(3), "style")]
    item = plain_inputs(1)[0]
    item = item.__class__(item.task, "a.png", Instruction.build("The [ref#1] dog in the style of [ref#2]", references))
    method = MethodResults("A", FolderResults(write_method(tmp_path / "A", ["subject/a.png"], 4)))
    create_study(str(tmp_path / "study"), StudyConfig(), [item], [method])
    export_study(open_database(str(tmp_path / "study")), tmp_path / "out", pictures=True)
    [back] = read_experiments(tmp_path / "out" / "results")
    assert back.instruction.text == item.instruction.text
    pairs = zip(back.instruction.references, item.instruction.references, strict=True)
    assert all((a.marker, a.text, a.image.tobytes()) == (b.marker, b.text, b.image.tobytes()) for a, b in pairs)


# Tables


ratings = st.builds(
    Rating,
    st.just("task"),
    st.sampled_from(["a.jpg", "b.png"]),
    st.sampled_from(["A", "B b"]),
    st.just("rater1"),
    st.sampled_from(LEVELS),
    st.sampled_from(LEVELS),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(ratings, unique_by=lambda rating: (rating.uid, rating.method), min_size=1))
def test_tables_come_back_as_they_were_written(written, tmp_path):
    folder = tmp_path / "task"
    folder.mkdir(exist_ok=True)
    (folder / "task_rater1.tsv").write_text(table_text(written, ["A", "B b"], ["a.jpg", "b.png"]))
    assert sorted(read_tables(tmp_path), key=str) == sorted(written, key=str)


def test_tables_are_read_as_people_write_them(tmp_path):
    (tmp_path / "My_Task").mkdir()
    path = tmp_path / "My_Task" / "My_Task_rater2.tsv"
    path.write_bytes("\ufeffuid\tA\tB\r\ns0.jpg\t[0,.5]\t[1.0, 0.0]\r\n\r\ns1.jpg\t\tnan\r\n".encode())
    assert read_table(path) == [
        Rating("My_Task", "s0.jpg", "A", "rater2", 0, 0.5),
        Rating("My_Task", "s0.jpg", "B", "rater2", 1, 0),
    ]
    sheet = tmp_path / "dataset_lookup.csv"
    sheet.write_text('uid,A\ns0.jpg,"[0.5, 1]"\n')
    assert read_table(sheet, "T", "Ada") == [Rating("T", "s0.jpg", "A", "Ada", 0.5, 1)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no table"),
        ("name\tA\n", "no table"),
        ("uid\n", "no table"),
        ("uid\tA\tA\n", "two columns"),
        ("uid\t../A\n", "must be 1 to 64"),
        ("uid\tA\ns0\t[0, 0.7]\n", "line 2, A"),
        ("uid\tA\ns0\t[1]\n", "line 2, A"),
        ("uid\tA\ns0\t__import__('os')\n", "line 2, A"),
        ("uid\tA\ns0\t[0, 1]\ns0\t[0, 1]\n", "line 3"),
        ("uid\tA\ns0\t[0, 1]\t[0, 1]\n", "line 2"),
    ],
)
def test_damaged_tables_name_the_place(text, sentence, tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(RatingError, match=sentence):
        read_table(path)
    with pytest.raises(RatingError, match="holds no tables"):
        read_tables(tmp_path)


def test_slots_have_no_gaps_when_more_people_rate_than_pictures_need(tmp_path):
    database = make_study(tmp_path, config=StudyConfig(raters_per_image=2, seed=1))
    desk = RatingDesk(database)
    people = [sign_in(database, invitation.token).visitor.id for invitation in add_raters(database, list("abcd"))]
    while any((states := {p: desk.state(p) for p in people})[p].item for p in people):
        for person, state in states.items():
            if state.item:
                desk.submit(person, state.item.picture, Answer(1, 1))
    export_study(database, tmp_path / "slots", slots=True)
    tables = sorted((tmp_path / "slots" / "ratings" / "subject").iterdir())
    assert [path.name for path in tables] == ["subject_rater1.tsv", "subject_rater2.tsv"]
    assert all(len(read_table(path)) == 12 for path in tables)
    export_study(database, tmp_path / "named", names=True)
    assert {stored.rating.rater for stored in stored_ratings(database)} <= set("abcd")
    assert (tmp_path / "named" / "ratings" / "subject" / "subject_a.tsv").is_file()
    assert len(METHODS) == 3
