"""Types of command-line values, whose errors say what was expected."""

from __future__ import annotations

import argparse

DTYPES = ("float32", "bfloat16", "float16")


def _number(text: str, kind: type, lowest: float, what: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not lowest <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return int(_number(text, int, 1, "a whole number of at least 1"))


def several(text: str) -> int:
    """A whole number of at least 2."""
    return int(_number(text, int, 2, "a whole number of at least 2"))


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return int(_number(text, int, 0, "a whole number of at least 0"))


def positive_number(text: str) -> float:
    """A number above zero."""
    return _number(text, float, 1e-9, "a positive number")


def share(text: str) -> float:
    """A number in 0..1, such as a cosine similarity."""
    value = _number(text, float, 0, "a number from 0 to 1")
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
