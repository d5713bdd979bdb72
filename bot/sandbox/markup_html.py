"""HTML parse mode, as strict as Telegram's: unknown tags, open tags and bad attributes are errors."""

from __future__ import annotations

import re
from typing import NamedTuple

from bot.sandbox.units import Entity, UnparsableError, Writer, byte_offset, link_entity

_KINDS = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
    "s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "tg-spoiler": "spoiler",
    "span": "spoiler", "a": "text_link", "tg-emoji": "custom_emoji", "code": "code", "pre": "pre",
    "blockquote": "blockquote", "tg-time": "date_time",
}  # fmt: skip
#: (tag, attribute) whose value is kept, and the prefix that it must have.
_ARGUMENTS = {
    ("a", "href"): "",
    ("code", "class"): "language-",
    ("span", "class"): "tg-",
    ("tg-emoji", "emoji-id"): "",
    ("tg-time", "unix"): "",
}
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]*)|#([0-9]*)|([A-Za-z]+));?")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_SPACE = " \t\r\n\0\x0b"
_TOKEN = re.compile(r"[A-Za-z0-9.-]*")


class _Open(NamedTuple):
    tag: str
    argument: str
    begin: int
    part: int


def parse_html(text: str) -> tuple[str, list[Entity]]:
    """Raises `UnparsableError`."""
    writer, stack, position = Writer(), list[_Open](), 0
    while (start := text.find("<", position)) >= 0:
        writer.write(_decoded(text[position:start]))
        if text.startswith("</", start):
            position = _close(text, start, stack, writer)
        else:
            position = _open(text, start, stack, writer)
    writer.write(_decoded(text[position:]))
    if stack:
        raise UnparsableError(f'Can\'t find end tag corresponding to start tag "{stack[-1].tag}"')
    for entity in writer.entities:
        if entity["type"] == "code":
            entity.pop("language", None)
    return writer.result()


def _decoded(text: str) -> str:
    if "&" not in text:
        return text
    decoded = _REFERENCE.sub(_character, text)
    # Two halves of a pair given as two references join here; a lone half is an error.
    try:
        return decoded.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise UnparsableError(
            "Text contains invalid Unicode characters after decoding HTML entities, check for unmatched surrogate "
            "code units"
        ) from error


def _character(found: re.Match[str]) -> str:
    hexadecimal, decimal, name = found.groups()
    if name is not None:
        return _NAMED.get(name, found.group())
    digits = hexadecimal if hexadecimal is not None else decimal
    code = int(digits, 16 if hexadecimal is not None else 10) if digits else 0
    # The original gives up on references of ten characters and more.
    if not 0 < code < 0x10FFFF or len(found.group().rstrip(";")) >= 10:
        return found.group()
    return chr(code)


def _open(text: str, start: int, stack: list[_Open], writer: Writer) -> int:
    end = _skip_until(text, start + 1, _SPACE + ">")
    if end >= len(text):
        raise UnparsableError(f"Unclosed start tag at byte offset {byte_offset(text, start)}")
    tag = text[start + 1 : end].lower()
    if tag not in _KINDS:
        raise UnparsableError(f'Unsupported start tag "{tag}" at byte offset {byte_offset(text, start)}')
    argument = ""
    position = _skip(text, end, _SPACE)
    while not text.startswith(">", position):
        name, value, position = _attribute(text, position, tag, start)
        prefix = _ARGUMENTS.get((tag, name))
        if prefix is not None and value.startswith(prefix):
            argument = value[len(prefix) :]
        elif tag == "blockquote" and name == "expandable":
            argument = name
        position = _skip(text, position, _SPACE)
    if tag == "span" and argument != "spoiler":
        raise UnparsableError(f'Tag "span" must have class "tg-spoiler" at byte offset {byte_offset(text, start)}')
    stack.append(_Open(tag, argument, writer.units, len(writer.parts)))
    return position + 1


