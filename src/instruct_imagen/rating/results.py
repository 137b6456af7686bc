"""The pictures of a method, from a folder or a zip archive that may have come from anybody.

Nothing of an archive is unpacked under its own names: members are read one by one, counted while they are read, opened
as pictures, and written anew. So a path that climbs out of its folder, a link, a bomb or a program ends here.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from PIL import Image

from ..errors import InstructionError
from ..pictures import load_image
from .records import PICTURE_SUFFIXES, RatingError, bare, uid_of

MAX_FILES = 100_000
MAX_FILE_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 16 * 2**30
MAX_RATIO = 100  # pictures are packed already; what shrinks more than this is no picture
RATIO_FROM_BYTES = 2**20

_IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


class ResultFiles(Protocol):
    """Named files."""

    @property
    def place(self) -> str:
        """What to call them in messages."""
        ...

    def names(self) -> Sequence[str]:
        """Their paths, with "/", relative to the top."""
        ...

    def read(self, name: str) -> bytes:
        """One of them."""
        ...


class FolderResults:
    """Files in a folder; links out of it are refused.

    Args:
        root: the folder.
        files: path by name, if it is not simply everything in the folder.
    """

    def __init__(self, root: Path, files: Mapping[str, Path] | None = None) -> None:
        self.root = root
        if files is None:
            files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if not path.is_dir()}
        self._files = {name: path for name, path in files.items() if not _is_ignored(name)}
        if len(self._files) > MAX_FILES:
            raise RatingError(f"{root} holds more than {MAX_FILES:,} files; name the folder of one method.")

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def names(self) -> Sequence[str]:
        """Files at any depth."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """One file.

        Raises:
            RatingError: it is a link out of the folder, no file, too large or unreadable.
        """
        path = self._files[name]
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise RatingError(f"{path} is a link out of {self.root}; put the picture itself there.")
        try:
            if not path.is_file():
                raise RatingError(f"{path} is no file; remove it.")
            if path.stat().st_size > MAX_FILE_BYTES:
                raise RatingError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB; it is no picture to rate.")
            return path.read_bytes()
        except OSError as error:
            raise RatingError(f"{path} cannot be read ({error.strerror}).") from error


class ZipResults:
    """Files in a zip archive.

    Args:
        path: the archive.
        place: what to call it in messages; the path by default.

    Raises:
        RatingError: it is damaged, or holds what no archive of pictures holds.
    """

    def __init__(self, path: Path, place: str = "") -> None:
        self._place = place or str(path)
        self._left = MAX_TOTAL_BYTES
        try:
            self._archive = zipfile.ZipFile(path)
            members = self._archive.infolist()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise RatingError(f"{self.place} is not a zip archive that can be read ({error}); pack it anew.") from error
        if len(members) > MAX_FILES:
            raise RatingError(f"{self.place} holds more than {MAX_FILES:,} files; pack the pictures of one method.")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            self._check(member)
            if member.is_dir() or _is_ignored(member.filename):
                continue
            if member.filename in self._members:
                raise RatingError(f"{self.place} holds {member.filename!r} twice; keep one.")
            self._members[member.filename] = member

    @property
    def place(self) -> str:
        """The archive."""
        return self._place

    def names(self) -> Sequence[str]:
        """Members that are files."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """One member, counted while it is unpacked: what its header says of its size is not believed.

        Raises:
            RatingError: it is damaged or too large.
        """
        member = self._members[name]
        try:
            with self._archive.open(member) as file:
                data = file.read(min(MAX_FILE_BYTES, self._left) + 1)
        except Exception as error:  # zlib, lzma, struct, EOF, ... : archives are damaged in many ways
            raise RatingError(f"{self.place}: {name!r} is damaged ({error}); pack it anew.") from error
        self._left -= len(data)
        if len(data) > MAX_FILE_BYTES or self._left < 0:
            raise RatingError(f"{self.place}: {name!r} unpacks to more than is allowed; leave it out.")
        return data

    def _check(self, member: zipfile.ZipInfo) -> None:
        """Refuses a member by its header."""
        name, where = member.filename, f"{self.place}: {member.filename[:100]!r}"
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or any(c in name for c in "\\:\0"):
            raise RatingError(f"{where} does not lie inside the archive; pack the folder with plain relative names.")
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RatingError(f"{where} is a link or a device; pack the picture itself.")
        if member.flag_bits & 0x1:
            raise RatingError(f"{where} is encrypted; pack the pictures without a password.")
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > MAX_FILE_BYTES or (member.file_size > RATIO_FROM_BYTES and ratio > MAX_RATIO):
            raise RatingError(f"{where} unpacks to {member.file_size:,} bytes; it is no picture to rate.")


@dataclass(frozen=True)
class MethodResults:
    """All pictures of one method.

    Attributes:
        name: the method's; raters never see it.
        files: its pictures, one for each input.
    """

    name: str
    files: ResultFiles


def open_results(path: Path) -> ResultFiles:
    """A folder or a zip archive.

    Raises:
        RatingError: neither, or an archive that is refused.
    """
    if path.is_dir():
        return FolderResults(path)
    if path.is_file():
        return ZipResults(path)
    raise RatingError(f"{path} does not exist; name a folder or a zip archive of pictures.")


def match_results(files: ResultFiles, inputs: Sequence[tuple[str, str]], partial: bool) -> dict[tuple[str, str], str]:
    """Which file answers which input: the UID, or `TASK/UID`, whatever the suffix.

    A folder that alone holds everything, as archives often have, is looked through.

    Args:
        files: of one method.
        inputs: (task, uid) of all inputs of the study.
        partial: a task may be answered in part; otherwise wholly or not at all.

    Returns:
        The name of the file for each input that has one.

    Raises:
        RatingError: a file belongs to no input, two belong to one, or an input has none.
    """
    wanted = _places(inputs)
    found: dict[tuple[str, str], str] = {}
    names = files.names()
    tops = {PurePosixPath(name).parts[0] for name in names if "/" in name}
    wrapper = next(iter(tops)) + "/" if len(tops) == 1 and all("/" in name for name in names) else ""
    for name in names:
        if not name.lower().endswith(PICTURE_SUFFIXES):
            raise RatingError(f"{files.place}: {name!r} is not named as a picture; leave only pictures there.")
        place = _lookup(name, wanted) or _lookup(name.removeprefix(wrapper), wanted)
        if place is None:
            raise RatingError(f"{files.place}: {name!r} belongs to no instruction; name it TASK/KEY.png.")
        if place in found:
            raise RatingError(f"{files.place}: {found[place]!r} and {name!r} answer one instruction; keep one.")
        found[place] = name
    answered = {task for task, _ in found}
    missing = [place for place in inputs if place not in found and place[0] in answered]
    if not found:
        raise RatingError(f"{files.place} holds no pictures; name them as {'/'.join(inputs[0])}.")
    if missing and not partial:
        first = ", ".join(f"{task}/{bare(uid)}" for task, uid in missing[:3])
        raise RatingError(
            f"{files.place} lacks {len(missing)} pictures ({first}{', ...' if len(missing) > 3 else ''}); add them, or "
            "allow it with --allow-missing."
        )
    return found


def read_picture(files: ResultFiles, name: str) -> Image.Image:
    """One picture, wholly decoded.

    Raises:
        RatingError: it is none, or damaged.
    """
    try:
        return load_image(files.read(name), f"{files.place}: {name!r}")
    except InstructionError as error:
        raise RatingError(str(error)) from error


def _places(inputs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Each input by the names its file may have; a bare UID only where no other task has the same."""
    by_uid: dict[str, list[tuple[str, str]]] = {}
    for place in inputs:
        by_uid.setdefault(bare(place[1]), []).append(place)
    wanted = {uid: places[0] for uid, places in by_uid.items() if len(places) == 1}
    return wanted | {f"{task}/{bare(uid)}": (task, uid) for task, uid in inputs}


def _lookup(name: str, wanted: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    task, _, rest = name.partition("/")
    for candidate in ([f"{task}/{_plain(rest)}"] if rest else []) + [_plain(name)]:
        if candidate in wanted:
            return wanted[candidate]
    return None


def _plain(name: str) -> str:
    try:
        return bare(uid_of("", name))
    except RatingError:
        return ""


def _is_ignored(name: str) -> bool:
    """What file managers leave behind."""
    parts = PurePosixPath(name).parts
    return any(part in _IGNORED or (part.startswith(".") and part not in (".", "..")) for part in parts)
