"""Agreement against published values, and scores against hand counts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_imagen.rating.agreement import fleiss_kappa, krippendorff_alpha
from instruct_imagen.rating.records import LEVELS, Rating, RatingError
from instruct_imagen.rating.scores import ALL_METHODS, score_ratings, scores_text, short_of, write_scores
from instruct_imagen.rating.tables import read_tables

NAN = float("nan")
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), the example with missing values: four observers,
# twelve units; alpha is .743 nominal, .815 ordinal and .849 interval.
KRIPPENDORFF_2011 = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]
# The worked example of the article "Fleiss' kappa" in Wikipedia: ten subjects, fourteen raters; kappa is .210.
FLEISS_EXAMPLE = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level, alpha):
    assert krippendorff_alpha(KRIPPENDORFF_2011, level) == pytest.approx(alpha, abs=0.0005)


def test_kappa_is_the_published_one():
    assert fleiss_kappa(FLEISS_EXAMPLE) == pytest.approx(0.210, abs=0.0005)


def test_agreement_that_is_not_defined_is_none():
    assert krippendorff_alpha([[0.5, 0.5, 0.5], [0.5, 0.5, NAN]]) is None  # no variation
    assert krippendorff_alpha([[0, 1, NAN], [NAN, NAN, 0.5]]) is None  # nothing was rated by two
    assert krippendorff_alpha(np.empty((0, 0))) is None
    assert fleiss_kappa([[3, 0, 0], [3, 0, 0]]) is None
    assert fleiss_kappa([[1, 0, 0], [0, 1, 0]]) is None
    assert fleiss_kappa([]) is None


def test_full_agreement_is_one_and_chance_is_about_nothing():
    values = np.tile([0, 0.5, 1, 1, 0], (3, 1))
    assert krippendorff_alpha(values) == pytest.approx(1)
    assert fleiss_kappa([[3, 0, 0], [0, 3, 0], [0, 0, 3]]) == pytest.approx(1)
    random = np.random.default_rng(0).integers(0, 3, (3, 4000))
    counts = np.stack([(random == k).sum(axis=0) for k in range(3)], axis=1)
    assert abs(krippendorff_alpha(random / 2)) < 0.03
    assert abs(fleiss_kappa(counts)) < 0.03


@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=12))
def test_kappa_does_not_ask_who_said_what(rows):
    def kappa(table):
        return fleiss_kappa([[row.count(k) for k in range(3)] for row in table])

    assert kappa(rows) == kappa([row[::-1] for row in rows])
    assert kappa(rows) == pytest.approx(kappa(rows[::-1]), nan_ok=True)


def _ratings() -> list[Rating]:
    """Two methods, two pictures each; "good" is rated by three, "bad" by two."""
    said = {
        ("good", "0"): [(1, 1), (1, 0.5), (1, 1)],
        ("good", "1"): [(0.5, 1), (0.5, 0.5), (1, 1)],
        ("bad", "0"): [(0, 1), (0, 0.5)],
        ("bad", "1"): [(0.5, 0.5), (0.5, 1)],
    }
    return [
        Rating("subject", uid, method, f"rater{k}", sc, pq)
        for (method, uid), answers in said.items()
        for k, (sc, pq) in enumerate(answers)
    ]


def test_scores_are_means_over_pictures_of_means_over_raters():
    bad, good, every = score_ratings(_ratings(), baseline="bad")
    assert (bad.method, good.method, every.method) == ("bad", "good", ALL_METHODS)
    half = np.sqrt(0.5)
    assert good.o == pytest.approx(np.mean([(2 + half) / 3, (half + 0.5 + 1) / 3]))
    assert (good.sc, good.pq) == (pytest.approx((1 + 2 / 3) / 2), pytest.approx((2.5 / 3 + 2.5 / 3) / 2))
    assert good.interval[0] <= good.o <= good.interval[1]
    assert (good.num_pictures, good.num_ratings, good.fewest_raters) == (2, 6, 3)
    assert (every.num_pictures, every.num_ratings, every.fewest_raters) == (4, 10, 2)
    assert bad.against is None and every.against is None
    assert good.against.num_inputs == 2 and good.against.mean == pytest.approx(good.o - bad.o)
    assert good.against.interval[0] <= good.against.mean <= good.against.interval[1]
    assert bad.sc_agreement.alpha == pytest.approx(1) and bad.pq_agreement.kappa < 0


def test_scores_are_printed_and_written(tmp_path):
    scores = score_ratings(_ratings())
    text = scores_text(scores, short_of(scores))
    assert "Some pictures have fewer than 3 ratings: subject." in text
    assert f"{scores[1].o:.3f}" in text and "bad" in text
    write_scores(scores, tmp_path / "scores.json")
    first = json.loads((tmp_path / "scores.json").read_text())["scores"][0]
    assert first["method"] == "bad" and first["o"] == pytest.approx(scores[0].o) and len(first["interval"]) == 2


def test_scores_of_nothing_are_refused():
    with pytest.raises(RatingError, match="no ratings yet"):
        score_ratings([])
    with pytest.raises(RatingError, match="no ratings of 'other'"):
        score_ratings(_ratings(), baseline="other")
    assert LEVELS == (0.0, 0.5, 1.0)


# What ImagenHub publishes with its ratings (eval/human_ratings): mean O, and kappa and alpha of SC and of PQ.
IMAGENHUB = {
    ("Control-Guided_IG", "ControlNet"): (0.23, 0.42, 0.64, 0.41, 0.55),
    ("Control-Guided_IG", "UniControl"): (0.23, 0.45, 0.59, 0.42, 0.59),
    ("Subject-Driven_IG", "SuTI"): (0.58, 0.30, 0.53, 0.24, 0.30),
    ("Subject-Driven_IG", "DreamBooth"): (0.55, 0.40, 0.64, 0.39, 0.38),
    ("Text-To-Image", "SDXL"): (0.59, 0.49, 0.59, 0.36, 0.43),
    ("Text-To-Image", "DALLE3"): (0.76, 0.47, 0.55, 0.06, 0.13),
}


@pytest.mark.skipif("IMAGENHUB_RATINGS" not in os.environ, reason="IMAGENHUB_RATINGS names no folder of its ratings")
def test_the_figures_are_those_that_imagenhub_publishes():
    scores = {(s.task, s.method): s for s in score_ratings(read_tables(Path(os.environ["IMAGENHUB_RATINGS"])))}
    for place, published in IMAGENHUB.items():
        found = scores[place]
        sc, pq = found.sc_agreement, found.pq_agreement
        assert (found.o, sc.kappa, sc.alpha, pq.kappa, pq.alpha) == pytest.approx(published, abs=0.00501), place
