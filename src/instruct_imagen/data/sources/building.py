"""From pictures and words to examples: what every source shares."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from ...errors import UserError
from ...instruction import Instruction, Reference
from ...pictures import fit_square, load_image
from ..example import Example
from ..report import Report
from ..templates import fill, reference_text, templates
from .options import SourceOptions
from .reading import inside

MAX_SIDE_PX = 1024  # of stored pictures where no size is asked for: no network here makes larger ones
MIN_SIDE_PX = 32
NUM_CACHED = 16  # pictures
_MAX_KEY_CHARS = 80  # a tar member's name has 100, with ".target.png"
_OPENERS = frozenset(  # words that begin a caption with a capital only because it is a sentence
    "a an the this that these those there its his her two three four five six seven eight nine ten several some many "
    "few one another people person man men woman women boy girl boys girls child children couple group close-up "
    "closeup photo photograph picture image view portrait in on at with inside outside near large small big little "
    "young old black white red green blue yellow brown".split()
)
_templates = cache(templates)
_Option = TypeVar("_Option")


@dataclass(frozen=True)
class Shown:
    """What one marker names.

    Attributes:
        kind: of reference, see `templates.reference_text`.
        images: one or more RGB pictures under the marker.
        named: words for the reference's text, such as {"subject": "fox"}.
    """

    kind: str
    images: tuple[Image.Image, ...]
    named: Mapping[str, str] = field(default_factory=dict)


class Tally:
    """Counts what a source drops, under the task's name.

    Args:
        task: name of the step.
        report: receives the counts.
    """

    def __init__(self, task: str, report: Report) -> None:
        self.task, self.report = task, report

    def damaged(self, reason: str, place: object) -> None:
        """Counts something that should not be."""
        self.report.damaged(self.task, reason, str(place))

    def drop(self, reason: str, place: object) -> None:
        """Counts something that is left out as intended."""
        self.report.drop(self.task, reason, str(place))


class Builder(Tally):
    """Builds the examples of one source, or of its part of them, and counts what it keeps and drops.

    A source first lists its records (manifests, groups, people), which every part does in full, then takes those that
    are its own (`mine`) and makes examples of them. What is wrong in the listing goes to `listing`, which counts in the
    first part alone.

    Args:
        task: whose templates are used.
        report: receives the counts.
        options: see `SourceOptions`.
    """

    def __init__(self, task: str, report: Report, options: SourceOptions) -> None:
        super().__init__(task, report)
        self.options = options
        self.listing = Tally(task, report if options.part == 0 else Report(report.strict))
        self._bad: set[tuple[Path, str]] = set()
        # the pictures of a group are targets and references in turn
        self._fitted = lru_cache(maxsize=NUM_CACHED)(self._read_fitted)

    def mine(self, records: Iterable[_Option]) -> Iterator[_Option]:
        """Those of a listing's records that this part makes examples of."""
        return islice(records, self.options.part, None, self.options.num_parts)

    def turns(self, *words: object) -> Iterator[tuple[str, np.random.Generator]]:
        """The keys of the examples that are made of one target, each with its own source of chance.

        Args:
            words: what makes the target's key its own in the corpus.
        """
        for turn in range(self.options.examples_per_picture):
            key = fit_key(self.task, *words, turn)
            yield key, generator(self.options.seed, key)

    def read(self, folder: Path, name: object) -> Image.Image | None:
        """A picture as it is, RGB; None, and counted once, if it leaves the folder, is missing, damaged or tiny.

        Args:
            folder: where it must lie.
            name: a path in the folder; from the data, so it may be anything.
        """
        if (folder, str(name)) in self._bad:
            return None
        path = inside(folder, name)
        if path is None:
            self.damaged("path leaves its folder", name)
        image = None if path is None else self.decode(path, name)
        if image is None:
            self._bad.add((folder, str(name)))
        return image

    def decode(self, source: Path | bytes, place: object) -> Image.Image | None:
        """A picture from its path or bytes, RGB; None, and counted, if it cannot be used."""
        if isinstance(source, Path) and not os.path.isfile(
            source
        ):  # any name will do; Path.is_file raises for long ones
            self.damaged("picture is missing", place)
            return None
        try:
            image = load_image(source)
        except UserError:
            image = None
        if image is None:
            self.damaged("picture cannot be read", place)
            return None
        return self.usable(image, place)

    def usable(self, image: Image.Image, place: object) -> Image.Image | None:
        """The picture, unless it is too small, which is counted."""
        if min(image.size) >= MIN_SIDE_PX:
            return image
        self.drop("picture is too small", place)
        return None

    def picture(self, folder: Path, name: object) -> Image.Image | None:
        """`read`, then `fitted`; the last few are remembered."""
        return self._fitted(folder, name) if isinstance(name, str) else self._read_fitted(folder, name)

    def _read_fitted(self, folder: Path, name: object) -> Image.Image | None:
        image = self.read(folder, name)
        return None if image is None else self.fitted(image)

    def fitted(self, image: Image.Image) -> Image.Image:
        """A picture in the size that the options ask for; pictures of one shape stay aligned."""
        if self.options.size_px is not None:
            return fit_square(image, self.options.size_px)
        if max(image.size) <= MAX_SIDE_PX:
            return image
        scale = MAX_SIDE_PX / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    def fitted_mask(self, mask: np.ndarray) -> Image.Image:
        """Bool [H, W] as a white on black RGB picture in that size."""
        grey = self.fitted(Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")).convert("L")
        return grey.point(lambda value: 255 if value > 127 else 0).convert("RGB")

    def finish(
        self,
        key: str,
        rng: np.random.Generator,
        target: Image.Image,
        slots: Mapping[str, str],
        shown: Sequence[Shown] = (),
    ) -> Iterator[Example]:
        """The example, or nothing if its words cannot be used, which is counted.

        Args:
            key: its own in the data set.
            rng: picks the template and the references' wordings.
            target: RGB.
            slots: what the task's templates want.
            shown: what the markers 1, 2, ... name.
        """
        try:
            text = fill(pick(rng, _templates(self.task)), **slots)
            references = []
            for marker, one in enumerate(shown, start=1):
                words = reference_text(one.kind, rng, **one.named)
                references += [Reference(image, words, marker) for image in one.images]
            example = Example(Instruction(text, tuple(references)), target, self.task, key)
        except UserError:
            example = None
        if example is None:
            self.damaged("text cannot be used", key)
            return
        self.report.keep(self.task)
        yield example


def pick(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def generator(seed: int, words: str) -> np.random.Generator:
    """A source of chance that depends on the seed and the words alone, not on the order of reading."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big")])


def fit_key(*words: object) -> str:
    """A key of letters, digits, "-" and "_" that a shard can hold; other words give another key."""
    text = "-".join(str(word) for word in words)
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", text)
    if safe == text and len(text) <= _MAX_KEY_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{safe[: _MAX_KEY_CHARS - 11]}-{digest}"


def as_phrase(text: str) -> str:
    """A caption as the templates want it: single spaces, no full stop, "a man ..." rather than "A man ...".

    Only words that a sentence begins with are made lower case; a name keeps its capital.
    """
    text = " ".join(text.split()).rstrip(" .")
    first = text.split(" ", 1)[0].rstrip(",")
    if first.lower() in _OPENERS and first[1:] == first[1:].lower():
        return text[0].lower() + text[1:]
    return text
