"""Captions: plain English for a scene, in varied wording, lower case, without a full stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from instruct_imagen.world.faces import describe, parse_portrait
from instruct_imagen.world.glyphs import Glyph, GlyphPack, WorldError
from instruct_imagen.world.grounds import Ground
from instruct_imagen.world.scenes import PLAIN, Scene, Subject
from instruct_imagen.world.styles import style_phrases

GENERIC_WORDS = ("object", "thing", "item", "subject")
SYNONYM_SHARE = 0.25
_DETAIL_SHARE = 0.2  # share of captions that mention a true size, or a true place

_DETERMINERS = ("a ", "an ", "the ", "this ", "that ", "some ", "one ", "its ", "my ", "[")
_CONSONANT_SOUNDS = ("uni", "use", "uk", "eu", "ewe", "one", "ufo", "uta")
_VOWEL_SOUNDS = ("hour", "honest", "heir", "x-ray", "lcd", "8-bit", "mri")
_SINGULAR_ENDINGS = ("ss", "us", "is", "os")
_MASS_WORDS = frozenset(
    "popcorn bread rice bacon spaghetti garlic salt butter ice coral dna luggage soap wood badminton lacrosse".split()
)
_COUNTABLE_STYLE_WORDS = frozenset(
    "drawing sketch painting print picture photo photograph image poster mosaic panel illustration collage render "
    "woodcut linocut blueprint map wash aquarelle window cut-out pattern relief bas-relief radiograph x-ray thermogram "
    "scribble plan sampler".split()
)

_GROUND_PHRASES: Mapping[str, tuple[str, ...]] = {
    "plain": (
        "on a {one} background",
        "against a {one} background",
        "in front of a {one} wall",
        "on plain {one}",
    ),
    "gradient": (
        "on a {one} to {two} gradient background",
        "on a background fading from {one} to {two}",
        "against a blend of {one} and {two}",
    ),
    "stripes": (
        "on a background of {one} and {two} stripes",
        "in front of {one} and {two} stripes",
        "on a {one} and {two} striped background",
    ),
    "checks": (
        "on a {one} and {two} checkered background",
        "in front of {one} and {two} checks",
        "on a {one} and {two} checkerboard",
    ),
    "polka dots": (
        "on a {one} background with {two} polka dots",
        "in front of {two} dots on {one}",
        "on a {one} background with {two} dots",
    ),
    "beach": ("on a beach", "at the beach", "on a sandy beach", "on the sand by the sea"),
    "forest": ("in a forest", "in the woods", "among trees", "on a forest floor"),
    "night sky": (
        "in the night sky",
        "under a starry sky",
        "against a night sky with stars",
        "among the stars",
    ),
    "room": ("in a room", "in a room with a window", "indoors, on a wooden floor", "inside a house"),
    "street": ("on a street", "in a street", "on a road in front of houses", "in a town street"),
    "snow": ("in the snow", "on a snowy field", "in a snowy landscape", "in falling snow"),
    "desert": ("in a desert", "in the desert", "among sand dunes", "in a desert with a cactus"),
    "sea": ("at sea", "on the sea", "on the ocean", "above the waves"),
    "underwater": ("under water", "underwater", "at the bottom of the sea", "under the sea"),
    "meadow": ("in a meadow", "in a field of flowers", "on a green meadow", "on the grass"),
    "sunset": ("at sunset", "in front of a sunset", "against an orange evening sky", "at sunset by the sea"),
    "city": ("in a city", "in front of a city skyline", "in front of tall buildings", "in the city"),
    "mountains": (
        "in the mountains",
        "in front of mountains",
        "before snowy mountain peaks",
        "near mountains",
    ),
    "clouds": ("in the sky", "among clouds", "in a blue sky with clouds", "up in the clouds"),
    "brick wall": (
        "in front of a brick wall",
        "by a brick wall",
        "against a red brick wall",
        "beside a brick wall",
    ),
    "table": ("on a table", "on a wooden table", "on a wooden tabletop", "on a kitchen table"),
}

_RELATION_PHRASES: Mapping[str | None, tuple[str, ...]] = {
    None: ("{a} and {b}", "{b} and {a}", "{a} with {b}"),
    "next to": ("{a} next to {b}", "{b} next to {a}", "{a} beside {b}", "{a} and {b} side by side"),
    "left of": ("{a} to the left of {b}", "{b} to the right of {a}", "{a} left of {b}"),
    "right of": ("{a} to the right of {b}", "{b} to the left of {a}", "{a} right of {b}"),
    "above": ("{a} above {b}", "{b} below {a}", "{a} over {b}", "{b} underneath {a}"),
    "below": ("{a} below {b}", "{b} above {a}", "{a} underneath {b}", "{a} under {b}"),
    "in front of": ("{a} in front of {b}", "{b} behind {a}", "{b} partly hidden by {a}"),
    "behind": ("{a} behind {b}", "{b} in front of {a}", "{a} partly hidden by {b}"),
}
_THIRD_PHRASES = ("{pair}, and {c}", "{pair}, with {c}", "{pair}, and also {c}")
_OPENINGS = ("", "", "", "", "a picture of ", "an image of ", "a view of ")


def caption(
    scene: Scene,
    pack: GlyphPack,
    rng: np.random.Generator,
    *,
    subject_words: Sequence[str] | None = None,
    with_style: bool = True,
    with_ground: bool = True,
) -> str:
    """Describes a scene.

    Args:
        scene: The scene.
        pack: Where its glyphs' names are.
        rng: Source of the wording.
        subject_words: Words for the subjects in place of their names, such as "object" or "[ref#1] fox"; an article
            is put before words that neither have one nor begin with a marker.
        with_style: Whether to name the style, if it is not plain.
        with_ground: Whether to name the ground.

    Raises:
        WorldError: There are not as many subject words as subjects, or the pack lacks a glyph.
    """
    if subject_words is None:
        words = [subject_phrase(pack[subject.glyph], rng) for subject in scene.subjects]
    elif len(subject_words) == len(scene.subjects):
        words = list(subject_words)
    else:
        raise WorldError(f"{len(subject_words)} subject words were given for {len(scene.subjects)} subjects.")
    comma = "" if len(scene.subjects) == 1 else ","
    return _in_scene(_subjects_text(scene, words, rng), comma, scene, rng, with_style, with_ground)


def portrait_caption(
    scene: Scene,
    rng: np.random.Generator,
    *,
    named: bool = True,
    word: str | None = None,
    with_style: bool = True,
    with_ground: bool = True,
) -> str:
    """Describes a scene whose subject is a portrait.

    Args:
        scene: The scene.
        rng: Source of the wording.
        named: Whether to tell looks that belong to the identity; otherwise only expression, hat and gaze.
        word: What to call the person, see `describe`.
        with_style: Whether to name the style, if it is not plain.
        with_ground: Whether to name the ground.
    """
    text = describe(parse_portrait(scene.subjects[0].glyph), rng, named=named, word=word)
    return _in_scene(text, "," if "," in text else "", scene, rng, with_style, with_ground)


def _in_scene(
    text: str, comma: str, scene: Scene, rng: np.random.Generator, with_style: bool, with_ground: bool
) -> str:
    """Adds ground and style to the words for the subjects."""
    ground_first = False
    if with_ground:
        ground, ground_first = ground_phrase(scene.ground, rng), rng.random() < 0.1
        text = f"{ground}, {text}" if ground_first else f"{text}{comma} {ground}"
    if with_style and scene.style.name != PLAIN:
        return _styled(text, _pick(rng, style_phrases(scene.style)).lower(), rng, may_open=not ground_first)
    return text if ground_first else f"{_pick(rng, _OPENINGS)}{text}"


def subject_phrase(glyph: Glyph, rng: np.random.Generator) -> str:
    """The glyph's name or, one time in four where it has any, a synonym; no article."""
    if glyph.synonyms and rng.random() < SYNONYM_SHARE:
        return _pick(rng, glyph.synonyms)
    return glyph.name


