"""A chat API for the bench of streams, in a process of its own: many answers at once, one chunk every 20 ms each.

It does next to nothing, so that it keeps its pace: the chunks are made beforehand, and a clock of its own for each
answer writes them, late ones at once. The first words of an answer are the time (monotonic, which all processes of one
machine share) at which they were written: that is how readers know how long these words were on their way.

``python -m tests.bench.streamer PORT``
"""

import asyncio
import json
import random
import sys
import time
from typing import Any, Final, cast

import uvloop

CHUNKS: Final = 100
"""Chunks with text in one answer."""

CHUNK_SECONDS: Final = 0.02
_FIRST_SECONDS: Final = (0.05, 0.15)
_TALES: Final = 16
_WORDS_PER_CHUNK: Final = 3
WORDS: Final = 1 + _WORDS_PER_CHUNK * (CHUNKS - 1)
"""Words of a whole answer, the time among them."""

SPOKEN: Final = ["order", "parcel", "invoice", "address", "courier", "refund", "voucher", "size", "colour", "warranty"]
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_FIELDS: Final = {
    "id": "chatcmpl-Cn5zWXcTQm0nB2uCHr4o8fWUFq0sZ",
    "object": "chat.completion.chunk",
    "created": 1764000000,
    "model": "bench-2026-01-01",
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}


def _framed(body: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    event = {**_FIELDS, "choices": [choice], "usage": None, "obfuscation": "k3Jx0aQz"}
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _tale(number: int) -> list[bytes]:
    """All chunks with text but the first, which holds the time."""
    drawn = random.Random(number)
    texts = ("".join(f" {drawn.choice(SPOKEN)}" for _ in range(_WORDS_PER_CHUNK)) for _ in range(CHUNKS - 1))
    return [_framed(_event({"content": text})) for text in texts]


_OPENING: Final = _HEAD + _framed(_event({"role": "assistant", "content": "", "refusal": None}))
_USAGE: Final = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}
_CLOSING: Final = (
    _framed(_event({}, "stop"))
    + _framed(b"data: " + json.dumps({**_FIELDS, "choices": [], "usage": _USAGE}).encode() + b"\n\n")
    + _framed(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class _Answering(asyncio.Protocol):
    """One connection, one answer after the other. What is asked does not matter, only where the question ends."""

    def __init__(self, tales: list[list[bytes]], drawn: random.Random) -> None:
        self._tales = tales
        self._drawn = drawn
        self._asked = b""
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses

    def connection_lost(self, _: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, end, body = self._asked.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._asked = b""
            self._transport.write(_OPENING)
            loop = asyncio.get_running_loop()
            due = loop.time() + self._drawn.uniform(*_FIRST_SECONDS)
            self._next = loop.call_at(due, self._begin, self._drawn.choice(self._tales), due)

    def _begin(self, tale: list[bytes], due: float) -> None:
        self._transport.write(_framed(_event({"content": f"{time.monotonic():017.6f}"})))
        self._go_on(tale, 0, due + CHUNK_SECONDS)

    def _go_on(self, tale: list[bytes], place: int, due: float) -> None:
        loop = asyncio.get_running_loop()
        if place < len(tale):
            self._next = loop.call_at(due, self._tell, tale, place, due)
        else:
            self._transport.write(_CLOSING)

    def _tell(self, tale: list[bytes], place: int, due: float) -> None:
        self._transport.write(tale[place])
        self._go_on(tale, place + 1, due + CHUNK_SECONDS)


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)


async def main(port: int) -> None:
    tales, drawn = [_tale(number) for number in range(_TALES)], random.Random(1)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(tales, drawn), "127.0.0.1", port, backlog=1000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
