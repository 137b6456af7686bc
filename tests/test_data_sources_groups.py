"""Sources of pictures that belong together: subjects, styles, style transfer, edits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_sources_common import build, dropped, near, picture, save, write

from instruct_imagen.data.report import DataError, Report
from instruct_imagen.data.sources import SOURCES, SourceOptions
from instruct_imagen.data.sources.edit import as_wish, mask_of
from instruct_imagen.world import GENERIC_WORDS

CLASSES = "Classes\n\nsubject_name,class\nteapot,teapot\nred_dog,dog\n../out,cup\ngone,vase\nlone,can\n\nPrompts\na,b\n"


def dreambooth(root: Path) -> Path:
    for number in range(5):
        save(root / "dataset" / "teapot" / f"{number:02d}.jpg", seed=number)
    save(root / "dataset" / "red_dog" / "00.jpg", seed=10)
    save(root / "dataset" / "red_dog" / "03.jpg", seed=11)
    (root / "dataset" / "red_dog" / "04.jpg").write_bytes(b"none")
    save(root / "dataset" / "lone" / "00.jpg")
    save(root / "out" / "00.jpg")
    write(root / "dataset" / "prompts_and_classes.txt", CLASSES)
    return root


def test_dreambooth_subjects(tmp_path: Path):
    examples, report = build("subject", dreambooth(tmp_path / "dreambooth"), tmp_path, examples_per_picture=4)
    teapots = [example for example in examples if example.key.startswith("subject-teapot")]
    assert len(teapots) == 20 and len(examples) == 28
    counts = set()
    for example in teapots:
        references = example.instruction.references
        counts.add(len(references))
        assert {reference.marker for reference in references} == {1}
        assert len({reference.image.tobytes() for reference in references}) == len(references)
        assert all(reference.image.tobytes() != example.target.tobytes() for reference in references)
        words = [word for word in ("teapot", *GENERIC_WORDS) if word in references[0].text]
        assert words and words[0] in example.instruction.text.lower()
    assert counts == {1, 2, 3}
    named = ["teapot" in example.instruction.text.lower() for example in teapots]
    assert any(named) and not all(named)
    assert dropped(report, "subject") == {
        "path leaves its folder": 1,
        "subject has no folder": 1,
        "group has fewer than two pictures": 1,
        "picture cannot be read": 1,
    }
    assert examples == [] or near(teapots[0].target, picture(0))


def test_custom_concept_101(tmp_path: Path):
    root = tmp_path / "customconcept101"
    for number in range(3):
        save(root / "benchmark_dataset" / "wearable_glasses" / f"{number}.jpeg", seed=number)
    concepts = [
        {"class_prompt": "glasses", "instance_data_dir": "./benchmark_dataset/wearable_glasses"},
        {"class_prompt": "barn", "instance_data_dir": "./benchmark_dataset/scene_barn"},
        {"class_prompt": " ", "instance_data_dir": "./benchmark_dataset/wearable_glasses"},
        {"instance_data_dir": "x"},
        7,
    ]
    write(root / "dataset.json", concepts)
    examples, report = build("subject", root, tmp_path, examples_per_picture=6)
    assert len(examples) == 18
    assert not any("a glasses" in example.instruction.text for example in examples)
    assert dropped(report, "subject") == {
        "subject has no folder": 1,
        "subject has no class": 1,
        "concept lacks its folder or class": 2,
    }


def test_subject_groups_with_captions(tmp_path: Path):
    root = tmp_path / "groups"
    for number in range(4):
        save(root / "pictures" / f"{number}.png", seed=number)
    save(tmp_path / "secret.png")
    images = [{"image": f"pictures/{n}.png", "caption": f"A fox near place {n}."} for n in range(3)]
    lines = [
        {"subject": "fox", "images": images},
        {"images": ["pictures/3.png", {"image": "../secret.png"}]},
        {"images": [{"image": "pictures/3.png"}, 5]},
        {"subject": "cat"},
        {"subject": 3, "images": images},
        "junk",
    ]
    examples, report = build("subject", write(root / "groups.jsonl", lines), tmp_path)
    assert len(examples) == 3
    for number, example in enumerate(examples):
        text = example.instruction.text.lower()
        assert f"a fox near place {number}" in text and "fox" in example.instruction.references[0].text
    assert dropped(report, "subject") == {
        "path leaves its folder": 1,
        "no other picture in the group": 1,
        "image entry is no object with a path": 1,
        "group has fewer than two pictures": 1,
        "group has no list of images": 1,
        "subject is no text": 1,
        "line is no JSON object": 1,
    }


class ColourEmbedder:
    """Pictures by their mean colour; texts by the colour they name."""

    def images(self, images: list[Image.Image]) -> np.ndarray:
        return self._unit([np.asarray(image, float).mean((0, 1)) for image in images])

    def texts(self, texts: list[str]) -> np.ndarray:
        colours = {"red": (255, 0, 0), "blue": (0, 0, 255)}
        return self._unit([colours["red" if "red" in text else "blue"] for text in texts])

    def _unit(self, vectors: list) -> np.ndarray:
        values = np.array(vectors, np.float32) + 1e-3
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_style_folders(tmp_path: Path):
    root = tmp_path / "styles"
    for number in range(3):
        save(root / "Ink_wash" / f"{number}.png", seed=number)
        write(root / "Ink_wash" / f"{number}.txt", f"a fox number {number}" if number else " ")
    examples, report = build("style", root, tmp_path, examples_per_picture=12)
    assert len(examples) == 24
    for example in examples:
        (reference,) = example.instruction.references
        assert reference.image.tobytes() != example.target.tobytes()
        assert "fox number" in example.instruction.text and "ink wash" not in example.instruction.text.lower()
    assert any("ink wash" in example.instruction.references[0].text for example in examples)
    assert dropped(report, "style") == {"no caption": 1}


def test_styled_pictures_are_filtered_by_what_the_embedder_sees(tmp_path: Path):
    root = tmp_path / "styles"
    colours = {"red": (250, 20, 20), "rose": (250, 120, 60), "copy": (250, 20, 21), "blue": (20, 20, 250)}
    for name, colour in colours.items():
        save(root / f"{name}.png", Image.new("RGB", (40, 40), colour))

    def group(first: str, second: str, caption: str) -> dict[str, object]:
        return {"style": "flat", "images": [{"image": f"{first}.png", "caption": caption}, f"{second}.png"]}

    lines = [
        group("red", "rose", "a red thing"),
        group("red", "copy", "a red thing"),
        group("red", "blue", "a red thing"),
        group("red", "rose", "a blue thing"),
    ]
    source = write(root / "groups.jsonl", lines)
    examples, report = build(
        "style", source, tmp_path, embedder=ColourEmbedder(), min_style_similarity=0.6, min_text_similarity=0.5
    )
    assert len(examples) == 1 and "a red thing" in examples[0].instruction.text.lower()
    assert dropped(report, "style") == {
        "style reference is nearly the target": 1,
        "style unlike its reference": 1,
        "picture unlike its caption": 1,
        "no caption": 4,
    }
    assert len(build("style", source, tmp_path)[0]) == 4


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_style_transfer_manifests(suffix: str, tmp_path: Path):
    root = tmp_path / "transfer"
    for number, name in enumerate(("content", "style", "result")):
        save(root / f"{name}.png", seed=number)
    save(root / "wide.png", picture(5, (90, 40)))
    rows = [
        ("content.png", "style.png", "result.png", "oil  painting"),
        ("content.png", "style.png", "wide.png", ""),
        ("content.png", "../../x.png", "result.png", ""),
    ]
    keys = ("content", "style", "result", "style_name")
    manifest = root / f"triples{suffix}"
    if suffix == ".csv":
        write(manifest, "\n".join(",".join(row) for row in (keys, *rows)) + "\n")
    else:
        write(manifest, [*(dict(zip(keys, row, strict=True)) for row in rows), {"content": "content.png"}])
    examples, report = build("style_transfer", manifest, tmp_path, examples_per_picture=10)
    assert len(examples) == 10
    for example in examples:
        style, content = example.instruction.references
        assert (style.marker, content.marker) == (1, 2)
        assert style.image.tobytes() == picture(1).tobytes() and content.image.tobytes() == picture(0).tobytes()
        assert example.target.tobytes() == picture(2).tobytes()
    assert any("oil painting" in example.instruction.references[0].text for example in examples)
    counts = dropped(report, "style_transfer")
    assert counts["content and result have not the same shape"] == counts["path leaves its folder"] == 1
    assert counts.get("record lacks content, style or result", 0) == (suffix == ".jsonl")


def test_style_transfer_folders(tmp_path: Path):
    root = tmp_path / "transfer"
    for number, (role, suffix) in enumerate((("content", "jpg"), ("style", "png"), ("result", "png"))):
        save(root / role / f"a.{suffix}", seed=number)
    save(root / "result" / "b.png")
    (example,), report = build("style_transfer", root, tmp_path)
    assert near(example.instruction.references[0].image, picture(1)) and near(example.target, picture(2))
    assert dropped(report, "style_transfer") == {"picture lacks its content, style or result": 1}


def masked(source: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The source with a transparent box, as MagicBrush stores its masks."""
    alpha = Image.new("L", source.size, 255)
    alpha.paste(0, box)
    mask = source.copy()
    mask.putalpha(alpha)
    return mask


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def check_edit(example, box: tuple[int, int, int, int]) -> None:
    source, mask = example.instruction.references
    assert (source.marker, mask.marker) == (1, 2) and source.image.size == mask.image.size == example.target.size
    assert source.image.tobytes() == picture(0).tobytes() and near(example.target, picture(1), 3)
    values = np.asarray(mask.image)[..., 0]
    left, top, right, bottom = box
    assert (values[top:bottom, left:right] == 255).all() and (values == 255).sum() == (right - left) * (bottom - top)


