"""A report as a self-contained HTML page and as Markdown with its figures beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import make_folder, write_atomically

FIGURES_FOLDER = "figures"


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first column names the row.

    Attributes:
        title: above it.
        header, rows: texts; all rows as long as the header.
        note: below it; may be empty.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: of its file, without suffix.
        caption: in words; also its alternative text.
        png: the file's bytes.
    """

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of the report: paragraphs, a list, tables, figures, in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b;
  background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: 0.5rem 0 }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
td { white-space: nowrap } th:first-child, td:first-child { text-align: left; white-space: normal }
.note { color: #555; font-size: 0.9rem } figure { margin: 1rem 0 } img { max-width: 100%; height: auto }
figcaption { color: #444; font-size: 0.9rem }
"""


def html_page(title: str, sections: Sequence[Section]) -> str:
    """One page that needs no other file."""
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>',
        f"<h1>{html.escape(title)}</h1>",
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts += [f"<p>{html.escape(text)}</p>" for text in section.paragraphs]
        if section.points:
            parts.append(f"<ul>{''.join(f'<li>{html.escape(point)}</li>' for point in section.points)}</ul>")
        parts += [_html_table(table) for table in section.tables]
        parts += [_html_figure(figure) for figure in section.figures]
    return "\n".join([*parts, "</body></html>", ""])


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    caption = f"<caption>{html.escape(table.title)}</caption>"
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}'
    )


def _html_figure(figure: Figure) -> str:
    data = base64.b64encode(figure.png).decode()
    caption = html.escape(figure.caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The same as Markdown; figures are files in `figures/`."""
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for text in section.paragraphs:
            lines += [text, ""]
        if section.points:
            lines += [*(f"* {point}" for point in section.points), ""]
        for table in section.tables:
            lines += [f"**{table.title}**", "", _row(table.header), _row(("---",) * len(table.header))]
            lines += [*(_row(row) for row in table.rows), ""]
            if table.note:
                lines += [table.note, ""]
        for figure in section.figures:
            lines += [f"![{figure.caption}]({FIGURES_FOLDER}/{figure.name}.png)", ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def write_report(title: str, sections: Sequence[Section], out: Path) -> tuple[Path, Path]:
    """Writes `report.html`, `report.md` and `figures/`; returns the paths of the first two."""
    figures = make_folder(make_folder(out) / FIGURES_FOLDER)
    for section in sections:
        for figure in section.figures:
            _write(figures / f"{figure.name}.png", figure.png)
    page, text = out / "report.html", out / "report.md"
    _write(page, html_page(title, sections).encode())
    _write(text, markdown(title, sections).encode())
    return page, text


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda partial: partial.write_bytes(content))
