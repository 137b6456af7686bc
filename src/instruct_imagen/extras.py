"""Optional libraries, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import UserError


def require(module: str, extra: str, purpose: str, error: type[UserError] = UserError) -> Any:
    """Imports an optional library.

    Args:
        module: what to import.
        extra: of this package, that installs it.
        purpose: what needs it; begins the sentence.
        error: the class to raise.

    Raises:
        UserError: it is not installed; the sentence names the extra.
    """
    try:
        return import_module(module)
    except ImportError as missing:
        name = module.split(".")[0]
        raise error(f"{purpose} needs {name}; install instruct-imagen[{extra}].") from missing
