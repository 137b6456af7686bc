"""The table of docs/backbones.md: parameters and memory of models, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from .catalogue import KnownModel, Networks
from .memory import estimate_sampling, estimate_training

BATCHES = (1, 8)  # examples that a process trains on at a time
_COLUMNS = ("model", "pictures", "denoiser", "added", "text encoder", "VAE", "draw 1")
_UNITS = ("", "px", "M", "M", "M", "M", "GiB")


def table_lines(models: Mapping[str, KnownModel]) -> Iterator[str]:
    """The table's lines, each as soon as it is calculated."""
    columns = [*_COLUMNS, *(f"train {number}" for number in BATCHES)]
    yield _line(columns)
    yield _line(["---"] + ["--:"] * (len(columns) - 1))
    yield _line([*_UNITS, *["GiB"] * len(BATCHES)])
    for name, model in models.items():
        yield _line([name, *_cells(model.on_meta().to(torch.bfloat16))])


def _cells(networks: Networks) -> list[str]:
    unet, vae = networks.unet, networks.vae
    added = unet.num_context_parameters()
    sizes = [_millions(sum(p.numel() for p in unet.parameters()) - added), _millions(added) if added else "-"]
    sizes += ["-" if part is None else _millions(_count(part)) for part in (networks.text_encoder, vae)]
    drawing = _gib(estimate_sampling(networks).total)
    if not unet.reads_context:
        return [str(networks.size_px), *sizes, drawing, *["-"] * len(BATCHES)]
    training = [_gib(estimate_training(networks, number, mixed=True).total) for number in BATCHES]
    return [str(networks.size_px), *sizes, drawing, *training]


def _count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _millions(count: int) -> str:
    return f"{count / 1e6:,.0f}" if count > 1e7 else f"{count / 1e6:.1f}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f}" if num_bytes > 2**30 else f"{num_bytes / 2**30:.2f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
