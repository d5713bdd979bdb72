"""Takes addresses out of an answer that lead elsewhere than the operator allows, and pictures always.

The answer is Markdown that a model wrote, perhaps talked into it by a customer or a page: its links are as trusted as
a stranger's. The parser is the one the answer is shown with, so links and code are what a reader will get; beside it
the source itself is searched, since Telegram reads rich messages with a parser of its own. Each change can make new
markup of what stood around it, hence one kind of change at a time, until nothing is left to change. A text that does
not come to rest in a few rounds was made to confuse: in it no code is believed.
"""

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final, NamedTuple, cast

import pyromark

from bot.delivery.unfinished import finished
from bot.safety.addresses import ALWAYS_REMOVED, TRAILING, Allowed, Edit, edits_in, is_mail
from bot.safety.unseen import visible

_OPTIONS: Final = (
    pyromark.Options.ENABLE_TABLES | pyromark.Options.ENABLE_STRIKETHROUGH | pyromark.Options.ENABLE_TASKLISTS
)
_MOST_ROUNDS: Final = 12
_INLINE: Final = frozenset({"Strong", "Emphasis", "Strikethrough", "Link", "Image"})
_LINES: Final = re.compile("[\u0333\u033f]")
"""Lines under and over letters: no message is sent with them (`bot.delivery.form.clean`); they could split markup."""
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[\x00-\x20\x7f-\xa0]+")
_HALF_LINK: Final = re.compile(r"\[([^\[\]\n]*)\]\(\s*<?([^()\s<>]*)$")
_HALF_ADDRESS: Final = re.compile(r"[a-z]*|https?:/{0,2}([a-z0-9-]*)", re.IGNORECASE)
_IMAGE_TAG: Final = re.compile(r"<img\b[^<>]*>", re.IGNORECASE)
_ALT: Final = re.compile(r"\balt\s*=\s*(?:\"([^\"<>]*)\"|'([^'<>]*)')", re.IGNORECASE)
_IMAGE_SIGN: Final = re.compile(r"!(?=\[[^\]\n]{0,500}\]\s?[(\[])")


class _Event(NamedTuple):
    name: str  # of what starts, ends ("/Link") or stands there
    value: Any
    start: int
    end: int


