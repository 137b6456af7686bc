"""How the recogniser is trained: scenes of all glyphs in every style, with light and heavy faults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

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
from .recogniser import MAP_PX, RECOGNISER_FILE, RecogniserNet
from .spoiling import ruin
from .train_extractor import faulty
from .training import Recipe

IGNORED = -100
_BATCH = 32
_PORTRAIT_SHARE = 0.05
_STYLED_SHARE = 0.5
_RUINED_SHARE = 0.12
_COUNT_SHARES = (0.5, 0.35, 0.15)
_COVERED = 0.4  # share of a cell that a glyph must cover to be what the cell shows


class LabelledScenes:
    """Draws scenes of everything there is, with their labels."""

    def __init__(self, pack: GlyphPack) -> None:
        self.pack = pack
        self.glyphs = {glyph: number for number, glyph in enumerate(pack.keys)}
        splits: tuple[Split, ...] = ("train", "held_out")
        samplers = [SceneSampler(pack, "held_out", STYLE_NAMES, glyphs=split) for split in splits]
        self.samplers = dict(zip(splits, samplers, strict=True))
        self.held_out_share = len(samplers[1].glyphs) / len(pack.keys)
        self.people = PortraitSampler("train")
        self.portraits = Portraits()

    def draw(self, rng: np.random.Generator) -> tuple[Scene, Render]:
        """A scene with its render."""
        style = STYLE_NAMES[int(rng.integers(len(STYLE_NAMES)))] if rng.random() < _STYLED_SHARE else None
        chosen = PLAIN_STYLE if style is None else sample_style(rng, style)
        if rng.random() < _PORTRAIT_SHARE:
            scene = self.people.scene(rng, style=chosen)
            return scene, render(scene, self.portraits, JUDGE_SIZE_PX)
        sampler = self.samplers["held_out" if rng.random() < self.held_out_share else "train"]
        count = 1 + int(rng.choice(len(_COUNT_SHARES), p=_COUNT_SHARES))
        scene = sampler.sample(rng, num_subjects=count, style=chosen)
        return scene, render(scene, self.pack, JUDGE_SIZE_PX)

    def labels(self, scene: Scene, picture: Render) -> list[np.ndarray]:
        """Map of glyphs, int64 [8, 8], and style, ground, two colours and count, int64 [5]."""
        numbers = [self.glyphs.get(glyph, len(self.glyphs)) for glyph in scene.glyphs]
        ground = scene.ground
        given = {key for key, _ in ground.params}
        names = list(COLOURS)
        plain = scene.style.name == PLAIN_STYLE.name
        colours = [
            names.index(ground.colour_name(key)) if plain and key in given else IGNORED for key in ("colour", "colour2")
        ]
        facts = [STYLE_NAMES.index(scene.style.name), GROUND_KINDS.index(ground.kind), *colours, len(scene.glyphs)]
        return [glyph_map(picture.subject_masks, numbers, len(self.glyphs) + 1), np.array(facts)]


def glyph_map(masks: np.ndarray, numbers: Sequence[int], nothing: int) -> np.ndarray:
    """What each cell of the map shows: a number, `nothing`, or `IGNORED` where it is neither.

    Args:
        masks: bool [K, 64, 64], visible parts.
        numbers: K labels.
        nothing: the label of empty cells.
    """
    side = masks.shape[1] // MAP_PX
    shares = masks.reshape(len(masks), MAP_PX, side, MAP_PX, side).mean((2, 4))
    result = np.full((MAP_PX, MAP_PX), IGNORED)
    result[shares.sum(0) < 0.05] = nothing
    for share, number in zip(shares, numbers, strict=True):
        if share.max() > 0.05:  # thin glyphs fill no cell: then the fullest one counts
            result[share >= min(_COVERED, share.max())] = number
    return result


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
        Pictures, float [B, 3, 64, 64] in -1..1; maps of glyphs, int64 [B, 8, 8]; facts, int64 [B, 5]; damage, float
        [B, 2]. Ruined pictures have no labels but their damage.
    """
    source = LabelledScenes(pack)
    while True:
        drawn = [source.draw(rng) for _ in range(_BATCH)]
        labels = [source.labels(*pair) for pair in drawn]
        true = [picture.image for _, picture in drawn]
        for mirrored in (False, True):
            seen, maps, facts = [], [], []
            for index, (glyph_labels, fact_labels) in enumerate(labels):
                ruined = rng.random() < _RUINED_SHARE
                seen.append(ruin(true[index], true[index - 1], rng) if ruined else faulty(true[index], rng))
                maps.append(np.full_like(glyph_labels, IGNORED) if ruined else glyph_labels)
                facts.append(np.full_like(fact_labels, IGNORED) if ruined else fact_labels)
            damage = np.stack([damage_of(*pair) for pair in zip(seen, true, strict=True)])
            pictures, places = as_input(seen), torch.from_numpy(np.stack(maps))
            if mirrored:
                pictures, places = pictures.flip(-1), places.flip(-1)
            yield pictures, places, torch.from_numpy(np.stack(facts)), torch.from_numpy(damage)


def _loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    pictures, maps, facts, damage = batch
    with autocast("cpu"):
        found = net(pictures)
    heads = (found.styles, found.grounds, found.colours[:, 0], found.colours[:, 1], found.counts)
    weights = (1.0, 1.0, 0.25, 0.25, 0.5)
    loss = 2 * _glyph_loss(found.glyphs.float(), maps) + 0.5 * mse_loss(found.damage.float(), damage)
    for weight, logits, wanted in zip(weights, heads, facts.unbind(1), strict=True):
        if (wanted != IGNORED).any():
            loss = loss + weight * cross_entropy(logits.float(), wanted, ignore_index=IGNORED)
    return loss


def _glyph_loss(logits: Tensor, maps: Tensor) -> Tensor:
    """Cross entropy of cells; those with a glyph count as much as all empty ones together."""
    losses = cross_entropy(logits, maps, ignore_index=IGNORED, reduction="none")
    nothing = logits.shape[1] - 1
    empty, full = maps == nothing, (maps != nothing) & (maps != IGNORED)
    return losses[full].mean() + losses[empty].mean()


RECIPE = Recipe(
    RECOGNISER_FILE,
    lambda pack: RecogniserNet(len(pack.keys)),
    draw_batches,
    _loss,
    98_304,
    batch_size=_BATCH,
    peak_rate=3e-3,
    seed=7_500_000,
    metadata=lambda pack: {"glyphs": json.dumps(list(pack.keys))},
)
