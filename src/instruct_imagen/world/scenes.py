"""Scenes: which glyphs stand where, over which ground, in which style; all of it numbers, nothing rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from instruct_imagen.world.glyphs import GlyphPack, WorldError
from instruct_imagen.world.grounds import Ground, sample_ground
from instruct_imagen.world.splits import SPLITS, Split, glyph_split, glyphs_of, style_split, styles_of
from instruct_imagen.world.styles import STYLE_NAMES, Style, sample_style

RELATIONS = ("next to", "left of", "right of", "above", "below", "in front of", "behind")
PLAIN = STYLE_NAMES[0]
MAX_SUBJECTS = 3
NUM_SUBJECTS_SHARES = (0.65, 0.25, 0.1)
PLAIN_SHARE = 0.6
NO_RELATION_SHARE = 0.15
MAX_TURN_DEG = 20.0
SIZE_RANGES = ((0.4, 0.75), (0.32, 0.5), (0.25, 0.36))  # for one, two, three subjects

_LEVEL = 0.14  # subjects side by side differ at most this much in height
_APART = 0.8  # centres are at least this share of the two half sizes apart, along the relation's direction

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Subject:
    """A glyph in a pose.

    Attributes:
        glyph: Key of the glyph.
        x: Centre across, 0 (left) to 1 (right) of the canvas.
        y: Centre down, 0 (top) to 1 (bottom).
        size: Longer side of the unturned picture, as a fraction of the canvas.
        turn_deg: Turn, counter-clockwise, in degrees.
        mirror: Whether the picture is flipped left to right.
        layer: Rank in depth; the greatest is nearest and covers the others.
    """

    glyph: str
    x: float
    y: float
    size: float
    turn_deg: float
    mirror: bool
    layer: int


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows.

    Attributes:
        ground: What lies behind.
        subjects: One to three subjects.
        relation: Where subject 0 is, seen from subject 1; one of `RELATIONS`, or None.
        style: How it is rendered.
        seed: Seed of the style's texture.
    """

    ground: Ground
    subjects: tuple[Subject, ...]
    relation: str | None
    style: Style
    seed: int

    @property
    def glyphs(self) -> tuple[str, ...]:
        """Keys of the subjects' glyphs."""
        return tuple(subject.glyph for subject in self.subjects)


def relation_holds(first: Subject, second: Subject, relation: str) -> bool:
    """Whether `first` is where `relation` says, seen from `second`.

    "left of", "right of", "next to", "above" and "below" want centres apart by at least 80 % of half the sizes' sum
    in that direction; side by side also wants about equal height, one over the other about one column. "in front
    of" wants the nearer layer and overlapping boxes.

    Raises:
        WorldError: There is no such relation.
    """
    across, down = second.x - first.x, second.y - first.y
    reach = 0.5 * (first.size + second.size)
    beside = abs(across) >= _APART * reach and abs(down) <= _LEVEL
    stacked = abs(down) >= _APART * reach and abs(across) <= _LEVEL
    overlap = max(abs(across), abs(down)) < reach
    table = {
        "next to": beside,
        "left of": beside and across > 0,
        "right of": beside and across < 0,
        "above": stacked and down > 0,
        "below": stacked and down < 0,
        "in front of": overlap and first.layer > second.layer,
        "behind": overlap and first.layer < second.layer,
    }
    if relation not in table:
        raise WorldError(f"Unknown relation {relation!r}; choose from {', '.join(RELATIONS)}.")
    return table[relation]


