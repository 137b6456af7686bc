"""Masked edits: what is outside the mask stays, what is inside changes as the words say, nothing held out comes in."""

from __future__ import annotations

import numpy as np
import pytest

from instruct_imagen.data.world_edit import EDITS, draw_edit
from instruct_imagen.data.world_tasks import PLAIN_STYLE, WorldTasks
from instruct_imagen.world import SceneSampler, glyph_split


@pytest.fixture(scope="module")
def edits(builtin_pack):
    sampler = SceneSampler(builtin_pack, "train")
    return [draw_edit(sampler, builtin_pack, 64, PLAIN_STYLE, np.random.default_rng(i)) for i in range(120)]


def test_pixels_outside_the_mask_are_equal_and_some_inside_are_not(edits):
    for edit in edits:
        changed = (edit.source.image != edit.target.image).any(axis=2)
        assert not (changed & ~edit.mask).any()
        assert changed.mean() >= 0.01 and edit.mask.mean() <= 0.98
        assert changed[edit.mask].mean() > 0.2, "the mask is near the change"


def test_every_kind_of_edit_does_what_it_says(edits, builtin_pack):
    assert {edit.kind for edit in edits} == set(EDITS)
    for edit in edits:
        before, after = list(edit.before.glyphs), list(edit.after.glyphs)
        names = {key: (builtin_pack[key].name, *builtin_pack[key].synonyms) for key in {*before, *after}}
        gone = [key for key in before if key not in after]
        new = [key for key in after if key not in before]
        expected = {"replace": (1, 1), "remove": (1, 0), "add": (0, 1), "ground": (0, 0)}[edit.kind]
        assert (len(gone), len(new)) == expected
        for key in (*gone, *new):
            assert any(name in edit.words for name in names[key]), edit.words
        assert (edit.before.ground.kind != edit.after.ground.kind) == (edit.kind == "ground")
        assert all(glyph_split(key) == "train" for key in (*before, *after))


def test_examples_hold_source_mask_and_words(builtin_pack):
    tasks = WorldTasks(builtin_pack, "train", 64)
    for index in range(12):
        example = tasks.build("edit", np.random.default_rng(index), str(index)).example
        source, mask = example.instruction.references
        assert (source.marker, mask.marker) == (1, 2)
        white = np.asarray(mask.image)[..., 0] > 0
        assert set(np.unique(np.asarray(mask.image))) <= {0, 255}
        assert np.array_equal(np.asarray(source.image)[~white], np.asarray(example.target)[~white])
        again = tasks.build("edit", np.random.default_rng(index), str(index)).example
        assert again.instruction.text == example.instruction.text
        assert again.target.tobytes() == example.target.tobytes()
