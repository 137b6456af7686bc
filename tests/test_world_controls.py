"""Controls and captions of the glyph world."""

import re
from dataclasses import replace

import numpy as np
import pytest

from instruct_imagen.world import (
    GENERIC_WORDS,
    GRANULARITIES,
    GROUND_KINDS,
    STYLE_NAMES,
    GlyphPack,
    SceneSampler,
    WorldError,
    canny_edges,
    caption,
    depth_map,
    edge_map,
    ground_phrase,
    mask_map,
    render,
    sample_ground,
    sample_style,
    sketch,
    style_phrases,
    subject_phrase,
    with_article,
)

PACK = GlyphPack.builtin()
SAMPLER = SceneSampler(PACK)
PLAIN = sample_style(np.random.default_rng(0), "plain")


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [render(SAMPLER.sample(rng, num_subjects=1 + i % 3), PACK) for i in range(12)]


def white(picture):
    return picture[..., 0] > 127


def test_controls_are_grey_pictures_of_the_right_shape(drawn):
    for one in drawn:
        pictures = [depth_map(one), mask_map(one), sketch(one, np.random.default_rng(0))]
        pictures += [edge_map(one, granularity) for granularity in GRANULARITIES]
        for picture in pictures:
            assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        for picture in pictures[:2] + pictures[3:]:
            assert (picture == picture[..., :1]).all()


def test_mask_and_depth_maps_are_exact(drawn):
    for one in drawn:
        assert np.array_equal(white(mask_map(one)), one.mask)
        assert np.abs(depth_map(one)[..., 0] / 255 - (1 - one.depth)).max() < 0.003


def test_edge_granularities_nest(drawn):
    for one in drawn:
        outline, inner = white(edge_map(one, "outline")), white(edge_map(one, "object"))
        assert not (outline & ~one.mask).any() and not (inner & ~one.mask).any()
        assert not (outline & ~inner).any() and inner.sum() >= outline.sum() > 0
        assert np.array_equal(white(edge_map(one, "full")), canny_edges(one.plain))


def test_edges_thicken_and_break(drawn):
    for one in drawn:
        thin = white(edge_map(one, "object"))
        thick = white(edge_map(one, "object", thickness_px=3))
        assert thick.sum() > 1.5 * thin.sum() and not (thin & ~thick).any()
        broken = white(edge_map(one, "object", rng=np.random.default_rng(0)))
        assert not (broken & ~thin).any() and 0.8 * thin.sum() <= broken.sum() < thin.sum()


def test_sketch_follows_the_subject_loosely_and_varies(drawn):
    for one in drawn:
        first, second = (sketch(one, np.random.default_rng(seed)) for seed in (1, 2))
        assert np.array_equal(first, sketch(one, np.random.default_rng(1))) and not np.array_equal(first, second)
        dark = first.max(axis=-1) < 150
        assert dark.any() and dark.mean() < 0.5
        rows, columns = np.nonzero(one.mask)
        near = np.zeros_like(dark)
        near[max(0, rows.min() - 4) : rows.max() + 5, max(0, columns.min() - 4) : columns.max() + 5] = True
        assert (dark & ~near).mean() < 0.01


def test_control_errors(drawn):
    with pytest.raises(WorldError, match="granularity"):
        edge_map(drawn[0], "fine")
    with pytest.raises(WorldError, match="thick"):
        edge_map(drawn[0], thickness_px=0)


def test_captions_name_every_subject():
    rng = np.random.default_rng(1)
    num_names = num_subjects = 0
    for _ in range(400):
        scene = SAMPLER.sample(rng)
        text = caption(scene, PACK, rng)
        assert text == text.lower().strip() and not text.endswith(".") and "{" not in text and "  " not in text
        for key in scene.glyphs:
            glyph = PACK[key]
            assert any(word in text for word in (glyph.name, *glyph.synonyms)), text
            num_names += glyph.name in text
            num_subjects += 1
    assert num_names / num_subjects > 0.7


def test_captions_name_style_and_ground_when_asked():
    rng = np.random.default_rng(2)
    for name in STYLE_NAMES[1:]:
        scene = replace(SAMPLER.sample(rng, style=PLAIN), style=sample_style(rng, name))
        phrases = [phrase.lower() for phrase in style_phrases(scene.style)]
        text = caption(scene, PACK, rng)
        assert any(phrase in text for phrase in phrases)
        words = ["object"] * len(scene.subjects)
        bare = caption(scene, PACK, rng, subject_words=words, with_style=False, with_ground=False)
        assert not any(phrase in bare for phrase in phrases)
    plain = SAMPLER.sample(rng, num_subjects=1, style=PLAIN, ground=sample_ground(rng, "beach"))
    assert all(re.search("beach|sand", caption(plain, PACK, rng)) for _ in range(20))
    without = {caption(plain, PACK, rng, with_ground=False) for _ in range(20)}
    assert not any(re.search("beach|sand", text) for text in without)


def test_articles_agree():
    for words, expected in {
        "apple": "an apple", "fox": "a fox", "unicorn": "a unicorn", "hourglass": "an hourglass", "ewe": "a ewe",
        "umbrella": "an umbrella", "x-ray": "an x-ray",
        "one-piece swimsuit": "a one-piece swimsuit", "octopus": "an octopus",
        "grapes": "grapes", "glasses": "glasses",
        "bus": "a bus", "glass of milk": "a glass of milk",
        "popcorn": "popcorn",
        "the fox": "the fox", "[ref#1] fox": "[ref#1] fox", "nest with eggs": "a nest with eggs",
    }.items():  # fmt: skip
        assert with_article(words) == expected
    rng = np.random.default_rng(3)
    texts = [caption(SAMPLER.sample(rng), PACK, rng) for _ in range(500)]
    texts += [ground_phrase(sample_ground(rng, kind), rng) for kind in GROUND_KINDS for _ in range(20)]
    for text in texts:
        assert not re.search(r"\ba [aeio]", text), text
        assert not re.search(r"\ban [^aeiou8xhl]", text), text


def test_subject_words_replace_names():
    rng = np.random.default_rng(4)
    scene = SAMPLER.sample(rng, num_subjects=2)
    text = caption(scene, PACK, rng, subject_words=["[ref#1] fox", GENERIC_WORDS[0]])
    assert "[ref#1] fox" in text and "a [ref" not in text and "an object" in text
    assert not any(PACK[key].name in text for key in scene.glyphs)
    with pytest.raises(WorldError, match="1 subject words"):
        caption(scene, PACK, rng, subject_words=["object"])


def test_synonyms_are_a_quarter():
    rng = np.random.default_rng(5)
    glyph = next(glyph for glyph in PACK if glyph.synonyms)
    share = np.mean([subject_phrase(glyph, rng) != glyph.name for _ in range(2000)])
    assert 0.2 < share < 0.3


def test_places_and_sizes_in_captions_are_true():
    rng = np.random.default_rng(6)
    seen = set()
    for _ in range(1500):
        scene = SAMPLER.sample(rng, num_subjects=1, style=PLAIN)
        subject = scene.subjects[0]
        text = caption(scene, PACK, rng, subject_words=["gadget"], with_ground=False)
        for word, true in {
            "upper": subject.y < 0.5, "lower": subject.y > 0.5, "left": subject.x < 0.5, "right": subject.x > 0.5,
            "small": subject.size < 0.5, "large": subject.size > 0.6,
        }.items():  # fmt: skip
            if word in text:
                assert true, text
                seen.add(word)
    assert seen == {"upper", "lower", "left", "right", "small", "large"}