class SceneSampler:
    """Draws scenes from one split; a "train" sampler cannot emit anything that is held out."""

    def __init__(
        self,
        pack: GlyphPack,
        split: Split = "train",
        styles: Sequence[str] | None = None,
        *,
        glyphs: Split | None = None,
        num_subjects: int | None = None,
        plain_share: float = PLAIN_SHARE,
    ) -> None:
        """Makes a sampler.

        Args:
            pack: Where glyphs come from.
            split: "train", or "held_out", whose scenes show held-out glyphs unless `sample` is told others.
            styles: Names of the styles to draw from besides "plain"; by default all of the split.
            glyphs: Split of the glyphs, where a "held_out" sampler is to draw from another one.
            num_subjects: If given, every scene has so many, whatever `sample` is asked for.
            plain_share: How often a scene is plain where no style is asked for.

        Raises:
            WorldError: The split is unknown or empty in this pack, or a style is unknown or not of the split.
        """
        if split not in SPLITS:
            raise WorldError(f"Unknown split {split!r}; choose from {', '.join(SPLITS)}.")
        self.pack = pack
        self.split = split
        self.num_subjects = num_subjects
        self.plain_share = plain_share
        self.glyphs = glyphs_of(pack.keys, split if split == "train" or glyphs is None else glyphs)
        if len(self.glyphs) < MAX_SUBJECTS:
            raise WorldError(f"The pack {pack.name!r} has too few glyphs in the split {split!r}; add more pictures.")
        names = styles_of(STYLE_NAMES, split) if styles is None else tuple(styles)
        for name in names:
            if name not in STYLE_NAMES:
                raise WorldError(f"Unknown style {name!r}; choose from {', '.join(STYLE_NAMES)}.")
            self._check_style(name)
        self.styles = tuple(name for name in names if name != PLAIN)

    def sample(
        self,
        rng: np.random.Generator,
        *,
        num_subjects: int | None = None,
        glyphs: Sequence[str] | None = None,
        ground: Ground | None = None,
        style: Style | None = None,
        relation: str | None = None,
    ) -> Scene:
        """Draws a scene; whatever is given is kept, the rest is drawn.

        Args:
            rng: Source of all chance here.
            num_subjects: 1 to 3; follows `glyphs` where they are given.
            glyphs: Keys of the subjects.
            ground: The ground.
            style: The style; otherwise plain in a share `plain_share` of the scenes.
            relation: Relation of subject 0 to subject 1; needs two subjects.

        Raises:
            WorldError: Counts disagree, or a glyph or style is unknown or held out from this sampler.
        """
        keys = self._choose_glyphs(rng, self.num_subjects or num_subjects, glyphs, relation)
        if style is None:
            drawn = self.styles and self.plain_share < 1 and rng.random() >= self.plain_share
            style = sample_style(rng, self.styles[int(rng.integers(len(self.styles)))] if drawn else PLAIN)
        self._check_style(style.name)
        if relation is not None and relation not in RELATIONS:
            raise WorldError(f"Unknown relation {relation!r}; choose from {', '.join(RELATIONS)}.")
        if relation is None and len(keys) > 1 and rng.random() >= NO_RELATION_SHARE:
            relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
        subjects = _place(rng, keys, relation)
        ground = sample_ground(rng) if ground is None else ground
        return Scene(ground, subjects, relation, style, int(rng.integers(2**31)))

    def repose(self, scene: Scene, rng: np.random.Generator, *, new_ground: bool = True) -> Scene:
        """The same glyphs and style in a new layout, over a new ground if wanted."""
        ground = None if new_ground else scene.ground
        return self.sample(rng, glyphs=scene.glyphs, ground=ground, style=scene.style)

    def _choose_glyphs(
        self,
        rng: np.random.Generator,
        num_subjects: int | None,
        glyphs: Sequence[str] | None,
        relation: str | None,
    ) -> tuple[str, ...]:
        if glyphs is not None:
            if num_subjects not in (None, len(glyphs)):
                raise WorldError(f"{num_subjects} subjects were asked for, but {len(glyphs)} glyphs given.")
            for key in glyphs:
                _ = self.pack[key]
                if self.split == "train" and glyph_split(key) != "train":
                    raise WorldError(f"The glyph {key!r} is held out and cannot be used in a training scene.")
            num_subjects = len(glyphs)
        elif num_subjects is None:
            low = 0.0 if relation is None else NUM_SUBJECTS_SHARES[0]
            num_subjects = 1 + int(np.searchsorted(np.cumsum(NUM_SUBJECTS_SHARES)[:-1], rng.uniform(low, 1), "right"))
        if not 1 <= num_subjects <= MAX_SUBJECTS:
            raise WorldError(f"A scene shows 1 to {MAX_SUBJECTS} subjects, not {num_subjects}.")
        if relation is not None and num_subjects < 2:
            raise WorldError(f"The relation {relation!r} needs at least two subjects.")
        if glyphs is not None:
            return tuple(glyphs)
        return tuple(self.glyphs[int(i)] for i in rng.choice(len(self.glyphs), num_subjects, replace=False))

    def _check_style(self, name: str) -> None:
        if self.split == "train" and style_split(name) != "train":
            raise WorldError(f"The style {name!r} is held out and cannot be used in a training scene.")


def _place(rng: np.random.Generator, keys: Sequence[str], relation: str | None) -> tuple[Subject, ...]:
    low, high = SIZE_RANGES[len(keys) - 1]
    sizes = rng.uniform(low, high, len(keys))
    turns = rng.uniform(-MAX_TURN_DEG, MAX_TURN_DEG, len(keys))
    mirrors = rng.random(len(keys)) < 0.5
    layers = [int(i) for i in rng.permutation(len(keys))]
    if relation in ("in front of", "behind") and (layers[0] > layers[1]) != (relation == "in front of"):
        layers[0], layers[1] = layers[1], layers[0]
    subjects = [
        Subject(key, 0.5, 0.5, float(sizes[i]), float(turns[i]), bool(mirrors[i]), layers[i])
        for i, key in enumerate(keys)
    ]
    if len(keys) == 1:
        subjects[0] = _in_box(rng, subjects[0], (0, 0, 1, 1))
    elif len(keys) == 2:
        subjects = _place_pair(rng, subjects, relation, (0, 0, 1, 1))
    else:
        subjects = _place_three(rng, subjects, relation)
    return tuple(_rounded(subject) for subject in subjects)


