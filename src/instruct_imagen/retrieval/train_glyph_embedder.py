"""Trains the glyph world's embedder on captioned pictures of the training split.

    python -m instruct_imagen.retrieval.train_glyph_embedder --out FOLDER --minutes 35 --seed 0

The loss is CLIP's and, beside it, that each picture finds the names of its subjects among all names: pictures with
other captions mostly differ in ground and style already, so CLIP's loss alone hardly learns what they show, and
neighbours would share the ground rather than the subject. Writes `glyph_embedder.safetensors` and `training.json`
(losses; how often the right caption of 256, and the right name of all, is the nearest).
With --steps in place of --minutes one seed gives the same weights on one machine with one version of torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..files import make_folder, write_atomically
from ..precision import autocast, fast_bfloat16
from ..training.winograd import use_winograd
from ..world import (
    GlyphPack,
    Portraits,
    PortraitSampler,
    SceneSampler,
    caption,
    load_pack,
    portrait_caption,
    render,
    with_article,
)
from .embedders import pick_device
from .glyph_embedder import SIZE_PX, WEIGHTS, GlyphNet, GlyphNetConfig, as_input, save_net

logger = logging.getLogger(__name__)

PORTRAIT_SHARE = 0.1
MAX_SCALE = 100.0  # of the logits, as in CLIP
WARMUP_SHARE = 0.05  # of the run, in which the learning rate rises
_EVALUATION_SEED = 1 << 40  # no position that training reaches


class TrainingError(UserError):
    """Options that cannot be trained with."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        steps: number of steps, or None for `minutes`.
        minutes: time to train, or None for `steps`.
        seed: of weights and pictures.
        batch_size: pairs in a step; each picture is told from the other captions of its batch.
        learning_rate: the highest; it falls to zero along a cosine.
        num_workers: processes that draw pictures; 0 draws them in this one.
        device: "auto", "cpu", "cuda".
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    batch_size: int = 128
    learning_rate: float = 1e-3
    num_workers: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise TrainingError("give either --steps or --minutes")
        if (self.steps or self.minutes or 0) <= 0 or self.batch_size < 2:
            raise TrainingError("--steps and --minutes must be above 0, and a batch holds two pairs or more")


@dataclass(frozen=True)
class Pair:
    """A captioned picture.

    Attributes:
        image: uint8 [64, 64, 3].
        caption: text.
        subjects: numbers of the glyphs that it shows; none in a portrait.
    """

    image: np.ndarray
    caption: str
    subjects: tuple[int, ...] = ()


class CaptionedPictures(Dataset[Pair]):
    """Pictures of the training split with a caption; pair `index` depends on (seed, index) alone.

    Attributes:
        names: a text about each glyph of the split.
    """

    def __init__(self, pack: GlyphPack, seed: int) -> None:
        self.pack, self.seed = pack, seed
        self.scenes = SceneSampler(pack, "train")
        self.people, self.portraits = Portraits(), PortraitSampler("train", self.scenes.styles)
        self.names = tuple(f"a picture of {with_article(pack[key].name)}" for key in self.scenes.glyphs)
        self._numbers = {key: number for number, key in enumerate(self.scenes.glyphs)}

    def __getitem__(self, index: int) -> Pair:
        """The pair at `index` >= 0."""
        rng = np.random.default_rng([self.seed, index])
        if rng.random() < PORTRAIT_SHARE:
            scene = self.portraits.scene(rng, close=rng.random() < 0.3, style_share=0.3)
            return Pair(render(scene, self.people, SIZE_PX).image, portrait_caption(scene, rng))
        scene = self.scenes.sample(rng)
        subjects = tuple(self._numbers[key] for key in scene.glyphs)
        return Pair(render(scene, self.pack, SIZE_PX).image, caption(scene, self.pack, rng), subjects)


