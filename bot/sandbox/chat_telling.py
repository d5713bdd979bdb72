"""How an answer goes out: whole or in pieces, at its pace, spoiled where a fault says so, odd where a test wants it.

An answer without pauses goes out as one body, so that a benchmark measures the bot and not this server.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from typing import Final

from bot.sandbox.chat_exchange import Exchange, Finish
from bot.sandbox.chat_faults import ERRORS, SPOILED, ChatFault, Ending, Refusal
from bot.sandbox.chat_request import ChatBehaviour
from bot.sandbox.chat_wire import THOUGHT, Event, framing, opening, plain, send_split
from bot.sandbox.form import dump
from bot.sandbox.wire import Send, Wire, reply

JSON, SSE = b"application/json", b"text/event-stream"
_PIECES = re.compile(r"\s*\S+\s*")
_LARGE_CHARACTERS: Final = 1 << 20
_SLICE_CHARACTERS: Final = 1 << 16
_ENDLESS_PAUSE_SECONDS: Final = 0.001
_GARBAGE: Final = Event(b'{"choices":[{"delta":{"content":"')
_HALF_TOLD: Final[frozenset[Ending]] = frozenset({"cut", "stall", "error", "failed", "length", "content_filter"})
_FINISHES: Final[dict[Ending, Finish]] = {"length": "length", "content_filter": "content_filter"}


class Telling:
    """One answer on its way."""

    def __init__(
        self, exchange: Exchange, behaviour: ChatBehaviour, fault: ChatFault | None, wire: Wire, send: Send
    ) -> None:
        self._exchange, self._request = exchange, exchange.request
        self._pause, self._odd = behaviour.chunk_seconds, behaviour.wire
        self._fault, self._wire, self._send = fault, wire, send
        spoiled = SPOILED.get(fault.kind) if fault else None
        self._ending: Ending = spoiled.ending if spoiled else "stop"
        self._finish: Finish = _FINISHES.get(self._ending, "stop")
        if self._ending == "endless":
            self._pause = max(self._pause, _ENDLESS_PAUSE_SECONDS)
        self._frame = framing(self._odd)
        self._shorten()
        self._pieces = pieces_of(self._request.answer, behaviour.chunk_words)
        if self._ending in _HALF_TOLD and fault is not None:
            self._pieces = self._pieces[: fault.after]
        if self._finish != "stop":
            self._request.answer = "".join(self._pieces)

    async def tell(self) -> None:
        if not self._request.stream or "whole" in self._odd:
            await self._tell_whole()
        elif self._ending == "stop" and self._pause <= 0:
            self._request.chunks_sent = len(self._pieces)
            await self._reply(self._all(), SSE)
        else:
            await self._stream()

    def _shorten(self) -> None:
        most = self._exchange.most_tokens()
        if most is not None and self._ending == "stop" and len(self._request.answer) // 4 > most:
            self._request.answer = self._request.answer[: most * 4]
            self._finish = "length"

    def _all(self) -> bytes:
        exchange = self._exchange
        if not self._odd:
            head, text = map(plain, exchange.head()), exchange.pieces(self._pieces)
            return b"".join([*head, text, *map(plain, exchange.tail(self._request.answer, self._finish))])
        events = [*self._beginning()]
        for number, piece in enumerate(self._pieces):
            events += self._between(number)
            events += exchange.piece(piece)
        events += exchange.tail(self._request.answer, self._finish)
        return opening(self._odd) + b"".join(map(self._frame, events))

    async def _stream(self) -> None:
        """Chunks at their due times, not one sleep after the other, so that the pace does not drift."""
        request, start = self._request, time.monotonic()
        headers = [(b"content-type", SSE), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._write(opening(self._odd), self._beginning())
        for number, piece in enumerate(self._endless() if self._ending == "endless" else self._pieces):
            wait = start + number * self._pause - time.monotonic()
            if (wait > 0 and await self._wire.lost_within(wait)) or self._wire.is_lost:
                request.aborted = True
                return
            await self._write(b"", [*self._between(number), *self._exchange.piece(piece)])
            request.chunks_sent += 1
        await self._end()

    async def _end(self) -> None:
        exchange, fault = self._exchange, self._fault
        if self._ending == "stall" and fault is not None:
            self._request.aborted = await self._wire.lost_within(fault.seconds)
        if self._ending in ("cut", "stall"):
            self._wire.cut()
        elif self._ending == "error":
            await self._write(b"", exchange.error(self._trouble()), more=False)
        elif self._ending == "failed":
            await self._write(b"", exchange.failed(self._trouble()), more=False)
        else:
            await self._write(b"", exchange.tail(self._request.answer, self._finish), more=False)

    async def _tell_whole(self) -> None:
        """What cannot be told halfway in one object is a cut connection."""
        if self._ending in ("stop", *_FINISHES):
            await self._reply(dump(self._exchange.whole(self._request.answer, self._finish)), JSON)
        elif self._ending == "failed":
            await self._reply(dump(self._exchange.whole("", "failed")), JSON)
        else:
            if self._ending == "stall" and self._fault is not None:
                self._request.aborted = await self._wire.lost_within(self._fault.seconds)
            self._wire.cut()

    def _trouble(self) -> Refusal:
        refusal = ERRORS["500"]
        text = self._fault.text if self._fault else None
        return refusal if text is None else refusal._replace(text=text)

    def _beginning(self) -> Iterator[Event]:
        yield from self._exchange.head()
        if "reasoning" in self._odd:
            yield from self._exchange.thought(THOUGHT)
        for piece in _PIECES.findall(self._exchange.aside()):
            yield from self._exchange.piece(piece)

    def _between(self, number: int) -> Iterable[Event]:
        """What comes in the middle of the text."""
        if "reasoning" in self._odd and number and number == len(self._pieces) // 2:
            return self._exchange.thought(THOUGHT)
        if self._ending == "garbage" and self._fault is not None and number == self._fault.after:
            return [_GARBAGE]
        return ()

    def _endless(self) -> Iterator[str]:
        first, *rest = self._pieces
        return itertools.chain((first,), itertools.cycle([*rest, " ", first]))

    async def _write(self, before: bytes, events: Iterable[Event], *, more: bool = True) -> None:
        data = before + b"".join(map(self._frame, events))
        if "split" in self._odd:
            await send_split(self._send, data, self._request.n, more=more)
        else:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _reply(self, body: bytes, content_type: bytes) -> None:
        if "split" in self._odd:
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}
            )
            await send_split(self._send, body, self._request.n)
        else:
            await reply(self._send, 200, body, content_type)


def pieces_of(answer: str, words: int) -> list[str]:
    """The answer in pieces of so many words; a very long one in large slices."""
    if len(answer) > _LARGE_CHARACTERS:
        return [answer[at : at + _SLICE_CHARACTERS] for at in range(0, len(answer), _SLICE_CHARACTERS)]
    if words >= len(answer):
        return [answer]
    found = _PIECES.findall(answer) or [answer]
    size = max(words, 1)
    return ["".join(found[at : at + size]) for at in range(0, len(found), size)]
