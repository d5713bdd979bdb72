"""The end of a text that is still being written, closed as it will probably go on.

A preview shows Markdown that may stop anywhere. Shown as it stands, `**` would be two stars until its partner arrives,
a table a heap of bars until its second line, `[here](https://exa` an address. Only the last block can be open: what
stands before an empty line, or in a closed block of code, is decided.
"""

import re
from typing import Final

_FENCE: Final = re.compile(r"^[ >]*(?:(?:[-+*]|\d{1,9}[.)]) +)?(`{3,}(?=[^`\n]*$)|~{3,})", re.MULTILINE)
_HALF_FENCE: Final = re.compile(r"\n[ >]*[`~]{1,2}$")
_EMPTY_BLOCK: Final = re.compile(r"(?:^|\n)[ >]*(?:#{1,6}|[-+*]+ +\[[ xX]?\]?|[-+*=:]+|\d{1,3}[.)]?)[ \t]*$")
_ITEM: Final = re.compile(r"(?:^|\n)[ >]*(?:[-+*]|\d{1,9}[.)]|#{1,6})[ \t]+")
_HALF_LINK: Final = re.compile(r"!?\[([^\[\]\n]*)(?:\](?:\([^()\s]*)?)?$")
_HALF_ADDRESS: Final = re.compile(r"<(https?://[^\s<>]*)$")
_LAST_SIGNS: Final = re.compile(r"[*_~`\\\[]+$")
_SIGNS: Final = re.compile(r"\\.|`+|\*{1,3}|~~|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)", re.DOTALL)
_TABLE_LINE: Final = re.compile(r"[ >]*\|.*")
_HALF_RULE: Final = re.compile(r"[ >]*\|[\s:|-]*")


def finished(text: str) -> str:
    """``text`` with what is open at its end closed, and signs that mean nothing yet left out."""
    fence, decided = _fences(text)
    if fence >= 0:
        code = text[fence:].partition("\n")[2]  # before it: a language, of which more may come
        return _HALF_FENCE.sub("", text) if code.strip() else text[:fence]
    begin = max(text.rfind("\n\n"), decided)
    done, lines = text[:begin], text[begin:].split("\n")
    first = len(lines)
    while first and _TABLE_LINE.fullmatch(lines[first - 1]):
        first -= 1
    if first < len(lines):
        return done + "\n".join([*lines[:first], *_table(lines[first:])])
    return done + _closed(_EMPTY_BLOCK.sub("", text[begin:]))


def _fences(text: str) -> tuple[int, int]:
    """Where the block of code begins in which the text stops, or -1; and where the last one that is closed ends."""
    fence, begin, decided = "", -1, 0
    for found in _FENCE.finditer(text):
        if not fence:
            fence, begin = found[1], found.start()
        elif found[1].startswith(fence) and not text[found.end() :].split("\n", 1)[0].strip():
            fence, begin, decided = "", -1, found.end()
    return begin, decided


def _table(lines: list[str]) -> list[str]:
    """The second line is what makes a table of the first; a row shows its last cell as any text."""
    head, *more = lines
    last = lines[-1]
    if not head.strip(" >|"):
        return []
    if not more or (len(more) == 1 and _HALF_RULE.fullmatch(last)):
        head = head if more else _with_last_cell_closed(head)
        columns = head.strip(" >|").replace("\\|", "").count("|") + 1
        return [head, f"{head[: head.index('|')]}|{'---|' * columns}"]
    if not last.strip(" >|"):
        return lines[:-1]
    return [*lines[:-1], _with_last_cell_closed(last)]


def _with_last_cell_closed(row: str) -> str:
    before, bar, cell = row.rpartition("|")
    return f"{before}{bar}{_closed(cell)}|" if cell.strip() else row


def _closed(block: str) -> str:
    """Emphasis may begin in an earlier line, but not in another item of a list."""
    begin = max((found.end() for found in _ITEM.finditer(block)), default=0)
    lead, inline = block[:begin], block[begin:]
    inline = _HALF_ADDRESS.sub(r"\1", _HALF_LINK.sub(r"\1", inline))
    # Signs at the very end open something yet to come, or close in part or whole what is closed below anyway.
    inline = _LAST_SIGNS.sub("", inline)
    shown = inline.rstrip()
    signs = _open_signs(shown)
    return lead + (shown + "".join(reversed(signs)) if signs else inline)


def _open_signs(text: str) -> list[str]:
    """What is open at the end of a text, the outermost first."""
    stack: list[str] = []
    for found in _SIGNS.finditer(text):
        signs = found[0]
        before, behind = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
        if signs[0] == "\\":
            continue
        if stack and stack[-1][0] == "`":
            if signs == stack[-1]:
                stack.pop()
        elif signs in stack and before.strip():
            del stack[stack.index(signs) :]
        elif behind.strip() and not (before.isdigit() and behind.isdigit()):
            stack.append(signs)
    return stack
