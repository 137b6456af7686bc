"""The paper's own figures (§4): human O of its models, to stand beside what is measured here.

They are not comparable as numbers: other data, other models, and people for judges. What can be compared is their order
and their distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row of Table 4: O of the four columns; None where the paper has none."""

    single_task: float | None
    multi_task: float | None
    prior: float | None
    instruct: float | None


TABLE_4: Mapping[str, PaperRow] = {
    "depth": PaperRow(0.24, 0.44, 0.59, 0.75),
    "mask": PaperRow(0.68, 0.60, 0.45, 0.78),
    "edge": PaperRow(0.61, 0.39, 0.53, 0.77),
    "style": PaperRow(0.45, 0.65, 0.67, 0.88),
    "subject": PaperRow(0.67, 0.56, 0.70, 0.81),
    "text": PaperRow(0.68, 0.55, 0.67, 0.76),
    "face": PaperRow(0.37, 0.39, 0.72, 0.77),
    "style_transfer": PaperRow(0.43, 0.00, 0.57, 0.53),
    "style_subject": PaperRow(None, 0.48, 0.33, 0.58),
    "multi_subject": PaperRow(None, 0.54, 0.43, 0.53),
    "control_subject": PaperRow(None, 0.36, 0.32, 0.60),
    "control_style": PaperRow(None, 0.36, 0.11, 0.63),
}
TABLE_4_AVERAGES: Mapping[str, PaperRow] = {
    "in_domain": PaperRow(0.52, 0.45, 0.61, 0.76),
    "zero_shot": PaperRow(None, 0.44, 0.30, 0.59),
}
# Table 3: without and with stage 1. Its .79 fits the in-domain average without style transfer.
TABLE_3: Mapping[str, tuple[float, float]] = {"in_domain": (0.55, 0.79), "zero_shot": (0.53, 0.59)}
MASKED_EDITING = 0.72  # after fine-tuning; an inpainting model reaches .43 (Table 2)
