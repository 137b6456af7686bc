"""PNG files carry how they were made, in one documented chunk, and are read back."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from instruct_imagen.metadata import PNG_KEY, MetadataError, Provenance, read_png_metadata, title_with, write_png

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
MADE = Provenance("Draw [ref#1].", ((1, "fox"),), "instruct-imagen-nano", 7, 24, 3.0, None, 16)


@given(st.text(max_size=50), st.text(max_size=20), st.none() | st.floats(0, 30))
def test_what_is_written_is_read(instruction: str, text: str, image_guidance: float | None) -> None:
    made = replace(MADE, instruction=instruction, references=((1, text), (1, "")), image_guidance_scale=image_guidance)
    assert read_png_metadata(write_png(IMAGE, made)) == made


def test_the_chunk_is_json_under_the_documented_key_and_the_pixels_stay(tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    path.write_bytes(write_png(IMAGE, replace(MADE, instruction="Füchse → 🦊")))
    with Image.open(path) as image:
        assert json.loads(image.info[PNG_KEY])["instruction"] == "Füchse → 🦊"
        assert np.array_equal(np.asarray(image), np.asarray(IMAGE))
    assert read_png_metadata(path).seed == 7


def with_chunk(text: str) -> bytes:
    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_itxt(PNG_KEY, text)
    IMAGE.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def test_other_pictures_are_refused_in_one_sentence(tmp_path: Path) -> None:
    plain, jpeg = io.BytesIO(), io.BytesIO()
    IMAGE.save(plain, "PNG")
    IMAGE.save(jpeg, "JPEG")
    odd = [with_chunk(text) for text in ("{", "[]", "{}", '{"references": 1}', json.dumps(asdict(MADE) | {"x": 1}))]
    for content in (plain.getvalue(), jpeg.getvalue(), b"", write_png(IMAGE, MADE)[:60], *odd):
        with pytest.raises(MetadataError, match="does not say"):
            read_png_metadata(content)
    with pytest.raises(MetadataError, match=r"none\.png"):
        read_png_metadata(tmp_path / "none.png")


def test_adapters_are_named_behind_the_model():
    adapters = [("edit", 1.0), ("train/mine/lora", 0.5)]
    assert title_with("instruct-imagen-nano", adapters) == "instruct-imagen-nano + edit + mine/lora x 0.5"
    assert title_with("instruct-imagen-nano", []) == "instruct-imagen-nano"
