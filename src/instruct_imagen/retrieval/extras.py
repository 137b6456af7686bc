"""Libraries that only the builder needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..data.report import DataError


def require(module: str) -> Any:
    """Imports a library of the extra `data` where it is used.

    Raises:
        DataError: it is not installed; the sentence names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise DataError(f"Building clusters needs {name}; install instruct-imagen[data].") from error
