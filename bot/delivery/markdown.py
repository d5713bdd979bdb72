"""Markdown as a reader sees it: text without markup, and marks that say which part is bold, code, a link.

The parser is pyromark (CommonMark with tables, in Rust: 20 kB in 2 ms). Nothing that the model said is
dropped: HTML is shown as text, an address that cannot be a link stands in brackets behind its words, cells that a table
has no column for stay in the last one. telegramify-markdown, made of the same parser, was tried before: it drops all of
these, links relative addresses, for which Telegram refuses the message, and cuts joined emoji in two.
"""

import re
from typing import Any, Final

import pyromark

from bot.delivery.page import Page, Writer
from bot.delivery.signs import NOTHING, as_code, as_text, guarded
from bot.delivery.table import draw

_OPTIONS: Final = (
    pyromark.Options.ENABLE_TABLES | pyromark.Options.ENABLE_STRIKETHROUGH | pyromark.Options.ENABLE_TASKLISTS
)

_DEFINITION: Final = re.compile(r"^[ \t>*+\-\d.)]*\[(?:[^\]\\]|\\.)+\]:", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"https?://[^\s/?#.]+(?:\.[^\s/?#.]+)+\.?(?:[/?#]\S*)?", re.IGNORECASE)
"""What Telegram takes as a link: a host without a dot, or another scheme, would have the whole message refused."""
_MOST_LINK: Final = 2048
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_+#.-]{1,24}")
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]")
_NUMBER: Final = re.compile(rb"\s*(\d{1,9})([.)])")

_BULLETS: Final = ("•", "◦", "▪")
_INDENT: Final = "    "
_DEEPEST: Final = 4
"""Levels that are indented; a list of two hundred levels must not become a page of blanks."""
_RULE: Final = "———"
_STYLES: Final = {"Strong": "bold", "Emphasis": "italic", "Strikethrough": "strikethrough"}


def page_of(markdown: str) -> Page:
    """Reads cleaned text (no control characters, no noncharacters). Any text is Markdown: nothing is refused."""
    source = guarded(markdown)
    events = list(_events(source))
    if "]:" in source:
        source, events = _with_definitions_shown(source, events)
    walker = _Walker(source, right_to_left=_RIGHT_TO_LEFT.search(markdown) is not None)
    for event, span in events:
        walker.read(event, span["start"], span["end"])
    return walker.page.finished()


def _events(source: str) -> Any:
    return pyromark.events_with_range(source, options=_OPTIONS, merge_text=True)


def _with_definitions_shown(source: str, events: list[Any]) -> tuple[str, list[Any]]:
    """``[Note]: Important`` defines a link to "Important", and the parser shows nothing of it.

    Definitions stay what they are only where each is an address, and each is used; else all are text.
    """
    defined = pyromark.reference_definitions(source, options=_OPTIONS)
    if not defined and not _DEFINITION.search(source):
        return source, events
    tags = [next(iter(tag.values())) for event, _ in events if isinstance(tag := _started(event), dict)]
    used = {tag["id"].casefold() for tag in tags if isinstance(tag, dict) and tag.get("id")}
    fit = all(label.casefold() in used and _LINK.fullmatch(link["dest"]) for label, link in defined.items())
    if fit and len(defined) == len(_DEFINITION.findall(source)):
        return source, events
    source = source.replace("]:", f"]{NOTHING}:")
    return source, list(_events(source))


def _started(event: Any) -> Any:
    return event.get("Start") if isinstance(event, dict) else None


