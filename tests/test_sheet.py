"""Contact sheets: what is written stays in its column."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from instruct_imagen.sheet import MARGIN_PX, TEXT_PX, SheetRow, contact_sheet, shortened, wrapped

FONT = ImageFont.load_default(14)


@pytest.mark.parametrize("text", ["", "fox", "a fox on a beach " * 20, "x" * 300, "short " + "long" * 40])
def test_lines_keep_every_word_and_the_width(text: str):
    lines = wrapped(text, FONT, 200)
    assert " ".join(lines) == " ".join(text.split())
    for line in lines:
        assert FONT.getlength(line) <= 200 or " " not in line


def test_captions_are_cut_where_they_are_too_wide():
    assert shortened("edge map", FONT, 160) == "edge map"
    cut = shortened("[ref#1] segmentation mask of the scene", FONT, 160)
    assert cut.startswith("[ref#1] segm") and cut.endswith("..")
    assert FONT.getlength(cut) <= 160
    assert shortened("fox", FONT, 1) == ".."


def test_long_titles_and_texts_stay_out_of_the_pictures():
    red = Image.new("RGB", (32, 32), "red")
    words = "identity 0.5, control 1, " * 20
    sheet = np.asarray(contact_sheet([SheetRow(words, words, [("m" * 60, red), ("fox", red)], [red])] * 2))
    left = TEXT_PX + MARGIN_PX
    assert (sheet[26:186, left : left + 160] == (255, 0, 0)).all()
    between = sheet[26 : 26 + 186, left + 160 : left + 167]  # an f reaches a pixel to the left
    assert (between == 255).all()
