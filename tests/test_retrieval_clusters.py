"""Neighbours, duplicates and clusters: properties on planted data, and the choice of an index by its recall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_imagen.data.report import DataError
from instruct_imagen.retrieval import clusters as clusters_module
from instruct_imagen.retrieval.clusters import CLUSTER_SIZE, ClusterRules, cluster_domain, greedy_clusters
from instruct_imagen.retrieval.domains import Domain, DomainTexts, world_domains
from instruct_imagen.retrieval.duplicates import DuplicatePairs, DuplicateRules, chains, components, same_origin
from instruct_imagen.retrieval.embedders import unit_length
from instruct_imagen.retrieval.hashes import hash_distances
from instruct_imagen.retrieval.index import (
    IndexConfig,
    NearestSearch,
    Neighbours,
    SearchReport,
    choose_probes,
    recall_at_k,
)
from instruct_imagen.world import glyphs_of

RULES = ClusterRules(min_similarity=0.5, duplicates=DuplicateRules(0.97, 3))
DIM = 64


def nudged(rng, vector, strength):
    """A vector near another: their cosine is about 1 / sqrt(1 + strength²)."""
    return unit_length((vector + strength * rng.standard_normal(DIM) / DIM**0.5)[None])[0]


def planted(seed):
    """Vectors, hashes, and for each its topic and the picture that it is a copy of (or itself)."""
    rng = np.random.default_rng(seed)
    vectors, hashes, topics, originals = [], [], [], []

    def add(vector, picture_hash, topic, original=None):
        originals.append(len(vectors) if original is None else original)
        vectors.append(vector)
        hashes.append(picture_hash)
        topics.append(topic)

    for topic in range(int(rng.integers(1, 7))):
        centre = nudged(rng, np.zeros(DIM), 1.0)
        for _ in range(int(rng.integers(1, 15))):
            original = len(vectors)
            picture_hash = int(rng.integers(2**63))
            add(nudged(rng, centre, 0.5), picture_hash, topic)
            for _ in range(int(rng.choice([0, 0, 0, 1, 12]))):
                add(nudged(rng, vectors[original], 0.05), int(rng.integers(2**63)), topic, original)
            if rng.random() < 0.2:  # a copy whose embedding is off, but not its hash
                flipped = picture_hash ^ sum(1 << int(bit) for bit in rng.choice(63, 3, replace=False))
                add(nudged(rng, vectors[original], 0.3), flipped, topic, original)
    return np.array(vectors, np.float32), np.array(hashes, np.uint64), np.array(topics), np.array(originals)


def by_reachability(num_items, edges):
    """Components by walking from each item, for comparison."""
    beside = {item: {item} for item in range(num_items)}
    for one, two in edges:
        beside[one].add(two)
        beside[two].add(one)
    labels = []
    for item in range(num_items):
        seen, rest = {item}, [item]
        while rest:
            new = beside[rest.pop()] - seen
            seen |= new
            rest += new
        labels.append(min(seen))
    return labels


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_components_equal_reachability(graph):
    num_items, edges = graph
    ends = np.array(edges, int).reshape(-1, 2)
    assert components(num_items, ends[:, 0], ends[:, 1]).tolist() == by_reachability(num_items, edges)


def test_a_long_chain_is_one_component():
    order = np.random.default_rng(0).permutation(5000)
    assert not components(5000, order[:-1], order[1:]).any()


@given(st.lists(st.integers(-1, 4), max_size=12))
def test_chains_connect_equal_values_and_nothing_else(values):
    array = np.array(values, int)
    found = components(len(array), *chains(array, array >= 0))
    expected = [values.index(v) if v >= 0 else i for i, v in enumerate(values)]
    assert found.tolist() == expected


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 5)), min_size=1, max_size=10))
def test_of_one_url_or_hash_the_first_stays(items):
    urls, hashes = np.array(items).T
    kept, _ = same_origin(urls, hashes.astype(np.uint64))
    edges = [
        (i, j)
        for i, one in enumerate(items)
        for j, two in enumerate(items)
        if one[1] == two[1] or (one[0] == two[0] and one[0] >= 0)
    ]
    assert np.flatnonzero(kept).tolist() == sorted(set(by_reachability(len(items), edges)))
    kept, shared_url = same_origin(urls, None)
    assert np.count_nonzero(kept & (urls >= 0)) == len(set(urls[urls >= 0].tolist()))
    assert kept[urls < 0].all() and not shared_url[urls < 0].any()


def test_hash_distances_count_bits():
    first, second = np.array([0, 2**64 - 1, 0b1011], np.uint64), np.array([0, 0, 0b0110], np.uint64)
    assert hash_distances(first, second).tolist() == [0, 64, 3]


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_clusters_are_five_disjoint_alike_and_without_planted_copies(seed):
    vectors, hashes, topics, originals = planted(seed)
    found = cluster_domain(vectors, hashes, np.arange(len(vectors)), RULES)
    assert found.clusters.shape[1] == CLUSTER_SIZE
    assert len(np.unique(originals[found.clusters])) == found.clusters.size  # disjoint, and of copies one at most
    centre, rest = vectors[found.clusters[:, :1]], vectors[found.clusters[:, 1:]]
    cosines = (centre * rest).sum(-1)
    assert (cosines >= RULES.min_similarity - 1e-6).all()
    assert found.similarities == pytest.approx(cosines.mean(1), abs=1e-5)
    for cluster in found.clusters:
        assert len(set(topics[cluster].tolist())) == 1
    everything = [found.clusters.ravel(), found.near_pictures, found.near_hashes, found.left_over]
    assert np.sort(np.concatenate(everything)).tolist() == list(range(len(vectors)))
    kept = np.setdiff1d(np.arange(len(vectors)), np.concatenate(everything[1:3]))
    assert (originals[kept] == kept).all()  # the copy that is preferred is the first
    assert not (np.triu(vectors[kept] @ vectors[kept].T, 1) >= RULES.duplicates.min_similarity).any()


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_clusters_do_not_depend_on_the_order_of_the_arrays(seed):
    vectors, hashes, *_ = planted(seed)
    num = len(vectors)
    order = np.random.default_rng(seed).permutation(num)
    first = cluster_domain(vectors, hashes, np.arange(num), RULES)
    second = cluster_domain(vectors[order], hashes[order], np.arange(num)[order], RULES)
    assert first.clusters.tolist() == order[second.clusters].tolist()
    assert first.left_over.tolist() == order[second.left_over].tolist()
    assert first.near_hashes.tolist() == order[second.near_hashes].tolist()
    assert first.similarities.tolist() == second.similarities.tolist()


def test_more_rounds_find_the_clusters_that_one_search_misses():
    rng = np.random.default_rng(3)
    centre = nudged(rng, np.zeros(DIM), 1.0)
    vectors = np.stack([nudged(rng, centre, 0.5) for _ in range(100)]).astype(np.float32)
    counts = [
        len(cluster_domain(vectors, None, np.arange(100), replace(RULES, num_rounds=rounds)).clusters)
        for rounds in (1, 10)
    ]
    assert counts[0] < counts[1] == 20


def test_copies_that_the_search_did_not_see_are_in_no_cluster(monkeypatch):
    """A picture much like another, and one with nearly another's hash, both near the rest."""
    rng = np.random.default_rng(5)
    centre = nudged(rng, np.zeros(DIM), 1.0)
    vectors = np.stack([nudged(rng, centre, 0.5) for _ in range(7)]).astype(np.float32)
    vectors[5], vectors[6] = nudged(rng, vectors[1], 0.01), nudged(rng, vectors[2], 0.28)
    hashes = rng.integers(0, 2**64, 7, np.uint64)
    hashes[6] = hashes[2] ^ np.uint64(1)
    monkeypatch.setattr(clusters_module, "neighbour_pairs", lambda *_: DuplicatePairs(*[np.zeros(0, int)] * 3))
    found = cluster_domain(vectors, hashes, np.arange(7), replace(RULES, num_rounds=5))
    assert np.sort(found.clusters).tolist() == [[0, 1, 2, 3, 4]] and not len(found.left_over)
    assert (found.near_pictures.tolist(), found.near_hashes.tolist()) == ([5], [6])


