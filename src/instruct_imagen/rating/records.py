"""What travels between the parts of the rating tool, and the names that are allowed in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UserError

LEVELS = (0.0, 0.5, 1.0)  # of SC and of PQ (§4)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_NAME = re.compile(r"[\w(][\w .+()@=-]{0,63}")
_UNSAFE = re.compile(r"[^\w.+=-]+")


class RatingError(UserError):
    """Something about a study that its owner can mend; the message says what."""


@dataclass(frozen=True)
class Rating:
    """What one person said of one picture.

    Attributes:
        task: the task of the instruction.
        uid: names the instruction within its task.
        method: what drew the picture.
        rater: who rated it.
        sc: semantic consistency, one of LEVELS: how far the least satisfied condition is met (§4).
        pq: perceptual quality, one of LEVELS.
    """

    task: str
    uid: str
    method: str
    rater: str
    sc: float
    pq: float

    @property
    def overall(self) -> float:
        """O = √(SC · PQ), 0..1 (§4)."""
        return (self.sc * self.pq) ** 0.5


def check_name(name: str, what: str) -> str:
    """A name that may become a folder or a column.

    Raises:
        RatingError: it is empty, long, or holds something that a file name should not.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise RatingError(
            f"{what} {name!r} must be 1 to 64 letters, digits, blanks and any of . _ + - = @ ( ), and begin with a "
            "letter or digit; rename it."
        )
    return name


def bare(name: str) -> str:
    """A file's name without the suffix of a picture: "sample_0.jpg" and "sample_0.png" are one."""
    lowered = name.lower()
    suffix = next((suffix for suffix in PICTURE_SUFFIXES if lowered.endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def uid_of(task: str, key: str) -> str:
    """An example's key as the name of a picture within its task: "mask/0" and "mask-0" of the task mask are "0.png".

    Raises:
        RatingError: nothing is left of it, or it is too long.
    """
    uid = _UNSAFE.sub("_", key.removeprefix(f"{task}/").removeprefix(f"{task}-")).strip("._")
    if not bare(uid).strip("._") or len(uid) > 190:
        raise RatingError(f"The key {key[:80]!r} of task {task!r} cannot name a file; rename it.")
    return uid if uid.lower().endswith(PICTURE_SUFFIXES) else f"{uid}.png"
