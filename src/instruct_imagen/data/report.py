"""What a builder kept and dropped, by step and reason: counted by workers, merged, written as `report.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_json

MAX_PLACES = 10  # named per reason


class DataError(UserError):
    """Data that cannot be read or built from; the message says what to mend."""


@dataclass
class StepReport:
    """One step: how many were kept, and for each reason how many were dropped and where the first of them were."""

    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def merge(self, other: StepReport) -> None:
        """Adds the counts of another worker."""
        self.kept += other.kept
        for reason, count in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            known = self.places.setdefault(reason, [])
            known += other.places.get(reason, [])[: MAX_PLACES - len(known)]


class Report:
    """Counts by step, in the order in which the steps first appear.

    Args:
        strict: the first thing to be dropped as damaged raises DataError instead of being counted.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.steps: dict[str, StepReport] = {}

    def step(self, name: str) -> StepReport:
        """The counts of one step."""
        return self.steps.setdefault(name, StepReport())

    def keep(self, step: str, count: int = 1) -> None:
        """Counts what passed a step."""
        self.step(step).kept += count

    def drop(self, step: str, reason: str, place: str = "", count: int = 1) -> None:
        """Counts what did not, as intended: too small, a duplicate.

        Args:
            step: the step's name.
            reason: a few words, the same for all like it, so that they can be counted.
            place: the file or key, for the report.
            count: how many.
        """
        found = self.step(step)
        found.dropped[reason] = found.dropped.get(reason, 0) + count
        places = found.places.setdefault(reason, [])
        if place and len(places) < MAX_PLACES:
            places.append(place)

    def damaged(self, step: str, reason: str, place: str) -> None:
        """Counts something that should not be: an unreadable picture, a missing caption.

        Raises:
            DataError: the report is strict.
        """
        if self.strict:
            raise DataError(f"{place}: {reason} (step {step!r})")
        self.drop(step, reason, place)

    def merge(self, other: Report) -> None:
        """Adds another report's counts."""
        for name, step in other.steps.items():
            self.step(name).merge(step)

    def to_json(self) -> dict[str, Any]:
        """`{"steps": {NAME: {"kept": N, "dropped": {REASON: N}, "places": {REASON: [PLACE, ...]}}}}`."""
        return {
            "steps": {
                name: {"kept": s.kept, "dropped": dict(sorted(s.dropped.items())), "places": s.places}
                for name, s in self.steps.items()
            }
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Report:
        """Inverse of `to_json`."""
        report = cls()
        for name, step in content["steps"].items():
            report.steps[name] = StepReport(step["kept"], dict(step["dropped"]), dict(step["places"]))
        return report

    def write(self, path: Path, **more: Any) -> None:
        """Writes the report, with further entries, whole or not at all."""
        write_json(path, {**more, **self.to_json()})
