"""ONNX files of one convolution, written by hand, so that no library for it is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FLOAT = 1
INTS = 7


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _block(field: int, content: bytes | str) -> bytes:
    """A text, bytes, or a message in a message."""
    data = content.encode() if isinstance(content, str) else content
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, side) for side in values.shape)
    return dims + _number(2, FLOAT) + _block(8, name) + _block(9, values.astype("<f4").tobytes())


def _shaped(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_block(1, _number(1, side)) for side in shape)
    return _block(1, name) + _block(2, _block(1, _number(1, FLOAT) + _block(2, dims)))


def _node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_block(1, name) for name in inputs) + _block(2, output) + _block(4, kind) + attributes


def _ints(name: str, values: list[int]) -> bytes:
    return _block(5, _block(1, name) + b"".join(_number(8, value) for value in values) + _number(20, INTS))


def write_convolution(path: Path, weights: np.ndarray, size_px: int, last: str = "Abs") -> Path:
    """Writes a network with two outputs: a 3 x 3 convolution of a picture, and that through the function `last`.

    Args:
        path: of the file.
        weights: float [out, 3, 3, 3].
        size_px: side of the picture.
        last: an ONNX operator of one input.
    """
    shape = (1, len(weights), size_px, size_px)
    around = _ints("pads", [1, 1, 1, 1]) + _ints("kernel_shape", [3, 3])
    graph = (
        _block(1, _node("Conv", ["image", "weights"], "raw", around))
        + _block(1, _node(last, ["raw"], "fused"))
        + _block(2, "edges")
        + _block(5, _tensor("weights", weights))
        + _block(11, _shaped("image", (1, 3, size_px, size_px)))
        + _block(12, _shaped("raw", shape))
        + _block(12, _shaped("fused", shape))
    )
    path.write_bytes(_number(1, 8) + _block(7, graph) + _block(8, _block(1, "") + _number(2, 13)))
    return path
