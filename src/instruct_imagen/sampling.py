"""The denoising loop, one for both networks of the cascade: noise to pictures, under guidance."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import SchedulerMixin
from transformers import PreTrainedTokenizerBase

from .conditioning import Conditioning, ConditioningEncoder, Prompt, make_prompt_batch
from .guidance import Guidance, Scales, combine
from .instruction import Instruction
from .schedulers import reads_variance, split_variance
from .super_resolution import LowResolution
from .unet import InstructUNet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        instructions: what is asked for.
        rows: picture i follows instruction rows[i]; ascending.
        generators: one per picture, or one for all, or torch's own.
        drop_context: leave the references out.
    """

    instructions: Sequence[Instruction]
    rows: Sequence[int]
    generators: torch.Generator | list[torch.Generator] | None = None
    drop_context: bool = False

    def part(self, start: int, stop: int) -> Request:
        """Pictures `start` to `stop` with the instructions that they need; one generator for all stays that."""
        rows, generators = self.rows[start:stop], self.generators
        return replace(
            self,
            instructions=self.instructions[rows[0] : rows[-1] + 1],
            rows=[row - rows[0] for row in rows],
            generators=generators[start:stop] if isinstance(generators, list) else generators,
        )


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


def encode_branches(
    encoder: ConditioningEncoder,
    tokenizer: PreTrainedTokenizerBase,
    request: Request,
    guidance: Guidance,
    num_steps: int,
    device: torch.device,
) -> Branches:
    """Encodes once what the guidance will need: full prompts, prompts without context, and the empty prompt."""
    needed = {b for step in range(num_steps) for b in guidance.scales(step, num_steps).branches}
    prompts = {
        "full": [Prompt.of(i, drop_context=request.drop_context) for i in request.instructions],
        "text": [Prompt.of(i, drop_context=True) for i in request.instructions],
        "null": [Prompt()] * len(request.instructions),
    }
    kept = [name for name in prompts if name in needed]
    stacked = [prompt for name in kept for prompt in prompts[name]]
    for text in encoder.unet.text_format.cut(tokenizer, {prompt.text for prompt in stacked}):
        logger.warning("the text has too many tokens; what the network does not read: the end of '...%s'", text[-80:])
    batch = make_prompt_batch(stacked, tokenizer, encoder.size_px, encoder.unet.text_format)
    conditioning = encoder.encode(batch.to(device))
    starts = range(0, len(stacked), len(request.instructions))
    places = torch.tensor([start + row for start in starts for row in request.rows], device=device)
    return Branches(conditioning.select(places), tuple(kept))


def denoise(
    unet: InstructUNet,
    scheduler: SchedulerMixin,
    noise_BCHW: torch.Tensor,
    branches: Branches,
    guidance: Guidance,
    *,
    low_res: LowResolution | None = None,
    generators: torch.Generator | list[torch.Generator] | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    on_step: Callable[[int, int, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Draws B pictures.

    Args:
        unet: the network.
        scheduler: any diffusers scheduler whose `step` gives `prev_sample`; its steps are set.
        noise_BCHW: normal noise.
        branches: the conditions, B rows for each branch.
        guidance: its scales.
        low_res: for super-resolution, the pictures to enlarge.
        generators: for schedulers that add noise in every step.
        progress: wraps the steps.
        on_step: called with (step, timestep, noisy pictures) after each step; its result goes on.

    Returns:
        Pictures, in -1..1 but for what the last step left over.
    """
    sample = noise_BCHW * scheduler.init_noise_sigma
    takes_generators = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generators} if takes_generators else {}
    for index, timestep in enumerate(progress(scheduler.timesteps)):
        scales = guidance.scales(index, len(scheduler.timesteps))
        conditioning, num_branches = branches.select(scales.branches), len(scales.branches)
        model_input = scheduler.scale_model_input(sample, timestep).repeat(num_branches, 1, 1, 1)
        timesteps = timestep.to(sample.device).expand(len(model_input))
        inputs = (model_input, timesteps, conditioning.text_BLE, conditioning.cache)
        small = {} if low_res is None else {"low_res": low_res.tiled(num_branches)}
        prediction = _guided(unet(*inputs, **small), sample.shape[1], scales, reads_variance(scheduler))
        sample = scheduler.step(prediction, timestep, sample, **extra).prev_sample
        if on_step is not None:
            sample = on_step(index, int(timestep), sample)
    return sample


def _guided(prediction: torch.Tensor, num_channels: int, scales: Scales, with_variance: bool) -> torch.Tensor:
    """Branches combined; a learned variance is that of the full condition, for schedulers that read it."""
    mean, variance = split_variance(prediction, num_channels)
    guided = combine(mean.chunk(len(scales.branches)), scales)
    if variance is None or not with_variance:
        return guided
    return torch.cat([guided, variance[: len(guided)]], dim=1)
