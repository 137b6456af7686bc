"""Folders of models: a base model and a super-resolution joined into one cascade, without loading either.

A cascade is the base model's folder with `super_resolution/` and `super_resolution_scheduler/` beside its other parts.
Both networks read the text encoder of the base, so either may be replaced by one that was trained with the same.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from .errors import UserError
from .files import replacing, write_json

SECOND_NETWORK = "super_resolution"
SECOND_SCHEDULER = "super_resolution_scheduler"
INDEX = "model_index.json"


class CascadeError(UserError):
    """Two models that make no cascade."""


def link_or_copy(source: str, target: str) -> str:
    """A second name of a file where the file system allows it; models are replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def copy_base(model: Path, out: Path) -> None:
    """The base model of a folder alone, in a new folder; `out` appears whole or not at all.

    Raises:
        CascadeError: the model has no base network, or its files cannot be read.
    """
    index = read_base_index(model)
    ignored = shutil.ignore_patterns(SECOND_NETWORK, SECOND_SCHEDULER, INDEX)
    base = {key: value for key, value in index.items() if key not in (SECOND_NETWORK, SECOND_SCHEDULER)}
    with replacing(out) as partial:
        try:
            shutil.copytree(model, partial, copy_function=link_or_copy, ignore=ignored)
        except OSError as error:
            raise CascadeError(f"{model} cannot be copied: {error}") from error
        write_json(partial / INDEX, base)


def join(base: Path, second: Path, out: Path) -> None:
    """Writes the cascade of a base model and a super-resolution; `out` appears whole or not at all.

    Args:
        base: folder of a model with a base network.
        second: folder that holds the super-resolution and its scheduler; where it is a whole model, its text encoder
            must be that of the base.
        out: the new folder; replaced if it exists. It may be `base` or `second`.

    Raises:
        CascadeError: a part is missing, or the two do not fit.
    """
    parts = {name: _class_of(second / name) for name in (SECOND_NETWORK, SECOND_SCHEDULER)}
    check_fit(base, entry(second / SECOND_NETWORK / "config.json", "low_res_px"))
    if (second / INDEX).is_file():
        check_same_text(base, second)
    try:
        with replacing(out) as partial:
            copy_base(base, partial)
            for name in parts:
                shutil.copytree(second / name, partial / name, copy_function=link_or_copy)
            libraries = {SECOND_NETWORK: "instruct_imagen.super_resolution", SECOND_SCHEDULER: "diffusers"}
            entries = {name: [libraries[name], class_name] for name, class_name in parts.items()}
            write_json(partial / INDEX, {**read_index(partial), **entries})
    except OSError as error:
        raise CascadeError(f"{second} cannot be copied: {error}") from error


def replace_base(model: Path, out: Path, pipeline: DiffusionPipeline) -> None:
    """Writes a model whose base network and its scheduler are those of a pipeline, and whose rest is `model`'s.

    Args:
        model: folder of the model that was adapted; its other parts, a super-resolution too, are linked, not read.
        out: a new folder, which a failure leaves half-written.
        pipeline: the adapted model.
    """
    replaced = {"unet", "scheduler", "README.md", "training.json", "validation.jsonl", INDEX}

    def ignored(folder: str, _: list[str]) -> set[str]:
        return replaced if Path(folder) == model else set()  # a super-resolution says itself how it was trained

    shutil.copytree(model, out, copy_function=link_or_copy, ignore=ignored)
    pipeline.unet.save_pretrained(str(out / "unet"))
    pipeline.scheduler.save_pretrained(str(out / "scheduler"))
    kept = ("scheduler", "default_steps", "default_guidance", "default_image_guidance")
    write_json(out / INDEX, {**read_index(model), **{name: pipeline.config[name] for name in kept}})


def sizes(base: Path) -> tuple[int, tuple[int, int, int]]:
    """Side of a base model's pictures; channels and sides of what it denoises, which a VAE may make smaller.

    Raises:
        CascadeError: there is no base network, or a configuration is missing or damaged.
    """
    index = read_base_index(base)
    config, factor = base / "unet" / "config.json", 1
    if index.get("vae", [None])[0] is not None:
        factor = 2 ** (len(entry(base / "vae" / "config.json", "block_out_channels")) - 1)
    side = picture_size(base / "unet")
    channels = entry(config, "backbone_config", "in_channels") // entry(config, "patch_size") ** 2
    return side * factor, (channels, side, side)


def picture_size(network: Path) -> int:
    """Side in pixels, or in latents, of what a saved network denoises."""
    config = network / "config.json"
    return int(entry(config, "patch_size") * entry(config, "backbone_config", "sample_size"))


def check_fit(base: Path, low_res_px: int) -> None:
    """Raises CascadeError unless a base model draws pictures of the size that is enlarged."""
    size_px, _ = sizes(base)
    if size_px != low_res_px:
        raise CascadeError(f"the base model {base} draws {size_px} pixels, but {low_res_px} are enlarged")


def check_same_text(first: Path, second: Path) -> None:
    """Raises CascadeError unless two models have the same tokenizer and, byte for byte, the same text encoder."""
    tokenizers = [_tokenizer_of(model) for model in (first, second)]
    names = sorted(file.name for file in (first / "text_encoder").glob("*.safetensors"))
    if (
        tokenizers[0] != tokenizers[1]
        or names != sorted(file.name for file in (second / "text_encoder").glob("*.safetensors"))
        or any(
            not filecmp.cmp(first / "text_encoder" / name, second / "text_encoder" / name, shallow=False)
            for name in names
        )
    ):
        raise CascadeError(
            f"{second} was trained with another text encoder than {first}; train its super-resolution on that base"
        )


def _tokenizer_of(model: Path) -> dict[str, Any]:
    """A model's tokenizer, without how it was last called, which a saved one holds, too."""
    content = read_json(model / "tokenizer" / "tokenizer.json")
    return {key: value for key, value in content.items() if key not in ("truncation", "padding")}


def read_index(model: Path) -> dict[str, Any]:
    """What a model consists of: components that are there by name, and its own class and version."""
    return {key: value for key, value in read_json(model / INDEX).items() if value != [None, None]}


def read_base_index(model: Path) -> dict[str, Any]:
    """The same of a model that has a base network.

    Raises:
        CascadeError: it has none, or see `read_json`.
    """
    index = read_index(model)
    if index.get("unet", [None])[0] is None:
        raise CascadeError(f"{model} has no base network")
    return index


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CascadeError: missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CascadeError(f"{path} is missing or damaged: {error}") from error
    if not isinstance(content, dict):
        raise CascadeError(f"{path} is damaged: it holds no JSON object")
    return content


def entry(path: Path, *keys: str) -> Any:
    """A value inside a JSON file.

    Raises:
        CascadeError: the file is missing or damaged, or has no such value.
    """
    value: Any = read_json(path)
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise CascadeError(f"{path} is damaged: it holds no {'.'.join(keys)}")
        value = value[key]
    return value


def _class_of(component: Path) -> str:
    """Name of a saved component's class."""
    configs = [component / name for name in ("config.json", "scheduler_config.json") if (component / name).is_file()]
    if not configs:
        raise CascadeError(f"{component.parent} has no {component.name}")
    return str(entry(configs[0], "_class_name"))
