"""Activation checkpointing: memory for time."""

from __future__ import annotations

from functools import partial, wraps
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.models.t5.modeling_t5 import T5Block


def checkpoint_activations(*networks: nn.Module) -> None:
    """Makes residual blocks, attention layers and T5 blocks keep their inputs alone for the backward pass.

    What lies inside is computed a second time there. diffusers' own switch leaves out the attention of the blocks used
    here, which holds most of the memory.
    """
    for network in networks:
        for module in network.modules():
            if isinstance(module, ResnetBlock2D | Attention | T5Block):
                module.forward = _checkpointed(module.forward)


def _checkpointed(forward: Any) -> Any:
    @wraps(forward)  # diffusers reads the signature
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False)

    return call
