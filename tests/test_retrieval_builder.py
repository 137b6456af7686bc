"""The builder end to end on rendered pairs with planted copies: what comes out, and how it goes on after a crash."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cluster_corpus import CONFIG, GROUP_SIZE, NUM_FOLDERS, NUM_GROUPS, HistogramEmbedder, files_of, write_corpus
from PIL import Image

from instruct_imagen.data.pairs import decode, list_units, read_unit
from instruct_imagen.data.report import DataError, Report
from instruct_imagen.retrieval import units
from instruct_imagen.retrieval.builder import build_clusters
from instruct_imagen.retrieval.engines import LocalEngine
from instruct_imagen.retrieval.layout import find_parts, read_metadata, read_vectors
from instruct_imagen.retrieval.quality import BasicQuality
from instruct_imagen.retrieval.records import ClusterShards, ClusterSource


@pytest.fixture(scope="module")
def corpus(builtin_pack, tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), builtin_pack)


@pytest.fixture(scope="module")
def built(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    return out, build_clusters(corpus, out, CONFIG, LocalEngine())


def name_of(key):
    return Path(key).stem


def test_clusters_are_disjoint_alike_and_free_of_copies(built):
    records = list(ClusterShards(built[0]))
    names = [name_of(key) for record in records for key in record.keys]
    assert len(records) >= 20 and len(set(names)) == len(names) == 5 * len(records)
    stems = Counter(name[:3] + name[4:] if name.endswith(("copy", "twin")) else name for name in names)
    for group in range(0, NUM_GROUPS, 6):
        assert stems[f"g{group:02d}_3"] + stems[f"g{group:02d}copy"] <= 1
        assert stems[f"g{group + 1:02d}_4"] + stems[f"g{group + 1:02d}twin"] <= 1
    pure = [len({name_of(key)[:3] for key in record.keys}) == 1 for record in records]
    assert np.mean(pure) >= 0.6
    assert len(list((built[0] / "shards").glob("*.tar"))) == -(-len(records) // 8)


def test_pictures_and_captions_are_those_of_the_corpus(built, corpus):
    pairs = {pair.key: pair for unit in list_units(corpus) for pair in read_unit(unit, Report())}
    for record in list(ClusterShards(built[0]))[:6]:
        for key, text, url, data in zip(record.keys, record.captions, record.urls, record.pictures, strict=True):
            assert (pairs[key].caption, pairs[key].url) == (text, url)
            found, expected = Image.open(io.BytesIO(data)), decode(pairs[key], Report())
            assert found.size == (48, 48)
            difference = np.asarray(found, int) - np.asarray(expected.resize((48, 48), Image.Resampling.LANCZOS), int)
            assert np.abs(difference).mean() < 2


def test_report_accounts_for_every_pair(built):
    out, report = built
    content = json.loads((out / "report.json").read_text())
    assert Report.from_json(content).to_json() == report.to_json()
    steps = {name: (step.kept, step.dropped) for name, step in report.steps.items()}
    total = NUM_GROUPS * GROUP_SIZE + 6 + 6 + 2
    assert steps["read"][0] == total and steps["decode"] == (total - 1, {"not a picture": 1})
    assert steps["quality"] == (total - 2, {"nearly uniform": 1}) and steps["embedding"][0] == total - 2
    kept = total - 2
    for name in ("same origin", "domains", "near duplicates", "clusters"):
        assert steps[name][0] + sum(steps[name][1].values()) == kept, name
        kept = steps[name][0]
    assert steps["same origin"][1]["same URL"] == 6
    copies = steps["same origin"][1].get("same perceptual hash", 0) + sum(steps["near duplicates"][1].values())
    assert copies >= 6
    assert kept == content["num_pictures"] == 5 * content["num_clusters"]
    assert [domain["name"] for domain in content["domains"]] == ["light", "dark", "warm"]
    assert all(domain["recall"] == 1 for domain in content["domains"])
    assert Image.open(out / "clusters.png").size[0] > 5 * 150


def test_work_is_left_in_the_layout_of_clip_retrieval(built, corpus):
    unit = list_units(corpus)[0]
    part = find_parts(built[0] / "work" / "units" / unit.name)[0]
    table = read_metadata(part, ("image_path", "caption", "url", "key", "phash", "quality", "pixels"))
    assert len(table.column_names) == 7 and len(read_vectors(part.images)) == table.num_rows > 60
    assert not list((built[0] / "work").glob("pictures-*"))


def test_training_draws_from_what_was_built(built):
    source = ClusterSource(built[0], seed=0)
    example = source[len(source) + 3]
    assert example.task == "cluster" and len(example.instruction.references) == 3
    assert example.instruction.text.endswith(" [ref#1] [ref#2] [ref#3]")


def test_what_is_done_is_not_done_again(built, corpus, monkeypatch):
    before = files_of(built[0])
    monkeypatch.setattr(units, "read_unit", lambda *_: pytest.fail("a unit was read again"))
    report = build_clusters(corpus, built[0], CONFIG, LocalEngine())
    assert report.to_json() == built[1].to_json() and files_of(built[0]) == before


@dataclass(frozen=True)
class Crashing:
    """An engine that is killed in the middle of a map, after some results."""

    results_before: int

    def map_units(self, function, units):
        for number, unit in enumerate(units):
            if number == self.results_before:
                raise KeyboardInterrupt
            yield function(unit)


@dataclass(frozen=True)
class CrashingQuality(BasicQuality):
    """Fails on one picture, in the middle of its unit."""

    path: str = ""

    @property
    def name(self):
        return BasicQuality(self.min_side_px, min_sharpness=self.min_sharpness).name

    def fault(self, image):
        with open(self.path, "a") as file:
            file.write(".")
        if len(Path(self.path).read_text()) == 100:
            raise RuntimeError("killed")
        return super().fault(image)


def test_a_killed_build_goes_on_and_gives_the_same(built, corpus, tmp_path, monkeypatch):
    crashing = CrashingQuality(32, min_sharpness=1.0, path=str(tmp_path / "count"))
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="killed"):
        build_clusters(corpus, out, replace(CONFIG, quality=crashing), LocalEngine())
    assert len(list((out / "work" / "units").glob("[!.]*"))) == 1  # the second unit was in the middle
    read = []
    real = units.read_unit
    monkeypatch.setattr(units, "read_unit", lambda unit, report: read.append(unit.name) or real(unit, report))
    for results in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            build_clusters(corpus, out, CONFIG, Crashing(results))
        assert not (out / "shards").exists()
    names = sorted(unit.name for unit in list_units(corpus))
    assert read == names[1:3]  # the third map of the second run ends before a unit is asked for
    build_clusters(corpus, out, CONFIG, LocalEngine())
    found, expected = files_of(out), files_of(built[0])
    assert {path for path in found if found[path] != expected.get(path)} == set() and found.keys() == expected.keys()


def test_a_build_killed_while_it_writes_reads_no_unit_twice(built, corpus, tmp_path, monkeypatch):
    def kill(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("instruct_imagen.retrieval.writing.gather_shard", kill)
    with pytest.raises(KeyboardInterrupt):
        build_clusters(corpus, tmp_path, CONFIG, LocalEngine())
    monkeypatch.undo()
    assert len(list(tmp_path.glob("work/pictures-*/*.npy"))) == NUM_FOLDERS
    monkeypatch.setattr(units, "read_unit", lambda *_: pytest.fail("a unit was read again"))
    build_clusters(corpus, tmp_path, CONFIG, LocalEngine())
    assert files_of(tmp_path / "shards") == files_of(built[0] / "shards")


def test_other_rules_use_the_same_embeddings_and_replace_the_shards(built, corpus, tmp_path):
    other = replace(CONFIG, rules=replace(CONFIG.rules, min_similarity=0.95), domains=())
    shutil.copytree(built[0], tmp_path / "out")
    report = build_clusters(corpus, tmp_path / "out", other, LocalEngine())
    assert report.step("clusters").kept < built[1].step("clusters").kept
    assert len(ClusterShards(tmp_path / "out")) == report.step("clusters").kept // 5
    assert {record.domain for record in ClusterShards(tmp_path / "out")} == {"all"}
    with pytest.raises(DataError, match="embeddings of another quality"):
        build_clusters(corpus, tmp_path / "out", replace(CONFIG, quality=BasicQuality()), LocalEngine())
    strict = replace(CONFIG.rules, min_similarity=1.01)
    with pytest.raises(DataError, match="No five pictures"):
        build_clusters(corpus, tmp_path / "out", replace(CONFIG, rules=strict), LocalEngine())


class NoPictures(HistogramEmbedder):
    """Embeds texts alone."""

    def images(self, images):
        pytest.fail("a picture was embedded") if images[0].size == (64, 64) else None
        return super().images(images)


def test_embeddings_made_elsewhere_are_used(built, corpus, tmp_path):
    """Three units' embeddings are known; pictures of the fourth are counted as lacking theirs."""
    stored = tmp_path / "stored"
    for number, unit in enumerate(list_units(corpus)[:3]):
        part = find_parts(built[0] / "work" / "units" / unit.name)[0]
        for path, folder in ((part.images, "img_emb"), (part.metadata, "metadata")):
            (stored / folder).mkdir(parents=True, exist_ok=True)
            (stored / folder / path.name.replace("_0", f"_{number}")).write_bytes(path.read_bytes())
    config = replace(CONFIG, embedder=NoPictures(), stored=stored)
    report = build_clusters(corpus, tmp_path / "out", config, LocalEngine())
    lacking = report.step("embedding").dropped["not among the embeddings given"]
    assert lacking + report.step("embedding").kept == built[1].step("embedding").kept and lacking > 60
    unit = list_units(corpus)[1]
    one, two = (
        read_vectors(find_parts(out / "work" / "units" / unit.name)[0].images) for out in (built[0], tmp_path / "out")
    )
    assert np.abs(one.astype(float) - two).max() < 1e-3


