"""Tars and captions: what is whole is found in any order and across damage, and captions are clean text."""

from __future__ import annotations

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_reading import PICTURE, captions, dropped, read, tar_of
from damaged_corpus import Sample, members_of, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_imagen.data.pair_captions import MAX_CAPTION_CHARS, Record, clean_caption, find_words
from instruct_imagen.data.pair_record import SampleError, printable
from instruct_imagen.data.pair_tars import index_tar
from instruct_imagen.instruction import Instruction

# Tars


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.integers(0, 1100))
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_the_index_of_a_good_tar_is_that_of_tarfile(members, form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for number, (name, size) in enumerate(members):
            long = "" if form == tarfile.USTAR_FORMAT else "long/" * 60 * (number % 2)
            info = tarfile.TarInfo(
                f"{long}{number}{name[:20]}.jpg" if form != tarfile.USTAR_FORMAT else f"{number}.jpg"
            )
            info.size, info.mtime = size, 0.5 if form == tarfile.PAX_FORMAT else 0
            tar.addfile(info, io.BytesIO(b"\xaa" * size))
    index = index_tar(buffer)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar]
    assert [(member.name, member.offset, member.size) for member in index.members] == expected
    assert index.num_gaps == 0 and not index.is_cut


@pytest.fixture(scope="module")
def short_tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Six samples of a few blocks each."""
    path = tmp_path_factory.mktemp("tars") / "x.tar"
    write_tar(path, [member for key in "abcdef" for member in members_of(key, Sample(b"\xaa" * 700, key.encode()))])
    return path.read_bytes()


SAMPLE_BYTES = 512 + 1024 + 512 + 512  # picture and caption with their headers


@settings(max_examples=60)
@given(data=st.data())
def test_a_tar_cut_anywhere_yields_all_samples_before_the_cut(short_tar, tmp_path_factory, data):
    length = data.draw(st.integers(1, 6 * SAMPLE_BYTES + 511))
    path = tmp_path_factory.mktemp("cut") / "x.tar"
    path.write_bytes(short_tar[:length])
    pairs, report = read(path)
    # A caption of one byte is whole before the rest of its block is there.
    num_whole = (length + 511) // SAMPLE_BYTES
    assert [pair.caption for pair in pairs] == list("abcdef")[:num_whole]
    assert dropped(report) == {"tar cut off" if length >= 512 else "not a tar": 1}


def test_a_header_that_looks_compressed_costs_its_own_sample(short_tar, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"\x1f\x8b" + short_tar[2:])
    assert {pair.key.rpartition("/")[2] for pair in read(tmp_path / "x.tar")[0]} >= set("bcdef")


@settings(max_examples=60)
@given(data=st.data())
def test_damage_in_a_tar_costs_no_more_than_the_samples_it_touches(short_tar, tmp_path_factory, data):
    begin = data.draw(st.integers(0, 6 * SAMPLE_BYTES - 1))
    noise = data.draw(st.binary(min_size=1, max_size=SAMPLE_BYTES).filter(any))
    end = min(begin + len(noise), 6 * SAMPLE_BYTES)
    path = tmp_path_factory.mktemp("noise") / "x.tar"
    path.write_bytes(short_tar[:begin] + noise[: end - begin] + short_tar[end:])
    touched = range(begin // SAMPLE_BYTES, (end - 1) // SAMPLE_BYTES + 1)
    untouched = [key for number, key in enumerate("abcdef") if number not in touched]
    found = {pair.key.rpartition("/")[2] for pair in read(path)[0]}
    assert set(untouched) <= found


def test_samples_are_whole_in_whatever_order_their_members_stand(tmp_path):
    members = [member for key in "abc" for member in members_of(key, Sample(PICTURE, key.encode()))]
    write_tar(tmp_path / "x.tar", members[::2] + members[:0:-2])
    assert captions(tmp_path) == ["a", "b", "c"]


def test_joined_tars_are_read_whole(tmp_path):
    parts = [tar_of(tmp_path / f"{key}.part", key).read_bytes() for key in "ab"]
    (tmp_path / "x.tar").write_bytes(b"".join(parts) + b"junk behind the end mark" * 100)
    pairs, report = read(tmp_path)
    assert [pair.caption for pair in pairs] == ["a", "b"] and not dropped(report)


def test_names_with_dots_are_samples_or_parts_of_one(tmp_path):
    dotted = ("img.0001", "img.0002", "folder.x/img")
    tar_of(tmp_path / "x.tar", *dotted)
    assert captions(tmp_path) == list(dotted)
    members = members_of("a", Sample(PICTURE, b"whole"))
    extras = [("a.mask.png", PICTURE), ("a.info.json", b"{}"), ("a.cls", b"3")]
    write_tar(tmp_path / "x.tar", [*extras, *members])
    pairs, report = read(tmp_path)
    assert [pair.caption for pair in pairs] == ["whole"] and not dropped(report)


def test_names_of_any_bytes_make_keys_that_can_be_written(tmp_path):
    name = b"\xff\x01".decode("utf-8", "surrogateescape")
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for suffix, data in (("jpg", PICTURE), ("txt", b"a")):
            info = tarfile.TarInfo(f"{name}.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (pair,) = read(tmp_path)[0]
    assert pair.key == r"x/\xff\x01" and pair.key.isprintable()
    assert printable(f"{name}ü\n") == r"\udcff\x01ü\n"


def test_the_sidecar_serves_where_the_tar_says_nothing(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.jpg", PICTURE), *members_of("b", Sample(PICTURE, b"b"))])
    table = pa.table({"key": ["a", "b"], "caption": ["from beside", "no"], "url": ["http://a", "http://b"]})
    pq.write_table(table, tmp_path / "0.parquet")
    for source in (tmp_path, tmp_path / "0.tar"):
        assert [(p.caption, p.url) for p in read(source)[0]] == [("from beside", "http://a"), ("b", "http://b")]
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    pairs, report = read(tmp_path)
    assert [pair.caption for pair in pairs] == ["b"]
    assert dropped(report) == {"unreadable sidecar": 1, "no caption": 1}


# Captions


@given(st.text(st.characters(codec=None, categories=None)) | st.binary())
def test_a_caption_is_clean_whatever_it_was(value):
    try:
        text = clean_caption(value)
    except SampleError as error:
        assert isinstance(value, bytes) and error.reason == "caption is not UTF-8"
        with pytest.raises(UnicodeDecodeError):
            value.decode()
        return
    assert text.encode().decode() == text == clean_caption(text) == " ".join(text.split())
    if text:
        Instruction.build(text.replace("[", "(").replace("<", "("))  # takes no control character


@pytest.mark.parametrize(
    ("value", "caption"),
    [
        (b"\xef\xbb\xbfa fox", "a fox"),
        ("a\0 fox\r\n\ton\u2028a\x07  hill ", "a fox on a hill"),
        ("half an emoji \ud83d.", "half an emoji ."),
        ("a family: 👩\u200d👧", "a family: 👩\u200d👧"),
        (["", None, "second", "third"], "second"),
        (None, ""),
        (3.5, ""),
        ([], ""),
        ("word " * 1000, ("word " * 200)[:-1]),
        ("x" * 5000, "x" * MAX_CAPTION_CHARS),
    ],
)
def test_captions_are_tidied(value, caption):
    assert clean_caption(value) == caption


def test_the_caption_is_the_first_good_one_and_the_reason_the_first_bad_one():
    record = Record.of({"TEXT": "b", "Prompt": "c", "caption": " ", "URL": "u"})
    sidecar = Record.of({"caption": "d", "url": "v"})
    assert find_words(record, lambda: b"a", lambda: sidecar).caption == "a"
    assert find_words(record, lambda: b"\xff", lambda: sidecar).caption == "b"
    words = find_words(Record(fault="broken JSON"), lambda: b"", lambda: sidecar)
    assert (words.caption, words.url) == ("d", "v")
    assert find_words(record, sidecar=lambda: sidecar).url == "u"
    with pytest.raises(SampleError, match="not UTF-8"):
        find_words(Record(fault="broken JSON"), lambda: b"\xff")
    with pytest.raises(SampleError, match="broken JSON"):
        find_words(Record(fault="broken JSON"), lambda: b" ")


def test_bytes_that_are_not_utf8_spoil_their_own_field_only():
    record = Record.parse(lambda: b'{"caption": "a fox", "exif": "\xe9", "url": "\xff"}')
    words = find_words(record)
    assert (words.caption, words.url) == ("a fox", "")
