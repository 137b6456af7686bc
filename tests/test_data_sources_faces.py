"""Faces: identities, splits, and captions that tell what changes and not who it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data_sources_common import build, dropped, near, picture, save, write

from instruct_imagen.data.report import DataError, Report
from instruct_imagen.data.sources import SOURCES, SourceOptions
from instruct_imagen.data.sources.face_words import (
    TOLD_ATTRIBUTES,
    Look,
    face_caption,
    look_of,
    person_word,
    turn_of,
)

ATTRIBUTES = ("Bald", "Eyeglasses", "Male", "Smiling", "Wearing_Hat", "Young")
# person 12 has pictures 1, 2, 3; person 5 has 4, 5; person 8 has 6 alone; 7 is of person 5, but held out
IDENTITIES = {1: 12, 2: 12, 3: 12, 4: 5, 5: 5, 6: 8, 7: 5}
HATS = {2, 4}
PERSON = {12: True, 5: False, 8: True}
_WHO = re.compile(r"hair|beard|skin|nose|young|old|bald|chin|lips\b|attractive|brow|moustache|mustache|bangs")


def name_of(number: int) -> str:
    return f"{number:06d}.jpg"


def attribute_table(rows: dict[str, int]) -> str:
    """Rows of a name and the number of the picture whose attributes it has."""
    lines = [str(len(rows)), " ".join(ATTRIBUTES)]
    for name, number in rows.items():
        holds = (False, False, PERSON[IDENTITIES[number]], number % 2 == 1, number in HATS, True)
        lines.append(f"{name}  {' '.join('1' if value else '-1' for value in holds)}")
    return "\n".join(lines) + "\n"


def celeba(root: Path, anno: str = "", img: str = "") -> Path:
    for number in IDENTITIES:
        save(root / img / "img_align_celeba" / name_of(number), picture(number, (48, 60)))
    labels = root / anno
    lines = [f"{name_of(number)} {person}" for number, person in IDENTITIES.items()]
    write(labels / "identity_CelebA.txt", "\n".join([*lines, "000099.jpg 12", "junk", ""]))
    table = attribute_table({name_of(number): number for number in IDENTITIES})
    write(labels / "list_attr_celeba.txt", table + "000099.jpg -1 1\n")
    landmarks = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y\n"
    rows = {1: "10 20 30 20 20 30", 2: "10 20 30 20 4 30", 3: "10 20 30 20 29 30"}
    landmarks += "".join(f"{name_of(number)} {row}\n" for number, row in rows.items())
    write(labels / "list_landmarks_align_celeba.txt", f"3\n{landmarks}")
    parts = "".join(f"{name_of(number)} {int(number == 7)}\n" for number in IDENTITIES)
    write(labels / "list_eval_partition.txt", parts)
    return root


@pytest.mark.parametrize(("anno", "img"), [("", ""), ("Anno", "Img")])
def test_celeba(anno: str, img: str, tmp_path: Path):
    examples, report = build("face", celeba(tmp_path / "celeba", anno, img), tmp_path, examples_per_picture=6)
    targets = {example.key.split("-")[1] for example in examples}
    assert targets == {name_of(number)[:-4] for number in (1, 2, 3, 4, 5)} and len(examples) == 30
    counts = set()
    for example in examples:
        number = int(example.key.split("-")[1])
        others = [n for n, person in IDENTITIES.items() if person == IDENTITIES[number] and n not in (number, 7)]
        assert near(example.target, picture(number, (48, 60)))
        references = example.instruction.references
        counts.add(len(references))
        assert {reference.marker for reference in references} == {1} and len({r.text for r in references}) == 1
        for reference in references:
            assert any(near(reference.image, picture(other, (48, 60))) for other in others)
        text = example.instruction.text.lower()
        assert ("a hat" in text) == (number in HATS)
        assert bool(re.search("smil|happy|cheerful", text.replace("not smiling", ""))) == (number % 2 == 1)
        assert bool(re.search("left", text)) == (number == 2) and bool(re.search("right", text)) == (number == 3)
    assert counts == {1, 2}  # of three pictures there are two others
    assert dropped(report, "face") == {
        "identity line has no two columns": 1,
        "label line does not fit its columns": 1,
        "held out by the public split": 1,
        "only picture of its person": 1,
        "picture is missing": 1,
    }


def test_people_take_turns(tmp_path: Path):
    examples, _ = build("face", celeba(tmp_path / "celeba"), tmp_path, max_examples=2)
    assert {IDENTITIES[int(example.key.split("-")[1])] for example in examples} == {12, 5}


def celeba_hq(root: Path, own_attributes: bool) -> Path:
    """Picture 10 + n of the second set is picture n of the first."""
    celeba(root)
    lines = ["idx      orig_idx  orig_file"]
    for number in IDENTITIES:
        save(root / "CelebA-HQ-img" / f"{10 + number}.jpg", picture(number, (64, 64)))
        lines.append(f"{10 + number}     {number - 1}     {name_of(number)}")
    lines += ["30  500  000500.jpg", "31 4"]
    write(root / "CelebA-HQ-to-CelebA-mapping.txt", "\n".join(lines))
    if own_attributes:
        write(root / "CelebAMask-HQ-attribute-anno.txt", attribute_table({f"{10 + n}.jpg": n for n in IDENTITIES}))
        (root / "list_attr_celeba.txt").unlink()
    return root


@pytest.mark.parametrize("own_attributes", [True, False])
def test_celeba_hq_finds_people_through_the_mapping(own_attributes: bool, tmp_path: Path):
    source = celeba_hq(tmp_path / "CelebAMask-HQ", own_attributes)
    examples, report = build("face_hq", source, tmp_path, examples_per_picture=4, size_px=64)
    assert {int(example.key.split("-")[1]) for example in examples} == {11, 12, 13, 14, 15}
    for example in examples:
        number = int(example.key.split("-")[1]) - 10
        (reference,) = example.instruction.references
        people = [n for n, person in IDENTITIES.items() if person == IDENTITIES[number] and n not in (number, 7)]
        assert any(near(reference.image, picture(other, (64, 64))) for other in people)
        assert ("a hat" in example.instruction.text.lower()) == (number in HATS)
    counts = dropped(report, "face_hq")
    assert counts["picture has no identity"] == counts["mapping line has no three columns"] == 1


def test_missing_files_are_named(tmp_path: Path):
    root = celeba(tmp_path / "celeba")
    (root / "identity_CelebA.txt").unlink()
    with pytest.raises(DataError, match=r"identity_CelebA\.txt"):
        list(SOURCES["face"].open(root, Report(), SourceOptions()))
    with pytest.raises(DataError, match="CelebA-HQ-img"):
        list(SOURCES["face_hq"].open(root, Report(), SourceOptions()))


looks = st.builds(
    Look,
    st.frozensets(st.sampled_from(TOLD_ATTRIBUTES)),
    st.sampled_from(("man", "woman", "")),
    st.sampled_from(("", "left", "right")),
)


@given(looks, st.integers(0, 2**32))
def test_captions_are_english_and_tell_what_changes(look: Look, seed: int):
    rng = np.random.default_rng(seed)
    word = person_word(look, rng)
    text = face_caption(look, word, rng)
    assert text == text.strip() and not re.search(r"  | ,|,$|,,|\band,|\{", text)
    assert re.match(r"an? \S", text) and not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
    assert text.count(word) == 1 and not _WHO.search(text.replace("lipstick", ""))
    told = text.replace("not smiling", "")
    assert bool(re.search("smiling|happy|cheerful", told)) == ("Smiling" in look.attributes)
    assert ("mouth" in text) == ("Mouth_Slightly_Open" in look.attributes)
    assert ("blurry" in text) == ("Blurry" in look.attributes)
    assert ("wearing a hat" in text) == ("Wearing_Hat" in look.attributes)
    assert all((side in text) == (look.turn == side) for side in ("left", "right"))
    worn = re.search(r"wearing ([^,]*(?:, (?:a tie|a hat|glasses|earrings|a necklace)[^,]*)*)", text)
    assert worn is None or len(re.split(r", | and ", worn[1])) <= 3


def test_looks_of_attributes():
    look = look_of({"Male": True, "Smiling": True, "Wearing_Hat": False, "Young": True, "Bald": True}, "left")
    assert look == Look(frozenset({"Smiling"}), "man", "left")
    assert look_of({}) == Look()


@given(st.floats(-0.9, 0.9), st.floats(5, 200), st.floats(-50, 50))
def test_turns_do_not_depend_on_scale_and_place(offset: float, distance: float, shift: float):
    points = (shift, 0.0, shift + distance, 0.0, shift + distance * (0.5 + offset), 0.0)
    expected = "left" if offset < -0.29 else "right" if offset > 0.29 else ""
    if abs(abs(offset) - 0.28) > 0.01:
        assert turn_of(points) == expected
    assert turn_of((30.0, 0, 30.0, 0, 10.0, 0)) == ""
