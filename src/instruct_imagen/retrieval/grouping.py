"""From embeddings on disk to clusters, step by step: one origin, domains, clusters inside each domain."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.report import Report
from .clusters import CLUSTER_SIZE, ClusterRules, DomainClusters, cluster_domain
from .domains import DomainTexts
from .duplicates import same_origin
from .engines import Engine
from .layout import Part, read_vectors
from .rows import Rows, load_rows, take_vectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DomainJob:
    """The pictures of one domain, best first, and how to group them; embeddings are read where the job runs.

    Attributes:
        name: of the domain.
        parts: where embeddings lie.
        part: number of each picture's part, int64 [N].
        row: its row there, int64 [N].
        hashes: uint64 [N], or None.
        rules: thresholds.
    """

    name: str
    parts: tuple[Part, ...]
    part: np.ndarray
    row: np.ndarray
    hashes: np.ndarray | None
    rules: ClusterRules


@dataclass(frozen=True)
class Grouping:
    """Clusters of a whole corpus.

    Attributes:
        rows: the pictures.
        clusters: int64 [C, 5], places in `rows`; the first of each is the one that the others are like.
        domains: for each cluster the number of its domain, int64 [C].
        similarities: for each, the mean cosine of the four with the first, float32 [C].
        report: pictures kept and dropped by step.
        summaries: for each domain with pictures: its name, counts, and how neighbours were searched.
    """

    rows: Rows
    clusters: np.ndarray
    domains: np.ndarray
    similarities: np.ndarray
    report: Report
    summaries: tuple[dict[str, Any], ...]


def run_domain(job: DomainJob) -> DomainClusters:
    """Groups one domain; positions are those of the job."""
    vectors = take_vectors(job.parts, job.part, job.row)
    return cluster_domain(vectors, job.hashes, np.arange(len(job.row)), job.rules)


@dataclass(frozen=True)
class _Assign:
    """Picklable: the domain of every picture of a part, int64 [N]."""

    domains: DomainTexts

    def __call__(self, part: Part) -> np.ndarray:
        return self.domains.assign(read_vectors(part.images))


def find_clusters(parts: Sequence[Part], domains: DomainTexts, rules: ClusterRules, engine: Engine) -> Grouping:
    """Groups all pictures of the layouts' parts.

    The same pictures give the same clusters, however they are spread over parts and whatever engine is used.

    Args:
        parts: embeddings with metadata.
        domains: with none, all pictures are of one domain, "all".
        rules: thresholds.
        engine: runs parts, then domains.
    """
    report, names = Report(), domains.names or ("all",)
    rows = load_rows(parts)
    kept = drop_same_origin(rows, rules, report)
    assigned = list(_progress(engine.map_units(_Assign(domains), rows.parts), len(rows.parts), "domains"))
    offsets = np.cumsum([0, *(len(found) for found in assigned)])
    domain = np.concatenate([np.zeros(0, np.int64), *assigned])[offsets[rows.part] + rows.row]
    report.keep("domains", len(kept))
    members = [kept[domain[kept] == number] for number in range(len(names))]
    numbers = [number for number, places in enumerate(members) if len(places)]
    jobs = [
        DomainJob(
            names[number],
            rows.parts,
            rows.part[members[number]],
            rows.row[members[number]],
            None if rows.hashes is None else rows.hashes[members[number]],
            rules,
        )
        for number in numbers
    ]
    results = list(_progress(engine.map_units(run_domain, jobs), len(jobs), "clusters"))
    for number, found in zip(numbers, results, strict=True):
        _count(found, rows, members[number], report)
    clusters = [members[number][found.clusters] for number, found in zip(numbers, results, strict=True)]
    which = [np.full(len(found.clusters), number) for number, found in zip(numbers, results, strict=True)]
    similarities = [found.similarities for found in results]
    summaries = tuple(_summary(job, found) for job, found in zip(jobs, results, strict=True))
    empty = np.zeros((0, CLUSTER_SIZE), np.int64)
    return Grouping(
        rows,
        np.concatenate([empty, *clusters]),
        np.concatenate([empty[:, 0], *which]),
        np.concatenate([np.zeros(0, np.float32), *similarities]),
        report,
        summaries,
    )


def drop_same_origin(rows: Rows, rules: ClusterRules, report: Report) -> np.ndarray:
    """Places of the pictures that stay when of all with one URL or one perceptual hash the best is kept, int64 [M]."""
    hashes = None if rules.duplicates.max_hash_distance is None else rows.hashes
    kept, shared_url = same_origin(rows.urls, hashes)
    report.keep("same origin", int(kept.sum()))
    for reason, lost in (("same URL", ~kept & shared_url), ("same perceptual hash", ~kept & ~shared_url)):
        _drop(report, "same origin", reason, rows, np.flatnonzero(lost))
    return np.flatnonzero(kept)


def _count(found: DomainClusters, rows: Rows, members: np.ndarray, report: Report) -> None:
    """Adds a domain's counts; `members` are the places of its pictures in `rows`."""
    lost = len(found.near_pictures) + len(found.near_hashes)
    report.keep("near duplicates", len(members) - lost)
    _drop(report, "near duplicates", "very similar picture", rows, members[found.near_pictures])
    _drop(report, "near duplicates", "similar perceptual hash", rows, members[found.near_hashes])
    report.keep("clusters", found.clusters.size)
    _drop(report, "clusters", "fewer than five alike", rows, members[found.left_over])


def _drop(report: Report, step: str, reason: str, rows: Rows, places: np.ndarray) -> None:
    if not len(places):
        return
    for place in places[:10].tolist():
        report.drop(step, reason, rows.keys[place].as_py())
    report.drop(step, reason, count=max(0, len(places) - 10))


def _summary(job: DomainJob, found: DomainClusters) -> dict[str, Any]:
    worst = min(found.searches, key=lambda search: search.recall)
    return {
        "name": job.name,
        "pictures": len(job.row),
        "near_duplicates": len(found.near_pictures) + len(found.near_hashes),
        "most_taken_for_one": found.largest_duplicate,
        "clusters": len(found.clusters),
        "left_over": len(found.left_over),
        "mean_similarity": round(float(found.similarities.mean()), 4) if len(found.similarities) else None,
        "searches": [search.kind for search in found.searches],
        "recall": round(worst.recall, 4),
        "num_lists": worst.num_lists,
        "num_probes": worst.num_probes,
    }


def _progress(results: Any, total: int, what: str) -> Any:
    return tqdm(results, what, total, disable=not logger.isEnabledFor(logging.INFO))
