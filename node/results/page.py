"""Draws the pages of a document with fpdf2: headings, lines, a table with bars, pictures. No DICOM.

The same calls give the same bytes: dates are given, and nothing is numbered by chance. What is drawn is kept as text
too (`said`), so that it can be looked through. Nothing here may be given what identifies a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from fpdf import FPDF
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]
BLACK, GREY, PALE = (25, 28, 33), (95, 102, 112), (222, 226, 231)
RED, AMBER, BLUE = (190, 40, 25), (150, 95, 0), (40, 95, 160)
BANNER, YELLOW = (14, 18, 24), (255, 214, 10)

MARGIN, TOP, BOTTOM, WIDE = 18.0, 20.0, 20.0, 174.0
"""Millimetres of an A4 page, and what is between its margins."""
COLUMNS = (58.0, 22.0, 26.0, 36.0)
"""Name, figure, word, threshold; the bar has the rest."""
ROW = 6.5
PIXELS, PICTURE = 768, 105.0
"""The longer side of a picture, in pixels and in millimetres."""
# Signs that the fonts do not have, by what stands for them in print
TYPED = str.maketrans({"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "≥": ">=", "≤": "<="})


@dataclass(frozen=True)
class Row:
    """One finding; `value` and `mark` (the threshold) within 0 and 1. Without a value no bar is drawn."""

    name: str
    figure: str
    word: str
    limit: str
    value: float | None
    mark: float
    colour: Colour


class Pages:
    """An A4 document with a banner above and a foot below on every page."""

    def __init__(self, *, title: str, banner: str, foot: str, when: datetime) -> None:
        self.said: list[str] = []
        self._pdf = pdf = _Sheets("portrait", "mm", "A4")
        pdf.banner, pdf.foot = banner, foot
        self.said += [banner, foot]
        pdf.set_creation_date(when)
        pdf.set_title(printable(f"{title} - {banner}"))
        pdf.set_lang("en-US")
        pdf.set_margins(MARGIN, TOP, MARGIN)
        pdf.set_auto_page_break(True, BOTTOM)
        pdf.c_margin = 0  # texts, lines and pictures begin at one edge
        pdf.add_page()
        self._write(title, 17, BLACK, bold=True, height=9)

    def to_bytes(self) -> bytes:
        return bytes(self._pdf.output())

    def headline(self, text: str, colour: Colour) -> None:
        self._pdf.ln(3)
        page, top = self._pdf.page, self._pdf.get_y()
        self._write(text, 14, colour, bold=True, height=7, indent=4)
        # A headline that went on to another page begins at its top
        top = top if self._pdf.page == page else TOP
        self._pdf.set_fill_color(*colour)
        self._pdf.rect(MARGIN, top, 1.6, self._pdf.get_y() - top, style="F")
        self._pdf.ln(2)

    def section(self, text: str) -> None:
        """A heading, never alone at the end of a page."""
        self._room(30)
        self._pdf.ln(4)
        self._write(text, 11, BLACK, bold=True, height=6)
        self._pdf.set_draw_color(*PALE)
        self._pdf.line(MARGIN, self._pdf.get_y(), MARGIN + WIDE, self._pdf.get_y())
        self._pdf.ln(1.5)

    def line(self, text: str, colour: Colour = BLACK) -> None:
        self._write(text, 9.5, colour, height=4.8)

    def small(self, text: str) -> None:
        self._write(text, 8.5, GREY, height=4.3)

    def fact(self, name: str, value: str) -> None:
        """A name, and beside it what it stands for."""
        self._room(5)
        self._style(8.5, GREY)
        self._cell(name, 34, 4.3)
        self._write(value, 8.5, BLACK, height=4.3, indent=34)

    def table(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._room(ROW)
            y = self._pdf.get_y()
            self._cut(row.name, COLUMNS[0], BLACK, bold=True)
            self._cut(row.figure, COLUMNS[1], row.colour, align="R")
            self._pdf.set_x(self._pdf.get_x() + 3)
            self._cut(row.word, COLUMNS[2] - 3, row.colour)
            self._cut(row.limit, COLUMNS[3], GREY)
            self._bar(row, MARGIN + sum(COLUMNS), y)
            self._pdf.set_xy(MARGIN, y + ROW)

    def picture(self, pixels: NDArray[np.uint8], caption: str) -> None:
        """uint8 (rows, columns, 3), on one page with its caption."""
        rows, columns = pixels.shape[:2]
        scale = PICTURE / max(rows, columns)
        self._room(rows * scale + 8)
        small = Image.fromarray(pixels)
        small.thumbnail((PIXELS, PIXELS), Image.Resampling.BOX)
        top = self._pdf.get_y() + 1.5
        self._pdf.image(small, MARGIN, top, w=columns * scale, h=rows * scale, alt_text=printable(caption))
        self._pdf.set_xy(MARGIN, top + rows * scale + 1)
        self.small(caption)

    def _bar(self, row: Row, left: float, top: float) -> None:
        width, height = WIDE - sum(COLUMNS), 2.6
        top += (ROW - height) / 2
        self._pdf.set_fill_color(*PALE)
        self._pdf.rect(left, top, width, height, style="F")
        if row.value is not None:
            self._pdf.set_fill_color(*row.colour)
            self._pdf.rect(left, top, width * row.value, height, style="F")
        self._pdf.set_fill_color(*BLACK)
        self._pdf.rect(left + width * row.mark - 0.2, top - 0.9, 0.4, height + 1.8, style="F")

    def _cut(
        self, text: str, width: float, colour: Colour, *, bold: bool = False, align: Literal["L", "R"] = "L"
    ) -> None:
        """A text in one row; a longer one is set smaller, until it fits."""
        size = 9.5
        self._style(size, colour, bold=bold)
        while size > 4 and self._pdf.get_string_width(printable(text)) > width - 2:
            size -= 0.5
            self._style(size, colour, bold=bold)
        self._cell(text, width, ROW, align=align)

    def _cell(self, text: str, width: float, height: float, *, align: Literal["L", "R"] = "L") -> None:
        self.said.append(text)
        self._pdf.cell(width, height, printable(text), align=align)

    def _write(
        self, text: str, size: float, colour: Colour, *, height: float, bold: bool = False, indent: float = 0
    ) -> None:
        """A paragraph over as many lines and pages as it needs."""
        self.said.append(text)
        self._style(size, colour, bold=bold)
        self._pdf.set_x(MARGIN + indent)
        self._pdf.multi_cell(WIDE - indent, height, printable(text), align="L", new_x="LMARGIN", new_y="NEXT")

    def _style(self, size: float, colour: Colour, *, bold: bool = False) -> None:
        _style(self._pdf, size, colour, bold=bold)

    def _room(self, height: float) -> None:
        """Go on to a new page where there is no room for so much on this one."""
        if self._pdf.get_y() + height > self._pdf.page_break_trigger:
            self._pdf.add_page()


class _Sheets(FPDF):
    """What fpdf2 asks to be overridden: it calls these for each page."""

    banner = ""
    foot = ""

    def header(self) -> None:
        self.set_fill_color(*BANNER)
        self.rect(0, 0, self.w, 12, style="F")
        self.set_xy(MARGIN, 3)
        _style(self, 10, YELLOW, bold=True)
        self.cell(WIDE, 6, printable(self.banner))
        self.set_xy(MARGIN, TOP)

    def footer(self) -> None:
        self.set_xy(MARGIN, -13)
        _style(self, 8, GREY)
        self.cell(WIDE - 20, 5, printable(self.foot))
        self.cell(20, 5, f"page {self.page_no()}", align="R")


def _style(pdf: FPDF, size: float, colour: Colour, *, bold: bool = False) -> None:
    pdf.set_font("helvetica", "B" if bold else "", size)
    pdf.set_text_color(*colour)


def printable(text: str) -> str:
    """The text in the signs that every reader's own fonts have; another one by its number, as [U+5C71]."""
    out = []
    for sign in text.translate(TYPED):
        known = sign.isprintable() and ord(sign) < 256
        out.append(sign if known else " " if sign.isspace() else f"[U+{ord(sign):04X}]")
    return "".join(out)