@pytest.mark.parametrize("num", [0, 1, 4])
def test_too_few_pictures_make_no_cluster(num):
    vectors = np.eye(num, 8, dtype=np.float32)
    found = cluster_domain(vectors, None, np.arange(num), RULES)
    assert found.clusters.shape == (0, 5) and sorted(found.left_over.tolist()) == list(range(num))


def test_greedy_takes_the_densest_first_and_breaks_ties_by_position():
    """Items 0..4 are alike at 0.9, 5..9 at 0.8, and 4 and 5 are neighbours; 10 has no four neighbours left."""
    ids, similarities = np.full((11, 5), -1), np.full((11, 5), -1.0, np.float32)
    for group, value in ((range(0, 5), 0.9), (range(5, 10), 0.8)):
        for item in group:
            ids[item, :4] = [other for other in reversed(group) if other != item]
            similarities[item, :4] = value
    ids[5, 4], similarities[5, 4] = 4, 0.75
    ids[10, :4], similarities[10, :4] = [0, 1, 2, 5], 0.7
    near = Neighbours(ids, similarities, SearchReport("exact", 11))
    assert greedy_clusters(near, 0.5).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert greedy_clusters(near, 0.85).tolist() == [[0, 1, 2, 3, 4]]
    assert not len(greedy_clusters(near, 0.95))


def random_vectors(num, dim, seed=0):
    return unit_length(np.random.default_rng(seed).standard_normal((num, dim)))


def brute_neighbours(vectors, k):
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    return np.argsort(-products, axis=1)[:, :k]


