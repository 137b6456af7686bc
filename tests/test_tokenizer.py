"""The tokenizer: markers are single tokens, any text can be encoded, nothing held out is in its corpus."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from instruct_imagen.instruction import MAX_MARKERS
from instruct_imagen.presets import PRESETS
from instruct_imagen.text import load_tokenizer, train_tokenizer
from instruct_imagen.tokenizer import MARKER_TOKENS


def test_markers_are_single_special_tokens(tokenizer_folder: Path):
    tokenizer = load_tokenizer(tokenizer_folder)
    assert [tokenizer.convert_tokens_to_ids(token) for token in MARKER_TOKENS] == list(range(3, 3 + MAX_MARKERS))
    ids = tokenizer("draw [ref#1], then [ref#9].")["input_ids"]
    assert ids.count(3) == 1
    assert ids.count(2 + MAX_MARKERS) == 1
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.pad_token_id == 0


def test_texts_come_back(tokenizer_folder: Path):
    tokenizer = load_tokenizer(tokenizer_folder)
    for text in ("a red star on a beach", "ünïcode 火 <0x41>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_long_texts_are_cut(tokenizer_folder: Path):
    tokenizer = load_tokenizer(tokenizer_folder)
    limit = PRESETS["debug"].model.text.max_tokens
    assert len(tokenizer("star " * 1000, truncation=True)["input_ids"]) == limit


@given(st.text(max_size=60))
def test_any_text_is_encoded_without_unknown_pieces(tokenizer_folder: Path, text: str):
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == 1
    assert "<unk>" in text or 2 not in ids


def test_training_is_deterministic(builtin_pack, tokenizer_folder: Path, tmp_path: Path):
    train_tokenizer(builtin_pack, PRESETS["debug"].model.text, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (tokenizer_folder / "tokenizer.json").read_bytes()
