"""The ComfyUI node pack, against a stand-in of the V3 node interface: schemas, a workflow, previews, Cancel, errors."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from comfy_stand_in import ComfyUI, Interrupted, Link
from PIL import Image

from instruct_imagen import InstructImagenPipeline, Instruction
from instruct_imagen.errors import InstructionError
from instruct_imagen.guidance import OscillatingGuidance
from instruct_imagen.lora import LORA_FILE, AdapterError
from instruct_imagen.model_folders import ModelError
from instruct_imagen.training.adapters import ADAPTER, train_adapters

PACK = Path(__file__).parents[1] / "comfyui"
LOAD, TIE, DRAW = "InstructImagenLoadPipeline", "InstructImagenReference", "InstructImagenGenerate"


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ComfyUI]:
    monkeypatch.setattr("instruct_imagen.progress.SECONDS_BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr("instruct_imagen.progress.PREVIEW_SHARE", 1e9)
    started = ComfyUI(PACK)
    yield started
    started.close()


@pytest.fixture
def loaded(comfy: ComfyUI, model_folder: Path) -> Link:
    return comfy.run(LOAD, model=str(model_folder))[0]


def batch(*seeds: int, channels: int = 3) -> Link:
    """Pictures that lie on 8 bits, as ComfyUI's Load Image gives them."""
    arrays = [np.random.default_rng(seed).integers(0, 256, (40, 50, channels), dtype=np.uint8) for seed in seeds]
    return Link("IMAGE", torch.from_numpy(np.stack(arrays).astype(np.float32) / 255))


def test_every_node_has_a_sound_schema(comfy: ComfyUI) -> None:
    assert set(comfy.nodes) == {LOAD, TIE, DRAW}
    for node_id in comfy.nodes:
        schema = comfy.schema(node_id)
        assert schema.category == "Instruct-Imagen" and schema.display_name and schema.description


def test_a_workflow_draws_what_the_pipeline_draws(comfy: ComfyUI, loaded: Link) -> None:
    fox, style = batch(0, 1), batch(2)
    (one,) = comfy.run(TIE, image=fox, text="fox")
    (both,) = comfy.run(TIE, image=style, text="style", references=one)
    text = "Draw [ref#1] in the style of [ref#2]."
    (images,) = comfy.run(
        DRAW, pipeline=loaded, instruction=text, references=both, seed=5, num_images=2, steps=3, image_guidance=1.5
    )
    assert images.kind == "IMAGE" and images.value.shape == (2, 32, 32, 3) and images.value.dtype == torch.float32
    assert images.value.min() >= 0 and images.value.max() <= 1
    assert comfy.progress == [(0, 3, "7", None), *((step, 3, "7", (32, 32)) for step in (1, 2, 3))]

    pictures = [
        [Image.fromarray(a) for a in np.rint(link.value.numpy() * 255).astype(np.uint8)] for link in (fox, style)
    ]
    expected = loaded.value(
        Instruction.build(text, [(pictures[0], "fox"), (pictures[1], "style")]),
        num_inference_steps=3,
        image_guidance_scale=1.5,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
        output_type="np",
    ).images
    assert np.array_equal(images.value.numpy(), expected)


