"""Folders of diffusers pipelines: which are supported, what they must hold, and reading them.

Everything that can be told from the configurations is checked before a weight is read. Weights are read from
safetensors alone, never from pickles.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import UserError

_WEIGHTS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


class BackboneError(UserError):
    """A source that cannot be imported; the message says why, and what would do."""


@dataclass(frozen=True)
class SourceKind:
    """What is known of a supported pipeline class.

    Attributes:
        networks: components with weights, and their classes.
        others: components without.
        text_tokens: tokens that every text is padded to; None: as many as the tokenizer's own limit.
        lowercase_text: whether texts are lowered first.
        class_embed_type: of its U-Net.
    """

    networks: Mapping[str, str]
    others: tuple[str, ...]
    text_tokens: int | None = None
    lowercase_text: bool = False
    class_embed_type: str | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """Folders that are read."""
        return (*self.networks, *self.others)


_UNET = {"unet": "UNet2DConditionModel"}
_IF_TEXTS: dict[str, Any] = {"text_tokens": 77, "lowercase_text": True}
BASE_KINDS: dict[str, SourceKind] = {
    "IFPipeline": SourceKind({"text_encoder": "T5EncoderModel", **_UNET}, ("tokenizer", "scheduler"), **_IF_TEXTS),
    "StableDiffusionPipeline": SourceKind(
        {"text_encoder": "CLIPTextModel", **_UNET, "vae": "AutoencoderKL"}, ("tokenizer", "scheduler")
    ),
}
# The text encoder is that of the base model; those of DeepFloyd IF's stages are the same.
SUPER_RESOLUTION_KINDS: dict[str, SourceKind] = {
    "IFSuperResolutionPipeline": SourceKind(
        _UNET, ("scheduler", "image_noising_scheduler"), class_embed_type="timestep", **_IF_TEXTS
    ),
}


def find_source(name: str, download: bool = False, variant: str | None = None, super_resolution: bool = False) -> Path:
    """The folder of a source.

    Args:
        name: a folder, or with `download` the name of a pipeline on a model hub, such as DeepFloyd/IF-I-M-v1.0.
        download: whether the hub may be asked.
        variant: of the weights, such as "fp16"; None: the full ones.
        super_resolution: whether the second network of a cascade is wanted.

    Raises:
        BackboneError: no such folder, or the hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise BackboneError(f"{name} is a file; name the folder of a diffusers pipeline, with its model_index.json")
    if not download:
        raise BackboneError(f"there is no folder {name}; a name on a model hub needs --download")
    return _download(name, variant, super_resolution)


