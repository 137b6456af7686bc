"""Every instruction template: fills, reads as English, is one of a kind, and agrees with `Instruction`."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from PIL import Image

from instruct_imagen.data.reference_texts import REFERENCE_TEXTS
from instruct_imagen.data.templates import (
    COMBINATION_TASKS,
    FINE_TUNING_TASKS,
    TASK_SLOTS,
    TEMPLATE_FOLDER,
    TRAINING_TASKS,
    Template,
    TemplateError,
    fill,
    reference_text,
    templates,
)
from instruct_imagen.instruction import MAX_TEXT_CHARS, Instruction, markers_in

SLOT_VALUES: list[dict[str, str]] = [
    {
        "caption": "a fox on a beach",
        "subject": "fox",
        "subject2": "owl",
        "style": "watercolour painting",
        "control": "mask",
        "edit": "replace the fox with an owl",
    },
    {
        "caption": "an old red apple next to two owls",
        "subject": "object",
        "subject2": "umbrella",
        "style": "oil painting",
        "control": "edge map",
        "edit": "make the sky pink",
    },
    {
        "caption": "scissors in front of the moon",
        "subject": "scissors",
        "subject2": "ice skates",
        "style": "impressionism",
        "control": "depth map",
        "edit": "remove the scissors",
    },
    {
        "caption": "portrait of a woman with a hat, looking left",
        "subject": "woman with a hat",
        "subject2": "face",
        "style": "pixel art",
        "control": "sketch",
        "edit": "let the woman wear a green hat",
    },
]


def all_templates(task: str) -> tuple[Template, ...]:
    """Every template of a task, whatever its split."""
    held_out = templates(task, "held_out")
    return held_out if task in COMBINATION_TASKS else templates(task, "train") + held_out


def filled(template: Template, values: dict[str, str]) -> str:
    return fill(template, **{name: values[name] for name in template.slots if not name.startswith("ref")})


def complaints(text: str) -> list[str]:
    """What is wrong with a filled template as a piece of English."""
    faults = {
        "a brace is left": re.search(r"[{}]", text),
        "spaces": "  " in text or text != text.strip(),
        "two articles": re.search(r"\b(a|an|the) (a|an|the)\b", text, re.IGNORECASE),
        "a or an": re.search(r"\ba (?=[aeio])|\ban (?=[^aeiouh\W])", text, re.IGNORECASE),
        "a word stands twice": re.search(r"\b(\w+) \1\b", text, re.IGNORECASE),
        "punctuation": re.search(r" [.,;:!?)]|[.,;:!?]{2}|\( ", text),
        "the end": not re.search(r"[.?!)\w\]]$", text),
        "quotes or brackets": text.count('"') % 2 or text.count("(") != text.count(")"),
        "no capital after a period": re.search(r"[.!?] [a-z]", text),
    }
    return [name for name, fault in faults.items() if fault]


@pytest.mark.parametrize("task", TASK_SLOTS)
def test_every_template_reads_as_english(task: str) -> None:
    for template in all_templates(task):
        assert template.text.isascii() and "`" not in template.text and len(template.text) <= 110
        for values in SLOT_VALUES:
            text = filled(template, values)
            assert not complaints(text), text
            assert text[0].isupper() or text[0] in '["' or template.text[0].islower(), text


@pytest.mark.parametrize("task", TASK_SLOTS)
def test_every_template_makes_a_valid_instruction(task: str) -> None:
    image = Image.new("RGB", (4, 4))
    num_references = sum(slot.startswith("ref") for slot in TASK_SLOTS[task])
    for template in all_templates(task):
        assert template.slots == TASK_SLOTS[task]
        text = filled(template, SLOT_VALUES[0])
        instruction = Instruction.build(text, [(image, "fox")] * num_references)
        assert instruction.text == text and len(text) < MAX_TEXT_CHARS
        assert set(markers_in(text)) == set(range(1, num_references + 1))


def test_complaints_find_what_they_are_for() -> None:
    for text in (
        "Draw a a fox.",
        "Draw  it.",
        "Draw a owl.",
        "Draw it ..",
        "Draw {x}.",
        "Draw it,",
        'A "fox.',
        "A. b",
    ):
        assert complaints(text), text
    assert not complaints('Draw "an owl" (in [ref#1]). What then?')


@pytest.mark.parametrize("task", TASK_SLOTS)
def test_no_two_templates_are_the_same(task: str) -> None:
    seen: dict[str, str] = {}
    for template in all_templates(task):
        words = " ".join(re.sub(r"[^a-z0-9 ]", "", re.sub(r"\{\w+\}", "", template.text.lower())).split())
        assert words not in seen, f"'{template.text}' repeats '{seen[words]}'"
        seen[words] = template.text


@pytest.mark.parametrize("task", (*TRAINING_TASKS, *FINE_TUNING_TASKS))
def test_training_tasks_have_a_hundred_varied_templates_and_hold_a_tenth_out(task: str) -> None:
    train, held_out = templates(task), templates(task, "held_out")
    assert len(train) + len(held_out) >= 100
    assert 0.05 <= len(held_out) / len(train + held_out) <= 0.15
    assert not {t.text for t in train} & {t.text for t in held_out}
    texts = [t.text for t in train]
    assert len({" ".join(text.split()[:2]) for text in texts}) >= 45, "openings vary"
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[len(lengths) // 10] + 5 <= lengths[-len(lengths) // 10], "lengths vary"
    assert sum(text.endswith("?") for text in texts) >= 3 and sum(text[-1] not in ".?!" for text in texts) >= 3
    assert sum(text.startswith("{") for text in texts) >= 3, "caption-first forms"


def test_split_depends_on_the_sentence_only() -> None:
    pinned = {t.text for t in templates("edge", "held_out")}
    assert all(Template(text).held_out for text in pinned)
    assert not any(t.held_out for t in templates("edge"))


def test_style_transfer_names_style_and_content_in_both_orders() -> None:
    orders = [markers_in(filled(t, {}))[:2] for t in all_templates("style_transfer")]
    assert orders.count((1, 2)) >= 25 and orders.count((2, 1)) >= 25


@pytest.mark.parametrize("task", COMBINATION_TASKS)
def test_combination_tasks_are_for_evaluation_only(task: str) -> None:
    assert len(templates(task, "held_out")) >= 12
    with pytest.raises(TemplateError, match="zero-shot evaluation only"):
        templates(task)
    with pytest.raises(TemplateError, match="zero-shot evaluation only"):
        templates(task, "train")


def test_tasks_are_complete() -> None:
    files = {path.stem for path in TEMPLATE_FOLDER.glob("*.txt")}
    assert set(TASK_SLOTS) == files == set(TRAINING_TASKS) | set(COMBINATION_TASKS) | set(FINE_TUNING_TASKS)
    assert TRAINING_TASKS == (
        "text", "art", "depth", "mask", "edge", "sketch", "subject", "face", "face_hq", "style", "style_transfer",
    )  # fmt: skip
    with pytest.raises(TemplateError, match="'texts' is no task"):
        templates("texts")
    with pytest.raises(TemplateError, match="no split"):
        templates("text", "test")  # type: ignore[arg-type]


def test_fill_capitalises_sentences_and_settles_punctuation() -> None:
    assert fill(Template("{caption}, from {ref1}."), caption="a fox") == "A fox, from [ref#1]."
    assert fill(Template("See {ref1}. {caption}."), caption="a fox") == "See [ref#1]. A fox."
    assert fill(Template("Draw {caption}."), caption=" a  fox\n on a beach. ") == "Draw a fox on a beach."
    assert fill(Template("Draw {caption}."), caption="a sign that says stop!") == "Draw a sign that says stop!"
    assert fill(Template("caption: {caption}"), caption="a fox") == "caption: a fox"
    for style, expected in [
        ("oil painting", "an oil painting"),
        ("woodcut by Hokusai", "a woodcut by Hokusai"),
        ("pixel art", "pixel art"),
        ("impressionism", "impressionism"),
    ]:
        assert fill(Template("Think of {a_style}."), style=style) == f"Think of {expected}."
    assert fill(Template("Draw {caption}."), caption="a {style} of {ref1}") == "Draw a {style} of {ref1}."


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({}, "lacks the slot {caption}"),
        ({"caption": "a fox", "style": "ink"}, "no use for the slot {style}"),
        ({"caption": "a fox", "ref1": "[ref#1]"}, "no use for the slot {ref1}"),
        ({"caption": " . "}, "is empty"),
        ({"caption": "a fox like [ref#2]"}, r"holds the marker \[ref#2\]"),
        ({"caption": 3}, "must be a string, not int"),
    ],
)
def test_fill_refuses_wrong_slots(slots: dict[str, str], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        fill(Template("Draw {caption} after {ref1}."), **slots)


@pytest.mark.parametrize("text", ["Draw {caption", "Draw {Caption}", "Draw {}", "Draw {caption!r}", "{ref2} only"])
def test_a_malformed_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text)


@pytest.mark.parametrize("kind", ["depth", "mask", "edge", "sketch", "subject", "style", "face", "source", "content"])
def test_reference_texts(kind: str) -> None:
    assert len(set(REFERENCE_TEXTS[kind])) >= 6
    words = {"subject": {"subject": "fox"}, "face": {"subject": "woman"}, "style": {"style": "ink drawing"}}
    slots = words.get(kind, {})
    rng = random.Random(1)
    found = {reference_text(kind, rng, **slots) for _ in range(300)}
    assert len(found) == len(REFERENCE_TEXTS[kind])
    assert all(text.isascii() and "{" not in text and len(text) <= 60 for text in found)
    again = reference_text(kind, np.random.default_rng(1), **slots)
    assert again in found and type(again) is str
    assert again == reference_text(kind, np.random.default_rng(1), **slots)


def test_reference_text_slots() -> None:
    rng = random.Random(1)
    assert all("{" not in reference_text("style", rng) for _ in range(100)), "generic wordings without a style"
    for kind, slots, message in [
        ("subject", {}, "lacks the slot {subject}"),
        ("edge", {"subject": "fox"}, "no use for the slot {subject}"),
        ("style", {"subject": "fox"}, "no use for the slot {subject}"),
        ("subject", {"subject": ""}, "is empty"),
        ("colour", {}, "no kind of reference"),
    ]:
        with pytest.raises(TemplateError, match=message):
            reference_text(kind, rng, **slots)
