"""Rich messages: accepted within their limits and kept as what a reader sees, without drawing tables and the like.

Limits: 32,768 characters, 500 blocks, 20 columns in a table. The server's wording for them is not documented.
"""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any, NamedTuple

import orjson

from bot.sandbox.form import Params
from bot.sandbox.refusal import BadRequestError

MAX_CHARACTERS = 32_768
MAX_BLOCKS = 500
MAX_COLUMNS = 20

_SOURCES = ("html", "markdown", "blocks")
_VOID = frozenset({"br", "hr", "img", "input"})
_TABLE_RULE = re.compile(r"^\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?$", re.MULTILINE)
#: Members of a block that are not read by anybody.
_UNREAD = frozenset({"type", "url", "language", "id", "media", "custom_emoji_id", "name"})


class Rich(NamedTuple):
    """The text a reader sees, and the `RichMessage` object of the reply."""

    text: str
    shown: dict[str, Any]


def read_rich(params: Params) -> Rich:
    """Raises `BadRequestError` for a wrong shape or a limit passed."""
    try:
        given = params.nested("rich_message")
    except orjson.JSONDecodeError as error:
        raise BadRequestError("can't parse rich message JSON object") from error
    if not isinstance(given, dict):
        raise BadRequestError("rich message must be an Object")
    named = [name for name in _SOURCES if given.get(name) is not None]
    if len(named) != 1:
        raise BadRequestError("exactly one of the fields html, markdown and blocks must be used")
    text = _READERS[named[0]](given[named[0]])
    if not text.strip():
        raise BadRequestError("message text is empty")
    if len(text) > MAX_CHARACTERS:
        raise BadRequestError("message is too long")
    paragraphs = [part for part in re.split(r"\n{2,}", text) if part.strip()]
    blocks = [{"type": "paragraph", "text": part} for part in paragraphs[:MAX_BLOCKS]]
    return Rich(text, {"blocks": blocks, **({"is_rtl": True} if given.get("is_rtl") else {})})


def _read_markdown(given: object) -> str:
    if not isinstance(given, str):
        raise BadRequestError('field "markdown" must be of type String')
    for rule in _TABLE_RULE.finditer(given):
        if rule.group().strip().strip("|").count("|") + 1 > MAX_COLUMNS:
            raise BadRequestError("too many columns in a table")
    return given


class _Balance(HTMLParser):
    """Notes open tags, so that one never closed is refused."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # fixed by HTMLParser
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise BadRequestError(f'can\'t parse entities: Unexpected end tag "{tag}"')

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _read_html(given: object) -> str:
    if not isinstance(given, str):
        raise BadRequestError('field "html" must be of type String')
    reader = _Balance()
    reader.feed(given)
    reader.close()
    if reader.open:
        raise BadRequestError(
            f"can't parse entities: Can't find end tag corresponding to start tag \"{reader.open[-1]}\""
        )
    return unescape("".join(reader.text))


def _read_blocks(given: object) -> str:
    if not isinstance(given, list):
        raise BadRequestError('field "blocks" must be of type Array')
    found: list[str] = []
    if sum(_walk(block, found) for block in given) > MAX_BLOCKS:
        raise BadRequestError("too many blocks")
    return "\n\n".join(found)


def _walk(part: Any, found: list[str]) -> int:
    """Collect what is read in `part`; returns the number of blocks in it."""
    if isinstance(part, str):
        found.append(part)
        return 0
    if isinstance(part, list):
        return sum(_walk(member, found) for member in part)
    if not isinstance(part, dict):
        return 0
    cells = part.get("cells")
    if isinstance(cells, list) and any(isinstance(row, list) and len(row) > MAX_COLUMNS for row in cells):
        raise BadRequestError("too many columns in a table")
    return int("type" in part) + sum(_walk(member, found) for name, member in part.items() if name not in _UNREAD)


_READERS = {"html": _read_html, "markdown": _read_markdown, "blocks": _read_blocks}
