"""What all sources share: keys, phrases, paths that stay inside, tables; and what the other tests of sources use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from instruct_imagen.data.example import Example
from instruct_imagen.data.report import DataError, Report
from instruct_imagen.data.shards import ShardSource, ShardWriter
from instruct_imagen.data.sources import SOURCES, SourceOptions
from instruct_imagen.data.sources.building import MAX_SIDE_PX, Builder, as_phrase, fit_key
from instruct_imagen.data.sources.reading import inside, opacity, read_captions, read_records
from instruct_imagen.data.templates import FINE_TUNING_TASKS, TRAINING_TASKS
from instruct_imagen.errors import UserError
from instruct_imagen.instruction import markers_in


def picture(seed: int, size: tuple[int, int] = (60, 48)) -> Image.Image:
    """A coloured ellipse on a slope of another colour: it has an object, edges, and differs by its seed."""
    rng = np.random.default_rng(seed)
    width, height = size
    ground, figure = rng.integers(0, 90, 3), rng.integers(160, 256, 3)
    slope = np.linspace(0, 40, width)[None, :, None]
    pixels = np.broadcast_to(ground + slope, (height, width, 3)).copy()
    rows, columns = np.mgrid[:height, :width]
    shape = ((columns / width - 0.5) / 0.28) ** 2 + ((rows / height - 0.5) / 0.3) ** 2 < 1
    pixels[shape] = figure
    return Image.fromarray(pixels.astype(np.uint8))


def save(path: Path, image: Image.Image | None = None, seed: int = 0) -> Path:
    """Writes a picture, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture(seed)).save(path)
    return path


