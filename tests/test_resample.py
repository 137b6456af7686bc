"""A model over other patches begins as the old one between two resizings."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instruct_imagen.model import build_unet
from instruct_imagen.presets import get_preset
from instruct_imagen.training.resample import resample_patches, same_grid

MODEL = get_preset("debug").model


def predict(unet, sample: torch.Tensor) -> torch.Tensor:
    text, mask = torch.ones(2, 3, MODEL.text.dim), torch.ones(2, 3, dtype=torch.bool)
    cache = unet.project(text, mask, None, None)
    with torch.no_grad():
        return unet(sample, torch.tensor([3, 700]), text, cache)


@pytest.mark.parametrize(("old", "new"), [(8, 4), (8, 2), (4, 8), (4, 4)])
def test_a_resampled_model_does_the_same_between_two_resizings(old: int, new: int):
    torch.manual_seed(0)
    config = replace(MODEL, size_px=8 * old, patch_size=old)
    other = replace(MODEL, size_px=8 * new, patch_size=new)
    assert same_grid(config, other)
    trained, resampled = build_unet(config).eval(), build_unet(other).eval()
    resampled.load_state_dict(resample_patches(trained.state_dict(), old, new))
    sample = torch.randn(2, 3, other.size_px, other.size_px)

    def resized(x: torch.Tensor, size_px: int) -> torch.Tensor:
        if size_px > x.shape[-1]:
            return F.interpolate(x, size_px, mode="nearest")
        return F.adaptive_avg_pool2d(x, size_px)

    expected = resized(predict(trained, resized(sample, config.size_px)), other.size_px)
    torch.testing.assert_close(predict(resampled, sample), expected, atol=1e-5, rtol=1e-4)


def test_other_models_are_no_resampling():
    assert not same_grid(MODEL, replace(MODEL, size_px=2 * MODEL.size_px))
    assert not same_grid(MODEL, replace(MODEL, head_dim=8))
    with pytest.raises(ValueError, match="no whole ratio"):
        resample_patches({}, 8, 3)
