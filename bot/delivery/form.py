"""From the model's Markdown to what Telegram shows: text with entities, cut into messages that fit.

Offsets and limits count UTF-16 units, as Telegram does. Formatting is never the reason why an answer is missing: what
cannot be formatted is sent as it was written.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from telegramify_markdown import convert, split_entities
from telegramify_markdown.config import RenderConfig

LIMIT: Final = 4096
"""UTF-16 units of one message (Bot API, sendMessage)."""

_MARKUP = re.compile(r"[*_`~#\[\]<>|\\\-+=!$]|^\s*\d+[.)]\s|^ {4}|^\t", re.MULTILINE)
_INVISIBLE = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_BARE_ANGLE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)|<", re.DOTALL)
_TIGHT_BOLD = re.compile(r"(?<=[^\W\d_a-zA-Z])(\*\*)(?=[^\w\s*])|(?<=[^\w\s*])(\*\*)(?=[^\W\d_a-zA-Z])")


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: its text, its entities as the Bot API takes them, and the same as it was written."""

    text: str
    entities: list[dict[str, Any]]


def utf16_units(text: str) -> int:
    """The length Telegram counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def pieces_of(text: str, *, plain: bool) -> list[Piece]:
    """The messages that say ``text``, in order; at least one when anything is visible. Deterministic."""
    text = clean(text)
    if plain or not _MARKUP.search(text):
        return [Piece(part, []) for part in split_plain(text)]
    return _formatted(text) or [Piece(part, []) for part in split_plain(text)]


def clean(text: str) -> str:
    """Without control characters and lone surrogates, which Telegram or JSON would refuse."""
    return text.encode("utf-8", "replace").decode().translate(_INVISIBLE).strip()


def split_plain(text: str) -> list[str]:
    """Cuts at paragraphs, lines, sentences, blanks, in this order of preference; nothing but white space is dropped."""
    parts = []
    while utf16_units(text) > LIMIT:
        head = _head(text)
        cut = next((at for mark in ("\n\n", "\n", ". ", " ") if (at := head.rfind(mark)) > len(head) // 2), len(head))
        part = text[: cut + 1] if text[cut : cut + 1] == "." else text[:cut]
        parts.append(part.rstrip())
        text = text[len(part) :].lstrip()
    return [part for part in [*parts, text] if part.strip()]


def _head(text: str) -> str:
    """The longest beginning that fits, never cutting a character in two."""
    if text.isascii():
        return text[:LIMIT]
    return text.encode("utf-16-le", "surrogatepass")[: LIMIT * 2].decode("utf-16-le", "ignore")


def _formatted(text: str) -> list[Piece]:
    guarded = _BARE_ANGLE.sub(lambda match: match[1] or "\\<", text)
    guarded = _TIGHT_BOLD.sub(lambda match: "**\u200b" if match[1] else "\u200b**", guarded)
    try:
        shown, entities = convert(guarded, latex_escape=False, config=_look())
        split = split_entities(shown, entities, LIMIT)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [Piece(part, [mark.to_dict() for mark in marks]) for part, marks in split if part.strip()]


@lru_cache(maxsize=1)
def _look() -> RenderConfig:
    """Bold headings and plain bullets instead of the library's pictograms."""
    look = RenderConfig.isolated()
    look.markdown_symbol.unordered_list_item = "\u2022"
    for level in range(1, 5):
        setattr(look.markdown_symbol, f"heading_level_{level}", "")
    return look
