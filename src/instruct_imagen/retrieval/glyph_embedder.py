"""A small dual encoder for the glyph world: 64 x 64 pictures by a CNN, captions by a bag of hashed pieces.

No public CLIP knows halftone foxes on striped grounds at 64 pixels, and none can be counted on where there is no
network. `train_glyph_embedder` makes the weights, on the training split alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..files import write_atomically
from ..pictures import fit_square
from .embedders import EmbedderError, in_batches, pick_device

WEIGHTS = Path(__file__).resolve().parent / "weights" / "glyph_embedder.safetensors"
SIZE_PX = 64
MAX_WEIGHT_BYTES = 12 * 2**20
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class GlyphNetConfig:
    """Size of the network.

    Attributes:
        widths: channels at 32, 16, 8, ... pixels a side; at most six entries.
        num_blocks: residual blocks at each.
        num_buckets: rows of the table of hashed text pieces.
        text_width: width of that table.
        subject_dim: numbers that say what is shown.
        scene_dim: numbers that say how and where.
        scene_share: of the likeness of two things, how much is that of their scenes; 0..1.
    """

    widths: tuple[int, ...] = (32, 64, 160)
    num_blocks: tuple[int, ...] = (0, 1, 2)
    num_buckets: int = 8192
    text_width: int = 128
    subject_dim: int = 192
    scene_dim: int = 64
    scene_share: float = 0.3

    @property
    def dim(self) -> int:
        """Length of the embeddings."""
        return self.subject_dim + self.scene_dim


def text_pieces(text: str, num_buckets: int) -> list[int]:
    """Words, pairs of neighbouring words and three-letter parts of a text, hashed to 0..num_buckets-1; never empty.

    Hashing (crc32, equal on every machine) takes the place of a vocabulary file; pairs of words keep what belongs
    together ("red background", "left of"), parts of words relate "fox" to "foxes".
    """
    words = _WORD.findall(text.lower())
    pieces = [f"w {word}" for word in words]
    pieces += [f"p {one} {two}" for one, two in zip(["^", *words], [*words, "$"], strict=True)]
    for word in words:
        marked = f"<{word}>"
        pieces += [f"t {marked[i : i + 3]}" for i in range(len(marked) - 2)]
    return [zlib.crc32(piece.encode()) % num_buckets for piece in pieces]


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a short cut; [B, W, S, S] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(values + self.body(values))


class GlyphNet(nn.Module):
    """Both encoders and the temperature of the losses.

    An embedding has two parts of unit length, weighted: what is shown, and how and where. So the likeness of two
    pictures is, in fixed shares, that of their subjects and that of their scenes, and neighbours show one thing on
    whatever ground. The first part is pooled where the network looks, which training supervises by the masks.
    """

    def __init__(self, config: GlyphNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GlyphNetConfig()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        channels = 12
        for level, (width, count) in enumerate(zip(config.widths, config.num_blocks, strict=True)):
            layers += [
                nn.Conv2d(channels, width, 3, stride=2 if level else 1, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                *(_Block(width) for _ in range(count)),
            ]
            channels = width
        self.image_body = nn.Sequential(*layers)
        self.gaze = nn.Conv2d(channels, 1, 1)
        self.subject_head = nn.Linear(channels, config.subject_dim)
        self.scene_head = nn.Linear(2 * channels, config.scene_dim)
        self.text_table = nn.EmbeddingBag(config.num_buckets, config.text_width, mode="mean")
        self.text_head = nn.Sequential(
            nn.LayerNorm(config.text_width),
            nn.Linear(config.text_width, 4 * config.text_width),
            nn.GELU(),
            nn.Linear(4 * config.text_width, config.dim),
        )
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))

    def images(self, pictures: Tensor) -> Tensor:
        """Pictures, float [B, 3, 64, 64] in -1..1, as float [B, D] of unit length."""
        return self.look(self.image_body(pictures))[0]

    def look(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is made of the body's map, float [B, C, S, S].

        Returns:
            Embeddings, float [B, D] of unit length; and where the subjects are thought to be, logits [B, S, S].
        """
        gaze = self.gaze(values)
        subjects = self.subjects(values, gaze.sigmoid().square().flatten(1))  # squared, what is doubtful counts less
        scene = self.scene_head(torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1))
        return self._joined(subjects, scene), gaze[:, 0]

    def subjects(self, values: Tensor, weights: Tensor) -> Tensor:
        """What is shown where the weights are, float [B, subject_dim] of any length.

        Args:
            values: float [B, C, S, S].
            weights: float [B, S * S], not negative.
        """
        shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
        return self.subject_head(torch.einsum("bcp,bp->bc", values.flatten(2), shares))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts as float [B, D] of unit length."""
        pieces = [text_pieces(text, self.config.num_buckets) for text in texts]
        place = self.text_table.weight.device
        starts = np.cumsum([0, *(len(row) for row in pieces[:-1])])
        flat = torch.tensor([piece for row in pieces for piece in row], device=place)
        values = self.text_head(self.text_table(flat, torch.from_numpy(starts).to(place)))
        return self._joined(values[:, : self.config.subject_dim], values[:, self.config.subject_dim :])

    def _joined(self, subjects: Tensor, scenes: Tensor) -> Tensor:
        share = self.config.scene_share
        parts = normalize(subjects.float(), dim=1) * (1 - share) ** 0.5, normalize(scenes.float(), dim=1) * share**0.5
        return torch.cat(parts, 1)


def as_input(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures, uint8 [64, 64, 3] each, as float [B, 3, 64, 64] in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def save_net(net: GlyphNet, path: Path) -> None:
    """Writes a network in half precision, with its size in the file's metadata."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in net.state_dict().items()
    }
    metadata = {"config": json.dumps(asdict(net.config))}
    write_atomically(path, lambda partial: save_file(tensors, partial, metadata))


