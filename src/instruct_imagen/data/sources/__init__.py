"""Sources: public corpora, in the files they are really released in, as instruction examples (§3.2, Table 1).

for example in SOURCES["face"].open(Path("celeba"), report, SourceOptions(size_px=128)):
    writer.write(example)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from ..example import Example
from ..report import Report
from . import art, captions, controlled, edit, faces, sketch, style_transfer, styled, subjects
from .options import Embedder, SourceOptions, SourceSpec

__all__ = ["SOURCES", "Embedder", "SourceOptions", "SourceSpec"]

_Read = Callable[[Path, Report, SourceOptions], Iterator[Example]]


def _limited(read: _Read, path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    limit = None if options.max_examples is None else options.share(options.max_examples)
    return islice(read(path, report, options), limit)


def _specs() -> Iterator[SourceSpec]:
    reads: Mapping[str, tuple[_Read, str]] = {
        "text": (captions.text_examples, captions.LAYOUT),
        "art": (art.art_examples, art.LAYOUT),
        "depth": (controlled.depth_examples, controlled.LAYOUT),
        "mask": (controlled.mask_examples, controlled.LAYOUT),
        "edge": (controlled.edge_examples, controlled.LAYOUT),
        "sketch": (sketch.sketch_examples, sketch.LAYOUT),
        "subject": (subjects.subject_examples, subjects.LAYOUT),
        "face": (faces.face_examples, faces.LAYOUT_CELEBA),
        "face_hq": (faces.face_hq_examples, faces.LAYOUT_CELEBA_HQ),
        "style": (styled.style_examples, styled.LAYOUT),
        "style_transfer": (style_transfer.style_transfer_examples, style_transfer.LAYOUT),
        "edit": (edit.edit_examples, edit.LAYOUT),
    }
    for name, (read, layout) in reads.items():
        yield SourceSpec(name, name, layout, partial(_limited, read))


SOURCES: Mapping[str, SourceSpec] = {spec.name: spec for spec in _specs()}
