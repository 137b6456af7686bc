"""A Ray cluster of several nodes on this machine, any of which a test may take away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")


@contextmanager
def two_nodes(monkeypatch: pytest.MonkeyPatch, importable: Path) -> Iterator[tuple[Any, list[Any]]]:
    """The cluster, and its two nodes with one processor each; the head has none.

    Args:
        monkeypatch: of the test.
        importable: folder whose modules the workers must find, too.
    """
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(importable), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 10**8})
    nodes = [found.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(2)]
    ray.init(address=found.address, log_to_driver=False, logging_level="error")
    yield found, nodes
    ray.shutdown()
    found.shutdown()
