"""Duplicates: which pictures are the same picture, and which one of each stays (§3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hashes import hash_distances
from .index import Neighbours


def components(num_items: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Connected components, as union-find gives them, but for all edges at once.

    Each round hooks the greater root of every edge to the smallest root that it meets, then shortens all paths.

    Args:
        num_items: N.
        first: int [E], one end of each edge.
        second: int [E], the other.

    Returns:
        int64 [N]: for each item the smallest item of its component.
    """
    roots = np.arange(num_items)
    while True:
        one, two = roots[first], roots[second]
        apart = one != two
        if not apart.any():
            return roots
        first, second, one, two = first[apart], second[apart], one[apart], two[apart]
        np.minimum.at(roots, np.maximum(one, two), np.minimum(one, two))
        while not np.array_equal(shorter := roots[roots], roots):
            roots = shorter


def chains(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges that connect all items of one value.

    Args:
        values: int [N].
        valid: bool [N]; the others are connected to nothing.
    """
    items = np.flatnonzero(valid)
    items = items[np.argsort(values[items], kind="stable")]
    equal = values[items[1:]] == values[items[:-1]]
    return items[:-1][equal], items[1:][equal]


@dataclass(frozen=True)
class DuplicateRules:
    """When two pictures are one.

    Attributes:
        min_similarity: cosine of the embeddings from which on they are.
        max_hash_distance: differing bits of their perceptual hashes, of 64, up to which neighbours in the embedding
            are; pictures with equal hashes are duplicates wherever they lie. None leaves the hashes out.
    """

    min_similarity: float = 0.95
    max_hash_distance: int | None = 3

    def same(
        self, similarities: np.ndarray, hashes: np.ndarray | None, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which pairs are one picture.

        Args:
            similarities: float [E], cosine of each pair.
            hashes: uint64 [N] of all pictures, or None.
            first: int [E], one picture of each pair.
            second: int [E], the other.

        Returns:
            Whether by similarity, and whether by hash, bool [E] each.
        """
        similar = similarities >= self.min_similarity
        if hashes is None or self.max_hash_distance is None:
            return similar, np.zeros_like(similar)
        return similar, hash_distances(hashes[first], hashes[second]) <= self.max_hash_distance


@dataclass(frozen=True)
class DuplicatePairs:
    """Pairs of duplicates.

    Attributes:
        first: int64 [E].
        second: int64 [E].
        by_similarity: bool [E]; the others are so by their hashes alone.
    """

    first: np.ndarray
    second: np.ndarray
    by_similarity: np.ndarray


def neighbour_pairs(near: Neighbours, hashes: np.ndarray | None, rules: DuplicateRules) -> DuplicatePairs:
    """The duplicates among neighbours.

    Args:
        near: N items with K neighbours each.
        hashes: uint64 [N], or None.
        rules: thresholds.
    """
    num, k = near.ids.shape
    first, second = np.repeat(np.arange(num), k), near.ids.ravel()
    similar, equal = rules.same(near.similarities.ravel(), hashes, first, second)
    same = (similar | equal) & (second >= 0)
    return DuplicatePairs(first[same], second[same], similar[same])


def same_origin(urls: np.ndarray, hashes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures stay when of all with one URL or one perceptual hash the first is kept.

    Args:
        urls: int64 [N], equal numbers for equal URLs, -1 for none; the best picture first.
        hashes: uint64 [N], or None to leave them out.

    Returns:
        Kept, bool [N], and whether another picture has the same URL, bool [N].
    """
    first, second = chains(urls, urls >= 0)
    shared_url = np.zeros(len(urls), bool)
    shared_url[first] = shared_url[second] = True
    if hashes is not None:
        more = chains(hashes, np.ones(len(hashes), bool))
        first, second = np.concatenate([first, more[0]]), np.concatenate([second, more[1]])
    return components(len(urls), first, second) == np.arange(len(urls)), shared_url
