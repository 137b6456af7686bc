"""3x3 convolutions of small feature maps with a quarter of the multiplications (Lavin & Gray 2016, F(4x4, 3x3)).

The nano model spends most of a training step in them. On a CPU that computes in float32 this form takes less than
half the time of the library's convolution, forward and backward; with bfloat16 instructions the direct one is faster.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

# Outputs of a one-dimensional tile of four: A^T [(G w) * (B^T x)], for a window x of six and three weights w.
_B_T = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
_G = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
_A_T = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)
MAX_SIDE = 8  # beyond, the dense transforms of a whole map cost more than they save


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # whoever asks first: later calls may want gradients
def _transforms(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrices that take a map to its tiles' frequencies [36*t, H*W], back [H*W, 36*t], and weights [36, 9]."""

    def into(side: int) -> torch.Tensor:
        """[6, tiles, side]: each tile's window begins one place before it; what lies outside the map is zero."""
        windows = torch.zeros(6, side // 4, side + 2, dtype=torch.float64)
        for tile in range(side // 4):
            windows[:, tile, 4 * tile : 4 * tile + 6] = torch.tensor(_B_T, dtype=torch.float64)
        return windows[:, :, 1:-1]

    def out_of(side: int) -> torch.Tensor:
        """[side, 6, tiles]."""
        places = torch.zeros(side, 6, side // 4, dtype=torch.float64)
        for tile in range(side // 4):
            places[4 * tile : 4 * tile + 4, :, tile] = torch.tensor(_A_T, dtype=torch.float64)
        return places

    analysis = torch.einsum("atx,buy->abtuxy", into(height), into(width)).reshape(-1, height * width)
    synthesis = torch.einsum("xat,ybu->xyabtu", out_of(height), out_of(width)).reshape(height * width, -1)
    weights = torch.tensor(_G, dtype=torch.float64)
    return analysis.float(), synthesis.float(), torch.kron(weights, weights).float()


def winograd_conv2d(maps_BCHW: torch.Tensor, weight_OC33: torch.Tensor, bias_O: torch.Tensor | None) -> torch.Tensor:
    """`conv2d(maps, weight, bias, padding=1)` in float32, for sides that are multiples of 4; differentiable.

    Every linear transform is one matrix product over all maps and channels, its gradient another.
    """
    batch, channels, height, width = maps_BCHW.shape
    analysis, synthesis, kernel = _transforms(height, width)
    places = maps_BCHW.permute(2, 3, 0, 1).reshape(height * width, batch * channels)
    maps = (analysis @ places).view(36, -1, channels)
    weights = (kernel @ weight_OC33.permute(2, 3, 1, 0).reshape(9, -1)).view(36, channels, -1)
    products = torch.bmm(maps, weights)
    output = (synthesis @ products.view(len(analysis), -1)).view(height, width, batch, -1)
    if bias_O is not None:
        output = output + bias_O
    return output.permute(2, 0, 1, 3).contiguous().permute(0, 3, 1, 2)  # channels last, as a convolution gives


class WinogradConv2d(nn.Conv2d):
    """A convolution that computes the same in Winograd's form where that is faster: small maps, many at a time."""

    def forward(self, maps_BCHW: torch.Tensor) -> torch.Tensor:
        """See `torch.nn.Conv2d`."""
        height, width = maps_BCHW.shape[2:]
        small = height <= MAX_SIDE and width <= MAX_SIDE and height % 4 == 0 and width % 4 == 0
        if small and len(maps_BCHW) >= 16 and maps_BCHW.dtype == torch.float32 and maps_BCHW.device.type == "cpu":
            return winograd_conv2d(maps_BCHW, self.weight, self.bias)
        return super().forward(maps_BCHW)


def use_winograd(module: nn.Module) -> None:
    """Turns every plain 3x3 convolution inside `module` into a `WinogradConv2d`; parameters stay what they are."""
    for layer in module.modules():
        if type(layer) is not nn.Conv2d or layer.kernel_size != (3, 3) or layer.padding != (1, 1):
            continue
        if (layer.stride, layer.dilation, layer.groups, layer.padding_mode) == ((1, 1), (1, 1), 1, "zeros"):
            layer.__class__ = WinogradConv2d
