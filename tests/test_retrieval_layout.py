"""Embeddings and clusters on disk: written, read back, found by key, and refused when damaged."""

from __future__ import annotations

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from instruct_imagen.data.report import DataError
from instruct_imagen.retrieval.embedders import unit_length
from instruct_imagen.retrieval.examples import cluster_instruction, context_caption, plain_caption
from instruct_imagen.retrieval.layout import StoredEmbeddings, find_parts, read_metadata, read_vectors, write_part
from instruct_imagen.retrieval.records import ClusterRecord, ClusterShards, ClusterSource, draw_example, write_shard
from instruct_imagen.retrieval.rows import load_rows, take_vectors


def vectors(num, dim=8, seed=0):
    return unit_length(np.random.default_rng(seed).standard_normal((num, dim)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_layout_round_trip(tmp_path, dtype):
    images, texts = vectors(5).astype(dtype), vectors(5, seed=1).astype(dtype)
    metadata = {"image_path": [f"a/{i}.jpg" for i in range(5)], "caption": list("abcde"), "url": ["u"] * 5}
    for number in (0, 10, 2):
        write_part(tmp_path, images + number, metadata, texts, number)
    parts = find_parts(tmp_path)
    assert [part.images.name for part in parts] == ["img_emb_0.npy", "img_emb_2.npy", "img_emb_10.npy"]
    assert parts[0].metadata == tmp_path / "metadata" / "metadata_0.parquet"
    found = read_vectors(parts[2].images)
    assert found.dtype == dtype and np.array_equal(found, images + 10)
    assert parts[1].texts is not None and np.array_equal(read_vectors(parts[1].texts), texts)
    table = read_metadata(parts[0], ("caption", "url", "nothing"))
    assert table.to_pydict() == {"caption": list("abcde"), "url": ["u"] * 5}


def test_damaged_layouts_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no embeddings"):
        find_parts(tmp_path)
    with pytest.raises(DataError, match="do not fit together"):
        write_part(tmp_path / "a", vectors(3), {"key": ["a"]})
    part = write_part(tmp_path / "b", vectors(3), {"key": list("abc")})
    np.save(part.images, vectors(4))
    with pytest.raises(DataError, match="3 rows"):
        read_metadata(part, ("key",))
    np.save(part.images, vectors(4).astype(int))
    with pytest.raises(DataError, match="float16 or float32"):
        read_vectors(part.images)
    part.images.write_bytes(b"no array")
    with pytest.raises(DataError, match="holds no embeddings"):
        read_vectors(part.images)
    part.metadata.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_metadata(part, ("key",))
    part.metadata.unlink()
    with pytest.raises(DataError, match="metadata_0"):
        find_parts(tmp_path / "b")


def test_stored_embeddings_are_found_by_key(tmp_path):
    values = vectors(6)
    write_part(tmp_path, values[:4], {"key": ["u/z", "000", "b", "u/a"]})
    write_part(tmp_path, values[4:], {"image_path": ["x/y/c.jpg", "d.png"]}, number=1)
    stored = StoredEmbeddings(tmp_path)
    keys = ["u/a", "u/000", "other/none", "u/sub/c.jpg", "u/z", "q/d.png"]
    known, found = stored.find(keys)
    assert known.tolist() == [True, True, False, True, True, True]
    assert found[known] == pytest.approx(values[[3, 1, 4, 0, 5]], abs=1e-6)
    assert not found[2].any()
    write_part(tmp_path, values[:1], {"key": ["b"]}, number=2)
    with pytest.raises(DataError, match="'b'"):
        StoredEmbeddings(tmp_path)
    write_part(tmp_path, values[:1], {"caption": ["b"]}, number=2)
    with pytest.raises(DataError, match="neither"):
        StoredEmbeddings(tmp_path)


def test_rows_are_ordered_by_quality_size_and_key_however_they_are_spread(tmp_path):
    rng = np.random.default_rng(0)
    num = 20
    columns = {
        "key": [f"k{i:02d}" for i in rng.permutation(num)],
        "url": [["", "http://www.a.org/x.png", "https://a.org/x.png#top", "http://b.org"][i % 4] for i in range(num)],
        "phash": rng.integers(0, 2**64, num, np.uint64),
        "quality": rng.integers(0, 3, num).astype(np.float32),
        "pixels": rng.integers(1, 3, num),
    }
    values = vectors(num)
    orders = []
    for name, cuts in (("one", [20]), ("three", [4, 4, 12])):
        parts, start = [], 0
        for number, size in enumerate(cuts):
            here = slice(start, start + size)
            start += size
            cut = {column: entries[here] for column, entries in columns.items()}
            parts.append(write_part(tmp_path / name, values[here].astype(np.float16), cut, number=number))
        rows = load_rows(parts)
        orders.append(rows.keys.to_pylist())
        places = [columns["key"].index(key) for key in rows.keys.to_pylist()]
        assert np.array_equal(rows.hashes, columns["phash"][places])
        assert take_vectors(parts, rows.part, rows.row) == pytest.approx(values[places], abs=2e-3)
        kinds = np.array([place % 4 for place in places])
        assert (rows.urls[kinds == 0] == -1).all() and len(np.unique(rows.urls[np.isin(kinds, (1, 2))])) == 1
        assert len(np.unique(rows.urls)) == 3
    expected = sorted(range(num), key=lambda i: (-columns["quality"][i], -columns["pixels"][i], columns["key"][i]))
    assert orders[0] == orders[1] == [columns["key"][i] for i in expected]


def test_rows_of_a_bare_layout(tmp_path):
    part = write_part(tmp_path, vectors(3), {"image_path": ["a", "b", "c"]})
    rows = load_rows([part])
    assert rows.hashes is None and (rows.urls == -1).all() and rows.row.tolist() == [0, 1, 2]


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def record(number):
    names = tuple(f"{number}-{place}" for place in range(5))
    pictures = tuple(png((number, place, 7)) for place in range(5))
    return ClusterRecord(f"cluster-{number:09d}", "art", names, tuple(f"u{n}" for n in names), names, pictures)


@pytest.fixture
def shards(tmp_path):
    write_shard(tmp_path / "00000.tar", [record(0), record(1), record(2)])
    write_shard(tmp_path / "00001.tar", [record(3)])
    return tmp_path


def test_clusters_come_back_with_and_without_their_index(shards):
    expected = [record(number) for number in range(4)]
    assert list(ClusterShards(shards)) == expected
    with tarfile.open(shards / "00000.tar") as tar:
        names = tar.getnames()
        assert names[:6] == ["cluster-000000000.json", *(f"cluster-000000000.{i}.png" for i in range(5))]
        content = json.load(tar.extractfile(names[0]))
        assert sorted(content) == ["captions", "domain", "keys", "urls"]
    (shards / "00000.index.npy").unlink()
    assert list(ClusterShards(shards)) == expected
    (shards / "00000.index.npy").write_bytes((shards / "00001.index.npy").read_bytes())  # of another tar
    assert list(ClusterShards(shards)) == expected


def test_damaged_clusters_are_refused(shards, tmp_path):
    with pytest.raises(DataError, match="holds no clusters"):
        ClusterShards(tmp_path / "nothing")
    (shards / "00000.index.npy").unlink()
    (shards / "00000.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(DataError, match="damaged"):
        ClusterShards(shards)
    with tarfile.open(shards / "00000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.json"), io.BytesIO())
    with pytest.raises(DataError, match=r"lacks a\.0\.png"):
        ClusterShards(shards)
    (shards / "00000.tar").unlink()
    broken = ClusterRecord("cluster-1", "art", ("a",) * 5, ("",) * 5, ("k",) * 5, (b"no picture",) * 5)
    with pytest.raises(DataError, match="damaged"):
        draw_example(broken, [0, 1, 2, 3], "key")


def test_source_draws_every_cluster_once_an_epoch_and_other_members_in_the_next(shards):
    source = ClusterSource(shards, seed=3)
    assert len(source) == 4
    examples = [source[index] for index in range(40)]
    drawn = []
    for index, example in enumerate(examples):
        pixels = [example.target.getpixel((0, 0)), *(r.image.getpixel((0, 0)) for r in example.instruction.references)]
        assert len({pixel[0] for pixel in pixels}) == 1 and len({pixel[1] for pixel in pixels}) == 4
        number, place, _ = pixels[0]
        assert example.task == "cluster" and example.key == f"cluster-{number:09d}-{index:09d}"
        assert example.instruction.text == f"{number}-{place} [ref#1] [ref#2] [ref#3]"
        assert [r.text for r in example.instruction.references] == [f"{number}-{p[1]}" for p in pixels[1:]]
        drawn.append(tuple(pixels))
    for epoch in range(10):
        assert sorted(pixels[0][0] for pixels in drawn[4 * epoch : 4 * epoch + 4]) == [0, 1, 2, 3]
    assert {pixels[0][1] for pixels in drawn} == set(range(5)) and len(set(drawn)) > 30
    again = pickle.loads(pickle.dumps(source))
    assert again[17].instruction.text == examples[17].instruction.text and again[17].key == examples[17].key
    assert [ClusterSource(shards, seed=4)[i].key for i in range(40)] != [example.key for example in examples]


@given(st.text(min_size=1, max_size=300), st.integers(0, 3))
def test_any_caption_of_the_web_fits_an_instruction(text, times):
    caption = plain_caption(text + "[[ref#2] <|image_1|> " * times + text)
    image = Image.new("RGB", (4, 4))
    if caption:
        instruction = cluster_instruction(caption, [(image, context_caption(caption))] * 3)
        assert instruction.text == f"{caption} [ref#1] [ref#2] [ref#3]"
        assert all(r.text == context_caption(caption) for r in instruction.references)


def test_long_captions_are_cut_after_a_word():
    assert plain_caption("one two  three\x00four", 100) == "one two three four"
    assert plain_caption("one two three", 8) == "one two" and plain_caption("one two three", 7) == "one two"
    assert plain_caption("a" * 50, 8) == "a" * 8
    assert plain_caption("see [ref#1] and [REF 2] or <|image_3|>") == "see ref#1] and REF 2] or |image_3|>"
