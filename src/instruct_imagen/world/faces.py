"""Faces: procedural portraits whose identity is apart from expression, gaze, hat and clothes.

A portrait is a string key, `face-ID/EXPRESSION/GAZE/HAT/HAT COLOUR/CLOTHES`, such as
`face-2f1/smiling/ahead/cap/red/blue`. `Portraits` looks like a glyph pack to `render` and `caption`, so a portrait
stands in an ordinary scene, with its exact mask and depth, over any ground and in any style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from instruct_imagen.world.board import Colour
from instruct_imagen.world.glyphs import GLYPH_SIZE_PX, Glyph, WorldError
from instruct_imagen.world.grounds import COLOURS, WALL_KINDS, Ground, sample_ground
from instruct_imagen.world.scenes import PLAIN, Scene, Subject
from instruct_imagen.world.splits import Split, glyph_split, style_split
from instruct_imagen.world.styles import Style, sample_style

NUM_IDENTITIES = 1 << 24
FACE_PREFIX = "face-"
_IDENTITY_SALT = 77_003

SKINS: Sequence[Colour] = (
    (255, 224, 196),
    (244, 200, 166),
    (226, 172, 130),
    (198, 138, 96),
    (154, 100, 66),
    (110, 68, 46),
    (78, 48, 36),
)
HAIR_COLOURS: Mapping[str, Colour] = {
    "black": (34, 30, 34),
    "brown": (104, 66, 40),
    "chestnut": (140, 76, 42),
    "red": (188, 84, 40),
    "blond": (232, 196, 108),
    "grey": (150, 150, 152),
    "white": (232, 230, 226),
    "blue": (70, 112, 200),
    "pink": (236, 130, 178),
}
_HAIR_SHARES = (0.22, 0.2, 0.12, 0.12, 0.16, 0.07, 0.05, 0.03, 0.03)
EYE_COLOURS: Mapping[str, Colour] = {
    "brown": (96, 58, 30),
    "blue": (62, 122, 196),
    "green": (74, 140, 84),
    "grey": (120, 130, 140),
}
HAIR_STYLES = ("bald", "short", "parted", "curly", "long", "bob", "ponytail", "bun", "mohawk", "afro")
_STYLES_OF_KIND = {"man": (0, 1, 1, 2, 2, 3, 4, 8, 9), "woman": (1, 3, 4, 4, 5, 5, 6, 7, 9)}
GLASSES = ("none", "round", "square", "dark")
BEARDS = ("none", "moustache", "goatee", "full beard")
MARKS = ("none", "freckles", "mole", "scar")
EXPRESSIONS = ("neutral", "smiling", "laughing", "sad", "surprised", "angry", "winking", "sleeping")
GAZES = ("ahead", "left", "right", "up", "down")
HATS = ("none", "cap", "beanie", "top hat", "straw hat", "party hat", "crown", "headband")
HAT_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "black", "white")
HAT_SHARE = 0.4
_EXPRESSION_WORDS: Mapping[str, tuple[str, ...]] = {
    "neutral": ("", "", "calm", "serious"),
    "smiling": ("smiling", "happy", "friendly"),
    "laughing": ("laughing", "cheerful"),
    "sad": ("sad", "unhappy"),
    "surprised": ("surprised", "astonished"),
    "angry": ("angry", "grumpy"),
    "winking": ("winking",),
    "sleeping": ("sleeping", "dozing"),
}
_HAIR_WORDS: Mapping[str, str] = {
    "short": "short {} hair",
    "parted": "parted {} hair",
    "curly": "curly {} hair",
    "long": "long {} hair",
    "bob": "a {} bob",
    "ponytail": "a {} ponytail",
    "bun": "a {} bun",
    "mohawk": "a {} mohawk",
    "afro": "a {} afro",
}
_GLASSES_WORDS = {"round": "round glasses", "square": "square glasses", "dark": "sunglasses"}
PERSON_WORDS = ("person", "character")


@dataclass(frozen=True)
class Identity:
    """What makes a person recognisable, whatever the expression, hat and clothes.

    Attributes:
        kind: "man" or "woman".
        skin: index into `SKINS`.
        hair_style, hair_colour, eye_colour, glasses, beard, mark: names from the tables above.
        earrings: whether there are any.
        mark_side: -1 or 1, the cheek that the mark is on.
        face_width, face_length, jaw, eye_size, eye_gap, brow, nose, mouth: proportions in -1..1.
    """

    kind: str
    skin: int
    hair_style: str
    hair_colour: str
    eye_colour: str
    glasses: str
    beard: str
    mark: str
    earrings: bool
    mark_side: int
    face_width: float
    face_length: float
    jaw: float
    eye_size: float
    eye_gap: float
    brow: float
    nose: float
    mouth: float


@dataclass(frozen=True)
class Portrait:
    """An identity and what may change about it; see the module's text for its key."""

    identity: int
    expression: str = "neutral"
    gaze: str = "ahead"
    hat: str = "none"
    hat_colour: str = "red"
    clothes: str = "blue"

    @property
    def key(self) -> str:
        """The portrait as a key."""
        rest = (self.expression, self.gaze, self.hat, self.hat_colour, self.clothes)
        return "/".join((f"{FACE_PREFIX}{self.identity:x}", *rest))