def test_exact_neighbours_equal_brute_force():
    vectors = random_vectors(300, 12)
    near = NearestSearch(IndexConfig())(vectors, 10)
    assert near.report == SearchReport("exact", 300)
    assert near.ids.tolist() == brute_neighbours(vectors, 10).tolist()
    assert (np.diff(near.similarities, axis=1) <= 0).all()
    assert NearestSearch(IndexConfig())(vectors[:4], 10).ids.shape == (4, 3)
    assert NearestSearch(IndexConfig())(vectors[:1], 10).ids.shape == (1, 0)


def test_no_vector_is_its_own_neighbour_even_among_equals():
    near = NearestSearch(IndexConfig())(np.repeat(random_vectors(1, 8), 40, 0), 10)
    assert (near.ids != np.arange(40)[:, None]).all() and near.similarities == pytest.approx(1)


def test_approximate_search_reaches_the_recall_it_reports():
    vectors = random_vectors(4000, 16, seed=1)
    config = IndexConfig(exact_below=1000, num_probes=1, num_samples=500)
    near = NearestSearch(config)(vectors, 10)
    assert near.report.kind == "ivf" and near.report.recall >= 0.95
    assert near.report.num_probes in (2, 4, 8, 16, 32, 64)  # one list is not enough for such vectors
    truth = brute_neighbours(vectors, 10)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near.ids.tolist(), truth.tolist(), strict=True)])
    assert found == pytest.approx(near.report.recall, abs=0.02)
    again = NearestSearch(config)(vectors, 10)
    assert (again.ids == near.ids).all()
    exact = NearestSearch(replace(config, min_recall=1.1))(vectors, 10)  # which nothing reaches
    assert exact.report.kind == "exact" and exact.ids.tolist() == truth.tolist()


def test_later_searches_keep_the_lists_and_still_reach_the_recall():
    vectors = random_vectors(4000, 8, seed=2)
    search = NearestSearch(IndexConfig(exact_below=1000, num_probes=1, num_samples=500))
    first = search(vectors, 10).report
    rest = vectors[np.random.default_rng(0).random(len(vectors)) < 0.4]
    near = search(rest, 10)
    assert near.report.kind == "ivf" and near.report.num_lists == first.num_lists
    truth = brute_neighbours(rest, 10)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near.ids.tolist(), truth.tolist(), strict=True)])
    assert found >= 0.93 and found == pytest.approx(near.report.recall, abs=0.03)


def test_probes_are_doubled_until_the_recall_is_reached():
    tried = []

    def recall_of(num_probes):
        tried.append(num_probes)
        return num_probes / 20

    config = IndexConfig(min_recall=0.75, num_probes=2)
    assert choose_probes(recall_of, 100, config) == (16, pytest.approx(0.8))
    assert tried == [2, 4, 8, 16]
    assert choose_probes(recall_of, 16, config) == (None, 1.0)


def test_recall_counts_the_neighbours_that_are_alike_enough():
    truth = np.tile(np.linspace(1, 0.5, 11, dtype=np.float32), (3, 1))
    assert recall_at_k(truth, truth) == 1
    assert recall_at_k(np.full_like(truth, -1), truth) == 0
    half = truth.copy()
    half[:, 6:] = -1  # the query itself and the five nearest
    assert recall_at_k(half, truth) == pytest.approx(0.5)
    assert recall_at_k(half, truth, 0.75) == 1 and recall_at_k(half, truth, 0.65) == pytest.approx(5 / 7)
    assert recall_at_k(np.full_like(truth, -1), truth, 0.99) == 1


class ColourWords:
    """Texts as unit vectors of three colours."""

    name, dim = "words", 3

    def texts(self, texts):
        return np.eye(3, dtype=np.float32)[[("red", "green", "blue").index(text.split()[-1]) for text in texts]]


def test_pictures_go_to_the_domain_whose_texts_are_nearest():
    domains = (Domain("warm", ("all red", "very red")), Domain("cold", ("blue", "green")))
    texts = DomainTexts.of(domains, ColourWords())
    assert texts.names == ("warm", "cold") and texts.owners.tolist() == [0, 0, 1, 1]
    vectors = np.array([[1, 0, 0], [0.6, 0.1, 0.79], [0, 1, 0], [0.8, 0, 0.6]], np.float16)
    assert texts.assign(vectors).tolist() == [0, 1, 1, 0]
    assert DomainTexts.of((), ColourWords()).assign(vectors).tolist() == [0] * 4
    with pytest.raises(DataError, match="embedder"):
        texts.assign(vectors[:, :2])
    with pytest.raises(DataError, match="two domains"):
        DomainTexts.of((domains[0], domains[0]), ColourWords())
    with pytest.raises(DataError, match="at least one text"):
        Domain("empty", ())


def test_the_worlds_domains_are_its_groups_and_people_and_name_nothing_held_out(builtin_pack):
    domains = {domain.name: domain.prompts for domain in world_domains(builtin_pack)}
    assert set(domains) == {"people", *(glyph.group for glyph in builtin_pack.glyphs)}
    words = " ".join(text for texts in domains.values() for text in texts)
    known = set(glyphs_of(builtin_pack.keys, "train"))
    for glyph in builtin_pack.glyphs:
        assert (f" {glyph.name}" in words) == (glyph.key in known), glyph.name