class CaptionsBySize(HistogramEmbedder):
    """A caption with an even number of letters is just like a grey picture, any other like a magenta one."""

    def texts(self, texts):
        return super().texts(["gray" if text in ("gray",) or len(text) % 2 else "magenta" for text in texts])


def test_captions_unlike_their_picture_are_dropped(corpus, tmp_path):
    config = replace(CONFIG, embedder=CaptionsBySize(), min_caption_similarity=0.01, domains=())
    report = build_clusters(corpus, tmp_path, config, LocalEngine())
    assert report.step("quality").dropped["caption unlike the picture"] > 50
    part = find_parts(tmp_path / "work" / "units" / list_units(corpus)[0].name)[0]
    assert part.texts is not None and len(read_vectors(part.texts)) == len(read_vectors(part.images))


def test_a_changed_unit_is_embedded_again(corpus, tmp_path):
    unit = list_units(corpus)[0]
    job = units.EmbedJob(tmp_path, CONFIG.embedder, CONFIG.quality)
    first = units.embed_unit(unit, job)
    changed = replace(unit, count=unit.count - 5)
    second = units.embed_unit(changed, job)
    assert second.step("read").kept == first.step("read").kept - 5
    assert len(read_vectors(find_parts(tmp_path / unit.name)[0].images)) == second.step("embedding").kept
    nothing = units.embed_unit(replace(unit, count=0), job)
    assert nothing.step("embedding").kept == 0
    assert read_vectors(find_parts(tmp_path / unit.name)[0].images).shape == (0, 256)


def test_pictures_that_vanish_between_the_passes_are_noticed(corpus, tmp_path):
    unit = list_units(corpus)[0]
    with pytest.raises(DataError, match="no longer holds the picture 'gone'"):
        units.extract_pictures(units.Wanted(unit, ("gone",)), tmp_path, 48)
    assert not list(tmp_path.glob("*.npy"))


def test_local_engine_keeps_the_order_and_passes_errors_on():
    numbers = [4.0, 9.0, 16.0, 25.0, 36.0, 1.0]
    expected = list(map(math.sqrt, numbers))
    assert list(LocalEngine().map_units(math.sqrt, numbers)) == expected
    assert list(LocalEngine(2).map_units(math.sqrt, numbers)) == expected
    with pytest.raises(ValueError, match="nonnegative|domain"):
        list(LocalEngine(1).map_units(math.sqrt, [1.0, -1.0]))
    assert list(LocalEngine(2).map_units(math.sqrt, [])) == []


@pytest.mark.slow
def test_processes_give_the_same_clusters(built, corpus, tmp_path):
    build_clusters(corpus, tmp_path, CONFIG, LocalEngine(2))
    assert files_of(tmp_path / "shards") == files_of(built[0] / "shards")