class _Walker:
    """Turns the parser's events into a page."""

    def __init__(self, source: str, *, right_to_left: bool) -> None:
        self.page = Writer()
        self._source = source.encode()
        self._right_to_left = right_to_left
        self._lists: list[int | None] = []
        self._behind_bullet = -1
        self._links: list[tuple[str, str, int]] = []
        self._code: list[str] | None = None
        self._language = ""
        self._outer = self.page
        self._rows: list[list[Writer]] = []
        self._sides: tuple[str, ...] = ()
        self._cells_end = 0

    def read(self, event: Any, start: int, end: int) -> None:
        if isinstance(event, str):
            self._on_sign(event, start)
            return
        ((name, data),) = event.items()
        if name == "Start":
            tag, value = (data, None) if isinstance(data, str) else next(iter(data.items()))
            self._on_start(tag, value, start, end)
        elif name == "End":
            self._on_end(data if isinstance(data, str) else next(iter(data)), start, end)
        elif name == "Code":
            self._on_code(as_code(data))
        elif name == "TaskListMarker":
            self.page.length -= len(self.page.parts[-1])
            self.page.parts.pop()
            self.page.write("☑ " if data else "☐ ")
        elif self._code is not None:
            self._code.append(data)
        else:  # text, and HTML that no guard foresaw
            self.page.write(as_text(data))

    def _on_sign(self, sign: str, start: int) -> None:
        if sign == "Rule":
            self._block(start)
            self.page.write(_RULE)
        else:
            self.page.write("\n")

    def _on_start(self, tag: str, value: Any, start: int, end: int) -> None:
        if tag in _STYLES:
            self.page.open(_STYLES[tag])
        elif tag == "Paragraph":
            if self.page.length != self._behind_bullet:
                self._block(start)
        elif tag == "Item":
            self._on_item(start)
        elif tag in {"Link", "Image"}:
            self._on_link(value)
        elif tag == "Heading":
            self._on_heading(start, end)
        elif tag.startswith("Table"):
            self._on_table(tag, value, start)
        else:
            self._on_container(tag, value, start)

    def _on_container(self, tag: str, value: Any, start: int) -> None:
        self._block(start)
        if tag == "List":
            self._lists.append(None if value is None else value - 1)
        elif tag == "BlockQuote":
            self.page.open("blockquote")
        elif tag == "CodeBlock":
            self._code = []
            self._language = "" if isinstance(value, str) else as_text(value["Fenced"]).strip()

    def _on_end(self, tag: str, start: int, end: int) -> None:
        if tag in _STYLES:
            self.page.close(_STYLES[tag])
        elif tag in {"Link", "Image"}:
            self._on_link_end()
        elif tag == "Heading":
            self._on_heading_end(start, end)
        elif tag == "List":
            self._lists.pop()
        elif tag == "BlockQuote":
            self.page.close("blockquote")
        elif tag == "CodeBlock":
            self._on_code_block()
        elif tag.startswith("Table"):
            self._on_table_end(tag, end)

    def _block(self, start: int) -> None:
        """As far from what stands before as in the source: at the next line, or after an empty one."""
        before = self._source[max(0, start - 256) : start].translate(None, b" \t>")
        self.page.apart(2 if before.endswith(b"\n\n") else 1)

    def _on_item(self, start: int) -> None:
        self._block(start)
        depth = len(self._lists)
        sign = _BULLETS[min(depth, len(_BULLETS)) - 1]
        number = _NUMBER.match(self._source, start)
        last = self._lists[-1]
        if last is not None and number is not None:
            # "1. 1. 1." counts; a list that skips a number was meant to.
            self._lists[-1] = max(last + 1, int(number[1]))
            sign = f"{self._lists[-1]}{number[2].decode()}"
        self.page.write(f"{_INDENT * (min(depth, _DEEPEST) - 1)}{sign} ")
        self._behind_bullet = self.page.length

    def _is_underlined(self, start: int, end: int) -> bool:
        """A line of text with ``---`` right below: to Markdown a heading, to the model (which writes ``##``) a rule."""
        return self._source[start : start + 1] != b"#" and self._source[start:end].rstrip().endswith(b"-")

    def _on_heading(self, start: int, end: int) -> None:
        if self.page.length != self._behind_bullet:
            self._block(start)
        if not self._is_underlined(start, end):
            self.page.apart(0 if self._lists else 2)
            self.page.headings.append(self.page.length + (self.page.gap if self.page.length else 0))
            self.page.open("bold")

    def _on_heading_end(self, start: int, end: int) -> None:
        if not self._is_underlined(start, end):
            self.page.close("bold")
        elif self._source[start:end].rstrip().endswith(b"---"):
            self.page.apart(1)
            self.page.write(_RULE)

    def _on_code(self, code: str) -> None:
        if self._right_to_left:
            # Else `--force` reads force-- between Arabic words. The isolates stand outside of what a tap copies.
            self.page.write("\u2066")
            self.page.mark("code", code)
            self.page.write("\u2069")
        else:
            self.page.mark("code", code)

    def _on_code_block(self) -> None:
        # Telegram makes one blank of a tab, which is no indentation.
        code = as_code("".join(self._code or ())).expandtabs(4).strip("\n").rstrip()
        self._code = None
        language, _, more = self._language.partition(" ")
        if not code:
            self.page.mark("pre", self._language)  # such as "```Done", meant to be code on one line
            return
        if not _LANGUAGE.fullmatch(language):
            language, more = "", self._language
        if more:
            self.page.write(more.strip())
            self.page.apart(1)
        self.page.mark("pre", code, language)

    def _on_link(self, link: dict[str, Any]) -> None:
        url = as_code(link["dest_url"]).strip().replace(" ", "%20")
        self._links.append((url, as_text(link["title"]), len(self.page.parts)))
        if self._is_link(url):
            self.page.open("text_link", url)

    def _is_link(self, url: str) -> bool:
        return len(url) <= _MOST_LINK and _LINK.fullmatch(url) is not None

    def _on_link_end(self) -> None:
        url, title, place = self._links.pop()
        shown = "".join(self.page.parts[place:]).strip()
        if not shown:
            self.page.write(url)
        if self._is_link(url):
            marked = len(self.page.marks)
            self.page.close("text_link")
            if shown in {"", url}:
                del self.page.marks[marked:]  # Telegram links addresses by itself, and asks nobody "Open this link?"
            elif self.page.depth["text_link"]:
                self.page.write(f" ({url})")  # a picture in a link, with an address of its own
        elif shown and (address := url.removeprefix("mailto:").removeprefix("tel:")) not in {"", shown}:
            self.page.write(f" ({address})")
        if title and title != shown:
            self.page.write(f" ({title})")

    def _on_table(self, tag: str, value: Any, start: int) -> None:
        if tag == "Table":
            self._block(start)
            self._outer, self._rows, self._sides = self.page, [], value
        elif tag == "TableCell":
            self.page = Writer()
        else:
            self._rows.append([])

    def _on_table_end(self, tag: str, end: int) -> None:
        if tag == "TableCell":
            self._rows[-1].append(self.page)
            self.page, self._cells_end = self._outer, end
        elif tag == "Table":
            draw(self.page, [[cell.finished() for cell in row] for row in self._rows], self._sides)
        elif self._rows[-1]:
            left = self._source[self._cells_end : end].decode(errors="replace").strip(" \t\r\n|")
            if left:
                self._rows[-1][-1].write(f" | {as_text(left)}")
