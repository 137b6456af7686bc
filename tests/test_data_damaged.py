"""A corpus of hundreds of damaged samples through both commands: all that is good comes out, all else is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cluster_corpus import HistogramEmbedder
from damaged_corpus import ExpectedCounts, make_damaged_corpus

from instruct_imagen.data.build import build_dataset
from instruct_imagen.data.report import DataError
from instruct_imagen.data.shards import ShardSource
from instruct_imagen.data.sources import SourceOptions
from instruct_imagen.retrieval.builder import ClusterConfig, build_clusters
from instruct_imagen.retrieval.clusters import ClusterRules
from instruct_imagen.retrieval.duplicates import DuplicateRules
from instruct_imagen.retrieval.engines import LocalEngine
from instruct_imagen.retrieval.quality import NoFilter
from instruct_imagen.retrieval.records import ClusterShards

# Nothing but damage is a reason to drop: what is left are clusters of whatever looks alike.
RULES = ClusterRules(min_similarity=-1.0, duplicates=DuplicateRules(1.1, max_hash_distance=None))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExpectedCounts]:
    folder = tmp_path_factory.mktemp("damaged") / "corpus"
    return folder, make_damaged_corpus(folder, seed=3)


def steps_of(out: Path) -> dict:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))["steps"]


def test_clusters_survive_it(corpus, tmp_path: Path):
    folder, expected = corpus
    assert expected.num_damaged >= 200
    config = ClusterConfig(HistogramEmbedder(), NoFilter(), (), RULES)
    build_clusters(folder, tmp_path, config, LocalEngine())
    steps = steps_of(tmp_path)
    assert steps["read"]["dropped"] == expected.read and steps["decode"]["dropped"] == expected.decode
    assert steps["embedding"]["kept"] == expected.num_good
    urls_twice = steps["same origin"]["dropped"]
    assert steps["clusters"]["kept"] + sum(steps["clusters"]["dropped"].values()) + sum(urls_twice.values()) == (
        expected.num_good
    )
    captions = [text for record in ClusterShards(tmp_path) for text in record.captions]
    assert set(captions) <= expected.captions and len(captions) == steps["clusters"]["kept"] > expected.num_good / 2


def test_a_data_set_survives_it(corpus, tmp_path: Path):
    folder, expected = corpus
    build_dataset("text", str(folder), tmp_path / "out", SourceOptions(size_px=32))
    steps = steps_of(tmp_path / "out")
    assert steps["read"]["dropped"] == expected.read and steps["decode"]["dropped"] == expected.decode
    assert steps["text"]["kept"] + steps["text"]["dropped"]["picture is too small"] == expected.num_good
    source = ShardSource(tmp_path / "out")
    texts = [source[index].instruction.text.lower() for index in range(len(source))]
    assert len(texts) == steps["text"]["kept"] > 0.8 * expected.num_good
    assert all(any(caption.lower() in text for caption in expected.captions) for text in texts)


def test_strict_stops_at_the_first_damage_and_leaves_nothing(corpus, tmp_path: Path):
    folder, expected = corpus
    reasons = "|".join((*expected.read, *expected.decode))
    strict = ClusterConfig(HistogramEmbedder(), NoFilter(), (), RULES, strict=True)
    with pytest.raises(DataError, match=reasons):
        build_clusters(folder, tmp_path / "clusters", strict, LocalEngine())
    assert not (tmp_path / "clusters" / "shards").exists() and not (tmp_path / "clusters" / "report.json").exists()
    with pytest.raises(DataError, match=reasons):
        build_dataset("text", str(folder), tmp_path / "text", SourceOptions(), strict=True)
    assert not (tmp_path / "text").exists()
