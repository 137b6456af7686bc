"""From pictures to readings: the right judge for each condition of each case.

    pictures = PictureSet.open(outputs, pack)
    readings = read(Condition("identity"), pictures, cases)

A reading is a number in 0..1 that says how well a condition is met, and the scale on which it is to be read: edges and
masks, plain and styled pictures are not equally hard. `calibration` turns readings into scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from ..world import STYLE_NAMES, GlyphPack, Render, canny_edges
from .cases import SuiteCase
from .judges.edges import edge_f1
from .judges.extractor import Extracted, depth_fidelity, shipped_extractor
from .judges.faces import Faces, shipped_face_judge
from .judges.identity import IdentityJudge, TemplateSight
from .judges.mask import mask_iou, shipped_mask_judge
from .judges.recogniser import Seen, shipped_recogniser
from .pictures import JUDGE_SIZE_PX, judged
from .suites import Condition, ConditionKind

_UNCHANGED = 32.0  # mean difference of 8-bit values outside a mask at which nothing is left of the picture
_RELATION_SOFTNESS = 0.06  # of the side


@dataclass(frozen=True)
class Reading:
    """How well one condition is met.

    Attributes:
        scale: name of the scale it is read on.
        value: 0..1.
    """

    scale: str
    value: float


class PictureSet:
    """Pictures to judge, and what the judges' networks see in them; each is asked once, when it is first needed.

    Attributes:
        given: uint8 [S, S, 3] each, any S.
        pictures: the same at the judges' size.
    """

    def __init__(self, pictures: Sequence[np.ndarray], templates: IdentityJudge | None) -> None:
        self.given = list(pictures)
        self.pictures = [judged(picture) for picture in pictures]
        self._templates = templates

    @classmethod
    def open(cls, pictures: Sequence[np.ndarray], pack: GlyphPack) -> PictureSet:
        """Pictures of a pack's glyphs, at least one; where the recogniser does not know them, templates are used."""
        return cls(pictures, _templates(pack))

    @cached_property
    def seen(self) -> Seen:
        """By the recogniser."""
        return shipped_recogniser().see(self.pictures)

    @cached_property
    def subjects(self) -> Seen | TemplateSight:
        """Which glyphs are where."""
        return self.seen if self._templates is None else TemplateSight(self._templates, self.pictures)

    @cached_property
    def extracted(self) -> Extracted:
        """Controls, read in any style."""
        return shipped_extractor().read(self.pictures)

    @cached_property
    def plain_masks(self) -> np.ndarray:
        """Masks of plain pictures."""
        return shipped_mask_judge().regions(self.pictures)

    @cached_property
    def faces(self) -> Faces:
        """Looks of portraits."""
        return shipped_face_judge().read(self.pictures)


@cache
def _templates(pack: GlyphPack) -> IdentityJudge | None:
    return None if set(pack.keys) <= set(shipped_recogniser().glyphs) else IdentityJudge(pack)


def read(condition: Condition, pictures: PictureSet, cases: Sequence[SuiteCase]) -> list[Reading | None]:
    """How well each picture meets a condition of its case.

    Args:
        condition: which.
        pictures: what was drawn.
        cases: one a picture.

    Returns:
        One reading a picture; None where its case does not have the condition.
    """
    reader = _READERS[condition.kind]
    return [
        reader(pictures, index, case, condition.subject) if case.has(condition) else None
        for index, case in enumerate(cases)
    ]


def _scale(name: str, case: SuiteCase) -> str:
    return f"{name}, styled" if case.styled else name


def _identity(pictures: PictureSet, index: int, case: SuiteCase, subject: int) -> Reading:
    glyphs = case.world.scene.glyphs
    value = pictures.subjects.identity(index, glyphs[subject], case.candidates_for(subject))
    name = "identity" if len(glyphs) == 1 else "identity of two"
    return Reading(_scale(name, case), value)


