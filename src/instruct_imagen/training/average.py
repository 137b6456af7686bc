"""The exponential moving average of the trained weights, which is what is sampled from and shipped (A.2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class MovingAverage:
    """Average of those parameters that are trained; one that is frozen is its own average.

    Args:
        named: parameters by name.
        decay: the decay in the long run. It begins at 0 and grows as (1 + t) / (10 + t), so that the random weights of
            the start are soon forgotten.
        step: updates so far.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], decay: float, step: int = 0):
        self._parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.tensors = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.decay, self.step = decay, step

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters in, after an optimizer step."""
        self.step += 1
        decay = min(self.decay, self.step / (9 + self.step)) if self.step > 1 else 0.0
        means, values = self._pairs()
        torch._foreach_sub_(means, torch._foreach_sub(means, values), alpha=1 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """The parameters become their average."""
        means, values = self._pairs()
        torch._foreach_copy_(values, means)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes over stored averages.

        Raises:
            KeyError: one is missing.
        """
        for name, mean in self.tensors.items():
            mean.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold their average inside this context. Both change places, so it takes no further memory."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for mean, value in zip(*self._pairs(), strict=True):
            kept = value.clone()
            value.copy_(mean)
            mean.copy_(kept)

    def _pairs(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        names = list(self.tensors)
        means = [local(self.tensors[name]) for name in names]
        return means, [local(self._parameters[name].detach()) for name in names]
