"""Portraits: what identity keeps, what may change, what is held out, and what a render knows of them."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.world import (
    Portrait,
    Portraits,
    PortraitSampler,
    WorldError,
    depth_map,
    describe,
    edge_map,
    glyph_split,
    identity_of,
    mask_map,
    parse_portrait,
    portrait_caption,
    render,
)
from instruct_imagen.world.faces import EXPRESSIONS, GAZES, HATS

PACK = Portraits()


def picture(portrait: Portrait) -> np.ndarray:
    return PACK.mip(portrait.key, 96).astype(int)


def test_a_key_is_read_back():
    portrait = Portrait(0x2F1, "smiling", "left", "cap", "red", "dark blue")
    assert portrait.key == "face-2f1/smiling/left/cap/red/dark blue"
    assert parse_portrait(portrait.key) == portrait
    for wrong in ("1F600", "face-2f1", "face-2f1/smiling/left/cap/red/plaid", "face-xyz/smiling/left/cap/red/blue"):
        with pytest.raises(WorldError):
            parse_portrait(wrong)


def test_every_variant_of_a_portrait_looks_different_and_keeps_the_chin_and_ears():
    base = Portrait(7)
    for field, options in (("expression", EXPRESSIONS), ("gaze", GAZES), ("hat", HATS)):
        pictures = [picture(replace(base, **{field: option})) for option in options]
        for i, first in enumerate(pictures):
            for second in pictures[:i]:
                assert np.abs(first - second).max() > 60, (field, i)
        rows = slice(72, 76) if field != "hat" else slice(60, 76)  # below the mouth; below the hat
        assert all(np.abs(p[rows] - pictures[0][rows]).max() < 8 for p in pictures)


def test_two_identities_differ_more_than_two_moods_of_one():
    rng = np.random.default_rng(0)
    sampler = PortraitSampler("train")
    same, other = [], []
    for _ in range(40):
        first, second = sampler.portrait(rng), sampler.portrait(rng)
        plain = replace(first, hat="none", clothes="blue", gaze="ahead", expression="neutral")
        same.append(np.abs(picture(plain) - picture(replace(plain, expression="smiling"))).mean())
        other.append(np.abs(picture(plain) - picture(replace(plain, identity=second.identity))).mean())
    assert np.quantile(other, 0.1) > 3 * np.median(same)


def test_identities_are_many_and_a_fifth_is_held_out():
    identities = {identity_of(number) for number in range(3000)}
    assert len(identities) == 3000
    held_out = [glyph_split(Portrait(number).key) == "held_out" for number in range(3000)]
    assert np.mean(held_out) == pytest.approx(0.2, abs=0.03)
    keys = [Portrait(5, expression, gaze, hat).key for expression in EXPRESSIONS for gaze in GAZES for hat in HATS]
    assert len({glyph_split(key) for key in keys}) == 1, "mood and outfit do not move an identity"


def test_a_training_sampler_shows_no_held_out_identity():
    rng = np.random.default_rng(1)
    sampler = PortraitSampler("train")
    scenes = [sampler.scene(rng, close=bool(i % 2)) for i in range(300)]
    assert all(glyph_split(scene.glyphs[0]) == "train" for scene in scenes)
    stranger = next(number for number in range(100) if glyph_split(Portrait(number).key) == "held_out")
    with pytest.raises(WorldError, match="held out"):
        sampler.scene(rng, identity=stranger)
    assert PortraitSampler("held_out").scene(rng, identity=stranger).glyphs[0].startswith(f"face-{stranger:x}/")
    with pytest.raises(WorldError, match="held-out style"):
        PortraitSampler("train", ["neon"])


def test_a_portrait_is_rendered_with_its_mask_depth_and_edges():
    scene = PortraitSampler("train").scene(np.random.default_rng(2), close=True)
    result = render(scene, PACK, 64)
    again = render(pickle.loads(pickle.dumps(scene)), PACK, 64)
    assert np.array_equal(result.image, again.image)
    assert 0.3 < result.mask.mean() < 0.85
    assert result.mask[63, 20:44].all() and not result.mask[0, 0]
    assert result.depth[result.mask].max() < result.depth[~result.mask].min()
    for control in (depth_map(result), mask_map(result), edge_map(result)):
        assert control.shape == (64, 64, 3) and control.any()


def test_captions_tell_the_identity_or_only_what_may_change():
    rng = np.random.default_rng(3)
    portrait = Portrait(11, "laughing", "left", "cap", "orange")
    identity = identity_of(11)
    told = {describe(portrait, rng) for _ in range(20)}
    assert all(identity.kind in text and "an orange cap" in text and "looking left" in text for text in told)
    generic = {describe(portrait, rng, named=False) for _ in range(20)}
    assert not any(word in text for text in generic for word in ("hair", "glasses", identity.kind))
    assert all("an orange cap" in text for text in generic)
    assert describe(Portrait(11), rng, named=False, word="man") in {"a man", "a calm man", "a serious man"}
    scene = PortraitSampler("train").scene(rng)
    assert portrait_caption(scene, rng, word="child", with_ground=False).count("child") == 1


@pytest.mark.parametrize("task", ["face", "face_hq"])
def test_face_examples_show_one_person_in_other_pictures(builtin_pack, task: str):
    tasks = WorldTasks(builtin_pack, "train", 32)
    for index in range(20):
        example = tasks.build(task, np.random.default_rng(index), str(index))
        references = example.example.instruction.references
        assert 1 <= len(references) <= (1 if task == "face_hq" else 3)
        assert {reference.marker for reference in references} == {1}
        assert all(np.asarray(r.image).tobytes() != np.asarray(example.example.target).tobytes() for r in references)
        assert "hair" not in example.example.instruction.text


def test_pre_training_and_clusters_show_portraits_too(builtin_pack):
    tasks = WorldTasks(builtin_pack, "train", 32)
    for build in (tasks.caption_only, tasks.cluster):
        scenes = [build(np.random.default_rng(i), "").scene for i in range(150)]
        share = np.mean([scene.glyphs[0].startswith("face-") for scene in scenes])
        assert share == pytest.approx(0.1, abs=0.07)