def contrastive_loss(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    """CLIP's loss: each picture finds its text in the batch, and each text its picture.

    Args:
        images: float [B, D] of any length.
        texts: float [B, D] of any length.
        log_scale: logarithm of the logits' scale.
    """
    scale = log_scale.exp().clamp(max=MAX_SCALE)
    logits = scale * normalize(images, dim=1) @ normalize(texts, dim=1).T
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (cross_entropy(logits, own) + cross_entropy(logits.T, own))


def subject_loss(images: Tensor, names: Tensor, subjects: Sequence[Sequence[int]], log_scale: Tensor) -> Tensor:
    """Each picture finds the names of what it shows, in equal parts, among all names.

    Args:
        images: float [B, D] of any length.
        names: float [G, D] of any length.
        subjects: for each picture the numbers of its names; a picture with none does not count.
        log_scale: logarithm of the logits' scale.
    """
    scale = log_scale.exp().clamp(max=MAX_SCALE)
    found = log_softmax(scale * normalize(images, dim=1) @ normalize(names, dim=1).T, dim=1)
    rows = [row for row, numbers in enumerate(subjects) for _ in numbers]
    shares = torch.tensor([1 / len(numbers) for numbers in subjects for _ in numbers], device=images.device)
    columns = [number for numbers in subjects for number in numbers]
    return -(shares * found[rows, columns]).sum() / shares.sum().clamp(min=1)


def _collate(pairs: list[Pair]) -> tuple[Tensor, list[str], list[tuple[int, ...]]]:
    return as_input([pair.image for pair in pairs]), [pair.caption for pair in pairs], [p.subjects for p in pairs]


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _batches(
    dataset: CaptionedPictures, options: TrainOptions
) -> Iterator[tuple[Tensor, list[str], list[tuple[int, ...]]]]:
    def positions() -> Iterator[list[int]]:
        for start in range(0, _EVALUATION_SEED, options.batch_size):
            yield list(range(start, start + options.batch_size))

    loader = DataLoader(
        dataset,
        batch_sampler=positions(),  # endless, so without a length
        collate_fn=_collate,
        num_workers=options.num_workers,
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def train(
    pack: GlyphPack, options: TrainOptions, config: GlyphNetConfig | None = None
) -> tuple[GlyphNet, list[tuple[int, float]]]:
    """Trains a network.

    Returns:
        It, in evaluation mode, and (step, loss) pairs.
    """
    torch.manual_seed(options.seed)
    place = pick_device(options.device)
    net = GlyphNet(config).to(place).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if not fast_bfloat16(place):
        use_winograd(net)
    optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=0.05)
    losses: list[tuple[int, float]] = []
    start = time.monotonic()
    dataset = CaptionedPictures(pack, options.seed)
    batches = _batches(dataset, options)
    step, share = 0, 0.0
    while share < 1:
        pictures, texts, subjects = next(batches)
        with autocast(place):
            images, words = net.images(pictures.to(place)), net.texts([*texts, *dataset.names])
        images, words, names = images.float(), *words.float().split([len(texts), len(dataset.names)])
        loss = contrastive_loss(images, words, net.log_scale) + subject_loss(images, names, subjects, net.log_scale)
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * share)) * min(1, (share + 1e-3) / WARMUP_SHARE)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        share = step / options.steps if options.steps else (time.monotonic() - start) / (60 * (options.minutes or 1))
        if step % 50 == 1 or share >= 1:
            losses.append((step, loss.item()))
            logger.info("step %d, %3.0f %%, loss %.4f", step, 100 * min(1, share), loss.item())
    return net.eval(), losses


@torch.inference_mode()
def accuracies(net: GlyphNet, pack: GlyphPack, num_pairs: int = 256) -> tuple[float, float]:
    """How often the nearest text is right, on new pictures.

    Returns:
        The own caption among those of `num_pairs` pictures, 0..1; and a subject's name among all, 0..1, of the
        pictures that show glyphs.
    """
    dataset = CaptionedPictures(pack, _EVALUATION_SEED)
    pictures, texts, subjects = _collate([dataset[index] for index in range(num_pairs)])
    images = normalize(net.images(pictures.to(net.log_scale.device)), dim=1)
    words, names = normalize(net.texts(texts), dim=1), normalize(net.texts(dataset.names), dim=1)
    own = (images @ words.T).argmax(1).cpu() == torch.arange(num_pairs)
    nearest = (images @ names.T).argmax(1).tolist()
    named = [number in shown for number, shown in zip(nearest, subjects, strict=True) if shown]
    return float(own.float().mean()), float(np.mean(named))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder for the weights and training.json")
    parser.add_argument("--minutes", type=float, help="time to train")
    parser.add_argument("--steps", type=int, help="number of steps, in place of --minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=TrainOptions.batch_size)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--pack", default="auto", help="auto, font, builtin, or a folder of cut-outs")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options = TrainOptions(
            args.steps, args.minutes, args.seed, args.batch_size, num_workers=args.workers, device=args.device
        )
        pack = load_pack(args.pack).prepare()
        out = make_folder(args.out)
    except UserError as error:
        parser.error(str(error))
    net, losses = train(pack, options)
    save_net(net, out / WEIGHTS.name)
    caption_share, name_share = accuracies(net, pack)
    log = {
        "pack": pack.name,
        "options": asdict(options),
        "caption_accuracy_of_256": caption_share,
        "name_accuracy": name_share,
        "losses": losses,
    }
    text = json.dumps(log, indent=2) + "\n"
    write_atomically(out / "training.json", lambda partial: partial.write_text(text, encoding="utf-8"))
    logger.info("right caption of 256: %.3f, right name: %.3f; wrote %s", caption_share, name_share, out / WEIGHTS.name)


if __name__ == "__main__":
    main()
