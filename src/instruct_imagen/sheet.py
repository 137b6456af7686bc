"""Contact sheets: instructions in words, their references, and the pictures drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .instruction import Instruction

TILE_PX = 160
MARGIN_PX = 8
LINE_PX = 18
TEXT_PX = 320
HEADS = ("instruction", "references", "drawn")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetRow:
    """One instruction.

    Attributes:
        title: what it shows, such as the task.
        text: the instruction.
        references: (caption, picture) pairs.
        outputs: pictures drawn, best first.
    """

    title: str
    text: str
    references: Sequence[tuple[str, Image.Image]]
    outputs: Sequence[Image.Image]

    @classmethod
    def of(cls, title: str, instruction: Instruction, outputs: Sequence[Image.Image]) -> SheetRow:
        """The row of an instruction and what was drawn for it."""
        pairs = [(reference.conditioning_text, reference.image) for reference in instruction.references]
        return cls(title, instruction.text, pairs, outputs)


def tile(image: Image.Image, size_px: int = TILE_PX) -> Image.Image:
    """A picture at the sheet's size; small ones are enlarged smoothly."""
    return image.resize((size_px, size_px), Image.Resampling.LANCZOS)


def image_grid(images: Sequence[Image.Image], columns: int | None = None, gap_px: int = 4) -> Image.Image:
    """Pictures of one size in a grid, as square as possible."""
    columns = columns or max(1, round(len(images) ** 0.5 + 0.49))
    rows = -(-len(images) // columns)
    width, height = images[0].size
    size = (columns * (width + gap_px) - gap_px, rows * (height + gap_px) - gap_px)
    grid = Image.new("RGB", size, "white")
    for index, image in enumerate(images):
        grid.paste(image, ((index % columns) * (width + gap_px), (index // columns) * (height + gap_px)))
    return grid


def wrapped(text: str, font: Font, width_px: int) -> list[str]:
    """Lines of at most a width, broken at spaces; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width_px:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(text: str, font: Font, width_px: int) -> str:
    """The text, or where it is wider as much of it as fits with two dots behind."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "..") > width_px:
        text = text[:-1]
    return text.rstrip() + ".."


def contact_sheet(rows: Sequence[SheetRow], heads: tuple[str, str, str] = HEADS) -> Image.Image:
    """Draws one row per instruction: words, references, outputs.

    Args:
        rows: what is drawn.
        heads: of these columns.
    """
    font, bold = ImageFont.load_default(14), ImageFont.load_default(15)
    num_references = max(len(row.references) for row in rows)
    num_outputs = max(len(row.outputs) for row in rows)
    step = TILE_PX + MARGIN_PX
    row_px = TILE_PX + LINE_PX + MARGIN_PX
    outputs_x = TEXT_PX + MARGIN_PX + num_references * step + 2 * MARGIN_PX
    sheet = Image.new("RGB", (outputs_x + num_outputs * step, LINE_PX + MARGIN_PX + len(rows) * row_px), "white")
    draw = ImageDraw.Draw(sheet)
    columns = ((MARGIN_PX, 1), (TEXT_PX + MARGIN_PX, num_references), (outputs_x, num_outputs))
    for head, (x, count) in zip(heads, columns, strict=True):
        if count:
            draw.text((x, MARGIN_PX // 2), head, fill="grey", font=bold)
    for index, row in enumerate(rows):
        top = LINE_PX + MARGIN_PX + index * row_px
        titles = [(line, "#205080", bold) for line in wrapped(row.title, bold, TEXT_PX)]
        texts = [(line, "black", font) for line in wrapped(row.text, font, TEXT_PX)]
        for number, (line, colour, its_font) in enumerate([*titles, *texts][: row_px // LINE_PX]):
            draw.text((MARGIN_PX, top + number * LINE_PX), line, fill=colour, font=its_font)
        for number, (caption, image) in enumerate(row.references):
            x = TEXT_PX + MARGIN_PX + number * step
            sheet.paste(tile(image), (x, top))
            draw.text((x, top + TILE_PX), shortened(caption, font, TILE_PX), fill="black", font=font)
        for number, image in enumerate(row.outputs):
            sheet.paste(tile(image), (outputs_x + number * step, top))
    return sheet
