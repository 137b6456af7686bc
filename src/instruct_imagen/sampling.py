"""What is asked of one of the networks, and its conditions for every branch of guidance, encoded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedTokenizerBase

from .conditioning import ConditioningEncoder, Prompt, make_prompt_batch
from .denoising import Branches
from .guidance import Guidance
from .instruction import Instruction

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
