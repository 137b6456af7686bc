"""Measures the retrieval builder from embeddings on disk to clusters: seconds and memory of each step, and its faults.

    python benchmarks/retrieval_scale.py --num-pictures 100000 --json retrieval_scale.json

The embeddings are made up: domains of topics, pictures of a topic with a cosine of about 0.8 between them, URL twins
(the same address, another picture) and near-duplicates (a cosine of about 0.99, or 0.93 and a hash three bits away),
so it is known what must not stand in one cluster. Memory is the highest that the process had during the step, what was
there before included.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from instruct_imagen.data.report import Report
from instruct_imagen.files import write_json
from instruct_imagen.retrieval.clusters import ClusterRules
from instruct_imagen.retrieval.domains import DomainTexts
from instruct_imagen.retrieval.embedders import unit_length
from instruct_imagen.retrieval.engines import LocalEngine
from instruct_imagen.retrieval.grouping import drop_same_origin, find_clusters
from instruct_imagen.retrieval.index import NearestSearch
from instruct_imagen.retrieval.layout import Part, find_parts, read_vectors, write_part
from instruct_imagen.retrieval.rows import load_rows, take_vectors

ROWS_PER_PART = 50_000
PICTURES_PER_TOPIC = 20
TWIN_SHARE, COPY_SHARE = 0.02, 0.05
DOMAIN_STRENGTH = 0.5  # of a topic's direction, against its own
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes:
        topics: of every picture, int64 [N].
        originals: the picture that each is a copy or twin of, or itself, int64 [N].
    """

    topics: np.ndarray
    originals: np.ndarray


