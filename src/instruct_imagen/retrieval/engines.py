"""Engines run a function over units: in this process, in several, or elsewhere.

The functions are pure (what they need travels with them, what they make is returned or written whole), so every
engine gives the same result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from ..data.report import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs a function over units."""

    def map_units(self, function: Callable[[Item], Result], units: Sequence[Item]) -> Iterator[Result]:
        """The results, in the order of the units; an error of one unit ends the map with that error.

        Args:
            function: picklable, such as a function of a module or a `functools.partial` of one.
            units: picklable.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine.

    Attributes:
        num_workers: how many; 0 does the work in this process.
    """

    num_workers: int = 0

    def map_units(self, function: Callable[[Item], Result], units: Sequence[Item]) -> Iterator[Result]:
        """The results, in the order of the units; at most two units a worker are under way."""
        if self.num_workers < 1 or not units:
            yield from map(function, units)
            return
        num_threads = max(1, (os.cpu_count() or 1) // self.num_workers)
        # spawned, not forked: a fork of a process whose numerical libraries hold threads may never wake
        pool = ProcessPoolExecutor(
            self.num_workers, multiprocessing.get_context("spawn"), _start_worker, (num_threads,)
        )
        try:
            rest = iter(units)
            waiting: deque[Future[Result]] = deque(
                pool.submit(function, unit) for unit in islice(rest, 2 * self.num_workers)
            )
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, unit) for unit in islice(rest, 1))
                yield result
        except BrokenProcessPool as error:
            raise DataError("A worker process was ended, mostly for lack of memory; use fewer workers.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(num_threads: int) -> None:
    # Ctrl-C reaches the whole process group; only the first process acts on it, then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(num_threads)  # for libraries that are imported from here on
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(num_threads)
