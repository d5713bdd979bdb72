"""Formatted text as Telegram reads it: three parse modes, entity arrays, cleaning and trimming.

Everything here follows the behaviour of Telegram's own client library, errors included, because a sender's fallback
hangs on these texts. Offsets and lengths of entities are UTF-16 code units; offsets in errors are bytes of UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from bot.sandbox.markup_html import parse_html
from bot.sandbox.markup_markdown import parse_markdown, parse_markdown_v2
from bot.sandbox.refusal import BadRequestError
from bot.sandbox.units import Entity, UnparsableError, utf16_length

#: Limits of the Bot API documentation, in UTF-16 units after entities parsing.
MAX_TEXT = 4096
MAX_CAPTION = 1024
#: The server refuses to parse more than this many bytes of text.
MAX_SOURCE_BYTES = 1 << 15

_PARSERS: dict[str, Callable[[str], tuple[str, list[Entity]]]] = {
    "html": parse_html,
    "markdown": parse_markdown,
    "markdownv2": parse_markdown_v2,
}
_STYLES = frozenset({
    "bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre", "text_link", "text_mention",
    "custom_emoji", "blockquote", "expandable_blockquote", "date_time",
})  # fmt: skip
#: Found by the server itself; an array may name them, they are not taken over.
_FOUND = frozenset({
    "mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number", "bank_card_number",
})  # fmt: skip
#: Control characters become spaces; carriage returns, line and paragraph separators and direction overrides vanish.
_UNCLEAN = re.compile("[\x00-\x09\x0b-\x1f\u2028-\u202e\u0333\u033f\u030a]")
_VANISHES = re.compile("[\r\u2028-\u202e\u0333\u033f\u030a]")
_BLANK = " \n"
_COMMAND = re.compile(r"(?<![\w/@<>])/[A-Za-z0-9_]{1,64}(?:@\w{3,32})?(?![\w/<>])")


class Formatted(NamedTuple):
    """Text as a reader sees it, with its entities in Bot API form."""

    text: str
    entities: list[Entity]


def formatted(
    source: str, parse_mode: str = "", array: object = None, *, limit: int = MAX_TEXT, may_be_empty: bool = False
) -> Formatted:
    """Parse, clean, trim and measure. Raises `BadRequestError` with the server's wording."""
    if source.isascii() and not parse_mode and not array and not _needs_cleaning(source):
        if len(source) <= limit:
            return Formatted(source, [])
        raise BadRequestError(_too_long(limit))
    try:
        if len(source.encode()) > MAX_SOURCE_BYTES:
            raise BadRequestError("text is too long")
    except UnicodeEncodeError as error:
        raise BadRequestError("strings must be encoded in UTF-8") from error
    text, entities = _parsed(source, parse_mode, array)
    text, entities = _trimmed(*_cleaned(text, entities))
    if not text and not may_be_empty:
        raise BadRequestError("text must be non-empty")
    if utf16_length(text) > limit:
        raise BadRequestError(_too_long(limit))
    return Formatted(text, entities)


def commands_in(text: str) -> list[Entity]:
    """`bot_command` entities, found in what a customer writes as the apps find them."""
    if "/" not in text:
        return []
    return [
        {"type": "bot_command", "offset": utf16_length(text[: found.start()]), "length": len(found.group())}
        for found in _COMMAND.finditer(text)
    ]


def _too_long(limit: int) -> str:
    return "message caption is too long" if limit == MAX_CAPTION else "message is too long"


def _needs_cleaning(text: str) -> bool:
    return not text or text[0] in _BLANK or text[-1] in _BLANK or _UNCLEAN.search(text) is not None


def _parsed(source: str, parse_mode: str, array: object) -> tuple[str, list[Entity]]:
    mode = parse_mode.lower()
    if source and mode and mode != "none":
        parse = _PARSERS.get(mode)
        if parse is None:
            raise BadRequestError("unsupported parse_mode")
        try:
            return parse(source)
        except UnparsableError as error:
            raise BadRequestError(f"can't parse entities: {error}") from error
    if not isinstance(array, list):
        return source, []
    entities = [entity for given in array if (entity := _entity(given)) is not None]
    return source, _checked(source, entities)


