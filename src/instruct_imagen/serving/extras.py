"""Libraries that only serving needs."""

from __future__ import annotations

from importlib.util import find_spec

from .settings import ServerError

_NEEDED = {"serve": ("fastapi", "uvicorn", "multipart", "prometheus_client"), "serve-ray": ("ray",)}


def require_serving(engine: str) -> None:
    """Checks that everything is installed, before a model is loaded.

    Raises:
        ServerError: something is missing; the sentence names the extra.
    """
    for extra in ("serve", "serve-ray") if engine == "ray" else ("serve",):
        missing = [module for module in _NEEDED[extra] if find_spec(module) is None]
        if missing:
            raise ServerError(f"Serving this way needs {missing[0]}; install instruct-imagen[{extra}].")