def _download(name: str, variant: str | None, super_resolution: bool) -> Path:
    """Fetches the components that are read, their weights in safetensors, into the hub's cache."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        index = read_json(Path(hf_hub_download(name, "model_index.json")))
        parts = kind_of(index, name, super_resolution).components
        files = [pattern for part in parts for pattern in (f"{part}/*.json", f"{part}/*.txt", f"{part}/*.model")]
        stem = "" if variant is None else f".{variant}"
        weights = [
            f"{part}/{_WEIGHTS[part]}{stem}{shard}.safetensors"
            for part in parts
            if part in _WEIGHTS
            for shard in ("", "-0*")
        ]
        return Path(snapshot_download(name, allow_patterns=["model_index.json", *files, *weights]))
    except GatedRepoError as error:
        raise BackboneError(f"{name} asks for its licence to be accepted: do so on its page, then log in") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BackboneError(f"{name} is neither a folder nor a pipeline on the model hub") from error
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise BackboneError(f"{name} cannot be fetched from the model hub: {reason}") from error


def read_index(folder: Path) -> dict[str, Any]:
    """The model_index.json of a pipeline's folder.

    Raises:
        BackboneError: the folder is something else, or the file is damaged.
    """
    index = folder / "model_index.json"
    if index.is_file():
        return read_json(index)
    if (folder / "config.json").is_file():
        what = read_json(folder / "config.json").get("_class_name", "network")
        raise BackboneError(f"{folder} is a single {what}; name the folder of the whole pipeline above it")
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.ckpt")):
        raise BackboneError(f"{folder} holds weights in one file; convert them to the layout of diffusers first")
    raise BackboneError(f"{folder} holds no model_index.json, so it is no diffusers pipeline")


def kind_of(index: Mapping[str, Any], name: object, super_resolution: bool = False) -> SourceKind:
    """What is known of a pipeline's class.

    Args:
        index: its model_index.json.
        name: of the source, for messages.
        super_resolution: whether the second network of a cascade is wanted.

    Raises:
        BackboneError: the class is not supported, or is of the other network.
    """
    found = index.get("_class_name")
    wanted, other = (BASE_KINDS, SUPER_RESOLUTION_KINDS)[:: -1 if super_resolution else 1]
    if found in wanted:
        return wanted[found]
    if found == "InstructImagenPipeline":
        raise BackboneError(f"{name} is an Instruct-Imagen model already; use it as it is")
    if found in other and super_resolution:
        raise BackboneError(f"{name} is a base model; --super-resolution takes a {', '.join(SUPER_RESOLUTION_KINDS)}")
    if found in other:
        raise BackboneError(f"{name} is a super-resolution; import its base model, and name it with --super-resolution")
    raise BackboneError(f"{name} is a {found}, which is not supported; supported are {', '.join(wanted)}")


def check_source(folder: Path, variant: str | None = None, super_resolution: bool = False) -> SourceKind:
    """Checks everything that can be told without reading weights.

    Raises:
        BackboneError: unsupported, incomplete or damaged.
    """
    index = read_index(folder)
    kind = kind_of(index, folder, super_resolution)
    for component in kind.components:
        if index.get(component, [None])[0] is None:
            raise BackboneError(f"{folder} was saved without its {component}; import the complete pipeline")
        if not (folder / component).is_dir():
            raise BackboneError(f"{folder} is incomplete: the folder {component} is missing")
    for component, expected in kind.networks.items():
        if index[component][1] != expected:
            raise BackboneError(f"the {component} of {folder} is a {index[component][1]}; only {expected} is supported")
        weight_files(folder / component, variant)
        read_json(folder / component / "config.json")
    check_unet(read_json(folder / "unet" / "config.json"), kind.class_embed_type)
    return kind


def check_unet(config: Mapping[str, Any], class_embed_type: str | None) -> None:
    """Refuses U-Nets that need inputs besides text and the noisy picture.

    Raises:
        BackboneError: naming the option.
    """
    supported: dict[str, tuple[object, ...]] = {
        "addition_embed_type": (None, "text"),
        "encoder_hid_dim_type": (None, "text_proj"),
        "class_embed_type": (class_embed_type,),
        "num_class_embeds": (None,),
        "time_cond_proj_dim": (None,),
        "attention_type": (None, "default"),
        "dual_cross_attention": (None, False),
    }
    for option, values in supported.items():
        if config.get(option) not in values:
            raise BackboneError(f"the U-Net has {option}={config[option]!r}, which is not supported")
    if not isinstance(config.get("cross_attention_dim"), int) or not isinstance(config.get("sample_size"), int):
        raise BackboneError("the U-Net must have one cross_attention_dim and a square sample_size")


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a network, one or several shards.

    Raises:
        BackboneError: there is none, or one is damaged.
    """
    shape = re.compile(rf"[^.]+{'' if variant is None else re.escape('.' + variant)}(-\d+-of-\d+)?\.safetensors")
    files = sorted(file for file in folder.iterdir() if shape.fullmatch(file.name))
    if not files:
        other = sorted(f.name for f in folder.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".safetensors"))
        wanted = "full weights in safetensors" if variant is None else f"safetensors of variant {variant!r}"
        raise BackboneError(f"{folder} holds {f'only {other[0]}' if other else 'no weights'}; {wanted} are needed")
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
        except (OSError, SafetensorError) as error:
            raise BackboneError(f"{file} is damaged: {str(error).splitlines()[0]}") from error
    return files


def stored_dtype(folder: Path, variant: str | None = None) -> torch.dtype:
    """The precision that most of a network's tensors are stored in."""
    with safe_open(weight_files(folder, variant)[0], framework="pt") as tensors:
        found = Counter(tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118 - no mapping
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(found.most_common(1)[0][0], torch.float32)


def load_source(folder: Path, kind: SourceKind, dtype: torch.dtype | None = None, variant: str | None = None) -> Any:
    """The diffusers pipeline in a folder, with the components of its kind alone.

    Args:
        folder: checked with `check_source`.
        kind: what that returned.
        dtype: precision of its networks; None: each as it is stored.
        variant: of its weights.

    Raises:
        BackboneError: it does not load.
    """
    import diffusers

    index = read_index(folder)
    dtypes = {name: dtype or stored_dtype(folder / name, variant) for name in kind.networks}
    without: dict[str, Any] = {
        name: None for name, entry in index.items() if isinstance(entry, list) and name not in kind.components
    }
    try:
        pipeline = getattr(diffusers, index["_class_name"]).from_pretrained(
            str(folder),
            dtype={**dtypes, "default": torch.float32},
            local_files_only=True,
            use_safetensors=True,
            requires_safety_checker=False,
            variant=variant,
            **without,
        )
    except ImportError as error:
        raise BackboneError(
            f"a part of {folder} needs a library that is not installed: {_first_line(error)}; "
            "install instruct-imagen[backbones]"
        ) from error
    except Exception as error:  # diffusers, transformers, tokenizers and safetensors each raise their own
        raise BackboneError(f"{folder} is damaged or incomplete: {_first_line(error)}") from error
    for name in kind.networks:
        if any(tensor.is_meta for tensor in getattr(pipeline, name).state_dict().values()):
            raise BackboneError(f"{folder} is incomplete: its {name} lacks weights")
    return pipeline


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BackboneError: missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackboneError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BackboneError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path} is damaged: it holds no JSON object")
    return content
