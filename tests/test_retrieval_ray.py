"""The Ray engine on two nodes of this machine, one of which is killed half-way."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import pytest
from cluster_corpus import CONFIG, files_of, write_corpus
from ray_cluster import ray, two_nodes

from instruct_imagen.data.pairs import list_units
from instruct_imagen.data.report import DataError
from instruct_imagen.retrieval.builder import build_clusters
from instruct_imagen.retrieval.engines import LocalEngine
from instruct_imagen.retrieval.quality import BasicQuality
from instruct_imagen.retrieval.ray_engine import RayEngine


@dataclass(frozen=True)
class SlowQuality(BasicQuality):
    """Takes its time over each picture and notes which node looked at it."""

    notes: str = ""

    @property
    def name(self):
        return BasicQuality(self.min_side_px, min_sharpness=self.min_sharpness).name

    def fault(self, image):
        node = ray.get_runtime_context().get_node_id()
        with open(self.notes, "a") as file:
            file.write(f"{node}\n")
        time.sleep(0.03)
        return super().fault(image)


@pytest.fixture
def cluster(monkeypatch):
    with two_nodes(monkeypatch, Path(__file__).parent) as found:
        yield found


@pytest.mark.slow
def test_a_killed_node_costs_nothing(cluster, builtin_pack, tmp_path):
    (found, nodes), corpus = cluster, write_corpus(tmp_path / "corpus", builtin_pack)
    local, remote, notes = tmp_path / "local", tmp_path / "ray", tmp_path / "notes"
    expected = build_clusters(corpus, local, CONFIG, LocalEngine())

    assert list(RayEngine().map_units(math.sqrt, [16.0, 4.0, 9.0])) == [4, 2, 3]
    with pytest.raises(ValueError, match="nonnegative|domain"):
        list(RayEngine().map_units(math.sqrt, [1.0, -1.0]))

    def kill_when_both_are_at_work() -> None:
        while not notes.is_file() or min(seen().get(node.node_id, 0) for node in nodes) < 10:
            time.sleep(0.05)
        found.remove_node(nodes[1], allow_graceful=False)

    def seen() -> Counter[str]:
        return Counter(notes.read_text().split())

    killer = Thread(target=kill_when_both_are_at_work, daemon=True)
    killer.start()
    slow = SlowQuality(32, min_sharpness=1.0, notes=str(notes))
    report = build_clusters(corpus, remote, replace(CONFIG, quality=slow), RayEngine())
    killer.join(1)

    assert not killer.is_alive() and 10 <= seen()[nodes[1].node_id] < seen()[nodes[0].node_id]
    num_pictures = sum(step.kept + sum(step.dropped.values()) for step in [report.steps["quality"]])
    assert seen().total() > num_pictures  # the lost node's unit was begun again
    assert report.to_json() == expected.to_json()
    assert files_of(remote / "shards") == files_of(local / "shards")
    assert sorted(p.name for p in (remote / "work" / "units").iterdir()) == [u.name for u in list_units(corpus)]


@pytest.mark.slow
def test_a_missing_cluster_is_said():
    with pytest.raises(DataError, match="No Ray cluster answers"):
        list(RayEngine("127.0.0.1:1").map_units(math.sqrt, [1.0]))