def _style(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    return Reading("style", float(pictures.seen.styles[index, STYLE_NAMES.index(case.world.scene.style.name)]))


def _control(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    kind, wanted = case.world.control, case.world.picture
    if kind == "depth":
        value = depth_fidelity(pictures.extracted.depths[index], wanted.depth, wanted.mask)
    elif kind == "edge":
        value = edge_f1(_edges(pictures, index, case.styled), canny_edges(wanted.plain))
    else:  # a sketch shows the subjects' outlines, as a mask does
        value = mask_iou(_mask(pictures, index, case.styled), wanted.mask)
    return Reading(_scale("mask" if kind == "sketch" else kind, case), value)


def _edges(pictures: PictureSet, index: int, styled: bool) -> np.ndarray:
    return pictures.extracted.edges[index] if styled else canny_edges(pictures.pictures[index])


def _mask(pictures: PictureSet, index: int, styled: bool) -> np.ndarray:
    return pictures.extracted.masks[index] if styled else pictures.plain_masks[index]


def _ground(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Kind of the ground and, in plain pictures, the colours that the caption names."""
    value = pictures.seen.ground(index, case.world.scene.ground, with_colours=not case.styled)
    return Reading(_scale("ground", case), value)


def _relation(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether the places where the two glyphs are seen stand as asked; half sure where they are one place."""
    scene = case.world.scene
    (x, y), (u, v) = (pictures.subjects.place(index, glyph) for glyph in scene.glyphs[:2])
    across, down = u - x, v - y
    ahead = {
        "next to": abs(across) - abs(down),
        "left of": across - abs(down),
        "right of": -across - abs(down),
        "above": down - abs(across),
        "below": -down - abs(across),
    }[str(scene.relation)]
    return Reading("relation", float(1 / (1 + np.exp(-ahead / _RELATION_SOFTNESS))))


def _count(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    return Reading(_scale("count", case), float(pictures.seen.counts[index, len(case.world.scene.subjects)]))


def _face(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    return Reading("face", pictures.faces.identity(index, case.world.scene.glyphs[0], case.candidates))


def _hat(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    return Reading("hat", pictures.faces.hat(index, case.world.scene.glyphs[0]))


def _content(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether the subjects stand where the content picture has them."""
    return Reading("content", mask_iou(pictures.extracted.masks[index], case.world.picture.mask))


def _inside(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether the place that may change shows what was asked."""
    edit = case.world.edit
    if edit is None:
        raise ValueError(f"{case.key} edits nothing.")
    if edit.kind == "ground":
        value = pictures.seen.ground(index, edit.after.ground, with_colours=True)
    elif edit.kind == "remove":
        value = _nearer_to(pictures.given[index], edit.target, edit.source, edit.mask)
    else:
        (wanted,) = set(edit.after.glyphs) - set(edit.before.glyphs)
        others = set(edit.before.glyphs) & set(edit.after.glyphs)
        candidates = [candidate for candidate in case.candidates if candidate not in others]
        value = pictures.subjects.identity(index, wanted, candidates)
    return Reading(f"edit, {edit.kind}", value)


def _nearer_to(picture: np.ndarray, target: Render, source: Render, mask: np.ndarray) -> float:
    """1 where a picture is the target within a mask, 0 where it still is the source, 0.5 halfway or far from both."""
    true, old = (_difference(picture, other.image, mask) for other in (target, source))
    return old / (old + true) if old + true > 0 else 1.0


def _outside(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether what must stay is still the source picture."""
    edit = case.world.edit
    if edit is None:
        raise ValueError(f"{case.key} edits nothing.")
    difference = _difference(pictures.given[index], edit.source.image, ~edit.mask)
    return Reading("outside", max(0.0, 1 - difference / _UNCHANGED))


def _difference(picture: np.ndarray, other: np.ndarray, region: np.ndarray) -> float:
    """Mean absolute difference of 8-bit values in a region of 64 pixels a side, at the picture's own size or 64."""
    side = min(len(picture), JUDGE_SIZE_PX)
    one, two = (judged(values, side).astype(np.float64) for values in (picture, other))
    weights = judged(np.repeat(region[..., None] * np.uint8(255), 3, axis=2), side)[..., 0] > 254
    return float(np.abs(one - two)[weights].mean()) if weights.any() else 0.0


_READERS: Mapping[ConditionKind, Callable[[PictureSet, int, SuiteCase, int], Reading]] = {
    "identity": _identity,
    "style": _style,
    "control": _control,
    "ground": _ground,
    "relation": _relation,
    "count": _count,
    "face": _face,
    "hat": _hat,
    "content": _content,
    "inside": _inside,
    "outside": _outside,
}
