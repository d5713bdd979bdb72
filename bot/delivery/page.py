"""Text with marks: what a message shows before it is cut, and how it is put together.

Places are characters here; the UTF-16 units of Telegram come last. The marks keep its rules on what may stand in what,
and touch no white space, because Telegram would move them away from it.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

_WHOLE: Final = ("pre", "code")
_FROM_ITS_LINE: Final = ("pre", "blockquote")
_OUTERMOST: Final = {"blockquote": 0, "pre": 2, "code": 2}
_start: Final = attrgetter("start")
_end: Final = attrgetter("end")


@dataclass(frozen=True, slots=True)
class Mark:
    """``kind`` is Telegram's entity type, the place is in characters of the page, ``value`` a link or a language."""

    kind: str
    start: int
    end: int
    value: str = ""


@dataclass(slots=True)
class Page:
    """Marks are sorted, nest properly and touch no white space; ``headings`` are the places where sections begin."""

    text: str
    marks: list[Mark]
    headings: list[int]


@dataclass(slots=True)
class Writer:
    """A page, or a cell of a table, while it is written. Gaps and marks take effect with the next text."""

    parts: list[str] = field(default_factory=list)
    length: int = 0
    gap: int = 0
    marks: list[Mark] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    opened: list[tuple[str, str, int]] = field(default_factory=list)
    depth: Counter[str] = field(default_factory=Counter)

    def write(self, text: str) -> None:
        if not text:
            return
        if self.gap:
            lead = "\n" * self.gap if self.length else ""
            self.gap = 0
            self.parts.append(lead)
            self.length += len(lead)
        if self.opened and self.opened[-1][2] < 0:
            self.opened = [(kind, value, self.length if at < 0 else at) for kind, value, at in self.opened]
        self.parts.append(text)
        self.length += len(text)

    def apart(self, lines: int) -> None:
        """At least so many line ends stand before what comes."""
        self.gap = max(self.gap, lines)

    def open(self, kind: str, value: str = "") -> None:
        """A kind within itself is nothing new, and Telegram knows no quote in a quote."""
        self.depth[kind] += 1
        if self.depth[kind] == 1:
            self.opened.append((kind, value, -1))

    def close(self, kind: str) -> None:
        self.depth[kind] -= 1
        if self.depth[kind]:
            return
        place = next(at for at in reversed(range(len(self.opened))) if self.opened[at][0] == kind)
        _, value, start = self.opened.pop(place)
        if start >= 0:
            self.marks.append(Mark(kind, start, self.length, value))

    def mark(self, kind: str, text: str, value: str = "") -> None:
        if text:
            self.open(kind, value)
            self.write(text)
            self.close(kind)

    def place(self, cell: Page) -> None:
        """A cell's text with its marks, but those that are open already."""
        self.write(cell.text)
        base = self.length - len(cell.text)
        self.marks += [
            Mark(mark.kind, base + mark.start, base + mark.end, mark.value)
            for mark in cell.marks
            if not self.depth[mark.kind]
        ]

    def finished(self) -> Page:
        text = "".join(self.parts)
        return Page(text, trimmed(text, _arranged(self.marks)), self.headings)


def trimmed(text: str, marks: list[Mark]) -> list[Mark]:
    """Telegram cuts white space off the ends of marks; better where we know of it. Code keeps its indentation."""
    kept = []
    for mark in marks:
        inside = text[mark.start : mark.end]
        start = mark.start if mark.kind in _FROM_ITS_LINE else mark.end - len(inside.lstrip())
        end = mark.start + len(inside.rstrip())
        if start < end:
            same = start == mark.start and end == mark.end
            kept.append(mark if same else Mark(mark.kind, start, end, mark.value))
    return sorted(kept, key=lambda mark: (mark.start, -mark.end, _OUTERMOST.get(mark.kind, 1)))


def _arranged(marks: list[Mark]) -> list[Mark]:
    """By Telegram's rules: code holds nothing and stands in nothing but a quote; in a link it is text."""
    links = sorted((mark for mark in marks if mark.kind == "text_link"), key=_start)
    whole = sorted((mark for mark in marks if mark.kind in _WHOLE and not _under(links, mark)), key=_start)
    others = [mark for mark in marks if mark.kind not in _WHOLE]
    parts = [part for mark in others for part in ([mark] if mark.kind == "blockquote" else _around(mark, whole))]
    return [*whole, *parts]


def _under(links: list[Mark], mark: Mark) -> bool:
    """Links do not hold each other, so it can only be the last that begins before."""
    place = bisect_right(links, mark.start, key=_start)
    return place > 0 and mark.start < links[place - 1].end


def _around(mark: Mark, whole: list[Mark]) -> list[Mark]:
    """What of a mark is left when code is taken out of it."""
    inside = whole[bisect_right(whole, mark.start, key=_end) : bisect_left(whole, mark.end, key=_start)]
    bounds = [mark.start, *(at for hole in inside for at in (hole.start, hole.end)), mark.end]
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    return [Mark(mark.kind, start, end, mark.value) for start, end in pairs if start < end] if inside else [mark]