def test_magicbrush_sessions(tmp_path: Path):
    root, box = tmp_path / "magicbrush", (10, 8, 30, 40)
    folder = root / "images" / "7"
    save(folder / "7-input.png", picture(0))
    save(folder / "7-mask1.png", masked(picture(0), box))
    save(folder / "7-output1.png", picture(1))
    save(folder / "7-mask2.png", masked(picture(0), (0, 0, 0, 0)))
    save(folder / "7-wide.png", picture(1, (120, 40)))
    white = picture(0)
    white.paste((255, 255, 255), box)
    save(folder / "7-mask3.png", white)
    turn = {"input": "7-input.png", "mask": "7-mask1.png", "output": "7-output1.png", "instruction": "Add a hat. "}
    sessions = {
        "7": [
            turn,
            turn | {"mask": "7-mask2.png"},
            turn | {"mask": "7-mask3.png"},
            turn | {"output": "7-wide.png"},
            turn | {"instruction": ""},
            turn | {"input": "../../../secret.png"},
            {"input": "7-input.png"},
        ]
    }
    write(root / "edit_sessions.json", sessions)
    examples, report = build("edit", root, tmp_path)
    assert [example.key for example in examples] == ["edit-7-1-0", "edit-7-3-0"]
    for example in examples:
        check_edit(example, box)
        assert "add a hat" in example.instruction.text.lower()
    assert dropped(report, "edit") == {
        "mask marks nothing or everything": 1,
        "pictures have not the same shape": 1,
        "no instruction": 1,
        "path leaves its folder": 1,
        "turn lacks input, mask, output or instruction": 1,
    }


