"""Instructions: markers and their aliases, pictures of every kind, JSON there and back, and each refusal."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from instruct_imagen.errors import InstructionError
from instruct_imagen.instruction import MAX_REFERENCES, MAX_TEXT_CHARS, Instruction, Reference, markers_in
from instruct_imagen.pictures import MAX_PIXELS, MAX_SIDE_PX, fit_square, load_image

RED = Image.new("RGB", (6, 4), "red")
BLUE = Image.new("RGB", (3, 5), "blue")


def file_bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises `width` x `height` pixels and holds next to none."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


# Markers and texts


def test_build_numbers_references_in_order() -> None:
    instruction = Instruction.build("Put [ref#1] beside [ref#2].", [(RED, "fox"), ([BLUE, RED], "owl")])
    assert [reference.marker for reference in instruction.references] == [1, 2, 2]
    assert [r.conditioning_text for r in instruction.references] == [
        "[ref#1] fox",
        "[ref#2] owl",
        "[ref#2] owl",
    ]
    assert Instruction.build("A fox.").references == ()
    assert Reference(RED, "", 3).conditioning_text == "[ref#3]"


def test_references_stand_in_the_order_of_their_markers() -> None:
    given_order = (Reference(BLUE, "owl", 2), Reference(RED, "fox", 1), Reference(RED, "owl", 2))
    instruction = Instruction("[ref#2] and [ref#1]", given_order)
    assert instruction.references == (given_order[1], given_order[0], given_order[2])
    assert markers_in(instruction.text) == (2, 1)


@pytest.mark.parametrize(
    "marker",
    [
        "[ref#1]", "[REF#1]", "[Ref #1]", "[ref1]", "[ref 1]", "[ ref # 1 ]", "[ref#01]", "<|image_1|>",
        "<img><|image_1|></img>", "<IMG> <|image_1|> </IMG>", "image 1", "Image 1", "image #1", "IMAGE 1",
    ],
)  # fmt: skip
def test_aliases_become_the_marker(marker: str) -> None:
    assert Instruction.build(f"Draw {marker}.", [(RED, "fox")]).text == "Draw [ref#1]."
    assert Instruction.build(f"({marker}), twice {marker}", [(RED, "")]).text == "([ref#1]), twice [ref#1]"


@pytest.mark.parametrize(
    ("text", "num_references", "expected"),
    [
        ("a poster that says image 1", 0, "a poster that says image 1"),
        ("Image 1 beside image 2", 2, "[ref#1] beside [ref#2]"),
        ("image 1 but not image 3", 1, "[ref#1] but not image 3"),
        ("[ref#1] on a sign that says image 1", 1, "[ref#1] on a sign that says image 1"),
        ("<|image_1|> on a sign that says image 1", 1, "[ref#1] on a sign that says image 1"),
        ("image 1, image 12 and image 1.5 and image 1st", 1, "[ref#1], image 12 and image 1.5 and image 1st"),
        ("a [reference] photo of image 1.", 1, "a [reference] photo of [ref#1]."),
        ("  two\n\twords [ref#1] ", 1, "two words [ref#1]"),
        ("Füchse 狐 👩‍🚀 [ref#1]", 1, "Füchse 狐 👩‍🚀 [ref#1]"),
    ],
)
def test_plain_words_are_markers_only_where_they_must_be(text: str, num_references: int, expected: str) -> None:
    assert Instruction.build(text, [(RED, "fox")] * num_references).text == expected


@pytest.mark.parametrize(
    ("text", "markers", "message"),
    [
        ("Draw [ref#2].", [1], r"names \[ref#2\], but no reference has marker 2 \(references: \[ref#1\]\)"),
        ("Draw [ref#1].", [], r"names \[ref#1\], but no reference has marker 1 \(references: none\)"),
        ("Draw it.", [1], r"reference 1 is never named in the text; write \[ref#1\]"),
        ("Draw [ref#1].", [1, 2], "reference 2 is never named"),
        ("[ref#1], [ref#3]", [1, 3], r"\[ref#2\] is missing: .* 1 to 2 .*; rename \[ref#3\] to \[ref#2\]"),
        ("[ref#2]", [2], r"\[ref#1\] is missing"),
        ("[ref#0]", [1], "uses marker 0; markers are numbered from 1 to 9"),
        ("[ref#10]", [1], "uses marker 10"),
        ("[ref#x]", [1], r"'\[ref#x\]' is not a marker; write \[ref#1\] to \[ref#9\]"),
        ("[ref#1] [ref]", [1], r"'\[ref\]' is not a marker"),
        ("[ref#1] [ref#", [1], r"'\[ref#' is not a marker"),
        ("[ref#99999]", [1], "is not a marker"),
        ("<|image_one|>", [1], "is not a marker"),
        ("", [], "the text is empty"),
        (" \n ", [], "the text is empty"),
        ("x" * (MAX_TEXT_CHARS + 1), [], "has 2,001 characters; shorten it to 2,000"),
        ("[ref1] " + "x" * (MAX_TEXT_CHARS - 7), [1], "has 2,001 characters"),
        ("a \x00 b", [], r"control character U\+0000; remove it"),
        ("a \x1b[31m b", [], r"control character U\+001B"),
        ("a \x85 b", [], r"control character U\+0085"),
        ("a \ud800 b", [], r"control character U\+D800"),
        ("[ref#1]", [1] * (MAX_REFERENCES + 1), "there are 13 references; use 12 at most"),
    ],
)  # fmt: skip
def test_wrong_texts_are_refused(text: str, markers: list[int], message: str) -> None:
    with pytest.raises(InstructionError, match=message):
        Instruction(text, tuple(Reference(RED, "fox", marker) for marker in markers))


def test_a_huge_text_is_refused_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(InstructionError, match="102,400 characters"):
        Instruction("[ref# " * 17066 + "abcd")
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize(
    ("text", "marker", "message"),
    [
        ("x" * 201, 1, "text of reference 1 has 201 characters; shorten it to 200"),
        ("fox\x07", 1, r"text of reference 1 contains the control character U\+0007"),
        ("fox [ref#2]", 1, r"text of reference 1 names \[ref#2\]"),
        (None, 1, "text of reference 1 must be a string, not NoneType"),
        ("fox", 0, "uses marker 0"),
        ("fox", 10, "uses marker 10"),
        ("fox", True, "must be a whole number, not True"),
        ("fox", "1", "must be a whole number, not '1'"),
    ],
)
def test_wrong_references_are_refused(text: str, marker: int, message: str) -> None:
    with pytest.raises(InstructionError, match=message):
        Reference(RED, text, marker)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(InstructionError, match="the text must be a string, not int"):
        Instruction(5)  # type: ignore[arg-type]
    with pytest.raises(InstructionError, match="must be Reference objects"):
        Instruction("[ref#1]", ((RED, "fox"),))  # type: ignore[arg-type]
    with pytest.raises(InstructionError, match="reference 1 has no picture"):
        Instruction.build("[ref#1]", [([], "fox")])
    with pytest.raises(InstructionError, match="must be a PIL image, not str; open files with load_image"):
        Reference("fox.png", "fox", 1)  # type: ignore[arg-type]
    with pytest.raises(InstructionError, match="0 x 4 pixels"):
        Reference(Image.new("RGB", (0, 4)), "fox", 1)


def test_a_reference_drops_its_own_marker_from_its_text() -> None:
    assert Reference(RED, "[ref#1] fox", 1).text == Reference(RED, "<|image_1|> fox", 1).text == "fox"


def test_a_reference_keeps_a_plain_rgb_image_and_leaves_others_as_they_were() -> None:
    assert Reference(RED, "fox", 1).image is RED
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert Reference(clear, "fox", 1).image.getpixel((0, 0)) == (255, 255, 255)
    assert clear.mode == "RGBA"
    with pytest.raises(InstructionError, match="picture of reference 1 is damaged"):
        Reference(Image.open(io.BytesIO(file_bytes(Image.effect_noise((64, 64), 90))[:600])), "fox", 1)


# Pictures


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("RGB", (4, 4), (10, 20, 30)), "PNG", (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG", (127, 127, 127)),
        (Image.new("LA", (4, 4), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("L", (4, 4), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("RGB", (4, 4), "blue").convert("P"), "PNG", (0, 0, 255)),
        (Image.new("RGB", (4, 4), "lime").quantize(4), "GIF", (0, 255, 0)),
        (Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)), "PNG", (100, 100, 100)),
        (Image.fromarray(np.full((4, 4), 257 * 100, np.int32)), "TIFF", (100, 100, 100)),
        (Image.fromarray(np.full((4, 4), 0.2, np.float32)), "TIFF", (51, 51, 51)),
        (Image.fromarray(np.full((4, 4), 51, np.float32)), "TIFF", (51, 51, 51)),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        (Image.new("RGB", (4, 4), "red"), "WEBP", (254, 0, 0)),
        (Image.new("RGB", (4, 4), "red"), "BMP", (255, 0, 0)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    loaded = load_image(file_bytes(image, kind))
    assert type(loaded) is Image.Image and loaded.mode == "RGB" and loaded.size == image.size
    assert not loaded.info
    assert np.abs(np.asarray(loaded)[1, 1].astype(int) - expected).max() <= 1


def test_transparent_colours_of_palette_and_rgb_pictures_become_white() -> None:
    palette = Image.new("RGB", (4, 4), "blue").quantize(4)
    assert load_image(file_bytes(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    keyed = file_bytes(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    assert load_image(keyed).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_honoured(orientation: int, kind: str) -> None:
    stored = Image.new("RGB", (48, 32), "blue")
    stored.paste("red", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(file_bytes(stored, kind, exif=exif))
    assert loaded.size == ((32, 48) if orientation >= 5 else (48, 32))
    pixels = np.asarray(loaded).astype(int)
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    red = {c for c in [(0, 0), (0, -1), (-1, -1), (-1, 0)] if pixels[c][0] > 150 > pixels[c][2]}
    assert red == {corners[orientation]}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_long_pictures_are_reduced(kind: str) -> None:
    loaded = load_image(file_bytes(Image.new("RGB", (5000, 1250), "red"), kind))
    assert loaded.size == (MAX_SIDE_PX, MAX_SIDE_PX // 4)
    assert Reference(Image.new("RGB", (5000, 10)), "", 1).image.size == (MAX_SIDE_PX, 4)
    assert Reference(Image.new("L", (1, 4096)), "", 1).image.size == (1, MAX_SIDE_PX)


@pytest.mark.parametrize(("width", "height"), [(10_000, 6_000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_giant_is_refused_before_it_is_decoded(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert width * height > MAX_PIXELS

    def decode(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(InstructionError, match="'?giant.png'? .*more than 50 megapixels; reduce it first"):
        load_image(png_header(width, height), "giant.png")


def test_a_bomb_warning_that_is_an_error_is_a_refusal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(InstructionError, match="more than 50 megapixels"):
            load_image(png_header(10_000, 10_000))


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    noise = file_bytes(Image.effect_noise((64, 64), 90).convert("RGB"))
    damaged = {
        "empty.png": (b"", "is not a picture this program reads"),
        "text.png": (b"hello", "is not a picture this program reads"),
        "post.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
        "short.png": (noise[: len(noise) // 2], "is damaged or cannot be read"),
        "short.jpg": (
            file_bytes(Image.effect_noise((64, 64), 90), "JPEG")[:900],
            "is damaged or cannot be read",
        ),
        "zero.png": (png_header(0, 5), "(is damaged|0 x 5 pixels|is not a picture)"),
    }
    for name, (content, message) in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InstructionError, match=f"{name}' {message}") as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InstructionError, match="none.png' does not exist; check the path"):
        load_image(str(tmp_path / "none.png"))
    with pytest.raises(InstructionError, match=r"cannot be read"):
        load_image(tmp_path)


def test_pictures_are_read_from_paths_bytes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    RED.save(path)
    with path.open("rb") as file:
        assert load_image(path) == load_image(str(path)) == load_image(path.read_bytes()) == load_image(file) == RED


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0"]),
)
def test_any_bytes_are_a_picture_or_an_instruction_error(content: bytes, start: bytes) -> None:
    try:
        assert load_image(start + content).mode == "RGB"
    except InstructionError as error:
        assert "\n" not in str(error)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24))
def test_fit_square_gives_a_square_of_the_middle(width: int, height: int, size_px: int) -> None:
    image = Image.new("RGB", (width, height), "red")
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste("blue", (left, top, left + side, top + side))
    assert fit_square(image, size_px) == Image.new("RGB", (size_px, size_px), "blue")


def test_fit_square_keeps_a_fitting_picture_and_converts_others() -> None:
    square = Image.effect_noise((8, 8), 50).convert("RGB")
    assert fit_square(square, 8) is square
    assert fit_square(Image.new("RGBA", (8, 6), (0, 0, 0, 0)), 4).getcolors() == [(16, (255, 255, 255))]
    with pytest.raises(ValueError, match="size_px must be at least 1"):
        fit_square(square, 0)


# JSON


def images() -> st.SearchStrategy[Image.Image]:
    def make(size: tuple[int, int], seed: int) -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return st.builds(make, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 99))


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    letters = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="[]<>")
    texts = st.text(letters, max_size=30)
    pairs = draw(st.lists(st.tuples(st.lists(images(), min_size=1, max_size=2), texts), max_size=4))
    words = [f"{draw(texts)} [ref#{n}]" for n in draw(st.permutations(range(1, len(pairs) + 1)))]
    return Instruction.build(" ".join([*words, draw(texts), "end."]), pairs)


@settings(max_examples=40, deadline=None)
@given(instructions())
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, instruction: Instruction) -> None:
    folder = tmp_path_factory.mktemp("round")
    instruction.write(folder / "a.json")
    assert Instruction.from_json(folder / "a.json") == instruction
    assert Instruction.from_json(str(folder / "a.json"), paths="inside") == instruction
    assert Instruction.from_json(json.loads((folder / "a.json").read_text()), folder) == instruction
    assert Instruction.from_json(instruction.to_json(), paths="none") == instruction
    names = {f"a.ref{index}.png" for index in range(len(instruction.references))}
    assert set(os.listdir(folder)) == names | {"a.json"}


@given(instructions())
def test_construction_is_idempotent(instruction: Instruction) -> None:
    assert Instruction(instruction.text, instruction.references) == instruction


def test_write_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Instruction.build("Draw [ref#1].", [(RED, "fox")])
    old.write(tmp_path / "sub" / "a.json")
    write_bytes = Path.write_bytes

    def full_disk(path: Path, data: bytes) -> int:
        if "a.json" in path.name:
            raise OSError("no space left")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        Instruction.build("Paint [ref#1].", [(BLUE, "owl")]).write(tmp_path / "sub" / "a.json")
    assert Instruction.from_json(tmp_path / "sub" / "a.json") == old
    assert sorted(os.listdir(tmp_path / "sub")) == ["a.json", "a.ref0.png"]


def test_pictures_are_found_by_relative_path_absolute_path_and_data_url(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    RED.save(tmp_path / "pictures" / "red.png")
    url = "data:image/png;base64," + base64.b64encode(file_bytes(RED)).decode()
    for image in (
        "pictures/red.png",
        "./pictures/../pictures/red.png",
        str(tmp_path / "pictures/red.png"),
        url,
    ):
        content = {
            "instruction": "Draw [ref#1].",
            "references": [{"marker": 1, "text": "fox", "image": image}],
        }
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert Instruction.from_json(tmp_path / "a.json") == Instruction.build("Draw [ref#1].", [(RED, "fox")])


def test_the_neighbours_layout_is_read(tmp_path: Path) -> None:
    RED.save(tmp_path / "0.png")
    BLUE.save(tmp_path / "1.png")
    content = {
        "task_type": "subject",
        "instruction": "<img><|image_2|></img> beside <img><|image_1|></img>",
        "input_images": ["0.png", "1.png"],
    }
    expected = Instruction.build("[ref#2] beside [ref#1]", [(RED, ""), (BLUE, "")])
    assert Instruction.from_json(content, tmp_path) == expected
    no_pictures = {"task_type": "text_to_image", "instruction": "A fox.", "input_images": None}
    assert Instruction.from_json(no_pictures) == Instruction("A fox.")


def reference_entry(**changes: object) -> dict[str, object]:
    entry = {"marker": 1, "text": "fox", "image": "red.png"} | changes
    return {"instruction": "[ref#1]", "references": [{k: v for k, v in entry.items() if v is not ...}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object"),
        ({}, 'lacks the key "instruction"'),
        ({"instruction": 5}, "the text must be a string, not int"),
        ({"instruction": "a fox", "seed": 1}, 'unknown key "seed"; the keys are instruction, references'),
        ({"instruction": "[ref#1]", "references": {}}, '"references" must be a list, not dict'),
        ({"instruction": "[ref#1]", "references": ["red.png"]}, r"references\[0\] must be an object"),
        ({"instruction": "[ref#1]", "references": [{}] * 13}, "has 13 entries; use 12 at most"),
        (reference_entry(marker=...), r'references\[0\] lacks the key "marker"'),
        (reference_entry(text=...), r'references\[0\] lacks the key "text"'),
        (reference_entry(image=...), r'references\[0\] lacks the key "image"'),
        (reference_entry(colour="red"), r'references\[0\] has the unknown key "colour"'),
        (reference_entry(marker="1"), "must be a whole number"),
        (reference_entry(marker=2), r"names \[ref#1\], but no reference has marker 1"),
        (reference_entry(text=None), "must be a string"),
        (reference_entry(image=7), r"references\[0\].image must be a path or a data: URL"),
        (reference_entry(image="red\0.png"), "must be a path or a data: URL"),
        (reference_entry(image="blue.png"), "blue.png' does not exist"),
        (reference_entry(image="../red.png"), "lies outside the folder"),
        (reference_entry(image="a/../../red.png"), "lies outside the folder"),
        (reference_entry(image="data:image/png,abc"), "without base64"),
        (reference_entry(image="data:image/png;base64,a!b"), "base64 content is damaged"),
        (reference_entry(image="data:image/png;base64,aGVsbG8="), r"references\[0\].image is not a picture"),
        ({"instruction": "[ref#1]", "input_images": "red.png"}, '"input_images" must be a list, not str'),
        ({"instruction": "[ref#1]", "input_images": ["red.png"] * 10}, "has 10 entries; use 9 at most"),
        ({"instruction": "[ref#1]", "input_images": [], "references": []}, 'unknown key "references"'),
        ({"task_type": "text", "input_images": []}, 'lacks the key "instruction"'),
    ],
)
def test_wrong_json_is_refused(content: object, message: str, tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InstructionError, match=message):
        Instruction.from_json(tmp_path / "a.json")


def test_paths_are_confined_when_asked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    RED.save(tmp_path / "red.png")
    RED.save(tmp_path / "in" / "red.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "red.png")
    base = tmp_path / "in"
    assert Instruction.from_json(reference_entry(image="red.png"), base, paths="inside")
    assert Instruction.from_json(reference_entry(image=str(base / "red.png")), base, paths="inside")
    assert Instruction.from_json(reference_entry(image="link.png"), base)
    for image in ("link.png", "../red.png", str(tmp_path / "red.png")):
        with pytest.raises(InstructionError, match="lies outside the folder"):
            Instruction.from_json(reference_entry(image=image), base, paths="inside")
    with pytest.raises(InstructionError, match="only data: URLs are read here"):
        Instruction.from_json(reference_entry(image="red.png"), base, paths="none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe\xfa", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"instruction": "a", "instruction": "b"}', 'the key "instruction" appears twice'),
    ],
)
def test_broken_json_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InstructionError, match=f"a.json'.* {message}|a.json': {message}"):
        Instruction.from_json(tmp_path / "a.json")
    with pytest.raises(InstructionError, match="none.json' cannot be read .*; check the path"):
        Instruction.from_json(tmp_path / "none.json")


def test_to_json_wants_a_path_for_each_reference() -> None:
    instruction = Instruction.build("Draw [ref#1].", [(RED, "fox")])
    entry = {"marker": 1, "text": "fox", "image": "red.png"}
    assert instruction.to_json(["red.png"]) == {"instruction": "Draw [ref#1].", "references": [entry]}
    with pytest.raises(InstructionError, match="2 picture paths for 1 references"):
        instruction.to_json(["red.png", "blue.png"])
