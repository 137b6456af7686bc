"""Examples on disk: webdataset shards and JSONL, written whole or not at all, read at random.

A shard is a tar with, for each example, `KEY.json` and its pictures `KEY.target.png`, `KEY.ref0.png`, `KEY.ref1.png`,
... (any webdataset reader takes it). Tars are not compressed, so `ShardSource` notes where each example begins and
reads any of them with one seek: a position in the data stays one integer, and resuming or sharding over processes
stays exact.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..errors import InstructionError
from ..files import make_folder
from ..instruction import Instruction, Reference
from ..pictures import load_image
from .example import Example
from .report import DataError

SHARD_PATTERN = "*.tar"
EXAMPLES_PER_SHARD = 1000


class FiniteSource(Protocol):
    """Examples that can be counted."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int) -> Example:
        """The example at 0 <= index < len."""
        ...


class ShardWriter:
    """Writes examples into `OUT/PREFIX00000.tar`, `OUT/PREFIX00001.tar`, ...; use it as a context.

    A shard is written beside and renamed when it is full or the context ends without an error.

    Args:
        out: folder; made if it does not exist.
        prefix: before the shard's number, so that several workers may write into one folder.
        examples_per_shard: how many go into one.
    """

    def __init__(self, out: Path, prefix: str = "", examples_per_shard: int = EXAMPLES_PER_SHARD) -> None:
        self.out, self.prefix, self.examples_per_shard = make_folder(out), prefix, examples_per_shard
        self.num_examples = 0
        self._tar: tarfile.TarFile | None = None
        self._partial = self._final = out

    def __enter__(self) -> ShardWriter:
        """Begins; nothing is written before the first example."""
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        """Finishes the last shard, or removes it if an error ended the context."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None
            if kind is None:
                os.replace(self._partial, self._final)
            else:
                self._partial.unlink(missing_ok=True)

    def write(self, example: Example) -> None:
        """Adds one example; its key must be its own in the whole data set and hold no "." or "/"."""
        if "." in example.key or "/" in example.key or not example.key:
            raise DataError(f"The key {example.key!r} cannot be written: it must be a name without '.' and '/'.")
        if self._tar is None:
            self._final = self.out / f"{self.prefix}{self.num_examples // self.examples_per_shard:05d}.tar"
            self._partial = self._final.with_name(f".{self._final.name}.partial")
            self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        names = [f"{example.key}.ref{index}.png" for index in range(len(example.instruction.references))]
        target = f"{example.key}.target.png"
        content = {
            "task_type": example.task,
            "key": example.key,
            "target": target,
            **example.instruction.to_json(names),
        }
        self._add(f"{example.key}.json", json.dumps(content, ensure_ascii=False).encode())
        self._add(target, _png(example.target))
        for name, reference in zip(names, example.instruction.references, strict=True):
            self._add(name, _png(reference.image))
        self.num_examples += 1
        if self.num_examples % self.examples_per_shard == 0:
            self.__exit__(None)

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        assert self._tar is not None
        self._tar.addfile(member, io.BytesIO(data))


class ShardSource:
    """All examples of the shards in a folder, in the order of the shards' names.

    Args:
        folder: with `*.tar`, as `ShardWriter` writes them.

    Raises:
        DataError: there is no shard, or one is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.shards = sorted(path for path in folder.glob(SHARD_PATTERN) if not path.name.startswith("."))
        if not self.shards:
            raise DataError(f"{folder} holds no shards ({SHARD_PATTERN}).")
        self._places = [_scan(shard) for shard in self.shards]
        self._ends = np.cumsum([len(places) for places in self._places])
        if not len(self):
            raise DataError(f"The shards in {folder} hold no examples.")

    def __len__(self) -> int:
        """How many examples."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        """Reads one example.

        Raises:
            DataError: it is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._ends, index, "right"))
        begin, end = self._places[number][index - int(self._ends[number])].tolist()
        shard = self.shards[number]
        with shard.open("rb") as file:
            file.seek(begin)
            data = file.read(end - begin)
        record = f"at byte {begin}"
        try:
            files = _files(data)
            record = next(name for name in files if name.endswith(".json"))
            content = json.loads(files[record])
            references = tuple(
                Reference(load_image(files[entry["image"]]), entry["text"], entry["marker"])
                for entry in content["references"]
            )
            instruction = Instruction(content["instruction"], references)
            target = load_image(files[content["target"]])
            return Example(instruction, target, content["task_type"], content["key"])
        except StopIteration:
            raise DataError(f"{shard}: the example {record} has no record KEY.json.") from None
        except (ValueError, KeyError, TypeError, tarfile.TarError, InstructionError) as error:
            raise DataError(f"{shard}: the example {record} is damaged: {error}") from error


