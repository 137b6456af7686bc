"""Anchors kept on disk: they take longer than judging a model's pictures, and are the same for every model.

    store = AnchorStore(Path("out/anchors"))
    known = store.anchors(task, cases, 128, pack, scales)      # measured once, then read

What is kept is known by a digest of all that decides it: the pictures, references, texts and candidates of the cases,
the conditions, the size, and the judges' code, weights and scales. A file that is damaged is measured anew.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import world
from ..files import make_folder, write_atomically
from ..world import GlyphPack
from .calibration import Scales
from .cases import SuiteCase
from .pictures import JUDGE_SIZE_PX
from .scoring import Anchors, Judged, Verdict, Verdicts, anchors
from .suites import SuiteTask


@dataclass(frozen=True)
class AnchorStore:
    """A folder of anchors.

    Args:
        folder: made when the first are written.
    """

    folder: Path

    def anchors(
        self, task: SuiteTask, cases: Sequence[SuiteCase], size_px: int, pack: GlyphPack, scales: Scales
    ) -> Anchors:
        """See `scoring.anchors`, whose result this is, read if it is there.

        Raises:
            OutputError: the folder cannot be written to.
        """
        file = self.folder / f"{task.name}-{_digest(task, cases, size_px, scales)}.npz"
        known = _read(file)
        if known is None:
            known = anchors(task, cases, size_px, pack, scales)
            _write(file, known)
        return known


def _digest(task: SuiteTask, cases: Sequence[SuiteCase], size_px: int, scales: Scales) -> str:
    digest = hashlib.blake2b(_digest_of_judges(), digest_size=12)
    digest.update(repr((task.conditions, min(size_px, JUDGE_SIZE_PX), scales)).encode())
    for case in cases:
        digest.update(repr((case.candidates, case.world.scene, case.instruction.text)).encode())
        for picture in _pictures(case):
            digest.update(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


def _pictures(case: SuiteCase) -> Iterator[np.ndarray]:
    yield case.truth
    for reference in case.instruction.references:
        yield np.asarray(reference.image)
    if case.world.edit is not None:
        yield case.world.edit.mask


@cache
def _digest_of_judges() -> bytes:
    """Of the code and weights that judge, and of the world that they know."""
    digest = hashlib.blake2b()
    for package in (Path(__file__).parent, Path(world.__file__).parent):
        for file in sorted(file for file in package.rglob("*") if file.suffix in (".py", ".safetensors", ".json")):
            digest.update(file.read_bytes())
    return digest.digest()


def _write(file: Path, known: Anchors) -> None:
    sets = {field.name: getattr(known, field.name) for field in fields(Anchors)}
    there = {name: verdicts for name, verdicts in sets.items() if verdicts is not None}
    words = json.dumps({name: [asdict(verdict) for verdict in verdicts.each] for name, verdicts in there.items()})
    features = {name: verdicts.features for name, verdicts in there.items()}
    make_folder(file.parent)
    write_atomically(file, lambda partial: np.savez_compressed(partial, verdicts=np.array(words), **features))


def _read(file: Path) -> Anchors | None:
    """What a file holds; None if there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as content:
            words: Mapping[str, Any] = json.loads(str(content["verdicts"]))
            sets = {name: Verdicts(tuple(map(_verdict, each)), content[name]) for name, each in words.items()}
        return Anchors(sets["truth"], sets["truth_at_size"], sets["wrong"], sets.get("copies"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _verdict(values: Mapping[str, Any]) -> Verdict:
    conditions = {name: Judged(**judged) for name, judged in values["conditions"].items()}
    return Verdict(conditions, Judged(**values["quality"]))
