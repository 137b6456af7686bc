"""A pretrained diffusers pipeline as an `InstructImagenPipeline` that draws what the original draws.

    pipeline = import_pipeline(Path("IF-I-M-v1.0"), super_resolution=Path("IF-II-M-v1.0"))
    pipeline.save_pretrained("imported")

The context layers are new and start at zero output, so without training references change nothing.
"""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..model_folders import ModelError
from ..pipeline import InstructImagenPipeline
from ..super_resolution import IFSuperResolutionUNet
from ..unet import InstructUNet
from .markers import add_markers
from .source import BackboneError, SourceKind, check_source, kind_of, load_source, read_index


def import_pipeline(
    source: Path,
    super_resolution: Path | None = None,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    **options: Any,
) -> InstructImagenPipeline:
    """Wraps a pretrained pipeline.

    Args:
        source: folder of an `IFPipeline` or a `StableDiffusionPipeline`.
        super_resolution: folder of an `IFSuperResolutionPipeline` with the same text encoder.
        dtype: precision of the networks; None: each as it is stored.
        variant: of the weights, such as "fp16"; None: the full ones.
        options: of `InstructUNet`, such as `context_places`.

    Returns:
        A pipeline with the original's own schedulers, steps and guidance.

    Raises:
        BackboneError: unsupported, incomplete or damaged.
    """
    kind = check_source(source, variant)
    second_kind = None if super_resolution is None else check_source(super_resolution, variant, super_resolution=True)
    original = load_source(source, kind, dtype, variant)
    tokenizer, text_encoder, vae = original.tokenizer, original.text_encoder, getattr(original, "vae", None)
    texts = {"text_tokens": kind.text_tokens or tokenizer.model_max_length, "lowercase_text": kind.lowercase_text}
    add_markers(tokenizer, text_encoder)
    try:
        unet = InstructUNet.from_backbone(original.unet, **texts, **options)
    except ValueError as error:
        raise BackboneError(f"the U-Net of {source} is not supported: {error}") from error
    num_steps, guidance = _defaults(original)
    pipeline = InstructImagenPipeline(
        tokenizer,
        text_encoder.eval(),
        unet.eval(),
        original.scheduler,
        vae=vae,
        default_steps=num_steps,
        default_guidance=guidance,
    )
    if super_resolution is None or second_kind is None:
        return pipeline
    second = load_source(super_resolution, second_kind, dtype, variant)
    return _joined(pipeline, second, second_kind, super_resolution)


def _joined(
    base: InstructImagenPipeline, second: DiffusionPipeline, kind: SourceKind, source: Path
) -> InstructImagenPipeline:
    """The cascade of an imported base model and a stage II."""
    config, text_dim = second.unet.config, base.text_encoder.config.hidden_size
    if (config.encoder_hid_dim or config.cross_attention_dim) != text_dim:
        raise BackboneError(f"{source} reads another text encoder than the base model's, which has {text_dim} channels")
    num_steps, guidance = _defaults(second)
    noising = second.image_noising_scheduler.config
    network = IFSuperResolutionUNet.from_backbone(
        second.unet,
        low_res_px=base.size_px,
        noising_config={key: value for key, value in noising.items() if not key.startswith("_")},
        noise_level=_parameter(second, "noise_level") / noising.num_train_timesteps,
        default_steps=num_steps,
        default_guidance=guidance,
        text_tokens=kind.text_tokens,
        lowercase_text=kind.lowercase_text,
    )
    parts = {**base.components, "super_resolution": network.eval(), "super_resolution_scheduler": second.scheduler}
    try:
        return InstructImagenPipeline(
            **parts, default_steps=base.config.default_steps, default_guidance=base.config.default_guidance
        )
    except ModelError as error:
        raise BackboneError(f"{source} does not fit: {error}") from error


def _defaults(original: DiffusionPipeline) -> tuple[int, float]:
    """Denoising steps and guidance scale that a pipeline's class takes by default."""
    return _parameter(original, "num_inference_steps"), _parameter(original, "guidance_scale")


def _parameter(original: DiffusionPipeline, name: str) -> Any:
    return inspect.signature(type(original).__call__).parameters[name].default


def left_out(source: Path, super_resolution: bool = False) -> list[str]:
    """Components of a source that an import leaves out, such as its safety checker."""
    index = read_index(source)
    kind = kind_of(index, source, super_resolution)
    present = [name for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None]
    return [name for name in present if name not in kind.components and name not in ("tokenizer", "text_encoder")]


def model_card(pipeline: InstructImagenPipeline, source: Path, super_resolution: Path | None = None) -> str:
    """What an imported model is, in Markdown; lies in its folder as README.md."""
    sources = [source] if super_resolution is None else [source, super_resolution]
    names = " and ".join(f"`{folder.name}` ({read_index(folder)['_class_name']})" for folder in sources)
    omitted = sorted({name for number, folder in enumerate(sources) for name in left_out(folder, bool(number))})
    added = pipeline.unet.num_context_parameters()
    total = sum(p.numel() for p in pipeline.unet.parameters()) - added
    lines = [
        f"# {source.name}, imported",
        "",
        f"Taken over from {names} by `instruct-imagen import`. It draws what the original draws;",
        "references change nothing before it is trained: `instruct-imagen train --preset adapt --init DIR --out RUN`.",
        "",
        f"* Denoiser: {total:,} parameters, and {added:,} new ones that read references.",
        f"* Pictures of {pipeline.output_size_px} pixels; {pipeline.config.default_steps} steps and a guidance of "
        f"{pipeline.config.default_guidance} by default, as the original's.",
        "* The tokenizer knows the markers [ref#1] to [ref#9] as tokens of their own.",
        "* The original's licence holds for this copy, too.",
    ]
    if omitted:
        lines.append(f"* Left out: {', '.join(omitted)}. Pictures are neither checked nor marked.")
    return "\n".join(lines) + "\n"


def save_import(pipeline: InstructImagenPipeline, out: Path, card: str) -> None:
    """Saves a pipeline and its card, whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        pipeline.save_pretrained(str(partial))
        (partial / "README.md").write_text(card, encoding="utf-8")
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
