"""Whether the paper's claims hold here, and by how much; every sentence is computed from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .bootstrap import NUM_RESAMPLES, SHARE, average_difference_interval
from .paper import TABLE_3, TABLE_4, TABLE_4_AVERAGES
from .results import Results
from .suites import get_suite

Outcome = Literal["holds", "does not hold", "is undecided"]

IN_DOMAIN = tuple(task.name for task in get_suite("in_domain").tasks)
IN_DOMAIN_WITHOUT_TRANSFER = tuple(task for task in IN_DOMAIN if task != "style_transfer")
ZERO_SHOT = tuple(task.name for task in get_suite("zero_shot").tasks)
THREE_CONDITIONS = tuple(task.name for task in get_suite("three_conditions").tasks)
REWORDED = tuple(task.name for task in get_suite("held_out_wording").tasks)
AIMS = {"in-domain": 0.76, "zero-shot": 0.59}
THREE_CONDITIONS_SHARE = 0.8


@dataclass(frozen=True)
class Claim:
    """A claim, and what was found.

    Attributes:
        text: the claim, as a clause: "instruction tuning is ahead of ...".
        ours: what was measured.
        interval: its 95 % interval.
        outcome: whether the claim holds.
        sentence: all of it in words.
    """

    text: str
    ours: float
    interval: tuple[float, float]
    outcome: Outcome
    sentence: str


def outcome_of(interval: tuple[float, float], least: float = 0.0) -> Outcome:
    """What an interval says of "more than `least`"."""
    low, high = interval
    return "holds" if low > least else "does not hold" if high < least else "is undecided"


def check_claims(results: Mapping[str, Results]) -> list[Claim]:
    """All claims for which the methods were evaluated."""
    averages = TABLE_4_AVERAGES
    in_domain, zero_shot = averages["in_domain"], averages["zero_shot"]
    gaps = [
        ("instruct", "single_task", IN_DOMAIN, "in-domain average", _gap(in_domain.instruct, in_domain.single_task)),
        ("instruct", "single_task_share", IN_DOMAIN, "in-domain average", None),
        ("multi_task", "single_task_share", IN_DOMAIN, "in-domain average", None),
        ("instruct", "multi_task", IN_DOMAIN, "in-domain average", _gap(in_domain.instruct, in_domain.multi_task)),
        ("instruct", "multi_task", ZERO_SHOT, "zero-shot average", _gap(zero_shot.instruct, zero_shot.multi_task)),
        (
            "single_task",
            "multi_task",
            IN_DOMAIN,
            "in-domain average",
            _gap(in_domain.single_task, in_domain.multi_task),
        ),
        (
            "instruct",
            "instruct_without_stage1",
            IN_DOMAIN_WITHOUT_TRANSFER,
            "in-domain average without style transfer",
            _gap(*TABLE_3["in_domain"][::-1]),
        ),
        ("instruct", "instruct_without_stage1", ZERO_SHOT, "zero-shot average", _gap(*TABLE_3["zero_shot"][::-1])),
        (
            "instruct",
            "multi_task",
            ("style_transfer",),
            "style transfer",
            _gap(TABLE_4["style_transfer"].instruct, TABLE_4["style_transfer"].multi_task),
        ),
        ("instruct", "instruct_middle", IN_DOMAIN, "in-domain average", None),
        ("instruct", "templates_10", REWORDED, "held-out wordings", None),
        ("instruct", "templates_1", REWORDED, "held-out wordings", None),
    ]
    found = [
        _difference(results[first], results[second], tasks, where, gap)
        for first, second, tasks, where, gap in gaps
        if _comparable(results, first, second, tasks)
    ]
    model = results.get("instruct")
    if model is not None:
        found += _of_one(model)
    return found


def _comparable(results: Mapping[str, Results], first: str, second: str, tasks: Sequence[str]) -> bool:
    return all(name in results and results[name].has(tasks) for name in (first, second))


def _gap(more: float | None, less: float | None) -> float | None:
    return None if more is None or less is None else round(more - less, 2)


def _difference(first: Results, second: Results, tasks: Sequence[str], where: str, paper: float | None) -> Claim:
    """One method is ahead of another."""
    ours = first.average(tasks) - second.average(tasks)
    interval = average_difference_interval([(first.o[task], second.o[task]) for task in tasks])
    outcome = outcome_of(interval)
    claim = f"“{first.title}” is ahead of “{second.title}” on {where}"
    theirs = ""
    if paper is not None:
        share = f", {ours / paper:.0%} of it here" if paper and outcome == "holds" else ""
        theirs = (
            f"; in the paper the gap is {paper:+.2f}{share}, and that it is as wide here {outcome_of(interval, paper)}"
        )
    sentence = f"That {claim} {outcome}: O differs by {_signed(ours, interval)}{theirs}."
    return Claim(claim, ours, interval, outcome, sentence)


def _of_one(model: Results) -> list[Claim]:
    """What is claimed of the instructed model alone, where it was evaluated for it."""
    found = []
    for name, tasks in (("in-domain", IN_DOMAIN), ("zero-shot", ZERO_SHOT)):
        if model.has(tasks):
            found.append(_aim(model, name, tasks))
    if model.has(THREE_CONDITIONS) and model.has(ZERO_SHOT):
        found.append(_three_conditions(model))
    if model.has(IN_DOMAIN) and model.has(REWORDED):
        found.append(_wording(model))
    measured = [task for task in (*IN_DOMAIN, *ZERO_SHOT, *THREE_CONDITIONS) if task in model.o]
    if measured:
        found.append(_clear_of_floor(model, measured))
    return found


def _aim(model: Results, name: str, tasks: Sequence[str]) -> Claim:
    aim, ours, interval = AIMS[name], model.average(tasks), model.average_interval(tasks)
    outcome = outcome_of(interval, aim)
    ceiling, floor = model.average_of("ceiling_at_size", tasks), model.average_of("floor", tasks)
    text = f"“{model.title}” reaches {aim:.2f} in the {name} average"
    sentence = (
        f"That {text} {outcome}: it is {ours:.2f} (95 % interval {interval[0]:.2f} to {interval[1]:.2f}), "
        f"{abs(ours - aim):.2f} {'above' if ours >= aim else 'below'} the aim, between a floor of {floor:.2f} and a "
        f"ceiling of {ceiling:.2f} at the model's size."
    )
    return Claim(text, ours, interval, outcome, sentence)


def _three_conditions(model: Results) -> Claim:
    """Three conditions at once reach a share of what two reach."""
    ours = _ratio([model.o[t].mean() for t in THREE_CONDITIONS], [model.o[t].mean() for t in ZERO_SHOT])
    interval = _ratio_interval([model.o[t] for t in THREE_CONDITIONS], [model.o[t] for t in ZERO_SHOT])
    outcome = outcome_of(interval, THREE_CONDITIONS_SHARE)
    text = f"three conditions reach at least {THREE_CONDITIONS_SHARE:.0%} of what two reach"
    sentence = (
        f"That {text} {outcome}: “{model.title}” has O {model.average(THREE_CONDITIONS):.2f} with three and "
        f"{model.average(ZERO_SHOT):.2f} with two, {ours:.0%} (95 % interval {interval[0]:.0%} to {interval[1]:.0%})."
    )
    return Claim(text, ours, interval, outcome, sentence)


def _ratio(values: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> float:
    below = float(np.mean(others))
    return float(np.mean(values)) / below if below > 0 else 0.0


def _ratio_interval(values: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % percentile interval of a ratio of averages; no instructions are shared, so none are paired."""
    rng = np.random.default_rng(0)

    def resampled(task: np.ndarray) -> float:
        return float(task[rng.integers(len(task), size=len(task))].mean())

    ratios = [
        _ratio([resampled(task) for task in values], [resampled(task) for task in others]) for _ in range(NUM_RESAMPLES)
    ]
    low, high = np.quantile(ratios, ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return float(low), float(high)


def _wording(model: Results) -> Claim:
    """Instructions in wordings that training never saw lose nothing; the scenes are the same."""
    pairs = [(model.o[f"reworded_{task}"], model.o[task]) for task in IN_DOMAIN]
    interval = average_difference_interval(pairs)
    ours = model.average(REWORDED) - model.average(IN_DOMAIN)
    outcome = outcome_of(interval, -0.02)
    text = "wordings that training never saw cost “" + model.title + "” no more than 0.02"
    sentence = f"That {text} {outcome}: on the same scenes O differs by {_signed(ours, interval)}."
    return Claim(text, ours, interval, outcome, sentence)


def _clear_of_floor(model: Results, tasks: Sequence[str]) -> Claim:
    """On how many suites the interval lies above the floor."""
    scores = [(task, model.task(task)) for task in tasks]
    clear = [task for task, score in scores if score is not None and score["interval"][0] > score["floor"]]
    share = len(clear) / len(tasks)
    outcome: Outcome = "holds" if share > 0.5 else "does not hold"
    text = f"“{model.title}” stands clear of the floor on most suites"
    rest = [task for task in tasks if task not in clear]
    left = f"; not on {', '.join(rest)}" if rest else ""
    sentence = f"That {text} {outcome}: on {len(clear)} of {len(tasks)}{left}."
    return Claim(text, share, (share, share), outcome, sentence)


def _signed(value: float, interval: tuple[float, float]) -> str:
    return f"{value:+.2f} (95 % interval {interval[0]:+.2f} to {interval[1]:+.2f})"
