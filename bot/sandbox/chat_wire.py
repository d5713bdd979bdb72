"""From events to bytes: server-sent events as the standard has them, and as servers and proxies really write them.

The oddities of framing are played here; those that change what the events hold (`reasoning`, `null_fields`, …) are
played by the dialects, and `split` and `whole` by whoever sends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from bot.sandbox.wire import Send

_FRAMED: Final = frozenset({"crlf", "cr", "comments", "bom", "no_space", "multiline", "id_retry", "u2028"})
_HELD: Final = frozenset({"no_done", "no_usage", "reasoning", "think", "null_fields"})
_SENT: Final = frozenset({"split", "whole"})
ODDITIES: Final[frozenset[str]] = _FRAMED | _HELD | _SENT

#: Text before and within the answer that is none of it.
THOUGHT: Final = "The customer asks something; I think about what to say."

_LINES: Final = '"obfuscation":"a\u2028b\u2029c\u0085d",'.encode()
_MOST_BYTES_A_PIECE: Final = 7


class Event(NamedTuple):
    """`data` is JSON, or an end mark, or empty where the name says everything."""

    data: bytes
    name: str = ""


Frame = Callable[[Event], bytes]


def framing(oddities: frozenset[str]) -> Frame:
    """How one event is written. Keeps count of events, so one answer needs one of its own."""
    odd = oddities & _FRAMED
    return _Odd(odd) if odd else plain


def opening(oddities: frozenset[str]) -> bytes:
    """What comes before the first event."""
    return b"\xef\xbb\xbf" if "bom" in oddities else b""


async def send_split(send: Send, body: bytes, seed: int, *, more: bool = False) -> None:
    """The body in pieces of a few bytes, cut at any byte; repeatable by `seed`."""
    for piece in _cut(body, random.Random(seed)):  # repeatable, guards nothing
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if not more:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _cut(body: bytes, source: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size = source.randint(1, _MOST_BYTES_A_PIECE)
        yield body[at : at + size]
        at += size


def plain(event: Event) -> bytes:
    """One event without oddities."""
    data, name = event
    if not name:
        return b"data: " + data + b"\n\n"
    if not data:
        return b"event: " + name.encode() + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class _Odd:
    """Framing with one or more oddities."""

    def __init__(self, oddities: frozenset[str]) -> None:
        self._odd = oddities
        self._end = b"\r\n" if "crlf" in oddities else b"\r" if "cr" in oddities else b"\n"
        self._colon = b":" if "no_space" in oddities else b": "
        self._count = 0

    def __call__(self, event: Event) -> bytes:
        self._count += 1
        return b"".join(line + self._end for line in self._lines(event))

    def _lines(self, event: Event) -> Iterable[bytes]:
        odd = self._odd
        if "comments" in odd:
            yield from (b": keep-alive", b"")
        if "id_retry" in odd:
            yield from (b"id" + self._colon + str(self._count).encode(), b"retry" + self._colon + b"3000")
        if event.name or "id_retry" in odd:
            yield b"event" + self._colon + (event.name or "message").encode()
        for line in self._data(event.data):
            yield b"data" + self._colon + line
        yield b""

    def _data(self, data: bytes) -> tuple[bytes, ...]:
        if not data:
            return ()
        is_object = data.startswith(b"{") and len(data) > 2
        if is_object and "u2028" in self._odd:
            data = data[:1] + _LINES + data[1:]
        # JSON allows a line break beside a brace, nowhere within a string.
        return (data[:1], data[1:-1], data[-1:]) if is_object and "multiline" in self._odd else (data,)
