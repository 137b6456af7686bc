"""From a batch of instructions to `Conditioning`: everything the denoiser reads that does not depend on the step.

`Prompt` (one instruction, possibly with its text or context dropped) → `PromptBatch` (tensors; made by data workers)
→ `ConditioningEncoder.encode` → `Conditioning` (text states and the keys and values of every attention layer).
References are ragged: each is encoded once, in one batch over all instructions, and then put into its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import PreTrainedTokenizerBase

from .cache import KeyValueCache, concat_padded, repeat_rows
from .instruction import Instruction, renumber_markers
from .latents import pixels_per_sample, to_samples
from .pictures import fit_square
from .tokenizer import PLAIN_TEXTS, TextFormat
from .unet import InstructUNet

_REFERENCES_TOGETHER = 16  # in training on a GPU


@dataclass(frozen=True)
class Prompt:
    """Text and (text, picture) pairs as the network reads them; unlike an `Instruction` it may be empty."""

    text: str = ""
    references: tuple[tuple[str, Image.Image], ...] = ()

    @classmethod
    def of(cls, instruction: Instruction, drop_text: bool = False, drop_context: bool = False) -> Prompt:
        """The prompt of an instruction; dropping serves classifier-free guidance (A.2.2)."""
        pairs = () if drop_context else tuple((r.conditioning_text, r.image) for r in instruction.references)
        return cls("" if drop_text else instruction.text, pairs)

    def renumbered(self, numbers: Mapping[int, int]) -> Prompt:
        """The same with other numbers in its markers, which may have holes; `numbers` has the new one for each."""
        pairs = tuple((renumber_markers(text, numbers), image) for text, image in self.references)
        return Prompt(renumber_markers(self.text, numbers), pairs)


@dataclass(frozen=True)
class PromptBatch:
    """B prompts with R references in all.

    Attributes:
        text_ids, text_mask: [B, L] token ids and validity.
        reference_ids, reference_mask: [R, K] likewise for the references' own texts.
        reference_images: uint8 [R, 3, S, S].
        reference_rows, reference_slots: [R] the prompt a reference belongs to, and its place there.
    """

    text_ids: torch.Tensor
    text_mask: torch.Tensor
    reference_ids: torch.Tensor
    reference_mask: torch.Tensor
    reference_images: torch.Tensor
    reference_rows: torch.Tensor
    reference_slots: torch.Tensor

    def to(self, device: torch.device) -> PromptBatch:
        """Moves every tensor."""
        return PromptBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    def pin_memory(self) -> PromptBatch:
        """Pins every tensor; called by the data loader on a CUDA machine."""
        return PromptBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))


def image_to_tensor(image: Image.Image, size_px: int) -> torch.Tensor:
    """Centre-cropped and resized picture as uint8 [3, S, S]."""
    array = np.array(fit_square(image, size_px), dtype=np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def to_unit_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 => float32 -1..1."""
    return images.float() / 127.5 - 1.0


def make_prompt_batch(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    size_px: int,
    text_format: TextFormat = PLAIN_TEXTS,
) -> PromptBatch:
    """Tokenizes texts and stacks references.

    Args:
        prompts: B prompts, each with its own number of references.
        tokenizer: the model's tokenizer.
        size_px: the model's picture size.
        text_format: how its U-Net expects texts, `InstructUNet.text_format`.
    """
    text_ids, text_mask = text_format.encode(tokenizer, [p.text for p in prompts])
    pairs = [(row, slot, *pair) for row, p in enumerate(prompts) for slot, pair in enumerate(p.references)]
    if pairs:
        reference_ids, reference_mask = text_format.encode(tokenizer, [text for _, _, text, _ in pairs])
        images = torch.stack([image_to_tensor(image, size_px) for *_, image in pairs])
    else:
        reference_ids, reference_mask = torch.zeros(0, 1, dtype=torch.long), torch.zeros(0, 1, dtype=torch.bool)
        images = torch.zeros(0, 3, size_px, size_px, dtype=torch.uint8)
    rows = torch.tensor([row for row, *_ in pairs], dtype=torch.long)
    slots = torch.tensor([slot for _, slot, *_ in pairs], dtype=torch.long)
    return PromptBatch(text_ids, text_mask, reference_ids, reference_mask, images, rows, slots)


