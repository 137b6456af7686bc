"""What is done with one unit of a corpus: judge, hash and embed its pictures; later, read those in clusters again.

Each step writes its result whole or not at all and finds it again, so a killed build goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.pairs import Pair, Unit, decode, read_unit
from ..data.report import DataError, Report
from ..files import make_folder, replacing, write_atomically
from .embedders import Embedder
from .examples import plain_caption
from .extras import require
from .hashes import perceptual_hash
from .layout import open_stored, write_part
from .quality import QualityFilter

_TYPES = {
    "key": "string",
    "image_path": "string",
    "caption": "string",
    "url": "string",
    "phash": "uint64",
    "quality": "float32",
    "pixels": "int64",
}


@dataclass(frozen=True)
class EmbedJob:
    """How every unit is embedded.

    Attributes:
        work: folder of the results, one folder in it for each unit.
        embedder: of pictures and texts.
        quality: what is dropped.
        stored: a layout with embeddings made elsewhere, to be used in place of the embedder's, or None.
        min_caption_similarity: pairs whose picture and caption are less alike are dropped; None does not compare.
        batch_size: pictures in memory at once.
        strict: damaged pictures are errors.
    """

    work: Path
    embedder: Embedder
    quality: QualityFilter
    stored: Path | None = None
    min_caption_similarity: float | None = None
    batch_size: int = 64
    strict: bool = False


@dataclass
class _Columns:
    """What is known of the pictures of a unit that passed."""

    vectors: list[np.ndarray] = field(default_factory=list)
    texts: list[np.ndarray] = field(default_factory=list)
    metadata: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _TYPES})

    def add(self, pair: Pair, caption: str, image: Image.Image, quality: float) -> None:
        """Adds one row of metadata."""
        row = (pair.key, pair.key, caption, pair.url, perceptual_hash(image), quality, image.width * image.height)
        for column, value in zip(self.metadata.values(), row, strict=True):
            column.append(value)

    def typed(self) -> dict[str, Any]:
        """The metadata as pyarrow arrays, which have their types even without a row."""
        return {name: require("pyarrow").array(self.metadata[name], kind) for name, kind in _TYPES.items()}


def fingerprint(unit: Unit) -> str:
    """Changes when a file of the unit does, or a caption beside its pictures: names, sizes and times, not contents.

    What a list of captions names is not looked at.
    """
    endings = (".txt", ".json") if unit.kind == "folder" else ()
    paths = [file for path in unit.paths for file in (path, *(path.with_suffix(ending) for ending in endings))]
    states = [(unit.place(path), *_state(path)) for path in paths]
    return hashlib.sha256(json.dumps([unit.kind, unit.start, unit.count, states]).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    """Size and time of a file; of one that is not there, or not to be read, none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def embed_unit(unit: Unit, job: EmbedJob) -> Report:
    """Embeds the pictures of a unit that are good enough, unless that was done before.

    Writes `WORK/NAME/` in clip-retrieval's layout, with the further columns phash, quality and pixels, and the
    unit's report.

    Returns:
        What was kept and dropped, now or then.
    """
    folder = job.work / unit.name
    mark = fingerprint(unit)
    if (done := _finished(folder, mark)) is not None:
        return done
    report, columns = Report(job.strict), _Columns()
    candidates = _candidates(unit, job, report)
    while batch := list(islice(candidates, job.batch_size)):
        _embed_batch(batch, job, columns, report)
    dim = job.embedder.dim if job.stored is None else open_stored(job.stored).dim
    empty = np.zeros((0, dim), np.float16)
    with_texts = job.min_caption_similarity is not None
    with replacing(folder) as partial:
        write_part(
            partial,
            np.concatenate([empty, *columns.vectors]),
            columns.typed(),
            np.concatenate([empty, *columns.texts]) if with_texts else None,
        )
        report.write(partial / "report.json", fingerprint=mark)
    return report


def _finished(folder: Path, mark: str) -> Report | None:
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return Report.from_json(content) if content["fingerprint"] == mark else None
    except (OSError, ValueError, KeyError):
        return None


def _candidates(unit: Unit, job: EmbedJob, report: Report) -> Iterator[tuple[Pair, str, Image.Image]]:
    """Pairs with their clean caption and picture, without those that need no embedding to be dropped."""
    for pair in read_unit(unit, report):
        image = decode(pair, report)
        if image is None:
            continue
        if fault := job.quality.fault(image):
            report.drop("quality", fault, pair.key)
        elif not (caption := plain_caption(pair.caption)):
            report.drop("quality", "no caption", pair.key)
        else:
            yield pair, caption, image


