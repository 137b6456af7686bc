"""Pairs out of tars: img2dataset's and any other webdataset, whole, damaged, cut off, or in no order.

A tar is gone through twice: first its headers alone, from one to the next, which gives an index of the members;
then each sample is read where the index says it lies. So at most one sample is in memory, a sample is whole
wherever its members stand, and damage is known by its place before anything is read.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from .pair_captions import Record, find_words
from .pair_parquet import Sidecar
from .pair_record import (
    PICTURE_SUFFIXES,
    READ,
    Pair,
    SampleError,
    Unit,
    check_picture_size,
    check_text_size,
    count_pairs,
    printable,
)
from .report import Report

_BLOCK = tarfile.BLOCKSIZE
_MAX_SIZE = 1 << 50  # of a member; a header that says more is damaged
_MAX_EXTENSION_BYTES = 1 << 20  # of the block that holds a long name
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_NO_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_PAX, _PAX_GLOBAL = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE), tarfile.XGLTYPE
_GNU_NAME, _GNU_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_EXTENSIONS = (*_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK)
_GZIP_MAGIC = b"\x1f\x8b"
_TEXT_SUFFIXES = ("txt", "json")


@dataclass(frozen=True)
class Member:
    """One member of a tar: its name, where its data begins, how many bytes it has, and whether it is a file."""

    name: str
    offset: int
    size: int
    is_file: bool


@dataclass
class TarIndex:
    """What the headers of a tar say.

    Attributes:
        members: those that the tar holds whole.
        has_header: at least one header is good, so it is a tar.
        num_gaps: stretches of something that is no header where one should be.
        is_cut: the tar ends inside a member, or without its end mark.
        last_name: the member that the cut is in or behind.
    """

    members: list[Member] = field(default_factory=list)
    has_header: bool = False
    num_gaps: int = 0
    is_cut: bool = False
    last_name: str = ""


def index_tar(file: BinaryIO) -> TarIndex:
    """Goes from header to header, and over damage on to the next good one.

    Python's tarfile ends without a word at the first bad header, which loses all that follows. Here the blocks after
    a bad header are tried one by one; a header's checksum tells it from a picture's data. Blocks of zeros are passed
    over, so tars that were joined are read whole; what follows an end mark and is no header is no damage.
    """
    index = TarIndex()
    file_size = file.seek(0, os.SEEK_END)
    position, renames = 0, dict[str, str]()
    ended = False  # whether the last thing seen was an end mark
    gap: bool | None = None  # inside a gap: whether an end mark stood before it
    while position + _BLOCK <= file_size:
        file.seek(position)
        block = file.read(_BLOCK)
        position += _BLOCK
        header = _parse_header(block)
        if header is None:
            renames = {}
            if not block.strip(b"\0"):
                ended = True
            elif gap is None:
                gap = ended
            continue
        index.num_gaps += gap is not None
        index.has_header, gap, ended = True, None, False
        size = header.size
        if header.type in _EXTENSIONS:
            renames = renames | _read_extension(file, header)
        else:
            size = 0 if header.type in _NO_DATA else _number(renames.get("size", ""), size)
            index.last_name = renames.get("path", header.name)
            renames = {}
            if position + size <= file_size:
                index.members.append(Member(index.last_name, position, size, header.type in _REGULAR))
        position += -(-size // _BLOCK) * _BLOCK
    index.num_gaps += gap is False
    index.is_cut = not ended
    return index


def _parse_header(block: bytes) -> tarfile.TarInfo | None:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return None
    return header if 0 <= header.size < _MAX_SIZE else None


def _read_extension(file: BinaryIO, header: tarfile.TarInfo) -> dict[str, str]:
    """What a header says about the next one: a longer "path", or a "size"; `file` stands at its data."""
    if header.size > _MAX_EXTENSION_BYTES or header.type in (_PAX_GLOBAL, _GNU_LINK):
        return {}
    data = file.read(header.size)
    if header.type == _GNU_NAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "backslashreplace")}
    found = {}
    while data:  # records "LENGTH KEY=VALUE\n", where the length counts the whole record
        digits = data.partition(b" ")[0]
        length = _number(digits.decode("ascii", "replace"), 0)
        if length <= len(digits) + 1:
            break
        key, _, value = data[len(digits) + 1 : length - 1].partition(b"=")
        found[key.decode("utf-8", "backslashreplace")] = value.decode("utf-8", "backslashreplace")
        data = data[length:]
    return {key: found[key] for key in ("path", "size") if key in found}


def _number(digits: str, otherwise: int) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else otherwise


@dataclass
class _Sample:
    """Members of one name up to the last dot; `members` by what follows it, in lower case."""

    stem: str
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def picture(self) -> Member | None:
        return next((member for suffix, member in self.members.items() if suffix in PICTURE_SUFFIXES), None)

    @property
    def has_text(self) -> bool:
        return any(suffix in self.members for suffix in _TEXT_SUFFIXES)


def _split(name: str) -> tuple[str, str] | None:
    """What stands before the last dot, and what after it, of a name that belongs to a sample."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    stem, dot, suffix = "/".join(parts).rpartition(".")
    suffix = suffix.lower()
    if not dot or not (suffix in PICTURE_SUFFIXES or suffix in _TEXT_SUFFIXES):
        return None
    if parts[-1].startswith(".") or "__MACOSX" in parts:  # what file managers leave
        return None
    return stem, suffix