@dataclass(frozen=True)
class Conditioning:
    """What every denoising step reads, computed once per request.

    Attributes:
        text_BLE: text states of the instructions.
        cache: keys and values of the text and of the context for every attention layer, with their masks.
    """

    text_BLE: torch.Tensor
    cache: KeyValueCache

    def __len__(self) -> int:
        return len(self.text_BLE)

    def select(self, rows: torch.Tensor) -> Conditioning:
        """The given rows, in the given order; rows may repeat."""
        return Conditioning(self.text_BLE[rows], self.cache.select(rows))

    def repeat(self, times: int) -> Conditioning:
        """Every row `times` times, next to each other: [B] => [B * times]."""
        return Conditioning(repeat_rows(self.text_BLE, times), self.cache.repeat(times))

    @classmethod
    def concat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of all parts; shorter texts are padded with masked zeros."""
        return cls(
            concat_padded([part.text_BLE for part in parts], dim=1), KeyValueCache.concat([p.cache for p in parts])
        )


def in_company(tensors: tuple[torch.Tensor, ...], multiple: int) -> tuple[torch.Tensor, ...]:
    """Tensors of R > 0 rows with copies of their last row behind them, up to the next multiple."""
    number = len(tensors[0])
    rows = torch.arange(math.ceil(number / multiple) * multiple, device=tensors[0].device).clamp(max=number - 1)
    return tuple(tensor[rows] for tensor in tensors)


class ConditioningEncoder:
    """Text encoder and the network's own down path, used together.

    Args:
        text_encoder: a T5 encoder, trained in pre-training and frozen afterwards; or an imported backbone's.
        unet: the network whose down path encodes the references (§3.1).
        vae: of a latent backbone; it encodes the references before the U-Net does.
    """

    def __init__(self, text_encoder: Callable[..., Any], unet: InstructUNet, vae: AutoencoderKL | None = None):
        self.text_encoder = text_encoder
        self.unet = unet
        self.vae = vae

    @property
    def size_px(self) -> int:
        """Side of the pictures that are encoded."""
        return self.unet.size_px * pixels_per_sample(self.vae)

    def encode(self, batch: PromptBatch) -> Conditioning:
        """Encodes B prompts; gradients flow wherever the parameters want them."""
        text = self._encode_text(batch.text_ids, batch.text_mask)
        context, context_mask = None, None
        if len(batch.reference_images) and self.unet.reads_context:
            reference_text = self._encode_text(batch.reference_ids, batch.reference_mask)
            samples = to_samples(to_unit_range(batch.reference_images), self.vae).to(text.dtype)
            features = self._encode_references(samples, reference_text, batch.reference_mask)
            context, context_mask = self._place(features, batch, len(text))
        cache = self.unet.project(text, batch.text_mask, context, context_mask)
        return Conditioning(text, cache)

    def _encode_text(self, ids: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """States [B, L, E]; those of padding are zero where the network does not read them."""
        config: Any = self.text_encoder.config  # type: ignore[attr-defined]
        # CLIP reads padding, unless its configuration says otherwise; its attention is causal, so words do not see it.
        masked = config.model_type != "clip_text_model" or getattr(config, "use_attention_mask", False)
        mask = words.long() if masked else None
        states = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        states = states.to(self.unet.dtype)  # a large frozen encoder may compute in less
        return states if self.unet.config.text_tokens is not None else states * words[..., None].to(states.dtype)

    def _encode_references(self, samples: torch.Tensor, text: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Features of R references. Batches have any number of them, and a GPU plans its convolutions anew for each."""
        inputs: tuple[torch.Tensor, ...] = (samples, text, words)
        if samples.device.type == "cuda" and torch.is_grad_enabled():
            inputs = in_company(inputs, _REFERENCES_TOGETHER)
        return self.unet.encode_context(*inputs)[: len(samples)]

    @staticmethod
    def _place(features: torch.Tensor, batch: PromptBatch, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the features of R references into [B, slots, C, h, w]; empty places are zero and masked."""
        num_slots = int(batch.reference_slots.max()) + 1
        index = (batch.reference_rows, batch.reference_slots)
        context = features.new_zeros(num_rows, num_slots, *features.shape[1:]).index_put(index, features)
        mask = torch.zeros(num_rows, num_slots, dtype=torch.bool, device=features.device)
        return context, mask.index_put(index, torch.ones_like(batch.reference_rows, dtype=torch.bool))
