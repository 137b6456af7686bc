"""Scenes, rendering and grounds of the glyph world."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_imagen.world import (
    GROUND_KINDS,
    HELD_OUT_STYLES,
    RELATIONS,
    STYLE_NAMES,
    GlyphPack,
    Ground,
    SceneSampler,
    Style,
    WorldError,
    glyph_split,
    glyphs_of,
    grounds,
    paint_ground,
    relation_holds,
    render,
    sample_ground,
    sample_style,
)
from instruct_imagen.world.scenery import Painter

PACK = GlyphPack.builtin()
SAMPLER = SceneSampler(PACK)
PLAIN = Style("plain", sample_style(np.random.default_rng(0), "plain").params)
seeds = st.integers(0, 2**32 - 1)


def sample(seed, **given_parts):
    return SAMPLER.sample(np.random.default_rng(seed), **given_parts)


def digest(seed: int) -> str:
    rng = np.random.default_rng(seed)
    result = hashlib.sha256()
    for _ in range(12):
        scene = SAMPLER.sample(rng)
        picture = render(scene, PACK, 64)
        result.update(repr(scene).encode())
        result.update(picture.image.tobytes() + picture.depth.tobytes() + picture.subject_masks.tobytes())
    return result.hexdigest()


def test_same_seed_gives_same_bytes_in_a_fresh_process():
    code = "import sys; sys.path.insert(0, 'tests'); import test_world_scenes as t; print(t.digest(7))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert digest(7) == digest(7) == fresh.stdout.strip() != digest(8)


def test_train_sampler_never_emits_what_is_held_out():
    rng = np.random.default_rng(1)
    for _ in range(4000):
        scene = SAMPLER.sample(rng)
        again = SAMPLER.repose(scene, rng)
        for one in (scene, again):
            assert one.style.name not in HELD_OUT_STYLES
            assert all(glyph_split(key) == "train" for key in one.glyphs)
        assert again.glyphs == scene.glyphs and again.style == scene.style


def test_train_sampler_refuses_what_is_held_out():
    held = glyphs_of(PACK.keys, "held_out")[0]
    train = SAMPLER.glyphs[0]
    style = sample_style(np.random.default_rng(0), sorted(HELD_OUT_STYLES)[0])
    with pytest.raises(WorldError, match="held out"):
        sample(0, glyphs=[train, held])
    with pytest.raises(WorldError, match="held out"):
        sample(0, style=style)
    with pytest.raises(WorldError, match="held out"):
        SceneSampler(PACK, "train", styles=(style.name,))
    held_sampler = SceneSampler(PACK, "held_out")
    foreign = held_sampler.sample(np.random.default_rng(0), style=style)
    assert set(foreign.glyphs) <= set(glyphs_of(PACK.keys, "held_out"))
    with pytest.raises(WorldError, match="held out"):
        SAMPLER.repose(foreign, np.random.default_rng(0))
    assert held_sampler.sample(np.random.default_rng(0), glyphs=[train]).glyphs == (train,)


def test_sampler_shares_and_choices():
    rng = np.random.default_rng(2)
    scenes = [SAMPLER.sample(rng) for _ in range(3000)]
    counts = np.bincount([len(scene.subjects) for scene in scenes], minlength=4) / len(scenes)
    assert np.abs(counts[1:] - (0.65, 0.25, 0.1)).max() < 0.03
    assert abs(np.mean([scene.style.name == "plain" for scene in scenes]) - 0.6) < 0.03
    assert {scene.ground.kind for scene in scenes} == set(GROUND_KINDS)
    assert {scene.relation for scene in scenes} == {None, *RELATIONS}
    only = SceneSampler(PACK, styles=("oil", "plain"))
    assert {only.sample(rng).style.name for _ in range(60)} == {"plain", "oil"}


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(1, 3))
def test_poses_are_in_range_and_on_the_canvas(seed, num_subjects):
    scene = sample(seed, num_subjects=num_subjects)
    high = {1: 0.75, 2: 0.5, 3: 0.36}[num_subjects]
    low = {1: 0.4, 2: 0.32, 3: 0.25}[num_subjects]
    for subject in scene.subjects:
        assert 0.9 * low <= subject.size <= high
        assert abs(subject.turn_deg) <= 20
        half = 0.5 * subject.size
        assert min(subject.x, subject.y) - half >= -0.06 and max(subject.x, subject.y) + half <= 1.06
    assert sorted(subject.layer for subject in scene.subjects) == list(range(num_subjects))


@settings(max_examples=150, deadline=None)
@given(seeds, st.sampled_from(RELATIONS), st.integers(2, 3))
def test_relations_are_true(seed, relation, num_subjects):
    scene = sample(seed, relation=relation, num_subjects=num_subjects)
    first, second = scene.subjects[:2]
    assert scene.relation == relation and relation_holds(first, second, relation)
    opposite = {"left of": "right of", "above": "below", "in front of": "behind", "next to": "next to"}
    opposite |= {b: a for a, b in opposite.items()}
    assert relation_holds(second, first, opposite[relation])
    if relation in ("left of", "right of"):
        assert (first.x < second.x) == (relation == "left of")
    if relation in ("above", "below"):
        assert (first.y < second.y) == (relation == "above")


def test_subjects_stay_visible():
    rng = np.random.default_rng(3)
    for i in range(150):
        scene = SAMPLER.sample(rng, num_subjects=2 + i % 2, style=PLAIN)
        masks = render(scene, PACK).subject_masks
        limit = 0.35 if scene.relation in ("in front of", "behind") else 0.65
        for subject, mask in zip(scene.subjects, masks, strict=True):
            alone = render(replace(scene, subjects=(subject,), relation=None), PACK).mask
            assert mask.sum() >= limit * alone.sum()


def test_front_covers_back():
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(40):
        scene = SAMPLER.sample(rng, relation="in front of", num_subjects=2, style=PLAIN)
        full = render(scene, PACK)
        alone = render(replace(scene, subjects=scene.subjects[:1]), PACK).mask
        assert np.array_equal(full.subject_masks[0], alone), "the one in front is whole"
        behind = render(replace(scene, subjects=scene.subjects[1:]), PACK).mask
        covered.append((behind & alone).any())
    assert np.mean(covered) > 0.6


def test_masks_agree_with_what_is_drawn():
    rng = np.random.default_rng(5)
    wall = Ground("plain", (("colour", 14.0), ("shade", 0.0)))
    for i in range(30):
        scene = SAMPLER.sample(rng, num_subjects=1 + i % 3, ground=wall, style=PLAIN)
        drawn = render(scene, PACK)
        empty, far = paint_ground(wall, 64)
        changed = np.abs(drawn.plain.astype(int) - empty).max(axis=-1) > 0
        solid = drawn.mask & ~changed
        assert solid.sum() <= 0.02 * drawn.mask.sum() + 2, "every subject pixel shows, but for colours like the wall's"
        outside = changed & ~drawn.mask
        assert outside.sum() < 0.5 * drawn.mask.sum(), "outside only the antialiased rim"
        assert np.array_equal(drawn.subject_masks.any(axis=0), drawn.mask)
        assert (drawn.subject_masks.sum(axis=0) <= 1).all()
        assert np.array_equal(drawn.depth[~drawn.mask], far[~drawn.mask])
        assert drawn.depth[drawn.mask].max() < far.min()


def test_depth_orders_layers_and_bulges():
    scene = sample(11, relation="in front of", num_subjects=2, style=PLAIN)
    drawn = render(scene, PACK)
    front, back = drawn.subject_masks
    assert drawn.depth[front].max() < drawn.depth[back].mean()
    assert drawn.depth.dtype == np.float32 and 0 <= drawn.depth.min() <= drawn.depth.max() <= 1
    assert np.ptp(drawn.depth[front]) > 0.05


def test_render_scales_with_size():
    scene = sample(12, num_subjects=1, style=PLAIN)
    small, large = render(scene, PACK, 64), render(scene, PACK, 128)
    assert large.image.shape == (128, 128, 3) and small.subject_masks.shape == (1, 64, 64)
    assert abs(large.mask.mean() - small.mask.mean()) < 0.02
    shrunk = large.plain.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small.plain).mean() < 8


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_every_style_renders_every_scene(name):
    scene = sample(13, style=PLAIN)
    styled = replace(scene, style=sample_style(np.random.default_rng(1), name))
    drawn = render(styled, PACK)
    assert drawn.image.shape == (64, 64, 3) and drawn.image.dtype == np.uint8
    assert np.array_equal(drawn.plain, render(scene, PACK).plain)


@pytest.mark.parametrize("kind", GROUND_KINDS)
def test_grounds_leave_no_pixel_unpainted(kind, monkeypatch):
    """What a painter leaves out would show whatever lay in memory before."""

    class Primed(Painter):
        primer = 0

        def __init__(self, size_px, seed):
            super().__init__(size_px, seed)
            self.image[:] = self.primer

    monkeypatch.setattr(grounds, "Painter", Primed)
    rng = np.random.default_rng(5)
    for size_px in (33, 64, 128):
        for _ in range(20):
            ground = sample_ground(rng, kind)
            pictures = []
            for Primed.primer in (0, 255):
                pictures.append(paint_ground(ground, size_px)[0])
            assert np.array_equal(*pictures), ground


@pytest.mark.parametrize("kind", GROUND_KINDS)
def test_grounds_paint_fully_and_differ(kind):
    rng = np.random.default_rng(6)
    pictures = []
    for _ in range(4):
        ground = sample_ground(rng, kind)
        image, depth = paint_ground(ground, 48)
        assert image.shape == (48, 48, 3) and image.dtype == np.uint8
        assert depth.shape == (48, 48) and depth.dtype == np.float32 and 0.5 <= depth.min() <= depth.max() == 1
        assert np.array_equal(image, paint_ground(ground, 48)[0])
        pictures.append(image.tobytes())
    assert len(set(pictures)) > 1


def test_errors_name_the_mistake():
    for bad, message in (
        ({"num_subjects": 4}, "1 to 3"),
        ({"glyphs": ["dodo"]}, "no glyph 'dodo'"),
        ({"glyphs": [SAMPLER.glyphs[0]], "num_subjects": 2}, "2 subjects"),
        ({"glyphs": [SAMPLER.glyphs[0]], "relation": "above"}, "at least two"),
        ({"relation": "inside"}, "Unknown relation"),
    ):
        with pytest.raises(WorldError, match=message):
            sample(0, **bad)
    with pytest.raises(WorldError, match="Unknown split"):
        SceneSampler(PACK, "test")
    with pytest.raises(WorldError, match="Unknown style"):
        SceneSampler(PACK, styles=("fresco",))
    with pytest.raises(WorldError, match="Unknown ground"):
        sample_ground(np.random.default_rng(0), "moon base")
    with pytest.raises(WorldError, match="Unknown ground"):
        paint_ground(Ground("moon base"), 64)
    with pytest.raises(WorldError, match="at least 8"):
        paint_ground(Ground("plain"), 4)
    with pytest.raises(WorldError, match="Unknown relation"):
        relation_holds(*sample(0, num_subjects=2).subjects, "inside")
