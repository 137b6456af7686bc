"""Image-text pairs from the web, in the layouts that corpora really have, read with nothing good lost.

A corpus is split into units (a tar, a parquet file, a slice of a folder) that workers read apart from one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """One picture with its caption, as found.

    Attributes:
        key: its own in the corpus.
        image: bytes of the picture file, not yet decoded.
        caption: text, stripped, valid Unicode.
        url: where it came from, or empty.
    """

    key: str
    image: bytes
    caption: str
    url: str = ""


@dataclass(frozen=True)
class Unit:
    """A part of a corpus that one worker reads.

    Attributes:
        name: its own in the corpus, fit for a file name.
        kind: "tar", "parquet" or "folder".
        paths: the tar (and its sidecar parquet, if there is one), the parquet file, or the files of the slice.
    """

    name: str
    kind: str
    paths: tuple[Path, ...]
