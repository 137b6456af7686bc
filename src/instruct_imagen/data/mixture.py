"""Which examples a stage draws: from the rendered world or from files, mixed by fixed ratios, every one at its index.

Example `index` depends on the seed and `index` alone, so the number of processes and workers does not matter, and a
position in the data is one integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..retrieval.records import ClusterSource
from ..world import GlyphPack
from .example import Example, ExampleSource
from .recipe import WORLD, DataRecipe
from .report import DataError
from .shards import EpochSource, open_examples
from .templates import FINE_TUNING_TASKS, TRAINING_TASKS
from .world_tasks import WorldExample, WorldTasks, render_size

BLOCK = 1000  # examples within which the ratios hold exactly, to a thousandth
_STAGE_SALT: Mapping[str, int] = {"pretrain": 1, "stage1": 2, "stage2": 3, "super_resolution": 4}
WORLD_TASKS = (*TRAINING_TASKS, *FINE_TUNING_TASKS)


class WorldSource:
    """Examples without end that are rendered when they are asked for.

    Args:
        draw: builds one example from a generator and a key.
        name: begins the keys.
        seed: words of the generators' seed, the example's index follows.
    """

    def __init__(self, draw: Callable[[np.random.Generator, str], WorldExample], name: str, seed: Sequence[int]):
        self.draw, self.name, self.seed = draw, name, tuple(seed)

    def __getitem__(self, index: int) -> Example:
        """The example at `index` >= 0."""
        return self.draw(np.random.default_rng([*self.seed, index]), f"world-{self.name}-{index:09d}").example


class Mixture:
    """Several sources, drawn by ratios: in each block of 1,000 as many from each as its ratio says, in random order.

    A source is read in its own order, so none of its examples is drawn twice before all have been drawn once.

    Args:
        sources: endless sources.
        ratios: their shares.
        seed: of the order within blocks.
    """

    def __init__(self, sources: Sequence[ExampleSource], ratios: Sequence[float], seed: int):
        self.sources, self.seed = tuple(sources), seed
        self.counts = _shares(np.array(ratios, float), BLOCK)
        self._block = lru_cache(maxsize=2)(self._draw_block)

    def __getstate__(self) -> dict[str, object]:
        """Leaves out the cache, which does not travel to worker processes."""
        return {k: v for k, v in self.__dict__.items() if k != "_block"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Begins with an empty cache."""
        self.__dict__.update(state)
        self._block = lru_cache(maxsize=2)(self._draw_block)

    def _draw_block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """For each place of a block, its source and its rank among the places of that source."""
        chosen = np.repeat(np.arange(len(self.counts)), self.counts)
        np.random.default_rng([self.seed, block]).shuffle(chosen)
        ranks = np.zeros(BLOCK, int)
        for source, count in enumerate(self.counts):
            ranks[chosen == source] = np.arange(count)
        return chosen, ranks

    def __getitem__(self, index: int) -> Example:
        """The example at `index` >= 0."""
        block, place = divmod(index, BLOCK)
        chosen, ranks = self._block(block)
        source = int(chosen[place])
        return self.sources[source][block * int(self.counts[source]) + int(ranks[place])]


def _shares(ratios: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that sum to `total`, as near to the ratios as can be (largest remainders), none of them zero."""
    exact = ratios / ratios.sum() * total
    counts = np.maximum(1, np.floor(exact).astype(int))
    order = np.argsort(-(exact - counts), kind="stable")
    while counts.sum() < total:
        counts[order[: total - counts.sum()]] += 1
    while counts.sum() > total:
        counts[np.argmax(counts)] -= 1
    return counts


def stage_source(recipe: DataRecipe, stage: str, pack: GlyphPack, size_px: int, seed: int) -> ExampleSource:
    """The examples of one stage.

    Args:
        recipe: where they come from.
        stage: "pretrain", "stage1", "stage2" or "super_resolution".
        pack: the glyphs of the world; only its training split is drawn.
        size_px: side of the model's pictures; the examples' keep their own until they are batched.
        seed: of the run.

    Raises:
        DataError: a source is missing or damaged, or the world has no task of a name in the mixture.
    """
    tasks = WorldTasks(pack.prepare(), "train", render_size(size_px), num_templates=recipe.num_templates)
    words = (seed, _STAGE_SALT[stage])
    if stage == "pretrain":
        return _open(recipe.pretrain, WorldSource(tasks.caption_only, stage, words), seed)
    if stage == "stage1":
        if recipe.stage1 != WORLD:
            return ClusterSource(Path(recipe.stage1), seed)
        return WorldSource(tasks.cluster, stage, words)
    entries = recipe.super_resolution if stage == "super_resolution" else recipe.stage2
    sources = []
    for entry in entries:
        if entry.source == WORLD and entry.name not in WORLD_TASKS:
            raise DataError(f"The world has no task {entry.name!r}; it has {', '.join(WORLD_TASKS)}.")
        number = WORLD_TASKS.index(entry.name) if entry.name in WORLD_TASKS else len(WORLD_TASKS)
        rendered = WorldSource(partial(tasks.build, entry.name), entry.name, (*words, number))
        sources.append(_open(entry.source, rendered, seed))
    return Mixture(sources, [entry.ratio for entry in entries], seed)


def _open(source: str, rendered: WorldSource, seed: int) -> ExampleSource:
    return rendered if source == WORLD else EpochSource(open_examples(Path(source)), seed)
