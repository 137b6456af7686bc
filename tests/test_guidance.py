"""Guidance: the branches a step needs, and their combination."""

from __future__ import annotations

import pytest
import torch

from instruct_imagen.guidance import ConstantGuidance, OscillatingGuidance, Scales, combine

FULL, TEXT, NULL = torch.tensor([5.0]), torch.tensor([3.0]), torch.tensor([1.0])
BY_NAME = {"full": FULL, "text": TEXT, "null": NULL}


@pytest.mark.parametrize(
    ("scales", "branches", "expected"),
    [
        (Scales(1.0), ("full",), 5.0),
        (Scales(1.0, 1.0), ("full",), 5.0),
        (Scales(3.0), ("full", "null"), 1 + 3 * 4),
        (Scales(3.0, 3.0), ("full", "null"), 1 + 3 * 4),
        (Scales(1.0, 2.0), ("full", "text"), 3 + 2 * 2),
        (Scales(3.0, 1.0), ("full", "text", "null"), 1 + 3 * 2 + 1 * 2),
        (Scales(3.0, 2.0), ("full", "text", "null"), 1 + 3 * 2 + 2 * 2),
    ],
)
def test_combination(scales: Scales, branches: tuple[str, ...], expected: float):
    assert scales.branches == branches
    assert combine([BY_NAME[name] for name in branches], scales).item() == pytest.approx(expected)


def test_the_papers_guidance_oscillates_between_25_and_none():
    scales = [OscillatingGuidance().scales(step, 256) for step in range(4)]
    assert [s.text for s in scales] == [25.0, 1.0, 25.0, 1.0]
    assert [s.branches for s in scales[:2]] == [("full", "null"), ("full",)]


def test_constant_guidance_in_a_part_of_the_steps():
    guidance = ConstantGuidance(4.0, 2.0, start=0.25, stop=0.75)
    assert [guidance.scales(step, 4) for step in range(4)] == [
        Scales(1.0),
        Scales(4.0, 2.0),
        Scales(4.0, 2.0),
        Scales(1.0),
    ]
