"""InstructUNet: what it adds to its backbone, and that it adds nothing at first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from instruct_imagen.conditioning import Conditioning
from instruct_imagen.model import build_unet
from instruct_imagen.presets import PRESETS, AdaptedModel, ModelConfig
from instruct_imagen.unet import InstructUNet, masked_mean

TEXT_DIM = 48


@pytest.fixture(scope="module")
def backbone() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=48,
        out_channels=48,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=16,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=TEXT_DIM,
        norm_num_groups=8,
    ).eval()


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    return {
        "sample": torch.randn(3, 3, 32, 32, generator=generator),
        "timestep": torch.tensor([3, 500, 999]),
        "text": torch.randn(3, 7, TEXT_DIM, generator=generator),
        "mask": mask,
        "context": torch.randn(3, 2, 64, 4, 4, generator=generator),
        "context_mask": torch.tensor([[True, False], [True, True], [False, False]]),
    }


def evaluate(model: InstructUNet, inputs: dict[str, torch.Tensor], with_context: bool = True) -> torch.Tensor:
    context = (inputs["context"], inputs["context_mask"]) if with_context else (None, None)
    with torch.no_grad():
        cache = model.project(inputs["text"], inputs["mask"], *context)
        return model(inputs["sample"], inputs["timestep"], inputs["text"], cache)


def set_context_output(model: InstructUNet) -> None:
    torch.manual_seed(2)
    for _, processor in model.context_layers:
        if processor.reads_context:
            torch.nn.init.normal_(processor.to_out_context.weight, std=0.2)


def test_a_fresh_model_computes_what_its_backbone_computes(backbone, inputs):
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    with torch.no_grad():
        expected = backbone(
            F.pixel_unshuffle(inputs["sample"], 4),
            inputs["timestep"],
            inputs["text"],
            class_labels=masked_mean(inputs["text"], inputs["mask"]),
            encoder_attention_mask=inputs["mask"],
        ).sample
    torch.testing.assert_close(evaluate(model, inputs), F.pixel_shuffle(expected, 4), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(evaluate(model, inputs), evaluate(model, inputs, False), rtol=0, atol=0)


def test_the_written_out_attention_agrees_with_the_fused_one(backbone, inputs):
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    set_context_output(model)
    cache = model.project(inputs["text"], inputs["mask"], inputs["context"], inputs["context_mask"])
    with_gradients = model(inputs["sample"], inputs["timestep"], inputs["text"], cache)
    torch.testing.assert_close(with_gradients, evaluate(model, inputs), rtol=1e-4, atol=1e-5)


def test_context_is_read_and_masked_exactly(backbone, inputs):
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    set_context_output(model)
    before = evaluate(model, inputs)
    without = evaluate(model, inputs, with_context=False)
    assert (before[:2] - without[:2]).abs().max() > 1e-3
    torch.testing.assert_close(before[2], without[2], rtol=0, atol=1e-6)
    changed = dict(inputs, context=inputs["context"].clone())
    changed["context"][~inputs["context_mask"]] = 1e4
    torch.testing.assert_close(evaluate(model, changed), before, rtol=0, atol=1e-6)
    changed["context"][0, 0] += 1
    assert (evaluate(model, changed)[0] - before[0]).abs().max() > 1e-3


def test_the_place_of_a_reference_among_the_references_does_not_matter(backbone, inputs):
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    set_context_output(model)
    swapped = dict(inputs, context=inputs["context"].flip(1), context_mask=inputs["context_mask"].flip(1))
    torch.testing.assert_close(evaluate(model, swapped), evaluate(model, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("times", "rows"), [(1, [2, 0, 1, 1]), (1, [2]), (2, [5, 3, 0, 1, 2]), (3, list(range(9)))])
def test_selected_and_repeated_rows_read_their_own_references(backbone, inputs, times: int, rows: list[int]):
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    set_context_output(model)
    whole = model.project(inputs["text"], inputs["mask"], inputs["context"], inputs["context_mask"])
    chosen = Conditioning(inputs["text"], whole).repeat(times).select(torch.tensor(rows))
    once = {name: tensor[torch.tensor(rows) // times] for name, tensor in inputs.items()}
    with torch.no_grad():
        found = model(once["sample"], once["timestep"], chosen.text_BLE, chosen.cache)
    torch.testing.assert_close(found, evaluate(model, once), rtol=1e-4, atol=1e-5)


def test_pictures_that_share_references_learn_together(backbone, inputs):
    """The gradient of a repeated row's references is that of as many separate rows."""
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    set_context_output(model)
    weight = model.context_layers[0][1].to_k_context.weight
    gradients = []
    for separate in (False, True):
        rows = torch.arange(3).repeat_interleave(2)
        once = {name: tensor[rows] for name, tensor in inputs.items()}
        source = once if separate else inputs
        cache = model.project(source["text"], source["mask"], source["context"], source["context_mask"])
        cache = cache if separate else cache.repeat(2)
        noise = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))
        prediction = model(once["sample"] + noise, once["timestep"], once["text"], cache)
        gradients += torch.autograd.grad(prediction.square().sum(), weight)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_positions_tell_where_in_a_reference_something_is(backbone, inputs):
    turned = dict(inputs, context=inputs["context"].flip(-1))
    for positions in (True, False):
        model = InstructUNet.from_backbone(backbone, patch_size=4, context_positions=positions).eval()
        set_context_output(model)
        difference = (evaluate(model, turned) - evaluate(model, inputs))[:2].abs().max()
        assert (difference > 1e-3) == positions


def test_only_the_lowest_resolution_reads_context_unless_asked(backbone):
    lowest = InstructUNet.from_backbone(backbone, patch_size=4)
    assert all(processor.reads_context for _, processor in lowest.context_layers)
    small = build_unet(replace(PRESETS["small"].model, channels=(32, 32, 64), head_dim=16))
    assert len(small.context_layers) == len([p for _, p in small.context_layers if p.reads_context])


def test_context_in_the_middle_block_alone(inputs):
    model = build_unet(replace(PRESETS["debug"].model, context_places="middle")).eval()
    names = [name for name in model.backbone.attn_processors if model.backbone.attn_processors[name].reads_context]
    assert names and all(name.startswith("mid_block.") for name in names)
    assert model.num_context_parameters() < build_unet(PRESETS["debug"].model).num_context_parameters()


def test_save_and_load(backbone, inputs, tmp_path: Path):
    model = InstructUNet.from_backbone(backbone, patch_size=4).eval()
    set_context_output(model)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(
        evaluate(InstructUNet.from_pretrained(tmp_path), inputs), evaluate(model, inputs), rtol=0, atol=0
    )


def count_on_meta(config: ModelConfig) -> tuple[int, int]:
    with torch.device("meta"):
        model = build_unet(config)
    total = sum(p.numel() for p in model.parameters())
    return total - model.num_context_parameters(), total


def test_paper_preset_has_the_papers_size():
    without, total = count_on_meta(PRESETS["paper"].model)
    assert without == pytest.approx(2.51e9, rel=0.05)
    assert total == pytest.approx(2.76e9, rel=0.05)


def test_the_papers_super_resolution_has_its_size_and_reads_text_alone():
    without, total = count_on_meta(PRESETS["paper-sr"].model)
    assert without == total == pytest.approx(581e6, rel=0.05)


@pytest.mark.parametrize(
    "name", [name for name, preset in PRESETS.items() if not isinstance(preset.model, AdaptedModel)]
)
def test_every_preset_builds(name: str):
    config = PRESETS[name].model
    without, total = count_on_meta(config)
    assert without > 0
    assert (without < total) == (config.context_places != "none")
