"""Markers in the vocabulary of a pretrained text encoder (A.3)."""

from __future__ import annotations

import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tokenizer import MARKER_TOKENS


def add_markers(tokenizer: PreTrainedTokenizerBase, text_encoder: PreTrainedModel) -> None:
    """Makes [ref#1] .. [ref#9] single tokens, in place; texts without markers are encoded as before.

    The encoder stays frozen, so a marker's embedding is not learned: it is the mean of those of the pieces that its
    spelling had before, which tells the markers apart. T5 has spare rows in its table; CLIP's is enlarged.
    """
    pieces = [tokenizer(marker, add_special_tokens=False)["input_ids"] for marker in MARKER_TOKENS]
    tokenizer.add_tokens(
        [AddedToken(marker, special=True, normalized=False) for marker in MARKER_TOKENS], special_tokens=True
    )
    if len(tokenizer) > text_encoder.get_input_embeddings().num_embeddings:
        text_encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for marker, parts in zip(MARKER_TOKENS, pieces, strict=True):
            table[tokenizer.convert_tokens_to_ids(marker)] = table[parts].float().mean(0).to(table.dtype)
