"""Captions of portraits: in words what changes from one picture of a person to the next, and never who it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...world import PERSON_WORDS, with_article
from .building import pick

TURN_SHARE = 0.28  # of the eyes' distance; the nose is further off their middle when a head is turned
NOT_SMILING_SHARE = 0.3  # how often a face that does not smile is said not to
GENERIC_SHARE = 0.5  # as in the rendered world: how often the words do not tell man from woman
_SMILES = ("smiling", "smiling", "happy", "cheerful")
_WORN = {  # CelebA's attribute -> words; in the order in which they are told
    "Wearing_Hat": "a hat",
    "Eyeglasses": "glasses",
    "Wearing_Earrings": "earrings",
    "Wearing_Necklace": "a necklace",
    "Wearing_Necktie": "a tie",
    "Heavy_Makeup": "heavy make-up",
    "Wearing_Lipstick": "lipstick",
}
MOST_WORN = 3
TOLD_ATTRIBUTES = (*_WORN, "Smiling", "Mouth_Slightly_Open", "Blurry")


@dataclass(frozen=True)
class Look:
    """What a picture of a person shows apart from the person.

    Attributes:
        attributes: those of `TOLD_ATTRIBUTES` that hold.
        kind: "man" or "woman", as the data set labels it; "" if it does not.
        turn: "left" or "right" in the picture, where the head is turned; "" if it is not, or is not known.
    """

    attributes: frozenset[str] = frozenset()
    kind: str = ""
    turn: str = ""


def look_of(attributes: Mapping[str, bool], turn: str = "") -> Look:
    """A look from CelebA's attributes; those that belong to the person, such as hair, are left out."""
    kind = {True: "man", False: "woman"}.get(attributes["Male"], "") if "Male" in attributes else ""
    return Look(frozenset(name for name in TOLD_ATTRIBUTES if attributes.get(name)), kind, turn)


def turn_of(landmarks: Sequence[float]) -> str:
    """Where the head is turned, from x and y of left eye, right eye and nose in an aligned picture (and more)."""
    left_eye, right_eye, nose = landmarks[0], landmarks[2], landmarks[4]
    if not right_eye > left_eye:
        return ""
    offset = (nose - (left_eye + right_eye) / 2) / (right_eye - left_eye)
    return "left" if offset < -TURN_SHARE else "right" if offset > TURN_SHARE else ""


def person_word(look: Look, rng: np.random.Generator) -> str:
    """What to call the person: half the time by a word that fits everybody."""
    return look.kind if look.kind and rng.random() >= GENERIC_SHARE else pick(rng, PERSON_WORDS)


def face_caption(look: Look, word: str, rng: np.random.Generator) -> str:
    """A phrase such as "a smiling woman wearing a hat and glasses, looking left".

    Args:
        look: what to tell.
        word: what to call the person, see `person_word`.
        rng: source of the wording.
    """
    smiles = "Smiling" in look.attributes
    text = with_article(f"{pick(rng, _SMILES)} {word}" if smiles else word)
    worn = _worn(look)
    if worn:
        text += f" wearing {_listed(worn)}"
    details = []
    if "Mouth_Slightly_Open" in look.attributes:
        details.append("with the mouth slightly open")
    if not smiles and rng.random() < NOT_SMILING_SHARE:
        details.append("not smiling")
    if look.turn:
        details.append(pick(rng, ("looking {}", "turned to the {}", "facing {}")).format(look.turn))
    text = ", ".join([text, *details])
    if "Blurry" in look.attributes:
        return f"a blurry photo of {text}"
    if text == with_article(word):  # nothing to tell: at least say that it is a picture
        return f"a {pick(rng, ('photo', 'portrait', 'picture'))} of {text}"
    return f"{pick(rng, ('', '', 'a photo of ', 'a portrait of '))}{text}"


def _worn(look: Look) -> list[str]:
    names = [name for name in _WORN if name in look.attributes]
    if "Heavy_Makeup" in names and "Wearing_Lipstick" in names:
        names.remove("Wearing_Lipstick")
    return [_WORN[name] for name in names][:MOST_WORN]


def _listed(words: Sequence[str]) -> str:
    """ "a hat", "a hat and glasses", "a hat, glasses and earrings"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
