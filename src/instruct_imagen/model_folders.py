"""A model by its name or folder, and what it is drawn with where nothing is asked for. Loads no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from .cascade import read_index
from .errors import UserError
from .lora import adapter_guidance, find_adapter

SHIPPED_MODELS = Path(__file__).parent / "weights"
DEFAULT_MODEL = "instruct-imagen-nano"
DEFAULT_STEPS = 24
DEFAULT_GUIDANCE = 3.0
PAPER_STEPS = 256


class ModelError(UserError):
    """A model that is missing, damaged, or no Instruct-Imagen model."""


def hide_loading_bars() -> None:
    """Switches off the bars of diffusers and transformers for loading and saving; a small model takes a second."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def resolve_model(name_or_path: str | Path) -> Path:
    """Folder of a shipped model or of a path.

    Raises:
        ModelError: neither.
    """
    for folder in (SHIPPED_MODELS / str(name_or_path), Path(name_or_path)):
        if (folder / "model_index.json").is_file():
            return folder
    shipped = sorted(p.name for p in SHIPPED_MODELS.glob("*") if p.is_dir())
    raise ModelError(
        f"there is no model {str(name_or_path)!r}: neither a shipped one ({', '.join(shipped) or 'none'}) "
        "nor a folder with a model_index.json"
    )


@dataclass(frozen=True)
class DrawingDefaults:
    """What a model is drawn with where nothing is asked for."""

    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    image_guidance: float | None = None


def drawing_defaults(name_or_path: str | Path, adapters: Sequence[str | Path] = ()) -> DrawingDefaults:
    """A model's own steps and guidance, or those of the last of its adapters that names some, without its weights.

    Raises:
        ModelError: there is no such model, or its index is damaged.
        AdapterError: there is no such adapter, or see `lora.adapter_guidance`.
    """
    model = resolve_model(name_or_path)
    index = read_index(model)
    known = {field.name: index.get(f"default_{field.name}") for field in fields(DrawingDefaults)}
    for adapter in adapters:
        if (guidance := adapter_guidance(find_adapter(adapter, model))) is not None:
            known |= {"guidance": guidance, "image_guidance": None}
    return DrawingDefaults(**{name: value for name, value in known.items() if value is not None})
