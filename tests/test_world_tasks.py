"""Examples of the subject task: whichever subject is shown, and however the other one is called, words tell which."""

from __future__ import annotations

import numpy as np
import pytest

from instruct_imagen.data.templates import TRAINING_TASKS
from instruct_imagen.data.world_tasks import WorldTasks
from instruct_imagen.world import GENERIC_WORDS, GlyphPack

ORDINALS = ("first", "second")


def subject_examples(pack: GlyphPack, num_subjects: int, **options: float):
    tasks = WorldTasks(pack, "train", 32, **options)
    built = (tasks.build("subject", np.random.default_rng(seed), str(seed)) for seed in range(120))
    return [world for world in built if len(world.scene.glyphs) == num_subjects]


def test_either_of_two_subjects_is_shown_and_never_both(builtin_pack: GlyphPack):
    two = subject_examples(builtin_pack, 2)
    places = [world.scene.glyphs.index(world.glyphs[0]) for world in two]
    assert len(two) > 20
    assert set(places) == {0, 1}
    assert all(len(world.glyphs) == 1 for world in two)
    assert all(reference.marker == 1 for world in two for reference in world.example.instruction.references)


def test_two_subjects_without_names_are_told_apart_by_their_order(builtin_pack: GlyphPack):
    for world in subject_examples(builtin_pack, 2, generic_share=1.0):
        place = world.scene.glyphs.index(world.glyphs[0])
        called = [f"{ORDINALS[place]} {word}" for word in GENERIC_WORDS]
        other = [f"{ORDINALS[1 - place]} {word}" for word in GENERIC_WORDS]
        text = world.example.instruction.text.lower()
        assert any(words in text for words in called), text
        assert any(words in text for words in other), text
        for reference in world.example.instruction.references:
            assert any(words in reference.text for words in called), reference.text


@pytest.mark.parametrize("generic_share", [0.0, 0.5])
def test_a_subject_alone_or_with_a_named_one_has_no_number(builtin_pack: GlyphPack, generic_share: float):
    alone = subject_examples(builtin_pack, 1, generic_share=generic_share)
    named = subject_examples(builtin_pack, 2, generic_share=0.0)
    for world in [*alone, *named]:
        words = [reference.text for reference in world.example.instruction.references]
        assert not any(ordinal in text.split() for text in words for ordinal in ORDINALS), words


@pytest.mark.parametrize("task", TRAINING_TASKS)
def test_no_training_task_shows_two_subjects_by_references(builtin_pack: GlyphPack, task: str):
    tasks = WorldTasks(builtin_pack, "train", 32)
    for seed in range(30):
        assert len(set(tasks.build(task, np.random.default_rng(seed), "k").glyphs)) <= 1
