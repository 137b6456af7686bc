"""Instruction templates: the many ways in which a person asks for one task (§3.2: 100 checked per task).

    template = rng.choice(templates("edge"))
    fill(template, caption="a fox on a beach")
    # 'Follow the contours in [ref#1] and paint a fox on a beach.'
    reference_text("edge", rng)
    # 'contour drawing'

The sentences are in `template_texts/TASK.txt`, one a line. How to add one: a caption brings its own article ("a fox on
a beach"), so none stands before `{caption}`; a subject has none and may be plural ("scissors"), so write
"the {subject}" and let no verb agree with it; `{style}` and `{control}` are names such as "watercolour painting" and
"edge map"; `{a_style}` is the style with the article it needs ("a watercolour painting", but "pixel art"); `{edit}` is
what to do, as one would tell somebody ("replace the fox with an owl"). A marker stands where a noun would.

A tenth of every task is held out for evaluation, chosen by a hash of the sentence itself, so that adding or moving
sentences never moves another one between the splits. The combination tasks are the zero-shot suites of the paper (§4,
Table 4) and three conditions at once, which the paper leaves out (§5.3); they exist for evaluation only.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from instruct_imagen.data.reference_texts import REFERENCE_TEXTS
from instruct_imagen.errors import UserError
from instruct_imagen.instruction import marker_token, markers_in

Split = Literal["train", "held_out"]

TEMPLATE_FOLDER = Path(__file__).parent / "template_texts"

CONTROL_TASKS = ("depth", "mask", "edge", "sketch")
TRAINING_TASKS = ("text", "art", *CONTROL_TASKS, "subject", "face", "face_hq", "style", "style_transfer")
FINE_TUNING_TASKS = ("edit",)
ZERO_SHOT_TASKS = ("style_subject", "multi_subject", "control_subject", "control_style")
THREE_CONDITION_TASKS = ("subject_style_mask", "two_subjects_style", "subject_edge_style")
COMBINATION_TASKS = (*ZERO_SHOT_TASKS, *THREE_CONDITION_TASKS)

TASK_SLOTS: dict[str, frozenset[str]] = {
    "text": frozenset({"caption"}),
    "art": frozenset({"caption", "style"}),
    "depth": frozenset({"ref1", "caption"}),
    "mask": frozenset({"ref1", "caption"}),
    "edge": frozenset({"ref1", "caption"}),
    "sketch": frozenset({"ref1", "caption"}),
    "subject": frozenset({"ref1", "subject", "caption"}),
    "face": frozenset({"ref1", "caption"}),
    "face_hq": frozenset({"ref1", "caption"}),
    "style": frozenset({"ref1", "caption"}),
    "style_transfer": frozenset({"ref1", "ref2"}),
    "edit": frozenset({"ref1", "ref2", "edit"}),
    "style_subject": frozenset({"ref1", "subject", "ref2", "caption"}),
    "multi_subject": frozenset({"ref1", "subject", "ref2", "subject2", "caption"}),
    "control_subject": frozenset({"ref1", "control", "ref2", "subject", "caption"}),
    "control_style": frozenset({"ref1", "control", "ref2", "caption"}),
    "subject_style_mask": frozenset({"ref1", "subject", "ref2", "ref3", "caption"}),
    "two_subjects_style": frozenset({"ref1", "subject", "ref2", "subject2", "ref3", "caption"}),
    "subject_edge_style": frozenset({"ref1", "subject", "ref2", "ref3", "caption"}),
}
"""The slots that every template of a task has; `fill` wants all of them but the markers ref1, ref2, ref3."""

REFERENCE_KINDS = tuple(REFERENCE_TEXTS)

_SLOT = re.compile(r"\{(a_)?([a-z]+[0-9]?)\}")
_COUNTABLE = re.compile(  # the last word of a style that takes an article: "an oil painting", but "pixel art"
    r"(painting|drawing|sketch|print|mosaic|cut|poster|engraving|etching|cartoon|comic|collage|illustration"
    r"|blueprint|fresco|window|photo|photograph|picture|portrait|sign|rendering|tapestry|woodblock|stamp|sticker"
    r"|icon|logo|watercolou?r|silhouette|doodle|diagram)$"
)
_HELD_OUT_SHARE = 0.1
_HELD_OUT_SALT = 282  # with it each of today's tasks holds out 9 to 13 sentences; never change it


class TemplateError(UserError):
    """A template or its slots do not fit; the message says which slot and why."""


class Chooser(Protocol):
    """What picks from a sequence: `random.Random` or `numpy.random.Generator`."""

    def choice(self, options: Any, /) -> Any: ...


@dataclass(frozen=True)
class Template:
    """One sentence with slots, such as `{caption}` or `{subject}`, and with markers `{ref1}`, `{ref2}`.

    Raises:
        TemplateError: braces that are no slot, or a marker `{ref2}` without `{ref1}`.
    """

    text: str

    def __post_init__(self) -> None:
        rest = _SLOT.sub("", self.text)
        if "{" in rest or "}" in rest:
            raise TemplateError(f"'{self.text}' has a brace that is no slot; write slots as {{caption}}.")
        markers = sorted(slot for slot in self.slots if slot.startswith("ref"))
        if markers != [f"ref{number}" for number in range(1, len(markers) + 1)]:
            raise TemplateError(f"'{self.text}' must number its markers from {{ref1}} without holes.")

    @property
    def slots(self) -> frozenset[str]:
        """The names of its slots, markers (`ref1`) included."""
        return frozenset(name for _, name in _SLOT.findall(self.text))

    @property
    def held_out(self) -> bool:
        """Whether the sentence belongs to the tenth that training never sees."""
        digest = hashlib.sha256(f"{_HELD_OUT_SALT}:{self.text}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < _HELD_OUT_SHARE * 2**32


def templates(task: str, split: Split = "train") -> tuple[Template, ...]:
    """The templates of one task, in a fixed order.

    Args:
        task: one of TRAINING_TASKS, FINE_TUNING_TASKS or COMBINATION_TASKS.
        split: "train", or "held_out" for evaluation. All templates of a combination task are held out.

    Raises:
        TemplateError: no such task or split, or a combination task asked for training.
    """
    if split not in ("train", "held_out"):
        raise TemplateError(f"'{split}' is no split; use 'train' or 'held_out'.")
    if task in COMBINATION_TASKS:
        if split == "train":
            raise TemplateError(f"'{task}' is for zero-shot evaluation only; ask for split='held_out'.")
        return _all_templates(task)
    return tuple(template for template in _all_templates(task) if template.held_out == (split == "held_out"))


@functools.cache
def _all_templates(task: str) -> tuple[Template, ...]:
    if task not in TASK_SLOTS:
        raise TemplateError(f"'{task}' is no task; the tasks are {', '.join(TASK_SLOTS)}.")
    lines = (TEMPLATE_FOLDER / f"{task}.txt").read_text(encoding="utf-8").splitlines()
    found = tuple(Template(line) for line in lines if line)
    for template in found:
        _check_slots(template.slots, TASK_SLOTS[task], f"the {task} template '{template.text}'")
    return found


def _check_slots(given: Iterable[str], wanted: frozenset[str], where: str) -> None:
    if missing := sorted(wanted - set(given)):
        raise TemplateError(f"{where} lacks the slot {{{missing[0]}}}.")
    if superfluous := sorted(set(given) - wanted):
        raise TemplateError(f"{where} has no use for the slot {{{superfluous[0]}}}.")


def _slot_value(name: str, value: object) -> str:
    """A slot's value with single spaces and without final punctuation, which belongs to the template."""
    if not isinstance(value, str):
        raise TemplateError(f"the slot {{{name}}} must be a string, not {type(value).__name__}.")
    value = " ".join(value.split()).rstrip(" .,;:")
    if not value:
        raise TemplateError(f"the slot {{{name}}} is empty.")
    if markers_in(value):
        raise TemplateError(f"the slot {{{name}}} holds the marker {marker_token(markers_in(value)[0])}.")
    return value


