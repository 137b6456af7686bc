"""Nodes for ComfyUI: drawing from instructions whose [ref#N] markers are tied to pictures."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
