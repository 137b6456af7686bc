"""A pretrained diffusers pipeline as an `InstructImagenPipeline` that draws what the original draws.

    pipeline = import_pipeline(Path("IF-I-M-v1.0"))
    pipeline.save_pretrained("imported")

The context layers are new and start at zero output, so without training references change nothing.
"""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import torch

from ..files import OutputError, make_folder
from ..pipeline import InstructImagenPipeline
from ..unet import InstructUNet
from .markers import add_markers
from .source import LEFT_OUT, BackboneError, check_source, load_source, read_index


def import_pipeline(
    source: Path, dtype: torch.dtype | None = None, variant: str | None = None, **options: Any
) -> InstructImagenPipeline:
    """Wraps a pretrained pipeline.

    Args:
        source: folder of an `IFPipeline` or a `StableDiffusionPipeline`.
        dtype: precision of the networks; None: each as it is stored.
        variant: of the weights, such as "fp16"; None: the full ones.
        options: of `InstructUNet`, such as `context_places`.

    Returns:
        A pipeline with the original's own scheduler, steps and guidance.

    Raises:
        BackboneError: unsupported, incomplete or damaged.
    """
    kind = check_source(source, variant)
    original = load_source(source, dtype, variant)
    tokenizer, text_encoder = original.tokenizer, original.text_encoder
    text_tokens = kind.text_tokens or tokenizer.model_max_length
    add_markers(tokenizer, text_encoder)
    try:
        unet = InstructUNet.from_backbone(
            original.unet, text_tokens=text_tokens, lowercase_text=kind.lowercase_text, **options
        )
    except ValueError as error:
        raise BackboneError(f"the U-Net of {source} is not supported: {error}") from error
    call = inspect.signature(type(original).__call__).parameters
    return InstructImagenPipeline(
        tokenizer,
        text_encoder.eval(),
        unet.eval(),
        original.scheduler,
        vae=getattr(original, "vae", None),
        default_steps=call["num_inference_steps"].default,
        default_guidance=call["guidance_scale"].default,
    )


def left_out(source: Path) -> list[str]:
    """Components of a source that an import leaves out."""
    index = read_index(source)
    return [name for name in LEFT_OUT if index.get(name, [None])[0] is not None]


def check_destination(out: Path) -> None:
    """Refuses a destination that exists, before work that takes time.

    Raises:
        OutputError: it exists and is no empty folder, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already; name a new folder")
    make_folder(out.parent)


def save_import(pipeline: InstructImagenPipeline, out: Path) -> None:
    """Saves a pipeline whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        pipeline.save_pretrained(str(partial))
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
