"""Tables, which Telegram does not have: a grid in monospace where a phone has room for it, else lines "header: value".

A bubble on a phone holds about 36 monospaced letters; a wider `pre` is wrapped and unreadable. In the fonts of phones
an ideograph is not two letters wide but about one and two thirds, and so is an emoji: blanks cannot align what stands
behind it. So a column gets as many wide signs in each row as in its widest: missing ones are ideographic spaces.
"""

import re
import unicodedata
from typing import Final, NamedTuple

from bot.delivery.page import Mark, Page, Writer

MOST_CELLS: Final = 36
_GAP: Final = "  "
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_WIDE_SPACE: Final = "\u3000"
_JOINER: Final = "\u200d"
_AS_EMOJI: Final = "\ufe0f"
_SKIN: Final = range(0x1F3FB, 0x1F400)


class Width(NamedTuple):
    """How many letters, and how many wide signs."""

    narrow: int
    wide: int


def draw(page: Writer, rows: list[list[Page]], sides: tuple[str, ...]) -> None:
    """``sides`` is Left, Right, Center or None for each column; each row has a cell for each. A link in a grid would be
    dead, so a table with links is drawn in lines."""
    cells = [[_stripped(cell) for cell in row] for row in rows]
    linked = any(mark.kind == "text_link" for row in cells for cell in row for mark in cell.marks)
    grid = None if linked else as_grid([[cell.text for cell in row] for row in cells], sides)
    if grid is not None:
        page.mark("pre", grid)
        return
    head, *body = cells
    if not body:
        body, head = [head], [Page("", [], []) for _ in head]
    for row in body:
        _draw_row(page, head, row)


def _draw_row(page: Writer, head: list[Page], row: list[Page]) -> None:
    """The first line stands as a title."""
    for number, (name, cell) in enumerate(zip(head, row, strict=False)):
        if number == 0:
            page.open("bold")
        if name.text:
            page.place(name)
            page.write(": ")
        if name.text or cell.text:
            page.place(cell if cell.text else Page("–", [], []))
        if number == 0:
            page.close("bold")
        page.apart(1)
    page.apart(2)


def _stripped(cell: Page) -> Page:
    lead = len(cell.text) - len(cell.text.lstrip())
    marks = [Mark(mark.kind, mark.start - lead, mark.end - lead, mark.value) for mark in cell.marks]
    return Page(cell.text.strip(), marks, [])


def as_grid(rows: list[list[str]], sides: tuple[str, ...]) -> str | None:
    """Aligned columns with a line below the first row; None for what would not read well so.

    Right-to-left text changes the order of columns from line to line, depending on the first letter: no grid.
    """
    count = len(rows[0])
    if count < 2 or any("\n" in cell or _RIGHT_TO_LEFT.search(cell) for row in rows for cell in row):
        return None
    sizes = [[width_of(cell) for cell in row] for row in rows]
    columns = [Width(*(max(parts) for parts in zip(*widths, strict=True))) for widths in zip(*sizes, strict=True)]
    if sum(column.narrow + 2 * column.wide for column in columns) + len(_GAP) * (count - 1) > MOST_CELLS:
        return None
    lines = [
        _GAP.join(
            _padded(cell, width, column, side)
            for cell, width, column, side in zip(row, widths, columns, sides, strict=True)
        ).rstrip()
        for row, widths in zip(rows, sizes, strict=True)
    ]
    lines.insert(1, _GAP.join("-" * (column.narrow + 2 * column.wide) for column in columns))
    return "\n".join(lines)


def width_of(text: str) -> Width:
    """As monospaced fonts draw it: marks take no room, a joined emoji the room of one."""
    if text.isascii():
        return Width(len(text), 0)
    narrow = wide = 0
    before = ""
    for sign in text:
        if sign == _AS_EMOJI and before and unicodedata.east_asian_width(before) not in "WF":
            narrow, wide = narrow - 1, wide + 1
        elif before != _JOINER and unicodedata.category(sign) not in {"Mn", "Me", "Cf"} and ord(sign) not in _SKIN:
            if unicodedata.east_asian_width(sign) in "WF":
                wide += 1
            else:
                narrow += 1
        before = sign
    return Width(narrow, wide)


def _padded(cell: str, width: Width, column: Width, side: str) -> str:
    blanks = " " * (column.narrow - width.narrow)
    wide = _WIDE_SPACE * (column.wide - width.wide)
    return blanks + wide + cell if side == "Right" else cell + wide + blanks
