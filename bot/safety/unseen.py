"""Takes out of a text what people cannot see and a model can read.

Hidden instructions travel in characters without a picture: Unicode tags, variation selectors in long runs, joiners and
marks of direction between ordinary letters. The same characters spell flags, families, Persian and Hindi, so most of
them are judged by their neighbours: each stays exactly where a writer has a use for it. What is always taken out goes
first, in one substitution; then every run of characters under condition is read from left to right, so that a
second reading finds nothing more.
"""

import re
import unicodedata
from typing import Final

_TAG_FLAG: Final = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
"""A black flag, the letters of a region (England is "gbeng"), and the end: the one use of tags. No region is longer."""

_NEVER: Final = re.compile(
    f"(?P<flag>{_TAG_FLAG})"
    "|(?P<line>\r\n?|[\x0b\x0c\x85])"  # they end lines: to drop them would glue words together
    "|[\x00-\x08\x0e-\x1f\x7f-\x9f\xad"
    "\u180e\u202a-\u202e\u2060-\u206f"  # vowel separator; embeddings, overrides, isolates; operators, deprecated ones
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff0-\ufffb"  # halves, noncharacters, byte order mark, annotations
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_PERHAPS: Final = "\u061c\u200b-\u200f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_RUN: Final = re.compile(f"[{_PERHAPS}]+")
_SUSPECT: Final = re.compile(
    f"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u180e\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff0-\ufffb"
    f"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff{_PERHAPS}]"
)
"""One search decides for nearly every text that nothing is to be done."""

_MARKS: Final = frozenset("\u061c\u200e\u200f")
_ZWSP, _ZWNJ, _ZWJ = "\u200b", "\u200c", "\u200d"
_SELECTOR: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_SHOWN_BOTH_WAYS: Final = frozenset("0123456789#*\u203c\u2049\u2139\u3030")
"""Characters that are no symbols by category and still have an emoji form: keycaps, ‼ ⁉ ℹ 〰."""

_IDEOGRAPH: Final = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_FORMS: Final = re.compile(
    "[0\u1000-\u109f\uaa60-\uaa7f\ua840-\ua87f\u3001-\u3003\u3008-\u301f\uff01-\uff1f\U00010ac0-\U00010aff]"
)
"""Letters and signs of which Unicode lists one or two other forms (StandardizedVariants): VS1 to VS3 choose."""
_JOINING: Final = re.compile(
    "[\u0590-\u074f\u0750-\u077f\u07c0-\u07ff\u0840-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\u1b00-\u1b7f\ua8e0-\ua8ff"
    "\ua980-\ua9df\uaa60-\uaa7f\ufb1d-\ufdff\ufe70-\ufefc\U00010d00-\U00010d3f\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
"""Scripts whose letters change their shape by their neighbours: Arabic and its kin, and those of India."""
_VIRAMA: Final = frozenset(chr(0x94D + 0x80 * block) for block in range(9)) | {"\u0dca", "\u1039", "\u17d2"}
_SPACELESS: Final = re.compile("[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf]")
"""Thai, Lao, Tibetan, Burmese, Khmer: a break between words is written with a zero-width space."""


def visible(text: str) -> str:
    """``text`` without hidden characters; other ends of line become line feeds. Never raises; a second call changes
    nothing. Ordinary text of any language and every well-formed emoji come back as they are.
    """
    if not _SUSPECT.search(text):
        return text
    return _RUN.sub(_meant, _NEVER.sub(_kept, text))


def _kept(found: re.Match[str]) -> str:
    if found.lastgroup == "flag":
        return found[0]
    return "\n" if found.lastgroup == "line" else ""


def _meant(found: re.Match[str]) -> str:
    """Of a run the characters that mean something where they stand; nothing is judged by a neighbour that went."""
    text, end = found.string, found.end()
    before = text[found.start() - 1] if found.start() else ""
    kept: list[str] = []
    for place in range(found.start(), end):
        sign = text[place]
        if _has_use(before, sign, text[end : end + 1]):
            kept.append(sign)
            before = sign
    return "".join(kept)


def _has_use(before: str, sign: str, after: str) -> bool:
    if sign in _MARKS:
        return before not in _MARKS
    if sign == _ZWSP:
        return _is_letter(before, _SPACELESS) and _is_letter(after, _SPACELESS)
    if sign == _ZWNJ:
        return before in _VIRAMA or (_is_letter(before, _JOINING) and _is_letter(after, _JOINING))
    if sign == _ZWJ:
        return _is_letter(before, _JOINING) or (_can_be_joined(before) and _is_symbol(after))
    return _can_be_varied(before, sign)


def _can_be_varied(before: str, selector: str) -> bool:
    if not before or _SELECTOR.fullmatch(before):
        return False
    if selector >= "\U000e0100":
        return _IDEOGRAPH.fullmatch(before) is not None
    if selector >= "\ufe0e":
        return before in _SHOWN_BOTH_WAYS or _is_symbol(before)
    known = _IDEOGRAPH.fullmatch(before) or _FORMS.fullmatch(before) or _category(before) == "Sm"
    return selector <= "\ufe02" and bool(known)


def _can_be_joined(before: str) -> bool:
    """A picture, its colour of skin, its emoji form, or the end of a flag."""
    return before in {"\ufe0f", "\U000e007f"} or _is_symbol(before)


def _is_symbol(sign: str) -> bool:
    """The block of pictures is asked for too: Python's tables may be older than the newest emoji."""
    return "\U0001f000" <= sign <= "\U0001faff" or _category(sign) in {"So", "Sm"}


def _is_letter(sign: str, scripts: re.Pattern[str]) -> bool:
    return scripts.fullmatch(sign) is not None and _category(sign)[0] in "LM"


def _category(sign: str) -> str:
    return unicodedata.category(sign) if sign else "Zs"
