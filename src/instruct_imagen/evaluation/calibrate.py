"""Calibrates the judges' scales, and measures the judges, on instructions that no suite shows.

    python -m instruct_imagen.evaluation.calibrate --out src/instruct_imagen/evaluation/weights

Every task of every suite is built anew from another seed. True pictures are read as they are, at 32 pixels, and
slightly touched, since no model draws every pixel; wrong ones are those of the next instruction and, for the quality,
ruined ones. Writes the scales that fit them best, and prints ceilings and floors as docs/evaluation.md has them: each
half of the readings on scales that were fitted to the other half. Five to ten minutes of one core.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..arguments import several
from ..errors import UserError
from ..files import make_folder, write_text
from ..world import GlyphPack, load_pack, parse_portrait
from .calibration import SCALES_FILE, Scale, Scales, scales_text
from .cases import SuiteCase, suite_cases
from .conditions import PictureSet, read
from .judges.nets import WEIGHTS
from .judges.spoiling import RUINS, ruin, touched
from .pictures import judged
from .scoring import QUALITY
from .suites import ALL, Condition, ConditionKind, EvaluationError, SuiteTask, get_suites

logger = logging.getLogger(__name__)

SEED = 8_600_000
NUM_PER_TASK = 32
REDUCED_PX = 32
TRUE, REDUCED, TOUCHED, ANOTHER = "true", "32 px", "touched", "another's"
TRUE_KINDS = (TRUE, REDUCED, TOUCHED)
# Faults of shape and layout, which the features of the quality hardly show. They are measured, but the scale is not
# fitted to them: it would have to turn most true pictures down.
UNSEEN = ("warped", "blended", "jumbled", "blobbed")
_TIMES: Mapping[str, int] = {"edit": 4, "control_style": 4, "face": 2}  # those with several scales of their own
_OPPOSITES = {
    "next to": "above",
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
_AT_ONCE = 12  # cases whose candidates' templates are kept while all their pictures are read

Readings = dict[str, dict[str, list[float]]]  # by scale, and by kind of picture: TRUE_KINDS, ANOTHER, or a fault


def gather(pack: GlyphPack, num_per_task: int, seed: int, names: Sequence[str] = (ALL,)) -> Readings:
    """Readings of true and of wrong pictures.

    Args:
        pack: the glyphs.
        num_per_task: instructions of each task.
        seed: of the instructions.
        names: suites or tasks, as `get_suites` takes them.
    """
    readings: Readings = defaultdict(lambda: defaultdict(list))
    for suite in get_suites(*names):
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
        _read_wrong(conditions, cases, following, PictureSet(shifted, pack), readings)
        masks = [_resized_mask(case.world.picture.mask, len(seen[0])) for case in cases]
        ruined = [ruin(one, two, mask, rng) for one, two, mask in zip(seen, shifted, masks, strict=True)]
        realism = PictureSet([picture for picture, _ in ruined], pack).realism
        for (_, fault), value in zip(ruined, realism, strict=True):
            readings[QUALITY][fault].append(float(value))


def _read_conditions(
    conditions: Sequence[Condition], cases: Sequence[SuiteCase], opened: PictureSet, kind: str, readings: Readings
) -> None:
    for condition in conditions:
        for reading in read(condition, opened, cases):
            if reading is not None:
                readings[reading.scale][kind].append(reading.value)


def _read_wrong(
    conditions: Sequence[Condition],
    cases: Sequence[SuiteCase],
    shown: Sequence[SuiteCase],
    opened: PictureSet,
    readings: Readings,
) -> None:
    """Adds readings of pictures that are the true ones of other cases, `shown`."""
    for condition in conditions:
        asked = list(map(_ASKED_OTHERWISE[condition.kind], shown)) if condition.kind in _ASKED_OTHERWISE else cases
        for case, other, reading in zip(asked, shown, read(condition, opened, asked), strict=True):
            if reading is not None and not fulfils(condition, case, other):
                readings[reading.scale][ANOTHER].append(reading.value)


def _miscounted(case: SuiteCase) -> SuiteCase:
    """The same with one subject less, or more where there is one: other cases mostly have the same number."""
    scene = case.world.scene
    subjects = scene.subjects[:-1] if len(scene.subjects) > 1 else 2 * scene.subjects
    return replace(case, world=replace(case.world, scene=replace(scene, subjects=subjects)))


def _misplaced(case: SuiteCase) -> SuiteCase:
    """The same in another relation: where other subjects are taken for these, chance puts them as asked."""
    scene = case.world.scene
    relation = None if scene.relation is None else _OPPOSITES[scene.relation]
    return replace(case, world=replace(case.world, scene=replace(scene, relation=relation)))


def _mirrored(case: SuiteCase) -> SuiteCase:
    """The same with the picture to be kept turned left to right: others keep nothing of it, not even colours."""
    edit = case.world.edit
    if edit is None:
        raise ValueError(f"{case.key} edits nothing.")
    source = replace(edit.source, image=edit.source.image[:, ::-1])
    return replace(case, world=replace(case.world, edit=replace(edit, source=source)))


_ASKED_OTHERWISE: Mapping[ConditionKind, Callable[[SuiteCase], SuiteCase]] = {
    "count": _miscounted,
    "relation": _misplaced,
    "outside": _mirrored,
}


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
    return {name: _fit(name, kinds) for name, kinds in sorted(readings.items())}


def _fit(name: str, kinds: Mapping[str, Sequence[float]]) -> Scale:
    true, wrong = [value for kind in TRUE_KINDS for value in kinds[kind]], _wrong(kinds)
    if not true or not wrong:
        raise EvaluationError(f"So few instructions have no wrong picture for {name!r}; give a larger --count.")
    return Scale.fit(np.array(true), np.array(wrong))


def _wrong(kinds: Mapping[str, Sequence[float]]) -> list[float]:
    """All readings of wrong pictures that a judge is made to see."""
    return [value for kind, values in kinds.items() if kind not in (*TRUE_KINDS, *UNSEEN) for value in values]


@dataclass(frozen=True)
class JudgeFigures:
    """What one judge says of true and of wrong pictures.

    Attributes:
        scale: its scale.
        levels: mean level by kind of picture; those of `TRUE_KINDS` are ceilings.
        floor: mean level of the wrong pictures that a scale is fitted to.
        told_apart: how often a true picture is read higher than such a wrong one; 0.5 is chance.
        count: true pictures as they are.
    """

    scale: str
    levels: Mapping[str, float]
    floor: float
    told_apart: float
    count: int


def measure(readings: Readings) -> list[JudgeFigures]:
    """Ceilings and floors of all judges: each half of what `gather` read, on scales fitted to the other half.

    Raises:
        EvaluationError: a half has no wrong pictures of some kind.
    """
    return [_measured(name, kinds) for name, kinds in sorted(readings.items())]


def _measured(name: str, kinds: Mapping[str, Sequence[float]]) -> JudgeFigures:
    halves = [{kind: values[start::2] for kind, values in kinds.items()} for start in range(2)]
    levels: dict[str, list[float]] = defaultdict(list)
    floor: list[float] = []
    for half, other in (halves, halves[::-1]):
        scale = _fit(name, other)
        for kind, values in half.items():
            levels[kind] += map(scale.level, values)
        floor += map(scale.level, _wrong(half))
    true, wrong = np.array([*kinds[TRUE], *kinds[REDUCED]]), np.array(_wrong(kinds))
    ahead = (true[:, None] > wrong).mean() + 0.5 * (true[:, None] == wrong).mean()
    means = {kind: float(np.mean(found)) for kind, found in levels.items() if found}
    return JudgeFigures(name, means, float(np.mean(floor)), float(ahead), len(kinds[TRUE]))


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
    parser.add_argument("--pack", default="font", help="font, builtin, or a folder of cut-outs")
    parser.add_argument("--count", type=several, default=NUM_PER_TASK, help="instructions per task (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    try:
        folder = make_folder(options.out)
        readings = gather(load_pack(options.pack).prepare(), options.count, SEED)
        scales, figures = calibrate(readings), measure(readings)
    except UserError as error:
        parser.error(str(error))
    write_text(folder / SCALES_FILE, scales_text(scales))
    print_figures(figures)


if __name__ == "__main__":
    main()
