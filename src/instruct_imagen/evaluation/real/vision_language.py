"""A vision-language model as a judge of real pictures, behind a small interface.

Any object with `rate` will do; `ChatJudge` asks a chat model of the transformers library for the two ratings of the
paper (§4), in the words of its guidelines. Such a judge is itself a model with opinions: calibrate it on people
before use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from PIL import Image

from ...retrieval.embedders import pick_device
from ..suites import EvaluationError
from .cases import RealCase

LEVELS = (0.0, 0.5, 1.0)
_QUESTION = (
    'The last picture was drawn for this instruction: "{instruction}". {references}'
    "Rate it twice, each time with 0, 0.5 or 1. SC: does it do what was asked? Look at every condition by itself (the "
    "text and each reference) and give the rating of the one that is least satisfied. PQ: does it look right, without "
    "distortions, artefacts or an unnatural look? Answer with two numbers only, as in: SC=0.5 PQ=1"
)
_NUMBER = r"\W{0,3}([01](?:\.[0-9]+)?|\.5)"
_ANSWER = re.compile(rf"SC{_NUMBER}.*?PQ{_NUMBER}", re.IGNORECASE | re.DOTALL)


class VisionLanguageJudge(Protocol):
    """Rates pictures."""

    def rate(self, case: RealCase, picture: Image.Image) -> tuple[float, float] | None:
        """SC and PQ, each 0, 0.5 or 1; None where it gives no ratings.

        Args:
            case: what was asked for.
            picture: what was drawn.
        """
        ...


def question(case: RealCase) -> str:
    """What the judge is asked; the references' pictures come before, the one to rate last."""
    references = case.instruction.references
    names = ", ".join(reference.conditioning_text for reference in references)
    told = f"The pictures before it are its references, in this order: {names}. " if references else ""
    return _QUESTION.format(instruction=case.instruction.text, references=told)


def parse_ratings(answer: str) -> tuple[float, float] | None:
    """The ratings in an answer, each the nearest of 0, 0.5 and 1; None if there are none."""
    match = _ANSWER.search(answer)
    if match is None:
        return None
    sc, pq = (min(LEVELS, key=lambda level: abs(level - float(text))) for text in match.groups())
    return sc, pq


@dataclass(frozen=True)
class ChatJudge:
    """A chat model that sees pictures, such as LLaVA or Qwen-VL, from transformers.

    Attributes:
        model: folder, or name on a model hub, of the model with its processor and chat template.
        device: "auto", "cpu", "cuda", ...
        local_files_only: never ask the hub; False allows a download.
        max_new_tokens: of an answer.
    """

    model: str
    device: str = "auto"
    local_files_only: bool = True
    max_new_tokens: int = 24

    def rate(self, case: RealCase, picture: Image.Image) -> tuple[float, float] | None:
        """See `VisionLanguageJudge`."""
        pictures = [*(reference.image for reference in case.instruction.references), picture]
        return parse_ratings(self.ask(pictures, question(case)))

    @torch.inference_mode()
    def ask(self, pictures: Sequence[Image.Image], text: str) -> str:
        """The model's answer to a question about pictures."""
        model, processor, place = _load_chat(self.model, self.device, self.local_files_only)
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = processor(text=prompt, images=list(pictures), return_tensors="pt").to(place)
        tokens = model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        return processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]


@lru_cache(maxsize=1)
def _load_chat(name: str, device: str, local_files_only: bool) -> tuple[Any, Any, torch.device]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        model = AutoModelForImageTextToText.from_pretrained(name, local_files_only=local_files_only)
        processor = AutoProcessor.from_pretrained(name, backend="pil", local_files_only=local_files_only)
    except (OSError, ValueError, ImportError) as error:
        raise EvaluationError(
            f"The vision-language model {name!r} cannot be loaded; name a folder that holds one with its processor, or "
            f"allow the download ({str(error).splitlines()[0]})."
        ) from error
    place = pick_device(device)
    return model.to(place).eval(), processor, place
