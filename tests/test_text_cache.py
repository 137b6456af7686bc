"""Cached states of texts: the same as without a cache, found again by other runs, and made again where damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instruct_imagen.conditioning import ConditioningEncoder, Prompt, make_prompt_batch
from instruct_imagen.model import ModelParts
from instruct_imagen.presets import get_preset
from instruct_imagen.training.text_cache import MEMORY, CachedTextEncoder, TextCache, encoder_digest

PROMPTS = [Prompt("a red fox on a beach"), Prompt(""), Prompt("a dog"), Prompt("a dog")]


def states_of(encoder, parts: ModelParts) -> torch.Tensor:
    batch = make_prompt_batch(PROMPTS, parts.tokenizer, get_preset("debug").model.size_px)
    with torch.no_grad():
        return ConditioningEncoder(encoder, parts.unet).encode(batch).text_BLE


class Counted(torch.nn.Module):
    """A text encoder that counts how many texts it reads."""

    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder, self.config, self.num_texts = encoder, encoder.config, 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        self.num_texts += len(input_ids)
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize("place", [MEMORY, "a folder"])
def test_cached_states_are_those_of_the_encoder(place: str, parts: ModelParts, tmp_path: Path):
    expected = states_of(parts.text_encoder, parts)
    counted = Counted(parts.text_encoder)
    cached = CachedTextEncoder(counted, TextCache(place if place == MEMORY else str(tmp_path)))
    made, found = states_of(cached, parts), states_of(cached, parts)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert torch.equal(made, found)
    assert counted.num_texts == 3  # one text comes twice


def test_a_folder_serves_other_runs_but_not_other_encoders(parts: ModelParts, tmp_path: Path):
    first, second = Counted(parts.text_encoder), Counted(parts.text_encoder)
    states = [states_of(CachedTextEncoder(each, TextCache(str(tmp_path))), parts) for each in (first, second)]
    assert torch.equal(*states)
    assert (first.num_texts, second.num_texts) == (3, 0)
    other = type(parts.text_encoder)(parts.text_encoder.config)
    assert encoder_digest(other) != encoder_digest(parts.text_encoder)
    third = Counted(other)
    states_of(CachedTextEncoder(third, TextCache(str(tmp_path))), parts)
    assert third.num_texts == 3


def test_damaged_states_are_made_again(parts: ModelParts, tmp_path: Path):
    expected = states_of(CachedTextEncoder(parts.text_encoder, TextCache(str(tmp_path))), parts)
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:20])
    again = Counted(parts.text_encoder)
    assert torch.equal(states_of(CachedTextEncoder(again, TextCache(str(tmp_path))), parts), expected)
    assert again.num_texts == 3
    assert not list(tmp_path.rglob(".*"))


def test_memory_keeps_what_was_read_last():
    cache = TextCache(MEMORY, max_bytes=3 * 4)
    for key in "abc":
        cache.put(key, torch.zeros(1, 1))
    assert cache.get("a") is not None  # now b is the oldest
    cache.put("d", torch.zeros(1, 1))
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
