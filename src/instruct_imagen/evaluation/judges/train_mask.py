"""Trains the mask judge on the glyph world and writes its weights.

    python -m instruct_imagen.evaluation.judges.train_mask --out src/instruct_imagen/evaluation/weights

Plain pictures of training glyphs on every ground, blurred, made coarse, noisy or off in colour, so that the
judge also reads generated pictures. About six minutes on one core. One seed gives the same weights on one machine
with one version of torch; its own seeds are far from those of every suite.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ...data.world_tasks import PLAIN_STYLE
from ...precision import autocast
from ...world import GlyphPack, SceneSampler, load_pack, render
from ..pictures import JUDGE_SIZE_PX
from .mask import WEIGHTS, MaskNet, as_input

logger = logging.getLogger(__name__)

SEED = 7_300_000
NUM_PICTURES = 98_304
BATCH = 16
PEAK_RATE = 4e-3


def spoil(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture with faults that generated pictures have, or two times in five as it is; uint8 [S, S, 3] each."""
    if rng.random() < 0.4:
        return picture
    side = picture.shape[0]
    values: np.ndarray = picture.astype(np.float32)
    if rng.random() < 0.3:  # drawn at half the size and enlarged
        values = cv2.resize(values, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        values = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        values = cv2.GaussianBlur(values, (0, 0), float(rng.uniform(0.3, 1.6)))
    if rng.random() < 0.5:  # colours off: contrast, cast and fading
        values = 128 + (values - 128) * rng.uniform(0.6, 1.2) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
        values = values + rng.normal(0, 10, 3).astype(np.float32)
    if rng.random() < 0.3:  # blotches
        coarse = rng.normal(0, 14, (8, 8, 3)).astype(np.float32)
        values = values + cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        values = values + rng.normal(0, rng.uniform(2, 24), values.shape).astype(np.float32)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def draw_batches(sampler: SceneSampler, pack: GlyphPack, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end; each set of scenes makes two, one of them mirrored, with other faults.

    Yields:
        Pictures, float [B, 3, 64, 64] in -1..1, and their masks, float [B, 64, 64] of 0 and 1.
    """
    while True:
        counts = [1 if rng.random() < 0.5 else None for _ in range(BATCH)]
        scenes = [sampler.sample(rng, num_subjects=count, style=PLAIN_STYLE) for count in counts]
        renders = [render(scene, pack, JUDGE_SIZE_PX) for scene in scenes]
        masks = torch.from_numpy(np.stack([picture.mask for picture in renders])).float()
        yield as_input([spoil(picture.image, rng) for picture in renders]), masks
        yield as_input([spoil(picture.image, rng) for picture in renders]).flip(-1), masks.flip(-1)


def loss_of(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of pixels, and one minus the soft overlap of regions; [B, S, S] each."""
    inside = torch.sigmoid(logits)
    both = (inside * masks).sum((1, 2))
    overlap = (both + 1) / (inside.sum((1, 2)) + masks.sum((1, 2)) - both + 1)
    return binary_cross_entropy_with_logits(logits, masks) + 0.5 * (1 - overlap.mean())


def train(pack: GlyphPack, num_pictures: int = NUM_PICTURES, seed: int = SEED) -> MaskNet:
    """A trained network, in evaluation mode.

    Args:
        pack: the glyphs; only those of the training split are shown.
        num_pictures: how many pictures to train on; each scene is seen twice.
        seed: of the weights and of the pictures.
    """
    torch.manual_seed(seed)
    net = MaskNet()
    batches = draw_batches(SceneSampler(pack, "train"), pack, np.random.default_rng(seed))
    num_steps = max(2, num_pictures // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, num_steps, pct_start=0.1)
    for step, (pictures, masks) in enumerate(itertools.islice(batches, num_steps)):
        with autocast("cpu"):
            logits = net(pictures)
        loss = loss_of(logits.float(), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 256 == 0 or step == num_steps - 1:
            logger.info("step %d of %d, loss %.4f", step, num_steps, loss.item())
    return net.eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder for mask_judge.safetensors")
    parser.add_argument("--num-pictures", type=int, default=NUM_PICTURES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--pack", default="font", help="font, builtin, or a folder of cut-outs")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    net = train(load_pack(options.pack).prepare(), options.num_pictures, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    state = net.state_dict()
    tensors = {name: v.half().contiguous() if v.is_floating_point() else v for name, v in state.items()}
    save_file(tensors, options.out / WEIGHTS.name)
    logger.info("wrote %s", options.out / WEIGHTS.name)


if __name__ == "__main__":
    main()
