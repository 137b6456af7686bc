"""One denoising step of any number of pictures: what the pipeline's loop and the server's engine share.

A `Denoising` is one or more pictures at one step of one schedule; `Denoiser.step` takes a list of them through the
network in one call, each at its own step, with its own guidance, references and noise.

    denoising = pipeline.start(request, pipeline.encode_branches(request, ...), ...)
    denoiser = Denoiser(pipeline.unet)
    while not denoising.done:
        denoiser.step([denoising])                  # or [one, another, ...]

What a picture becomes does not depend on its company in exact arithmetic: rows never mix, padding is masked. In
floating point, kernels may add in another order for another number of rows or tokens, which moves values by rounding
errors. `Denoiser(network, together=False)` gives every `Denoising` a call of its own: each picture's numbers are then
bit for bit those of the picture drawn alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin

from .conditioning import Conditioning
from .guidance import Guidance, Scales, combine
from .schedulers import reads_variance, split_variance
from .super_resolution import LowResolution

Network = Callable[..., torch.Tensor]  # (sample, timesteps, text states, cache[, low_res]) -> prediction


def clean_from_prediction(
    prediction: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor, scheduler: SchedulerMixin
) -> torch.Tensor:
    """The clean picture that a prediction implies (progressive distillation, Salimans & Ho 2022, appendix D)."""
    alpha_bar = scheduler.alphas_cumprod.to(noisy.device, noisy.dtype)[timesteps].view(-1, 1, 1, 1)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return prediction
    if kind == "v_prediction":
        return alpha * noisy - sigma * prediction
    return (noisy - sigma * prediction) / alpha.clamp(min=1e-4)


class Branches:
    """Conditioning of all guidance branches, stacked; the rows of each set of branches are selected once.

    Args:
        conditioning: of the branches, one whole batch after the other.
        names: of the branches, in that order.
    """

    def __init__(self, conditioning: Conditioning, names: tuple[str, ...]):
        self._conditioning, self._names = conditioning, names
        self._rows = len(conditioning) // len(names)
        self._selected: dict[tuple[str, ...], Conditioning] = {names: conditioning}

    def select(self, names: tuple[str, ...]) -> Conditioning:
        """The conditioning of the named branches, in that order."""
        if names not in self._selected:
            starts = [self._names.index(name) * self._rows for name in names]
            device = self._conditioning.text_BLE.device
            rows = torch.cat([torch.arange(start, start + self._rows, device=device) for start in starts])
            self._selected[names] = self._conditioning.select(rows)
        return self._selected[names]


@dataclass(frozen=True)
class _Rows:
    """What the network reads for one `Denoising` in one step."""

    sample: torch.Tensor
    timesteps: torch.Tensor
    conditioning: Conditioning
    low_res: LowResolution | None


class Denoising:
    """Pictures on their way from noise to clean, all at the same step.

    Args:
        sample: noise [N, C, S, S], already scaled by the scheduler's `init_noise_sigma`.
        scheduler: with its timesteps set; belongs to this object, because multi-step solvers remember.
        guidance: scales per step.
        branches: conditioning of the branches that `guidance` asks for, N rows each.
        generators: for schedulers that draw noise in every step; one per picture or one for all.
        low_res: for super-resolution, the N pictures to enlarge.

    Attributes:
        sample: the noisy pictures as they are now; when `done`, the clean ones.
        index: steps done.
    """

    def __init__(
        self,
        sample: torch.Tensor,
        scheduler: SchedulerMixin,
        guidance: Guidance,
        branches: Branches,
        generators: torch.Generator | Sequence[torch.Generator] | None = None,
        low_res: LowResolution | None = None,
    ):
        self.sample, self.index = sample, 0
        self._scheduler, self._guidance, self._branches, self._low_res = scheduler, guidance, branches, low_res
        draws = "generator" in inspect.signature(scheduler.step).parameters
        self._step_options: dict[str, Any] = {"generator": generators} if draws else {}
        self._last: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    @property
    def num_steps(self) -> int:
        """Steps in all."""
        return len(self._scheduler.timesteps)

    @property
    def done(self) -> bool:
        """Whether every step is done."""
        return self.index == self.num_steps

    @property
    def timestep(self) -> torch.Tensor:
        """Noise level of the step that comes next, on the scheduler's scale."""
        return self._scheduler.timesteps[self.index]

    @property
    def _scales(self) -> Scales:
        return self._guidance.scales(self.index, self.num_steps)

    def preview(self) -> torch.Tensor:
        """The clean pictures [N, C, S, S] that the last step believed in; the noise before the first step."""
        if self._last is None:
            return self.sample
        prediction, noisy, timestep = self._last
        timesteps = timestep.long().expand(len(noisy)).cpu()
        return clean_from_prediction(prediction, noisy, timesteps.to(noisy.device), self._scheduler)

    def rows(self) -> _Rows:
        """The network's input for the next step: every branch of every picture."""
        names = self._scales.branches
        scaled = self._scheduler.scale_model_input(self.sample, self.timestep)
        sample = scaled.repeat(len(names), 1, 1, 1)
        low_res = None if self._low_res is None else self._low_res.tiled(len(names))
        return _Rows(sample, self.timestep.to(sample.device).expand(len(sample)), self._branches.select(names), low_res)

    def apply(self, prediction: torch.Tensor) -> None:
        """Takes the step, with the network's output for `rows()`."""
        scales, timestep, noisy = self._scales, self.timestep, self.sample
        mean, variance = split_variance(prediction, noisy.shape[1])
        guided = combine(mean.chunk(len(scales.branches)), scales)
        self._last = (guided, noisy, timestep)
        if variance is not None and reads_variance(self._scheduler):  # it is that of the full condition
            guided = torch.cat([guided, variance[: len(guided)]], dim=1)
        self.sample = self._scheduler.step(guided, timestep, noisy, **self._step_options).prev_sample
        self.index += 1


