"""Clusters on disk, and the examples that training draws from them.

A shard is a tar with, for each cluster, `KEY.json` ({"captions", "urls", "keys", "domain"}) and its five pictures
`KEY.0.png` .. `KEY.4.png`, which any webdataset reader takes. Beside each lies `NAME.index.npy`, where every member
begins, so that millions of clusters are opened at once and read at random; without it the tar is scanned.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.example import Example
from ..data.report import DataError
from ..errors import InstructionError
from ..files import write_atomically
from ..pictures import load_image
from .clusters import CLUSTER_SIZE
from .examples import NUM_CONTEXT, cluster_instruction, context_caption, plain_caption

_MEMBERS = ("json", *(f"{place}.png" for place in range(CLUSTER_SIZE)))
_SALT = 5  # apart from the streams of other sources of one seed


@dataclass(frozen=True)
class ClusterRecord:
    """Five pictures of one thing.

    Attributes:
        key: its own in the data set; no "." and no "/".
        domain: name of the domain.
        captions: one for each picture.
        urls: where the pictures came from; may be empty texts.
        keys: of the pictures in their corpus.
        pictures: PNG files.
    """

    key: str
    domain: str
    captions: tuple[str, ...]
    urls: tuple[str, ...]
    keys: tuple[str, ...]
    pictures: tuple[bytes, ...]


def write_shard(path: Path, records: Iterable[ClusterRecord]) -> None:
    """Writes a shard and its index, each whole or not at all; a shard that is there has its index."""
    places: list[list[tuple[int, int]]] = []

    def write(partial: Path) -> None:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for record in records:
                content = {
                    "captions": record.captions,
                    "urls": record.urls,
                    "keys": record.keys,
                    "domain": record.domain,
                }
                files = (json.dumps(content, ensure_ascii=False).encode(), *record.pictures)
                row = []
                for ending, data in zip(_MEMBERS, files, strict=True):
                    member = tarfile.TarInfo(f"{record.key}.{ending}")
                    member.size = len(data)
                    row.append((tar.offset + tarfile.BLOCKSIZE, len(data)))
                    tar.addfile(member, io.BytesIO(data))
                places.append(row)
        index = np.array(places, np.int64).reshape(-1, len(_MEMBERS), 2)
        write_atomically(_index_of(path), lambda other: np.save(other, index, allow_pickle=False))

    write_atomically(path, write)


def _index_of(shard: Path) -> Path:
    return shard.with_suffix(".index.npy")


class ClusterShards:
    """All clusters of a folder, in the order of the shards' names.

    Args:
        folder: with `*.tar`, or the folder above it that `build_clusters` wrote.

    Raises:
        DataError: there is no shard, or one is damaged.
    """

    def __init__(self, folder: Path) -> None:
        inner = folder / "shards"
        self.folder = inner if inner.is_dir() else folder
        self.shards = sorted(path for path in self.folder.glob("*.tar") if not path.name.startswith("."))
        if not self.shards:
            raise DataError(f"{folder} holds no clusters; `instruct-imagen data clusters` writes them.")
        self._places = [_read_index(shard) for shard in self.shards]
        self._ends = np.cumsum([len(places) for places in self._places])

    def __len__(self) -> int:
        """How many clusters."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> ClusterRecord:
        """Reads the cluster at 0 <= index < len.

        Raises:
            DataError: it is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._ends, index, "right"))
        places = self._places[number][index - int(self._ends[number])].tolist()
        shard = self.shards[number]
        with shard.open("rb") as file:
            file.seek(places[0][0] - tarfile.BLOCKSIZE)
            name = file.read(100).rstrip(b"\0").decode("utf-8", "replace")
            files = []
            for offset, size in places:
                file.seek(offset)
                files.append(file.read(size))
        try:
            content = json.loads(files[0])
            captions, urls, keys = (tuple(map(str, content[column])) for column in ("captions", "urls", "keys"))
            key, domain = name.removesuffix(".json"), str(content["domain"])
            record = ClusterRecord(key, domain, captions, urls, keys, tuple(files[1:]))
            if {len(record.captions), len(record.urls), len(record.keys)} != {CLUSTER_SIZE}:
                raise ValueError("it must have five captions, URLs and keys")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{shard}: the cluster {name!r} is damaged ({error}); build the shards again.") from error
        return record


def _read_index(shard: Path) -> np.ndarray:
    """Where the members of each cluster begin and how long they are, int64 [n, 6, 2]."""
    path = _index_of(shard)
    if path.is_file():
        try:
            places = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); remove it, and the shard is read without it.") from error
        if places.ndim == 3 and places.shape[1:] == (len(_MEMBERS), 2) and _fits(places, shard):
            return places
    return _scan(shard)


def _fits(places: np.ndarray, shard: Path) -> bool:
    """Whether an index is of this tar: its last member ends where the tar does, but for the zeros that end a tar."""
    end = int(places[-1, -1].sum()) if len(places) else 0
    end = -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
    return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE == shard.stat().st_size


def _scan(shard: Path) -> np.ndarray:
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    key, _, ending = member.name.partition(".")
                    found.setdefault(key, {})[ending] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard} is damaged ({error}); build it again.") from error
    for key, members in found.items():
        if lacking := [ending for ending in _MEMBERS if ending not in members]:
            raise DataError(f"{shard}: the cluster {key} lacks {key}.{lacking[0]}; these shards hold no clusters.")
    rows = [[members[ending] for ending in _MEMBERS] for members in found.values()]
    return np.array(rows, np.int64).reshape(-1, len(_MEMBERS), 2)


def draw_example(record: ClusterRecord, members: Sequence[int], key: str) -> Example:
    """An example of a cluster (A.2.2).

    Args:
        record: the cluster.
        members: places of the target and of the three context pairs.
        key: of the example.

    Raises:
        DataError: a picture or a caption is damaged.
    """
    try:
        target, *context = [load_image(record.pictures[place]) for place in members]
        words = [context_caption(record.captions[place]) for place in members[1:]]
        text = plain_caption(record.captions[members[0]])
        instruction = cluster_instruction(text, list(zip(context, words, strict=True)))
    except InstructionError as error:
        raise DataError(f"The cluster {record.key} is damaged ({error}); build the shards again.") from error
    return Example(instruction, target, "cluster", key)


class ClusterSource:
    """Stage-1 examples without end: in each epoch every cluster once, in another order.

    Of the five pictures one is drawn as the target and three as its context, anew in every epoch; example `index`
    depends on (seed, index) alone.

    Args:
        folder: of the clusters.
        seed: of the orders and draws.

    Raises:
        DataError: there are no clusters.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.clusters, self.seed = ClusterShards(folder), seed
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Clusters, which is the length of an epoch."""
        return len(self.clusters)

    def __getitem__(self, index: int) -> Example:
        """The example at `index` >= 0, a position over all epochs."""
        epoch, place = divmod(index, len(self.clusters))
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, _SALT, epoch]).permutation(len(self.clusters))
            self._epoch = epoch
        record = self.clusters[int(self._order[place])]
        rng = np.random.default_rng([self.seed, _SALT, 1, index])
        members = rng.permutation(CLUSTER_SIZE)[: 1 + NUM_CONTEXT].tolist()
        return draw_example(record, members, f"{record.key}-{index:09d}")