class LinkRules:
    """Which hosts an answer may link: those given, and what lies below them; with none given, every one.

    ``removed`` stands in place of an address, such as "[link removed]". Raises ValueError for a host that is none, and
    for a ``removed`` that holds an address or is longer than a line.
    """

    def __init__(self, hosts: tuple[str, ...], removed: str) -> None:
        self._allowed = Allowed(hosts)
        self._removed = removed
        if "\n" in removed or "`" in removed or any(edits_in(removed, Allowed(()), lambda *_: "", 0, len(removed))):
            raise ValueError("What stands for a removed link must be a few plain words.")

    def kept(self, text: str, *, growing: bool = False) -> str:
        """``text`` with its words, without the addresses that are not allowed, without pictures, hidden characters and
        blanks at its beginning.

        Code stays as it is. While a text is ``growing``, an address at its very end that is not allowed is left out
        instead of replaced: more of it may come. Any text can be given; a second call changes nothing.
        """
        text = without_images(_LINES.sub("", visible(text))).lstrip()
        if not _may_hold_link(text, ruled=bool(self._allowed)):
            return text
        text = self._at_rest(text, growing)
        return self._safe_to_preview(text) if growing else text

    def _at_rest(self, text: str, growing: bool) -> str:
        for _ in range(_MOST_ROUNDS):
            changed = without_images(self._once(text, growing)).lstrip()
            if changed == text:
                return text
            text = changed
        return self._without_any(text, growing)

    def _safe_to_preview(self, text: str) -> str:
        """A preview closes what is open at the end of the text, which can make code of words and words of code."""
        for _ in range(_MOST_ROUNDS):
            shown = finished(text.strip())
            kept = self._at_rest(without_images(shown), growing=True)
            if kept == shown:
                return text
            text = kept
        return ""

    def _once(self, text: str, growing: bool) -> str:
        events = _events(text)
        zones = _code(text, events)
        edits = list(self._half_link(text, zones, growing)) or list(self._links(text, events))
        if not edits and self._allowed:
            edits = self._in_source(text, zones, growing) or self._as_shown(text, events, growing)
        return self._applied(text, edits)

    def _without_any(self, text: str, growing: bool) -> str:
        for _ in range(_MOST_ROUNDS):
            text, before = self._applied(text, self._in_source(text, [], growing)).lstrip(), text
            if text == before and self._once(text, growing) == text == without_images(text):
                return text
        return self._removed

    def _stand_in(self, text: str, end: int, growing: bool) -> str:
        return "" if growing and not text[end:].strip(TRAILING) else self._removed

    def _applied(self, text: str, edits: list[Edit]) -> str:
        """In brackets, the words for a removed link must not become one with what follows."""
        parts: list[str] = []
        at = 0
        for start, end, words in sorted(edits):
            if start < at:
                continue  # within another one; the next round sees it
            parts += (text[at:start], words)
            at = end
            if words.endswith("]") and text[end : end + 1] in {"(", "[", ":"}:
                parts.append(" ")
        return "".join([*parts, text[at:]])

    def _half_link(self, text: str, zones: list[tuple[int, int]], growing: bool) -> Iterator[Edit]:
        found = _HALF_LINK.search(text, max(0, text.rfind("\n") + 1))
        if found is None or not found[2] or any(start <= found.start() < end for start, end in zones):
            return
        half = _HALF_ADDRESS.fullmatch(found[2])
        if self._leads_to_allowed(found[2]) or (half and self._allowed.begins_one(half[1] or "")):
            return
        yield Edit(found.start(), len(text), found[1] if growing else _joined(found[1], self._removed))

    def _links(self, text: str, events: list[_Event]) -> Iterator[Edit]:
        for at, event in enumerate(events):
            if event.name == "Link" and (words := self._instead(text, events, at)) is not None:
                collapsed = event.value["link_type"] == "Collapsed" and text.startswith("[]", event.end)
                yield Edit(event.start, event.end + 2 * collapsed, words)
        for definition in _definitions(text).values():
            if not self._leads_to_allowed(definition["dest"]) or self._speaks_of_other(definition["title"]):
                yield Edit(definition["start"], definition["end"], "")

    def _instead(self, text: str, events: list[_Event], at: int) -> str | None:
        """What stands for a link, or None where it stays."""
        event = events[at]
        dest = event.value["dest_url"]
        if event.value["link_type"] == "Email" or (dest[:7].lower() == "mailto:" and is_mail(dest[7:])):
            return None
        words = _inside(text, events, at)
        mail = dest[7:].partition("?")[0]
        if dest[:7].lower() == "mailto:" and is_mail(mail) and not event.value["id"]:
            return f"[{words}](mailto:{mail})"  # with more behind, it would be shown, and read as a link
        if self._leads_to_allowed(dest) and not self._speaks_of_other(event.value["title"]):
            return None
        return self._removed if event.value["link_type"] == "Autolink" else _joined(words, self._removed)

    def _leads_to_allowed(self, dest: str) -> bool:
        dest = _BLANKS.sub("", visible(dest))
        found = _SCHEME.match(dest)
        scheme, rest = (found[1].lower(), dest[found.end() :]) if found else ("", dest)
        if scheme in ALWAYS_REMOVED or not self._allowed:
            return scheme not in ALWAYS_REMOVED
        if scheme in {"http", "https"} or rest[:2] in {"//", "\\\\", "/\\", "\\/"}:
            return self._allowed.rest(rest)
        if scheme in {"", "tel", "mailto"}:
            return not self._speaks_of_other(rest)
        return False

    def _speaks_of_other(self, words: str) -> bool:
        """Titles, and targets that are no links, are shown as words."""
        return bool(self._allowed and list(edits_in(words, self._allowed, lambda *_: "", 0, len(words))))

    def _in_source(self, text: str, zones: list[tuple[int, int]], growing: bool) -> list[Edit]:
        edits: list[Edit] = []
        begins = [0, *(end for _, end in zones)]
        ends = [*(start for start, _ in zones), len(text)]
        for start, end in zip(begins, ends, strict=True):
            edits += edits_in(text, self._allowed, lambda _, last: self._stand_in(text, last, growing), start, end)
        return edits

    def _as_shown(self, text: str, events: list[_Event], growing: bool) -> list[Edit]:
        """Addresses that markup, escapes or entities hold apart in the source and a reader sees whole."""
        edits = []
        for shown in _shown(events):
            words = "".join(piece for piece, *_ in shown)
            places = [place for piece, start, end, _ in shown for place in _places(piece, start, end)]
            code = [is_code for piece, _, _, is_code in shown for _ in piece]
            for start, end, instead in edits_in(words, self._allowed, lambda *_: self._removed, 0, len(words)):
                if all(code[start:end]):
                    continue
                first, last = places[start][0], places[max(start, end - 1)][1 if end > start else 0]
                edits.append(
                    Edit(first, last, self._stand_in(text, last, growing) if instead == self._removed else instead)
                )
        return edits


def without_images(text: str) -> str:
    """Pictures become their alternative text, in Markdown and HTML; code stays as it is. Any text; idempotent.

    A picture's address is fetched by whoever shows it, and can carry in it what the customer wrote.
    """
    text = text.encode("utf-8", "replace").decode()
    for _ in range(_MOST_ROUNDS):
        if "![" not in text and "<img" not in text.lower():
            return text
        changed = _with_images_told(text)
        if changed == text:
            return text
        text = changed
    return text.replace("![", "[").replace("<img", "img")


