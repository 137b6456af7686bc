"""What tests of corpora share: a picture, small corpora, and reading one whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from damaged_corpus import Sample, members_of, write_tar
from damaged_pictures import drawing, encoded

from instruct_imagen.data.pairs import READ, Pair, list_units, read_unit
from instruct_imagen.data.report import Report

PICTURE = encoded(drawing(np.random.default_rng(0)), "PNG")


def read(source: Path) -> tuple[list[Pair], Report]:
    """All pairs of a corpus."""
    report = Report()
    return [pair for unit in list_units(source) for pair in read_unit(unit, report)], report


def dropped(report: Report, step: str = READ) -> dict[str, int]:
    return report.step(step).dropped


def captions(source: Path) -> list[str]:
    return [pair.caption for pair in read(source)[0]]


def tar_of(path: Path, *keys: str) -> Path:
    """A tar of good samples whose captions are their keys."""
    write_tar(path, [member for key in keys for member in members_of(key, Sample(PICTURE, key.encode()))])
    return path
