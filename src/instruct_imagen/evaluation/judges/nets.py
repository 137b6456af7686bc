"""What the judges' networks share: layers, pictures as tensors, weights on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...errors import UserError
from ...files import write_atomically

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
BATCH = 32

_Net = TypeVar("_Net", bound=nn.Module)


class JudgeError(UserError):
    """A judge that cannot be used; the message says what to mend."""


def layer(num_in: int, num_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(num_in, num_out, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(num_out), nn.ReLU(inplace=True))


class Block(nn.Module):
    """Two layers beside a short cut; float [B, W, S, S] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = layer(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(values + self.second(self.first(values)))


def doubled(values: Tensor) -> Tensor:
    """Each pixel four times."""
    return nn.functional.interpolate(values, scale_factor=2, mode="nearest")


class DenseNet(nn.Module):
    """A small U-Net: a picture to one or more numbers for each of its pixels.

    It works on 2 x 2 pixel patches, and ends with two narrow layers on single pixels, which draw the rim: without
    them three quarters of a mask's errors lay within a pixel of the true rim.

    Args:
        num_outputs: numbers for each pixel.
        widths: channels at half, a quarter and an eighth of the side.
        rim: channels of the layers on single pixels.
    """

    def __init__(self, num_outputs: int, widths: tuple[int, int, int] = (24, 40, 48), rim: int = 12) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.fine = nn.Sequential(layer(12, fine), layer(fine, fine))
        self.middle = nn.Sequential(layer(fine, middle, stride=2), layer(middle, middle))
        self.coarse = nn.Sequential(layer(middle, coarse, stride=2), layer(coarse, coarse))
        self.wide = layer(coarse, coarse, dilation=2)
        self.up_middle = layer(coarse + middle, middle)
        self.up_fine = layer(middle + fine, fine)
        self.to_pixels = nn.Conv2d(fine, 4 * 8, 1)
        self.rim = nn.Sequential(layer(8 + 3, rim), layer(rim, rim))
        self.head = nn.Conv2d(rim, num_outputs, 1)

    def outputs(self, pictures: Tensor) -> Tensor:
        """All numbers: float [B, 3, S, S] in -1..1, S a multiple of 8, to float [B, num_outputs, S, S]."""
        fine = self.fine(nn.functional.pixel_unshuffle(pictures, 2))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = coarse + self.wide(coarse)
        middle = self.up_middle(torch.cat([doubled(coarse), middle], 1))
        fine = self.up_fine(torch.cat([doubled(middle), fine], 1))
        pixels = nn.functional.pixel_shuffle(self.to_pixels(fine), 2)
        return self.head(self.rim(torch.cat([pixels, pictures], 1)))


def as_input(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures, uint8 [S, S, 3] each, as float [B, 3, S, S] in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def write_weights(net: nn.Module, path: Path) -> None:
    """Writes a network in half precision."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
    }
    write_atomically(path, lambda partial: save_file(tensors, partial))


def read_weights(net: _Net, path: Path) -> _Net:
    """Fills a network with what `write_weights` wrote; in evaluation mode.

    Raises:
        JudgeError: the file is not there, is damaged, or is of another network.
    """
    try:
        tensors = load_file(path)
        net.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in tensors.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        command = f"python -m instruct_imagen.evaluation.judges.training {path.stem.split('_')[0]} --out {path.parent}"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise JudgeError(
            f"The judge's weights {path} cannot be used ({reason}); make them with `{command}`."
        ) from error
    return net.eval()