@lru_cache(maxsize=4096)
def parse_portrait(key: str) -> Portrait:
    """Inverse of `Portrait.key`.

    Raises:
        WorldError: it is no such key.
    """
    parts = key.split("/")
    tables = (EXPRESSIONS, GAZES, HATS, HAT_COLOURS, tuple(COLOURS))
    known = len(parts) == 6 and all(part in table for part, table in zip(parts[1:], tables, strict=True))
    if not known or not parts[0].startswith(FACE_PREFIX):
        raise WorldError(f"{key!r} is not a portrait; it must look like face-2f1/smiling/ahead/cap/red/blue.")
    try:
        number = int(parts[0].removeprefix(FACE_PREFIX), 16)
    except ValueError:
        raise WorldError(f"{key!r} has no identity number.") from None
    return Portrait(number, *parts[1:])


@lru_cache(maxsize=4096)
def identity_of(number: int) -> Identity:
    """The identity of a number in 0..`NUM_IDENTITIES` - 1."""
    rng = np.random.default_rng([_IDENTITY_SALT, number])
    kind = ("man", "woman")[int(rng.integers(2))]
    hair_style = HAIR_STYLES[int(rng.choice(_STYLES_OF_KIND[kind]))]
    hair_colour = tuple(HAIR_COLOURS)[int(rng.choice(len(HAIR_COLOURS), p=_HAIR_SHARES))]
    beard_share = 0.45 if kind == "man" else 0.0
    numbers = np.round(rng.uniform(-1, 1, 8), 3)
    return Identity(
        kind,
        int(rng.integers(len(SKINS))),
        hair_style,
        hair_colour,
        tuple(EYE_COLOURS)[int(rng.integers(len(EYE_COLOURS)))],
        _maybe(rng, GLASSES, 0.35),
        _maybe(rng, BEARDS, beard_share),
        _maybe(rng, MARKS, 0.3),
        bool(rng.random() < (0.35 if kind == "woman" else 0.05)),
        int(rng.choice((-1, 1))),
        *(float(n) for n in numbers),
    )


def _maybe(rng: np.random.Generator, options: Sequence[str], share: float) -> str:
    """One of the options after the first with this probability, else the first."""
    chosen = options[1 + int(rng.integers(len(options) - 1))]
    return chosen if rng.random() < share else options[0]


class Portraits:
    """All portraits as one pack, drawn when asked for; stands in for a `GlyphPack` in `render` and `caption`."""

    name = "faces"

    def __getitem__(self, key: str) -> Glyph:
        """Name of a portrait: what is visible of identity and expression."""
        return Glyph(key, describe(parse_portrait(key), np.random.default_rng(0)), (), "faces")

    def mip(self, key: str, longer_side_px: float) -> np.ndarray:
        """See `GlyphPack.mip`: uint8 [M, M, 4], premultiplied."""
        picture = _draw(key)
        size_px = max(12, int(np.ceil(longer_side_px)))
        if size_px >= GLYPH_SIZE_PX:
            return picture
        return cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=64)
def _draw(key: str) -> np.ndarray:
    from instruct_imagen.world.face_drawing import draw_portrait

    portrait = parse_portrait(key)  # edges are hard and what is transparent is black, so it is premultiplied
    board = draw_portrait(identity_of(portrait.identity), portrait)
    return cv2.resize(board, (GLYPH_SIZE_PX,) * 2, interpolation=cv2.INTER_AREA)


