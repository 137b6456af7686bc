"""From an example source to batches: example `index` and all its randomness depend on (seed, stage, index) alone."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from ..conditioning import Prompt, image_to_tensor, make_prompt_batch
from ..data.example import Example, ExampleSource
from ..errors import UserError
from ..instruction import MAX_MARKERS, markers_in
from ..presets import AdaptedModel, ModelConfig, StageConfig
from ..tokenizer import PLAIN_TEXTS, TextFormat
from .augmentation import SmallPictures, draw_small_picture
from .objective import TrainingBatch


class BatchError(UserError):
    """A batch that cannot be split as asked."""


@dataclass(frozen=True)
class PreparedExample:
    """An example with its condition dropout, noise and noise levels drawn, for super-resolution its small picture.

    `subjects` is bool [S, S]; nowhere if the source does not know them.
    """

    prompt: Prompt
    target: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor
    task: str
    subjects: torch.Tensor
    small: SmallPictures | None = None


class StageDataset(Dataset[PreparedExample]):
    """Examples of one stage, prepared.

    Args:
        source: where examples come from.
        model: picture size.
        stage: dropout and number of noise levels.
        seed: of the run; mixed with the example's index.
    """

    def __init__(self, source: ExampleSource, model: ModelConfig | AdaptedModel, stage: StageConfig, seed: int):
        self.source = source
        self.model = model
        self.stage = stage
        self.seed = seed

    def __getitem__(self, index: int) -> PreparedExample:
        example = self.source[index]
        rng = np.random.default_rng([self.seed, index])
        return prepare(example, self.model, self.stage, rng)


def shifted(levels: np.ndarray, shift: float) -> np.ndarray:
    """Noise levels 0..1, moved towards 1 for `shift` > 1: the middle one becomes shift / (shift + 1).

    What a picture shows and where is decided at high noise, its last touches at low noise; Esser et al. 2024 (section
    5.3.2) map the schedule of one resolution to that of another in the same way. Departure: the paper names no shift.
    """
    return shift * levels / (1 + (shift - 1) * levels)


def prepare(
    example: Example, model: ModelConfig | AdaptedModel, stage: StageConfig, rng: np.random.Generator
) -> PreparedExample:
    """Draws condition dropout (A.2.2) and stratified noise levels: one in each K-th of 0..1, then `shifted`."""
    draw = rng.random()
    drop_both = draw < stage.drop_both
    drop_context = drop_both or draw < stage.drop_both + stage.drop_context
    shape = (stage.noise_levels, *model.sample_shape)
    levels = (np.arange(stage.noise_levels) + rng.random(stage.noise_levels)) / stage.noise_levels
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    small = None
    if model.low_res is not None:
        small = draw_small_picture(example.target, model.low_res, stage.noise_levels, rng)
    prompt = Prompt.of(example.instruction, drop_text=drop_both, drop_context=drop_context)
    if stage.any_markers:
        prompt = prompt.renumbered(draw_numbers(len(set(markers_in(example.instruction.text))), rng))
    return PreparedExample(
        prompt,
        image_to_tensor(example.target, model.size_px),
        noise,
        torch.from_numpy(shifted(levels, stage.level_shift).astype(np.float32)),
        example.task,
        subject_mask(example.subjects, model.size_px),
        small,
    )


def draw_numbers(num_markers: int, rng: np.random.Generator) -> dict[int, int]:
    """New numbers for the markers 1 .. `num_markers`: any, in any order, small ones more often.

    A task numbers its pictures always alike: in style transfer the style is first and the content second. A network
    that is trained on these alone reads the role off the number instead of the words, and takes the second picture of
    a new combination for content. Departure: the paper does not say how its markers are numbered.
    """
    highest = int(rng.integers(num_markers, MAX_MARKERS + 1))
    return {old: int(new) for old, new in enumerate(rng.permutation(highest)[:num_markers] + 1, start=1)}


def subject_mask(subjects: np.ndarray | None, size_px: int) -> torch.Tensor:
    """Where subjects are, bool [S, S] at the picture's size; nowhere if that is not known."""
    if subjects is None:
        return torch.zeros(size_px, size_px, dtype=torch.bool)
    mask = cv2.resize(subjects.astype(np.uint8), (size_px, size_px), interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(mask > 0)


class Collate:
    """Stacks prepared examples."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model: ModelConfig | AdaptedModel,
        text_format: TextFormat = PLAIN_TEXTS,
    ):
        self.tokenizer = tokenizer
        self.model = model
        self.text_format = text_format

    def __call__(self, examples: Sequence[PreparedExample]) -> TrainingBatch:
        prompts = make_prompt_batch([e.prompt for e in examples], self.tokenizer, self.model.size_px, self.text_format)
        small = [e.small for e in examples if e.small is not None]
        return TrainingBatch(
            prompts,
            torch.stack([e.target for e in examples]),
            torch.stack([e.noise for e in examples]),
            torch.stack([e.levels for e in examples]),
            tuple(e.task for e in examples),
            torch.stack([e.subjects for e in examples]),
            SmallPictures.stacked(small) if small else None,
        )


class PositionSampler(Sampler[list[int]]):
    """Index lists of this process from step `first` on: global batches of B examples in a row, split over processes.

    Args:
        first, last: steps, the last one not included.
        batch_size: B, over all processes.
        rank, world_size: of this process.
        micro_batch: examples in a list; a step has as many lists as its share of the batch needs (0: one).
        examples: index with which step `first` begins; first * B if None, as where B never changed.

    Raises:
        BatchError: the batch does not divide over the processes, or their share into micro-batches.
    """

    def __init__(
        self,
        first: int,
        last: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        micro_batch: int = 0,
        examples: int | None = None,
    ):
        if batch_size % world_size:
            raise BatchError(f"the batch of {batch_size} does not divide over {world_size} processes; change its size")
        self.share = batch_size // world_size
        self.size = micro_batch or self.share
        if self.share % self.size:
            raise BatchError(
                f"the {self.share} examples of a process do not divide into micro-batches of {micro_batch}; "
                "change execution.micro_batch"
            )
        self.first, self.last, self.batch_size = first, last, batch_size
        self.examples = first * batch_size if examples is None else examples
        self.rank = rank
        self.per_step = self.share // self.size

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            start = self.examples + (step - self.first) * self.batch_size + self.rank * self.share
            for begin in range(start, start + self.share, self.size):
                yield list(range(begin, begin + self.size))

    def __len__(self) -> int:
        return (self.last - self.first) * self.per_step


@contextmanager
def plain_data_errors() -> Iterator[None]:
    """An error about an example as its source said it: from a worker it comes with the worker's traceback before it.

    What the error's own traceback holds is let go, or the workers would live as long as somebody keeps the error.
    """
    try:
        yield
    except UserError as error:
        traceback.clear_frames(error.__traceback__)
        text = str(error).strip()
        if not text.startswith("Caught "):
            raise
        raise type(error)(text.splitlines()[-1].partition(": ")[2]) from None


def _start_worker(_: int) -> None:
    # Ctrl-C and kill reach the whole process group; only the training process acts on them, then ends its workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def make_loader(
    dataset: StageDataset, collate: Collate, sampler: PositionSampler, num_workers: int, pin_memory: bool
) -> DataLoader:
    """Batches rendered ahead by worker processes."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if num_workers else None,
        pin_memory=pin_memory,
    )
