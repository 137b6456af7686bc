"""Calibrates the judges' scales, and measures them, on instructions that no suite shows.

    python -m instruct_imagen.evaluation.calibrate --out src/instruct_imagen/evaluation/weights
    python -m instruct_imagen.evaluation.calibrate --measure

Every task of every suite is built anew from another seed. True pictures are read as they are, at 32 pixels, and
slightly touched, since no model draws every pixel; wrong ones are those of the next instruction and, for the quality,
ruined ones. The first command fits the scales to them. The second takes the scales that come with the package to
pictures of yet another seed and prints ceilings and floors, as docs/evaluation.md has them. Five to ten minutes of one
core each.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ..arguments import several
from ..errors import UserError
from ..files import make_folder, write_atomically
from ..world import GlyphPack, load_pack, parse_portrait
from .calibration import SCALES_FILE, Scale, Scales, scales_text, shipped_scales
from .cases import SuiteCase, suite_cases
from .conditions import PictureSet, read
from .judges.nets import WEIGHTS
from .judges.spoiling import RUINS, ruin
from .pictures import judged
from .scoring import QUALITY
from .suites import ALL, Condition, EvaluationError, SuiteTask, get_suites

logger = logging.getLogger(__name__)

SEED, MEASURING_SEED = 8_600_000, 8_800_000
NUM_PER_TASK = 32
REDUCED_PX = 32
TRUE, REDUCED, TOUCHED, ANOTHERS = "true", "32 px", "touched", "another's"
TRUE_KINDS = (TRUE, REDUCED, TOUCHED)
# Faults of shape and layout, which the features of the quality hardly show. They are measured, but the scale is not
# fitted to them: it would have to turn most true pictures down.
UNSEEN = ("warped", "blended", "jumbled", "blobbed")
_TIMES: Mapping[str, int] = {"edit": 4, "control_style": 4, "face": 2}  # those with several scales of their own
_AT_ONCE = 12  # cases whose candidates' templates are kept while all their pictures are read

Readings = dict[str, dict[str, list[float]]]  # by scale, and by kind of picture: TRUE_KINDS, ANOTHERS, or a fault


def touched(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A true picture with slight faults that no rater would mind: a little blur, noise and cast."""
    values = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), float(rng.uniform(0.3, 0.6)))
    values = values + rng.normal(0, 3, values.shape) + rng.normal(0, 3, 3)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def gather(pack: GlyphPack, num_per_task: int, seed: int, names: Sequence[str] = (ALL,)) -> Readings:
    """Readings of true and of wrong pictures.

    Args:
        pack: the glyphs.
        num_per_task: instructions of each task.
        seed: of the instructions.
        names: suites or tasks, as `get_suites` takes them.
    """
    readings: Readings = defaultdict(lambda: defaultdict(list))
    for suite in (suite for name in names for suite in get_suites(name)):
        for task in suite.tasks:
            if task.stream:  # the same pictures in other words
                continue
            own = replace(suite, num_per_task=num_per_task * _TIMES.get(task.name, 1), seed=seed)
            cases = suite_cases(task, own, pack)
            rng = np.random.default_rng((seed, len(cases)))
            for part in np.array_split(np.arange(len(cases)), -(-len(cases) // _AT_ONCE)):
                _read_cases(_read_here(task), [cases[k] for k in part], pack, rng, readings)
            logger.info("read %s", task.name)
    return readings


def _read_here(task: SuiteTask) -> list[Condition]:
    """A task's conditions but for the subject beside a control: slow to read, and the same in the tasks without one."""
    controlled = any(condition.kind == "control" for condition in task.conditions)
    return [condition for condition in task.conditions if not (controlled and condition.kind == "identity")]


def _read_cases(
    conditions: Sequence[Condition],
    cases: Sequence[SuiteCase],
    pack: GlyphPack,
    rng: np.random.Generator,
    readings: Readings,
) -> None:
    """Adds readings of some cases' true pictures, of each other's, and of ruined ones."""
    pictures = [case.truth for case in cases]
    small = [judged(picture, REDUCED_PX) for picture in pictures]
    for kind, seen in ((TRUE, pictures), (REDUCED, small), (TOUCHED, [touched(p, rng) for p in pictures])):
        opened = PictureSet(seen, pack)
        _read_conditions(conditions, cases, opened, kind, readings)
        readings[QUALITY][kind] += opened.realism.tolist()
    following = [*cases[1:], cases[0]]
    for seen in (pictures, small):
        shifted = [*seen[1:], seen[0]]
        _read_conditions(conditions, cases, PictureSet(shifted, pack), ANOTHERS, readings, shown=following)
        masks = [_resized_mask(case.world.picture.mask, len(seen[0])) for case in cases]
        ruined = [ruin(one, two, mask, rng) for one, two, mask in zip(seen, shifted, masks, strict=True)]
        realism = PictureSet([picture for picture, _ in ruined], pack).realism
        for (_, fault), value in zip(ruined, realism, strict=True):
            readings[QUALITY][fault].append(float(value))


def _read_conditions(
    conditions: Sequence[Condition],
    cases: Sequence[SuiteCase],
    opened: PictureSet,
    kind: str,
    readings: Readings,
    shown: Sequence[SuiteCase] | None = None,
) -> None:
    """Adds readings of pictures; `shown` are the cases whose true pictures they are, if not their own."""
    for condition in conditions:
        for k, reading in enumerate(read(condition, opened, cases)):
            if reading is not None and (shown is None or not fulfils(condition, cases[k], shown[k])):
                readings[reading.scale][kind].append(reading.value)


def fulfils(condition: Condition, case: SuiteCase, shown: SuiteCase) -> bool:
    """Whether another case's true picture happens to be right, too: one in eight has the same ground, say."""
    wanted, there = case.world.scene, shown.world.scene
    if condition.kind == "identity":
        return wanted.glyphs[condition.subject] in there.glyphs
    if condition.kind == "hat":
        return parse_portrait(wanted.glyphs[0]).hat == parse_portrait(there.glyphs[0]).hat
    if condition.kind == "ground" or (case.world.edit is not None and case.world.edit.kind == "ground"):
        return condition.kind != "outside" and wanted.ground.kind == there.ground.kind
    facts = {
        "style": (wanted.style.name, there.style.name),
        "relation": (wanted.relation, there.relation),
        "count": (len(wanted.subjects), len(there.subjects)),
    }
    one, other = facts.get(condition.kind, (True, False))
    return one == other


def _resized_mask(mask: np.ndarray, size_px: int) -> np.ndarray:
    return judged(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), size_px)[..., 0] > 127


def calibrate(readings: Readings) -> Scales:
    """Scales of all conditions and of the quality, from what `gather` read.

    Raises:
        EvaluationError: there are no wrong pictures of some kind.
    """
    scales = {}
    for name, kinds in sorted(readings.items()):
        true, wrong = [value for kind in TRUE_KINDS for value in kinds[kind]], _wrong(kinds)
        if not wrong:
            raise EvaluationError(f"So few instructions have no wrong picture for {name!r}; give a larger --count.")
        scales[name] = Scale.fit(np.array(true), np.array(wrong))
    return scales


def _wrong(kinds: Mapping[str, Sequence[float]]) -> list[float]:
    """All readings of wrong pictures that a judge is made to see."""
    return [value for kind, values in kinds.items() if kind not in (*TRUE_KINDS, *UNSEEN) for value in values]


@dataclass(frozen=True)
class JudgeFigures:
    """What one judge says of true and of wrong pictures.

    Attributes:
        scale: its scale.
        levels: mean level by kind of picture; those of `TRUE_KINDS` are ceilings.
        floor: mean level of the wrong pictures that the scale is fitted to.
        told_apart: how often a true picture is read higher than such a wrong one; 0.5 is chance.
        count: true pictures as they are.
    """

    scale: str
    levels: Mapping[str, float]
    floor: float
    told_apart: float
    count: int


def measure(readings: Readings, scales: Scales) -> list[JudgeFigures]:
    """Ceilings and floors of all judges, from what `gather` read with a seed that the scales do not know."""
    found = []
    for name, kinds in sorted(readings.items()):
        levels = {kind: float(np.mean([scales[name].level(v) for v in values])) for kind, values in kinds.items()}
        true, wrong = (np.array(values) for values in (kinds[TRUE] + kinds[REDUCED], _wrong(kinds)))
        floor = float(np.mean([scales[name].level(v) for v in wrong]))
        ahead = (true[:, None] > wrong).mean() + 0.5 * (true[:, None] == wrong).mean()
        found.append(JudgeFigures(name, levels, floor, float(ahead), len(kinds[TRUE])))
    return found


def print_scales(scales: Scales) -> None:
    """Prints what was fitted, and how many wrong pictures pass all the same."""
    print(f"{'scale':24}  wrong  true   half   full  wrong >= half  wrong >= full  count")
    for name, s in scales.items():
        print(
            f"{name:24}  {s.zero:.3f}  {s.one:.3f}  {s.half:.3f}  {s.full:.3f}  {s.wrong_half:13.2f}  "
            f"{s.wrong_full:13.2f}  {s.count:5d}"
        )


def print_figures(found: Sequence[JudgeFigures]) -> None:
    """Prints a line a judge: mean level of true pictures of each kind, of wrong ones, and how well they part."""
    print(f"{'judge':24}" + "".join(f"{kind:>9}" for kind in TRUE_KINDS) + "    wrong  told apart  count")
    for judge in found:
        ceilings = "".join(f"{judge.levels[kind]:9.2f}" for kind in TRUE_KINDS)
        print(f"{judge.scale:24}{ceilings}{judge.floor:9.2f}{judge.told_apart:12.3f}{judge.count:7d}")
        faults = [f"{kind} {level:.2f}" for kind, level in sorted(judge.levels.items()) if kind in RUINS]
        if faults:
            print(f"  {', '.join(faults)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help=f"folder for {SCALES_FILE}")
    parser.add_argument("--measure", action="store_true", help="print ceilings and floors of the shipped scales")
    parser.add_argument("--pack", default="font", help="font, builtin, or a folder of cut-outs")
    parser.add_argument("--count", type=several, default=NUM_PER_TASK, help="instructions per task (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    pack = load_pack(options.pack).prepare()
    if options.measure:
        print_figures(measure(gather(pack, options.count, MEASURING_SEED), shipped_scales()))
        return
    try:
        scales = calibrate(gather(pack, options.count, SEED))
    except UserError as error:
        parser.error(str(error))
    path = make_folder(options.out) / SCALES_FILE
    write_atomically(path, lambda partial: partial.write_text(scales_text(scales), encoding="utf-8"))
    print_scales(scales)


if __name__ == "__main__":
    main()
