"""Lengths in Telegram's unit, and the small writer that both markup parsers fill."""

from __future__ import annotations

from typing import Any

Entity = dict[str, Any]


class UnparsableError(Exception):
    """Markup that the server refuses; the message is its wording after "can't parse entities: "."""


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, the unit of every limit and offset in the Bot API."""
    return len(text) if text.isascii() else len(text) + sum(character > "\uffff" for character in text)


def byte_offset(text: str, position: int) -> int:
    """Where the character at `position` begins in UTF-8."""
    return len(text[:position].encode("utf-8", "surrogatepass"))


class Writer:
    """The visible text so far, with its length in UTF-16 units, and the entities found."""

    __slots__ = ("entities", "parts", "units")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.units = 0
        self.entities: list[Entity] = []

    def write(self, text: str) -> None:
        if text:
            self.parts.append(text)
            self.units += utf16_length(text)

    def mark(self, kind: str, begin: int, **more: Any) -> None:
        """An entity of `kind` from UTF-16 offset `begin` up to here; nothing where it would be empty."""
        if self.units > begin:
            self.entities.append({"type": kind, "offset": begin, "length": self.units - begin, **more})

    def since(self, part: int) -> str:
        return "".join(self.parts[part:])

    def result(self) -> tuple[str, list[Entity]]:
        self.entities.sort(key=lambda entity: (entity["offset"], -entity["length"]))
        return "".join(self.parts), self.entities


def checked_link(url: str) -> str:
    """The address of a text link in the server's form, or an empty string where it is no link."""
    url = url.strip()
    scheme, colon, rest = url.partition("://")
    if colon:
        usable = scheme.lower() in ("http", "https", "tg", "ftp", "ton", "tonsite") and rest
        return _with_path(url) if usable else ""
    if " " in url or "." not in url.strip("."):
        return ""
    return _with_path(f"http://{url}")


def _with_path(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{url}/" if scheme.lower().startswith("http") and not any(mark in rest for mark in "/?#") else url


def user_of_link(url: str) -> int:
    """The user's id in `tg://user?id=…`, else 0."""
    prefix = "tg://user?id="
    digits = url[len(prefix) :] if url.lower().startswith(prefix) else ""
    return int(digits) if digits.isdecimal() else 0


def link_entity(writer: Writer, begin: int, url: str) -> None:
    """Mark a link or a mention; an address that is none leaves plain text, as in the original."""
    user_id = user_of_link(url)
    if user_id:
        writer.mark("text_mention", begin, user={"id": user_id, "is_bot": False, "first_name": str(user_id)})
    elif link := checked_link(url):
        writer.mark("text_link", begin, url=link)
