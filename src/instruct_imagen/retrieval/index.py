"""Nearest neighbours by inner product: exact while that is cheap, then an inverted file whose recall is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .extras import require

_QUERIES_AT_ONCE = 16_384
_NOISE = 1e-6  # of float32 inner products of unit vectors


@dataclass(frozen=True)
class IndexConfig:
    """How to search.

    Attributes:
        exact_below: up to so many vectors every pair is compared.
        min_recall: share of the true neighbours that an approximate search must find.
        num_probes: lists of the inverted file that are searched at first; doubled until the recall is reached.
        num_samples: queries on which the recall is measured.
        seed: of those queries and of the inverted file.
    """

    exact_below: int = 50_000
    min_recall: float = 0.95
    num_probes: int = 8
    num_samples: int = 1_000
    seed: int = 0


@dataclass(frozen=True)
class SearchReport:
    """How a search was done.

    Attributes:
        kind: "exact" or "ivf".
        num_vectors: how many were searched.
        num_lists: of the inverted file; 0 if exact.
        num_probes: lists searched for each query; 0 if exact.
        recall: share of the true neighbours that were found, measured on the sample; 1 if exact.
    """

    kind: str
    num_vectors: int
    num_lists: int = 0
    num_probes: int = 0
    recall: float = 1.0


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each vector, itself left out, nearest first.

    Attributes:
        ids: int64 [N, K]; -1 where there are fewer than K.
        similarities: float32 [N, K]; -1 there.
        report: how they were found.
    """

    ids: np.ndarray
    similarities: np.ndarray
    report: SearchReport


class NearestSearch:
    """Nearest neighbours in one set of vectors after another, each of which is part of the first large one.

    The lists of the inverted file are learnt from the first set that is too large for an exact search and kept: that
    is most of the work, and what is left of a set after some vectors were taken out has the same regions. The recall
    is measured for every set, so lists that fit it less well are searched in greater number.

    Args:
        config: exact or approximate.
    """

    def __init__(self, config: IndexConfig) -> None:
        self.config = config
        self._centroids: np.ndarray | None = None

    def __call__(self, vectors: np.ndarray, k: int) -> Neighbours:
        """The K = min(k, N - 1) nearest neighbours of every vector among the others.

        Args:
            vectors: float32 [N, D] of unit length.
            k: how many.

        Raises:
            DataError: the library `faiss` is not installed.
        """
        num = len(vectors)
        k = max(0, min(k, num - 1))
        if k == 0:
            nothing = np.zeros((num, 0), np.int64), np.zeros((num, 0), np.float32)
            return Neighbours(*nothing, SearchReport("exact", num))
        vectors = np.ascontiguousarray(vectors, np.float32)
        index, report = (None, SearchReport("exact", num))
        if num > self.config.exact_below:
            index, report = self._inverted_file(vectors, k)
        ids, similarities = np.empty((num, k), np.int64), np.empty((num, k), np.float32)
        order = np.arange(num) if index is None else _by_list(index)
        for start in range(0, num, _QUERIES_AT_ONCE):
            rows = order[start : start + _QUERIES_AT_ONCE]
            found = _exact(vectors[rows], vectors, k + 1) if index is None else index.search(vectors[rows], k + 1)
            ids[rows], similarities[rows] = _without_self(rows, *found)
        return Neighbours(ids, similarities, report)

    def _inverted_file(self, vectors: np.ndarray, k: int) -> tuple[Any, SearchReport]:
        """An index that reaches the recall, or None where only an exact search does."""
        faiss, config = require("faiss"), self.config
        num, dim = vectors.shape
        quantizer = faiss.IndexFlatIP(dim)
        if self._centroids is not None:
            quantizer.add(self._centroids)  # faiss learns no lists where they are there
        num_lists = quantizer.ntotal or max(1, min(int(4 * num**0.5), num // 39))  # k-means wants 39 points a list
        index = faiss.IndexIVFFlat(quantizer, dim, num_lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.spherical, index.cp.max_points_per_centroid = config.seed + 1, True, 64
        index.train(vectors)
        self._centroids = quantizer.reconstruct_n(0, num_lists)
        index.add(vectors)
        rng = np.random.default_rng(config.seed)
        sample = np.sort(rng.choice(num, min(num, config.num_samples), replace=False))
        truth, _ = _exact(vectors[sample], vectors, k + 1)
        num_probes, recall = _choose_probes(index, vectors[sample], truth, num_lists, config)
        if num_probes is None:
            return None, SearchReport("exact", num)
        return index, SearchReport("ivf", num, num_lists, num_probes, recall)


def _exact(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and ids, [Q, k] each, nearest first; as IndexFlatIP, without a second copy of the vectors."""
    faiss = require("faiss")
    return faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)


def _without_self(rows: np.ndarray, similarities: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes each query out of its own result; where equal vectors have pushed it out, the last is taken."""
    own = ids == rows[:, None]
    own[~own.any(1), -1] = True
    shape = (len(rows), ids.shape[1] - 1)
    ids, similarities = ids[~own].reshape(shape), similarities[~own].reshape(shape)
    return ids, np.where(ids < 0, np.float32(-1), similarities).astype(np.float32)


def _by_list(index: Any) -> np.ndarray:
    """The vectors of an inverted file, list by list, int64 [N].

    Asked for in this order, neighbouring queries look through the same lists, which then come from the cache: without
    it a search of a million vectors waits for memory most of the time.
    """
    faiss, lists = require("faiss"), index.invlists
    ids = [faiss.rev_swig_ptr(lists.get_ids(k), lists.list_size(k)).copy() for k in range(index.nlist)]
    return np.concatenate(ids)


def _choose_probes(
    index: Any, queries: np.ndarray, truth: np.ndarray, num_lists: int, config: IndexConfig
) -> tuple[int | None, float]:
    """The first number of probes, doubling, that reaches the recall; None if that would be all the lists."""
    num_probes = config.num_probes
    while num_probes < num_lists:
        index.nprobe = num_probes
        recall = recall_at_k(index.search(queries, truth.shape[1])[0], truth)
        if recall >= config.min_recall:
            return num_probes, recall
        num_probes *= 2
    return None, 1.0


def recall_at_k(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours found, by similarity, so that it does not matter which of several equal ones it is.

    Args:
        found: similarities of an approximate search, float32 [Q, K], the query itself included.
        truth: similarities of the exact search, float32 [Q, K], nearest first.
    """
    near = found >= truth[:, -1:] - _NOISE
    k = truth.shape[1] - 1  # the query itself is always found, and must not flatter the figure
    return float((near.sum(1) - 1).clip(0, k).mean() / k)