def _group(members: list[Member]) -> list[_Sample]:
    """Samples in the order of their first members; a name that comes again begins another sample of the same key."""
    latest: dict[str, _Sample] = {}
    samples = []
    for member in members:
        split = _split(member.name)
        if split is None:
            continue
        stem, suffix = split
        sample = latest.get(stem)
        if sample is None or suffix in sample.members:
            sample = latest[stem] = _Sample(stem)
            samples.append(sample)
        sample.members[suffix] = member
    return [sample for sample in samples if not _is_extra(sample, latest)]


def _is_extra(sample: _Sample, samples: dict[str, _Sample]) -> bool:
    """Whether it is only a further part of another sample, as webdataset has it: `KEY.mask.png` beside `KEY.jpg`."""
    folder, slash, name = sample.stem.rpartition("/")
    whole = samples.get(folder + slash + name.partition(".")[0])
    is_pair = sample.picture is not None and sample.has_text
    return not is_pair and whole is not None and whole is not sample and whole.picture is not None and "." in name


def read_tar(unit: Unit, report: Report) -> Iterator[Pair]:
    """The pairs of a tar; see `pairs.read_unit`."""
    tar = unit.paths[0]
    if not tar.is_file():  # opening a pipe would wait for ever
        report.damaged(READ, "not a regular file", unit.place(tar))
        return
    try:
        file = tar.open("rb")
    except OSError:
        report.damaged(READ, "file cannot be read", unit.place(tar))
        return
    with file:
        index = _checked_index(file, unit.place(tar), report)
        if index is not None:
            yield from count_pairs(_samples(unit, file, index, report), report)


def _checked_index(file: BinaryIO, place: str, report: Report) -> TarIndex | None:
    """The index; counts what is wrong with the tar as a whole, and gives None if there is nothing to read in it."""
    try:
        magic = file.read(2)
        index = index_tar(file)
    except OSError:
        report.damaged(READ, "file cannot be read", place)
        return None
    if magic == b"" or (magic == _GZIP_MAGIC and not index.has_header):
        report.damaged(READ, "compressed tar" if magic else "empty file", place)
        return None
    if not index.has_header and (index.is_cut or index.num_gaps):
        report.damaged(READ, "not a tar", place)
        return None
    for _ in range(index.num_gaps):
        report.damaged(READ, "damaged tar header", place)
    if index.is_cut:
        report.damaged(READ, "tar cut off", f"{place}: {printable(index.last_name)}")
    return index


def _samples(unit: Unit, file: BinaryIO, index: TarIndex, report: Report) -> Iterator[tuple[str, Callable[[], Pair]]]:
    sidecar = Sidecar(unit, unit.paths[1], report) if len(unit.paths) > 1 else None
    at_the_cut = _split(index.last_name) if index.is_cut else None
    for sample in _group(index.members):
        read = partial(_read_sample, unit, file, sample, sidecar)
        if at_the_cut and at_the_cut[0] == sample.stem:
            try:
                read = partial(_same, read())
            except SampleError:  # what the cut has left incomplete is counted already, by the cut
                continue
        yield unit.place(unit.paths[0], sample.stem), read


def _same(pair: Pair) -> Pair:
    return pair


def _read_sample(unit: Unit, file: BinaryIO, sample: _Sample, sidecar: Sidecar | None) -> Pair:
    if ".." in sample.stem.split("/"):
        raise SampleError("path leaves the folder")
    record = Record.parse(partial(_read_text, file, sample.members.get("json")))
    record.check_status()
    picture = sample.picture
    if picture is None:
        raise SampleError("no picture")
    if not picture.is_file:
        raise SampleError("not a regular file")
    check_picture_size(picture.size)
    in_sidecar: Callable[[], Record] = partial(sidecar.record, sample.stem.rpartition("/")[2]) if sidecar else Record
    words = find_words(record, partial(_read_text, file, sample.members.get("txt")), in_sidecar)
    key = f"{unit.name}/{printable(sample.stem)}"
    return Pair(key, _read_member(file, picture), words.caption, words.url)


def _read_text(file: BinaryIO, member: Member | None) -> bytes | None:
    if member is None or not member.is_file:
        return None
    check_text_size(member.size)
    return _read_member(file, member)


def _read_member(file: BinaryIO, member: Member) -> bytes:
    try:
        file.seek(member.offset)
        data = file.read(member.size)
    except OSError:
        raise SampleError("file cannot be read") from None
    if len(data) < member.size:  # somebody shortens the tar at this moment
        raise SampleError("file cannot be read")
    return data
