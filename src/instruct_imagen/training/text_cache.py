"""States of texts that a frozen text encoder has read, kept for when the same text comes again.

A large frozen encoder (the paper's T5-XXL) costs more than the network that is trained, and a data set on disk shows
its texts once an epoch. A text is encoded alone, without padding, so that its states depend on nothing but the text
and the encoder: whether they come from the cache makes no difference, to the last bit, and a run resumes exactly.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..files import make_folder, write_atomically

MEMORY = "memory"  # in place of a folder
MAX_MEMORY_BYTES = 1 << 30
_STATES = "states"


def encoder_digest(encoder: nn.Module) -> str:
    """A hash of an encoder's weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


class TextCache:
    """States by text, in memory up to a number of bytes, and in a folder if one is given.

    Args:
        place: `MEMORY`, or a folder; several processes and runs may share it, since a state is written beside and
            renamed, and named by its text and encoder.
        max_bytes: kept in memory.
    """

    def __init__(self, place: str, max_bytes: int = MAX_MEMORY_BYTES):
        self.folder = None if place == MEMORY else make_folder(Path(place))
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> torch.Tensor | None:
        """States on the CPU, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self.folder is None or not self._file(key).is_file():
            return None
        try:
            states = load_file(self._file(key))[_STATES]
        except (OSError, SafetensorError, KeyError):
            return None  # damaged: made again
        self._keep(key, states)
        return states

    def put(self, key: str, states: torch.Tensor) -> None:
        """Keeps states [L, E], on the CPU."""
        self._keep(key, states)
        if self.folder is not None:
            file = self._file(key)
            make_folder(file.parent)
            write_atomically(file, lambda path: save_file({_STATES: states}, path))

    def _file(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.safetensors"

    def _keep(self, key: str, states: torch.Tensor) -> None:
        self._kept[key] = states
        self._bytes += states.nbytes
        while self._bytes > self.max_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


class CachedTextEncoder:
    """Reads texts as a frozen text encoder does, each at most once.

    Args:
        encoder: the frozen encoder.
        cache: where states are kept.
        reads_padding: whether the states of padding are wanted, too, see `TextFormat`; texts then have one length.
    """

    def __init__(self, encoder: nn.Module, cache: TextCache, reads_padding: bool = False):
        self.encoder, self.cache, self.reads_padding = encoder, cache, reads_padding
        self.config: Any = encoder.config
        self._digest: str | None = None

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> SimpleNamespace:
        """States of B texts, zero where there is no token unless padding is wanted, too.

        Args:
            input_ids, attention_mask: [B, L] as for the encoder, padded on the right; without a mask padding is read
                like words.

        Returns:
            An object with `last_hidden_state` [B, L, E].
        """
        words = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self.reads_padding:
            rows = [self._states(ids, mask) for ids, mask in zip(input_ids, words, strict=True)]
            return SimpleNamespace(last_hidden_state=torch.stack(rows))
        rows = [self._states(ids[mask.bool()]) for ids, mask in zip(input_ids, words, strict=True)]
        padded = rows[0].new_zeros(*input_ids.shape, rows[0].shape[-1])
        for row, states in zip(padded, rows, strict=True):
            row[: len(states)] = states
        return SimpleNamespace(last_hidden_state=padded)

    def _states(self, ids: torch.Tensor, words: torch.Tensor | None = None) -> torch.Tensor:
        key = self._key(ids)  # which tokens are padding, they say themselves
        states = self.cache.get(key)
        if states is None:
            mask = torch.ones_like(ids) if words is None else words
            states = self.encoder(input_ids=ids[None], attention_mask=mask[None]).last_hidden_state[0].cpu()
            self.cache.put(key, states.contiguous())
        return states.to(ids.device)

    def _key(self, ids: torch.Tensor) -> str:
        """Names a text, the encoder, and the precision it computes in."""
        if self._digest is None:
            self._digest = encoder_digest(self.encoder)
        kind = ids.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        settings: Mapping[str, object] = {"encoder": self._digest, "device": kind, "precision": precision}
        text = ",".join(map(str, ids.tolist()))
        return hashlib.blake2b(f"{settings} {text}".encode(), digest_size=20).hexdigest()
