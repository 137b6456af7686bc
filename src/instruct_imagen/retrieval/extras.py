"""Libraries that only the builder needs."""

from __future__ import annotations

from typing import Any

from ..data.report import DataError
from ..extras import require as require_extra


def require(module: str) -> Any:
    """Imports a library of the extras `data` and `ray` where it is used.

    Raises:
        DataError: it is not installed; the sentence names the extra.
    """
    extra = "ray" if module.split(".")[0] == "ray" else "data"
    return require_extra(module, extra, "Building clusters this way", DataError)
