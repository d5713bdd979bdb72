"""MarkdownV2 and the older Markdown parse mode, as strict as Telegram's."""

from __future__ import annotations

import re
from typing import NamedTuple

from bot.sandbox.units import Entity, UnparsableError, Writer, byte_offset, link_entity

_RESERVED = re.compile(r"[\\_*\[\]()~`>#+\-=|{}.!\n]")
_IN_CODE = re.compile(r"[\\`]")
#: Kind → how the server names it in errors.
_NAMES = {
    "bold": "Bold", "italic": "Italic", "underline": "Underline", "strikethrough": "Strikethrough",
    "spoiler": "Spoiler", "code": "Code", "pre": "Pre", "text_link": "TextUrl", "custom_emoji": "CustomEmoji",
    "blockquote": "BlockQuote",
}  # fmt: skip
#: What ends an entity; longer marks are looked at first, so `__` never ends an italic.
_ENDS = {
    "bold": "*", "italic": "_", "underline": "__", "strikethrough": "~", "spoiler": "||", "code": "`", "pre": "```",
    "text_link": "]", "custom_emoji": "]",
}  # fmt: skip
_BEGINS = (
    ("__", "underline"), ("_", "italic"), ("*", "bold"), ("~", "strikethrough"), ("||", "spoiler"), ("```", "pre"),
    ("`", "code"), ("[", "text_link"), ("![", "custom_emoji"),
)  # fmt: skip
_LEGACY_SPECIAL = re.compile(r"[\\_*`\[]")
_LEGACY_KINDS = {"_": "italic", "*": "bold", "`": "code", "[": "text_link"}


class _Open(NamedTuple):
    kind: str
    begin: int
    byte: int
    part: int
    language: str


def parse_markdown_v2(text: str) -> tuple[str, list[Entity]]:
    """Raises `UnparsableError`."""
    return _V2(text).parse()


class _V2:
    def __init__(self, text: str) -> None:
        self.text = text
        self.writer = Writer()
        self.stack: list[_Open] = []
        self.quoted = False

    def parse(self) -> tuple[str, list[Entity]]:
        text, position = self.text, 0
        while position < len(text):
            in_code = bool(self.stack) and self.stack[-1].kind in ("code", "pre")
            found = (_IN_CODE if in_code else _RESERVED).search(text, position)
            if found is None:
                self.writer.write(text[position:])
                break
            self.writer.write(text[position : found.start()])
            position = self._special(found.start())
        self._finish()
        return self.writer.result()

    def _special(self, at: int) -> int:
        """Handle the special character at `at`; returns where to go on."""
        text = self.text
        if text[at] == "\\":
            if at + 1 < len(text) and "\0" < text[at + 1] <= "~":
                self.writer.write(text[at + 1])
                return at + 2
            self.writer.write("\\")
            return at + 1
        if self.quoted and text[at] == "\n" and not text.startswith(">", at + 1):
            return self._end_quote(at)
        if self.stack and self._ends_here(at):
            return self._end(at)
        if self.stack and self.stack[-1].kind in ("code", "pre"):
            self.writer.write(text[at])
            return at + 1
        return self._begin(at)

    def _ends_here(self, at: int) -> bool:
        kind = self.stack[-1].kind
        mark = _ENDS.get(kind)
        if mark is None or not self.text.startswith(mark, at):
            return False
        return kind != "italic" or not self.text.startswith("__", at)

    def _begin(self, at: int) -> int:
        text = self.text
        if text[at] == "\n":
            return self._line_break(at)
        if text[at] == ">" and at == 0:
            self.quoted = True
            self._push("blockquote", at)
            return at + 1
        for mark, kind in _BEGINS:
            if text.startswith(mark, at):
                language, position = self._code_head(at + 3) if kind == "pre" else ("", at + len(mark))
                self._push(kind, at, language)
                return position
        raise UnparsableError(f"Character '{text[at]}' is reserved and must be escaped with the preceding '\\'")

    def _line_break(self, at: int) -> int:
        self.writer.write("\n")
        if not self.text.startswith(">", at + 1):
            return at + 1
        if not self.quoted:
            self.quoted = True
            self._push("blockquote", at)
        return at + 2

    def _push(self, kind: str, at: int, language: str = "") -> None:
        where = byte_offset(self.text, at)
        self.stack.append(_Open(kind, self.writer.units, where, len(self.writer.parts), language))

    def _code_head(self, at: int) -> tuple[str, int]:
        return code_head(self.text, at)

    def _end(self, at: int) -> int:
        opened = self.stack.pop()
        position = at + len(_ENDS[opened.kind])
        if opened.kind == "text_link":
            return self._end_link(opened, position)
        if opened.kind == "custom_emoji":
            return self._end_emoji(opened, position)
        self._mark(opened)
        return position

    def _end_quote(self, at: int) -> int:
        opened = self.stack.pop()
        if opened.kind != "blockquote":
            raise UnparsableError(f"Can't find end of {_NAMES[opened.kind]} entity at byte offset {opened.byte}")
        self.quoted = False
        self._mark(opened)
        self.writer.write("\n")
        return at + 1

    def _mark(self, opened: _Open) -> None:
        if opened.language:
            self.writer.mark(opened.kind, opened.begin, language=opened.language)
        else:
            self.writer.mark(opened.kind, opened.begin)

    def _end_link(self, opened: _Open, position: int) -> int:
        if not self.text.startswith("(", position):
            link_entity(self.writer, opened.begin, self.writer.since(opened.part))
            return position
        url, end = self._address(position + 1, "URL")
        link_entity(self.writer, opened.begin, url)
        return end

    def _end_emoji(self, opened: _Open, position: int) -> int:
        if not self.text.startswith("(", position):
            raise UnparsableError("Custom emoji entity must contain a tg://emoji URL")
        url, end = self._address(position + 1, "custom emoji URL")
        emoji_id = url.rpartition("id=")[2]
        if not url.startswith("tg://emoji?") or not emoji_id.isdecimal():
            raise UnparsableError("Invalid custom emoji URL specified")
        self.writer.mark("custom_emoji", opened.begin, custom_emoji_id=emoji_id)
        return end

    def _address(self, begin: int, what: str) -> tuple[str, int]:
        """The address in parentheses from `begin`, escapes undone, and where the text goes on."""
        found, position = list[str](), begin
        while position < len(self.text) and self.text[position] != ")":
            if self.text[position] == "\\" and position + 1 < len(self.text) and self.text[position + 1] <= "~":
                position += 1
            found.append(self.text[position])
            position += 1
        if position >= len(self.text):
            raise UnparsableError(f"Can't find end of a {what} at byte offset {byte_offset(self.text, begin)}")
        return "".join(found), position + 1

    def _finish(self) -> None:
        if self.quoted and self.stack and self.stack[-1].kind == "blockquote":
            self._mark(self.stack.pop())
        if self.stack:
            opened = self.stack[-1]
            name = "PreCode" if opened.language else _NAMES[opened.kind]
            raise UnparsableError(f"Can't find end of {name} entity at byte offset {opened.byte}")


