"""Optimizers of a stage: AdamW, Adafactor as in the paper (A.2.2), and Muon for the U-Net's inner matrices.

Parameters may be sharded (FSDP2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import UserError
from ..extras import require
from ..precision import matrix_dtype
from ..presets import StageConfig
from .adafactor import Adafactor

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon"), steepest at zero.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
# A GPU would wait for single matrices: those of one shape are orthogonalized together, up to so many numbers at a time.
_STACKED_NUMBERS = 1 << 24
# What enters and leaves the network, and embeddings: not matrices between hidden states, so AdamW takes them.
_OUTER = ("conv_in.", "conv_out.", "time_embedding.", "time_emb_proj.", "class_embedding.", "context_text_proj.")


class OptimizerError(UserError):
    """An optimizer that cannot be had as asked."""


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Approximates the orthogonal factor U V^T of `matrix` = U S V^T, [..., R, C]: singular values near 1.

    Wide matrices (3x3 convolutions) are iterated through their small Gram matrix, with which everything commutes,
    in float32; the others directly, in bfloat16 where that is fast. Together a third of the time of iterating on
    every matrix directly.
    """
    is_wide = matrix.shape[-2] <= matrix.shape[-1]
    wide = matrix if is_wide else matrix.mT
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    iterate = _through_gram if wide.shape[-1] >= 3 * wide.shape[-2] else _directly
    result = iterate(wide).to(matrix.dtype)
    return result if is_wide else result.mT


def _directly(wide: torch.Tensor) -> torch.Tensor:
    a, b, c = NEWTON_SCHULZ
    x = wide.to(matrix_dtype(wide.device))
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _through_gram(wide: torch.Tensor) -> torch.Tensor:
    a, b, c = NEWTON_SCHULZ
    gram = wide.float() @ wide.float().mT
    identity = torch.eye(gram.shape[-1], device=gram.device)
    product = identity
    for step in range(NEWTON_SCHULZ_STEPS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor @ product
        if step + 1 < NEWTON_SCHULZ_STEPS:
            gram = factor @ gram @ factor
    dtype = matrix_dtype(wide.device)
    return product.to(dtype) @ wide.to(dtype)


class MuonAdamW(torch.optim.AdamW):
    """Muon with Nesterov momentum for the groups marked `muon`, AdamW for the others.

    torch's own Muon takes no convolutions and iterates on the whole matrix, three times as slow here. A
    convolution's weight [O, I, H, W] is a matrix [O, I*H*W]. Updates are scaled to the size of AdamW's (Liu et al.
    2025, "Muon is scalable"), so both share a learning rate.

    Args:
        groups: parameter groups, each with `muon` true or false.
        momentum: of Muon.
        options: of `torch.optim.AdamW`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float = 0.95, **options: Any):
        super().__init__(groups, **options)
        for group in self.param_groups:
            group["momentum"] = momentum

    @torch.no_grad()
    def step(self, closure=None):
        """One step; see `torch.optim.Optimizer.step`."""
        for group in self.param_groups:
            if group["muon"]:
                for parameters in _of_one_shape(p for p in group["params"] if p.grad is not None):
                    self._muon_step(parameters, group)
        return super().step(closure)

    def _muon_step(self, parameters: Sequence[torch.nn.Parameter], group: dict[str, Any]) -> None:
        """Updates parameters of one shape; AdamW passes over them afterwards, for they have no gradient any more."""
        updates = orthogonalized(torch.stack([self._direction(parameter, group) for parameter in parameters]))
        scale = 0.2 * max(updates.shape[1:]) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            spread = _spread(update.view(parameter.shape), parameter).to(parameter.dtype)
            parameter.add_(spread, alpha=-group["lr"] * scale)

    def _direction(self, parameter: torch.nn.Parameter, group: dict[str, Any]) -> torch.Tensor:
        """The gradient with Nesterov momentum, as a whole matrix; the parameter loses its gradient."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] += 1
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        return _whole(gradient.lerp(momentum, group["momentum"])).flatten(1)


def _of_one_shape(parameters: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Lists of parameters that are matrices of the same shape: on a CPU, where it does not pay, single ones."""
    found: dict[tuple[int, ...], list[torch.nn.Parameter]] = defaultdict(list)
    for parameter in parameters:
        found[tuple(parameter.shape)].append(parameter)
    for equal in found.values():
        size = 1 if equal[0].device.type == "cpu" else max(1, _STACKED_NUMBERS // equal[0].numel())
        yield from (equal[first : first + size] for first in range(0, len(equal), size))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A matrix is orthogonalized as a whole, by every process that holds a share of it: one gathered at a time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _spread(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Each process's share of a tensor that all of them have."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def _is_inner_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether Muon takes it: a matrix or convolution inside the U-Net."""
    return name.startswith("unet.") and parameter.ndim > 1 and not any(outer in name for outer in _OUTER)


def make_optimizer(stage: StageConfig, named: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimizer of a stage.

    Args:
        stage: its name, learning rate, betas and weight decay (matrices only).
        named: trainable parameters with their names in `TrainingModule`.

    Raises:
        OptimizerError: the 8-bit optimizer where bitsandbytes or a GPU is missing, or with sharded parameters.
    """
    parameters = list(named)
    decay, matrices = stage.weight_decay, [p for _, p in parameters if p.ndim > 1]
    if stage.optimizer == "adafactor":
        return Adafactor([p for _, p in parameters], stage.learning_rate, stage.betas[0], decay)
    inner = [p for n, p in parameters if stage.optimizer == "muon" and _is_inner_matrix(n, p)]
    taken = {id(p) for p in inner}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if id(p) not in taken], "weight_decay": decay, "muon": False},
        {"params": [p for _, p in parameters if p.ndim <= 1], "weight_decay": 0.0, "muon": False},
    ]
    options: dict[str, Any] = {"lr": stage.learning_rate, "betas": stage.betas}
    if stage.optimizer == "adamw8bit":
        return _adamw_8bit([group for group in groups if group["params"]], options)
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, **options, fused=True)
    groups.insert(0, {"params": inner, "weight_decay": decay, "muon": True})
    return MuonAdamW(groups, **options, fused=True)


def _adamw_8bit(groups: list[dict[str, Any]], options: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW whose moments take a byte each (Dettmers et al. 2022)."""
    library = require("bitsandbytes", "8bit", "The optimizer adamw8bit", OptimizerError)
    parameters = [p for group in groups for p in group["params"]]
    if any(p.device.type == "cpu" for p in parameters):
        raise OptimizerError("The optimizer adamw8bit needs a GPU; use adamw here.")
    if any(isinstance(p, DTensor) for p in parameters):
        raise OptimizerError("The optimizer adamw8bit cannot keep sharded moments; use adamw or adafactor with fsdp.")
    return library.optim.AdamW8bit(groups, **options)
