"""Embedders: pictures and texts as unit vectors of one space, whose inner product says how alike they are.

An embedder is a small frozen object that travels to worker processes; what is heavy in it is loaded there, once in
each process, when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import UserError

_Item = TypeVar("_Item")


class EmbedderError(UserError):
    """An embedder that cannot be loaded."""


class Embedder(Protocol):
    """Pictures and texts in one space."""

    @property
    def name(self) -> str:
        """Says which embedder it is and which weights it has; embeddings of two names are never mixed."""
        ...

    @property
    def dim(self) -> int:
        """Length D of the vectors."""
        ...

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures of any size as float32 [N, D] of unit length."""
        ...

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts as float32 [N, D] of unit length."""
        ...


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors, float [N, D], as float32 of length 1; a vector of zeros stays as it is."""
    values = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(lengths, 1e-12)


def pick_device(device: str) -> torch.device:
    """`"auto"` is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def in_batches(
    items: Sequence[_Item], batch_size: int, dim: int, embed: Callable[[Sequence[_Item]], Tensor]
) -> np.ndarray:
    """Embeds batch by batch.

    Args:
        items: pictures or texts.
        batch_size: how many at once.
        dim: D.
        embed: a batch of B items -> float [B, D] on any device.

    Returns:
        float32 [N, D] of unit length.
    """
    vectors = np.zeros((len(items), dim), np.float32)
    for start, batch in _batches(items, batch_size):
        with torch.inference_mode():
            vectors[start : start + len(batch)] = embed(batch).float().cpu().numpy()
    return unit_length(vectors)


def _batches(items: Sequence[_Item], batch_size: int) -> Iterator[tuple[int, Sequence[_Item]]]:
    for start in range(0, len(items), batch_size):
        yield start, items[start : start + batch_size]


@dataclass(frozen=True)
class ClipEmbedder:
    """CLIP (Radford et al. 2021) from transformers, as the paper clusters by it.

    Attributes:
        model: folder, or name on a model hub, of a `CLIPModel` with its tokenizer and image processor.
        device: "auto", "cpu", "cuda", ...; half precision on a GPU.
        batch_size: pictures or texts at once.
        local_files_only: never ask the hub, not even for a name; False allows a download.
    """

    model: str
    device: str = "auto"
    batch_size: int = 64
    local_files_only: bool = True

    @property
    def name(self) -> str:
        """The model's name."""
        return f"clip {self.model}"

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self._parts.model.config.projection_dim)

    @property
    def _parts(self) -> _ClipParts:
        return _load_clip(self.model, self.device, self.local_files_only)

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures as float32 [N, D]."""
        parts = self._parts

        def embed(batch: Sequence[Image.Image]) -> Tensor:
            pixels = parts.processor(images=list(batch), return_tensors="pt")["pixel_values"].to(parts.place)
            pooled = parts.model.vision_model(pixel_values=pixels.to(parts.model.dtype)).pooler_output
            return parts.model.visual_projection(pooled)

        return in_batches(images, self.batch_size, self.dim, embed)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts, cut at the model's longest, as float32 [N, D]."""
        parts = self._parts

        def embed(batch: Sequence[str]) -> Tensor:
            longest = parts.model.config.text_config.max_position_embeddings
            tokens = parts.tokenizer(
                list(batch), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(parts.place)
            pooled = parts.model.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
            return parts.model.text_projection(pooled)

        return in_batches(texts, self.batch_size, self.dim, embed)


@dataclass(frozen=True)
class _ClipParts:
    model: Any
    tokenizer: Any
    processor: Any
    place: torch.device


@lru_cache(maxsize=2)
def _load_clip(name: str, device: str, local_files_only: bool) -> _ClipParts:
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    try:
        model: nn.Module = CLIPModel.from_pretrained(name, local_files_only=local_files_only)
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local_files_only)
        # the processor that works with Pillow alone: the other one needs torchvision
        processor = AutoImageProcessor.from_pretrained(name, backend="pil", local_files_only=local_files_only)
    except (OSError, ValueError, ImportError) as error:
        raise EmbedderError(
            f"The CLIP model {name!r} cannot be loaded; name a folder that holds one, or allow the download "
            f"({str(error).splitlines()[0]})."
        ) from error
    place = pick_device(device)
    model = model.to(place, torch.float16 if place.type == "cuda" else torch.float32).eval()
    return _ClipParts(model, tokenizer, processor, place)
