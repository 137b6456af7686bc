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
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError("A bootstrap interval needs a list of at least one number.")
    drawn = np.random.default_rng(seed).integers(numbers.size, size=(num_resamples, numbers.size))
    low, high = np.quantile(numbers[drawn].mean(axis=1), ((1 - SHARE) / 2, (1 + SHARE) / 2))
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
    first, second = (np.asarray(numbers, dtype=np.float64) for numbers in (values, others))
    if first.shape != second.shape:
        raise ValueError(f"Paired lists must be equally long, not {first.shape} and {second.shape}.")
    return mean_interval(first - second, seed, num_resamples)
