"""Makes a corpus in all layouts at once, with hundreds of damaged samples among good ones, and says what to expect.

python tests/damaged_corpus.py FOLDER [SEED]
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from damaged_pictures import BAD_PICTURES, GOOD_PICTURES

# Bytes that are no caption; None stands for no caption at all.
BAD_CAPTIONS: tuple[tuple[bytes | None, str], ...] = (
    (None, "no caption"),
    (b"", "no caption"),
    (b" \n\0\t ", "no caption"),
    (b"th\xe9 au lait", "caption is not UTF-8"),
)
EXTENSIONS = ("jpg", "png", "webp", "JPEG")  # given to pictures of any format in turn: most of them lie


@dataclass(frozen=True)
class ExpectedCounts:
    """What a reader must find.

    Attributes:
        captions: of all good samples; no two are alike.
        read: how many of what is dropped by `read_unit`, by reason.
        decode: how many of what is dropped by `decode`, by reason.
    """

    captions: frozenset[str]
    read: dict[str, int]
    decode: dict[str, int]

    @property
    def num_good(self) -> int:
        return len(self.captions)

    @property
    def num_damaged(self) -> int:
        return sum(self.read.values()) + sum(self.decode.values())


@dataclass(frozen=True)
class Sample:
    """A picture file and a caption file, or what stands in their place."""

    picture: bytes
    caption: bytes | None

    @property
    def text(self) -> str | None:
        """The caption in a layout that knows text only."""
        return None if self.caption is None else self.caption.decode("utf-8", "replace")


@dataclass
class Maker:
    """Draws samples and keeps count of what becomes of them."""

    rng: np.random.Generator
    captions: list[str] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)
    decode: Counter[str] = field(default_factory=Counter)
    num_drawn: int = 0

    def draw(self) -> Sample:
        """A good sample, not counted yet; pictures of all kinds in turn."""
        self.num_drawn += 1
        makers = list(GOOD_PICTURES.values())
        caption = f"sample {self.num_drawn:04d}: ein Füchslein 🦊 am 海"
        return Sample(makers[self.num_drawn % len(makers)](self.rng), caption.encode())

    def good(self, count: int = 1) -> list[Sample]:
        """Samples that must be found."""
        return [self.expect(self.draw()) for _ in range(count)]

    def expect(self, sample: Sample) -> Sample:
        """Counts a sample among those that must be found."""
        assert sample.text is not None
        self.captions.append(sample.text)
        return sample

    def mixed(self, num_good: int, rounds: int) -> list[Sample]:
        """Good samples and `rounds` of every kind of bad picture and bad caption, shuffled."""
        samples = self.good(num_good)
        for _ in range(rounds):
            for make, reason in BAD_PICTURES.values():
                samples.append(Sample(make(self.rng), self.draw().caption))
                self.decode[reason] += 1
            samples.append(Sample(b"", self.draw().caption))
            self.read["empty picture"] += 1
            for caption, reason in BAD_CAPTIONS:
                samples.append(Sample(self.draw().picture, caption))
                self.read[reason] += 1
        return [samples[place] for place in self.rng.permutation(len(samples))]


def make_damaged_corpus(folder: Path, seed: int) -> ExpectedCounts:
    """Fills a folder, and puts a picture and a folder outside it that links in it lead to.

    Args:
        folder: made if it does not exist; its parent gets `NAME-outside`.
        seed: of pictures and order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maker = Maker(np.random.default_rng(seed))
    outside = folder.with_name(f"{folder.name}-outside")
    outside.mkdir(exist_ok=True)
    (outside / "private.jpg").write_bytes(maker.draw().picture)
    (outside / "private.txt").write_text("not part of the corpus")
    for name, fill in {
        "img2dataset": _fill_img2dataset,
        "webdataset": _fill_webdataset,
        "broken_tars": _fill_broken_tars,
        "parquet": _fill_parquet,
        "broken_parquet": _fill_broken_parquet,
        "pictures": _fill_pictures,
        "listed": _fill_listed,
    }.items():
        (folder / name).mkdir()
        fill(folder / name, maker, outside)
    captions = frozenset(maker.captions)
    assert len(captions) == len(maker.captions)
    return ExpectedCounts(captions, dict(maker.read), dict(maker.decode))


Members = Iterable[tuple[str, bytes]]