def test_magicbrush_parquet(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    box = (10, 8, 30, 40)
    source, target = png(picture(0)), png(picture(1).resize((120, 96), Image.Resampling.LANCZOS))
    large_mask = masked(picture(0).resize((120, 96)), (20, 16, 60, 80))

    def row(img_id: str, turn: int, **other: object) -> dict[str, object]:
        mask = {"bytes": png(large_mask), "path": None}
        good = {"source_img": {"bytes": source, "path": "a.png"}, "mask_img": mask, "instruction": "Make it red"}
        return {"img_id": img_id, "turn_index": turn, **good, "target_img": {"bytes": target, "path": None}} | other

    rows = [
        row("1", 1),
        row("1", 2, instruction=None),
        row("2", 1, target_img=None),
        row("3", 1, source_img={"bytes": b"none", "path": None}),
        row("4", 1, source_img={"bytes": None, "path": "../secret.png"}),
        row("1", 1),
    ]
    data = tmp_path / "magicbrush" / "data"
    data.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), data / "train-00000-of-00002.parquet")
    (data / "train-00001-of-00002.parquet").write_bytes(b"PAR1 no")
    parquet.write_table(pyarrow.Table.from_pylist([row("9", 1)]), data / "dev-00000-of-00001.parquet")
    (example,), report = build("edit", tmp_path / "magicbrush", tmp_path)
    assert example.key == "edit-1-1-0" and "make it red" in example.instruction.text.lower()
    check_edit(example, box)
    assert dropped(report, "edit") == {
        "no instruction": 1,
        "row lacks a picture": 1,
        "picture cannot be read": 1,
        "path leaves its folder": 1,
        "record comes twice": 1,
        "parquet file is damaged or lacks a column": 1,
    }
    (held_out,), _ = build("edit", data / "dev-00000-of-00001.parquet", tmp_path)
    assert held_out.key == "edit-9-1-0"


def test_edits_in_words_and_masks():
    assert as_wish("  Put a cat\non the sofa. ") == "put a cat on the sofa"
    assert as_wish("I want a dog") == "I want a dog"
    assert as_wish("UFOs should land") == "UFOs should land"
    image = Image.new("RGB", (40, 40), "white")
    image.paste((0, 0, 0), (0, 0, 20, 40))
    assert np.array_equal(mask_of(image, None), np.arange(40)[None, :].repeat(40, 0) >= 20)


def test_files_that_are_no_index_are_refused(tmp_path: Path):
    wrong = {"subject": "a.txt", "style": "a.txt", "style_transfer": "a.txt", "edit": "a.txt"}
    for name, file in wrong.items():
        with pytest.raises(DataError):
            list(SOURCES[name].open(write(tmp_path / file, "x"), Report(), SourceOptions()))
