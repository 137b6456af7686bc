"""Teaches a new text encoder what the world's words look like, before a U-Net learns to read it.

    python -m instruct_imagen.training.text_pretraining --init instruct-imagen-nano --out FOLDER --minutes 20

The paper's text encoder, T5-XXL, comes with what it read on the web; a small one that starts empty has to learn every
name through the denoising loss, which shows it some twenty subjects a step at the price of the U-Net. Here it sees a
thousand, without any U-Net: its states, added over the tokens, have to tell the look of the subjects (a compressed
picture of each) and where they are, their mean the style, the ground and its colours. Only texts and subjects of the
training split occur. After it the encoder is frozen, as the paper's is.

Writes a copy of the model with a new text encoder, whose training begins again with pre-training, since the U-Net has
to learn to read the new states: `instruct-imagen train --init FOLDER` goes on from it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, pad
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from ..cascade import copy_base
from ..data.templates import fill, templates
from ..errors import UserError
from ..files import check_destination
from ..model import build_text_encoder
from ..model_folders import resolve_model
from ..precision import autocast
from ..text import load_tokenizer
from ..tokenizer import PLAIN_TEXTS
from ..unet import masked_mean
from ..world import COLOURS, GROUND_KINDS, STYLE_NAMES, GlyphPack, Scene, SceneSampler, Subject, caption, load_pack
from ..world.scenes import SIZE_RANGES
from .checkpoint import TRAINING_FILE, TrainingPosition, read_position, write_training_file

logger = logging.getLogger(__name__)

LOOK_DIM = 128
LOOK_PX = 12.0
NUM_LAYOUT = 4
PLACED_DIM = 32  # of the look, for what tells where each subject is
WRAPPED_SHARE = 0.3  # captions inside an instruction, as in pre-training
MAX_GRAD_NORM = 1.0
EMBEDDING_FACTOR = 10.0  # of the learning rate: T5's embeddings begin with variance 1, its other weights far below
_COLOUR_NAMES = tuple(COLOURS)
NUM_ATTRIBUTES = len(STYLE_NAMES) + len(GROUND_KINDS) + len(_COLOUR_NAMES)
_TWO_COLOURS = ("gradient", "stripes", "checks", "polka dots")


class TextPretrainingError(UserError):
    """Options that cannot be trained with."""


def looks(pack: GlyphPack, keys: Sequence[str], dim: int = LOOK_DIM) -> Tensor:
    """A code of each glyph's look, float32 [N, D], with mean 0 and variance 1.

    Its first principal components over the keys, with the root of their spread, so that fine differences count beside
    colour and outline; columns beyond the number of keys are zero.
    """
    pictures = np.stack([pack.mip(key, LOOK_PX) for key in keys]).reshape(len(keys), -1) / 255.0
    centred = torch.from_numpy(pictures - pictures.mean(0)).float()
    left, spread, _ = torch.linalg.svd(centred, full_matrices=False)
    codes = left[:, :dim] * spread[:dim].sqrt()
    return pad(codes / codes.std(), (0, dim - codes.shape[1]))


def attributes(scene: Scene) -> np.ndarray:
    """Style, kind of ground and its colours as float32 [A] of zeros and ones."""
    ground = scene.ground
    colours = {ground.colour_name("colour")} if ground.kind == "plain" else set()
    if ground.kind in _TWO_COLOURS:
        colours = {ground.colour_name("colour"), ground.colour_name("colour2")}
    present = [name == scene.style.name for name in STYLE_NAMES]
    present += [kind == ground.kind for kind in GROUND_KINDS]
    present += [colour in colours for colour in _COLOUR_NAMES]
    return np.array(present, dtype=np.float32)


def layout(subject: Subject, num_subjects: int) -> tuple[float, ...]:
    """Where a subject is: across, down, how near, how large; each about -1..1 and 0 in the middle."""
    near = 2 * subject.layer / (num_subjects - 1) - 1 if num_subjects > 1 else 0.0
    low, high = SIZE_RANGES[num_subjects - 1]
    return 2 * subject.x - 1, 2 * subject.y - 1, near, 2 * (subject.size - low) / (high - low) - 1


@dataclass(frozen=True)
class Captions:
    """B texts and what they speak of.

    Attributes:
        texts: captions.
        counts: float32 [B, N], 1 for the glyphs in the scene, of N.
        layouts: float32 [B, 4, N], `layout` of each glyph in the scene, 0 for the others.
        attributes: float32 [B, A], see `attributes`.
    """

    texts: list[str]
    counts: Tensor
    layouts: Tensor
    attributes: Tensor


class CaptionSource:
    """Captions of scenes of the training split, without their pictures.

    Args:
        pack: the glyphs.
        seed: of all captions.
    """

    def __init__(self, pack: GlyphPack, seed: int = 0):
        self.pack, self.seed = pack, seed
        self.sampler = SceneSampler(pack, "train")
        self.keys = self.sampler.glyphs
        self._numbers = {key: number for number, key in enumerate(self.keys)}
        self._wordings = templates("text", "train")

    def batch(self, step: int, size: int) -> Captions:
        """The captions of a step; they depend on (seed, step) alone."""
        rng = np.random.default_rng([self.seed, step])
        texts, present = [], []
        counts, layouts = torch.zeros(size, len(self.keys)), torch.zeros(size, NUM_LAYOUT, len(self.keys))
        for row in range(size):
            scene = self.sampler.sample(rng)
            text = caption(scene, self.pack, rng)
            if rng.random() < WRAPPED_SHARE:
                text = fill(self._wordings[int(rng.integers(len(self._wordings)))], caption=text)
            texts.append(text)
            present.append(attributes(scene))
            for subject in scene.subjects:
                number = self._numbers[subject.glyph]
                counts[row, number] = 1
                layouts[row, :, number] = torch.tensor(layout(subject, len(scene.subjects)))
        return Captions(texts, counts, layouts, torch.from_numpy(np.stack(present)))

    def names(self) -> tuple[list[str], Tensor]:
        """All names and synonyms, and the number of the glyph that each stands for, int64 [M]."""
        pairs = [
            (name, number)
            for number, key in enumerate(self.keys)
            for name in (self.pack[key].name, *self.pack[key].synonyms)
        ]
        return [name for name, _ in pairs], torch.tensor([number for _, number in pairs])


class TextReadout(nn.Module):
    """What is to be read from the encoder's states, by linear maps alone: the U-Net reads them the same way."""

    def __init__(self, dim: int, num_attributes: int):
        super().__init__()
        self.look = nn.Linear(dim, LOOK_DIM + NUM_LAYOUT * PLACED_DIM, bias=False)
        self.attributes = nn.Linear(dim, num_attributes)
        nn.init.zeros_(self.look.weight)
        nn.init.constant_(self.attributes.bias, -3.0)  # most are absent

    def forward(self, states_BLE: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Added over the tokens: looks [B, D], and looks by place [B, 4, P]; of their mean: logits [B, A]."""
        mean = masked_mean(states_BLE, mask_BL)
        look, placed = self.look(mean * mask_BL.sum(1, keepdim=True)).split([LOOK_DIM, NUM_LAYOUT * PLACED_DIM], 1)
        return look, placed.view(-1, NUM_LAYOUT, PLACED_DIM), self.attributes(mean)


def train_text_encoder(
    encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerBase,
    pack: GlyphPack,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    batch_size: int = 192,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> float:
    """Trains the encoder in place.

    Args:
        encoder: float32, on the CPU or a GPU.
        tokenizer: its tokenizer.
        pack: the glyphs.
        minutes, steps: how long, one of the two.
        batch_size: captions a step; beside them each step sees every name and synonym.
        learning_rate: the highest; it rises for a twentieth of the run and falls to zero along a cosine.
        seed: of captions and of the read-out's weights.

    Returns:
        Share of all names and synonyms whose look is nearest to the look of their own glyph, 0..1.

    Raises:
        TextPretrainingError: not exactly one of `minutes` and `steps`, or one that is not positive.
    """
    if (minutes is None) == (steps is None) or (minutes or steps or 0) <= 0 or batch_size < 1:
        raise TextPretrainingError("give either minutes or steps, above 0, and a batch of 1 or more")
    torch.manual_seed(seed)
    source = CaptionSource(pack, seed)
    codes = looks(pack, source.keys).to(encoder.device)
    readout = TextReadout(encoder.config.d_model, NUM_ATTRIBUTES).to(encoder.device)
    words = encoder.requires_grad_(True).get_input_embeddings().weight
    others = [p for p in (*encoder.parameters(), *readout.parameters()) if p is not words]
    groups = [{"params": others, "factor": 1.0}, {"params": [words], "factor": EMBEDDING_FACTOR}]
    optimizer = torch.optim.AdamW(groups, learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    names, numbers = source.names()
    for step, share in _shares(minutes, steps):
        rate = learning_rate * min(1.0, (share + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        batch = source.batch(step, batch_size)
        found, placed, logits = _read(encoder, readout, tokenizer, batch.texts)
        named, *_ = _read(encoder, readout, tokenizer, names)
        losses = (
            mse_loss(found, batch.counts.to(codes.device) @ codes),
            mse_loss(placed, batch.layouts.to(codes.device) @ codes[:, :PLACED_DIM]),
            mse_loss(named, codes[numbers]),
            binary_cross_entropy_with_logits(logits, batch.attributes.to(codes.device)),
        )
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_([words, *others], MAX_GRAD_NORM)
        optimizer.step()
        if step % 50 == 0:
            right = _nearest_is_right(named, codes, numbers)
            values = " ".join(f"{loss.item():.3f}" for loss in losses)
            logger.info("step %d, %3.0f %%, losses %s, right names %.3f", step, 100 * share, values, right)
    with torch.no_grad():
        named, *_ = _read(encoder, readout, tokenizer, names)
    return _nearest_is_right(named, codes, numbers)


def _shares(minutes: float | None, steps: int | None) -> Iterator[tuple[int, float]]:
    """Steps with the share of the run that is done, below 1."""
    started, step, share = time.monotonic(), 0, 0.0
    while share < 1:
        yield step, share
        step += 1
        share = step / steps if steps else (time.monotonic() - started) / (60 * (minutes or 1))


def _read(
    encoder: T5EncoderModel, readout: TextReadout, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    ids, words = (part.to(encoder.device) for part in PLAIN_TEXTS.encode(tokenizer, texts))
    with autocast(encoder.device):
        states = encoder(input_ids=ids, attention_mask=words.long()).last_hidden_state
    look, placed, logits = readout(states.float(), words)
    return look, placed, logits


def _nearest_is_right(found: Tensor, codes: Tensor, numbers: Tensor) -> float:
    nearest = torch.cdist(found.detach(), codes).argmin(1).cpu()
    return float((nearest == numbers).float().mean())


def replace_text_encoder(model: Path, encoder: T5EncoderModel, out: Path) -> None:
    """Copies a model's base with another text encoder into a new folder; training begins with pre-training again."""
    position, preset = read_position(model, TRAINING_FILE)
    copy_base(model, out)
    for name in ("scores.json", "README.md", "validation.jsonl", TRAINING_FILE):  # maybe links to the model's own
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "text_encoder")
    encoder.to(torch.bfloat16).save_pretrained(str(out / "text_encoder"))
    begun = TrainingPosition(0, 0, position.seed, 0, position.total_steps, position.seconds)
    write_training_file(out, begun, preset)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init", required=True, metavar="MODEL", help="base model that gets the new text encoder")
    parser.add_argument("--out", type=Path, required=True, help="folder for it")
    parser.add_argument("--minutes", type=float, help="time to train")
    parser.add_argument("--steps", type=int, help="number of steps, in place of --minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pack", default="auto", help="auto, font, builtin, or a folder of cut-outs")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        model = resolve_model(args.init)
        _, preset = read_position(model, TRAINING_FILE)
        check_destination(args.out)
        pack = load_pack(args.pack).prepare()
        tokenizer = load_tokenizer(model / "tokenizer")
        torch.manual_seed(args.seed)
        encoder = build_text_encoder(preset.built.text, len(tokenizer))
        right = train_text_encoder(encoder, tokenizer, pack, minutes=args.minutes, steps=args.steps, seed=args.seed)
        replace_text_encoder(model, encoder, args.out)
    except UserError as error:
        parser.error(str(error))
    print(json.dumps({"right_names": right, "pack": pack.name, "out": str(args.out)}))


if __name__ == "__main__":
    main()
