"""Depth and object masks by models of the transformers library, as `controls.ControlModels` takes them.

Each adapter is a small frozen object that travels to worker processes; its weights are loaded there, once in each
process, when it is first used. Nothing is downloaded unless `local_files_only` is switched off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from .report import DataError

_DISTANCE_TYPES = ("depth_pro", "glpn", "zoedepth")  # predict metres; the others predict nearness up to a scale
_QUERY_TYPES = ("eomt", "mask2former", "maskformer")  # masks with class scores, not one class for each pixel
_GROUND_WORDS = frozenset(
    "background ceiling curtain earth field fence floor flooring grass ground hill land mountain path pavement "
    "platform river road route runway sand sea sidewalk sky snow street wall water".split()
)


@dataclass(frozen=True)
class TransformersDepth:
    """Depth by any model for depth estimation, such as DPT (MiDaS, as in the paper) or Depth Anything.

    Attributes:
        model: folder of the model and its image processor, or its name on a model hub.
        device: "auto" (the GPU where there is one), "cpu", "cuda", ...
        local_files_only: never ask the hub.
        metric: whether the model predicts distance rather than nearness; None: its configuration tells.
    """

    model: str
    device: str = "auto"
    local_files_only: bool = True
    metric: bool | None = None

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB [H, W] to float32 [H, W], 0 farthest to 1 nearest.

        Raises:
            DataError: the model cannot be loaded.
        """
        network, processor = _load("AutoModelForDepthEstimation", self.model, self.device, self.local_files_only)
        size = (image.height, image.width)
        kind = network.config.model_type
        with torch.inference_mode():
            output = network(**_pixels(processor, image, network))
            sizes = {"target_sizes": [size]} | ({"source_sizes": [size]} if kind == "zoedepth" else {})
            found = processor.post_process_depth_estimation(output, **sizes)[0]["predicted_depth"]
        values = np.nan_to_num(found.float().cpu().numpy().reshape(size), nan=0.0)
        metric = self.metric
        if metric is None:
            metric = kind in _DISTANCE_TYPES or getattr(network.config, "depth_estimation_type", "") == "metric"
        return stretched(1 / np.maximum(values, 1e-3) if metric else values)


@dataclass(frozen=True)
class TransformersMask:
    """The object by a model for semantic segmentation: SegFormer, UperNet, MaskFormer, Mask2Former, ...

    Departure: the paper takes a detector of salient objects. A model that tells only two classes is used as one;
    of a model with many, the mask is the class that fills most of the middle of the picture, ground aside.

    Attributes:
        model: folder of the model and its image processor, or its name on a model hub.
        device: "auto" (the GPU where there is one), "cpu", "cuda", ...
        local_files_only: never ask the hub.
        labels: names of the model's classes that make up the object; none: chosen as said above.
    """

    model: str
    device: str = "auto"
    local_files_only: bool = True
    labels: tuple[str, ...] = ()

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB [H, W] to bool [H, W]; all False where nothing is found.

        Raises:
            DataError: the model cannot be loaded, or has no class of a name in `labels`.
        """
        network, processor = _load("segmentation", self.model, self.device, self.local_files_only)
        names = {int(number): str(name).lower() for number, name in network.config.id2label.items()}
        wanted = _wanted(names, self.labels)
        size = (image.height, image.width)
        with torch.inference_mode():
            output = network(**_pixels(processor, image, network))
            classes = processor.post_process_semantic_segmentation(output, target_sizes=[size])[0].cpu().numpy()
        return np.isin(classes, wanted) if wanted else central_class(classes, names)


def stretched(nearness: np.ndarray) -> np.ndarray:
    """Float [H, W] of any scale as float32 0..1, the outermost hundredths cut; all 0 if it is flat."""
    lowest, highest = np.percentile(nearness, (1, 99))
    if not highest > lowest:
        return np.zeros(nearness.shape, np.float32)
    return np.clip((nearness - lowest) / (highest - lowest), 0, 1).astype(np.float32)


def central_class(classes: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """Where the class is that fills most of the middle, ground aside.

    Args:
        classes: whole numbers [H, W].
        names: the classes' names, lower case.

    Returns:
        bool [H, W]; all False if there is nothing but ground.
    """
    height, width = classes.shape
    across, down = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    weights = np.exp(-2 * (across[None, :] ** 2 + down[:, None] ** 2))
    totals = {
        int(number): float(weights[classes == number].sum())
        for number in np.unique(classes)
        if not _GROUND_WORDS & set(re.split(r"[^a-z]+", names.get(int(number), "")))
    }
    return classes == max(totals, key=lambda number: totals[number]) if totals else np.zeros(classes.shape, bool)


def _wanted(names: Mapping[int, str], labels: tuple[str, ...]) -> list[int]:
    """The classes that are the object; none if the picture is to decide."""
    for label in labels:
        if label.lower() not in names.values():
            raise DataError(f"The mask model has no class {label!r}; it has {', '.join(sorted(names.values())[:20])}.")
    if labels:
        chosen = {label.lower() for label in labels}
        return [number for number, name in names.items() if name in chosen]
    return [1] if len(names) == 2 else []


def _pixels(processor: Any, image: Image.Image, network: Any) -> dict[str, torch.Tensor]:
    values = processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
    return {"pixel_values": values.to(network.device, network.dtype)}


@lru_cache(maxsize=4)
def _load(kind: str, name: str, device: str, local_files_only: bool) -> tuple[Any, Any]:
    """The network, ready to be used, and its image processor."""
    import transformers

    try:
        if kind == "segmentation":
            config = transformers.AutoConfig.from_pretrained(name, local_files_only=local_files_only)
            queries = config.model_type in _QUERY_TYPES
            kind = "AutoModelForUniversalSegmentation" if queries else "AutoModelForSemanticSegmentation"
        network = getattr(transformers, kind).from_pretrained(name, local_files_only=local_files_only)
        # the processor that works with Pillow alone: the other one needs torchvision
        processor = transformers.AutoImageProcessor.from_pretrained(
            name, backend="pil", local_files_only=local_files_only
        )
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"The model {name!r} cannot be loaded; name a folder that holds a model and its preprocessor_config.json, "
            f"or allow the download ({(str(error).splitlines() or ['no reason given'])[0]})."
        ) from error
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.to(device).eval(), processor
