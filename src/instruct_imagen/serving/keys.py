"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

MIN_KEY_CHARS = 16
_MAX_CALLERS = 10_000


class KeyFileError(UserError):
    """API keys that cannot be used."""


@dataclass(frozen=True)
class ApiKeys:
    """Keys by name; only their hashes are kept.

    Attributes:
        hashes: (name, SHA-256 of the key).
    """

    hashes: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Keys of a file: one a line, `KEY` or `NAME KEY`; empty lines and those that begin with # are skipped.

        Raises:
            KeyFileError: unreadable, empty, or with a short key or a name twice.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"the key file {path} cannot be read; check the path and that it is text") from error
        return cls.of([line for line in lines if line.strip() and not line.lstrip().startswith("#")], str(path))

    @classmethod
    def of(cls, entries: list[str], source: str) -> ApiKeys:
        """Keys as `KEY` or `NAME KEY`; `source` is named in errors.

        Raises:
            KeyFileError: none, a short one, or a name twice.
        """
        found: dict[str, bytes] = {}
        for number, entry in enumerate(entries, start=1):
            *names, key = entry.split()
            name = names[0] if names else f"key-{number}"
            if len(names) > 1:
                raise KeyFileError(f"entry {number} of {source} has {len(names) + 1} words; write KEY or NAME KEY")
            if len(key) < MIN_KEY_CHARS:
                raise KeyFileError(f"key {name!r} of {source} has less than {MIN_KEY_CHARS} characters; make it longer")
            if name in found:
                raise KeyFileError(f"the name {name!r} stands twice in {source}; give every key its own")
            found[name] = _hash(key)
        if not found:
            raise KeyFileError(f"{source} holds no key")
        return cls(tuple(found.items()))

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def name_of(self, key: str) -> str | None:
        """Name of a key; all are compared, each in constant time, so that the time tells nothing."""
        wanted, name = _hash(key), None
        for known, digest in self.hashes:
            if hmac.compare_digest(digest, wanted):
                name = known
        return name


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class RateLimiter:
    """A bucket of pictures for every caller: full it holds a minute's worth, and it fills at the same rate.

    Args:
        per_minute: pictures per minute and caller; None: no limit.
    """

    def __init__(self, per_minute: float | None):
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, num_images: int, now: float | None = None) -> float:
        """Takes `num_images` from the caller's bucket.

        Returns:
            0, or the seconds after which there would be enough; then nothing is taken.
        """
        if self._per_minute is None:
            return 0.0
        now = time.monotonic() if now is None else now
        level, since = self._buckets.pop(caller, (self._per_minute, now))
        level = min(self._per_minute, level + (now - since) * self._per_minute / 60)
        # More than a bucket holds is let through when it is full, or it would never be.
        enough = level >= min(num_images, self._per_minute)
        self._buckets[caller] = (level - num_images if enough else level, now)
        if len(self._buckets) > _MAX_CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (min(num_images, self._per_minute) - level) * 60 / self._per_minute
