"""Trains the glyph world's embedder on captioned pictures of the training split.

    python -m instruct_imagen.retrieval.train_glyph_embedder --out FOLDER --minutes 35 --seed 0

Four losses are added: CLIP's; that each subject, pooled over its mask, finds its name among all names; the same where
the network looks by itself, in pictures of one subject; and that it looks where the masks are. With CLIP's alone the
network learnt grounds and styles, by which most captions of a batch are told apart, and no subjects. Writes
`glyph_embedder.safetensors` and `training.json` (losses; how often the right caption of 256, and the right name of all,
is the nearest).
With --steps in place of --minutes one seed gives the same weights on one machine with one version of torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..files import make_folder, write_json
from ..precision import autocast, fast_bfloat16
from ..training.winograd import use_winograd
from ..world import (
    GlyphPack,
    Portraits,
    PortraitSampler,
    Render,
    SceneSampler,
    caption,
    load_pack,
    portrait_caption,
    render,
)
from .embedders import pick_device
from .glyph_embedder import SIZE_PX, WEIGHTS, GlyphNet, GlyphNetConfig, as_input, load_net, save_net

logger = logging.getLogger(__name__)

PORTRAIT_SHARE = 0.1
MAX_SCALE = 100.0  # of the logits, as in CLIP
NAME_SCALE = 20.0  # of the logits of names
_LEAST_COVER = 0.5  # places of the map, below which a subject is not to be told
_KEEP_SECONDS = 300
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
    learning_rate: float = 2e-3
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
        masks: how much of each place its subjects cover, float32 [K, S, S] in 0..1.
        subjects: numbers of their K names; none in a portrait.
    """

    image: np.ndarray
    caption: str
    masks: np.ndarray
    subjects: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Pairs stacked.

    Attributes:
        pictures: float [B, 3, 64, 64] in -1..1.
        captions: B texts.
        covered: how much of each place any subject covers, float [B, S, S] in 0..1.
        owners: numbers of the pictures that the M named subjects are in, int64 [M].
        masks: what each covers, float [M, S * S].
        subjects: numbers of their names, int64 [M].
    """

    pictures: Tensor
    captions: list[str]
    covered: Tensor
    owners: Tensor
    masks: Tensor
    subjects: Tensor

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Batch:
        """Stacks pairs; subjects that cover next to nothing are left out."""
        named = [
            (owner, torch.from_numpy(mask).flatten(), subject)
            for owner, pair in enumerate(pairs)
            for mask, subject in zip(pair.masks, pair.subjects, strict=bool(pair.subjects))
            if mask.sum() >= _LEAST_COVER
        ]
        side = pairs[0].masks.shape[-1]
        return cls(
            as_input([pair.image for pair in pairs]),
            [pair.caption for pair in pairs],
            torch.stack([torch.from_numpy(pair.masks.sum(0)) for pair in pairs]),
            torch.tensor([owner for owner, *_ in named], dtype=torch.int64),
            torch.stack([torch.zeros(side * side), *(mask for _, mask, _ in named)])[1:],
            torch.tensor([subject for *_, subject in named], dtype=torch.int64),
        )


class CaptionedPictures(Dataset[Pair]):
    """Pictures of the training split with a caption; pair `index` depends on (seed, index) alone.

    Args:
        pack: the glyphs.
        seed: of all pictures.
        map_px: side of the masks.

    Attributes:
        names: of each glyph of the split. Bare, since with a phrase around them all texts begin much alike.
    """

    def __init__(self, pack: GlyphPack, seed: int, map_px: int = 8) -> None:
        self.pack, self.seed, self.map_px = pack, seed, map_px
        self.scenes = SceneSampler(pack, "train")
        self.people, self.portraits = Portraits(), PortraitSampler("train", self.scenes.styles)
        self.names = tuple(pack[key].name for key in self.scenes.glyphs)
        self._numbers = {key: number for number, key in enumerate(self.scenes.glyphs)}

    def __getitem__(self, index: int) -> Pair:
        """The pair at `index` >= 0."""
        rng = np.random.default_rng([self.seed, index])
        if rng.random() < PORTRAIT_SHARE:
            scene = self.portraits.scene(rng, close=rng.random() < 0.3, style_share=0.3)
            drawn = render(scene, self.people, SIZE_PX)
            return Pair(drawn.image, portrait_caption(scene, rng), self._masks(drawn))
        scene = self.scenes.sample(rng)
        drawn = render(scene, self.pack, SIZE_PX)
        subjects = tuple(self._numbers[key] for key in scene.glyphs)
        return Pair(drawn.image, caption(scene, self.pack, rng), self._masks(drawn), subjects)

    def _masks(self, drawn: Render) -> np.ndarray:
        size = (self.map_px, self.map_px)
        masks = drawn.subject_masks.astype(np.float32)
        return np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_AREA) for mask in masks])


def contrastive_loss(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    """CLIP's loss: each picture finds its text in the batch, and each text its picture.

    Args:
        images: float [B, D] of unit length.
        texts: float [B, D] of unit length.
        log_scale: logarithm of the logits' scale.
    """
    logits = log_scale.exp().clamp(max=MAX_SCALE) * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (cross_entropy(logits, own) + cross_entropy(logits.T, own))


def name_loss(found: Tensor, names: Tensor, subjects: Tensor) -> Tensor:
    """Each subject finds its name among all.

    Args:
        found: of the pictures, float [M, D] of any length.
        names: float [G, D] of any length.
        subjects: numbers of the right names, int64 [M].
    """
    logits = NAME_SCALE * normalize(found, dim=1) @ normalize(names, dim=1).T
    return cross_entropy(logits, subjects, reduction="sum") / max(1, len(subjects))


def losses_of(net: GlyphNet, batch: Batch, names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CLIP's loss, that of the names by the masks and by the network's own look, and that of where it looks."""
    place = net.log_scale.device
    with autocast(place):
        values = net.image_body(batch.pictures.to(place))
        images, gaze = net.look(values)
        found = net.subjects(values[batch.owners.to(place)], batch.masks.to(place))
        words = net.texts([*batch.captions, *names])
    captions, named = words.split([len(batch.captions), len(names)])
    named, subjects, own = named[:, : net.config.subject_dim], batch.subjects.to(place), batch.owners.to(place)
    single = torch.bincount(own, minlength=len(images))[own] == 1
    return (
        contrastive_loss(images, captions, net.log_scale),
        name_loss(found.float(), named, subjects),
        name_loss(images[own[single], : net.config.subject_dim], named, subjects[single]),
        binary_cross_entropy_with_logits(gaze.float(), batch.covered.to(place).clamp(0, 1)),
    )


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _batches(dataset: CaptionedPictures, options: TrainOptions) -> Iterator[Batch]:
    def positions() -> Iterator[list[int]]:
        for start in range(0, _EVALUATION_SEED, options.batch_size):
            yield list(range(start, start + options.batch_size))

    loader = DataLoader(
        dataset,
        batch_sampler=positions(),  # endless, so without a length
        collate_fn=Batch.of,
        num_workers=options.num_workers,
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def train(
    pack: GlyphPack,
    options: TrainOptions,
    config: GlyphNetConfig | None = None,
    init: GlyphNet | None = None,
    keep: Callable[[GlyphNet], None] | None = None,
) -> tuple[GlyphNet, list[tuple[float, ...]]]:
    """Trains a network.

    Args:
        pack: the glyphs.
        options: how.
        config: of a new network.
        init: goes on from this network instead.
        keep: is given the network every five minutes, against a loss of all.

    Returns:
        It, in evaluation mode; and now and then the step and the four losses.
    """
    torch.manual_seed(options.seed)
    place = pick_device(options.device)
    net = (init or GlyphNet(config)).to(place).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if not fast_bfloat16(place):
        use_winograd(net)
    optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=0.05)
    log: list[tuple[float, ...]] = []
    start = kept = time.monotonic()
    dataset = CaptionedPictures(pack, options.seed, map_side(net.config))
    batches = _batches(dataset, options)
    step, share = 0, 0.0
    while share < 1:
        losses = losses_of(net, next(batches), dataset.names)
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * share)) * min(1, (share + 1e-3) / WARMUP_SHARE)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        step += 1
        share = step / options.steps if options.steps else (time.monotonic() - start) / (60 * (options.minutes or 1))
        if keep and time.monotonic() - kept >= _KEEP_SECONDS:
            keep(net)
            kept = time.monotonic()
        if step % 50 == 1 or share >= 1:
            log.append((step, *(round(loss.item(), 4) for loss in losses)))
            logger.info("step %d, %3.0f %%, losses %.3f %.3f %.3f %.3f", step, 100 * min(1, share), *log[-1][1:])
    return net.eval(), log


