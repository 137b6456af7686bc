"""Attention layers of the backbone, extended by a second cross-attention that reads the context (§3.1, A.2.1).

The extension point is diffusers' attention processor. Keys and values of the text and of the context do not
depend on the denoising step, so they are projected once (`ContextAttnProcessor.project`) and handed over in
`cross_attention_kwargs={"cache": KeyValueCache}`.

Shape suffixes: B batch, H heads, N image tokens (h*w), L text tokens, T context tokens, C channels, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import nn


def concat_padded(parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    """Tensors one after the other along dimension 0, dimension `dim` padded with zeros to the longest."""
    longest = max(part.shape[dim] for part in parts)
    shape = list(parts[0].shape)
    shape[0], shape[dim] = sum(len(part) for part in parts), longest
    joined, start = parts[0].new_zeros(shape), 0
    for part in parts:
        joined[start : start + len(part)].narrow(dim, 0, part.shape[dim]).copy_(part)
        start += len(part)
    return joined


@dataclass(frozen=True)
class LayerKeyValue:
    """Projected keys and values of one attention layer, each [B, H, tokens, D]; context is None without references."""

    text_key: torch.Tensor
    text_value: torch.Tensor
    context_key: torch.Tensor | None = None
    context_value: torch.Tensor | None = None

    def map(self, function) -> LayerKeyValue:
        """Applies `function` to every tensor."""
        context = self.context_key is not None and self.context_value is not None
        return LayerKeyValue(
            function(self.text_key),
            function(self.text_value),
            function(self.context_key) if context else None,
            function(self.context_value) if context else None,
        )

    @classmethod
    def concat(cls, parts: Sequence[LayerKeyValue]) -> LayerKeyValue:
        """The rows of all parts, padded to the longest text and context."""

        def joined(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
            if all(tensor is None for tensor in tensors):
                return None
            empty = [part.text_key[:, :, :0] for part in parts]
            return concat_padded([e if t is None else t for e, t in zip(empty, tensors, strict=True)], dim=2)

        return cls(
            concat_padded([part.text_key for part in parts], dim=2),
            concat_padded([part.text_value for part in parts], dim=2),
            joined([part.context_key for part in parts]),
            joined([part.context_value for part in parts]),
        )


@dataclass(frozen=True)
class KeyValueCache:
    """What every attention layer reads, in the order of `InstructUNet.context_layers`.

    Attributes:
        layers: one entry per attention layer.
        text_mask: bool [B, L], true where a text token counts.
        context_mask: bool [B, T], true where a context token counts; None when no instruction has a reference.
    """

    layers: tuple[LayerKeyValue, ...]
    text_mask: torch.Tensor
    context_mask: torch.Tensor | None = None

    def map(self, function) -> KeyValueCache:
        """Applies `function` to every tensor; used to repeat or select rows."""
        mask = None if self.context_mask is None else function(self.context_mask)
        return KeyValueCache(tuple(layer.map(function) for layer in self.layers), function(self.text_mask), mask)

    @classmethod
    def concat(cls, caches: Sequence[KeyValueCache]) -> KeyValueCache:
        """The rows of all caches; shorter texts and contexts are padded, and the padding is masked."""
        layers = tuple(LayerKeyValue.concat(parts) for parts in zip(*(c.layers for c in caches), strict=True))
        text_mask = concat_padded([cache.text_mask for cache in caches], dim=1)
        if all(cache.context_mask is None for cache in caches):
            return cls(layers, text_mask)
        masks = [
            cache.text_mask.new_zeros(len(cache.text_mask), 0) if cache.context_mask is None else cache.context_mask
            for cache in caches
        ]
        return cls(layers, text_mask, concat_padded(masks, dim=1))


@lru_cache(maxsize=16)
def _sincos_2d_cpu(height: int, width: int, dim: int) -> torch.Tensor:
    quarter = dim // 4
    frequencies = torch.pi * torch.exp(torch.linspace(0, 1, quarter) * torch.log(torch.tensor(16.0)))
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    row_angles = (rows[:, None] * frequencies)[:, None, :].expand(height, width, quarter)
    column_angles = (columns[:, None] * frequencies)[None, :, :].expand(height, width, quarter)
    parts = [row_angles.sin(), row_angles.cos(), column_angles.sin(), column_angles.cos()]
    encoding = torch.cat(parts, dim=-1).reshape(height * width, 4 * quarter)
    return F.pad(encoding, (0, dim - 4 * quarter))


def sincos_2d(height: int, width: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Fixed 2-D position code [height*width, dim] in -1..1, in relative coordinates so that any size fits.

    Departure from the paper, which names no positions: without them an edge or a mask does not stay in place.
    """
    return _sincos_2d_cpu(height, width, dim).to(device=like.device, dtype=like.dtype)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention, [B, H, N, D] -> [B, N, H*D]; mask bool, broadcastable to [B, H, N, keys]."""
    key, value = key.to(query.dtype), value.to(query.dtype)
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # On a CPU the fused kernel's backward pass takes most of its time; written out, a whole step is 15 % faster.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        blocked = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill(~mask, float("-inf"))
        attended = (scores + blocked).softmax(-1).to(value.dtype) @ value
    else:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2)


class ContextAttnProcessor(nn.Module):
    """Self- and text attention as in diffusers' added-key/value processor, plus a gated-to-zero context attention.

    The output projection of the context branch starts at zero, so a fresh layer computes exactly what the backbone
    computes. Its query and key projections start equal: a query then first attends to the context tokens at its own
    place and of its own look, which is what copying needs.

    Args:
        hidden_dim: channels C of the layer.
        context_dim: channels of the context features; None leaves the context branch out (places that Table 5 does
            not name).
        use_positions: add a fixed 2-D position code to context queries and keys.
    """

    def __init__(self, index: int, hidden_dim: int, context_dim: int | None, use_positions: bool = True):
        super().__init__()
        self.index = index
        self.hidden_dim = hidden_dim
        self.use_positions = use_positions
        self.reads_context = context_dim is not None
        if context_dim is not None:
            self.to_q_context = nn.Linear(hidden_dim, hidden_dim)
            self.to_k_context = nn.Linear(context_dim, hidden_dim)
            self.to_v_context = nn.Linear(context_dim, hidden_dim)
            self.to_out_context = nn.Linear(hidden_dim, hidden_dim)
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Equal query and key projections where the widths allow it, and an output of zero."""
        with torch.no_grad():
            nn.init.xavier_uniform_(self.to_q_context.weight, gain=1.5)
            if self.to_k_context.weight.shape == self.to_q_context.weight.shape:
                self.to_k_context.weight.copy_(self.to_q_context.weight)
            nn.init.zeros_(self.to_q_context.bias)
            nn.init.zeros_(self.to_k_context.bias)
            nn.init.zeros_(self.to_out_context.weight)
            nn.init.zeros_(self.to_out_context.bias)

    def project(
        self, attn: Attention, text_BLE: torch.Tensor, context_BRNC: torch.Tensor | None, grid: tuple[int, int]
    ) -> LayerKeyValue:
        """Keys and values of this layer.

        Args:
            attn: the layer.
            text_BLE: text states as the layer expects them.
            context_BRNC: context features of R reference places per instruction, N = grid height x width tokens each.
            grid: height and width of the context features.
        """
        if attn.norm_cross:
            text_BLE = attn.norm_encoder_hidden_states(text_BLE)

        def split(x: torch.Tensor) -> torch.Tensor:
            return attn.head_to_batch_dim(x, out_dim=4)

        text_key, text_value = split(attn.add_k_proj(text_BLE)), split(attn.add_v_proj(text_BLE))
        if context_BRNC is None or not self.reads_context:
            return LayerKeyValue(text_key, text_value)
        keys = context_BRNC
        if self.use_positions:
            keys = keys + sincos_2d(*grid, context_BRNC.shape[-1], like=context_BRNC)
        context_key = split(self.to_k_context(keys).flatten(1, 2))
        context_value = split(self.to_v_context(context_BRNC).flatten(1, 2))
        return LayerKeyValue(text_key, text_value, context_key, context_value)

    def __call__(  # diffusers reads this signature to see which cross_attention_kwargs the processor takes
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> torch.Tensor:
        """One layer on [B, C, h, w]; text states and mask are read from `cache`, never from the other arguments."""
        if cache is None:
            raise ValueError("ContextAttnProcessor needs cross_attention_kwargs={'cache': KeyValueCache}")
        height, width = hidden_states.shape[-2:]
        residual = hidden_states
        layer = cache.layers[self.index]
        tokens_BCN = attn.group_norm(hidden_states.flatten(2))
        tokens_BNC = tokens_BCN.transpose(1, 2)

        def split(x: torch.Tensor) -> torch.Tensor:
            return attn.head_to_batch_dim(x, out_dim=4)

        query = split(attn.to_q(tokens_BNC))
        key, value = layer.text_key.to(query.dtype), layer.text_value.to(query.dtype)
        mask = cache.text_mask[:, None, None, :]
        if not attn.only_cross_attention:
            key = torch.cat([key, split(attn.to_k(tokens_BNC))], dim=2)
            value = torch.cat([value, split(attn.to_v(tokens_BNC))], dim=2)
            mask = F.pad(mask, (0, height * width), value=True)
        output = attn.to_out[1](attn.to_out[0](_attend(query, key, value, mask)))

        if self.reads_context and cache.context_mask is not None:
            output = output + self._read_context(attn, tokens_BNC, layer, cache.context_mask, (height, width))
        return residual + output.transpose(1, 2).reshape(residual.shape)

    def _read_context(
        self,
        attn: Attention,
        tokens_BNC: torch.Tensor,
        layer: LayerKeyValue,
        context_mask: torch.Tensor,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        queries = tokens_BNC
        if self.use_positions:
            queries = queries + sincos_2d(*grid, queries.shape[-1], like=queries)
        query = attn.head_to_batch_dim(self.to_q_context(queries), out_dim=4)
        if layer.context_key is None or layer.context_value is None:
            raise ValueError("the cache holds a context mask but no context keys; build it with InstructUNet.project")
        any_context = context_mask.any(dim=1)
        # A row without references attends to everything and is then multiplied by zero: no NaN, exactly nothing read.
        mask = (context_mask | ~any_context[:, None])[:, None, None, :]
        attended = _attend(query, layer.context_key, layer.context_value, mask)
        return self.to_out_context(attended) * any_context[:, None, None].to(attended.dtype)