def _rounded(s: Subject) -> Subject:
    return replace(s, x=round(s.x, 4), y=round(s.y, 4), size=round(s.size, 4), turn_deg=round(s.turn_deg, 2))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Even draw, or the middle where the range is empty."""
    return float(rng.uniform(low, high)) if high > low else 0.5 * (low + high)


def _in_box(rng: np.random.Generator, subject: Subject, box: Box) -> Subject:
    """Puts a subject anywhere within a box, or at its middle if it does not fit."""
    half = 0.5 * subject.size
    x = _between(rng, box[0] + half, box[2] - half)
    y = _between(rng, box[1] + half, box[3] - half)
    return replace(subject, x=x, y=y)


def _place_pair(rng: np.random.Generator, pair: list[Subject], relation: str | None, box: Box) -> list[Subject]:
    """Places two subjects in a box so that the relation holds for the first."""
    if relation in ("in front of", "behind"):
        return _overlap_pair(rng, pair, box)
    if relation in ("above", "below"):
        turned = [_transposed(s) for s in pair]
        order = "left of" if relation == "above" else "right of"
        return [_transposed(s) for s in _place_pair(rng, turned, order, (box[1], box[0], box[3], box[2]))]
    pair = _shrunk_to(pair, box[2] - box[0], box[3] - box[1])
    swap = relation == "right of" or (relation in (None, "next to") and rng.random() < 0.5)
    left, right = (pair[1], pair[0]) if swap else (pair[0], pair[1])
    slack = box[2] - box[0] - left.size - right.size
    before, gap = float(rng.uniform(0, 0.5)) * slack, float(rng.uniform(0, 0.5)) * slack
    left = replace(left, x=box[0] + before + 0.5 * left.size)
    right = replace(right, x=left.x + 0.5 * (left.size + right.size) + gap)
    half = 0.5 * max(left.size, right.size)
    y = _between(rng, box[1] + half, box[3] - half)
    drift = 0.5 * _LEVEL
    left, right = (replace(s, y=_nudged(rng, y, drift, s.size, box)) for s in (left, right))
    return [right, left] if swap else [left, right]


def _nudged(rng: np.random.Generator, y: float, drift: float, size: float, box: Box) -> float:
    """A height near `y` that keeps a subject of this size within the box."""
    low, high = max(y - drift, box[1] + 0.5 * size), min(y + drift, box[3] - 0.5 * size)
    return _between(rng, low, high) if high > low else y


def _overlap_pair(rng: np.random.Generator, pair: list[Subject], box: Box) -> list[Subject]:
    """The nearer subject lower and to one side, covering a part of the other."""
    near, far = sorted(pair, key=lambda s: -s.layer)
    reach = 0.5 * (near.size + far.size)
    dx = float(rng.choice((-1, 1)) * rng.uniform(0.48, 0.68)) * reach
    dy = float(rng.uniform(0.12, 0.36)) * reach
    left = max(0.5 * far.size, 0.5 * near.size - dx)
    right = max(0.5 * far.size, 0.5 * near.size + dx)
    top = max(0.5 * far.size, 0.5 * near.size - dy)
    bottom = max(0.5 * far.size, 0.5 * near.size + dy)
    x = _between(rng, box[0] + left, box[2] - right)
    y = _between(rng, box[1] + top, box[3] - bottom)
    far = replace(far, x=x, y=y)
    near = replace(near, x=x + dx, y=y + dy)
    return [near, far] if pair[0].layer > pair[1].layer else [far, near]


def _place_three(rng: np.random.Generator, trio: list[Subject], relation: str | None) -> list[Subject]:
    """The pair in one part of the canvas, the third subject apart in the other."""
    stacked = relation in ("above", "below")
    overlapping = relation in ("in front of", "behind")
    in_row = not stacked and not overlapping and rng.random() < 0.5
    if in_row:
        trio = [replace(s, size=min(s.size, 1 / 3)) for s in trio]
        cut = 1 - trio[2].size
        parts: tuple[Box, Box] = ((0, 0, cut, 1), (cut, 0, 1, 1))
    elif stacked or (overlapping and rng.random() < 0.5):
        parts = ((0, 0, 0.6, 1), (0.6, 0, 1, 1))
    else:
        parts = ((0, 0, 1, 0.6), (0, 0.6, 1, 1))
    if rng.random() < 0.5:  # flip, so that the third comes first
        across = parts[1][0] > 0
        parts = (_flipped(parts[0], across), _flipped(parts[1], across))
    pair = _place_pair(rng, trio[:2], relation, parts[0])
    if in_row:
        return [*pair, replace(_in_box(rng, trio[2], parts[1]), y=0.5 * (pair[0].y + pair[1].y))]
    return [*pair, _in_box(rng, trio[2], parts[1])]


def _flipped(box: Box, across: bool) -> Box:
    """A box mirrored left to right, or top to bottom."""
    left, top, right, bottom = box
    return (1 - right, top, 1 - left, bottom) if across else (left, 1 - bottom, right, 1 - top)


def _transposed(s: Subject) -> Subject:
    return replace(s, x=s.y, y=s.x)


def _shrunk_to(pair: list[Subject], width: float, height: float) -> list[Subject]:
    """Scales two subjects so that they fit side by side."""
    scale = min(1.0, width / (pair[0].size + pair[1].size), height / max(pair[0].size, pair[1].size))
    return [replace(s, size=s.size * scale) for s in pair]
