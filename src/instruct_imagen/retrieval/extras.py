"""Libraries that only the builder needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..data.report import DataError


def require(module: str) -> Any:
    """Imports a library of the extras `data` and `ray` where it is used.

    Raises:
        DataError: it is not installed; the sentence names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        extra = "ray" if name == "ray" else "data"
        raise DataError(f"Building clusters this way needs {name}; install instruct-imagen[{extra}].") from error