def write_tar(path: Path, members: Members) -> None:
    """Files in a tar, in the given order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def members_of(key: str, sample: Sample, extension: str = "jpg") -> list[tuple[str, bytes]]:
    """The two files of a sample, or the one if it has no caption."""
    picture = [(f"{key}.{extension}", sample.picture)]
    return picture if sample.caption is None else [*picture, (f"{key}.txt", sample.caption)]


def _numbered(samples: Sequence[Sample]) -> list[tuple[str, bytes]]:
    return [
        member
        for number, sample in enumerate(samples)
        for member in members_of(f"{number:09d}", sample, EXTENSIONS[number % len(EXTENSIONS)])
    ]


def _fill_img2dataset(folder: Path, maker: Maker, outside: Path) -> None:
    """Tars with KEY.jpg, KEY.txt, KEY.json, a sidecar and statistics each."""
    for shard in range(2):
        samples = maker.mixed(15, rounds=1)
        members, rows = list[tuple[str, bytes]](), list[dict[str, object]]()
        for number, sample in enumerate(samples):
            key = f"{shard:05d}{number:04d}"
            row = {"key": key, "url": f"https://example.org/{key}", "caption": None, "status": "success"}
            rows.append(row)
            members += [*members_of(key, sample), (f"{key}.json", json.dumps(row).encode())]
        lost = {"key": "x1", "url": "https://example.org/x1", "caption": "gone", "status": "failed_to_download"}
        members += [*members_of("x1", maker.draw()), ("x1.json", json.dumps(lost).encode())]
        maker.read["status is not success"] += 1
        (rescued,) = maker.good()  # only the sidecar has its caption
        members.append(("x2.jpg", rescued.picture))
        rows.append({"key": "x2", "url": "https://example.org/x2", "caption": rescued.text, "status": "success"})
        write_tar(folder / f"{shard:05d}.tar", members)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text('{"count": 31}')


def _fill_webdataset(folder: Path, maker: Maker, outside: Path) -> None:
    """Tars by other hands: folders in them, captions in the JSON, members that are none of ours."""
    write_tar(folder / "plain.tar", _numbered(maker.mixed(15, rounds=2)))
    members = [("README.md", b"about"), ("./._0.jpg", b"left by a file manager")]
    for number, sample in enumerate(maker.good(6)):
        record = json.dumps({"caption": sample.text, "url": "https://example.org"}).encode()
        picture = (f"./train/{number}.jpg", sample.picture)
        members += [(f"./train/{number}.json", record), picture, (f"./train/{number}.mask.png", b"no picture at all")]
    for key, record, reason in (
        ("a", b'{"caption": "cut of', "broken JSON"),
        ("b", b'["a list"]', "broken JSON"),
        ("c", b"[" * 100_000, "broken JSON"),
        ("d", b'{"caption": "th\xe9"}', "caption is not UTF-8"),
        ("e", b'{"caption": 17}', "no caption"),
    ):
        members += [(f"{key}.jpg", maker.draw().picture), (f"{key}.json", record)]
        maker.read[reason] += 1
    for key, record in (("f", b"{"), ("g", b"\xff\xff"), ("h", b"")):  # the text serves
        members += [*members_of(key, *maker.good()), (f"{key}.json", record)]
    (latin,) = maker.good()  # the JSON serves
    members += [("i.jpg", latin.picture), ("i.txt", b"\xff"), ("i.json", json.dumps({"TEXT": latin.text}).encode())]
    members += [("j.txt", b"a caption without a picture"), *members_of("../k", maker.draw())]
    maker.read.update(["no picture", "path leaves the folder"])
    for key in ("l", "m", "n"):
        members += [*members_of(key, *maker.good()), *members_of(key, maker.draw())]
        maker.read["duplicate key"] += 1
    write_tar(folder / "mixed.tar", members)
    with tarfile.open(folder / "mixed.tar", "a") as tar:
        for name, kind in (("o.jpg", tarfile.SYMTYPE), ("p.jpg", tarfile.DIRTYPE), ("q.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info)
            maker.read["not a regular file"] += 1


def _fill_broken_tars(folder: Path, maker: Maker, outside: Path) -> None:
    for number in range(4):  # cut inside the picture of the fourth of six samples
        samples = [*maker.good(3), *(maker.draw() for _ in range(3))]
        path = folder / f"cut{number}.tar"
        write_tar(path, _numbered(samples))
        with tarfile.open(path) as tar:
            picture = tar.getmembers()[6]
        os.truncate(path, picture.offset_data + picture.size // 2)
        maker.read["tar cut off"] += 1
    for number in range(4):  # the header of the third sample's caption is overwritten
        samples = [*maker.good(2), maker.draw(), *maker.good(3)]
        path = folder / f"header{number}.tar"
        write_tar(path, _numbered(samples))
        with tarfile.open(path) as tar:
            begin = tar.getmembers()[5].offset
        with path.open("r+b") as file:
            file.seek(begin)
            file.write(maker.rng.bytes(512))
        maker.read.update(["damaged tar header", "no caption"])
    (folder / "page.tar").write_text("<html>not found</html>" * 100)
    (folder / "noise.tar").write_bytes(maker.rng.bytes(5_000))
    (folder / "short.tar").write_bytes(b"short")
    maker.read["not a tar"] += 3
    (folder / "empty.tar").touch()
    (folder / "packed.tar.gz").write_bytes(gzip.compress((folder / "cut0.tar").read_bytes()))
    maker.read.update(["empty file", "compressed tar"])
    write_tar(folder / "nothing.tar", [])  # whole, so nothing is wrong with it


def text_column(captions: Sequence[bytes | None]) -> pa.Array:
    """A column that says it is text, whatever its bytes."""
    return pa.array(captions, pa.binary()).view(pa.string())


def _fill_parquet(folder: Path, maker: Maker, outside: Path) -> None:
    for number in range(2):  # img2dataset's own; a broken row beside good ones
        samples = maker.mixed(15, rounds=1)
        columns = {
            "jpg": pa.array([sample.picture for sample in samples], pa.binary()),
            "caption": text_column([sample.caption for sample in samples]),
            "URL": [f"https://example.org/{row}" for row in range(len(samples))],
            "key": [f"{row:09d}" for row in range(len(samples))],
            "status": ["success"] * len(samples),
        }
        pq.write_table(pa.table(columns), folder / f"0000{number}.parquet", row_group_size=10)
    for number in range(2):  # Hugging Face's
        samples = maker.mixed(15, rounds=1)
        columns = {
            "image": [{"bytes": sample.picture, "path": "../../x.jpg"} for sample in samples],
            "text": pa.array([sample.caption for sample in samples], pa.binary()),
        }
        pq.write_table(pa.table(columns), folder / f"train-{number:05d}-of-00002.parquet")
    good, others = maker.good(4), [maker.draw() for _ in range(5)]
    rows = [{"key": f"k{row}", "image": s.picture, "prompt": s.text} for row, s in enumerate(good)]
    rows.append({"key": "k0", "image": others[0].picture, "prompt": others[0].text})
    rows.append({"key": "k5", "image": None, "prompt": others[1].text})
    rows.append({"key": "k6", "image": others[2].picture, "prompt": None})
    rows.append({"key": "k7", "image": None, "prompt": None, "status": "failed_to_download"})
    rows.append({"key": "k8", "image": others[3].picture, "prompt": others[3].text, "status": "failed_to_resize"})
    maker.read.update(["duplicate key", "no picture", "no caption"])
    maker.read["status is not success"] += 2
    schema = pa.schema([("key", "string"), ("image", "binary"), ("prompt", "string"), ("status", "string")])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "nulls.parquet")
    structs = [{"bytes": None, "path": "elsewhere.jpg"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(structs, kind), "text": ["a", "b"]}), folder / "paths.parquet")
    maker.read["no picture"] += 2


def _fill_broken_parquet(folder: Path, maker: Maker, outside: Path) -> None:
    pictures = pa.array([sample.picture for sample in (maker.draw(), maker.draw())], pa.binary())
    for name, columns in {
        "metadata": {"url": ["a", "b"], "caption": ["c", "d"]},
        "wordless": {"image": pictures, "label": [1, 2]},
        "two": {"first": pictures, "second": pictures, "text": ["a", "b"]},
        "numbers": {"image": [[1, 2], [3, 4]], "text": ["a", "b"]},
    }.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        maker.read["wrong columns"] += 1
    whole = (folder / "two.parquet").read_bytes()
    (folder / "half.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "tail.parquet").write_bytes(whole[-400:])
    (folder / "noise.parquet").write_bytes(maker.rng.bytes(3_000))
    maker.read["unreadable parquet file"] += 3
    (folder / "empty.parquet").touch()
    maker.read["empty file"] += 1
    groups = [maker.good(4), [maker.draw() for _ in range(4)], maker.good(4)]
    samples = [sample for group in groups for sample in group]
    columns = {"image": [s.picture for s in samples], "caption": [s.text for s in samples]}
    path = folder / "group.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=4, compression="zstd", use_dictionary=False)
    begin = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * 40)
    maker.read["damaged row group"] += 4


def _fill_pictures(folder: Path, maker: Maker, outside: Path) -> None:
    """Pictures with captions beside them, in folders in folders."""
    for inner in ("", "a", "a/b.c", "ü"):
        here = folder / inner
        here.mkdir(exist_ok=True)
        for name, data in _numbered(maker.mixed(8, rounds=1)):
            (here / name).write_bytes(data)
    (dotted,) = maker.good()
    for name, data in members_of("v1.2 final", dotted, "jpg"):
        (folder / name).write_bytes(data)
    (inside,) = maker.good()
    (folder / "original").write_bytes(inside.picture)
    (folder / "link.jpg").symlink_to("original")
    (folder / "link.txt").write_bytes(inside.caption or b"")
    (folder / "Folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.png")
    maker.read["not a regular file"] += 2
    (folder / "stolen.jpg").symlink_to(outside / "private.jpg")
    (folder / "stolen.txt").write_text("a picture of somebody else")
    (folder / "words.jpg").write_bytes(maker.draw().picture)
    (folder / "words.txt").symlink_to(outside / "private.txt")
    (folder / "photos").symlink_to(outside)
    maker.read["path leaves the folder"] += 3
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    maker.read["no picture"] += 1
    (folder / ".hidden.jpg").write_bytes(b"not looked at")
    (folder / "notes.txt").write_text("no caption of anything")


def _fill_listed(folder: Path, maker: Maker, outside: Path) -> None:
    """Hugging Face's imagefolder: one list for all pictures."""
    (folder / "train").mkdir()
    lines = [b"\xef\xbb\xbf"]
    for number, sample in enumerate(maker.mixed(15, rounds=2)):
        name = f"train/{number:04d}.{EXTENSIONS[number % len(EXTENSIONS)]}"
        (folder / name).write_bytes(sample.picture)
        entry = {"file_name": name} if sample.text is None else {"file_name": name, "text": sample.text}
        line = json.dumps(entry, ensure_ascii=False).encode()
        if sample.text and "\ufffd" in sample.text:
            line = line.replace(sample.text.encode(), sample.caption or b"")
        lines += [line, b""]
    unlisted, twice = maker.good(2)
    (folder / "train/twice.jpg").write_bytes(twice.picture)
    lines.append(json.dumps({"file_name": "train/twice.jpg", "caption": twice.text}).encode())
    for name, data in members_of("train/unlisted", unlisted):
        (folder / name).write_bytes(data)
    (folder / "train/stolen.jpg").symlink_to(outside / "private.jpg")
    private = str(outside / "private.jpg")
    here = str((folder / "train/twice.jpg").resolve())  # in the corpus, but on this machine only
    for name in (f"../../{outside.name}/private.jpg", "../../../etc/passwd", private, here, "train/stolen.jpg"):
        lines.append(json.dumps({"file_name": name, "text": "not ours"}).encode())
        maker.read["path leaves the folder"] += 1
    for entry, reason in (
        ({"file_name": "train/missing.jpg", "text": "gone"}, "no picture"),
        ({"file_name": "train", "text": "a folder"}, "not a regular file"),
        ({"file_name": "a\0b", "text": "no name"}, "file cannot be read"),
        ({"file_name": "./train/../train/twice.jpg", "text": "again"}, "duplicate key"),
        ({"file_name": 17, "text": "a number"}, "no file_name"),
        ({"text": "no name"}, "no file_name"),
        ("just words", "broken JSON"),
    ):
        lines.append(json.dumps(entry).encode())
        maker.read[reason] += 1
    lines.append(b'{"file_name": "train/twice.jpg", "text": "cut of')
    maker.read["broken JSON"] += 1
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines).replace(b"\xef\xbb\xbf\n", b"\xef\xbb\xbf", 1))


if __name__ == "__main__":
    made = make_damaged_corpus(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(f"{made.num_good} good, {made.num_damaged} damaged: {made.read} {made.decode}")
