"""Domains (§3.2): each picture goes to the domain of the text that is nearest to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.report import DataError
from ..world import GlyphPack, glyphs_of, with_article
from .embedders import Embedder

_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Domain:
    """A kind of picture, told by texts.

    Attributes:
        name: for the report and the clusters.
        prompts: texts about such pictures; the nearest of all domains' texts decides.
    """

    name: str
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses a domain without texts."""
        if not self.name or not self.prompts:
            raise DataError(f"The domain {self.name!r} needs a name and at least one text about it.")


# The paper names art, products, animals and scenery, "etc."; the others are ours.
DEFAULT_DOMAINS = (
    Domain("art", ("a painting", "a drawing", "a work of art", "an illustration")),
    Domain("products", ("a product photo", "a photo of an object on a plain background", "merchandise in a shop")),
    Domain("animals", ("a photo of an animal", "a picture of a bird", "a picture of a pet", "wildlife")),
    Domain("scenery", ("a photo of a landscape", "a view of nature", "mountains, sea and sky")),
    Domain("people", ("a photo of a person", "a portrait of a face", "a group of people")),
    Domain("food", ("a photo of food", "a dish on a plate", "a drink in a glass")),
    Domain("vehicles", ("a photo of a car", "a picture of a vehicle", "a ship, a train or a plane")),
    Domain("buildings", ("a photo of a building", "architecture", "a street in a city")),
    Domain("interiors", ("a photo of a room", "furniture in a home", "an interior")),
    Domain("plants", ("a photo of a flower", "a picture of a plant", "a tree")),
    Domain("sports", ("a photo of a sport", "athletes in a game")),
    Domain("graphics", ("a logo", "a diagram with text", "a poster with lettering", "a screenshot")),
)


def world_domains(pack: GlyphPack) -> tuple[Domain, ...]:
    """Those of the rendered world: a domain for each group of glyphs, told by those that training shows, and people."""
    known = frozenset(glyphs_of(pack.keys, "train"))
    groups: dict[str, list[str]] = {}
    for glyph in pack.glyphs:
        if glyph.key in known:
            groups.setdefault(glyph.group, []).append(f"a picture of {with_article(glyph.name)}")
    people = ("a picture of a woman", "a picture of a man", "a smiling woman", "a winking man wearing a hat")
    return (*(Domain(name, tuple(texts)) for name, texts in sorted(groups.items())), Domain("people", people))


def read_domains(path: Path) -> tuple[Domain, ...]:
    """Reads `{"NAME": ["TEXT", ...], ...}`.

    Raises:
        DataError: the file cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"The domains {path} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise DataError(f"The domains {path} are no JSON ({error}).") from error
    if not isinstance(content, dict) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in content.values()
    ):
        raise DataError(f'The domains {path} must be an object of lists of texts: {{"NAME": ["TEXT", ...], ...}}.')
    return tuple(Domain(name, tuple(texts)) for name, texts in content.items())


@dataclass(frozen=True)
class DomainTexts:
    """Domains as an embedder sees them.

    Attributes:
        names: of the P domains; none at all makes one of all pictures.
        vectors: embeddings of all their texts, float32 [T, D] of unit length.
        owners: number of each text's domain, int64 [T].
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, domains: Sequence[Domain], embedder: Embedder) -> DomainTexts:
        """Embeds the texts of domains.

        Raises:
            DataError: two domains have one name.
        """
        names = tuple(domain.name for domain in domains)
        if len(set(names)) < len(names):
            raise DataError(f"There are two domains {max(names, key=names.count)!r}; give each its own name.")
        vectors = [np.zeros((0, embedder.dim), np.float32), *(embedder.texts(domain.prompts) for domain in domains)]
        owners = np.repeat(np.arange(len(domains)), [len(domain.prompts) for domain in domains])
        return cls(names, np.concatenate(vectors), owners)

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """The domain of the text that is most like each picture.

        Args:
            vectors: float [N, D] of unit length, on disk or in memory.

        Returns:
            int64 [N] in 0..P-1; 0 if there are no domains.

        Raises:
            DataError: the embeddings are those of another embedder.
        """
        found = np.zeros(len(vectors), np.int64)
        if not len(self.owners) or not len(vectors):
            return found
        if vectors.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"The embeddings have {vectors.shape[1]} numbers and the embedder of the domains' texts makes "
                f"{self.vectors.shape[1]}; use the embedder that the embeddings were made with."
            )
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            rows = np.asarray(vectors[start : start + _ROWS_AT_ONCE], np.float32)
            found[start : start + len(rows)] = self.owners[(rows @ self.vectors.T).argmax(1)]
        return found