def _entity(given: object) -> Entity | None:
    """One member of an `entities` array, or None for a kind that the server finds by itself."""
    if not isinstance(given, dict):
        raise BadRequestError("can't parse MessageEntity: expected an Object")
    entity: Entity = {
        "type": _field(given, "type", str, "String"),
        "offset": _field(given, "offset", int, "Number"),
        "length": _field(given, "length", int, "Number"),
    }
    kind = entity["type"]
    if kind in _FOUND:
        return None
    if kind not in _STYLES:
        raise BadRequestError("can't parse MessageEntity: Unsupported type specified")
    if kind == "text_link":
        entity["url"] = _field(given, "url", str, "String")
    elif kind == "text_mention":
        entity["user"] = _field(given, "user", dict, "Object")
    elif kind == "custom_emoji":
        entity["custom_emoji_id"] = str(_field(given, "custom_emoji_id", (str, int), "Number"))
    elif kind == "pre" and given.get("language"):
        entity["language"] = given["language"]
    elif kind == "date_time":
        entity |= {key: given[key] for key in ("unix_time", "date_time_format") if key in given}
    return entity


def _field(given: dict[str, Any], name: str, kind: type | tuple[type, ...], kind_name: str) -> Any:
    if name not in given:
        raise BadRequestError(f"can't parse MessageEntity: Can't find field \"{name}\"")
    if not isinstance(given[name], kind) or isinstance(given[name], bool):
        raise BadRequestError(f'can\'t parse MessageEntity: Field "{name}" must be of type {kind_name}')
    return given[name]


def _checked(text: str, entities: list[Entity]) -> list[Entity]:
    """Refuse entities outside the text or inside a surrogate pair; drop empty ones; sort as the server does."""
    for entity in entities:
        for key in ("offset", "length"):
            if not 0 <= entity[key] <= 1_000_000:
                raise BadRequestError(f"receive an entity with incorrect {key} {entity[key]}")
    kept = sorted((entity for entity in entities if entity["length"]), key=lambda e: (e["offset"], -e["length"]))
    if kept:
        starts = _byte_offsets(text)
        for entity in kept:
            _check_bounds(entity, starts)
    return kept


def _check_bounds(entity: Entity, starts: dict[int, int]) -> None:
    begin, end, size = entity["offset"], entity["offset"] + entity["length"], next(reversed(starts))
    if begin >= size:
        raise BadRequestError(f"entity begins after the end of the text at UTF-16 offset {begin}")
    if begin not in starts:
        raise BadRequestError(f"entity begins in a middle of a UTF-16 symbol at byte offset {starts[begin + 1]}")
    if end > size:
        raise BadRequestError(
            f"entity beginning at UTF-16 offset {begin} ends after the end of the text at UTF-16 offset {end}"
        )
    if end not in starts:
        raise BadRequestError(
            f"entity beginning at UTF-16 offset {begin} ends in a middle of a UTF-16 symbol "
            f"at byte offset {starts[end + 1]}"
        )


def _byte_offsets(text: str) -> dict[int, int]:
    """UTF-16 offset of each character's begin, and of the end, with its byte offset."""
    starts, units, size = {0: 0}, 0, 0
    for character in text:
        units += 2 if character > "\uffff" else 1
        size += len(character.encode("utf-8", "surrogatepass"))
        starts[units] = size
    return starts


def _cleaned(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    if _UNCLEAN.search(text) is None:
        return text, entities
    if entities:
        gone = [utf16_length(text[: found.start()]) for found in _VANISHES.finditer(text)]
        if gone:
            entities = [_without(entity, gone) for entity in entities]
    return _UNCLEAN.sub(" ", _VANISHES.sub("", text)), entities


def _without(entity: Entity, gone: list[int]) -> Entity:
    begin, end = entity["offset"], entity["offset"] + entity["length"]
    before = sum(position < begin for position in gone)
    inside = sum(begin <= position < end for position in gone)
    return {**entity, "offset": begin - before, "length": end - begin - inside}


def _trimmed(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Blank ends go; at the front only as far as the first entity, as in the original."""
    text = text.rstrip(_BLANK)
    size = utf16_length(text)
    kept = []
    for entity in entities:
        length = min(entity["length"], size - entity["offset"])
        if length > 0:
            kept.append(entity if length == entity["length"] else {**entity, "length": length})
    lead = len(text) - len(text.lstrip(_BLANK))
    if kept:
        lead = min(lead, kept[0]["offset"])
    if lead:
        text = text[lead:]
        kept = [{**entity, "offset": entity["offset"] - lead} for entity in kept]
    return text, kept
