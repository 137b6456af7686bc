"""What is held out from every stage of training: glyphs and faces by a stable hash, styles by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")

HELD_OUT_GLYPH_SHARE = 0.2
# A fifth of the styles, rounded up, unlike one another; "plain" stays in training.
HELD_OUT_STYLES: frozenset[str] = frozenset(
    ("blueprint", "cross stitch", "low poly", "neon", "stained glass", "thermal", "woodcut")
)


def glyph_split(key: str) -> Split:
    """Split of a glyph, by its key alone, so a bigger pack never moves one.

    What follows a "/" is a variant (a skin tone, a person's mood) and goes with the glyph or identity before it.
    """
    name = key.split("/", 1)[0]
    digest = hashlib.sha256(f"glyph:{name}".encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") < HELD_OUT_GLYPH_SHARE * 2**64 else "train"


def style_split(name: str) -> Split:
    """Split of a style, by name."""
    return "held_out" if name in HELD_OUT_STYLES else "train"


def glyphs_of(keys: Iterable[str], split: Split) -> tuple[str, ...]:
    """Those of the keys that belong to a split, in their order."""
    return tuple(key for key in keys if glyph_split(key) == split)


def styles_of(names: Iterable[str], split: Split) -> tuple[str, ...]:
    """Those of the style names that belong to a split, in their order."""
    return tuple(name for name in names if style_split(name) == split)
