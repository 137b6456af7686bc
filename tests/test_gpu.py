"""What only a CUDA device can show: `pytest -m gpu tests/test_gpu.py` there."""

from __future__ import annotations

import copy
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import GOLDEN_LOSSES, GOLDEN_MUON_LOSSES, losses_of, short_preset
from training_runs import Run, new_folder, newest_tensors, start, stepwise_preset

from instruct_imagen.instruction import Instruction, Reference
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import PRESETS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((value.double() - second[name].double()).abs().max()) for name, value in first.items())


def test_a_killed_run_ends_as_one_that_was_not(tokenizer_folder: Path, tmp_path: Path):
    """Up to what repeating a run changes: some kernels add in an order of their own."""
    preset = stepwise_preset((4, 4, 6), "stages.*.optimizer=muon")
    whole, again, killed = (new_folder(tokenizer_folder, tmp_path / name) for name in ("whole", "again", "killed"))
    assert start(Run(preset, whole)) == [0]
    assert start(Run(preset, again)) == [0]
    assert start(Run(preset, killed, save_at=9, kill_at=10)) == [-signal.SIGKILL]
    assert start(Run(preset, killed, resume=True)) == [0]
    repeated = largest_difference(newest_tensors(whole), newest_tensors(again))
    resumed = largest_difference(newest_tensors(whole), newest_tensors(killed))
    print(f"largest difference of a repeated run {repeated}, of a resumed one {resumed}")
    assert resumed <= 4 * repeated


@pytest.mark.parametrize(
    ("preset", "golden"),
    [(PRESETS["debug"], GOLDEN_LOSSES), (short_preset(), GOLDEN_MUON_LOSSES)],
    ids=["adamw", "muon"],
)
def test_losses_are_those_of_the_cpu(preset, golden, tokenizer_folder, tmp_path, monkeypatch):
    losses = losses_of(preset, new_folder(tokenizer_folder, tmp_path / "run"), monkeypatch)
    print([f"{loss:.5f}" for loss in losses])
    assert losses == pytest.approx(golden, rel=0.02)


def test_a_picture_is_that_of_the_cpu(cascade: InstructImagenPipeline):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    instruction = Instruction("A cat in the style of [ref#1].", [Reference(Image.fromarray(image), "style", 1)])

    def draw(pipeline: InstructImagenPipeline) -> np.ndarray:
        output = pipeline([instruction], num_inference_steps=4, generator=torch.Generator().manual_seed(5))
        return np.asarray(output.images[0], dtype=np.int32)

    on_cpu = draw(cascade)
    components = {name: copy.deepcopy(part) for name, part in cascade.components.items()}
    on_gpu = draw(InstructImagenPipeline(**components).to("cuda"))
    print("largest difference of a pixel", np.abs(on_cpu - on_gpu).max())
    assert np.abs(on_cpu - on_gpu).mean() < 2
