"""From the model's Markdown to what Telegram shows: text with entities, cut into messages that fit.

Offsets and limits count UTF-16 units, as Telegram does. Formatting is never the reason why an answer is missing: what
cannot be formatted is sent as it was written. All of it is a function of the text alone: a worker that takes an answer
over after a crash makes the same messages of it.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from bot.delivery.markdown import page_of
from bot.delivery.page import Mark, Page, trimmed
from bot.delivery.unfinished import finished

LIMIT: Final = 4096
"""UTF-16 units of one message (Bot API, sendMessage)."""
MOST_ENTITIES: Final = 100
"""Entities of one message; what is beyond them Telegram leaves out without a word (Bot API, MessageEntity)."""
MOST_RICH: Final = 32_768
MOST_BLOCKS: Final = 500
MOST_COLUMNS: Final = 20
"""Limits of a rich message: characters, blocks, columns of a table (Bot API, sendRichMessage)."""

_SHORTEST: Final = 1024
"""Units below which a message is not cut for its number of entities: then ornaments go, or there would be a flood."""

_MARKUP: Final = re.compile(
    r"[*_`\[\\]|~~|&[#a-zA-Z]|<[a-zA-Z]|^[ >]*(?:#|[-+=>]|\d+[.)](?!\S))|^.*\|.*\n *[|:-]|^(?: {4}|\t)", re.MULTILINE
)
"""What a text without is shown as it is; most short answers are."""
_UNCLEAN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\x85\u2028-\u202e\u0333\u033f\u030a\ufdd0-\ufdef\ufeff\ud800-\udfff]"
)
_LINE_END: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_RINGED: Final = re.compile("\\w\u030a")
_UNSEEN: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe0f\ufe0e\u034f")

_MEDIA: Final = re.compile(r"!\[|<(?:img|video|audio|source|iframe|tg-)", re.IGNORECASE)

_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_LINE: Final = re.compile(r"\n")
_SENTENCE: Final = re.compile(r"(?<=[.!?…:;؟۔।])\s|(?<=[。！？；])(?![。！？；”’」』）])")
_BLANK: Final = re.compile(r"\s|(?<=[，、：,])(?=[^\W\d])")
_WHOLE: Final = frozenset({"pre", "code", "text_link"})
_WEIGHT: Final = {"text_link": 0, "pre": 1, "blockquote": 2, "code": 3}
"""Which entities stay where there are too many: those that carry something, then those that only look."""
_LONGEST_CLUSTER: Final = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: its text without white space at its ends, and its entities as the Bot API takes them.

    ``rich``: the same as a rich message, where that is wanted.
    """

    text: str
    entities: list[dict[str, Any]]
    rich: dict[str, Any] | None = None


