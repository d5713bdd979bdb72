"""What a model means by its signs, where CommonMark reads something else.

Such a sign is replaced by a Unicode noncharacter, which the parser takes for a letter, and put back afterwards: in code
as it was written. Not read as markup, on purpose: `$` (money in support answers, not mathematics), `||` (an "or", not a
spoiler), a single `~` ("about"), HTML.
"""

import re
from typing import Final

NOTHING: Final = "\ufdd0"
"""Stands between signs that must not be read together, and vanishes. The noncharacters are not in any cleaned text."""
_IN_TEXT: Final = {0xFDD0: "", 0xFDD1: "<", 0xFDD2: "<", 0xFDD3: "~", 0xFDD4: "*", 0xFDD5: "["}
_IN_CODE: Final = _IN_TEXT | {0xFDD2: "\\<", 0xFDD5: "[^"}

_WIDE: Final = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff“”‘’…—·]")
_GUARDED: Final = re.compile(
    # All begin with one of five signs; looked for first, that takes a seventh of the time.
    r"(?=[\\<~*\[])(?:"
    r"(?P<escape>\\.)"
    # HTML, or "less than". An address in angle brackets stays one, and so does the target of a link.
    r"|(?P<angle>(?<!\]\()<(?!(?:https?://|mailto:)[^\s<>]+>|[\w.+-]+@[\w.-]+>))"
    r"|(?P<tilde>(?<!~)~(?!~))"
    # 10*20*30 are measures, not a slanted 20.
    r"|(?P<times>(?<=\d)\*(?=\d))"
    r"|(?P<note>\[\^(?=[\w-]{1,20}\]))"
    # CommonMark lets no emphasis begin or end between a letter and a punctuation mark, which in scripts without blanks
    # is where it does.
    r"|(?P<opens>(?<=[^\W_])(?<!\*)(?:\*\*\*?|~~)(?=[^\w\s*~]))"
    r"|(?P<closes>(?<=[^\w\s*~])(?:\*\*\*?|~~)(?=[^\W_])))",
    re.DOTALL,
)
_GLUED: Final = re.compile(r"((?:^|(?<=\s))\*\*(?=\S)[^*\n]*[^\w\s*])\*\*(?=[^\W_])", re.MULTILINE)
"""``**Note:**text``: bold to everybody but CommonMark."""
_STANDS_FOR: Final = {"angle": "\ufdd1", "tilde": "\ufdd3", "times": "\ufdd4", "note": "\ufdd5"}
_BREAK: Final = re.compile(r"\ufdd1br\s*/?>")


def guarded(markdown: str) -> str:
    """Cleaned text (no noncharacters in it) as the parser shall read it."""
    return _GUARDED.sub(_stand_in, _GLUED.sub(rf"\1{NOTHING}**", markdown))


def as_text(parsed: str) -> str:
    """The signs put back; a line break of HTML is one."""
    return _BREAK.sub("\n", parsed).translate(_IN_TEXT)


def as_code(parsed: str) -> str:
    """The signs put back as they were written, as in addresses, too."""
    return parsed.translate(_IN_CODE)


def _stand_in(found: re.Match[str]) -> str:
    kind, signs = str(found.lastgroup), found[0]
    if kind == "escape":
        return "\ufdd2" if signs == "\\<" else signs
    if kind in _STANDS_FOR:
        return _STANDS_FOR[kind]
    if not _WIDE.search(found.string[found.start() - 1] + found.string[found.end()]):
        return signs
    return signs + NOTHING if kind == "opens" else NOTHING + signs
