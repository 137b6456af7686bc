"""Weights of one model as the beginning of another: other patches, further levels or blocks, context read elsewhere.

Only the first and the last convolution know how many pixels a patch has. With them resampled, a model at half the
size does with a picture what the larger one does with that picture enlarged, and draws the larger one's picture
reduced; training then only has to learn the other noise: pixels that were averaged had less of it.

A model with finer levels around the old one's keeps what lies at the old ones, which is most of the weights, and
learns the rest anew. It is no longer the same function, but soon a better one.

A model with further residual blocks in its levels begins as the very same function: their last layers are zero. One
with context attention in further places does so, too; where it has less of it, what the references said there is gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from ..model import NUM_TRAIN_TIMESTEPS
from ..presets import ModelConfig

_INPUT = "backbone.conv_in.weight"
_OUTPUTS = ("backbone.conv_out.weight", "backbone.conv_out.bias")
_TIME = "backbone.time_embedding.linear_1.weight"
_TIME_BIAS = "backbone.time_embedding.linear_1.bias"
_ENDS = ("backbone.conv_in.", "backbone.conv_out.", "backbone.conv_norm_out.")
_BLOCK = re.compile(r"backbone\.(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)")
_LAST_LAYERS = ("conv2.", "to_out.0.", "conv_shortcut.bias")


def can_begin_with(new: ModelConfig, old: ModelConfig) -> bool:
    """Whether weights of `old` are a beginning for `new`; super-resolutions must not differ at all.

    Base models may differ in the pixels of a patch, and `new` may have further, finer levels, or more blocks in its
    levels. Or they differ in the places of context attention, and in nothing else.
    """
    if old.low_res is not None or old == new:
        return old == new
    if _differ_in_places(old, new):
        return True
    num_levels = len(old.channels)
    if num_levels == len(new.layers_per_block) == len(old.layers_per_block):
        if any(more < less for more, less in zip(new.layers_per_block, old.layers_per_block, strict=True)):
            return False
        old = replace(old, layers_per_block=new.layers_per_block)
    rest = [
        {
            **vars(config),
            "channels": config.channels[-num_levels:],
            "layers_per_block": config.layers_per_block[-num_levels:],
            "time_dim": config.time_dim or 4 * config.channels[0],
            "size_px": config.size_px / (config.patch_size * 2 ** (len(config.channels) - 1)),  # lowest level's side
            "patch_size": 0,
        }
        for config in (old, new)
    ]
    return rest[0] == rest[1]


def transplanted(
    weights: Mapping[str, Tensor], old: ModelConfig, new: ModelConfig, fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights that a model of `new` begins with.

    Args:
        weights: state of the `InstructUNet` of `old`.
        old, new: see `can_begin_with`.
        fresh: state of a new one of `new`, for what `weights` cannot say.
    """
    if _differ_in_places(old, new):
        return {name: weights.get(name, tensor) for name, tensor in fresh.items()}
    if old.channels == new.channels:
        deeper = _deepened(weights, old.layers_per_block, new.layers_per_block, fresh)
        return resample_patches(deeper, old.patch_size, new.patch_size)
    num_added = len(new.channels) - len(old.channels)
    state = dict(fresh)
    for name, tensor in fresh.items():
        source = weights.get(_name_before(name, num_added, len(old.channels)) or "")
        if source is not None and source.shape == tensor.shape:
            state[name] = source
    state[_TIME], state[_TIME_BIAS] = _refitted(weights[_TIME], weights[_TIME_BIAS], fresh[_TIME].shape[1])
    return state


def _differ_in_places(old: ModelConfig, new: ModelConfig) -> bool:
    return old != new and replace(old, context_places=new.context_places) == new


def _name_before(name: str, num_added: int, num_levels: int) -> str | None:
    """What a weight was called before finer levels were added; None for those of the levels and ends that are new."""
    if name.startswith(_ENDS):
        return None
    level = re.match(r"backbone\.(down|up)_blocks\.(\d+)\.(.*)", name)
    if level is None:
        return name
    side, index, rest = level[1], int(level[2]), level[3]
    index = index - num_added if side == "down" else index  # up blocks begin at the lowest level
    return f"backbone.{side}_blocks.{index}.{rest}" if 0 <= index < num_levels else None


def _deepened(
    weights: Mapping[str, Tensor], old: tuple[int, ...], new: tuple[int, ...], fresh: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The weights with further residual blocks, and their attention, which do nothing yet.

    On the way down they come last, so that the skips they add repeat the last old one. On the way up they come second:
    the first, which may be the only one that knows the width of the level below, reads such a repetition instead.
    """
    if old == new:
        return weights
    state = {}
    for name, tensor in fresh.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            state[name] = weights[name]
            continue
        side, index, kind, place, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
        level = index if side == "down" else len(old) - 1 - index
        added = new[level] - old[level]
        is_new = place >= old[level] if side == "down" else 0 < place <= added
        if is_new and rest == "conv_shortcut.weight":  # of (what comes from below, skip) only the first
            state[name] = torch.eye(*tensor.shape[:2])[:, :, None, None].to(tensor)
        elif is_new:
            state[name] = torch.zeros_like(tensor) if rest.startswith(_LAST_LAYERS) else tensor
        else:
            place -= added if side == "up" and place else 0
            state[name] = weights[f"backbone.{side}_blocks.{index}.{kind}.{place}.{rest}"]
    return state


def _refitted(weight: Tensor, bias: Tensor, num_waves: int) -> tuple[Tensor, Tensor]:
    """First layer of the time embedding [T, W] for another number of sines and cosines, by ridge regression."""
    steps = torch.arange(NUM_TRAIN_TIMESTEPS)

    def waves(count: int) -> Tensor:
        return get_timestep_embedding(steps, count, flip_sin_to_cos=True, downscale_freq_shift=0).double()

    wanted = waves(weight.shape[1]) @ weight.double().T
    inputs = torch.cat([waves(num_waves), torch.ones(len(steps), 1, dtype=torch.float64)], dim=1)
    normal = inputs.T @ inputs + 1e-3 * torch.eye(inputs.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(normal, inputs.T @ wanted)
    return solution[:-1].T.to(weight).contiguous(), bias + solution[-1].to(bias)


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