def code_head(text: str, at: int) -> tuple[str, int]:
    """The language after three backticks, and where the code begins (one line break is skipped)."""
    end = at
    while end < len(text) and not text[end].isspace() and text[end] != "`":
        end += 1
    language = ""
    if end != at and end < len(text) and text[end] != "`":
        language, at = text[at:end], end
    if text.startswith(("\r\n", "\n\r"), at):
        return language, at + 2
    return language, at + 1 if text.startswith(("\n", "\r"), at) else at


def parse_markdown(text: str) -> tuple[str, list[Entity]]:
    """The older mode: no nesting, only `_*`[` are special. Raises `UnparsableError`."""
    writer, position = Writer(), 0
    while (found := _LEGACY_SPECIAL.search(text, position)) is not None:
        at = found.start()
        writer.write(text[position:at])
        mark = text[at]
        if mark == "\\":
            escaped = text[at + 1 : at + 2]
            special = escaped != "" and escaped in "_*`["
            writer.write(escaped if special else "\\")
            position = at + (2 if special else 1)
        else:
            position = _legacy_entity(text, at, writer)
    writer.write(text[position:])
    return writer.result()


def _legacy_entity(text: str, at: int, writer: Writer) -> int:
    mark, language = text[at], ""
    kind, end_mark, position = _LEGACY_KINDS[mark], "]" if mark == "[" else mark, at + 1
    if text.startswith("```", at):
        kind, end_mark = "pre", "```"
        language, position = code_head(text, at + 3)
    end = text.find(end_mark, position)
    if end < 0:
        raise UnparsableError(f"Can't find end of the entity starting at byte offset {byte_offset(text, at)}")
    begin = writer.units
    writer.write(text[position:end])
    after = end + len(end_mark)
    if kind != "text_link":
        more = {"language": language} if language else {}
        writer.mark(kind, begin, **more)
        return after
    if not text.startswith("(", after):
        link_entity(writer, begin, text[position:end])
        return after
    close = text.find(")", after)
    url = text[after + 1 :] if close < 0 else text[after + 1 : close]
    link_entity(writer, begin, url)
    return len(text) if close < 0 else close + 1
