"""How far raters agree: Krippendorff's alpha and Fleiss' kappa."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(values: Sequence[Sequence[float]] | np.ndarray, level: Level = "ordinal") -> float | None:
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives, and below it is worse than chance.

    Args:
        values: [raters, units], NaN where a rater did not see a unit.
        level: of measurement; SC and PQ are ordinal, and ImagenHub takes them so.

    Returns:
        alpha, or None where it is not defined: nothing was rated by two, or all ratings are the same.
    """
    import krippendorff

    table = np.asarray(values, dtype=np.float64)
    paired = table[:, np.count_nonzero(~np.isnan(table), axis=0) > 1] if table.size else table
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement=level))


def fleiss_kappa(counts: Sequence[Sequence[int]] | np.ndarray) -> float | None:
    """Fleiss' kappa: 1 is full agreement, 0 what chance gives. It knows no order: 0 and 1 are as far apart as 0 and .5.

    Units may differ in how many rated them; each then counts with the share of its pairs that agree, and with all its
    ratings in what chance gives. With equally many this is Fleiss' (1971) own formula.

    Args:
        counts: [units, categories]: how many raters gave which category. Units with one rating are left out.

    Returns:
        kappa, or None where it is not defined: nothing was rated by two, or all ratings are the same.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2:
        return None
    table = table[table.sum(axis=1) > 1]
    if not len(table) or np.count_nonzero(table.sum(axis=0)) < 2:
        return None
    raters = table.sum(axis=1)
    observed = float(((table * (table - 1)).sum(axis=1) / (raters * (raters - 1))).mean())
    by_chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return (observed - by_chance) / (1 - by_chance)
