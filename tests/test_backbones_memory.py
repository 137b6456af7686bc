"""Memory from the meta device: what is counted, sizes of known models, and the estimate against a real run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from instruct_imagen.backbones.catalogue import KNOWN_MODELS, model_in, preset_model
from instruct_imagen.backbones.importer import import_pipeline
from instruct_imagen.backbones.memory import FusedAttention, LiveBytes, estimate_sampling, estimate_training
from instruct_imagen.cli import main

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "backbone_memory.py"
TOLERANCE = 0.15  # measured when this was written: 4 to 8 % less than real


def meta(*shape: int, **options) -> torch.Tensor:
    return torch.empty(*shape, device="meta", **options)


def test_live_bytes_rise_with_new_tensors_and_fall_with_forgotten_ones():
    before = meta(1000)
    with LiveBytes() as live:
        live.know([before])
        first = before * 2  # 4,000 bytes
        second = first.view(10, 100)  # no new memory
        third = second + 1
        assert (live.now, live.peak) == (8000, 8000)
        del first, second
        assert live.now == 4000
        third += 1
        del third
        assert (live.now, live.peak) == (0, 8000)


def test_a_backward_pass_is_counted_with_what_it_keeps_and_makes():
    layers = torch.nn.Sequential(*(torch.nn.Linear(100, 100, bias=False, device="meta") for _ in range(4)))
    with LiveBytes() as live:
        live.know(layers.parameters())
        output = layers(meta(10, 100))
        assert live.now == 5 * 4000  # the input and four outputs
        output.sum().backward()
    assert live.now >= 4 * 40_000  # gradients of the weights
    assert live.peak < 4 * 40_000 + 8 * 4000


def test_attention_keeps_no_scores():
    query = meta(1, 2, 500, 8, requires_grad=True)
    with FusedAttention(), LiveBytes() as live:
        live.know([query])
        F.scaled_dot_product_attention(query, query, query).sum().backward()
    assert query.grad is not None
    assert live.peak < 6 * query.nbytes < 500 * 500 * 2 * 4


def test_weights_and_states_are_exact():
    networks = preset_model("debug").on_meta()
    unet = sum(p.numel() for p in networks.unet.parameters())
    text = sum(p.numel() for p in networks.text_encoder.parameters())
    sampling, training = estimate_sampling(networks), estimate_training(networks)
    assert sampling.weights == training.weights == 4 * (unet + text)
    assert (sampling.states, training.states) == (0, 12 * unet)
    assert training.activations > 4 * unet  # the gradients are among them
    assert training.total == training.weights + training.states + training.activations
    assert estimate_training(networks, 64).total > training.total
    mixed = estimate_training(preset_model("debug").on_meta().to(torch.bfloat16), mixed=True)
    assert mixed.weights == 2 * (unet + text) + 4 * unet
    assert mixed.activations > 4 * unet


@pytest.mark.parametrize("name", [name for name, model in KNOWN_MODELS.items() if model.published])
def test_known_models_have_their_published_size(name: str):
    model = KNOWN_MODELS[name]
    networks = model.on_meta()
    backbone = sum(p.numel() for p in networks.unet.parameters()) - networks.unet.num_context_parameters()
    assert backbone / 1e6 == pytest.approx(model.published, rel=0.08)


@pytest.mark.parametrize("kind", ["if", "sd"])
def test_a_folder_is_estimated_from_its_configurations(kind: str, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(f"{kind}_folder")
    networks, pipeline = model_in(folder).on_meta(), import_pipeline(folder)
    for name in ("unet", "vae"):
        found, real = getattr(networks, name), getattr(pipeline, name)
        assert (found is None) == (real is None)
        if real is not None:
            assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in real.parameters())
    assert networks.size_px == pipeline.size_px


def test_the_command_prints_the_estimate_of_a_folder(sd_folder: Path, capsys: pytest.CaptureFixture):
    assert main(["import", str(sd_folder), "--estimate", "--quiet"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert rows[-1].startswith(f"| {sd_folder} | 32 |")
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.slow
def test_the_estimate_agrees_with_what_a_real_run_takes():
    command = [sys.executable, str(BENCHMARK), "nano", "--json"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["kind"] for row in rows] == ["sampling", "training"]
    for row in rows:
        assert row["estimated"] == pytest.approx(row["measured"], rel=TOLERANCE), row
