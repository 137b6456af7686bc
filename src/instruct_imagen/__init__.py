"""Instruct-Imagen: image generation with multi-modal instruction (arXiv 2401.01952), an open implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import InstructionError
    from .guidance import ConstantGuidance, OscillatingGuidance
    from .instruction import Instruction, Reference
    from .pictures import load_image
    from .pipeline import InstructImagenPipeline
    from .unet import InstructUNet

__version__ = "0.1.0"

_MODULES = {
    "ConstantGuidance": "guidance",
    "OscillatingGuidance": "guidance",
    "Instruction": "instruction",
    "InstructionError": "errors",
    "Reference": "instruction",
    "load_image": "pictures",
    "InstructImagenPipeline": "pipeline",
    "InstructUNet": "unet",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Imports the public names on first use, so that `import instruct_imagen` stays quick."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
