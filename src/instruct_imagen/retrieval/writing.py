"""From clusters to shards: units are read once more for their pictures, then each shard gathers those it needs.

So pictures are never all in memory, and a killed build repeats no unit and no shard that was done.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.pairs import Unit
from ..files import make_folder, write_atomically, write_text
from .clusters import CLUSTER_SIZE
from .engines import Engine
from .extras import require
from .grouping import Grouping
from .records import ClusterRecord, write_shard
from .units import Wanted, extract_pictures, fingerprint, read_extracted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardOptions:
    """How clusters are written.

    Attributes:
        picture_px: longest allowed shorter side of a picture.
        clusters_per_shard: clusters in one tar.
        seed: of the order of the clusters, which mixes the domains.
    """

    picture_px: int = 256
    clusters_per_shard: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class ShardJob:
    """One shard.

    Attributes:
        number: of the shard.
        first: number of its first cluster.
        names: of the units.
        units: numbers of the pictures' units, int64 [n, 5].
        slots: their places among the unit's extracted pictures, int64 [n, 5].
        domains: names of the clusters' domains, n of them.
    """

    number: int
    first: int
    names: tuple[str, ...]
    units: np.ndarray
    slots: np.ndarray
    domains: tuple[str, ...]


def write_clusters(
    grouping: Grouping, units: Sequence[Unit], names: Sequence[str], out: Path, options: ShardOptions, engine: Engine
) -> None:
    """Writes `OUT/clusters.parquet`, the list of clusters, and `OUT/shards/`.

    Args:
        grouping: the clusters; part `i` of its rows is unit `i`.
        units: of the corpus.
        names: of the domains.
        out: folder; temporary files lie in `OUT/work`.
        options: sizes and order.
        engine: runs units, then shards.
    """
    order = np.random.default_rng(options.seed).permutation(len(grouping.clusters))
    rows, clusters = grouping.rows, grouping.clusters[order]
    flat = clusters.ravel()
    keys = rows.keys.take(flat).to_pylist()
    domains = [names[number] if len(names) else "all" for number in grouping.domains[order].tolist()]
    _write_list(out / "clusters.parquet", keys, rows.part[flat], units, domains, grouping.similarities[order])
    digest = _digest(keys, rows.part[flat], units, domains, options)
    final = out / "shards"
    if (final / "digest").is_file() and (final / "digest").read_text(encoding="utf-8") == digest:
        return
    slots, wanted = _slots(keys, rows.part[flat], units)
    pictures, shards = out / "work" / f"pictures-{digest}", make_folder(out / "work" / f"shards-{digest}")
    for stale in (out / "work").glob("*-*"):
        if stale not in (pictures, shards) and stale.name.startswith(("pictures-", "shards-")):
            shutil.rmtree(stale)
    extract = partial(extract_pictures, folder=pictures, picture_px=options.picture_px)
    _run(engine.map_units(extract, wanted), len(wanted), "pictures")
    jobs = list(_jobs(rows.part[flat], slots, domains, [unit.name for unit in units], options))
    _run(engine.map_units(partial(gather_shard, pictures=pictures, out=shards), jobs), len(jobs), "shards")
    write_text(shards / "digest", digest)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(shards, final)
    shutil.rmtree(pictures)


def gather_shard(job: ShardJob, pictures: Path, out: Path) -> None:
    """Writes one shard from extracted pictures, unless it is there."""
    path = out / f"{job.number:05d}.tar"
    if path.is_file():
        return
    found: dict[tuple[int, int], tuple[dict[str, str], bytes]] = {}
    for unit in np.unique(job.units).tolist():
        slots = job.slots[job.units == unit]
        for slot, content in zip(slots.tolist(), read_extracted(pictures, job.names[unit], slots), strict=True):
            found[unit, slot] = content

    def records() -> Iterator[ClusterRecord]:
        for i, domain in enumerate(job.domains):
            members = [found[place] for place in zip(job.units[i].tolist(), job.slots[i].tolist(), strict=True)]
            captions, urls, keys = (tuple(record[name] for record, _ in members) for name in ("caption", "url", "key"))
            pictures = tuple(picture for _, picture in members)
            yield ClusterRecord(f"cluster-{job.first + i:09d}", domain, captions, urls, keys, pictures)

    write_shard(path, records())


def _slots(keys: Sequence[str], part: np.ndarray, units: Sequence[Unit]) -> tuple[np.ndarray, list[Wanted]]:
    """For each picture its slot in its unit, and what is wanted of each unit that has any."""
    slots, wanted = np.zeros(len(keys), np.int64), []
    for number in np.unique(part).tolist():
        places = np.flatnonzero(part == number)
        slots[places] = np.arange(len(places))
        wanted.append(Wanted(units[number], tuple(keys[place] for place in places.tolist())))
    return slots, wanted


def _jobs(
    part: np.ndarray, slots: np.ndarray, domains: Sequence[str], names: Sequence[str], options: ShardOptions
) -> Iterator[ShardJob]:
    units, slots = part.reshape(-1, CLUSTER_SIZE), slots.reshape(-1, CLUSTER_SIZE)
    for number, first in enumerate(range(0, len(units), options.clusters_per_shard)):
        here = slice(first, first + options.clusters_per_shard)
        yield ShardJob(number, first, tuple(names), units[here], slots[here], tuple(domains[here]))


def _digest(
    keys: Sequence[str], part: np.ndarray, units: Sequence[Unit], domains: Sequence[str], options: ShardOptions
) -> str:
    """Changes with the clusters, their pictures' files and the options."""
    state = hashlib.sha256(repr((options, list(domains), list(keys))).encode())
    state.update(np.ascontiguousarray(part, np.int64).tobytes())
    for number in np.unique(part).tolist():
        state.update(fingerprint(units[number]).encode())
    return state.hexdigest()[:16]


def _write_list(
    path: Path,
    keys: Sequence[str],
    part: np.ndarray,
    units: Sequence[Unit],
    domains: Sequence[str],
    similarities: np.ndarray,
) -> None:
    """One row for each picture in a cluster."""
    table = require("pyarrow").table(
        {
            "cluster": np.repeat(np.arange(len(domains)), CLUSTER_SIZE),
            "place": np.tile(np.arange(CLUSTER_SIZE), len(domains)),
            "domain": np.repeat(np.array(domains, dtype=str), CLUSTER_SIZE),
            "unit": [units[number].name for number in part.tolist()],
            "key": list(keys),
            "similarity": np.repeat(similarities, CLUSTER_SIZE),
        }
    )
    write_atomically(path, lambda other: require("pyarrow.parquet").write_table(table, other))


def _run(results: Iterator[Any], total: int, what: str) -> None:
    for _ in tqdm(results, what, total, disable=not logger.isEnabledFor(logging.INFO)):
        pass
