"""Which examples a stage draws: the world as a random-access source, with the ratios of Table 1 in stage 2."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..presets import StageName
from ..world import GlyphPack
from .example import Example
from .world_tasks import WorldTasks

# Table 1: of eleven datasets.
TABLE_1_RATIOS: Mapping[str, float] = {
    "text": 0.15,
    "art": 0.05,
    "depth": 0.06,
    "mask": 0.06,
    "edge": 0.06,
    "sketch": 0.02,
    "subject": 0.30,
    "face": 0.05,
    "face_hq": 0.05,
    "style": 0.10,
    "style_transfer": 0.10,
}

_STAGE_SALT: Mapping[StageName, int] = {"pretrain": 1, "stage1": 2, "stage2": 3}


class WorldSource:
    """Examples of one stage; example `index` depends on (seed, stage, index) alone.

    Args:
        pack: the glyphs; only the training split is drawn.
        stage: "pretrain" (captions), "stage1" (clusters) or "stage2" (instructions).
        size_px: side of all pictures.
        seed: of the run.
    """

    def __init__(self, pack: GlyphPack, stage: StageName, size_px: int, seed: int):
        self.tasks = WorldTasks(pack.prepare(), "train", size_px)
        self.stage: StageName = stage
        self.seed = seed
        self._names = tuple(TABLE_1_RATIOS)
        ratios = np.array(list(TABLE_1_RATIOS.values()))
        self._bounds = np.cumsum(ratios / ratios.sum())

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, _STAGE_SALT[self.stage], index])
        key = f"world-{self.stage}-{index:09d}"
        if self.stage == "pretrain":
            return self.tasks.caption_only(rng, key).example
        if self.stage == "stage1":
            return self.tasks.cluster(rng, key).example
        task = self._names[min(int(np.searchsorted(self._bounds, rng.random(), "right")), len(self._names) - 1)]
        return self.tasks.build(task, rng, key).example
