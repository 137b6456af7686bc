"""Calibrates the judges' scales on instructions that no suite shows.

    python -m instruct_imagen.evaluation.calibrate --out src/instruct_imagen/evaluation/weights

Every task of every suite is built anew from another seed. True pictures count as they are, at 32 pixels, and slightly
touched, since no model draws every pixel; wrong ones are those of the next instruction and, for the quality, ruined
ones. Prints how well true and wrong pictures are told apart, on which docs/evaluation.md reports. A few minutes of
one core.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ..files import make_folder, write_atomically
from ..world import GlyphPack, load_pack
from .calibration import SCALES_FILE, Scale, Scales, scales_text
from .cases import SuiteCase, suite_cases
from .conditions import PictureSet, read
from .judges.nets import WEIGHTS
from .judges.quality import true_features
from .judges.spoiling import ruin
from .pictures import JUDGE_SIZE_PX, judged
from .scoring import QUALITY
from .suites import ALL, Suite, SuiteTask, get_suites

logger = logging.getLogger(__name__)

SEED = 8_600_000
NUM_PER_TASK = 96
REDUCED_PX = 32

Readings = dict[str, list[float]]


def touched(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A true picture with slight faults that no rater would mind: a little blur, noise and cast."""
    values = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), float(rng.uniform(0.3, 0.6)))
    values = values + rng.normal(0, 3, values.shape) + rng.normal(0, 3, 3)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def calibrate(pack: GlyphPack, num_per_task: int = NUM_PER_TASK, seed: int = SEED) -> Scales:
    """Scales of all conditions and of the quality.

    Args:
        pack: the glyphs.
        num_per_task: instructions of each task.
        seed: of the instructions.
    """
    true: Readings = defaultdict(list)
    wrong: Readings = defaultdict(list)
    for suite in get_suites(ALL):
        own = replace(suite, num_per_task=num_per_task, seed=seed)
        for task in suite.tasks:
            if task.stream:  # the same pictures in other words
                continue
            _read_task(task, own, pack, true, wrong)
            logger.info("read %s", task.name)
    return {name: Scale.fit(np.array(true[name]), np.array(wrong[name])) for name in sorted(true)}


def _read_task(task: SuiteTask, suite: Suite, pack: GlyphPack, true: Readings, wrong: Readings) -> None:
    cases = suite_cases(task, suite, pack)
    rng = np.random.default_rng((suite.seed, len(cases)))
    pictures = [case.truth for case in cases]
    small = [judged(picture, REDUCED_PX) for picture in pictures]
    for size_px, seen in (
        (JUDGE_SIZE_PX, pictures),
        (REDUCED_PX, small),
        (JUDGE_SIZE_PX, [touched(picture, rng) for picture in pictures]),
    ):
        _collect(task, cases, seen, pack, size_px, true)
    for size_px, seen in ((JUDGE_SIZE_PX, pictures), (REDUCED_PX, small)):
        shifted = [*seen[1:], seen[0]]
        readings: Readings = defaultdict(list)
        _collect(task, cases, shifted, pack, size_px, readings)
        masks = [judged(np.repeat(case.world.picture.mask[..., None] * np.uint8(255), 3, 2), size_px) for case in cases]
        trios = zip(seen, shifted, masks, strict=True)
        ruined = [ruin(one, two, mask[..., 0] > 127, rng)[0] for one, two, mask in trios]
        readings[QUALITY] = list(_realism(PictureSet(ruined, pack), pack, size_px))
        for name, values in readings.items():
            wrong[name] += values


def _collect(
    task: SuiteTask,
    cases: Sequence[SuiteCase],
    pictures: Sequence[np.ndarray],
    pack: GlyphPack,
    size_px: int,
    readings: Readings,
) -> None:
    opened = PictureSet(pictures, pack)
    for condition in task.conditions:
        for reading in read(condition, opened, cases):
            if reading is not None:
                readings[reading.scale].append(reading.value)
    readings[QUALITY] += list(_realism(opened, pack, size_px))


def _realism(opened: PictureSet, pack: GlyphPack, size_px: int) -> np.ndarray:
    return true_features(pack, size_px).realism(opened.overview.quality)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help=f"folder for {SCALES_FILE}")
    parser.add_argument("--pack", default="font", help="font, builtin, or a folder of cut-outs")
    parser.add_argument("--count", type=int, default=NUM_PER_TASK, help="instructions per task (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    scales = calibrate(load_pack(options.pack).prepare(), options.count)
    path = make_folder(options.out) / SCALES_FILE
    write_atomically(path, lambda partial: partial.write_text(scales_text(scales), encoding="utf-8"))
    print(f"{'scale':24}  wrong  true   half   full  wrong >= half  wrong >= full  count")
    for name, s in scales.items():
        print(
            f"{name:24}  {s.zero:.3f}  {s.one:.3f}  {s.half:.3f}  {s.full:.3f}  {s.wrong_half:13.2f}  "
            f"{s.wrong_full:13.2f}  {s.count:5d}"
        )


if __name__ == "__main__":
    main()
