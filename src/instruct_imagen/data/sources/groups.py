"""Pictures that have something in common, a subject or a style: one is the target, others its references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .building import Builder, Tally
from .reading import read_records


@dataclass(frozen=True)
class Member:
    """One picture of a group.

    Attributes:
        name: its path in the group's folder.
        caption: as found; empty if there is none.
    """

    name: str
    caption: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures of one subject, or in one style.

    Attributes:
        key: its own in the corpus.
        folder: that the names begin at.
        words: names what the pictures have in common, such as "teapot"; may be empty.
        members: the pictures.
    """

    key: str
    folder: Path
    words: str
    members: tuple[Member, ...]


def read_groups(path: Path, words_key: str, listing: Tally) -> Iterator[Group]:
    """Groups of a JSONL file, one a line: `{WORDS_KEY: "teapot", "images": [{"image": PATH, "caption": TEXT}, ...]}`.

    Paths begin at the file's folder. The words and the captions may be left out.
    """
    for number, content in read_records(path, listing.report, listing.task):
        images = content.get("images")
        if not isinstance(images, list):
            listing.damaged("group has no list of images", f"{path.name}:{number}")
            continue
        members = []
        for entry in images:
            member = _member(entry)
            if member is None:
                listing.damaged("image entry is no object with a path", f"{path.name}:{number}")
            else:
                members.append(member)
        words = content.get(words_key, "")
        if not isinstance(words, str):
            listing.damaged(f"{words_key} is no text", f"{path.name}:{number}")
            continue
        yield Group(f"{path.stem}-{number}", path.parent, words.strip(), tuple(members))


def targets(group: Group, builder: Builder) -> Iterator[tuple[int, Image.Image]]:
    """The pictures of a group that can be used, with their places; a group of one is counted and left out."""
    if len(group.members) < 2:
        builder.drop("group has fewer than two pictures", group.key)
        return
    for place, member in enumerate(group.members):
        image = builder.picture(group.folder, member.name)
        if image is not None:
            yield place, image


def others(group: Group, place: int, rng: np.random.Generator, builder: Builder, most: int) -> tuple[Image.Image, ...]:
    """One to `most` other pictures of the group than that at `place`; none if none can be used, which is counted."""
    wanted = 1 + int(rng.integers(most))
    images: list[Image.Image] = []
    for other in rng.permutation(len(group.members)):
        if len(images) == wanted:
            break
        if other != place and group.members[other].name != group.members[place].name:
            image = builder.picture(group.folder, group.members[other].name)
            images += [] if image is None else [image]
    if not images:
        builder.drop("no other picture in the group", group.key)
    return tuple(images)


def _member(entry: Any) -> Member | None:
    if isinstance(entry, str) and entry:
        return Member(entry)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
        return None
    caption = entry.get("caption", "")
    return Member(entry["image"], caption.strip() if isinstance(caption, str) else "")