def utf16_units(text: str) -> int:
    """The length Telegram counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def pieces_of(text: str, *, plain: bool) -> list[Piece]:
    """The messages that say ``text``, in order; at least one when anything is visible. Deterministic."""
    text = clean(text)
    if plain or not _MARKUP.search(text):
        return _cut(Page(text, [], []))
    return _cut(page_of(text)) or _cut(Page(text, [], []))  # a text of signs alone, such as "#", shows nothing


def draft_of(text: str) -> Piece:
    """What a preview shows of an answer that grows: the message being written, formatted as far as it can be told.

    Empty where nothing is visible yet. Takes one to two microseconds for a character of Markdown.
    """
    text = clean(text)
    if "|" in text or _MARKUP.search(text):
        text = finished(text)
    pieces = pieces_of(text, plain=False)
    return pieces[-1] if pieces else Piece("", [])


def rich_of(text: str) -> dict[str, Any] | None:
    """``rich_message`` of sendRichMessage: the Markdown as it is. None where an ordinary message is better.

    That is where a limit of rich messages is passed, where nothing is visible, where there is nothing to format (some
    apps show "not supported" instead of a rich message), and where Telegram would fetch a picture or a film from an
    address that the model made up: it could carry what the customer wrote to anybody.
    """
    text = clean(text)
    if len(text) > MOST_RICH or not _MARKUP.search(text) or not _is_visible(text) or _MEDIA.search(text):
        return None
    lines = text.split("\n")
    blocks = sum(1 for line in lines if line.strip())  # no block is shorter than a line
    if blocks > MOST_BLOCKS or any(line.count("|") >= MOST_COLUMNS for line in lines):
        return None
    return {"markdown": text, **({"is_rtl": True} if _is_right_to_left(text) else {})}


def clean(text: str) -> str:
    """Without what Telegram takes out or refuses, or our parser uses: offsets and comparisons would go wrong.

    Lone surrogates become question marks, other line ends line feeds. Telegram takes a ring above from its letter: the
    two become one character, which it leaves alone.
    """
    if _UNCLEAN.search(text):
        text = _RINGED.sub(lambda found: unicodedata.normalize("NFC", found[0]), _LINE_END.sub("\n", text))
        text = _UNCLEAN.sub("", text.encode("utf-8", "replace").decode())
    return text.strip()


def split_plain(text: str) -> list[str]:
    """Cuts at paragraphs, lines, sentences, blanks, in this order of preference; nothing but white space is dropped."""
    return [piece.text for piece in _cut(Page(text, [], []))]


def _is_right_to_left(text: str) -> bool:
    """As the first letter is (Unicode Standard Annex 9, rule P2)."""
    sides = (unicodedata.bidirectional(sign) for sign in text)
    return next((side for side in sides if side in {"L", "R", "AL"}), "L") != "L"


def _is_visible(text: str) -> bool:
    """Telegram refuses a message of invisible characters as empty."""
    return any(sign.isprintable() and not sign.isspace() and sign not in _UNSEEN for sign in text)


def _cut(page: Page) -> list[Piece]:
    pieces = []
    start, size = _next(page, 0), len(page.text)
    while start < size:
        end = _reach(page, start)
        at = end if end == size else _place(page, start, end)
        piece = _piece(page, start, at)
        if _is_visible(piece.text):
            pieces.append(piece)
        start = _next(page, at)
    return pieces


def _reach(page: Page, start: int) -> int:
    """How far a message from ``start`` can go."""
    end = start + len(_head(page.text[start : start + LIMIT], LIMIT))
    if len(page.marks) > MOST_ENTITIES:
        under = [mark for mark in page.marks if mark.end > start and mark.start < end]
        if len(under) > MOST_ENTITIES:
            end = max(under[MOST_ENTITIES].start, min(end, start + _SHORTEST))
    return end


def _head(text: str, units: int) -> str:
    """The longest beginning that fits, never cutting a character in two."""
    if text.isascii():
        return text[:units]
    return text.encode("utf-16-le", "surrogatepass")[: units * 2].decode("utf-16-le", "ignore")


def _next(page: Page, at: int) -> int:
    """Where the next message begins: behind white space, but code keeps its indentation."""
    rest = page.text[at : at + LIMIT]
    begin = at + len(rest) - len(rest.lstrip())
    code = next((mark for mark in page.marks if mark.kind == "pre" and mark.start < begin < mark.end), None)
    return begin if code is None or begin == at else max(page.text.rfind("\n", at, begin) + 1, code.start, at)


def _place(page: Page, start: int, end: int) -> int:
    """Where a person would cut: before a section, between paragraphs, lines, sentences, words, in the second half."""
    text, middle = page.text, start + (end - start) // 2
    under = [mark for mark in page.marks if mark.kind in _WHOLE and mark.end > start and mark.start <= end]
    code = next((mark for mark in under if mark.kind == "pre" and mark.start < end < mark.end), None)
    if code is not None and code.start > start + (end - start) // 4 and code.end - code.start <= LIMIT:
        return code.start
    section = max((at for at in page.headings if at <= end), default=0)
    if section > start + (end - start) * 3 // 5:
        return section
    for pattern in (_PARAGRAPH, _LINE):
        for at in _matches(pattern, text, middle, end):
            if not _within(under, at) and not (section > start and "\n" not in text[section:at]):
                return at
    for pattern in (_LINE, _SENTENCE, _BLANK):
        for at in _matches(pattern, text, middle, end):
            if pattern is _LINE or not _within(under, at):
                return at
    return next(_matches(_BLANK, text, middle, end), _between_clusters(text, middle, end))


def _matches(pattern: re.Pattern[str], text: str, first: int, last: int) -> Iterator[int]:
    """Places from the last to the first; one right behind the last is as good."""
    return reversed([found.start() for found in pattern.finditer(text, first, min(last + 1, len(text)))])


def _within(marks: list[Mark], at: int) -> bool:
    return any(mark.start < at < mark.end for mark in marks)


def _between_clusters(text: str, first: int, at: int) -> int:
    """Not between a letter and its marks, nor inside a joined emoji or a flag."""
    place = at
    while place > max(first, at - _LONGEST_CLUSTER):
        if not _joined(text, place):
            return place
        place -= 1
    return at


def _joined(text: str, at: int) -> bool:
    before, sign = text[at - 1], text[at]
    if "\u200d" in (before, sign) or unicodedata.category(sign) in {"Mn", "Me", "Mc"}:
        return True
    if "\U0001f3fb" <= sign <= "\U0001f3ff" or "\U000e0020" <= sign <= "\U000e007f" or sign in "\u0e33\u0eb3":
        return True  # skin colours, tags of flags, Thai and Lao AM
    if _is_flag_letter(sign) and _is_flag_letter(before):
        run = at - 1
        while run and _is_flag_letter(text[run - 1]):
            run -= 1
        return (at - run) % 2 == 1
    return "\u1160" <= sign <= "\u11ff"  # Korean vowels and finals written on their own


def _is_flag_letter(sign: str) -> bool:
    return "\U0001f1e6" <= sign <= "\U0001f1ff"


def _piece(page: Page, start: int, end: int) -> Piece:
    end = start + len(page.text[start:end].rstrip())
    text = page.text[start:end].replace("\t", " ")  # as Telegram does
    under = [
        Mark(mark.kind, max(mark.start, start) - start, min(mark.end, end) - start, mark.value)
        for mark in page.marks
        if mark.start < end and mark.end > start
    ]
    marks = trimmed(text, under)
    if len(marks) > MOST_ENTITIES:
        weighed = sorted(marks, key=lambda mark: (_WEIGHT.get(mark.kind, 4), mark.start))
        marks = trimmed(text, weighed[:MOST_ENTITIES])
    return Piece(text, _entities(text, marks))


def _entities(text: str, marks: list[Mark]) -> list[dict[str, Any]]:
    if not marks:
        return []
    if text.isascii() or max(text) <= "\uffff":
        places: Any = range(len(text) + 1)
    else:
        places = list(accumulate((1 + (sign > "\uffff") for sign in text), initial=0))
    return [_entity(mark, places[mark.start], places[mark.end]) for mark in marks]


def _entity(mark: Mark, start: int, end: int) -> dict[str, Any]:
    entity: dict[str, Any] = {"type": mark.kind, "offset": start, "length": end - start}
    if mark.kind == "text_link":
        entity["url"] = mark.value
    elif mark.kind == "pre" and mark.value:
        entity["language"] = mark.value
    return entity
