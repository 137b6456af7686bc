"""Adafactor (Shazeer & Stern 2018), the paper's optimizer (A.2.2), for whole and for sharded parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from .average import local

DECAY_EXPONENT = 0.8  # the second moment's decay at step t is 1 - t^-0.8
CLIP_THRESHOLD = 1.0  # largest root mean square of an update, before the learning rate


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """What a reduction over a sharded dimension comes to, the same in every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Adafactor(torch.optim.Optimizer):
    """Adafactor with a first moment and a learning rate from outside.

    The squared gradients of a matrix are kept as one number per row and per column. A convolution's weight
    [O, I, H, W] is a matrix [O, I*H*W]; transformers' implementation, which agrees on matrices, factors its H and W,
    which saves little. torch's own has no first moment.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        beta1: decay of the first moment.
        weight_decay: decoupled, times the learning rate.
        eps: added to squared gradients.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, beta1: float = 0.9, weight_decay: float = 0.0, eps: float = 1e-30
    ):
        super().__init__(params, {"lr": lr, "beta1": beta1, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        """One step; see `torch.optim.Optimizer.step`."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
        state["step"] += 1
        decay = 1 - float(state["step"]) ** -DECAY_EXPONENT
        update = self._preconditioned(gradient, state, decay, group["eps"])
        size = math.sqrt(float(summed(update.square().sum())) / update.numel())
        step = local(update) * (group["lr"] / max(1.0, size / CLIP_THRESHOLD))
        moment, weight = local(state["exp_avg"]), local(parameter)
        moment.lerp_(step.to(moment.dtype), 1 - group["beta1"])
        weight.mul_(1 - group["weight_decay"] * group["lr"]).sub_(moment)

    @staticmethod
    def _preconditioned(
        gradient: torch.Tensor, state: dict[str, torch.Tensor], decay: float, eps: float
    ) -> torch.Tensor:
        """The gradient over the root of its mean square, which is the product of a row's and a column's."""
        squared = gradient.square() + eps

        def averaged(name: str, value: torch.Tensor) -> torch.Tensor:
            if name not in state:
                state[name] = torch.zeros_like(value)
            state[name].lerp_(value, 1 - decay)
            return state[name]

        if gradient.ndim < 2:
            return gradient * averaged("exp_avg_sq", squared).rsqrt()
        num_rows, num_columns = len(gradient), gradient.numel() // len(gradient)
        shape = local(squared).shape
        matrix = local(squared).reshape(shape[0], num_columns)
        rows = averaged("rows", _all_rows(gradient, matrix.mean(1)))
        columns = averaged("columns", summed(_like(gradient, matrix).sum(0)) / num_rows)
        own_rows = _own_rows(gradient, rows / rows.mean())
        factor = own_rows.rsqrt()[:, None] * columns.rsqrt()
        return _like(gradient, local(gradient) * factor.view(shape))


def _like(reference: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values that a process has computed for its rows of `reference`, as a tensor sharded in the same way."""
    if not isinstance(reference, DTensor):
        return values
    shape = torch.Size([len(reference), *values.shape[1:]])
    stride = torch.empty(shape, device="meta").stride()
    mesh, placements = reference.device_mesh, reference.placements
    return DTensor.from_local(values, mesh, placements, run_check=False, shape=shape, stride=stride)


def _all_rows(reference: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """One number per row, gathered from all processes."""
    return summed(_like(reference, own))


def _own_rows(reference: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Of one number per row, those that belong to this process's rows."""
    if not isinstance(reference, DTensor):
        return rows
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(rows, reference.device_mesh, reference.placements, src_data_rank=None).to_local()
