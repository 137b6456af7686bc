"""Results of methods, read back from what evaluations wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .bootstrap import average_interval
from .methods import INSTRUCT, METHODS
from .runner import SCORES_FILE, VERDICTS_FOLDER, TaskScore
from .suites import EvaluationError


@dataclass(frozen=True)
class Results:
    """What one method reached.

    Attributes:
        name: of the method.
        folder: that `run_suites` wrote.
        scores: what is in its `scores.json`.
    """

    name: str
    folder: Path
    scores: Mapping[str, Mapping[str, TaskScore]]

    @classmethod
    def read(cls, folder: Path, name: str | None = None) -> Results:
        """Results of one evaluation.

        Raises:
            EvaluationError: the folder holds none, or damaged ones.
        """
        path = folder / SCORES_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or not all(isinstance(tasks, dict) for tasks in content.values()):
                raise ValueError("it is no table of suites and tasks")
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{path} cannot be read ({error}); evaluate the method again.") from error
        return cls(name or folder.name, folder, content)

    @property
    def title(self) -> str:
        """How tables call it."""
        return METHODS[self.name].title if self.name in METHODS else self.name

    @cached_property
    def o(self) -> Mapping[str, np.ndarray]:
        """O of every picture, by task: float64 [N].

        Raises:
            EvaluationError: the verdicts are missing or damaged.
        """
        return {task: self._of_pictures(task) for tasks in self.scores.values() for task in tasks if "o" in tasks[task]}

    def _of_pictures(self, task: str) -> np.ndarray:
        path = self.folder / VERDICTS_FOLDER / f"{task}.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return np.array([float(json.loads(line)["o"]) for line in lines if line.strip()])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path} cannot be read ({error}); evaluate the method again.") from error

    def task(self, name: str) -> TaskScore | None:
        """The score of a task, if the method was evaluated on it."""
        return next((tasks[name] for tasks in self.scores.values() if name in tasks), None)

    def has(self, tasks: Sequence[str]) -> bool:
        """Whether the method was evaluated on all of these tasks."""
        return all(task in self.o for task in tasks)

    def average(self, tasks: Sequence[str]) -> float:
        """Mean over tasks of their mean O."""
        return float(np.mean([self.o[task].mean() for task in tasks]))

    def average_interval(self, tasks: Sequence[str]) -> tuple[float, float]:
        """Its 95 % interval."""
        return average_interval([self.o[task] for task in tasks])

    def average_of(self, field: str, tasks: Sequence[str]) -> float:
        """Mean over tasks of a field of their scores, such as "floor"."""
        scores: list[Any] = [self.task(task) for task in tasks]
        return float(np.mean([score[field] for score in scores]))


def read_results(folder: Path) -> dict[str, Results]:
    """The results of all methods in a folder, `FOLDER/METHOD/scores.json`, those of `METHODS` first.

    A folder that `evaluate` wrote, with `scores.json` in it, holds one method and counts as `INSTRUCT`.

    Raises:
        EvaluationError: there are none, or they were measured on different instructions.
    """
    if (folder / SCORES_FILE).is_file():
        return {INSTRUCT: Results.read(folder, INSTRUCT)}
    found = {path.parent.name for path in folder.glob(f"*/{SCORES_FILE}")}
    if not found:
        raise EvaluationError(f"{folder} holds no {SCORES_FILE} and no METHOD/{SCORES_FILE}; evaluate into it first.")
    names = [name for name in METHODS if name in found] + sorted(found - set(METHODS))
    results = {name: Results.read(folder / name) for name in names}
    counts: dict[str, tuple[int, str]] = {}
    for name, result in results.items():
        for task, values in result.o.items():
            if counts.setdefault(task, (len(values), name))[0] != len(values):
                other = counts[task][1]
                raise EvaluationError(
                    f"{other} and {name} were measured on different numbers of instructions of {task}; "
                    "evaluate both with the same --count."
                )
    return results