class Denoiser:
    """A network that takes pictures a step further.

    Args:
        network: such as an `InstructUNet`.
        together: all pictures of a call in one batch; else one call for each `Denoising` (see the module's text).
    """

    def __init__(self, network: Network, together: bool = True):
        self._network, self._together = network, together
        self._stacked: tuple[list[Conditioning], Conditioning] | None = None

    def step(self, denoisings: Sequence[Denoising]) -> None:
        """One step for each."""
        for denoising, prediction in zip(denoisings, self.predict(denoisings), strict=True):
            denoising.apply(prediction)

    def predict(self, denoisings: Sequence[Denoising]) -> list[torch.Tensor]:
        """The network's output for the next step of each; changes nothing, so it may be tried again."""
        all_rows = [denoising.rows() for denoising in denoisings]
        if len(all_rows) == 1 or not self._together:
            return [self._evaluate(rows) for rows in all_rows]
        small = [rows.low_res for rows in all_rows if rows.low_res is not None]
        together = _Rows(
            torch.cat([rows.sample for rows in all_rows]),
            torch.cat([rows.timesteps for rows in all_rows]),
            self._stack([rows.conditioning for rows in all_rows]),
            LowResolution.concat(small) if small else None,
        )
        return list(self._evaluate(together).split([len(rows.sample) for rows in all_rows]))

    def _evaluate(self, rows: _Rows) -> torch.Tensor:
        small = {} if rows.low_res is None else {"low_res": rows.low_res}
        return self._network(rows.sample, rows.timesteps, rows.conditioning.text_BLE, rows.conditioning.cache, **small)

    def _stack(self, parts: list[Conditioning]) -> Conditioning:
        """`parts` in one batch; kept while the company stays the same, which is most steps."""
        if self._stacked is not None:
            known, stacked = self._stacked
            if len(known) == len(parts) and all(a is b for a, b in zip(known, parts, strict=True)):
                return stacked
        self._stacked = (parts, Conditioning.concat(parts))
        return self._stacked[1]
