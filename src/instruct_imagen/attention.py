"""Attention layers of the backbone, extended by a second cross-attention that reads the context (§3.1, A.2.1).

The extension point is diffusers' attention processor. Keys and values of the text and of the context do not
depend on the denoising step, so they are projected once (`ContextAttnProcessor.project`) and handed over in
`cross_attention_kwargs={"cache": KeyValueCache}`.

Shape suffixes: B batch, H heads, N image tokens (h*w), L text tokens, R references, K pictures that share a row's
references, C channels, D head width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn

from .cache import ContextLayout, KeyValueCache, LayerKeyValue


@lru_cache(maxsize=32)
def _sincos_2d(height: int, width: int, dim: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Kept on the device: a copy from the CPU at every layer would make the CPU wait for the GPU."""
    quarter = dim // 4
    frequencies = torch.pi * torch.exp(torch.linspace(0, 1, quarter) * torch.log(torch.tensor(16.0)))
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    row_angles = (rows[:, None] * frequencies)[:, None, :].expand(height, width, quarter)
    column_angles = (columns[:, None] * frequencies)[None, :, :].expand(height, width, quarter)
    parts = [row_angles.sin(), row_angles.cos(), column_angles.sin(), column_angles.cos()]
    encoding = torch.cat(parts, dim=-1).reshape(height * width, 4 * quarter)
    return F.pad(encoding, (0, dim - 4 * quarter)).to(device=device, dtype=dtype)


def sincos_2d(height: int, width: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Fixed 2-D position code [height*width, dim] in -1..1, in relative coordinates so that any size fits.

    Departure from the paper, which names no positions: without them an edge or a mask does not stay in place.
    """
    return _sincos_2d(height, width, dim, like.device, like.dtype)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled dot-product attention, [B, H, N, D] -> [B, N, H*D]; mask bool, broadcastable to [B, H, N, keys]."""
    key, value = key.to(query.dtype), value.to(query.dtype)
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # On a CPU the fused kernel's backward pass takes most of its time; written out, a whole step is 15 % faster.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if mask is not None:
            scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
        attended = scores.softmax(-1).to(value.dtype) @ value
    else:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2)


def _square(num_tokens: int) -> tuple[int, int]:
    """Height and width of a square map of so many tokens; transformer blocks flatten theirs."""
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise ValueError(f"{num_tokens} tokens are no square map; this network draws square pictures")
    return side, side


