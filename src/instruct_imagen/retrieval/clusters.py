"""Clusters of five inside one domain (§3.2): neighbours, near-duplicates out, greedy groups, smaller ones discarded.

Pure functions on arrays: the same in this process, in a worker, or in a job elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from .duplicates import DuplicateRules, components, neighbour_pairs
from .index import IndexConfig, NearestSearch, Neighbours, SearchReport

CLUSTER_SIZE = 5


@dataclass(frozen=True)
class ClusterRules:
    """How pictures of a domain are grouped.

    Attributes:
        num_neighbours: of each picture that are looked at; the paper's 10.
        min_similarity: cosine that every member must have with the first one, so that a cluster is about one thing.
            It depends on the embedder.
        duplicates: when two pictures are one.
        index: how neighbours are searched.
        num_rounds: how often neighbours are searched anew among the pictures left over. Departure: the paper searches
            once, which loses pictures whose ten neighbours were all taken by earlier clusters; 1 does the same here.
    """

    num_neighbours: int = 10
    min_similarity: float = 0.7
    duplicates: DuplicateRules = field(default_factory=DuplicateRules)
    index: IndexConfig = field(default_factory=IndexConfig)
    num_rounds: int = 3


@dataclass(frozen=True)
class DomainClusters:
    """Clusters of one domain, as positions in the arrays that were given.

    Attributes:
        clusters: int64 [C, 5]; the first is the one that the others are like, then the nearest first.
        similarities: float32 [C], mean cosine of the four with the first.
        near_pictures: positions dropped as near-duplicates by their embeddings.
        near_hashes: positions dropped as near-duplicates by their hashes alone.
        left_over: positions dropped because fewer than five were alike.
        largest_duplicate: the most pictures that were taken for one; a very large number means that the threshold
            of duplicates is too low for the embedder.
        searches: how neighbours were found, in order.
    """

    clusters: np.ndarray
    similarities: np.ndarray
    near_pictures: np.ndarray
    near_hashes: np.ndarray
    left_over: np.ndarray
    largest_duplicate: int
    searches: tuple[SearchReport, ...]


@dataclass(frozen=True)
class _Unique:
    """What is left without duplicates: positions, vectors, hashes, their neighbours; and what was dropped, in parts."""

    rows: np.ndarray
    vectors: np.ndarray
    hashes: np.ndarray | None
    near: Neighbours
    near_pictures: list[np.ndarray]
    near_hashes: list[np.ndarray]
    largest: int
    searches: list[SearchReport]


def cluster_domain(
    vectors: np.ndarray, hashes: np.ndarray | None, preference: np.ndarray, rules: ClusterRules
) -> DomainClusters:
    """Groups the pictures of one domain.

    Everything is done in the order of `preference`, so the result does not depend on the order of the arrays.

    Args:
        vectors: float32 [N, D] of unit length.
        hashes: perceptual hashes, uint64 [N], or None.
        preference: int [N], all different: of duplicates the lowest stays, and ties go to the lower.
        rules: thresholds.
    """
    order = np.argsort(preference, kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        vectors, hashes = vectors[order], None if hashes is None else hashes[order]
    nearest = NearestSearch(rules.index, min(rules.min_similarity, rules.duplicates.min_similarity))
    unique = _without_duplicates(vectors, hashes, rules, nearest)
    rows, vectors, hashes, near = unique.rows, unique.vectors, unique.hashes, unique.near
    clusters, similarities = [np.zeros((0, CLUSTER_SIZE), np.int64)], [np.zeros(0, np.float32)]
    for round_number in range(rules.num_rounds):
        if round_number:
            near = nearest(vectors, rules.num_neighbours)
            unique.searches.append(near.report)
        found = greedy_clusters(near, rules.min_similarity)
        if not len(found):
            break
        similar, equal = _copies_inside(vectors, hashes, found, rules.duplicates)
        unique.near_pictures.append(rows[found[similar]])
        unique.near_hashes.append(rows[found[equal & ~similar]])
        copies = found[similar | equal]
        found = found[~(similar | equal).any(1)]
        clusters.append(rows[found])
        similarities.append(_mean_similarity(vectors, found))
        free = np.ones(len(rows), bool)
        free[found] = free[copies] = False
        rows, vectors, hashes = rows[free], vectors[free], None if hashes is None else hashes[free]
        if len(rows) < CLUSTER_SIZE:
            break
    return DomainClusters(
        order[np.concatenate(clusters)],
        np.concatenate(similarities),
        order[np.concatenate(unique.near_pictures)],
        order[np.concatenate(unique.near_hashes)],
        order[rows],
        unique.largest,
        tuple(unique.searches),
    )


def _copies_inside(
    vectors: np.ndarray, hashes: np.ndarray | None, clusters: np.ndarray, rules: DuplicateRules
) -> tuple[np.ndarray, np.ndarray]:
    """Members that duplicate a better one of their cluster: by similarity, and by hash, bool [C, 5] each.

    An approximate search may have missed that two are alike which are both neighbours of a third.
    """
    similar, equal = np.zeros(clusters.shape, bool), np.zeros(clusters.shape, bool)
    for place, other in combinations(range(CLUSTER_SIZE), 2):
        first, second = clusters[:, place], clusters[:, other]
        worse = np.where(first > second, place, other)
        alike = rules.same(np.einsum("cd,cd->c", vectors[first], vectors[second]), hashes, first, second)
        for found, by in zip((similar, equal), alike, strict=True):
            found[np.flatnonzero(by), worse[by]] = True
    return similar, equal


def _without_duplicates(
    vectors: np.ndarray, hashes: np.ndarray | None, rules: ClusterRules, nearest: NearestSearch
) -> _Unique:
    """Searches and drops until no two neighbours are duplicates.

    Copies crowd each other out of the ten neighbours, so one search would neither see all duplicates nor give the
    others their true neighbours. Each round merges every group of copies to a tenth at least, so few are needed; and
    once an exact search finds no pair, there is none: a nearer copy would be among the neighbours.
    """
    rows = np.arange(len(vectors))
    members = np.ones(len(vectors), np.int64)  # pictures that each one stands for
    near_pictures, near_hashes, searches = [rows[:0]], [rows[:0]], []
    while True:
        near = nearest(vectors, rules.num_neighbours)
        searches.append(near.report)
        pairs = neighbour_pairs(near, hashes, rules.duplicates)
        if not len(pairs.first):
            break
        roots = components(len(rows), pairs.first, pairs.second)
        kept = roots == np.arange(len(rows))
        similar = np.zeros(len(rows), bool)
        similar[pairs.first[pairs.by_similarity]] = similar[pairs.second[pairs.by_similarity]] = True
        near_pictures.append(rows[~kept & similar])
        near_hashes.append(rows[~kept & ~similar])
        members = np.bincount(roots, members, len(rows)).astype(np.int64)[kept]
        rows, vectors = rows[kept], vectors[kept]
        hashes = None if hashes is None else hashes[kept]
    largest = int(members.max(initial=0))
    return _Unique(rows, vectors, hashes, near, near_pictures, near_hashes, largest, searches)


def greedy_clusters(near: Neighbours, min_similarity: float) -> np.ndarray:
    """Groups of five, each item in one at most.

    Items are visited by density, the mean similarity of their four nearest neighbours, densest first; one that is
    still free takes its four nearest free neighbours, if there are four.

    Args:
        near: N items with K neighbours each.
        min_similarity: neighbours less similar do not count.

    Returns:
        int64 [C, 5], in the order in which they were formed.
    """
    num, k = near.ids.shape
    others = CLUSTER_SIZE - 1
    if k < others:
        return np.zeros((0, CLUSTER_SIZE), np.int64)
    alike = (near.ids >= 0) & (near.similarities >= min_similarity)
    # equal similarities in the order of the items, whatever the search made of them
    order = np.lexsort((near.ids, np.where(alike, -near.similarities.astype(np.float64), np.inf)), axis=1)
    ids, alike = np.take_along_axis(near.ids, order, 1), np.take_along_axis(alike, order, 1)
    similarities = np.take_along_axis(near.similarities, order, 1)
    counts = alike.sum(1)  # those that count now stand first
    density = similarities[:, :others].mean(1)
    seeds = np.flatnonzero(counts >= others)
    seeds = seeds[np.lexsort((seeds, -density[seeds]))]
    taken, clusters = bytearray(num), []
    for seed in seeds.tolist():
        if taken[seed]:
            continue
        free = [item for item in ids[seed, : counts[seed]].tolist() if not taken[item]]
        if len(free) >= others:
            cluster = [seed, *free[:others]]
            for item in cluster:
                taken[item] = 1
            clusters.append(cluster)
    return np.array(clusters, np.int64).reshape(-1, CLUSTER_SIZE)


def _mean_similarity(vectors: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean cosine of the other members with the first, float32 [C]."""
    sums = np.zeros(len(clusters), np.float32)
    for place in range(1, CLUSTER_SIZE):
        sums += np.einsum("cd,cd->c", vectors[clusters[:, 0]], vectors[clusters[:, place]])
    return sums / (CLUSTER_SIZE - 1)