def map_side(config: GlyphNetConfig) -> int:
    """Pixels a side of the map that a network makes of a picture."""
    return SIZE_PX // 2 ** len(config.widths)


@torch.inference_mode()
def accuracies(net: GlyphNet, pack: GlyphPack, num_pairs: int = 256) -> tuple[float, float]:
    """How often the nearest text is right, on new pictures.

    Returns:
        The own caption among those of `num_pairs` pictures, 0..1; and a subject's name among all, 0..1, of the
        pictures that show glyphs.
    """
    dataset = CaptionedPictures(pack, _EVALUATION_SEED)
    pairs = [dataset[index] for index in range(num_pairs)]
    images = net.images(as_input([pair.image for pair in pairs]).to(net.log_scale.device))
    words, names = net.texts([pair.caption for pair in pairs]), net.texts(dataset.names)
    own = (images @ words.T).argmax(1).cpu() == torch.arange(num_pairs)
    nearest = (images @ names.T).argmax(1).tolist()
    named = [number in pair.subjects for number, pair in zip(nearest, pairs, strict=True) if pair.subjects]
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
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="weights to go on from; give another seed than theirs"
    )
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
        init = load_net(args.init) if args.init else None
    except UserError as error:
        parser.error(str(error))
    save = partial(save_net, path=out / WEIGHTS.name)
    net, losses = train(pack, options, init=init, keep=save)
    save(net)
    caption_share, name_share = accuracies(net, pack)
    log = {
        "pack": pack.name,
        "options": asdict(options),
        "caption_accuracy_of_256": caption_share,
        "name_accuracy": name_share,
        "losses": losses,
        "before": _log_of(args.init) if args.init else None,
    }
    write_json(out / "training.json", log)
    logger.info("right caption of 256: %.3f, right name: %.3f; wrote %s", caption_share, name_share, out / WEIGHTS.name)


def _log_of(weights: Path) -> Any:
    """What is known of the training of some weights."""
    path = weights.with_name("training.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else weights.name


if __name__ == "__main__":
    main()