def _with_article(style: str) -> str:
    """ "an oil painting", "a woodcut by Hokusai", but "pixel art": what `{a_style}` puts."""
    head = re.split(r" (?:by|from|in|of|on|with) ", style)[0]
    if not _COUNTABLE.search(head.lower()):
        return style
    return f"{'an' if style[0].lower() in 'aeiou' else 'a'} {style}"


def fill(template: Template, /, **slots: str) -> str:
    """Put values into a template.

    `{ref1}`, `{ref2}` become `[ref#1]`, `[ref#2]` by themselves, and `{a_style}` is the style with an article
    if it needs one. A value that starts the text or a sentence gets a capital letter; final punctuation of a
    value is dropped, and no period follows a value's own "!" or "?".

    Args:
        template: from `templates`.
        **slots: a value for every slot that is not a marker, such as caption="a fox on a beach".

    Raises:
        TemplateError: a slot is missing, superfluous, empty, or holds a marker.
    """
    wanted = frozenset(slot for slot in template.slots if not slot.startswith("ref"))
    _check_slots(slots, wanted, f"the call to fill for the template '{template.text}'")
    values = {name: _slot_value(name, value) for name, value in slots.items()}

    def put(match: re.Match[str]) -> str:
        name = match[2]
        if name.startswith("ref"):
            return marker_token(int(name[3:]))
        value = _with_article(values[name]) if match[1] else values[name]
        starts_sentence = not match.start() or re.search(r"[.!?]['\")]? $", match.string[: match.start()])
        return value[0].upper() + value[1:] if starts_sentence else value

    return re.sub(r"([!?])[.,;]", r"\1", _SLOT.sub(put, template.text))


def reference_text(kind: str, rng: Chooser, **slots: str) -> str:
    """A short wording for the text of one reference, such as "edge map" (§2: `("[ref#1] dog", image)`).

    Args:
        kind: one of REFERENCE_KINDS: "depth", "mask", "edge", "sketch", "subject", "style", "face",
            "content".
        rng: what picks the wording.
        **slots: `subject` for "subject" (required) and "face"; `style` for "style" (both optional: without them, only
            wordings that do not name the person or the style are used).

    Raises:
        TemplateError: no such kind, or a slot is missing, superfluous, empty, or holds a marker.
    """
    if kind not in REFERENCE_TEXTS:
        raise TemplateError(f"'{kind}' is no kind of reference; the kinds are {', '.join(REFERENCE_KINDS)}.")
    wordings = [Template(text) for text in REFERENCE_TEXTS[kind]]
    usable = [wording for wording in wordings if wording.slots <= set(slots)]
    known = frozenset().union(*(wording.slots for wording in wordings))
    _check_slots(slots, known if not usable else known & set(slots), f"the text of a {kind} reference")
    wording = usable[int(rng.choice(range(len(usable))))]
    return _SLOT.sub(lambda match: _slot_value(match[2], slots[match[2]]), wording.text)
