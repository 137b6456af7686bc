"""Styles: exact, sized, named, told apart by a linear classifier, and gentle on the subject."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from instruct_imagen.evaluation.judges.style import style_features as features
from instruct_imagen.world.style_textures import Canvas
from instruct_imagen.world.styles import (
    STYLE_NAMES,
    STYLES,
    Style,
    StyleError,
    apply_style,
    sample_style,
    style_phrases,
)

Scene = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient, a checked floor or a horizon with hills, uint8 [S, S, 3]."""
    y, x = np.mgrid[0:size, 0:size] / size
    first, second = rng.uniform(40, 250, (2, 3))
    kind = rng.integers(3)
    if kind == 0:
        amount = 0.5 + 0.5 * np.sin(rng.uniform(1, 3) * x + rng.uniform(1, 3) * y + rng.uniform(0, 6))
    elif kind == 1:
        amount = 0.6 * ((np.floor(x * 5) + np.floor(y * 5)) % 2)
    else:
        amount = (y > 0.6 + 0.08 * np.sin(rng.uniform(4, 12) * x)) * 1.0
    return (first + (second - first) * amount[..., None]).astype(np.uint8)


def make_scene(seed: int, size: int = 64) -> Scene:
    """One or two creatures of ellipses and polygons on a ground: image, mask, depth."""
    rng = np.random.default_rng(seed)
    image = make_ground(rng, size)
    mask = np.zeros((size, size), np.uint8)
    depth = np.repeat(np.linspace(0, 0.4, size, dtype=np.float32)[:, None], size, 1)
    for layer in range(rng.integers(1, 3)):
        centre = rng.uniform(0.3, 0.7, 2) * size
        radius = rng.uniform(0.14, 0.26) * size
        shape = np.zeros_like(mask)
        for _ in range(rng.integers(2, 5)):
            colour = tuple(int(c) for c in rng.integers(0, 256, 3))
            place = centre + rng.normal(0, 0.5, 2) * radius
            if rng.random() < 0.5:
                axes = tuple(int(a) for a in rng.uniform(0.35, 1.0, 2) * radius + 1)
                part = (tuple(int(p) for p in place), axes, float(rng.uniform(0, 180)), 0, 360)
                cv2.ellipse(image, *part, colour, -1)
                cv2.ellipse(shape, *part, 1, -1)
            else:
                corners = (place + rng.normal(0, 0.8, (4, 2)) * radius).astype(np.int32)
                cv2.fillPoly(image, [corners], colour)
                cv2.fillPoly(shape, [corners], 1)
        depth[shape > 0] = 0.6 + 0.15 * layer
        mask |= shape
    return image, mask.astype(bool), depth


def render(name: str, scene: Scene, seed: int) -> np.ndarray:
    """One picture in a style with parameters and texture drawn from the seed."""
    return apply_style(sample_style(np.random.default_rng(seed), name), *scene, seed=seed)


def feature_table(seeds: range) -> np.ndarray:
    """Features [styles, seeds, F]; every style sees other scenes."""
    return np.stack(
        [
            [features(render(name, make_scene(1000 * k + seed), seed)) for seed in seeds]
            for k, name in enumerate(STYLE_NAMES)
        ]
    )


def fit_and_score(train: np.ndarray, test: np.ndarray, ridge: float = 30.0) -> np.ndarray:
    """Ridge regression on one-hot labels; returns predicted labels [styles, seeds] of `test`."""
    x = train.reshape(-1, train.shape[-1])
    mean, std = x.mean(0), x.std(0) + 1e-6
    design = np.c_[(x - mean) / std, np.ones(len(x))]
    target = np.repeat(np.eye(len(train)), train.shape[1], axis=0)
    weights = np.linalg.solve(design.T @ design + ridge * np.eye(design.shape[1]), design.T @ target)
    y = (test.reshape(-1, test.shape[-1]) - mean) / std
    return (np.c_[y, np.ones(len(y))] @ weights).argmax(1).reshape(test.shape[:2])


def test_names_and_phrases():
    assert STYLE_NAMES[0] == "plain" and len(STYLE_NAMES) >= 25
    every = [phrase for name in STYLE_NAMES for phrase in style_phrases(name)]
    assert all(len(style_phrases(name)) >= 3 for name in STYLE_NAMES)
    assert len({phrase.lower() for phrase in every}) == len(every)
    assert not any(phrase.split()[0].lower() in ("a", "an", "the") for phrase in every)
    assert style_phrases(sample_style(np.random.default_rng(0), "oil")) == style_phrases("oil")


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_parameters_stay_in_their_ranges(name):
    spec = STYLES[name]
    draws = [sample_style(np.random.default_rng(seed), name) for seed in range(20)]
    assert len(set(draws)) == (20 if spec.params else 1)
    for style in draws:
        assert tuple(key for key, _ in style.params) == tuple(p.name for p in spec.params)
        assert all(p.low <= value <= p.high for p, (_, value) in zip(spec.params, style.params, strict=True))


