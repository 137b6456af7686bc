"""Captions and addresses of web corpora: which field holds them, and clean text out of whatever bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from .pair_record import SampleError

# Field and column names, in the order in which they are tried; upper and lower case are the same.
CAPTION_NAMES = ("caption", "text", "prompt")
URL_NAMES = ("url",)

MAX_CAPTION_CHARS = 1_000  # several times what any text encoder of this field reads
MAX_URL_CHARS = 2_048

# Control characters that are not white space, halves of surrogate pairs, and byte order marks.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff]")

_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes as surrogateescape has them


def clean_text(text: str) -> str:
    """`text` without what `_UNWANTED` names, each run of white space as one space, none at the ends."""
    return " ".join(_UNWANTED.sub("", text).split())


def clean_caption(value: object) -> str:
    """A caption out of what a corpus holds in its place; empty if there is none.

    Args:
        value: text, bytes in UTF-8 (a byte order mark is allowed), or a list of captions, of which the first that
            is not empty counts; anything else is no caption.

    Returns:
        Clean text (`clean_text`), cut at a space to at most MAX_CAPTION_CHARS.

    Raises:
        SampleError: bytes that are not UTF-8.
    """
    if isinstance(value, (list, tuple)):
        return _first_good(partial(clean_caption, each) for each in value if isinstance(each, (str, bytes)))
    if isinstance(value, bytes):
        try:
            value = value.decode()  # `clean_text` removes a byte order mark
        except UnicodeDecodeError:
            raise SampleError("caption is not UTF-8") from None
    if not isinstance(value, str):
        return ""
    text = clean_text(value)
    if len(text) > MAX_CAPTION_CHARS:
        text = text[: MAX_CAPTION_CHARS + 1].rpartition(" ")[0] or text[:MAX_CAPTION_CHARS]
    return text


@dataclass(frozen=True)
class Record:
    """What is written about a picture beside it: a JSON object, the row of a table, or nothing.

    Attributes:
        content: values by field name, all names in lower case.
        fault: why the record cannot be read, or empty.
    """

    content: Mapping[str, object] = field(default_factory=dict)
    fault: str = ""

    @classmethod
    def of(cls, content: Mapping[str, object]) -> Record:
        """A record of fields with names in any case; of those that differ in case alone, the first counts."""
        lower: dict[str, object] = {}
        for name, value in content.items():
            lower.setdefault(name.lower(), value)
        return cls(lower)

    @classmethod
    def parse(cls, read: Callable[[], bytes | None]) -> Record:
        """A JSON object, or none; damage becomes the record's `fault`, since the caption may stand elsewhere."""
        try:
            data = read()
            content = {} if data is None else _parse_json(data)
        except SampleError as error:
            return cls(fault=error.reason)
        except (ValueError, RecursionError):
            return cls(fault="broken JSON")
        return cls.of(content) if isinstance(content, dict) else cls(fault="broken JSON")

    def check_status(self) -> None:
        """Raises SampleError for a picture that img2dataset did not get; the corpus is as it should be."""
        status = self.content.get("status")
        if isinstance(status, str) and status != "success":
            raise SampleError("status is not success", as_intended=True)

    def caption(self) -> str:
        """The first caption that is not empty, or an empty text.

        Raises:
            SampleError: there is none, and the record or a field of it is damaged.
        """
        if self.fault:
            raise SampleError(self.fault)
        return _first_good(partial(clean_caption, self.content.get(name)) for name in CAPTION_NAMES)

    def url(self) -> str:
        """The address, or an empty text."""
        for name in URL_NAMES:
            value = self.content.get(name)
            if isinstance(value, str) and len(url := clean_text(value)) <= MAX_URL_CHARS:
                return url
        return ""


@dataclass(frozen=True)
class Words:
    """A caption, never empty, and an address, which may be."""

    caption: str
    url: str


def find_words(
    record: Record, text: Callable[[], bytes | None] = lambda: None, sidecar: Callable[[], Record] = Record
) -> Words:
    """The caption of a text file, or else of the record, or else of the sidecar; the address of record or sidecar.

    Args:
        record: what is written beside the picture.
        text: reads the caption file, if there is one.
        sidecar: what img2dataset's parquet says; asked only for what is not found before.

    Raises:
        SampleError: there is no caption; the reason is the first damage found, if any.
    """
    caption = _first_good((lambda: clean_caption(text()), record.caption, lambda: sidecar().caption()))
    if not caption:
        raise SampleError("no caption")
    return Words(caption, record.url() or sidecar().url())


def _parse_json(data: bytes) -> object:
    """JSON in which text that is not UTF-8 becomes bytes: the other fields may still be good.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested without end.
    """
    try:
        return json.loads(data)
    except UnicodeDecodeError:
        content = json.loads(data.decode("utf-8", "surrogateescape"))
    return {name: _undecoded(value) for name, value in content.items()} if isinstance(content, dict) else content


def _undecoded(value: object) -> object:
    """The bytes of a text that holds undecoded ones; anything else as it is."""
    if not isinstance(value, str) or not _UNDECODED.search(value):
        return value
    return value.encode("utf-8", "surrogateescape")


def _first_good(attempts: Iterable[Callable[[], str]]) -> str:
    """The first text that is not empty; if there is none, raises the first error met on the way."""
    fault: SampleError | None = None
    for attempt in attempts:
        try:
            if found := attempt():
                return found
        except SampleError as error:
            fault = fault or error
    if fault is not None:
        raise fault
    return ""
