"""Scales: what a reading is worth, from true pictures and wrong ones that no suite shows.

    python -m instruct_imagen.evaluation.calibrate --out src/instruct_imagen/evaluation/weights

writes `scales.json`; `shipped_scales()` reads it. A condition is met (1), in part (0.5) or not (0), as raters say it
(§4). It is met from a reading (`full`) that nine of ten true pictures reach and at most one wrong one in twenty;
where a judge is not good enough for both, the second holds. It is met in part from one that nine of ten wrong
pictures do not reach (`half`). Between the middle of the wrong pictures and that of the true ones the continuous
score runs from 0 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .conditions import Reading
from .judges.nets import WEIGHTS
from .suites import EvaluationError

SCALES_FILE = "scales.json"
TRUE_SHARE = 0.9
_ABOVE = 1e-3  # the highest wrong reading, where too many share it
WRONG_SHARES = (0.9, 0.95)  # of the wrong pictures, what stays below half and below full


@dataclass(frozen=True)
class Scale:
    """How readings of one kind are read.

    Attributes:
        zero, one: readings that score 0 and 1, continuously; medians of wrong and of true pictures.
        half, full: readings from which a condition counts as met in part and wholly.
        wrong_half, wrong_full: share of wrong pictures that reach them.
        count: true pictures it was calibrated on.
    """

    zero: float
    one: float
    half: float
    full: float
    wrong_half: float
    wrong_full: float
    count: int

    @classmethod
    def fit(cls, true: np.ndarray, wrong: np.ndarray) -> Scale:
        """A scale from readings of true pictures and of wrong ones, float [N] and float [M]."""
        half, least = (_beyond(wrong, share) for share in WRONG_SHARES)
        full = max(float(np.quantile(true, 1 - TRUE_SHARE)), least)
        half = min(full, half)
        zero, one = float(np.median(wrong)), float(np.median(true))
        return cls(zero, one, half, full, float((wrong >= half).mean()), float((wrong >= full).mean()), len(true))

    def level(self, value: float) -> float:
        """0, 0.5 or 1."""
        return 1.0 if value >= self.full else 0.5 if value >= self.half else 0.0

    def score(self, value: float) -> float:
        """0..1, continuously."""
        if self.one <= self.zero:
            return float(value >= self.one)
        return float(np.clip((value - self.zero) / (self.one - self.zero), 0, 1))


def _beyond(wrong: np.ndarray, share: float) -> float:
    """A reading that only the rest of the wrong pictures reach; halfway over the gap below the lowest of these."""
    values, counts = np.unique(wrong, return_counts=True)
    reach = np.cumsum(counts[::-1])[::-1] / len(wrong)
    first = int(np.argmax(reach <= 1 - share + 1e-9)) if reach[-1] <= 1 - share + 1e-9 else len(values)
    if first == len(values):  # too many share the highest reading
        return float(values[-1]) + _ABOVE
    return float(values[max(first - 1, 0)] + values[first]) / 2


Scales = Mapping[str, Scale]


def scale_of(scales: Scales, reading: Reading) -> Scale:
    """The scale of a reading.

    Raises:
        EvaluationError: there is none of that name.
    """
    if reading.scale not in scales:
        raise EvaluationError(
            f"There is no scale {reading.scale!r}; run `python -m instruct_imagen.evaluation.calibrate`."
        )
    return scales[reading.scale]


def scales_text(scales: Scales) -> str:
    """Scales as JSON."""
    rounded = {
        name: {key: round(value, 4) for key, value in asdict(scale).items()} for name, scale in sorted(scales.items())
    }
    return json.dumps(rounded, indent=1) + "\n"


@cache
def shipped_scales() -> Scales:
    """The scales that come with the package; read once."""
    return read_scales(WEIGHTS / SCALES_FILE)


def read_scales(path: Path) -> Scales:
    """Scales from a file.

    Raises:
        EvaluationError: it is not there or holds no scales.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: Scale(**values) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path} holds no scales ({error}); calibrate anew.") from error
