"""bfloat16 only where the machine is fast at it."""

from __future__ import annotations

import pytest
import torch

from instruct_imagen.precision import autocast, fast_bfloat16, matrix_dtype


@pytest.mark.parametrize(
    ("abilities", "fast"),
    [({"avx2": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True), ({"bf16": True}, True), ({}, False)],
)
def test_a_cpu_computes_in_bfloat16_only_with_instructions_for_it(monkeypatch, abilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert fast_bfloat16("cpu") is fast
    assert matrix_dtype("cpu") is (torch.bfloat16 if fast else torch.float32)
    with autocast("cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is matrix_dtype("cpu")


def test_an_older_torch_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not fast_bfloat16("cpu")
    assert not fast_bfloat16("meta")
