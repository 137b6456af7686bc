"""Control to image (Table 1: depth, mask, edge, and sketch): any captioned pictures, their controls computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..example import Example
from ..report import Report
from .building import Builder, Shown
from .captions import LAYOUT as _CAPTIONS_LAYOUT
from .captions import captioned_targets
from .options import SourceOptions
from .reading import opacity

LAYOUT = f"{_CAPTIONS_LAYOUT} The control is computed from the picture."


def controlled_examples(kind: str, path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """The control picture under marker 1, the picture as the target.

    Args:
        kind: of control, "depth", "mask", "edge" or "sketch"; also the task.
        path: a corpus of captioned pictures.
        report: receives the counts.
        options: see `SourceOptions`; `controls` draws the control.

    Raises:
        DataError: depth is asked for and there is no depth model.
    """
    options.controls.check(kind)
    return _controlled(path, Builder(kind, report, options))


def _controlled(path: Path, builder: Builder) -> Iterator[Example]:
    kind, controls = builder.task, builder.options.controls
    for captioned, target in captioned_targets(path, builder):
        alpha = _alpha(builder, captioned.pair.image, target) if kind in ("mask", "edge") else None
        for turn, (key, rng) in enumerate(builder.turns(captioned.pair.key)):
            control = controls.draw(kind, target, rng, alpha)
            if control is None:
                builder.drop(f"no {kind} found in the picture", key)
                continue
            shown = Shown(kind, (Image.fromarray(control),))
            yield from builder.finish(key, rng, target, {"caption": captioned.phrase(turn)}, [shown])


def depth_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """See `controlled_examples`."""
    return controlled_examples("depth", path, report, options)


def mask_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """See `controlled_examples`."""
    return controlled_examples("mask", path, report, options)


def edge_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """See `controlled_examples`."""
    return controlled_examples("edge", path, report, options)


def _alpha(builder: Builder, data: bytes, target: Image.Image) -> np.ndarray | None:
    """What the picture's transparency leaves, bool, in the shape of the target."""
    found = opacity(data)
    if found is None:
        return None
    mask = builder.fitted_mask(found)
    if mask.size != target.size:  # a very large picture is reduced while it is read, its mask only here
        mask = mask.resize(target.size, Image.Resampling.NEAREST)
    return np.asarray(mask)[..., 0] > 0
