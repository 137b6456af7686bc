"""Contact sheets: reference, output and truth of the first instructions of a task, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .suites import SuiteCase

NUM_ROWS = 16
TILE_PX = 96
_GAP_PX = 6
_HEADER_PX = 16
_FIGURE_PX = 34
_PAPER = (250, 250, 250)
_EMPTY = (225, 225, 225)
_INK = (40, 40, 40)


def contact_sheet(
    pictures: Sequence[np.ndarray], cases: Sequence[SuiteCase], figures: np.ndarray, num_rows: int = NUM_ROWS
) -> Image.Image:
    """Draws the sheet, in two blocks of rows beside each other.

    Args:
        pictures: outputs, uint8 [S, S, 3].
        cases: one an output.
        figures: float [N], shown at the end of each row.
        num_rows: how many of them to show.
    """
    num_rows = min(num_rows, len(cases))
    num_references = max((len(case.instruction.references) for case in cases[:num_rows]), default=0)
    titles = [*["reference"] * num_references, "output", "truth"]
    step = TILE_PX + _GAP_PX
    block_width = len(titles) * step + _FIGURE_PX
    rows_per_block = -(-num_rows // 2)
    sheet = Image.new("RGB", (2 * block_width + _GAP_PX, _HEADER_PX + rows_per_block * step + _GAP_PX), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for block in range(2):
        for column, title in enumerate(titles):
            pen.text((_GAP_PX + block * block_width + column * step, 2), title, fill=_INK)
    for row, (picture, case) in enumerate(zip(pictures[:num_rows], cases, strict=False)):
        left = _GAP_PX + (row // rows_per_block) * block_width
        top = _HEADER_PX + (row % rows_per_block) * step
        references = [reference.image for reference in case.instruction.references]
        empty = [Image.new("RGB", (TILE_PX, TILE_PX), _EMPTY)] * (num_references - len(references))
        tiles = [*references, *empty, Image.fromarray(picture), Image.fromarray(case.truth)]
        for column, tile in enumerate(tiles):
            sheet.paste(_tile(tile), (left + column * step, top))
        pen.text((left + len(tiles) * step - 2, top + TILE_PX // 2 - 6), f"{figures[row]:.2f}", fill=_INK)
    return sheet


def _tile(picture: Image.Image) -> Image.Image:
    method = Image.Resampling.NEAREST if TILE_PX % picture.width == 0 else Image.Resampling.LANCZOS
    return picture.resize((TILE_PX, TILE_PX), method)
