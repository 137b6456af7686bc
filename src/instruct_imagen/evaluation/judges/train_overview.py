"""How the overview judge is trained: scenes of everything there is, in every style, with light and heavy faults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from ...data.world_draft import PLAIN_STYLE
from ...precision import autocast
from ...world import (
    COLOURS,
    GROUND_KINDS,
    STYLE_NAMES,
    GlyphPack,
    Portraits,
    PortraitSampler,
    Render,
    Scene,
    SceneSampler,
    Split,
    render,
    sample_style,
)
from ..pictures import JUDGE_SIZE_PX
from .nets import as_input
from .overview import COLOUR_PARAMS, OVERVIEW_FILE, OverviewNet
from .spoiling import RUINS, reduced, ruin, spoil
from .train_extractor import REDUCED_PX
from .training import Recipe

IGNORED = -100
FAULTS = ("none", "light", *RUINS)
_BATCH = 16
_PORTRAIT_SHARE = 0.1
_STYLED_SHARE = 0.5
_RUINED_SHARE = 0.25


class AllScenes:
    """Draws scenes of both splits, portraits among them."""

    def __init__(self, pack: GlyphPack) -> None:
        self.pack = pack
        splits: tuple[Split, ...] = ("train", "held_out")
        self.samplers = [SceneSampler(pack, "held_out", STYLE_NAMES, glyphs=split) for split in splits]
        self.held_out_share = len(self.samplers[1].glyphs) / len(pack.keys)
        self.people = PortraitSampler("train")
        self.portraits = Portraits()

    def draw(self, rng: np.random.Generator) -> tuple[Scene, Render]:
        """A scene with its render."""
        styled = rng.random() < _STYLED_SHARE
        style = sample_style(rng, STYLE_NAMES[int(rng.integers(len(STYLE_NAMES)))]) if styled else PLAIN_STYLE
        if rng.random() < _PORTRAIT_SHARE:
            scene = self.people.scene(rng, style=style)
            return scene, render(scene, self.portraits, JUDGE_SIZE_PX)
        scene = self.samplers[int(rng.random() < self.held_out_share)].sample(rng, style=style)
        return scene, render(scene, self.pack, JUDGE_SIZE_PX)


def labels_of(scene: Scene) -> np.ndarray:
    """Style, kind of ground, and its two colours where a plain picture has them: int64 [4]."""
    ground, plain, names = scene.ground, scene.style.name == PLAIN_STYLE.name, list(COLOURS)
    given = {key for key, _ in ground.params}
    colours = [names.index(ground.colour_name(key)) if plain and key in given else IGNORED for key in COLOUR_PARAMS]
    return np.array([STYLE_NAMES.index(scene.style.name), GROUND_KINDS.index(ground.kind), *colours])


def damage_of(picture: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How far a picture is from the true one: in pixels (log of the root mean square), and in sharpness (log ratio).

    Args:
        picture: uint8 [S, S, 3].
        true: uint8 [S, S, 3].

    Returns:
        float32 [2], of order one.
    """
    one, two = (values.astype(np.float32) for values in (picture, true))
    difference = np.log1p(np.sqrt(np.square(one - two).mean()) / 4)
    steps = [np.abs(np.diff(v, axis=0)).mean() + np.abs(np.diff(v, axis=1)).mean() + 1 for v in (one, two)]
    return np.array([difference, np.log(steps[0] / steps[1])], np.float32)


def draw_batches(pack: GlyphPack, rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; each set of scenes makes two, one of them mirrored, with other faults.

    Yields:
        Pictures, float [B, 3, 64, 64] in -1..1; labels, int64 [B, 4]; fault, int64 [B]; damage, float [B, 2]. Ruined
        pictures have no labels but fault and damage.
    """
    source = AllScenes(pack)
    while True:
        drawn = [source.draw(rng) for _ in range(_BATCH)]
        labels = [labels_of(scene) for scene, _ in drawn]
        true = [picture.image for _, picture in drawn]
        masks = [picture.mask for _, picture in drawn]
        for mirrored in (False, True):
            seen, wanted, faults, damage = [], [], [], []
            for index, known in enumerate(labels):
                start = reduced(true[index], REDUCED_PX) if rng.random() < 0.5 else true[index]
                if rng.random() < _RUINED_SHARE:
                    picture, fault = ruin(start, true[index - 1], masks[index], rng)
                    known = np.full_like(known, IGNORED)
                else:
                    picture = spoil(start, rng)
                    fault = "none" if picture is start else "light"
                seen.append(picture)
                wanted.append(known)
                faults.append(FAULTS.index(fault))
                damage.append(damage_of(picture, start))
            pictures = as_input(seen)
            yield (
                pictures.flip(-1) if mirrored else pictures,
                torch.from_numpy(np.stack(wanted)),
                torch.tensor(faults),
                torch.from_numpy(np.stack(damage)),
            )


def _loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    pictures, labels, faults, damage = batch
    with autocast("cpu"):
        found = net(pictures)
    loss = cross_entropy(found.faults.float(), faults) + 2 * mse_loss(found.damage.float(), damage)
    heads = (found.styles, found.grounds, found.colours[:, 0], found.colours[:, 1])
    for weight, logits, wanted in zip((1.0, 1.0, 0.5, 0.5), heads, labels.unbind(1), strict=True):
        if (wanted != IGNORED).any():
            loss = loss + weight * cross_entropy(logits.float(), wanted, ignore_index=IGNORED)
    return loss


RECIPE = Recipe(
    OVERVIEW_FILE,
    OverviewNet,
    draw_batches,
    _loss,
    98_304,
    batch_size=_BATCH,
    peak_rate=2e-3,
    seed=7_500_000,
)
