"""Winograd's form of a convolution computes the convolution, and so do its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from instruct_imagen.training.winograd import WinogradConv2d, use_winograd, winograd_conv2d


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (4, 8), (8, 4)])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 5), (16, 8)])
def test_it_is_the_convolution_and_has_its_gradients(size: tuple[int, int], inputs: int, outputs: int):
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, inputs, *size), (outputs, inputs, 3, 3), (outputs,))
    parts = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    direct, fast = conv2d(*parts, padding=1), winograd_conv2d(*parts)
    torch.testing.assert_close(fast, direct, rtol=1e-4, atol=1e-3)  # of sums of 144 products, about 12
    weights = torch.randn(direct.shape, generator=generator)
    expected = torch.autograd.grad((direct * weights).sum(), parts)
    for found, wanted in zip(torch.autograd.grad((fast * weights).sum(), parts), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_only_plain_3x3_convolutions_change_and_keep_their_parameters():
    options = [{}, {"stride": 2}, {"groups": 2}, {"dilation": 2}, {"padding": 0}, {"padding_mode": "reflect"}]
    layers = nn.Sequential(*(nn.Conv2d(4, 4, 3, **{"padding": 1, **o}) for o in options), nn.Conv2d(4, 4, 1))
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    use_winograd(layers)
    assert [type(layer) is WinogradConv2d for layer in layers] == [True] + [False] * 6
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())


@pytest.mark.parametrize("shape", [(16, 4, 8, 8), (2, 4, 8, 8), (16, 4, 6, 8), (16, 4, 32, 32)])
def test_what_it_does_not_pay_for_goes_the_usual_way(shape: tuple[int, ...]):
    layer = nn.Conv2d(4, 6, 3, padding=1)
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = layer(maps)
    use_winograd(layer)
    torch.testing.assert_close(layer(maps), expected, rtol=1e-4, atol=1e-4)


def test_a_first_call_without_gradients_leaves_later_ones_theirs():
    maps, weight = torch.randn(2, 3, 12, 12), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.inference_mode():
        winograd_conv2d(maps, weight, None)
    winograd_conv2d(maps, weight, None).sum().backward()
    assert weight.grad is not None
