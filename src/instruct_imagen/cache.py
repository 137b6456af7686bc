"""Keys and values of all attention layers, projected once, and which row of a batch reads which references.

Shape suffixes: B batch, H heads, N image tokens (h*w), L text tokens, R references, C channels, D head width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class LayerKeyValue:
    """Projected keys and values of one attention layer.

    Attributes:
        text_key, text_value: [B, H, L, D].
        context_key, context_value: [R, N, C], one entry per reference in the order of `ContextLayout`; None where
            nothing is read.
    """

    text_key: torch.Tensor
    text_value: torch.Tensor
    context_key: torch.Tensor | None = None
    context_value: torch.Tensor | None = None

    @classmethod
    def concat(cls, parts: Sequence[LayerKeyValue], order: torch.Tensor) -> LayerKeyValue:
        """The rows of all parts, padded to the longest text; references in the order that a `ContextLayout` gives."""

        def joined(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
            found = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(found)[order] if found else None

        return cls(
            concat_padded([part.text_key for part in parts], dim=2),
            concat_padded([part.text_value for part in parts], dim=2),
            joined([part.context_key for part in parts]),
            joined([part.context_value for part in parts]),
        )

    def map(self, text: Callable[[torch.Tensor], torch.Tensor], context: Callable[[torch.Tensor], torch.Tensor]):
        """Applies a function to the text's tensors and one to the context's."""
        if self.context_key is None or self.context_value is None:
            return LayerKeyValue(text(self.text_key), text(self.text_value))
        return LayerKeyValue(
            text(self.text_key), text(self.text_value), context(self.context_key), context(self.context_value)
        )


@dataclass(frozen=True)
class ContextLayout:
    """Which row reads which references. Nothing is padded: rows with equally many references attend together.

    Attributes:
        rows: int [M], the rows that have references, those with the fewest first.
        counts: how many each of `rows` has; their references follow each other in that order.
        repeats: how many pictures in a row of the batch share a row's references.
    """

    rows: torch.Tensor
    counts: tuple[int, ...]
    repeats: int = 1

    @classmethod
    def of(cls, mask_BR: torch.Tensor) -> tuple[ContextLayout, tuple[torch.Tensor, torch.Tensor]]:
        """The layout of padded references, and the (row, place) indices that pack them."""
        places = [[place for place, valid in enumerate(row) if valid] for row in mask_BR.tolist()]
        rows = sorted((row for row, found in enumerate(places) if found), key=lambda row: len(places[row]))
        pairs = torch.tensor([(row, place) for row in rows for place in places[row]], dtype=torch.long)
        layout = cls(_index(rows, mask_BR.device), tuple(len(places[row]) for row in rows))
        row_index, place_index = pairs.view(-1, 2).to(mask_BR.device).unbind(1)
        return layout, (row_index, place_index)

    def select(self, rows: torch.Tensor) -> tuple[ContextLayout, torch.Tensor]:
        """The layout of the given rows (of the repeated batch), and which references they take, in its order."""
        starts = itertools.accumulate(self.counts[:-1], initial=0)
        found = dict(zip(self.rows.tolist(), zip(self.counts, starts, strict=True), strict=True))
        asked = [(new, row // self.repeats) for new, row in enumerate(rows.tolist())]
        return self._gathered([(*found[row], new) for new, row in asked if row in found], rows.device)

    @classmethod
    def concat(cls, parts: Sequence[tuple[ContextLayout | None, int]]) -> tuple[ContextLayout, torch.Tensor]:
        """The layout of batches behind each other, and which of their references it takes, in its order.

        Args:
            parts: layout of each batch, whose rows share nothing (`repeats` of 1), and its number of rows.
        """
        taken, first_row, first_reference = [], 0, 0
        layouts = [layout for layout, _ in parts if layout is not None]
        for layout, num_rows in parts:
            if layout is not None:
                starts = itertools.accumulate(layout.counts[:-1], initial=first_reference)
                rows = (first_row + row for row in layout.rows.tolist())
                taken += list(zip(layout.counts, starts, rows, strict=True))
                first_reference += sum(layout.counts)
            first_row += num_rows
        return cls._gathered(taken, layouts[0].rows.device)

    @classmethod
    def _gathered(cls, taken: list[tuple[int, int, int]], device: torch.device) -> tuple[ContextLayout, torch.Tensor]:
        """The layout of (number of references, the first of them, row), and the references in its order."""
        taken = sorted(taken)
        layout = cls(_index([row for *_, row in taken], device), tuple(count for count, *_ in taken))
        return layout, _index([start + place for count, start, _ in taken for place in range(count)], device)

    def groups(self) -> Iterator[tuple[slice, slice, int]]:
        """For each number of references: the places in `rows`, the references, and that number."""
        row = reference = 0
        for count, equal in itertools.groupby(self.counts):
            num_rows = len(list(equal))
            yield slice(row, row + num_rows), slice(reference, reference + num_rows * count), count
            row, reference = row + num_rows, reference + num_rows * count


def _index(values: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.long).to(device)


@dataclass(frozen=True)
class KeyValueCache:
    """What every attention layer reads, in the order of `InstructUNet.context_layers`.

    Attributes:
        layers: one entry per attention layer that reads text.
        text_mask: bool [B, L], true where a text token counts; None where every token does, padding included.
        context: who reads which references; None when no instruction has one.
    """

    layers: tuple[LayerKeyValue, ...]
    text_mask: torch.Tensor | None
    context: ContextLayout | None = None

    def __len__(self) -> int:
        return len(self.layers[0].text_key)

    @classmethod
    def concat(cls, caches: Sequence[KeyValueCache]) -> KeyValueCache:
        """The rows of all caches; shorter texts are padded, and the padding is masked."""
        caches = [cache._unshared() for cache in caches]
        layout, order = None, _index([], caches[0].layers[0].text_key.device)
        if any(cache.context is not None for cache in caches):
            layout, order = ContextLayout.concat([(cache.context, len(cache)) for cache in caches])
        layers = tuple(LayerKeyValue.concat(parts, order) for parts in zip(*(c.layers for c in caches), strict=True))
        masks = [cache.text_mask for cache in caches if cache.text_mask is not None]
        return cls(layers, concat_padded(masks, dim=1) if masks else None, layout)

    def _unshared(self) -> KeyValueCache:
        """The same with references of its own for every row."""
        if self.context is None or self.context.repeats == 1:
            return self
        return self.select(torch.arange(len(self), device=self.context.rows.device))

    def select(self, rows: torch.Tensor) -> KeyValueCache:
        """The given rows, in the given order; rows may repeat."""
        layout, references = (None, rows) if self.context is None else self.context.select(rows)
        layers = tuple(layer.map(lambda x: x[rows], lambda x: x[references]) for layer in self.layers)
        mask = None if self.text_mask is None else self.text_mask[rows]
        return KeyValueCache(layers, mask, layout if layout and layout.counts else None)

    def repeat(self, times: int) -> KeyValueCache:
        """Every row `times` times, next to each other; the context is shared, not copied."""
        layout = None if self.context is None else replace(self.context, repeats=self.context.repeats * times)
        layers = tuple(layer.map(lambda x: repeat_rows(x, times), lambda x: x) for layer in self.layers)
        mask = None if self.text_mask is None else repeat_rows(self.text_mask, times)
        return KeyValueCache(layers, mask, layout)


def repeat_rows(x: torch.Tensor, times: int) -> torch.Tensor:
    """[B, ...] => [B * times, ...], equal rows next to each other; its gradient is a sum, not a scatter."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)


def concat_padded(parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    """Tensors one after the other along dimension 0, dimension `dim` padded with zeros to the longest."""
    longest = max(part.shape[dim] for part in parts)
    shape = list(parts[0].shape)
    shape[0], shape[dim] = sum(len(part) for part in parts), longest
    joined, start = parts[0].new_zeros(shape), 0
    for part in parts:
        joined[start : start + len(part)].narrow(dim, 0, part.shape[dim]).copy_(part)
        start += len(part)
    return joined
