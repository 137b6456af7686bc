"""Texts to tokens: how each network wants them, and the tokenizer of the project's own small T5 encoder.

That one is BPE over the project's texts, markers as special tokens (A.3). T5's own tokenizer is a Unigram model; on a
corpus of a few thousand words BPE keeps more words whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .instruction import MAX_MARKERS, marker_token

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MARKER_TOKENS = tuple(marker_token(number) for number in range(1, MAX_MARKERS + 1))


@dataclass(frozen=True)
class TextFormat:
    """How a network expects its texts.

    Attributes:
        num_tokens: every text is padded or cut to so many tokens, and the network reads the padding like words, as
            DeepFloyd IF and Stable Diffusion were trained to; None: padded to the longest, padding left unread.
        lowercase: texts are lowered and stripped first (DeepFloyd IF).
    """

    num_tokens: int | None = None
    lowercase: bool = False

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids [B, L] and bool [B, L], which of them are words and not padding."""
        batch = tokenizer(
            [text.lower().strip() if self.lowercase else text for text in texts],
            padding="longest" if self.num_tokens is None else "max_length",
            max_length=self.num_tokens,
            truncation=True,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"].bool()

    def cut(self, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[str]:
        """Those texts whose end is not read, because they have too many tokens."""
        limit = self.num_tokens or tokenizer.model_max_length
        return [text for text in texts if len(tokenizer(text, verbose=False)["input_ids"]) > limit]


PLAIN_TEXTS = TextFormat()


def build_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Trains a BPE tokenizer with byte fallback, so that any text can be encoded.

    Args:
        texts: captions and instructions of the training split.
        vocab_size: pieces in all, the 256 byte pieces and the special tokens included.
        max_length: longest sequence in tokens; what is longer is cut.

    Returns:
        A tokenizer whose ids are pad 0, end 1, unknown 2, then `[ref#1]` .. `[ref#9]`, then the 256 bytes.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    markers = [AddedToken(marker, lstrip=True, special=True, normalized=False) for marker in MARKER_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, UNKNOWN, *markers, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _with_plain_bytes(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=list(MARKER_TOKENS),
        model_max_length=max_length,
        padding_side="right",
        truncation_side="right",
    )


def _with_plain_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Makes the byte pieces ordinary pieces again: as special tokens, a text could spell them out."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))
