"""Sources of single pictures: captions, art, controls, sketches."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_sources_common import build, dropped, near, picture, save, write

from instruct_imagen.data.controls import ControlModels
from instruct_imagen.data.report import DataError, Report
from instruct_imagen.data.sources import SOURCES, SourceOptions
from instruct_imagen.data.sources.art import style_words, title_caption


def slope_depth(image: Image.Image) -> np.ndarray:
    """Nearer to the left."""
    return np.broadcast_to(np.linspace(1, 0, image.width, dtype=np.float32), (image.height, image.width))


def coco(root: Path) -> Path:
    """Three good pictures, and one of everything that may be wrong."""
    for number in (9, 25, 30):
        save(root / "train2017" / f"{number:012d}.jpg", seed=number)
    (root / "train2017" / "000000000031.jpg").write_bytes(b"\xff\xd8 nothing")
    save(root / "secret.jpg")
    names = {n: f"{n:012d}.jpg" for n in (9, 25, 30, 31, 32)} | {33: "../secret.jpg"}
    images = [{"id": number, "file_name": name, "width": 60, "height": 48} for number, name in names.items()]
    captions = [(9, "A dog in the snow. "), (9, "Two words"), (25, "A red cup."), (31, "x"), (32, "x"), (33, "x")]
    annotations = [{"image_id": i, "id": n, "caption": text} for n, (i, text) in enumerate(captions)]
    content = {"images": [*images, "junk"], "annotations": [*annotations, {"id": 99}, {"image_id": 9, "caption": " "}]}
    write(root / "annotations" / "captions_train2017.json", content)
    write(root / "annotations" / "captions_val2017.json", {"images": [], "annotations": []})
    return root


def folder_pairs(root: Path, count: int = 4) -> Path:
    """Pictures with captions beside, as img2dataset's `files` format."""
    for number in range(count):
        save(root / f"{number:05d}.png", seed=number)
        write(root / f"{number:05d}.txt", f"A photo of thing number {number}.")
    return root


def test_coco_captions(tmp_path: Path):
    examples, report = build("text", coco(tmp_path / "coco"), tmp_path)
    assert [example.key for example in examples] == ["text-9-0-0", "text-25-1-0"]
    assert "a dog in the snow" in examples[0].instruction.text.lower()
    assert not examples[0].instruction.references
    assert near(examples[1].target, picture(25))
    assert dropped(report, "text") == {
        "caption entry is not COCO's": 2,
        "image entry is not COCO's": 1,
        "no caption": 1,
        "path leaves its folder": 1,
        "picture is missing": 1,
    }
    assert report.step("text").kept == 2 and sum(dropped(report, "decode").values()) == 1


def test_coco_gives_each_caption_before_one_comes_again(tmp_path: Path):
    examples, _ = build("text", coco(tmp_path / "coco"), tmp_path, examples_per_picture=3, max_examples=3)
    texts = [example.instruction.text.lower() for example in examples]
    assert [("dog" in text, "two words" in text) for text in texts] == [(True, False), (False, True), (True, False)]


def test_coco_takes_the_file_that_is_named_and_refuses_other_json(tmp_path: Path):
    root = coco(tmp_path / "coco")
    with pytest.raises(DataError, match="val2017"):
        list(SOURCES["text"].open(root / "annotations" / "captions_val2017.json", Report(), SourceOptions()))
    named = root / "annotations" / "captions_train2017.json"
    assert len(list(SOURCES["text"].open(named, Report(), SourceOptions()))) == 2
    for wrong in ("{", "[]", '{"images": 1, "annotations": []}'):
        write(named, wrong)
        with pytest.raises(DataError, match="captions_train2017"):
            list(SOURCES["text"].open(root, Report(), SourceOptions()))


