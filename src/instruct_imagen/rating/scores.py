"""From ratings to figures: SC, PQ and O with intervals, and agreement, for each task and method.

O of a picture is the mean over its raters of √(SC · PQ), and O of a method the mean over pictures (§4). Intervals are
95 % bootstraps over instructions; two methods are compared on the instructions that both answered, as pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..evaluation.bootstrap import difference_interval, mean_interval
from ..files import write_json
from .agreement import fleiss_kappa, krippendorff_alpha
from .records import LEVELS, Rating, RatingError

ALL_METHODS = "(all)"


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on one quantity; None where it is not defined.

    Attributes:
        alpha: Krippendorff's, ordinal.
        kappa: Fleiss'.
    """

    alpha: float | None
    kappa: float | None


@dataclass(frozen=True)
class Difference:
    """O of a method minus that of another, on the instructions that both have.

    Attributes:
        mean: the difference.
        interval: its 95 % interval, resampled in pairs.
        num_inputs: how many instructions.
    """

    mean: float
    interval: tuple[float, float]
    num_inputs: int


@dataclass(frozen=True)
class MethodScore:
    """What people said of one method in one task, or, as ALL_METHODS, of all of them together.

    Attributes:
        task: the task.
        method: the method.
        sc: mean semantic consistency, 0..1.
        pq: mean perceptual quality, 0..1.
        o: mean of √(SC · PQ).
        interval: the 95 % interval of `o`.
        num_pictures: pictures with at least one rating.
        num_ratings: ratings.
        fewest_raters: of any of these pictures.
        sc_agreement: on SC.
        pq_agreement: on PQ.
        against: O minus the baseline's, where one was named and it is not this method.
    """

    task: str
    method: str
    sc: float
    pq: float
    o: float
    interval: tuple[float, float]
    num_pictures: int
    num_ratings: int
    fewest_raters: int
    sc_agreement: Agreement
    pq_agreement: Agreement
    against: Difference | None = None


Units = dict[tuple[str, str], list[Rating]]  # the ratings of each picture, by uid and method


def score_ratings(ratings: Iterable[Rating], baseline: str | None = None) -> list[MethodScore]:
    """The figures of every task and method; after a task's methods all of them together.

    Args:
        ratings: each rater at most once a picture.
        baseline: a method that the others are compared with.

    Raises:
        RatingError: there are no ratings, or none of the baseline.
    """
    tasks: dict[str, Units] = {}
    for rating in ratings:
        tasks.setdefault(rating.task, {}).setdefault((rating.uid, rating.method), []).append(rating)
    if not tasks:
        raise RatingError("There are no ratings yet.")
    if baseline is not None and not any(method == baseline for units in tasks.values() for _, method in units):
        raise RatingError(f"There are no ratings of {baseline!r}; --baseline must name a method that was rated.")
    scores: list[MethodScore] = []
    for task, units in sorted(tasks.items()):
        methods = sorted({method for _, method in units})
        reference = _o_by_input(units, baseline) if baseline else {}
        for method in methods:
            own = {place: found for place, found in units.items() if place[1] == method}
            against = _difference(_o_by_input(own, method), reference) if method != baseline else None
            scores.append(_score(task, method, own, against))
        if len(methods) > 1:
            scores.append(_score(task, ALL_METHODS, units, None))
    return scores


def _score(task: str, method: str, units: Units, against: Difference | None) -> MethodScore:
    def mean(quantity: Callable[[Rating], float]) -> np.ndarray:
        return np.array([np.mean([quantity(rating) for rating in found]) for found in units.values()])

    by_input: dict[str, list[float]] = {}
    for (uid, _), value in zip(units, mean(lambda rating: rating.overall), strict=True):
        by_input.setdefault(uid, []).append(float(value))
    overall = [float(np.mean(values)) for values in by_input.values()]
    return MethodScore(
        task,
        method,
        float(mean(lambda rating: rating.sc).mean()),
        float(mean(lambda rating: rating.pq).mean()),
        float(np.mean(overall)),
        mean_interval(overall),
        len(units),
        sum(map(len, units.values())),
        min(map(len, units.values())),
        _agreement(units, lambda rating: rating.sc),
        _agreement(units, lambda rating: rating.pq),
        against,
    )


def _agreement(units: Units, quantity: Callable[[Rating], float]) -> Agreement:
    raters = sorted({rating.rater for found in units.values() for rating in found})
    table = np.full((len(raters), len(units)), np.nan)
    counts = np.zeros((len(units), len(LEVELS)), dtype=int)
    for unit, found in enumerate(units.values()):
        for rating in found:
            value = quantity(rating)
            table[raters.index(rating.rater), unit] = value
            counts[unit, LEVELS.index(value)] += 1
    return Agreement(krippendorff_alpha(table), fleiss_kappa(counts))


def _o_by_input(units: Units, method: str) -> dict[str, float]:
    return {uid: float(np.mean([r.overall for r in found])) for (uid, m), found in units.items() if m == method}


def _difference(own: dict[str, float], reference: dict[str, float]) -> Difference | None:
    both = sorted(own.keys() & reference.keys())
    if not both:
        return None
    pairs = [own[uid] for uid in both], [reference[uid] for uid in both]
    return Difference(float(np.mean(pairs[0]) - np.mean(pairs[1])), difference_interval(*pairs), len(both))


def write_scores(scores: Sequence[MethodScore], path: Path) -> None:
    """Writes `{"scores": [...]}`, one object for each of `scores`, whole or not at all."""
    write_json(path, {"scores": [asdict(score) for score in scores]})


def short_of(scores: Sequence[MethodScore], raters_per_image: int = 3) -> tuple[str, ...]:
    """Tasks in which a rated picture has fewer ratings than wanted; of pictures without any, ratings say nothing."""
    return tuple(sorted({score.task for score in scores if score.fewest_raters < raters_per_image}))


def scores_text(scores: Sequence[MethodScore], short_tasks: Sequence[str] = (), raters_per_image: int = 3) -> str:
    """A table to print; tasks with pictures that fewer people rated than wanted are named below it."""
    wide = max(len(name) for score in scores for name in (score.task, f"  {score.method}"))
    versus = any(score.against for score in scores)
    lines = [
        f"{'':<{wide}}     O      interval    SC    PQ  alpha SC/PQ  kappa SC/PQ  pictures  ratings"
        + ("   against baseline" if versus else "")
    ]
    task = None
    for score in scores:
        if score.task != task:
            task = score.task
            lines.append(task)
        low, high = score.interval
        alphas = f"{_two(score.sc_agreement.alpha)} {_two(score.pq_agreement.alpha)}"
        kappas = f"{_two(score.sc_agreement.kappa)} {_two(score.pq_agreement.kappa)}"
        line = (
            f"{'  ' + score.method:<{wide}}  {score.o:.3f}  {low:.3f} .. {high:.3f}  {score.sc:.2f}  {score.pq:.2f}"
            f"  {alphas}  {kappas}  {score.num_pictures:8d}  {score.num_ratings:7d}"
        )
        if score.against:
            low, high = score.against.interval
            line += f"   {score.against.mean:+.3f} ({low:+.3f} .. {high:+.3f})"
        lines.append(line)
    if short_tasks:
        lines.append(f"Some pictures have fewer than {raters_per_image} ratings: {', '.join(short_tasks)}.")
    return "\n".join(lines)


def _two(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.2f}"