def load_net(path: Path) -> GlyphNet:
    """Reads what `save_net` wrote, in evaluation mode.

    Raises:
        EmbedderError: it is not there, or is not such a file.
    """
    command = "python -m instruct_imagen.retrieval.train_glyph_embedder --out FOLDER --minutes M"
    if not path.is_file():
        raise EmbedderError(f"The glyph embedder's weights {path} are not there; train them with `{command}`.")
    try:
        with safe_open(path, "pt") as file:
            content = json.loads(file.metadata()["config"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        net = GlyphNet(GlyphNetConfig(**sizes))
        net.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in tensors.items()})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EmbedderError(f"{path} holds no glyph embedder ({error}); train one with `{command}`.") from error
    return net.eval()


@dataclass(frozen=True)
class GlyphEmbedder:
    """The dual encoder with trained weights.

    Attributes:
        weights: file of `save_net`; the shipped one by default.
        device: "auto", "cpu", "cuda", ...
        batch_size: pictures or texts at once.
    """

    weights: Path = WEIGHTS
    device: str = "auto"
    batch_size: int = 256

    @property
    def name(self) -> str:
        """Changes with the weights."""
        _load(self.weights, self.device)
        return f"glyph {hashlib.sha256(self.weights.read_bytes()).hexdigest()[:12]}"

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return _load(self.weights, self.device).config.dim

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """The largest centred square of each picture, at 64 pixels, as float32 [N, D]."""
        net, place = _load(self.weights, self.device), pick_device(self.device)

        def embed(batch: Sequence[Image.Image]) -> Tensor:
            squares = [np.asarray(fit_square(image, SIZE_PX)) for image in batch]
            return net.images(as_input(squares).to(place))

        return in_batches(images, self.batch_size, self.dim, embed)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts as float32 [N, D]."""
        net = _load(self.weights, self.device)
        return in_batches(texts, self.batch_size, self.dim, net.texts)


@lru_cache(maxsize=2)
def _load(weights: Path, device: str) -> GlyphNet:
    return load_net(weights).to(pick_device(device))
