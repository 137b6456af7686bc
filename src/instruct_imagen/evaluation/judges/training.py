"""Trains the judges' networks on the glyph world and writes their weights; one loop for all.

    python -m instruct_imagen.evaluation.judges.training mask --out src/instruct_imagen/evaluation/weights

Names: mask, extractor, overview. Minutes of one core each. One seed gives the same weights on one machine with
one version of torch; the seeds are far from those of every suite.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ...files import make_folder
from ...world import GlyphPack, load_pack
from .nets import WEIGHTS, write_weights

logger = logging.getLogger(__name__)

NAMES = ("mask", "extractor", "overview")


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        file: name of its weights.
        make: a network with random weights.
        batches: endless batches of pictures, float [B, 3, S, S] in -1..1, and whatever the loss wants.
        loss: of a batch, from the network and what `batches` gave.
        num_pictures: how many pictures are shown.
        batch_size: B.
        peak_rate: the highest learning rate.
        seed: of the weights and of the pictures.
    """

    file: str
    make: Callable[[], nn.Module]
    batches: Callable[[GlyphPack, np.random.Generator], Iterator[tuple[Tensor, ...]]]
    loss: Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
    num_pictures: int
    batch_size: int
    peak_rate: float
    seed: int


def train(recipe: Recipe, pack: GlyphPack, num_pictures: int | None = None, seed: int | None = None) -> nn.Module:
    """A trained network, in evaluation mode.

    Args:
        recipe: what to train.
        pack: the glyphs.
        num_pictures, seed: in place of the recipe's own.
    """
    seed = recipe.seed if seed is None else seed
    torch.manual_seed(seed)
    net = recipe.make()
    batches = recipe.batches(pack, np.random.default_rng(seed))
    num_steps = max(2, (num_pictures or recipe.num_pictures) // recipe.batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), recipe.peak_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, num_steps, pct_start=0.1)
    for step, batch in enumerate(itertools.islice(batches, num_steps)):
        loss = recipe.loss(net, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 256 == 0 or step == num_steps - 1:
            logger.info("step %d of %d, loss %.4f", step, num_steps, loss.item())
    return net.eval()


def get_recipe(name: str) -> Recipe:
    """The recipe of the network of that name, one of `NAMES`."""
    recipe: Recipe = import_module(f"{__package__}.train_{name}").RECIPE
    return recipe


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the weights")
    parser.add_argument("--num-pictures", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--pack", default="font", help="font, builtin, or a folder of cut-outs")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recipe, pack = get_recipe(options.name), load_pack(options.pack).prepare()
    net = train(recipe, pack, options.num_pictures, options.seed)
    path = make_folder(options.out) / recipe.file
    write_weights(net, path)
    logger.info("wrote %s", path)


if __name__ == "__main__":
    main()
