"""The tokenizer's corpus: captions and instructions of the training split; loading and saving the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .data.templates import REFERENCE_KINDS, TRAINING_TASKS, reference_text, templates
from .presets import TextEncoderConfig
from .tokenizer import build_tokenizer
from .world import GENERIC_WORDS, STYLE_NAMES, GlyphPack, SceneSampler, caption, glyphs_of, style_phrases, styles_of

NUM_CAPTIONS = 20_000


def corpus(pack: GlyphPack) -> Iterator[str]:
    """Texts that training can show: no held-out name, style or wording is among them."""
    rng = np.random.default_rng(0)
    sampler = SceneSampler(pack, "train")
    for _ in range(NUM_CAPTIONS):
        yield caption(sampler.sample(rng), pack, rng)
    for task in TRAINING_TASKS:
        for template in templates(task, "train"):
            yield template.text.replace("{", " ").replace("}", " ")
    for kind in REFERENCE_KINDS:
        for _ in range(200):
            yield reference_text(kind, rng, **({"subject": GENERIC_WORDS[0]} if kind == "subject" else {}))
    for key in glyphs_of(pack.keys, "train"):
        for name in (pack[key].name, *pack[key].synonyms):
            yield from [name] * 20
    for style in styles_of(STYLE_NAMES, "train"):
        yield from style_phrases(style)


def train_tokenizer(pack: GlyphPack, config: TextEncoderConfig, folder: Path) -> None:
    """Trains and saves the tokenizer of a new model."""
    tokenizer = build_tokenizer(corpus(pack), config.vocab_size, config.max_tokens)
    tokenizer.save_pretrained(str(folder))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads a saved tokenizer; no network is asked."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
