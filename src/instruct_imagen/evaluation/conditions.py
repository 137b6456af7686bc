"""From pictures to readings: the right judge for each condition of each case.

    pictures = PictureSet(outputs, pack)
    readings = read(Condition("identity"), pictures, cases)

A reading is a number in 0..1 that says how well a condition is met, and the scale on which it is to be read: edges and
masks, plain and styled pictures are not equally hard. `calibration` turns readings into scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from ..world import STYLE_NAMES, GlyphPack, Portraits, Render, Scene, canny_edges, parse_portrait
from ..world.faces import HATS
from .cases import SuiteCase
from .judges.edges import edge_f1
from .judges.extractor import Extracted, count_fidelity, depth_fidelity, shipped_extractor
from .judges.glyph_templates import PORTRAIT, SEVERAL, Pose
from .judges.identity import IdentityJudge
from .judges.mask import mask_iou, shipped_mask_judge
from .judges.overview import Overview, shipped_overview_judge
from .judges.quality import true_features
from .judges.style import StyleJudge
from .judges.synthesis import Sight, SynthesisJudge
from .pictures import JUDGE_SIZE_PX, judged
from .suites import Condition, ConditionKind

_SMALL_PX = 32  # the smallest models' size, at which the style judge is calibrated too
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


@dataclass(frozen=True)
class PackJudges:
    """The judges that depend on the glyphs.

    Attributes:
        single, several: one subject, or two, in plain pictures.
        synthesis: subjects in styled pictures.
        style: which style.
        faces: portraits.
    """

    single: IdentityJudge
    several: IdentityJudge
    synthesis: SynthesisJudge
    style: StyleJudge
    faces: IdentityJudge


@lru_cache(maxsize=2)
def pack_judges(pack: GlyphPack) -> PackJudges:
    """The judges of a pack; made once, in about twenty seconds."""
    return PackJudges(
        IdentityJudge(pack),
        IdentityJudge(pack, grid=SEVERAL),
        SynthesisJudge(pack),
        StyleJudge.calibrated(pack, sizes_px=(JUDGE_SIZE_PX, _SMALL_PX)),
        IdentityJudge(Portraits(), grid=PORTRAIT),
    )


class PictureSet:
    """Pictures to judge, and what the judges see in them; each is asked once, when it is first needed.

    Args:
        pictures: uint8 [S, S, 3] each, any S, all of one size; at least one.
        pack: the glyphs.

    Attributes:
        given: the pictures as they are, all of one size.
        pictures: the same at the judges' size.
    """

    def __init__(self, pictures: Sequence[np.ndarray], pack: GlyphPack) -> None:
        self._pack = pack
        self.given = list(pictures)
        self.pictures = [judged(picture) for picture in pictures]
        self.judges = pack_judges(pack)
        self._sights: dict[tuple[object, ...], Sight] = {}

    @cached_property
    def overview(self) -> Overview:
        """Grounds, and features for the quality and for distances of distributions."""
        return shipped_overview_judge().look(self.pictures)

    @cached_property
    def realism(self) -> np.ndarray:
        """How near each is to true pictures of its size: float64 [N], see `TrueFeatures.realism`."""
        return true_features(self._pack, min(len(self.given[0]), JUDGE_SIZE_PX)).realism(self.overview.quality)

    @cached_property
    def extracted(self) -> Extracted:
        """Controls and middles of subjects, read in any style."""
        return shipped_extractor().read(self.pictures)

    @cached_property
    def plain_masks(self) -> np.ndarray:
        """Masks of plain pictures."""
        return shipped_mask_judge().regions(self.pictures)

    @cached_property
    def style_margins(self) -> np.ndarray:
        """Lead of every style over the best other one: float64 [N, styles]."""
        return self.judges.style.margins(self.pictures)

    def sight(self, index: int, scene: Scene, subject: int, candidates: Sequence[str]) -> Sight:
        """What synthesis makes of a subject in picture `index`."""
        same = (index, scene, subject, tuple(candidates))
        if same not in self._sights:
            self._sights[same] = self.judges.synthesis.look(
                self.pictures[index],
                self.extracted.coverage[index],
                scene,
                subject,
                candidates,
                len(self.given[index]),
            )
        return self._sights[same]

    def identity(self, index: int, scene: Scene, subject: int, candidates: Sequence[str]) -> float:
        """Share of the right candidate, 0..1: by templates in plain pictures, by synthesis in styled ones."""
        right = list(candidates).index(scene.glyphs[subject])
        if scene.style.name != STYLE_NAMES[0]:
            return float(self.sight(index, scene, subject, candidates).shares[right])
        templates = self.judges.single if len(scene.subjects) == 1 else self.judges.several
        return float(templates.shares(self.pictures[index], candidates)[right])

    def place(self, index: int, scene: Scene, subject: int, candidates: Sequence[str]) -> Pose:
        """Where the right glyph fits best, by the same judges."""
        glyph = scene.glyphs[subject]
        if scene.style.name != STYLE_NAMES[0]:
            return self.sight(index, scene, subject, candidates).poses[list(candidates).index(glyph)]
        return self.judges.several.find(self.pictures[index], glyph)


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
    scene = case.world.scene
    value = pictures.identity(index, scene, subject, case.candidates_for(subject))
    return Reading(_scale("identity" if len(scene.subjects) == 1 else "identity of two", case), value)


def _style(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """One half where the wanted style is as likely as the best other one."""
    lead = pictures.style_margins[index, STYLE_NAMES.index(case.world.scene.style.name)]
    return Reading("style", float(np.clip(0.5 + 0.5 * lead, 0, 1)))


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
    """Kind of the ground, and the colours that the caption names."""
    return Reading("ground", pictures.overview.ground(index, case.world.scene.ground))


def _relation(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether the places where the two glyphs fit best stand as asked; half sure where they are one place."""
    scene = case.world.scene
    one, two = (pictures.place(index, scene, subject, case.candidates_for(subject)) for subject in range(2))
    across, down = two.x - one.x, two.y - one.y
    ahead = {
        "next to": abs(across) - abs(down),
        "left of": across - abs(down),
        "right of": -across - abs(down),
        "above": down - abs(across),
        "below": -down - abs(across),
    }[str(scene.relation)]
    return Reading(_scale("relation", case), float(1 / (1 + np.exp(-ahead / _RELATION_SOFTNESS))))