def write(path: Path, content: object) -> Path:
    """Writes text, or JSON, or JSON lines, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        assert isinstance(content, list)
        content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def build(name: str, source: Path, tmp_path: Path, **options: object) -> tuple[list[Example], Report]:
    """All examples of a source, after checking what must hold for every source.

    They are well formed, the same when they are built again, and the same when they have been in a shard.
    """
    settings = SourceOptions(**options)  # type: ignore[arg-type]
    report = Report()
    examples = list(SOURCES[name].open(source, report, settings))
    again = list(SOURCES[name].open(source, Report(), settings))
    keys = [example.key for example in examples]
    assert len(set(keys)) == len(keys)
    for example in examples:
        text, references = example.instruction.text, example.instruction.references
        assert example.task == name and example.target.mode == "RGB"
        assert set(markers_in(text)) == {reference.marker for reference in references}
        assert "{" not in text and "  " not in text
    assert_same(examples, again)
    assert_parts_give_the_same(name, source, settings, examples, report)
    if examples:
        shards = tmp_path / f"shards-{name}"
        with ShardWriter(shards) as writer:
            for example in examples:
                writer.write(example)
        read = ShardSource(shards)
        assert_same(examples, [read[index] for index in range(len(read))])
        for shard in read.shards:
            shard.unlink()
    return examples, report


def assert_parts_give_the_same(
    name: str, source: Path, settings: SourceOptions, examples: list[Example], report: Report
) -> None:
    """Three workers that share a source build the same examples and count the same, or as many, if there is a limit."""
    merged, parts = Report(), []
    for part in range(3):
        found = Report()
        parts += SOURCES[name].open(source, found, replace(settings, part=part, num_parts=3))
        merged.merge(found)
    if settings.max_examples is not None:
        assert len(parts) <= settings.max_examples
        return
    assert_same(sorted(examples, key=lambda one: one.key), sorted(parts, key=lambda one: one.key))
    counts = [{n: (s.kept, s.dropped) for n, s in r.steps.items()} for r in (report, merged)]
    assert counts[0] == counts[1]


def assert_same(first: list[Example], second: list[Example]) -> None:
    assert [one.key for one in first] == [two.key for two in second]
    for one, two in zip(first, second, strict=True):
        assert one.instruction.text == two.instruction.text
        assert one.target.tobytes() == two.target.tobytes()
        for own, other in zip(one.instruction.references, two.instruction.references, strict=True):
            assert (own.marker, own.text, own.image.tobytes()) == (other.marker, other.text, other.image.tobytes())


def dropped(report: Report, step: str) -> dict[str, int]:
    return report.step(step).dropped


def near(first: Image.Image, second: Image.Image, most: float = 12) -> bool:
    """Whether two pictures are the same but for JPEG."""
    difference = np.asarray(first, float) - np.asarray(second, float)
    return first.size == second.size and float(np.abs(difference).mean()) < most


def test_there_is_a_source_for_each_data_set_of_the_paper():
    assert tuple(SOURCES) == (*TRAINING_TASKS, *FINE_TUNING_TASKS)
    for name, spec in SOURCES.items():
        assert spec.name == spec.task == name and len(spec.layout) > 60


@pytest.mark.parametrize("name", SOURCES)
def test_a_folder_in_no_known_layout_is_refused_in_a_sentence(name: str, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="model|empty"):
        list(SOURCES[name].open(tmp_path / "empty", Report(), SourceOptions()))


def test_options_out_of_range_are_refused():
    for wrong in ({"seed": -1}, {"size_px": 0}, {"max_examples": 0}, {"examples_per_picture": 0}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            SourceOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="similarity"):
        SourceOptions(min_style_similarity=0.99)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=120), min_size=1, max_size=3, unique=True))
def test_keys_fit_a_shard_and_differ_where_words_differ(words: list[str]):
    keys = [fit_key("text", word, 0) for word in words]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert key.isascii() and len(key) <= 80 and not set(key) & set("./ ") and key


def test_keys_that_fit_stay_as_they_are():
    assert fit_key("face", "000001", 2) == "face-000001-2"
    assert fit_key("text", "a.b", 0) != fit_key("text", "a_b", 0)


@pytest.mark.parametrize(
    ("caption", "phrase"),
    [
        ("A man riding a wave. ", "a man riding a wave"),
        ("Two  dogs\nin the snow", "two dogs in the snow"),
        ("Paris at night.", "Paris at night"),
        ("THE END", "THE END"),
        ("", ""),
    ],
)
def test_captions_become_phrases(caption: str, phrase: str):
    assert as_phrase(caption) == phrase


def test_paths_of_the_data_stay_inside(tmp_path: Path):
    folder = tmp_path / "corpus"
    save(folder / "a.png")
    save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert inside(folder, "a.png") == folder / "a.png"
    assert inside(folder, "sub/../a.png") == folder / "a.png"
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "", "a\0.png", None, 3, ["a.png"]):
        assert inside(folder, name) is None


def test_the_builder_counts_every_bad_picture_once(tmp_path: Path):
    save(tmp_path / "good.png", picture(1, (2400, 1200)))
    save(tmp_path / "tiny.png", picture(1, (40, 20)))
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    report = Report()
    builder = Builder("text", report, SourceOptions())
    for _ in range(2):
        image = builder.picture(tmp_path, "good.png")
        assert image is not None and image.size == (MAX_SIDE_PX, MAX_SIDE_PX // 2)
        for name in ("tiny.png", "broken.png", "missing.png", "x" * 400 + ".png"):
            assert builder.picture(tmp_path, name) is None
    assert dropped(report, "text") == {
        "picture is too small": 1,
        "picture cannot be read": 1,
        "picture is missing": 2,
    }
    square = Builder("text", report, SourceOptions(size_px=64)).picture(tmp_path, "good.png")
    assert square is not None and square.size == (64, 64)
    with pytest.raises(DataError, match="missing"):
        Builder("text", Report(strict=True), SourceOptions()).picture(tmp_path, "missing.png")


def test_words_that_cannot_be_used_are_counted():
    report = Report()
    builder = Builder("text", report, SourceOptions())
    for caption in ("see [ref#1]", "a bell \x07", "", "word " * 500):
        key, rng = next(builder.turns("x"))
        assert not list(builder.finish(key, rng, picture(0), {"caption": caption}))
    assert dropped(report, "text") == {"text cannot be used": 4} and report.step("text").kept == 0


def test_an_example_depends_on_the_seed_and_its_key_alone():
    def draw(seed: int, word: str) -> list[float]:
        builder = Builder("text", Report(), SourceOptions(seed=seed, examples_per_picture=2))
        return [rng.random() for _, rng in builder.turns(word)]

    assert draw(0, "a") == draw(0, "a")
    values = [*draw(0, "a"), *draw(0, "b"), *draw(1, "a")]
    assert len(set(values)) == 6


def test_manifests_give_what_is_good_and_count_the_rest(tmp_path: Path):
    lines = write(tmp_path / "a.jsonl", [{"x": 1}, "not json", "[1]", "", {"x": 2}])
    lines.write_bytes(lines.read_bytes() + b'{"x": "\xff"}\n' + b"[" * 100_000 + b"\n")
    report = Report()
    assert list(read_records(lines, report, "s")) == [(1, {"x": 1}), (5, {"x": 2})]
    assert dropped(report, "s") == {"line is no JSON object": 4}
    table = write(tmp_path / "a.csv", 'file,caption\na.jpg,"one, two"\nb.jpg\nc.jpg,x,y\nd.jpg,\n')
    report = Report()
    assert [row["file"] for _, row in read_records(table, report, "s")] == ["a.jpg", "d.jpg"]
    assert dropped(report, "s") == {"row does not fit its header": 2}
    with pytest.raises(DataError, match=r"\.jsonl or a \.csv"):
        list(read_records(tmp_path / "a.xml", report, "s"))


def test_captions_of_a_table(tmp_path: Path):
    assert read_captions(tmp_path, Report(), "s") == {}
    write(tmp_path / "captions.csv", "caption,file\na fox,a.jpg\n ,b.jpg\n")
    report = Report()
    assert read_captions(tmp_path, report, "s") == {"a.jpg": "a fox"}
    assert dropped(report, "s") == {"no caption": 1}
    write(tmp_path / "captions.csv", "text,file\na fox,a.jpg\n")
    with pytest.raises(DataError, match="file and caption"):
        read_captions(tmp_path, Report(), "s")


def test_opacity_of_pictures(tmp_path: Path):
    image = picture(1)
    alpha = Image.new("L", image.size, 0)
    alpha.paste(255, (10, 10, 30, 40))
    image.putalpha(alpha)
    found = opacity(save(tmp_path / "cut.png", image))
    assert found is not None and found.shape == (48, 60) and found.sum() == 20 * 30 and found[10, 10]
    assert opacity(save(tmp_path / "plain.jpg")) is None
    assert opacity(b"no picture") is None
