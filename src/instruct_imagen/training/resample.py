"""Weights of a model at one resolution as the beginning of one at another, over the same grid of patches.

Only the first and the last convolution know how many pixels a patch has. With them resampled, a model at half the
size does with a picture what the larger one does with that picture enlarged, and draws the larger one's picture
reduced; training then only has to learn the other noise: pixels that were averaged had less of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..presets import ModelConfig

_INPUT = "backbone.conv_in.weight"
_OUTPUTS = ("backbone.conv_out.weight", "backbone.conv_out.bias")


def same_grid(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether two models differ in nothing but the pixels of a patch; super-resolutions must not differ at all."""
    if old.low_res is not None:
        return old == new
    rest = [{**vars(config), "size_px": 0, "patch_size": 0} for config in (old, new)]
    return rest[0] == rest[1] and old.size_px * new.patch_size == new.size_px * old.patch_size


def resample_patches(unet: Mapping[str, Tensor], old: int, new: int) -> dict[str, Tensor]:
    """The weights of an `InstructUNet` for patches of another size.

    Args:
        unet: state of a model with patches of side `old`.
        old: side of its patches in pixels.
        new: side of the new patches; one of the two divides the other.

    Returns:
        The new state; tensors that do not change are those of `unet`.

    Raises:
        ValueError: neither side divides the other.
    """
    if max(old, new) % min(old, new):
        raise ValueError(f"patches of {old} and {new} pixels have no whole ratio")
    weights = dict(unet)
    if old == new:
        return weights
    # a new picture becomes an old one at the input, an old one a new one at the output
    weights[_INPUT] = _on_channels(weights[_INPUT].transpose(0, 1), _resampling(new, old).T).transpose(0, 1)
    for name in _OUTPUTS:
        weights[name] = _on_channels(weights[name], _resampling(old, new))
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def _resampling(source: int, target: int) -> Tensor:
    """Matrix [target^2, source^2] that resizes a patch: pixels are repeated, or averaged over squares."""
    small, large = sorted((source, target))
    square = large // small
    line = (torch.arange(large) // square == torch.arange(small)[:, None]).float()  # [small, large]
    line = line.T if target > source else line / square
    return torch.kron(line, line)


def _on_channels(tensor: Tensor, matrix: Tensor) -> Tensor:
    """Applies [Q, P] to the pixels of folded channels: [3 * P, ...] -> [3 * Q, ...] (`pixel_unshuffle` order)."""
    colours = tensor.unflatten(0, (3, matrix.shape[1]))
    return torch.einsum("qp,cp...->cq...", matrix.to(tensor), colours).flatten(0, 1)