def _scan(shard: Path) -> np.ndarray:
    """Where each example of a shard begins and ends, int64 [n, 2]: members that follow one another under one key."""
    places: list[list[int]] = []
    key = None
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stem = member.name.split(".", 1)[0]
                if stem != key:
                    places.append([member.offset, 0])
                key = stem
                places[-1][1] = member.offset_data + member.size
                tar.members = []  # type: ignore[attr-defined]  # or the tar would keep them all
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard} is damaged ({error}); build it again.") from error
    return np.array(places, np.int64).reshape(-1, 2)


def _files(data: bytes) -> dict[str, bytes]:
    """The files in a part of a tar, by name."""
    files = {}
    padding = bytes(-len(data) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
    with tarfile.open(fileobj=io.BytesIO(data + padding), mode="r:") as tar:
        for member in tar:
            if member.isfile() and (content := tar.extractfile(member)):
                files[member.name] = content.read()
    return files


class JsonlSource:
    """Examples of a JSONL file, one object a line: `{"task_type", "instruction", "input_images", "output_image"}`.

    Picture paths are relative to the file and must lie in its folder. `"references"` as in an instruction file may
    stand in place of `"input_images"`.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, or holds no line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: list[int] = []
        try:
            with path.open("rb") as file:
                offset = 0
                for line in file:
                    if line.strip():
                        self._offsets.append(offset)
                    offset += len(line)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        if not self._offsets:
            raise DataError(f"{path} holds no examples.")

    def __len__(self) -> int:
        """How many examples."""
        return len(self._offsets)

    def __getitem__(self, index: int) -> Example:
        """Reads one example.

        Raises:
            DataError: the line or one of its pictures is damaged.
        """
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            line = file.readline()
        where = f"{self.path}, example {index}"
        try:
            content = json.loads(line)
            task, output = str(content["task_type"]), content["output_image"]
            rest = {k: v for k, v in content.items() if k not in ("task_type", "output_image", "key")}
            instruction = Instruction.from_json(rest, self.path.parent, paths="inside")
            target = load_image(_inside(self.path.parent, output))
        except (ValueError, KeyError, TypeError, InstructionError) as error:
            raise DataError(f"{where} is damaged: {error}") from error
        return Example(instruction, target, task, str(content.get("key", f"{self.path.stem}-{index:08d}")))


def _inside(folder: Path, name: object) -> Path:
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"the picture {str(name)!r} lies outside {folder}")
    return path


def open_examples(path: Path) -> FiniteSource:
    """A JSONL file, or a folder of shards.

    Raises:
        DataError: neither.
    """
    return JsonlSource(path) if path.suffix in (".jsonl", ".json") else ShardSource(path)


class EpochSource:
    """A finite source without end: epoch after epoch, each in its own order, every example once in each.

    Args:
        source: the examples.
        seed: of the orders.
    """

    def __init__(self, source: FiniteSource, seed: int) -> None:
        self.source, self.seed = source, seed
        self._epoch = -1
        self._order = np.arange(0)

    def __getitem__(self, index: int) -> Example:
        """The example at `index`, a position over all epochs."""
        epoch, place = divmod(index, len(self.source))
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.source))
            self._epoch = epoch
        return self.source[int(self._order[place])]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