class SelfAttnProcessor(AttnProcessor2_0):
    """Self-attention of a transformer block as in diffusers; the cache, which every layer is handed, is not its own."""

    def __call__(  # diffusers reads this signature to see which cross_attention_kwargs the processor takes
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> torch.Tensor:
        """One layer on [B, N, C]."""
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class ContextAttnProcessor(nn.Module):
    """A layer that reads text, as diffusers computes it, plus a gated-to-zero attention to the context.

    There are two kinds of such layers. In DeepFloyd IF's blocks (added keys and values) a layer on a feature map
    [B, C, h, w] attends to the text and to itself in one softmax. In Stable Diffusion's transformer blocks a layer on
    tokens [B, N, C] attends to the text alone (`SelfAttnProcessor` is its neighbour).

    The output projection of the context branch starts at zero, so a fresh layer computes exactly what the backbone
    computes. Its query and key projections start equal: a query then first attends to the context tokens at its own
    place and of its own look, which is what copying needs.

    Args:
        index: of the layer in `KeyValueCache.layers`.
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
        self, attn: Attention, text_BLE: torch.Tensor, context_RNC: torch.Tensor | None, grid: tuple[int, int]
    ) -> LayerKeyValue:
        """Keys and values of this layer.

        Args:
            attn: the layer.
            text_BLE: text states as the layer expects them.
            context_RNC: features of all references, packed as a `ContextLayout` says, N = grid height x width.
            grid: height and width of the context features.
        """
        if attn.norm_cross:
            text_BLE = attn.norm_encoder_hidden_states(text_BLE)

        def split(x: torch.Tensor) -> torch.Tensor:
            return attn.head_to_batch_dim(x, out_dim=4)

        joint = attn.added_kv_proj_dim is not None
        to_key, to_value = (attn.add_k_proj, attn.add_v_proj) if joint else (attn.to_k, attn.to_v)
        text_key, text_value = split(to_key(text_BLE)), split(to_value(text_BLE))
        if context_RNC is None or not self.reads_context:
            return LayerKeyValue(text_key, text_value)
        keys = context_RNC
        if self.use_positions:
            keys = keys + sincos_2d(*grid, context_RNC.shape[-1], like=context_RNC)
        return LayerKeyValue(text_key, text_value, self.to_k_context(keys), self.to_v_context(context_RNC))

    def __call__(  # diffusers reads this signature to see which cross_attention_kwargs the processor takes
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> torch.Tensor:
        """One layer on [B, C, h, w] or [B, N, C]; text and its mask come from `cache`, never from the arguments."""
        if cache is None:
            raise ValueError("ContextAttnProcessor needs cross_attention_kwargs={'cache': KeyValueCache}")
        is_map = hidden_states.ndim == 4
        tokens_BNC = attn.group_norm(hidden_states.flatten(2)).transpose(1, 2) if is_map else hidden_states
        layer = cache.layers[self.index]
        output = self._read_text(attn, tokens_BNC, layer, cache.text_mask)
        if self.reads_context and cache.context is not None:
            height, width = hidden_states.shape[-2:] if is_map else _square(tokens_BNC.shape[1])
            output = output + self._read_context(attn, tokens_BNC, layer, cache.context, (height, width))
        # In this order, as in diffusers, the sum takes the memory layout that makes later sums the same to the bit.
        return output.transpose(1, 2).reshape(hidden_states.shape) + hidden_states if is_map else output

    def _read_text(
        self, attn: Attention, tokens_BNC: torch.Tensor, layer: LayerKeyValue, text_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """What the backbone's own processor computes."""

        def split(x: torch.Tensor) -> torch.Tensor:
            return attn.head_to_batch_dim(x, out_dim=4)

        query = split(attn.to_q(tokens_BNC))
        key, value = layer.text_key.to(query.dtype), layer.text_value.to(query.dtype)
        mask = None if text_mask is None else text_mask[:, None, None, :]
        if attn.added_kv_proj_dim is not None and not attn.only_cross_attention:
            key = torch.cat([key, split(attn.to_k(tokens_BNC))], dim=2)
            value = torch.cat([value, split(attn.to_v(tokens_BNC))], dim=2)
            mask = None if mask is None else F.pad(mask, (0, tokens_BNC.shape[1]), value=True)
        return attn.to_out[1](attn.to_out[0](_attend(query, key, value, mask)))

    def _read_context(
        self,
        attn: Attention,
        tokens_BNC: torch.Tensor,
        layer: LayerKeyValue,
        layout: ContextLayout,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """What the rows that have references read from them, [B, N, C]; exactly nothing for the others."""
        if layer.context_key is None or layer.context_value is None:
            raise ValueError("the cache has a context layout but no context keys; build it with InstructUNet.project")

        def split(x: torch.Tensor) -> torch.Tensor:
            return attn.head_to_batch_dim(x, out_dim=4)

        pictures_BKNC = tokens_BNC.unflatten(0, (-1, layout.repeats))
        queries = pictures_BKNC.index_select(0, layout.rows)
        if self.use_positions:
            queries = queries + sincos_2d(*grid, queries.shape[-1], like=queries)
        query = split(self.to_q_context(queries.flatten(1, 2)))  # a row's pictures attend together
        attended = []
        for rows, references, count in layout.groups():
            key, value = (
                split(x[references].unflatten(0, (-1, count)).flatten(1, 2))
                for x in (layer.context_key, layer.context_value)
            )
            attended.append(_attend(query[rows], key, value))
        output = self.to_out_context(torch.cat(attended))
        nothing = output.new_zeros(len(pictures_BKNC), *output.shape[1:])
        return nothing.index_copy(0, layout.rows, output).view(*tokens_BNC.shape[:-1], -1)
