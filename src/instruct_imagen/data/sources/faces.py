"""Faces (Table 1: two sets, other pictures of the same person as context): CelebA, and CelebA-HQ in CelebAMask-HQ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..example import Example
from ..report import DataError, Report
from .building import Builder, Shown, Tally, generator
from .face_words import Look, face_caption, look_of, person_word, turn_of
from .groups import Group, Member, others
from .options import SourceOptions
from .reading import read_lines

LAYOUT_CELEBA = (
    "CelebA as released: img_align_celeba/000001.jpg, identity_CelebA.txt, list_attr_celeba.txt; of use where they are "
    "there: list_landmarks_align_celeba.txt, list_eval_partition.txt. Side by side, or in Img/, Anno/ and Eval/."
)
LAYOUT_CELEBA_HQ = (
    "CelebAMask-HQ as released: CelebA-HQ-img/0.jpg, CelebA-HQ-to-CelebA-mapping.txt (idx, orig_idx, orig_file), "
    "CelebAMask-HQ-attribute-anno.txt; and, put beside them, CelebA's identity_CelebA.txt (and list_attr_celeba.txt, "
    "list_landmarks_align_celeba.txt, list_eval_partition.txt where they are wanted)."
)
MOST_REFERENCES = {"face": 3, "face_hq": 1}
_PLACES = ("", "Anno", "Eval", "Img", "img_align_celeba")
TRAIN_PART, TEST_PART = "0", "2"  # in list_eval_partition.txt; the parts have no person in common


@dataclass(frozen=True)
class FaceSet:
    """Pictures by person.

    Attributes:
        folder: holds the pictures.
        people: names of the pictures of each person, by the person's number.
        looks: what each picture shows, by name.
    """

    folder: Path
    people: Mapping[int, list[str]]
    looks: Mapping[str, Look]


def face_examples(path: Path, report: Report, options: SourceOptions, part: str = TRAIN_PART) -> Iterator[Example]:
    """CelebA: up to three other pictures of a person under marker 1, one more as the target.

    Args:
        path: of the release.
        report: counts what is left out.
        options: see `SourceOptions`.
        part: of the public split; without the split's file, all pictures belong to every part.

    Raises:
        DataError: a file of the release is missing.
    """
    builder = Builder("face", report, options)
    folder = _folder(path, "img_align_celeba")
    labels = _Labels(path, builder.listing)
    names = {name: name for name in labels.identities}
    yield from _examples(labels.faces(folder, names, part), builder)


def face_hq_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """CelebA-HQ: another picture of the person under marker 1.

    Raises:
        DataError: a file of the release is missing.
    """
    builder = Builder("face_hq", report, options)
    folder = _folder(path, "CelebA-HQ-img")
    names = {}
    for number, words in _rows(_file(path, "CelebA-HQ-to-CelebA-mapping.txt")):
        if len(words) == 3 and words[0].isdigit():
            names[f"{int(words[0])}.jpg"] = words[2]
        elif number > 1:  # the first line names the columns
            builder.listing.damaged("mapping line has no three columns", f"line {number}")
    yield from _examples(_Labels(path, builder.listing).faces(folder, names), builder)


class _Labels:
    """What CelebA's text files say of its pictures."""

    def __init__(self, path: Path, listing: Tally) -> None:
        self.path, self.listing = path, listing
        self.identities: dict[str, int] = {}
        for number, words in _rows(_file(path, "identity_CelebA.txt")):
            if len(words) == 2 and words[1].isdigit():
                self.identities[words[0]] = int(words[1])
            else:
                listing.damaged("identity line has no two columns", f"line {number}")
        self.attributes = self._table("list_attr_celeba.txt")
        self.own_attributes = self._table("CelebAMask-HQ-attribute-anno.txt")
        self.landmarks = self._table("list_landmarks_align_celeba.txt")
        parts = _find(path, "list_eval_partition.txt")
        self.parts = {words[0]: words[-1] for _, words in _rows(parts)} if parts else {}

    def faces(self, folder: Path, names: Mapping[str, str], part: str = TRAIN_PART) -> FaceSet:
        """The pictures of one part of the public split, by person.

        Args:
            folder: of the pictures.
            names: for each picture its name in CelebA, whose labels it has.
            part: of the split.
        """
        people: dict[int, list[str]] = {}
        looks = {}
        for name in sorted(names):
            original = names[name]
            if original not in self.identities:
                self.listing.damaged("picture has no identity", name)
            elif self.parts.get(original, part) != part:
                self.listing.drop("held out by the public split", name)
            else:
                people.setdefault(self.identities[original], []).append(name)
                looks[name] = self._look(name, original)
        return FaceSet(folder, people, looks)

    def _look(self, name: str, original: str) -> Look:
        values = self.own_attributes.get(name) or self.attributes.get(original) or {}
        points = tuple(self.landmarks.get(original, {}).values())
        turn = turn_of(points) if len(points) >= 6 else ""
        return look_of({attribute: value > 0 for attribute, value in values.items()}, turn)

    def _table(self, name: str) -> dict[str, dict[str, float]]:
        """A table of numbers with a count, a line of column names, and lines of a file name and its numbers."""
        path = _find(self.path, name)
        table: dict[str, dict[str, float]] = {}
        columns: list[str] = []
        for number, words in _rows(path) if path else ():
            if len(words) == 1 and words[0].isdigit() and not columns:
                continue
            if not columns:
                columns = words
                continue
            try:
                table[words[0]] = dict(zip(columns, map(float, words[1:]), strict=True))
            except ValueError:
                self.listing.damaged("label line does not fit its columns", f"{name}:{number}")
        return table


