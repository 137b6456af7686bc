"""Units as a Ray Data job: the same functions on every machine of a Ray cluster.

A unit whose machine is lost is done again elsewhere by Ray; because every step writes its result whole or not at all
and finds it again, nothing is then lost or written twice. The corpus and the output folder must be reachable under the
same paths from all machines (a shared file system).
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..data.report import DataError
from .engines import Item, Result
from .extras import require

_FAILURE = "failure"


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster; started on this machine where `address` names none and none is running.

    Attributes:
        address: of the cluster, such as "auto" (the one this machine belongs to) or "10.0.0.1:6379"; None: whatever
            Ray finds, or a new one.
        cpus_per_unit: processors that one unit takes.
    """

    address: str | None = None
    cpus_per_unit: float = 1.0

    def map_units(self, function: Callable[[Item], Result], units: Sequence[Item]) -> Iterator[Result]:
        """The results, in the order of the units.

        Raises:
            DataError: no such cluster, or the job was given up; an error of a unit is raised as it is.
        """
        if not units:
            return
        ray, ray_data = require("ray"), require("ray.data")
        self._connect(ray)
        context = ray_data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [{"unit": pickle.dumps(unit)} for unit in units]
        dataset = ray_data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(_run, function=function),
            batch_size=None,
            num_cpus=self.cpus_per_unit,
        )
        try:
            for row in dataset.iter_rows():
                result = pickle.loads(row["result"])
                if row["kind"] == _FAILURE:
                    raise result
                yield result
        except ray.exceptions.RayError as error:
            raise DataError(
                f"The Ray job was given up ({type(error).__name__}); start it again, it goes on where it was."
            ) from error

    def _connect(self, ray: Any) -> None:
        if ray.is_initialized():
            return
        try:
            check_answers(self.address)
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False, logging_level="warning")
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"No Ray cluster answers at {self.address!r} ({str(error).splitlines()[0]}); start one with "
                "`ray start --head`, or leave the address out."
            ) from error


def check_answers(address: str | None) -> None:
    """Refuses at once an address where nothing listens: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


def _run(batch: dict[str, Any], function: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """Does the units of one block; errors travel as results, so that Ray does not wrap them or try them again."""
    kinds, results = [], []
    for packed in batch["unit"]:
        try:
            kind, result = "result", function(pickle.loads(packed))
        except Exception as error:
            kind, result = _FAILURE, error
        kinds.append(kind)
        results.append(pickle.dumps(result))
    return {"kind": kinds, "result": results}
