"""Types of command-line values, whose errors say what was expected."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

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


def adapter(text: str) -> tuple[str, float]:
    """An adapter's name or folder, and how strongly it acts: `NAME_OR_PATH[=SCALE]`."""
    name, separator, scale = text.rpartition("=")
    if not separator or Path(text).is_dir():
        return text, 1.0
    try:
        value = float(scale)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{scale!r} is no strength; write NAME=0.8, say")
    return name, value


def add_adapters(command: argparse.ArgumentParser) -> None:
    """Adds `--lora`, whose value becomes a list of pairs for `InstructImagenPipeline.load_lora`."""
    command.add_argument(
        "--lora",
        action="append",
        default=[],
        type=adapter,
        metavar="NAME_OR_PATH[=SCALE]",
        help="an adapter of the model's own or one that fine-tuning wrote, as strong as SCALE (1); may be repeated",
    )
