"""How much memory a model takes, from a calculation on the meta device: shapes without contents, in seconds.

The networks run as they do in sampling and in training, and every storage is counted from the operation that makes it
to the moment that nothing refers to it. Attention is counted as a fused kernel keeps it, without its scores. What the
count leaves out: the workspaces of convolutions, fragmentation, and the process itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..latents import to_pixels, to_samples
from ..super_resolution import LowResolution, SuperResolutionUNet
from .catalogue import Networks

NUM_REFERENCES = 2
ADAM_BYTES = 8  # two moments of a parameter, in float32
AVERAGE_BYTES = 4


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations inside this context make, and their highest sum at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def know(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tensors that were there before, such as weights; views of them are no new memory."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()._cdata] = 0

    def add(self, num_bytes: int) -> None:
        """Bytes that no operation shows."""
        self.now += num_bytes
        self.peak = max(self.peak, self.now)

    def _watch(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self.add(storage.nbytes())
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor)
        return result


class _Fused(torch.autograd.Function):
    """Attention as a fused kernel's memory sees it: inputs, output and one number per query and head are kept."""

    @staticmethod
    def forward(ctx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class FusedAttention(TorchFunctionMode):
    """Inside this context, scaled dot-product attention computes nothing and keeps what a fused kernel would."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            return _Fused.apply(*args[:3])
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes.

    Attributes:
        weights: of all networks, as they are stored while they work.
        states: of training: moments of the optimizer and the moving average.
        activations: the most that is there besides, gradients included.
    """

    weights: int
    states: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.states + self.activations


def num_bytes(*networks: nn.Module | None) -> int:
    """Bytes of the weights of networks."""
    return sum(p.nbytes for network in networks if network is not None for p in network.parameters())


def estimate_sampling(networks: Networks, num_pictures: int = 1, guided: bool = True) -> MemoryEstimate:
    """To draw pictures, each with `NUM_REFERENCES` references, all networks on the device.

    Args:
        networks: on the meta device, in the precision that is asked about.
        num_pictures: drawn together.
        guided: whether guidance needs a second row for each picture.
    """
    rows = num_pictures * (2 if guided else 1)
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        live.know(_weights(networks))
        samples = _denoised(networks, rows, num_pictures * NUM_REFERENCES)
        to_pixels(samples[:num_pictures, : networks.unet.num_channels], networks.vae)
    return MemoryEstimate(num_bytes(networks.unet, networks.text_encoder, networks.vae), 0, live.peak)


def estimate_training(networks: Networks, num_examples: int = 1, mixed: bool = False) -> MemoryEstimate:
    """To train the U-Net with AdamW and a moving average; the other networks are frozen.

    Args:
        networks: on the meta device; float32, or with `mixed` bfloat16.
        num_examples: in a process at a time, each with `NUM_REFERENCES` references and one noise level.
        mixed: weights, gradients and states are float32 and the computation bfloat16, as in autocast.
    """
    unet = networks.unet
    for frozen in (networks.text_encoder, networks.vae):
        if frozen is not None:
            frozen.requires_grad_(False)
    trained = sum(p.numel() for p in unet.parameters())
    with FusedAttention(), LiveBytes() as live:
        live.know(_weights(networks))
        extra = 2 if mixed else 0  # gradients of float32 weights, where the calculation makes them in bfloat16
        hooks = [p.register_post_accumulate_grad_hook(lambda p: live.add(extra * p.numel())) for p in unet.parameters()]
        samples = _denoised(networks, num_examples, num_examples * NUM_REFERENCES, encode_targets=True)
        samples.float().square().mean().backward()
    for hook in hooks:
        hook.remove()
    unet.zero_grad(set_to_none=True)
    weights = num_bytes(unet, networks.text_encoder, networks.vae) + (4 * trained if mixed else 0)
    return MemoryEstimate(weights, trained * (ADAM_BYTES + AVERAGE_BYTES), live.peak)


def _weights(networks: Networks) -> list[torch.Tensor]:
    parts: list[nn.Module | None] = [networks.unet, networks.text_encoder, networks.vae]
    return [tensor for part in parts if part is not None for tensor in (*part.parameters(), *part.buffers())]


def _denoised(networks: Networks, rows: int, num_references: int, encode_targets: bool = False) -> torch.Tensor:
    """One evaluation of the denoiser on `rows` noisy pictures, as the conditioning encoder and the loop call it."""
    unet, vae = networks.unet, networks.vae
    dtype = unet.dtype

    def pixels(count: int) -> torch.Tensor:
        return torch.empty(count, 3, networks.size_px, networks.size_px, dtype=dtype, device="meta")

    text, words = _read(networks, rows)
    context, places = None, None
    if unet.reads_context:
        read = _read(networks, num_references)
        features = unet.encode_context(to_samples(pixels(num_references), vae).to(dtype), *read)
        places = torch.zeros(rows, NUM_REFERENCES, dtype=torch.bool)
        places[: num_references // NUM_REFERENCES] = True
        context = features.new_zeros(rows, NUM_REFERENCES, *features.shape[1:])
    cache = unet.project(text, words, context, places)
    if cache.context is not None:  # laid out by contents, used without
        cache = replace(cache, context=replace(cache.context, rows=cache.context.rows.to("meta")))
    if encode_targets:
        to_samples(pixels(rows), vae)
    size = (unet.size_px, unet.size_px)
    noisy = torch.empty(rows, unet.num_channels, *size, dtype=dtype, device="meta")
    inputs: dict[str, Any] = {}
    if isinstance(unet, SuperResolutionUNet):
        inputs["low_res"] = LowResolution(torch.empty_like(noisy), torch.zeros(rows, device="meta"))
    return unet(noisy, torch.zeros(rows, dtype=torch.long, device="meta"), text, cache, **inputs)


def _read(networks: Networks, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of texts, and which of their tokens are words."""
    ids = torch.zeros(count, networks.text_tokens, dtype=torch.long, device="meta")
    states = networks.text_encoder(input_ids=ids).last_hidden_state
    return states.to(networks.unet.dtype), torch.ones_like(ids, dtype=torch.bool)
