"""Intervals by the bootstrap over instructions, of one model's mean and of the difference of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARE = 0.95
NUM_RESAMPLES = 4_000


def mean_interval(
    values: Sequence[float] | np.ndarray, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float]:
    """The 95 % percentile interval of a mean.

    Args:
        values: one number per instruction, at least one.
        seed: of the resampling.
        num_resamples: how often the instructions are drawn anew, with replacement.

    Raises:
        ValueError: there are no values.
    """
    return average_interval([values], seed, num_resamples)


def average_interval(
    values: Sequence[Sequence[float] | np.ndarray], seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float]:
    """The 95 % interval of the average of several tasks' means, the instructions of each task resampled on their own.

    Args:
        values: for each task one number per instruction.
        seed: of the resampling.
        num_resamples: how often.

    Raises:
        ValueError: there is no task, or one has no values.
    """
    if not values:
        raise ValueError("An average needs at least one task.")
    rng = np.random.default_rng(seed)
    means = np.zeros(num_resamples)
    for task in values:
        numbers = np.asarray(task, dtype=np.float64)
        if numbers.ndim != 1 or not numbers.size:
            raise ValueError("A bootstrap interval needs a list of at least one number.")
        means += numbers[rng.integers(numbers.size, size=(num_resamples, numbers.size))].mean(axis=1)
    low, high = np.quantile(means / len(values), ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return float(low), float(high)


def difference_interval(
    values: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float]:
    """The 95 % interval of mean(values) - mean(others), both measured on the same instructions in the same order.

    Instructions are resampled as pairs, so what makes an instruction hard for both cancels.

    Raises:
        ValueError: the lists differ in length or are empty.
    """
    return average_difference_interval([(values, others)], seed, num_resamples)


def average_difference_interval(
    pairs: Sequence[tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float]:
    """The 95 % interval of the difference of two methods' averages over tasks, instructions resampled as pairs.

    Args:
        pairs: for each task the numbers of both methods, on the same instructions in the same order.
        seed: of the resampling.
        num_resamples: how often.

    Raises:
        ValueError: there is no task, or lists of a pair differ in length or are empty.
    """
    differences = []
    for values, others in pairs:
        first, second = (np.asarray(numbers, dtype=np.float64) for numbers in (values, others))
        if first.shape != second.shape:
            raise ValueError(f"Paired lists must be equally long, not {first.shape} and {second.shape}.")
        differences.append(first - second)
    return average_interval(differences, seed, num_resamples)
