"""A model over other patches begins as the old one between two resizings; one with finer levels keeps the old ones."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instruct_imagen.model import build_unet
from instruct_imagen.presets import LowResolutionConfig, get_preset
from instruct_imagen.training.transplant import can_begin_with, resample_patches, transplanted

MODEL = get_preset("debug").model


def predict(unet, sample: torch.Tensor) -> torch.Tensor:
    text, mask = torch.ones(2, 3, MODEL.text.dim), torch.ones(2, 3, dtype=torch.bool)
    cache = unet.project(text, mask, None, None)
    with torch.no_grad():
        return unet(sample, torch.tensor([3, 700]), text, cache)


def predict_with_references(unet) -> torch.Tensor:
    noise = torch.Generator().manual_seed(1)
    text, mask = torch.randn(2, 3, MODEL.text.dim, generator=noise), torch.ones(2, 3, dtype=torch.bool)
    sample, references = torch.randn(2, 2, 3, 32, 32, generator=noise)
    context = unet.encode_context(references, text, mask)[:, None]
    cache = unet.project(text, mask, context, torch.ones(2, 1, dtype=torch.bool))
    return unet(sample, torch.tensor([3, 700]), text, cache)


@pytest.mark.parametrize(("old", "new"), [(8, 4), (8, 2), (4, 8), (4, 4)])
def test_a_resampled_model_does_the_same_between_two_resizings(old: int, new: int):
    torch.manual_seed(0)
    config = replace(MODEL, size_px=8 * old, patch_size=old)
    other = replace(MODEL, size_px=8 * new, patch_size=new)
    assert can_begin_with(other, config)
    trained, resampled = build_unet(config).eval(), build_unet(other).eval()
    resampled.load_state_dict(resample_patches(trained.state_dict(), old, new))
    sample = torch.randn(2, 3, other.size_px, other.size_px)

    def resized(x: torch.Tensor, size_px: int) -> torch.Tensor:
        if size_px > x.shape[-1]:
            return F.interpolate(x, size_px, mode="nearest")
        return F.adaptive_avg_pool2d(x, size_px)

    expected = resized(predict(trained, resized(sample, config.size_px)), other.size_px)
    torch.testing.assert_close(predict(resampled, sample), expected, atol=1e-5, rtol=1e-4)


def test_finer_levels_keep_the_weights_of_the_old_ones():
    torch.manual_seed(0)
    old = replace(MODEL, size_px=32, patch_size=4, channels=(32,), layers_per_block=(1,), time_dim=128)
    new = replace(old, patch_size=2, channels=(16, 32), layers_per_block=(1, 1))
    assert can_begin_with(new, old)
    trained, fresh = build_unet(old), build_unet(new)
    state = transplanted(trained.state_dict(), old, new, fresh.state_dict())
    fresh.load_state_dict(state)
    before, after = trained.backbone, fresh.backbone
    middle = dict(after.mid_block.named_parameters())
    assert all(torch.equal(p, middle[name]) for name, p in before.mid_block.named_parameters())
    for wide, kept in ((before.down_blocks[0], after.down_blocks[1]), (before.up_blocks[0], after.up_blocks[0])):
        torch.testing.assert_close(kept.attentions[0].to_q.weight, wide.attentions[0].to_q.weight, atol=0, rtol=0)
        torch.testing.assert_close(kept.resnets[0].conv2.weight, wide.resnets[0].conv2.weight, atol=0, rtol=0)


def test_a_deeper_model_begins_as_the_same_function_and_can_learn():
    torch.manual_seed(0)
    old = replace(MODEL, size_px=32, patch_size=2, channels=(16, 32), layers_per_block=(1, 2), time_dim=128)
    new = replace(old, layers_per_block=(2, 4))
    assert can_begin_with(new, old)
    assert not can_begin_with(old, new)
    trained, deeper = build_unet(old).eval(), build_unet(new).eval()
    for processor in (p for _, p in trained.context_layers):
        torch.nn.init.normal_(processor.to_out_context.weight)
    deeper.load_state_dict(transplanted(trained.state_dict(), old, new, deeper.state_dict()))
    after = predict_with_references(deeper)
    torch.testing.assert_close(after, predict_with_references(trained), atol=1e-5, rtol=1e-4)
    after.square().mean().backward()
    added = {name: p for name, p in deeper.named_parameters() if not torch.any(p)}
    weights = [name for name in added if name.endswith(("conv2.weight", "to_out.0.weight"))]
    assert len(weights) == (1 + 2 + 1 + 2) + (2 + 2)
    assert all(torch.any(added[name].grad) for name in weights)


def test_the_embedding_of_time_is_refitted_to_other_waves():
    torch.manual_seed(0)
    old = replace(MODEL, size_px=32, patch_size=4, channels=(96,), layers_per_block=(1,), time_dim=128)
    new = replace(old, patch_size=2, channels=(64, 96), layers_per_block=(1, 1))
    trained, grown = build_unet(old), build_unet(new)
    grown.load_state_dict(transplanted(trained.state_dict(), old, new, grown.state_dict()))
    steps = torch.arange(0, 1000, 37)

    def embedded(unet) -> torch.Tensor:
        waves = unet.backbone.time_proj(steps)
        return unet.backbone.time_embedding.linear_1(waves)

    with torch.no_grad():
        error = (embedded(grown) - embedded(trained)).square().mean() / embedded(trained).var()
    assert error < 0.3  # random weights are the hardest case: .24; those of a trained model .002


def test_other_models_are_no_beginning():
    assert not can_begin_with(replace(MODEL, size_px=2 * MODEL.size_px), MODEL)
    assert not can_begin_with(replace(MODEL, head_dim=8), MODEL)
    wider = replace(MODEL, patch_size=2, channels=(8, *MODEL.channels), layers_per_block=(1, *MODEL.layers_per_block))
    assert not can_begin_with(wider, MODEL)  # its embedding of time is narrower
    assert can_begin_with(replace(wider, time_dim=4 * MODEL.channels[0]), MODEL)
    assert not can_begin_with(MODEL, replace(wider, time_dim=4 * MODEL.channels[0]))
    with pytest.raises(ValueError, match="no whole ratio"):
        resample_patches({}, 8, 3)


def test_context_attention_moves_to_other_places():
    torch.manual_seed(0)
    everywhere, middle = replace(MODEL, context_places="all"), replace(MODEL, context_places="middle")
    trained = build_unet(middle).eval()
    for processor in (p for _, p in trained.context_layers if p.reads_context):
        torch.nn.init.normal_(processor.to_out_context.weight)
    further, back = build_unet(everywhere).eval(), build_unet(middle).eval()
    assert can_begin_with(everywhere, middle) and can_begin_with(middle, everywhere)
    assert not can_begin_with(replace(everywhere, head_dim=8), middle)
    further.load_state_dict(transplanted(trained.state_dict(), middle, everywhere, further.state_dict()))
    back.load_state_dict(transplanted(further.state_dict(), everywhere, middle, back.state_dict()))
    expected = predict_with_references(trained)
    assert torch.equal(predict_with_references(further), expected)
    assert torch.equal(predict_with_references(back), expected)
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in trained.state_dict().items())


def test_super_resolutions_differ_in_training_not_in_how_they_are_drawn_with():
    network = replace(MODEL, size_px=64, low_res=LowResolutionConfig(32))
    assert can_begin_with(replace(network, low_res=LowResolutionConfig(32, noise_level=0.0)), network)
    assert not can_begin_with(replace(network, low_res=LowResolutionConfig(32, max_noise_level=1.0)), network)