def _attribute(text: str, position: int, tag: str, start: int) -> tuple[str, str, int]:
    """Name, value and where the next one begins."""
    end = _skip_until(text, position, _SPACE + "=>")
    name = text[position:end]
    if not name:
        raise UnparsableError(f'Empty attribute name in the tag "{tag}" at byte offset {byte_offset(text, start)}')
    position = _skip(text, end, _SPACE)
    if not text.startswith("=", position):
        if tag == "blockquote" and name == "expandable" and position < len(text):
            return name, "", position
        raise UnparsableError(
            f'Expected equal sign in declaration of an attribute of the tag "{tag}" '
            f"at byte offset {byte_offset(text, start)}"
        )
    position = _skip(text, position + 1, _SPACE)
    if position >= len(text):
        raise UnparsableError(f'Unclosed start tag "{tag}" at byte offset {byte_offset(text, start)}')
    value, position = _value(text, position)
    if position >= len(text):
        raise UnparsableError(f"Unclosed start tag at byte offset {byte_offset(text, start)}")
    return name, value, position


def _value(text: str, position: int) -> tuple[str, int]:
    quote = text[position]
    if quote in "'\"":
        end = text.find(quote, position + 1)
        if end < 0:
            return "", len(text)
        return _decoded(text[position + 1 : end]), end + 1
    end = _TOKEN.match(text, position).end()  # type: ignore[union-attr]  # the pattern matches the empty string
    if end < len(text) and text[end] not in _SPACE + ">":
        raise UnparsableError(f"Unexpected end of name token at byte offset {byte_offset(text, position)}")
    return text[position:end].lower(), end


def _close(text: str, start: int, stack: list[_Open], writer: Writer) -> int:
    if not stack:
        raise UnparsableError(f"Unexpected end tag at byte offset {byte_offset(text, start)}")
    end = _skip_until(text, start + 2, _SPACE + ">")
    tag = text[start + 2 : end].lower()
    end = _skip(text, end, _SPACE)
    if not text.startswith(">", end):
        raise UnparsableError(f"Unclosed end tag at byte offset {byte_offset(text, start)}")
    opened = stack.pop()
    if tag and tag != opened.tag:
        raise UnparsableError(
            f'Unmatched end tag at byte offset {byte_offset(text, start)}, expected "</{opened.tag}>", found "</{tag}>"'
        )
    _mark(writer, opened)
    return end + 1


def _mark(writer: Writer, opened: _Open) -> None:
    kind, begin, argument = _KINDS[opened.tag], opened.begin, opened.argument
    if kind == "text_link":
        link_entity(writer, begin, argument or writer.since(opened.part))
    elif kind == "custom_emoji":
        if not argument.isdecimal() or argument == "0":
            raise UnparsableError("Invalid custom emoji identifier specified")
        writer.mark(kind, begin, custom_emoji_id=argument)
    elif kind == "blockquote":
        writer.mark("expandable_blockquote" if argument else kind, begin)
    elif kind == "date_time":
        writer.mark(kind, begin, unix_time=int(argument) if argument.isdecimal() else 0)
    elif kind in ("pre", "code"):
        _mark_code(writer, kind, begin, argument)
    else:
        writer.mark(kind, begin)


def _mark_code(writer: Writer, kind: str, begin: int, language: str) -> None:
    """`pre` and `code` around the same text are one block; the language comes from the `code` tag's class."""
    last = writer.entities[-1] if writer.entities else None
    same = last is not None and (last["offset"], last["length"]) == (begin, writer.units - begin)
    if kind == "pre" and same and last is not None and last["type"] == "code" and last.get("language"):
        last["type"] = "pre"
    elif kind == "code" and same and last is not None and last["type"] == "pre" and language:
        last["language"] = language
    elif kind == "code" and language:
        writer.mark(kind, begin, language=language)
    else:
        writer.mark(kind, begin)


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _skip_until(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] not in characters:
        position += 1
    return position