def ground_phrase(ground: Ground, rng: np.random.Generator) -> str:
    """Where the scene is, such as "on a beach" or "in front of a light blue wall"."""
    one, two = ground.colour_name("colour"), ground.colour_name("colour2")
    phrase = _pick(rng, _GROUND_PHRASES[ground.kind])
    return phrase.replace("a {one}", with_article("{one}", one)).format(one=one, two=two)


def with_article(words: str, sound: str | None = None) -> str:
    """Puts "a" or "an" before words; nothing before plurals, mass words, markers, and words that have a determiner.

    Args:
        words: What the article goes before.
        sound: What decides between "a" and "an", if not `words`.
    """
    spoken = (sound or words).lower()
    if spoken.startswith(_DETERMINERS) or _is_plural_or_mass(spoken):
        return words
    vowel = spoken.startswith(_VOWEL_SOUNDS) or (spoken[:1] in "aeiou" and not spoken.startswith(_CONSONANT_SOUNDS))
    return f"{'an' if vowel else 'a'} {words}"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _is_plural_or_mass(words: str) -> bool:
    head = words
    for separator in (" of ", " with ", " in ", " on ", " without "):
        head = head.split(separator)[0]
    last = head.split()[-1] if head.split() else ""
    return last in _MASS_WORDS or (last.endswith("s") and not last.endswith(_SINGULAR_ENDINGS))


def _subjects_text(scene: Scene, words: Sequence[str], rng: np.random.Generator) -> str:
    if len(scene.subjects) == 1:
        return _single_text(scene.subjects[0], words[0], rng)
    names = [with_article(word) for word in words]
    if len(names) == 3 and scene.relation is None:
        first, second, third = (names[int(i)] for i in rng.permutation(3))
        return f"{first}, {second} and {third}"
    pair = _pick(rng, _RELATION_PHRASES[scene.relation]).format(a=names[0], b=names[1])
    return pair if len(names) == 2 else _pick(rng, _THIRD_PHRASES).format(pair=pair, c=names[2])


def _single_text(subject: Subject, word: str, rng: np.random.Generator) -> str:
    """One subject, sometimes with its size or place where these are marked."""
    size = "small" if subject.size < 0.48 else "large" if subject.size > 0.66 else ""
    adjective = size if size and rng.random() < _DETAIL_SHARE and not word.startswith(_DETERMINERS) else ""
    text = f"a {adjective} {word}" if adjective else with_article(word)
    if adjective and _is_plural_or_mass(word):
        text = f"{adjective} {word}"
    across = "left" if subject.x < 0.38 else "right" if subject.x > 0.62 else ""
    down = "upper" if subject.y < 0.38 else "lower" if subject.y > 0.62 else ""
    place = " ".join((down, across)) if down and across else ""
    place = f"in the {place}" if place else f"on the {across}" if across else ""
    return f"{text} {place}" if place and rng.random() < _DETAIL_SHARE else text


def _styled(text: str, style: str, rng: np.random.Generator, may_open: bool) -> str:
    """Names the style after the scene or, where that reads well, before it."""
    if style.split()[-1] not in _COUNTABLE_STYLE_WORDS:
        return f"{text}, {style}"
    if may_open and rng.random() < 0.6:
        return f"{with_article(style)} of {text}"
    return f"{text}, {style}" if rng.random() < 0.6 else f"{text}, in the style of {with_article(style)}"