def test_without_references_and_with_the_papers_sampler(comfy: ComfyUI, loaded: Link) -> None:
    drawn = [
        comfy.run(DRAW, pipeline=loaded, instruction="a fox", steps=2, sampler=sampler)[0].value
        for sampler in ("paper", "model", "fast", "paper")
    ]
    assert torch.equal(drawn[0], drawn[3]) and torch.equal(drawn[1], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    pipeline: InstructImagenPipeline = loaded.value
    pipeline.use_paper_sampler()
    expected = pipeline(
        Instruction("a fox"),
        num_inference_steps=2,
        guidance=OscillatingGuidance(),
        generator=[torch.Generator().manual_seed(0)],
        output_type="np",
    ).images
    assert np.array_equal(drawn[0].numpy(), expected)


def test_markers_are_counted_or_given(comfy: ComfyUI) -> None:
    (first,) = comfy.run(TIE, image=batch(0), text="fox", marker=2)
    (second,) = comfy.run(TIE, image=batch(1, 2), text="", references=first)
    (third,) = comfy.run(TIE, image=batch(3), text="fox", marker=2, references=second)
    assert [(r.marker, r.text) for r in third.value] == [(2, "fox"), (3, ""), (3, ""), (2, "fox")]


def test_grey_transparent_and_odd_pictures(comfy: ComfyUI) -> None:
    for channels in (1, 3, 4):
        (references,) = comfy.run(TIE, image=batch(0, channels=channels))
        assert references.value[0].image.mode == "RGB" and references.value[0].image.size == (50, 40)
    odd = torch.full((1, 4, 4, 3), float("nan"))
    odd[0, 0] = 9
    (references,) = comfy.run(TIE, image=Link("IMAGE", odd))
    assert np.unique(np.asarray(references.value[0].image)).tolist() == [0, 255]


def test_cancel_ends_between_steps(comfy: ComfyUI, loaded: Link) -> None:
    comfy.cancel_at = 3  # the beginning, and two steps
    with pytest.raises(Interrupted):
        comfy.run(DRAW, pipeline=loaded, instruction="a fox", steps=50)
    assert len(comfy.progress) == 3


def test_errors_are_sentences(comfy: ComfyUI, loaded: Link, model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InstructionError, match="no reference has marker 1"):
        comfy.run(DRAW, pipeline=loaded, instruction="Draw [ref#1].")
    with pytest.raises(InstructionError, match="empty"):
        comfy.run(DRAW, pipeline=loaded)
    with pytest.raises(InstructionError, match="200 at most"):
        comfy.run(TIE, image=batch(0), text="x" * 201)
    with pytest.raises(ModelError, match="there is no model"):
        comfy.run(LOAD, model=str(tmp_path))
    with pytest.raises(AdapterError, match="there is no adapter"):
        comfy.run(LOAD, model=str(model_folder), lora=str(tmp_path))


def test_an_adapter_is_loaded_by_its_name_and_loaded_anew(comfy: ComfyUI, model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    trained = InstructImagenPipeline.from_pretrained(model).unet
    train_adapters(trained, rank=2)
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if ".lora_" in name:
                weight.fill_(0.2)
    trained.save_lora_adapter(str(model / "lora" / "dots"), adapter_name=ADAPTER)
    file = model / "lora" / "dots" / LORA_FILE

    def drawn(**settings) -> torch.Tensor:
        (loaded,) = comfy.run(LOAD, model=str(model), **settings)
        return comfy.run(DRAW, pipeline=loaded, instruction="a fox", steps=2)[0].value

    assert torch.equal(drawn(), drawn(lora="dots", lora_scale=0.0))
    assert not torch.allclose(drawn(), drawn(lora="dots"), atol=1e-3)
    fingerprint = comfy.nodes[LOAD].fingerprint_inputs
    first = fingerprint(str(model), "cpu", "float32", "dots", 1.0)
    assert first == fingerprint(str(model), "cpu", "float32", "dots", 1.0)
    assert first != fingerprint(str(model), "cpu", "float32", "dots", 0.5)
    os.utime(file, (1, 1))
    assert first != fingerprint(str(model), "cpu", "float32", "dots", 1.0)


def test_a_model_that_is_saved_anew_is_loaded_anew(comfy: ComfyUI, model_folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    index.write_bytes((model_folder / "model_index.json").read_bytes())
    fingerprint = comfy.nodes[LOAD].fingerprint_inputs
    first = fingerprint(str(tmp_path), "cpu", "float32")
    assert first == fingerprint(str(tmp_path), "cpu", "float32") != fingerprint(str(tmp_path), "cpu", "bfloat16")
    os.utime(index, (1, 1))
    assert first != fingerprint(str(tmp_path), "cpu", "float32")


def test_the_pack_can_be_registered() -> None:
    content = tomllib.loads((PACK / "pyproject.toml").read_text())
    from instruct_imagen import __version__

    name = content["project"]["name"]
    assert re.fullmatch(r"[a-z](?:[a-z0-9]|[-_.](?![-_.])){0,98}", name) and "comfyui" not in name
    assert (
        re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", content["project"]["version"])
        and content["project"]["version"] == __version__
    )
    assert content["tool"]["comfy"]["DisplayName"]
