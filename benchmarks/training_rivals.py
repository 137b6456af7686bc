"""Text-to-image networks of other libraries, of a given number of parameters, for `training.py`.

Neither reads references, and their text states are ready-made: less work than a step of this project's networks.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn

from instruct_imagen.conditioning import to_unit_range
from instruct_imagen.model import build_scheduler, build_unet
from instruct_imagen.presets import ModelConfig
from instruct_imagen.training.objective import TrainingBatch
from instruct_imagen.unet import masked_mean

HOW_TO_GET_IMAGEN_PYTORCH = (
    "imagen-pytorch is not measured: install it apart from the project, by `python -m pip install --no-deps --target "
    "FOLDER imagen-pytorch einops beartype`, and put FOLDER on PYTHONPATH."
)


class PlainDenoiser(nn.Module):
    """The usual objective: the mean squared error of the noise, at one noise level an example.

    Args:
        network: from noisy pictures to their noise.
        scheduler: adds the noise.
        text_BLE: text states of every batch.
    """

    def __init__(self, network: nn.Module, scheduler: DDPMScheduler, text_BLE: torch.Tensor):
        super().__init__()
        self.network, self.scheduler, self.text_BLE = network, scheduler, text_BLE

    def forward(self, batch: TrainingBatch) -> torch.Tensor:
        """Loss of every example [B]."""
        noise, levels = batch.noise[:, 0], batch.levels[:, 0]
        timesteps = (levels * self.scheduler.config.num_train_timesteps).long()
        noisy = self.scheduler.add_noise(to_unit_range(batch.targets), noise, timesteps)
        prediction = self.predict(noisy, timesteps, batch.prompts.text_mask)
        return (prediction.float() - noise).square().mean((1, 2, 3))

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, words_BL: torch.Tensor) -> torch.Tensor:
        """The noise of the pictures."""
        raise NotImplementedError


class DiffusersDenoiser(PlainDenoiser):
    """DeepFloyd IF's kind of `UNet2DConditionModel`."""

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, words_BL: torch.Tensor) -> torch.Tensor:
        """See `PlainDenoiser`."""
        pooled = masked_mean(self.text_BLE, words_BL)
        conditions = {"encoder_hidden_states": self.text_BLE, "class_labels": pooled}
        return self.network(noisy, timesteps, **conditions, return_dict=False)[0]


class ImagenPytorchDenoiser(PlainDenoiser):
    """The U-Net of imagen-pytorch, which drops a tenth of the texts itself."""

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, words_BL: torch.Tensor) -> torch.Tensor:
        """See `PlainDenoiser`."""
        conditions = {"text_embeds": self.text_BLE, "text_mask": words_BL, "cond_drop_prob": 0.1}
        return self.network(noisy, timesteps.float(), **conditions)


def make_rivals(config: ModelConfig, num_parameters: int, text_BLE: torch.Tensor) -> dict[str, Callable[[], nn.Module]]:
    """By name, what builds a rival: blocks of a size's own resolution, attention in the lowest, as wide as fits.

    Args:
        config: size of the pictures, text states and head width; as many levels and layers where it has more than one
            level, else two.
        num_parameters: of the network to compare with.
        text_BLE: see `PlainDenoiser`.
    """
    layers = config.layers_per_block if len(config.channels) > 1 else (1, 1)
    scheduler = build_scheduler(config)
    step = max(8, config.head_dim // 2 ** (len(layers) - 1))  # whole heads in the lowest level, whole groups in all

    def diffusers_unet(width: int) -> nn.Module:
        channels = tuple(width * 2**level for level in range(len(layers)))
        plain = replace(config, patch_size=1, channels=channels, layers_per_block=layers, low_res=None)
        return UNet2DConditionModel.from_config(build_unet(plain).backbone.config)

    def imagen_pytorch_unet(width: int) -> nn.Module:
        attention = (False,) * (len(layers) - 1) + (True,)
        with contextlib.redirect_stdout(io.StringIO()):  # it advises wider networks
            return unet_class(
                dim=width,
                dim_mults=tuple(2**level for level in range(len(layers))),
                num_resnet_blocks=layers,
                layer_attns=attention,
                layer_cross_attns=attention,
                attn_dim_head=config.head_dim,
                text_embed_dim=config.text.dim,
                max_text_len=text_BLE.shape[1],
            )

    def sized(kind: type[PlainDenoiser], build: Callable[[int], nn.Module]) -> Callable[[], nn.Module]:
        width = nearest_width(build, num_parameters, step)
        return lambda: kind(build(width), scheduler, text_BLE)

    rivals = {"diffusers": sized(DiffusersDenoiser, diffusers_unet)}
    unet_class = load_imagen_pytorch()
    if unet_class is not None:
        rivals["imagen-pytorch"] = sized(ImagenPytorchDenoiser, imagen_pytorch_unet)
    return rivals


def nearest_width(build: Callable[[int], nn.Module], num_parameters: int, step: int) -> int:
    """The multiple of `step` with which a network has the nearest number of parameters."""

    def parameters(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build(width).parameters())

    widths = range(step, 64 * step, step)
    above = bisect_left(widths, num_parameters, key=parameters)
    return min(widths[max(0, above - 1) : above + 1], key=lambda width: abs(parameters(width) - num_parameters))


@functools.cache
def load_imagen_pytorch() -> Callable[..., nn.Module] | None:
    """Its U-Net class, without its trainer, and without torchvision and kornia; None where it is not installed."""
    found = find_spec("imagen_pytorch")
    if found is None:
        return None
    package = ModuleType("imagen_pytorch")  # its own __init__ imports the trainer, with all that the trainer needs
    package.__path__ = list(found.submodule_search_locations or ())
    sys.modules["imagen_pytorch"] = package
    try:
        t5: Any = importlib.import_module("imagen_pytorch.t5")
        # A width that is asked for while the U-Net's class is defined, and otherwise fetched from a model hub.
        t5.T5_CONFIGS[t5.DEFAULT_T5_NAME] = {"config": SimpleNamespace(d_model=768)}
        # Both are imported beside the U-Net, for cropping and for turning samples into pictures, and not used here.
        with stubbed("torchvision.transforms", "kornia.augmentation"):
            return importlib.import_module("imagen_pytorch.imagen_pytorch").Unet
    except ImportError:
        return None


@contextlib.contextmanager
def stubbed(*names: str) -> Iterator[None]:
    """Empty modules of these names, and what they lie in, for as long as the context lasts."""
    wanted = {part: ModuleType(part) for name in names for part in (name.split(".")[0], name)}
    for name, module in wanted.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(wanted[parent], child, module)
    before = {name: sys.modules.get(name) for name in wanted}
    sys.modules.update(wanted)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