def _embed_batch(batch: list[tuple[Pair, str, Image.Image]], job: EmbedJob, columns: _Columns, report: Report) -> None:
    """Embeds, scores and compares a batch; adds what passes to `columns`."""
    images = [image for *_, image in batch]
    if job.stored is None:
        known, vectors = np.ones(len(batch), bool), job.embedder.images(images)
    else:
        known, vectors = open_stored(job.stored).find([pair.key for pair, *_ in batch])
    scores = job.quality.scores(vectors)
    likeness = np.ones(len(batch), np.float32)
    if job.min_caption_similarity is not None:
        texts = job.embedder.texts([caption for _, caption, _ in batch])
        likeness = np.einsum("ij,ij->i", vectors, texts)
    kept = []
    for i, (pair, caption, image) in enumerate(batch):
        if not known[i]:
            report.drop("embedding", "not among the embeddings given", pair.key)
        elif scores[i] < job.quality.min_score:
            report.drop("quality", "low quality score", pair.key)
        elif job.min_caption_similarity is not None and likeness[i] < job.min_caption_similarity:
            report.drop("quality", "caption unlike the picture", pair.key)
        else:
            kept.append(i)
            columns.add(pair, caption, image, float(scores[i]))
    for step in ("quality", "embedding"):
        report.keep(step, len(kept))
    columns.vectors.append(vectors[kept].astype(np.float16))
    if job.min_caption_similarity is not None:
        columns.texts.append(texts[kept].astype(np.float16))


@dataclass(frozen=True)
class Wanted:
    """Pictures of a unit that are in clusters.

    Attributes:
        unit: where they are read again.
        keys: of the pictures; the place of a key is the slot under which its picture is found.
    """

    unit: Unit
    keys: tuple[str, ...]


def extract_pictures(wanted: Wanted, folder: Path, picture_px: int) -> None:
    """Reads pictures again and writes them, reduced, into `FOLDER/NAME.bin`, their places into `FOLDER/NAME.npy`.

    Args:
        wanted: which.
        folder: for the results; what is there already is not done again.
        picture_px: longest allowed shorter side.

    Raises:
        DataError: the unit no longer holds all of them.
    """
    data, index = folder / f"{wanted.unit.name}.bin", folder / f"{wanted.unit.name}.npy"
    if index.is_file():
        return
    make_folder(folder)
    slots = {key: slot for slot, key in enumerate(wanted.keys)}
    places = np.full((len(slots), 3), -1, np.int64)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            for pair, image in _pictures(wanted.unit, slots):
                content = {"key": pair.key, "caption": plain_caption(pair.caption), "url": pair.url}
                record, picture = json.dumps(content, ensure_ascii=False).encode(), _png(image, picture_px)
                places[slots[pair.key]] = file.tell(), len(record), len(picture)
                file.write(record + picture)

    write_atomically(data, write)
    if missing := np.flatnonzero(places[:, 0] < 0).tolist():
        raise DataError(
            f"{wanted.unit.name} no longer holds the picture {wanted.keys[missing[0]]!r}; the corpus has changed while "
            "it was read, so start the build again."
        )
    write_atomically(index, lambda partial: np.save(partial, places, allow_pickle=False))


def _pictures(unit: Unit, keys: Iterable[str]) -> Iterator[tuple[Pair, Image.Image]]:
    """The pairs of `keys` with their pictures; reading ends with the last of them."""
    rest, unseen = set(keys), Report()
    if not rest:
        return
    for pair in read_unit(unit, unseen):
        if pair.key in rest and (image := decode(pair, unseen)) is not None:
            yield pair, image
            rest.discard(pair.key)
            if not rest:
                return


def _png(image: Image.Image, picture_px: int) -> bytes:
    """A picture whose shorter side is at most `picture_px`, as PNG."""
    scale = picture_px / min(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read_extracted(folder: Path, name: str, slots: np.ndarray) -> list[tuple[dict[str, str], bytes]]:
    """Records (key, caption, url) and PNG bytes of some slots of a unit, in their order."""
    places = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    found = []
    with (folder / f"{name}.bin").open("rb") as file:
        for offset, record_size, picture_size in places[slots].tolist():
            file.seek(offset)
            record = json.loads(file.read(record_size))
            found.append((record, file.read(picture_size)))
    return found
