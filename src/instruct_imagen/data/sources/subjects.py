"""General subjects (Table 1: SuTI's groups): several pictures of one thing, one of them the target."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ...world import GENERIC_WORDS, with_article
from ..example import Example
from ..report import DataError, Report
from ..world_tasks import GENERIC_SHARE
from .building import Builder, Shown, Tally, as_phrase, pick
from .groups import Group, Member, others, read_groups, targets
from .options import SourceOptions
from .reading import inside, picture_files, read_json, read_lines

LAYOUT = (
    "The DreamBooth dataset (dataset/SUBJECT/00.jpg ... and dataset/prompts_and_classes.txt); CustomConcept101 "
    "(dataset.json beside benchmark_dataset/CATEGORY_NAME/*.jpg); or groups as SuTI gathers them, a .jsonl file with "
    'one group a line: {"subject": "teapot", "images": [{"image": "a.jpg", "caption": "a teapot on a table"}, ...]}.'
)
MOST_REFERENCES = 3  # as in the rendered world
_CLASSES_FILE = "prompts_and_classes.txt"
_CLASS_CAPTIONS = (  # where nothing tells what the target shows but the subject; {a} has an article if it needs one
    "{a}",
    "a photo of {a}",
    "a picture of {a}",
    "another photo of {the}",
    "a new picture of {the}",
    "{the} once more",
    "{the} in another photo",
    "{the} in a different place",
)


def subject_examples(path: Path, report: Report, options: SourceOptions) -> Iterator[Example]:
    """One to three pictures of a subject under marker 1, another picture of it as the target.

    Raises:
        DataError: nothing at the path is in a known layout.
    """
    builder = Builder("subject", report, options)
    for group in builder.mine(_groups(path, builder.listing)):
        for place, target in targets(group, builder):
            for key, rng in builder.turns(group.key, place):
                images = others(group, place, rng, builder, MOST_REFERENCES)
                if not images:
                    continue
                slots = _slots(group, group.members[place].caption, rng)
                shown = Shown("subject", images, {"subject": slots["subject"]})
                yield from builder.finish(key, rng, target, slots, [shown])


def _slots(group: Group, caption: str, rng: np.random.Generator) -> dict[str, str]:
    """The subject's name, or half the time a word that fits everything, so that the reference must be read."""
    if caption:
        return {"caption": as_phrase(caption), "subject": group.words or pick(rng, GENERIC_WORDS)}
    word = pick(rng, GENERIC_WORDS) if not group.words or rng.random() < GENERIC_SHARE else group.words
    words = pick(rng, _CLASS_CAPTIONS).format(a=with_article(word), the=f"the {word}")
    return {"caption": words, "subject": word}


def _groups(path: Path, listing: Tally) -> Iterator[Group]:
    if path.is_file():
        return read_groups(path, "subject", listing)
    for folder in (path, path / "dataset"):
        if (folder / _CLASSES_FILE).is_file():
            return _dreambooth(folder, listing)
    if (path / "dataset.json").is_file():
        return _custom_concept(path, listing)
    raise DataError(f"{path} holds neither {_CLASSES_FILE} nor dataset.json, and is no .jsonl file of groups.")


def _dreambooth(folder: Path, listing: Tally) -> Iterator[Group]:
    lines = read_lines(folder / _CLASSES_FILE)
    header = "subject_name,class"
    if header not in lines:
        raise DataError(f"{folder / _CLASSES_FILE} lacks the line {header!r} that the classes follow.")
    for number, line in enumerate(lines[lines.index(header) + 1 :]):
        if not line:  # the prompts follow
            return
        name, _, noun = line.partition(",")
        yield from _folder_group(folder, name, noun.strip(), number, listing)


def _custom_concept(path: Path, listing: Tally) -> Iterator[Group]:
    concepts = read_json(path / "dataset.json")
    if not isinstance(concepts, list):
        raise DataError(f"{path / 'dataset.json'} is no list of concepts.")
    for number, concept in enumerate(concepts):
        values = concept if isinstance(concept, Mapping) else {}
        name, noun = values.get("instance_data_dir"), values.get("class_prompt")
        if isinstance(name, str) and isinstance(noun, str):
            yield from _folder_group(path, name, noun.strip(), number, listing)
        else:
            listing.damaged("concept lacks its folder or class", f"dataset.json, concept {number}")


def _folder_group(root: Path, name: str, noun: str, number: int, listing: Tally) -> Iterator[Group]:
    """The group of all pictures in one folder, or nothing, counted."""
    folder = inside(root, name)
    if folder is None:
        listing.damaged("path leaves its folder", name)
    elif not os.path.isdir(folder):  # any name will do; Path.is_dir raises for long ones
        listing.damaged("subject has no folder", name)
    elif not noun:
        listing.damaged("subject has no class", name)
    else:
        yield Group(
            f"{folder.name}-{number}", folder, noun, tuple(Member(picture) for picture in picture_files(folder))
        )
