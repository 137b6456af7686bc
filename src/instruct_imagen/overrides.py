"""`key=value` overrides of nested frozen dataclasses, read as the types of their fields.

overridden(preset, "stages.0.steps=100", ranges)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import UserError

Config = TypeVar("Config")
Ranges = Mapping[str, tuple[float | None, float | None]]  # least and most value by a field's name; None: no bound


class OverrideError(UserError):
    """There is no such field, or its value does not fit."""


def overridden(config: Config, override: str, ranges: Ranges) -> Config:
    """`config` with one field replaced.

    Args:
        config: a frozen dataclass; its fields may be dataclasses, and tuples of them.
        override: `key=value`, the key being names of fields joined by dots, with an index, or `*` for all, where there
            is a tuple of dataclasses; the value is JSON, or bare text for a string or a choice.
        ranges: of numbers, and of each number of a tuple.

    Raises:
        OverrideError: it has another form, or see `OverrideError`.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise OverrideError(f"override {override!r} must look like key=value")
    replaced: Config = _replace(config, key.split("."), text, override, ranges)
    return replaced


def _replace(config: Any, path: Sequence[str], text: str, override: str, ranges: Ranges) -> Any:
    """`config` with the field at `path` replaced; `*` as an index stands for every stage."""
    if isinstance(config, tuple):
        if path[0] != "*" and not (path[0].isdigit() and int(path[0]) < len(config)):
            raise OverrideError(f"{override!r}: {path[0]!r} must be 0 .. {len(config) - 1}, or * for all")
        chosen = range(len(config)) if path[0] == "*" else [int(path[0])]
        return tuple(
            _replace(item, path[1:], text, override, ranges) if index in chosen else item
            for index, item in enumerate(config)
        )
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise OverrideError(f"{override!r}: there is no field {path[0]!r}")
    if path[0] not in {f.name for f in dataclasses.fields(config)}:
        raise OverrideError(f"{override!r}: there is no field {path[0]!r}")
    value = getattr(config, path[0])
    if len(path) > 1:
        return dataclasses.replace(config, **{path[0]: _replace(value, path[1:], text, override, ranges)})
    value = _parse(text, get_type_hints(type(config))[path[0]], override)
    least, most = ranges.get(path[0], (None, None))
    for number in value if isinstance(value, tuple) else (value,):
        if least is not None and number < least:
            raise OverrideError(f"{override!r}: it must be {least} or more")
        if most is not None and number > most:
            raise OverrideError(f"{override!r}: it must be {most} or less")
    return dataclasses.replace(config, **{path[0]: value})


def _parse(text: str, kind: Any, override: str) -> Any:
    """Reads `text` as a value of the annotated type `kind`."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise OverrideError(f"{override!r}: choose one of {', '.join(map(str, get_args(kind)))}")
        return text
    if kind is str:
        return text
    try:
        value = json.loads(text, parse_constant=lambda name: None)  # NaN and Infinity are no values
    except json.JSONDecodeError:
        value = None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = get_args(kind)
        kinds = (kinds[0],) * len(value) if kinds[1:] == (...,) else kinds
        if len(kinds) != len(value):
            raise OverrideError(f"{override!r}: it must be a list of {len(kinds)} values")
        value = tuple(_parse(json.dumps(item), each, override) for item, each in zip(value, kinds, strict=True))
    if not isinstance(value, get_origin(kind) or kind) or (kind is int and isinstance(value, bool)):
        raise OverrideError(f"{override!r}: {text!r} is not a value of type {getattr(kind, '__name__', kind)}")
    return value