def describe(portrait: Portrait, rng: np.random.Generator, *, named: bool = True, word: str | None = None) -> str:
    """Words for a portrait, with an article: "a smiling woman with long red hair, wearing a blue cap".

    Args:
        portrait: what to describe.
        rng: source of the wording.
        named: whether to tell the looks that belong to the identity; otherwise only what may change.
        word: what to call the person; "man" or "woman" by default, or a word without gender if not `named`.
    """
    identity = identity_of(portrait.identity)
    if word is None:
        word = identity.kind if named else PERSON_WORDS[int(rng.integers(len(PERSON_WORDS)))]
    options = _EXPRESSION_WORDS[portrait.expression]
    noun = f"{options[int(rng.integers(len(options)))]} {word}".strip()
    text = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    if named:
        looks = _looks(identity)
        text += f" with {' and '.join(looks)}" if looks else ""
    if portrait.hat != "none":
        article = "an" if portrait.hat_colour[0] in "aeiou" else "a"
        text += (", wearing " if named else " wearing ") + f"{article} {portrait.hat_colour} {portrait.hat}"
    if portrait.gaze != "ahead" and portrait.expression != "sleeping":
        text += f", looking {portrait.gaze}"
    return text


def _looks(identity: Identity) -> list[str]:
    """Hair, beard and glasses in words, at most two of them."""
    hair = _HAIR_WORDS.get(identity.hair_style, "a bald head").format(identity.hair_colour)
    beard = "" if identity.beard == "none" else identity.beard
    beard = f"a {beard}" if beard else ""
    found = [hair, _GLASSES_WORDS.get(identity.glasses, ""), beard]
    return [words for words in found if words][:2]


class PortraitSampler:
    """Draws portraits and the scenes they stand in, from one split of the identities."""

    def __init__(self, split: Split = "train", styles: Sequence[str] = ()) -> None:
        """Makes a sampler.

        Args:
            split: of the identities.
            styles: names of the styles to draw from besides "plain".

        Raises:
            WorldError: a style is held out from a training sampler.
        """
        if split == "train" and any(style_split(name) != "train" for name in styles):
            raise WorldError("A held-out style cannot be used in a training portrait.")
        self.split = split
        self.styles = tuple(name for name in styles if name != PLAIN)

    def identity(self, rng: np.random.Generator) -> int:
        """A number whose identity belongs to the split."""
        while True:
            number = int(rng.integers(NUM_IDENTITIES))
            if glyph_split(Portrait(number).key) == self.split:
                return number

    def portrait(self, rng: np.random.Generator, identity: int | None = None) -> Portrait:
        """A portrait in any mood and outfit, of the identity if one is given.

        Raises:
            WorldError: the identity belongs to another split and this is a training sampler.
        """
        number = self.identity(rng) if identity is None else identity
        if self.split == "train" and glyph_split(Portrait(number).key) != "train":
            raise WorldError(f"The identity {number} is held out and cannot be used in a training portrait.")
        hat = HATS[1 + int(rng.integers(len(HATS) - 1))] if rng.random() < HAT_SHARE else "none"
        gaze = GAZES[int(rng.integers(len(GAZES)))] if rng.random() < 0.5 else "ahead"
        return Portrait(
            number,
            EXPRESSIONS[int(rng.integers(len(EXPRESSIONS)))],
            gaze,
            hat,
            HAT_COLOURS[int(rng.integers(len(HAT_COLOURS)))],
            tuple(COLOURS)[int(rng.integers(len(COLOURS)))],
        )

    def scene(
        self,
        rng: np.random.Generator,
        *,
        identity: int | None = None,
        close: bool = False,
        style: Style | None = None,
        ground: Ground | None = None,
        style_share: float = 0.0,
    ) -> Scene:
        """A scene with one portrait, its shoulders at the lower rim.

        Args:
            rng: source of all chance here.
            identity: whose portrait; any of the split by default.
            close: a studio portrait: large, upright, in the middle, before a plain or graded wall.
            style, ground: as given, or drawn.
            style_share: how often the style is not plain where none is given.
        """
        portrait = self.portrait(rng, identity)
        if style is None:
            styled = self.styles and rng.random() < style_share
            style = sample_style(rng, self.styles[int(rng.integers(len(self.styles)))] if styled else PLAIN)
        if ground is None:
            ground = sample_ground(rng, WALL_KINDS[int(rng.integers(2))] if close else None)
        size = float(rng.uniform(0.94, 1.0) if close else rng.uniform(0.6, 0.95))
        x = 0.5 if close else float(rng.uniform(0.5 * size, 1 - 0.5 * size))
        turn = 0.0 if close else float(rng.uniform(-8, 8))
        y = 1 - 0.5 * size + (0.0 if close else 0.04)
        subject = Subject(portrait.key, round(x, 4), round(y, 4), round(size, 4), round(turn, 2), False, 0)
        return Scene(ground, (subject,), None, style, int(rng.integers(2**31)))