def test_pairs_of_a_folder_and_of_a_tar_become_the_same_texts(tmp_path: Path):
    folder = folder_pairs(tmp_path / "pairs")
    tar_folder = tmp_path / "tars"
    tar_folder.mkdir()
    with tarfile.open(tar_folder / "00000.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            tar.addfile(member, io.BytesIO(path.read_bytes()))
    first, _ = build("text", folder, tmp_path, size_px=32)
    second, _ = build("text", tar_folder, tmp_path, size_px=32)
    assert len(first) == len(second) == 4
    for number, (one, two) in enumerate(zip(first, second, strict=True)):
        assert one.target.tobytes() == two.target.tobytes() and one.target.size == (32, 32)
        assert all(f"a photo of thing number {number}" in e.instruction.text.lower() for e in (one, two))


def test_max_examples_and_the_seed(tmp_path: Path):
    folder = folder_pairs(tmp_path / "pairs", 12)
    first, report = build("text", folder, tmp_path, max_examples=8)
    second, _ = build("text", folder, tmp_path, max_examples=8, seed=1)
    assert len(first) == report.step("text").kept == 8
    assert [e.key for e in first] == [e.key for e in second]
    assert [e.instruction.text for e in first] != [e.instruction.text for e in second]


@pytest.mark.parametrize("kind", ["depth", "mask", "edge", "sketch"])
def test_controls_of_captioned_pictures(kind: str, tmp_path: Path):
    controls = ControlModels(depth_model=slope_depth)
    folder = folder_pairs(tmp_path / "pairs", 3)
    examples, _ = build(kind, folder, tmp_path, controls=controls, examples_per_picture=2, size_px=48)
    assert len(examples) == 6
    for example in examples:
        (reference,) = example.instruction.references
        values = np.asarray(reference.image)
        assert reference.image.size == example.target.size == (48, 48) and values.std() > 5
        if kind == "depth":
            assert values[:, 0].min() > 250 and values[:, -1].max() < 5
        if kind == "mask":
            assert values[24, 24].min() == 255 and values[2, 2].max() == 0
        assert "thing number" in example.instruction.text
    if kind in ("edge", "sketch"):
        assert len({example.instruction.references[0].image.tobytes() for example in examples}) > 3


def test_a_transparent_picture_shows_its_own_mask(tmp_path: Path):
    cut = picture(3)
    alpha = Image.new("L", cut.size, 0)
    alpha.paste(255, (5, 5, 20, 40))
    cut.putalpha(alpha)
    save(tmp_path / "pairs" / "a.png", cut)
    write(tmp_path / "pairs" / "a.txt", "a block")
    (example,), _ = build("mask", tmp_path / "pairs", tmp_path)
    mask = np.asarray(example.instruction.references[0].image)[..., 0] > 0
    assert mask[5:40, 5:20].all() and mask.sum() == 15 * 35
    assert np.asarray(example.target)[0, 0].min() == 255  # transparency is shown over white


def test_pictures_without_an_object_or_edges_are_dropped(tmp_path: Path):
    save(tmp_path / "pairs" / "a.png", Image.new("RGB", (64, 64), "grey"))
    write(tmp_path / "pairs" / "a.txt", "nothing")
    for kind in ("mask", "edge", "sketch"):
        examples, report = build(kind, tmp_path / "pairs", tmp_path)
        assert not examples and dropped(report, kind) == {f"no {kind} found in the picture": 1}


def test_depth_without_a_model_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(DataError, match="depth_model"):
        SOURCES["depth"].open(tmp_path / "missing", Report(), SourceOptions())


def contour_drawings(root: Path) -> Path:
    for number, name in enumerate(("park", "lake", "hill", "test")):
        save(root / "image" / f"{name}.jpg", seed=number)
        for drawing in range(1, 6 if name != "hill" else 1):
            lines = Image.new("L", (60, 48), 255)
            lines.paste(0, (drawing * 4, 10, drawing * 4 + 2, 40))
            save(root / "sketch-rendered" / "width-5" / f"{name}_{drawing:02d}.png", lines)
    write(root / "list" / "train.txt", "park\nlake\nhill\n../image/park\nmissing\npark\n../../x\n")
    write(root / "list" / "test.txt", "test\n")
    return root


def test_contour_drawings_are_the_given_sketches(tmp_path: Path):
    root = contour_drawings(tmp_path / "ContourDrawing")
    write(root / "captions.csv", "file,caption\nimage/park.jpg,A park in spring.\n")
    examples, report = build("sketch", root, tmp_path, examples_per_picture=5)
    parks = [e for e in examples if e.key.startswith("sketch-park")]
    assert len(examples) == 10 and len(parks) == 5
    assert all("a park in spring" in e.instruction.text.lower() for e in parks)
    assert not any("spring" in e.instruction.text for e in examples if e not in parks)
    columns = {int(np.asarray(e.instruction.references[0].image)[20, :, 0].argmin()) for e in parks}
    assert columns == {4, 8, 12, 16, 20}  # each drawing once
    assert near(parks[0].target, picture(0))
    assert dropped(report, "sketch") == {"path leaves its folder": 1, "photo has no drawing": 3}


def test_sketches_are_computed_where_none_are_given_and_folders_without_drawings_refused(tmp_path: Path):
    (tmp_path / "ContourDrawing" / "sketch-rendered").mkdir(parents=True)
    with pytest.raises(DataError, match="width-5"):
        list(SOURCES["sketch"].open(tmp_path / "ContourDrawing", Report(), SourceOptions()))


def test_wikiart_names_the_style(tmp_path: Path):
    root = tmp_path / "wikiart"
    save(root / "Abstract_Expressionism" / "willem-de-kooning_woman-1952.jpg", seed=1)
    save(root / "Ukiyo_e" / "hiroshige_evening-snow.jpg", seed=2)
    (root / "Ukiyo_e" / "hokusai_broken.jpg").write_bytes(b"none")
    write(root / "captions.csv", "file,caption\nUkiyo_e/hiroshige_evening-snow.jpg,A village under snow.\n")
    examples, report = build("art", root, tmp_path, examples_per_picture=8)
    texts = [example.instruction.text for example in examples]
    assert len(texts) == 16 and len(set(texts)) > 8
    assert all("abstract expressionist painting" in text.lower() for text in texts[:8])
    assert all("woman" in text.lower() for text in texts[:8])
    assert all("ukiyo-e print" in t.lower() and "a village under snow" in t.lower() for t in texts[8:])
    assert dropped(report, "art") == {"picture cannot be read": 1}


def test_style_folders_in_words():
    assert style_words("Northern_Renaissance") == "northern renaissance painting"
    assert style_words("Color_Field_Painting") == "color field painting"
    assert style_words("Pop_Art") == "pop art"
    assert style_words("Post_Impressionism") == "post-impressionist painting"


def test_captions_out_of_titles():
    def all_captions(stem: str) -> set[str]:
        return {title_caption(stem, np.random.default_rng(seed)) for seed in range(40)}

    assert all_captions("vincent-van-gogh_wheat-field-with-crows-1890") == {
        "wheat field with crows",
        '"wheat field with crows" by Vincent van Gogh',
        'a work by Vincent van Gogh called "wheat field with crows"',
        'a picture titled "wheat field with crows"',
    }
    assert all_captions("mark-rothko_untitled-12") == {"a work by Mark Rothko"}
    assert all_captions("mark-rothko_1954(1)") == {"a work by Mark Rothko"}
    assert all_captions("unknown-artist_untitled") == {"a work of art"}
    assert all_captions("00017") == {"a work of art"}
    assert "still life" in all_captions("still-life")
    for stem in ("a_b-c-1900-2", "x-y_study-of-a-horse-1871", "_", "-_-", "é-ü_große-straße"):
        for caption in all_captions(stem):
            assert caption and not re.search(r"  |^ | $", caption)