class Meter:
    """Seconds and highest memory of steps, printed as they end."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    def run(self, name: str, step: Callable[[], _Result]) -> _Result:
        """Runs a step."""
        _forget_peak()
        start = time.perf_counter()
        result = step()
        self.steps[name] = {"seconds": round(time.perf_counter() - start, 2), "peak_mib": round(_peak_mib())}
        print(f"{name:<22}{self.steps[name]['seconds']:>9.2f} s {self.steps[name]['peak_mib']:>8.0f} MiB", flush=True)
        return result


def _forget_peak() -> None:
    """Begins a new peak where the system can (Linux); elsewhere the peak is that of the process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mib() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _near(vectors: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors near others: the cosine is about 1 / sqrt(1 + strength²)."""
    noise = rng.standard_normal(vectors.shape, dtype=np.float32)
    return unit_length(vectors + strength / vectors.shape[1] ** 0.5 * noise)


def _centres(num_topics: int, domains: np.ndarray, seed: int) -> np.ndarray:
    """Topics, each of one domain, as the pictures of one thing mostly are: unit vectors [T, D]."""
    directions = unit_length(np.random.default_rng([seed, 1]).standard_normal((num_topics, domains.shape[1]), "f4"))
    return unit_length(directions + DOMAIN_STRENGTH * domains[np.arange(num_topics) % len(domains)])


def plant(num: int, domains: np.ndarray, seed: int, folder: Path) -> Truth:
    """Writes a layout of made-up embeddings, part by part, and says what is in it; `domains` are unit vectors."""
    rng = np.random.default_rng(seed)
    num_topics = max(1, num // PICTURES_PER_TOPIC)
    topics = rng.integers(num_topics, size=num)
    originals = np.arange(num)
    kind = rng.random(num)
    for number, start in enumerate(range(0, num, ROWS_PER_PART)):
        rows = np.arange(start, min(start + ROWS_PER_PART, num))
        vectors = _near(_centres(num_topics, domains, seed)[topics[rows]], 0.5, rng)
        hashes = rng.integers(0, 2**64, len(rows), np.uint64)
        urls = np.array([f"https://example.org/{row}" for row in rows])
        # copies and twins follow their original, which is none itself
        planted = np.flatnonzero((kind[rows] < TWIN_SHARE + COPY_SHARE) & (np.arange(len(rows)) > 0))
        planted = planted[~np.isin(planted - 1, planted)]
        originals[rows[planted]] = rows[planted - 1]
        twins = planted[kind[rows[planted]] < TWIN_SHARE]
        urls[twins] = urls[twins - 1]
        copies = np.setdiff1d(planted, twins)
        topics[rows[copies]] = topics[rows[copies - 1]]
        by_hash = rng.random(len(copies)) < 0.5
        for chosen, strength in ((copies[by_hash], 0.4), (copies[~by_hash], 0.1)):
            vectors[chosen] = _near(vectors[chosen - 1], strength, rng)
        flips = np.uint64(1) << rng.integers(0, 64, (3, int(by_hash.sum())), np.uint64)
        hashes[copies[by_hash]] = hashes[copies[by_hash] - 1] ^ flips[0] ^ flips[1] ^ flips[2]
        keys = [f"{row:09d}" for row in rows]
        metadata = {"key": keys, "image_path": keys, "caption": keys, "url": urls, "phash": hashes}
        write_part(folder, vectors.astype(np.float16), metadata, number=number)
    return Truth(topics, originals)


def _domain_sizes(parts: tuple[Part, ...], domains: DomainTexts) -> Iterator[int]:
    found = np.concatenate([domains.assign(read_vectors(part.images)) for part in parts])
    yield from np.bincount(found, minlength=len(domains.names)).tolist()


def measure(num: int, dim: int, num_domains: int, rules: ClusterRules, seed: int, workers: int) -> dict[str, Any]:
    """Runs every step, then all together, and counts what is wrong in the clusters."""
    meter = Meter()
    rng = np.random.default_rng(seed + 1)
    names = tuple(f"domain {number}" for number in range(num_domains))
    domains = DomainTexts(names, unit_length(rng.standard_normal((num_domains, dim), "f4")), np.arange(num_domains))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = meter.run("make up the layout", lambda: plant(num, domains.vectors, seed, folder))
        parts = find_parts(folder)
        rows = meter.run("load rows", lambda: load_rows(parts))
        meter.run("same URL or hash", lambda: drop_same_origin(rows, rules, Report()))
        sizes = meter.run("domains", lambda: list(_domain_sizes(parts, domains)))
        near = meter.run(
            "neighbours, all",
            lambda: NearestSearch(rules.index)(take_vectors(parts, rows.part, rows.row), rules.num_neighbours),
        )
        grouping = meter.run(
            "all, rows to clusters", lambda: find_clusters(parts, domains, rules, LocalEngine(workers))
        )
    pictures = np.array([int(key) for key in grouping.rows.keys.take(grouping.clusters.ravel()).to_pylist()])
    pictures = pictures.reshape(-1, grouping.clusters.shape[1])
    topics, originals = np.sort(truth.topics[pictures], 1), np.sort(truth.originals[pictures], 1)
    return {
        "num_pictures": num,
        "dim": dim,
        "domains": sizes,
        "steps": meter.steps,
        "search_of_all": vars(near.report),
        "num_clusters": len(pictures),
        "share_in_clusters": round(pictures.size / max(1, len(np.unique(truth.originals))), 4),
        "purity": round(float((topics[:, 0] == topics[:, -1]).mean()), 4),
        "clusters_with_copies": int((originals[:, 1:] == originals[:, :-1]).any(1).sum()),
        "copies_in_different_clusters": int(originals.size - len(np.unique(originals))),
        "dropped": {name: step.dropped for name, step in grouping.report.steps.items()},
        "searches": list(grouping.summaries),
    }


def main() -> None:
    """Prints the measures and, if asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-pictures", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512, help="length of the embeddings (%(default)s)")
    parser.add_argument("--domains", type=int, default=4, help="number of domains (%(default)s)")
    parser.add_argument("--exact-below", type=int, help="compare all pairs up to so many pictures")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 measures memory (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    rules = ClusterRules(min_similarity=0.6)
    if args.exact_below is not None:
        rules = replace(rules, index=replace(rules.index, exact_below=args.exact_below))
    found = measure(args.num_pictures, args.dim, args.domains, rules, args.seed, args.workers)
    print(json.dumps(found, indent=2))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