def _examples(faces: FaceSet, builder: Builder) -> Iterator[Example]:
    """One target after another, people taking turns, so that a part of the set still holds many of them."""
    people = []
    for person in sorted(faces.people):
        if len(faces.people[person]) < 2:
            builder.listing.drop("only picture of its person", faces.people[person][0])
        else:
            people.append(faces.people[person])
    if not people:
        return
    order = generator(builder.options.seed, f"{builder.task} people").permutation(len(people))
    mine = [people[person] for person in builder.mine(order)]
    for place in range(max(map(len, mine), default=0)):
        for names in mine:
            if place < len(names):
                yield from _of_target(faces, names, place, builder)


def _of_target(faces: FaceSet, names: list[str], place: int, builder: Builder) -> Iterator[Example]:
    name = names[place]
    group = Group(name, faces.folder, "", tuple(map(Member, names)))
    target = builder.picture(faces.folder, name)
    if target is None:
        return
    look = faces.looks[name]
    for key, rng in builder.turns(name.rsplit(".", 1)[0]):
        images = others(group, place, rng, builder, MOST_REFERENCES[builder.task])
        if not images:
            continue
        word = person_word(look, rng)
        slots = {"caption": face_caption(look, word, rng)}
        yield from builder.finish(key, rng, target, slots, [Shown("face", images, {"subject": word})])


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers from 1, and the words of the line; empty lines are left out."""
    for number, line in enumerate(read_lines(path), start=1):
        if line:
            yield number, line.split()


def _find(path: Path, name: str) -> Path | None:
    return next((path / place / name for place in _PLACES if (path / place / name).is_file()), None)


def _file(path: Path, name: str) -> Path:
    found = _find(path, name)
    if found is None:
        raise DataError(f"{path} lacks {name}; put it there as it is released (docs/datasets.md).")
    return found


def _folder(path: Path, name: str) -> Path:
    """The folder of pictures; some archives hold it twice, one in the other."""
    for place in _PLACES:
        folder = path / place / name
        if folder.is_dir():
            return folder / name if (folder / name).is_dir() else folder
    raise DataError(f"{path} lacks the folder {name} with the pictures.")