def _with_images_told(text: str) -> str:
    events = _events(text)
    edits = [
        Edit(event.start, event.end, _inside(text, events, at))
        for at, event in enumerate(events)
        if event.name == "Image"
    ]
    if edits:
        edits += _only_for_images(text, events)
        at, parts = 0, []
        for start, end, words in sorted(edits):
            if start >= at:
                parts += [text[at:start], words]
                at = end
        return "".join([*parts, text[at:]])
    at, parts = 0, []
    for start, end in [*_code(text, events), (len(text), len(text))]:
        parts += [_IMAGE_TAG.sub(_alt, _IMAGE_SIGN.sub("", text[at:start])), text[start:end]]
        at = end
    return "".join(parts)


def _only_for_images(text: str, events: list[_Event]) -> Iterator[Edit]:
    used = {
        name: {event.value["id"].casefold() for event in events if event.name == name} for name in ("Link", "Image")
    }
    for label, definition in _definitions(text).items():
        if label.casefold() in used["Image"] - used["Link"]:
            yield Edit(definition["start"], definition["end"], "")


def _alt(found: re.Match[str]) -> str:
    alt = _ALT.search(found[0])
    return (alt[1] or alt[2] or "") if alt else ""


def _may_hold_link(text: str, *, ruled: bool) -> bool:
    """Most answers hold none, and need no parser."""
    return any(sign in text for sign in ("](", "]:", "<")) or (ruled and ("." in text or ":" in text or "&" in text))


def _joined(words: str, removed: str) -> str:
    return removed if not words.strip() or words.strip() == removed else f"{words} {removed}"


def _events(text: str) -> list[_Event]:
    """The parser's events, with places in characters instead of bytes."""
    places: Any = range(len(text.encode()) + 1) if text.isascii() else _places_of_bytes(text)
    events = []
    for event, span in pyromark.events_with_range(text, options=_OPTIONS):
        name: str
        value: Any
        name, value = (event, None) if isinstance(event, str) else next(iter(cast("dict[str, Any]", event).items()))
        if name in {"Start", "End"}:
            tag, value = (value, None) if isinstance(value, str) else next(iter(value.items()))
            name = tag if name == "Start" else f"/{tag}"
        events.append(_Event(name, value, places[span["start"]], places[span["end"]]))
    return events


def _places_of_bytes(text: str) -> list[int]:
    places: list[int] = []
    for place, sign in enumerate(text):
        places += [place] * len(sign.encode())
    return [*places, len(text)]


def _definitions(text: str) -> dict[str, dict[str, Any]]:
    if "]:" not in text:
        return {}
    found = pyromark.reference_definitions(text, options=_OPTIONS)
    places = list(accumulate((len(sign.encode()) for sign in text), initial=0)) if found else []
    at = {byte: place for place, byte in enumerate(places)}
    return {
        label: {
            "dest": one["dest"],
            "title": one["title"] or "",
            "start": at[one["span"]["start"]],
            "end": at[one["span"]["end"]],
        }
        for label, one in found.items()
    }


def _code(text: str, events: list[_Event]) -> list[tuple[int, int]]:
    """Code that any reader of Markdown takes as such: in a line, or fenced behind a first line, which is shown. What is
    indented, or goes on in the next line, is code to some, and while a text grows to none.
    """
    zones = []
    for event in events:
        if event.name == "Code" and "\n" not in text[event.start : event.end]:
            zones.append((event.start, event.end))
        elif event.name == "CodeBlock" and isinstance(event.value, dict):
            first = text.find("\n", event.start, event.end)
            if first >= 0:
                zones.append((first, event.end))
    return zones


def _inside(text: str, events: list[_Event], at: int) -> str:
    """The source of what stands between the brackets of a link or picture."""
    outer, inner = events[at], []
    for event in events[at + 1 :]:
        if event.end > outer.end or (event.name == f"/{outer.name}" and event.end == outer.end):
            break
        inner.append(event)
    return text[inner[0].start : max(event.end for event in inner)] if inner else ""


def _shown(events: list[_Event]) -> Iterator[list[tuple[str, int, int, bool]]]:
    """Runs of text as a reader sees them, each piece with its place in the source."""
    run: list[tuple[str, int, int, bool]] = []
    in_code = False
    for event in events:
        if event.name.endswith("CodeBlock"):
            in_code = event.name == "CodeBlock" and isinstance(event.value, dict)
        if event.name in {"Text", "Html", "InlineHtml", "Code"}:
            if not in_code:
                run.append((event.value, event.start, event.end, event.name == "Code"))
        elif event.name in {"SoftBreak", "HardBreak"}:
            run.append(("\n", event.start, event.end, False))
        elif event.name.removeprefix("/") not in _INLINE and run:
            yield run
            run = []
    if run:
        yield run


def _places(piece: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where each character of a piece stands in the source: one by one, or all of them in one entity or span."""
    if len(piece) == end - start:
        return [(start + offset, start + offset + 1) for offset in range(len(piece))]
    return [(start, end)] * len(piece)