@pytest.mark.parametrize("size", (32, 64, 96, 128))
@pytest.mark.parametrize("name", STYLE_NAMES)
def test_render_is_exact_and_leaves_its_input_alone(name, size):
    image, mask, depth = make_scene(3, size)
    before = image.copy(), mask.copy(), depth.copy()
    first = render(name, (image, mask, depth), 5)
    assert first.dtype == np.uint8 and first.shape == (size, size, 3) and first.flags.c_contiguous
    assert not np.shares_memory(first, image)
    assert np.array_equal(first, render(name, (image, mask, depth), 5))
    assert all(np.array_equal(a, b) for a, b in zip(before, (image, mask, depth), strict=True))


def test_plain_is_identity():
    scene = make_scene(8)
    assert np.array_equal(apply_style(Style("plain"), *scene, seed=1), scene[0])


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_extreme_pictures_render(name):
    """Every corner of the parameter box, on empty and full masks."""
    spec = STYLES[name]
    for filled in (False, True):
        image = np.full((64, 64, 3), 255 * filled, np.uint8)
        mask, depth = np.full((64, 64), filled), np.zeros((64, 64), np.float32)
        for end in ("low", "high"):
            style = Style(name, tuple((p.name, getattr(p, end)) for p in spec.params))
            canvas = Canvas(image, mask, depth, np.random.default_rng(0))
            assert np.isfinite(spec.render(canvas, **dict(style.params))).all()
            assert apply_style(style, image, mask, depth, seed=0).shape == image.shape


def test_errors_say_what_to_mend():
    scene = make_scene(1)
    with pytest.raises(StyleError, match="watercolour"):
        sample_style(np.random.default_rng(0), "watercolor")
    with pytest.raises(StyleError, match="pixel art"):
        style_phrases("pixel_art")
    with pytest.raises(StyleError, match="parameters"):
        apply_style(Style("oil"), *scene, seed=0)
    with pytest.raises(StyleError, match="image"):
        apply_style(Style("plain"), scene[0][:20, :20], scene[1], scene[2], seed=0)
    with pytest.raises(StyleError, match="mask"):
        apply_style(Style("plain"), scene[0], scene[1][:32], scene[2], seed=0)


def test_styles_are_separable():
    """34 styles, chance 3%: a linear classifier must name at least 95% of new pictures."""
    predicted = fit_and_score(feature_table(range(30)), feature_table(range(500, 520)))
    hits = predicted == np.arange(len(STYLE_NAMES))[:, None]
    weak = {STYLE_NAMES[k]: round(float(rate), 2) for k, rate in enumerate(hits.mean(1)) if rate < 0.7}
    assert hits.mean() >= 0.95, f"accuracy {hits.mean():.3f}"
    assert not weak, weak


def test_style_outweighs_its_parameters():
    """On one scene, redrawing the parameters moves a picture less than changing the style does."""
    for scene_seed in (11, 12):
        scene = make_scene(scene_seed)
        table = np.stack([[features(render(name, scene, seed)) for seed in range(6)] for name in STYLE_NAMES])
        table = (table - table.mean((0, 1))) / (table.std((0, 1)) + 1e-6)
        centre = table.mean(1)
        within = np.linalg.norm(table - centre[:, None], axis=-1).mean(1)
        between = np.linalg.norm(centre[:, None] - centre[None], axis=-1) + 1e9 * np.eye(len(centre))
        close = [STYLE_NAMES[k] for k in np.flatnonzero(within >= between.min(1))]
        assert not close, close


@pytest.mark.parametrize("name", STYLE_NAMES[1:])
def test_subject_leaves_its_shape(name):
    """With and without the subject, a picture differs more inside the mask than outside."""
    ratios = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        ground = make_ground(rng, 64)
        image, mask = ground.copy(), np.zeros((64, 64), np.uint8)
        body = (tuple(int(c) for c in rng.integers(24, 40, 2)), (15, 10), float(rng.uniform(0, 180)), 0, 360)
        contrast = tuple(int(c) for c in (ground.mean((0, 1)) + 128) % 256)
        cv2.ellipse(image, *body, contrast, -1)
        cv2.ellipse(mask, *body, 1, -1)
        style = sample_style(np.random.default_rng(seed), name)
        with_it = apply_style(style, image, mask > 0, mask.astype(np.float32), seed=seed)
        without = apply_style(style, ground, mask > 1, np.zeros((64, 64), np.float32), seed=seed)
        change = np.abs(with_it.astype(np.float32) - without).mean(2)
        ratios.append((change[mask > 0].mean(), change[mask == 0].mean()))
    inside, outside = np.mean(ratios, axis=0)
    assert inside > 15 and inside > 3 * outside, (inside, outside)


def test_rendering_is_fast_enough():
    """Loose bound for busy machines; the budget is 1 ms a picture at 64 pixels."""
    scene = make_scene(2)
    styles = [sample_style(np.random.default_rng(seed), name) for name in STYLE_NAMES for seed in range(5)]
    for style in styles:
        apply_style(style, *scene, seed=0)
    start = time.process_time()
    for style in styles:
        apply_style(style, *scene, seed=1)
    assert (time.process_time() - start) / len(styles) < 4e-3