def _count(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    value = count_fidelity(pictures.extracted.centres[index], len(case.world.scene.subjects))
    return Reading(_scale("count", case), value)


def _face(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """The right person among others in the same mood and outfit."""
    key = case.world.scene.glyphs[0]
    asked = parse_portrait(key)
    people = [replace(asked, identity=parse_portrait(other).identity).key for other in case.candidates]
    shares = pictures.judges.faces.shares(pictures.pictures[index], people)
    return Reading("face", float(shares[people.index(key)]))


def _hat(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """The right hat on the person's head, among others of its colour and none."""
    key = case.world.scene.glyphs[0]
    hats = [replace(parse_portrait(key), hat=hat).key for hat in HATS]
    return Reading("hat", float(pictures.judges.faces.shares(pictures.pictures[index], hats)[hats.index(key)]))


def _content(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether the subjects stand where the content picture has them."""
    return Reading("content", mask_iou(pictures.extracted.masks[index], case.world.picture.mask))


def _inside(pictures: PictureSet, index: int, case: SuiteCase, _: int) -> Reading:
    """Whether the place that may change shows what was asked."""
    edit = case.world.edit
    if edit is None:
        raise ValueError(f"{case.key} edits nothing.")
    if edit.kind == "ground":
        value = pictures.overview.ground(index, edit.after.ground)
    elif edit.kind == "remove":
        value = _nearer_to(pictures.given[index], edit.target, edit.source, edit.mask)
    else:
        (wanted,) = set(edit.after.glyphs) - set(edit.before.glyphs)
        others = set(edit.before.glyphs) & set(edit.after.glyphs)
        candidates = [candidate for candidate in case.candidates if candidate not in others]
        value = pictures.identity(index, edit.after, edit.after.glyphs.index(wanted), candidates)
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
