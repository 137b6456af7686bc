"""Nearest neighbours by inner product: exact while that is cheap, then an inverted file whose recall is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    exact_below: int = 20_000
    min_recall: float = 0.95
    num_probes: int = 1
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
        recall: share of the true neighbours (at least `min_similarity` alike) that were found, measured on the sample;
            1 if exact.
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

    The centres of the inverted file are learnt from the first set that is too large for an exact search and kept: that
    is most of the work, and what is left of a set after some vectors were taken out has the same regions. The recall
    is measured for every set, so lists that fit it less well are searched in greater number.

    Args:
        config: exact or approximate.
        min_similarity: neighbours less alike are of no use: an approximate search need not find them. What is left
            when all that are alike were taken has few others.
    """

    def __init__(self, config: IndexConfig, min_similarity: float = -1.0) -> None:
        self.config, self.min_similarity = config, min_similarity
        self._centres: np.ndarray | None = None

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
        found, report = None, SearchReport("exact", num)
        if num > self.config.exact_below:
            lists = _Lists.of(vectors, self._learn_centres(vectors))
            num_probes, recall = self._choose_probes(lists, k + 1)
            if num_probes is not None:
                found = lists.search(np.arange(num), num_probes, k + 1)
                report = SearchReport("ivf", num, len(lists.centres), num_probes, recall)
        if found is None:
            found = _in_blocks(vectors, np.arange(num), vectors, k + 1)
        return Neighbours(*_without_self(*found), report)

    def _learn_centres(self, vectors: np.ndarray) -> np.ndarray:
        if self._centres is None:
            num, dim = vectors.shape
            num_lists = max(1, min(int(4 * num**0.5), num // 39))  # with fewer than 39 points a list, k-means warns
            options = {"niter": 10, "spherical": True, "max_points_per_centroid": 64, "seed": self.config.seed + 1}
            kmeans = require("faiss").Kmeans(dim, num_lists, **options)
            kmeans.train(vectors)
            self._centres = kmeans.centroids
        return self._centres

    def _choose_probes(self, lists: _Lists, k: int) -> tuple[int | None, float]:
        """How many lists to search, and the recall with so many; None if nothing less than all of them is enough."""
        rng = np.random.default_rng(self.config.seed)
        num = len(lists.vectors)
        sample = np.sort(rng.choice(num, min(num, self.config.num_samples), replace=False))
        truth, _ = _exact(lists.vectors[sample], lists.vectors, k)

        def recall_of(num_probes: int) -> float:
            return recall_at_k(lists.search(sample, num_probes, k)[0], truth, self.min_similarity)

        return choose_probes(recall_of, len(lists.centres), self.config)


@dataclass(frozen=True)
class _Lists:
    """An inverted file that is searched list by list, for all queries that look through a list together.

    That makes products of matrices of what faiss's own does query by query: there, a million queries wait for the
    memory in which their lists lie.

    Attributes:
        vectors: float32 [N, D] of unit length.
        centres: float32 [L, D] of unit length.
        order: the vectors list by list, int64 [N]; each is in that of its nearest centre.
        starts: where each list begins in `order`, int64 [L + 1].
    """

    vectors: np.ndarray
    centres: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, centres: np.ndarray) -> _Lists:
        """Sorts the vectors into lists."""
        return cls(
            vectors, centres, *_sorted(_in_blocks(vectors, np.arange(len(vectors)), centres, 1)[1], len(centres))
        )

    def search(self, rows: np.ndarray, num_probes: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """What the lists of the nearest centres hold for some of the vectors: similarities and ids, [Q, k] each."""
        best = np.full((len(rows), k), -np.inf, np.float32), np.full((len(rows), k), -1)
        places, starts = _sorted(_in_blocks(self.vectors, rows, self.centres, num_probes)[1], len(self.centres))
        for number in range(len(self.centres)):
            members = self.order[self.starts[number] : self.starts[number + 1]]
            asking = places[starts[number] : starts[number + 1]] // num_probes
            if not len(members) or not len(asking):
                continue
            similarities, found = _in_blocks(self.vectors, rows[asking], self.vectors[members], k)
            ids = np.where(found < 0, -1, members[found])
            both = [
                np.concatenate(pair, 1) for pair in zip((b[asking] for b in best), (similarities, ids), strict=True)
            ]
            nearest = np.argsort(-both[0], axis=1, kind="stable")[:, :k]
            for kept, values in zip(best, both, strict=True):
                kept[asking] = np.take_along_axis(values, nearest, 1)
        return best


def _sorted(lists: np.ndarray, num_lists: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of an array of list numbers (any shape, flattened) list by list, and where each list begins there."""
    flat = lists.ravel()
    order = np.argsort(flat, kind="stable")
    return order, np.searchsorted(flat[order], np.arange(num_lists + 1))


def _in_blocks(queries: np.ndarray, rows: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`_exact` for some rows of the queries, a block at a time."""
    blocks = (rows[start : start + _QUERIES_AT_ONCE] for start in range(0, len(rows), _QUERIES_AT_ONCE))
    found = [_exact(queries[block], vectors, k) for block in blocks]
    return np.concatenate([block[0] for block in found]), np.concatenate([block[1] for block in found])


def _exact(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and ids, [Q, k] each, nearest first; as IndexFlatIP, without a second copy of the vectors."""
    faiss = require("faiss")
    return faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)


def _without_self(similarities: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes each vector out of its own result, the last where equal ones have pushed it out: ids and similarities."""
    own = ids == np.arange(len(ids))[:, None]
    own[~own.any(1), -1] = True
    shape = (len(ids), ids.shape[1] - 1)
    ids, similarities = ids[~own].reshape(shape), similarities[~own].reshape(shape)
    return ids, np.where(ids < 0, np.float32(-1), similarities).astype(np.float32)


def choose_probes(recall_of: Callable[[int], float], num_lists: int, config: IndexConfig) -> tuple[int | None, float]:
    """The first number of probes, doubling, that reaches the recall, and that; None if that would be all the lists.

    Args:
        recall_of: measures the recall with so many probes.
        num_lists: how many there are.
        config: first number, and recall.
    """
    num_probes = config.num_probes
    while num_probes < num_lists:
        recall = recall_of(num_probes)
        if recall >= config.min_recall:
            return num_probes, recall
        num_probes *= 2
    return None, 1.0


def recall_at_k(found: np.ndarray, truth: np.ndarray, min_similarity: float = -1.0) -> float:
    """Share of the true neighbours found, by similarity, so that it does not matter which of several equal ones it is.

    Args:
        found: similarities of an approximate search, float32 [Q, K], the query itself included.
        truth: similarities of the exact search, float32 [Q, K], nearest first.
        min_similarity: only neighbours at least so alike count; 1 where there are none.
    """
    wanted = (truth[:, 1:] >= min_similarity - _NOISE).sum(1)  # without the query itself, which is always found
    near = found >= np.maximum(truth[:, -1:], min_similarity) - _NOISE
    return float((near.sum(1) - 1).clip(0, wanted).sum() / wanted.sum()) if wanted.any() else 1.0
