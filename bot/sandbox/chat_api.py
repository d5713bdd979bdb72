"""`ChatApiServer`: an OpenAI-compatible chat API that needs no network and no key.

The shape on the wire follows the OpenAI API reference (chat completions, streaming with `stream_options`). An
answer without pauses goes out as one body, so that a benchmark measures the bot and not this server.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from bot.sandbox.chat_faults import ERRORS, ChatFault, ChatFaultPlan, Refusal
from bot.sandbox.form import dump
from bot.sandbox.guard import is_foreign, refuse_foreign
from bot.sandbox.offline_model import offline_answer, text_of
from bot.sandbox.wire import (
    LOOPBACK,
    Headers,
    Listener,
    Receive,
    Scope,
    Send,
    TooLargeError,
    Wire,
    header,
    read_body,
    reply,
)

MAX_BODY_BYTES = 32 << 20
MODELS = ("offline", "offline-large")
_PIECES = re.compile(r"\s*\S+\s*")
_JSON, _SSE = b"application/json", b"text/event-stream"
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBehaviour:
    """How answers come: seconds to the first chunk (plus up to `jitter_seconds` at random) and between chunks.

    `answer` replaces the offline model's own words. With `context_tokens` (roughly four characters each) a longer
    prompt is refused with `context_length_exceeded`.
    """

    first_delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    chunk_seconds: float = 0.0
    answer: Callable[[list[dict[str, Any]]], str] | None = None
    chunk_words: int = 1
    context_tokens: int | None = None


#: Pace that a person in front of the chat page finds natural.
NATURAL = ChatBehaviour(first_delay_seconds=0.6, jitter_seconds=0.4, chunk_seconds=0.05)


@dataclass(slots=True, kw_only=True)
class ChatRequest:
    """One request. Times are monotonic seconds; `aborted` where the client hung up before the end."""

    n: int
    messages: list[dict[str, Any]]
    body: dict[str, Any]
    key: str
    t: float
    stream: bool = False
    status: int | None = None
    answer: str = ""
    chunks_sent: int = 0
    aborted: bool = False
    fault: str | None = None
    t_first: float | None = None
    t_end: float | None = None


class ChatApiServer:
    """Listens on the loopback between `start` and `aclose`. `behaviour` and `faults` may change at any time."""

    def __init__(self, *, host: str = LOOPBACK, port: int = 0, behaviour: ChatBehaviour | None = None) -> None:
        self.behaviour = behaviour or ChatBehaviour()
        self.faults = ChatFaultPlan()
        self.requests: list[ChatRequest] = []
        self.keep_requests = True
        self.on_request: Callable[[ChatRequest], None] | None = None
        self.made = 0
        self._random = random.Random(1)  # spreads delays, guards nothing
        self._listener = Listener(self._serve, host, port)

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        await self._listener.start()

    async def aclose(self) -> None:
        """May be called twice."""
        await self._listener.aclose()

    @property
    def url(self) -> str:
        """Base URL, ending in `/v1`."""
        return f"{self._listener.url}/v1"

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if is_foreign(scope, self._listener.port):
            await refuse_foreign(send)
        elif path == "/v1/chat/completions" and scope["method"] == "POST":
            await self._complete(scope, receive, send)
        elif path == "/v1/models":
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "sandbox"} for name in MODELS]
            await reply(send, 200, dump({"object": "list", "data": listed}), _JSON)
        else:
            await _refuse(send, Refusal(404, "Unknown request URL", "invalid_request_error", "unknown_url"))

    async def _complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = orjson.loads(await read_body(receive, MAX_BODY_BYTES))
        except ConnectionError:
            return
        except (orjson.JSONDecodeError, TooLargeError):
            body = None
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            text = "the body must be a JSON object whose 'messages' is a non-empty array of objects"
            await _refuse(send, Refusal(400, text, "invalid_request_error", None))
            return
        request = self._note(body, messages, header(scope, b"authorization"))
        try:
            await self._answer(request, scope["wire"], send)
        finally:
            request.t_end = time.monotonic()
            if self.on_request is not None:
                self.on_request(request)

    def _note(self, body: dict[str, Any], messages: list[dict[str, Any]], authorization: str) -> ChatRequest:
        request = ChatRequest(
            n=self.made, messages=messages, body=body, key=authorization.removeprefix("Bearer "), t=time.monotonic(),
            stream=bool(body.get("stream")),
        )  # fmt: skip
        self.made += 1
        if self.keep_requests:
            self.requests.append(request)
        return request

    async def _answer(self, request: ChatRequest, wire: Wire, send: Send) -> None:
        behaviour = self.behaviour
        fault = self.faults.pick() if self.faults else None
        if behaviour.context_tokens is not None and _tokens(request.messages) > behaviour.context_tokens:
            fault = ChatFault(kind="context")
        if fault is not None:
            request.fault = fault.kind
            if fault.kind not in ("cut", "error_midway"):
                await self._fail(request, fault, wire, send)
                return
        request.answer = (behaviour.answer or offline_answer)(request.messages)
        delay = behaviour.first_delay_seconds + self._random.random() * behaviour.jitter_seconds
        if delay > 0 and await wire.lost_within(delay):
            request.aborted = True
            return
        request.status, request.t_first = 200, time.monotonic()
        await self._send_answer(request, fault, wire, send)

    async def _send_answer(self, request: ChatRequest, fault: ChatFault | None, wire: Wire, send: Send) -> None:
        writer = _Writer(request, self.behaviour.chunk_words)
        if not request.stream:
            if fault is not None:
                wire.cut()
            else:
                await reply(send, 200, writer.whole(), _JSON)
        elif fault is None and self.behaviour.chunk_seconds <= 0:
            request.chunks_sent = len(writer.pieces)
            await reply(send, 200, writer.all_events(), _SSE)
        else:
            await self._stream(writer, fault, wire, send)

    async def _stream(self, writer: _Writer, fault: ChatFault | None, wire: Wire, send: Send) -> None:
        """Chunks at their due times, not one sleep after the other, so that the pace does not drift."""
        request, pause, start = writer.request, self.behaviour.chunk_seconds, time.monotonic()
        headers = [(b"content-type", _SSE), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _write(send, writer.head())
        for number, piece in enumerate(writer.pieces):
            if fault is not None and number >= fault.after:
                break
            wait = start + number * pause - time.monotonic()
            if (wait > 0 and await wire.lost_within(wait)) or wire.is_lost:
                request.aborted = True
                return
            await _write(send, writer.event(piece))
            request.chunks_sent += 1
        if fault is None:
            await _write(send, writer.tail(), more=False)
        elif fault.kind == "cut":
            wire.cut()
        else:
            await _write(send, _error_event(), more=False)

    async def _fail(self, request: ChatRequest, fault: ChatFault, wire: Wire, send: Send) -> None:
        if fault.kind in ("hang", "drop"):
            request.status = 0
            request.aborted = fault.kind == "hang" and await wire.lost_within(fault.seconds)
            wire.cut()
        elif fault.kind in ("garbage", "empty"):
            request.status = 200
            body = b"<html><body>Something went wrong</body></html>" if fault.kind == "garbage" else b""
            await reply(send, 200, body, b"text/html" if fault.kind == "garbage" else _SSE)
        else:
            refusal = ERRORS[fault.kind]
            request.status = refusal.status
            retry = refusal.status in (429, 503) and fault.kind != "quota"
            await _refuse(send, refusal, [(b"retry-after", f"{fault.seconds:g}".encode())] if retry else [])


@dataclass(slots=True)
class _Writer:
    """One answer in the forms in which it can go out."""

    request: ChatRequest
    chunk_words: int
    pieces: list[str] = field(init=False)
    _base: dict[str, Any] = field(init=False)
    _with_usage: bool = field(init=False)

    def __post_init__(self) -> None:
        words = _PIECES.findall(self.request.answer) or [self.request.answer]
        size = max(self.chunk_words, 1)
        self.pieces = ["".join(words[at : at + size]) for at in range(0, len(words), size)]
        options = self.request.body.get("stream_options")
        self._with_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._base = {
            "id": f"chatcmpl-sandbox-{self.request.n}", "object": "chat.completion.chunk", "created": int(time.time()),
            "model": str(self.request.body.get("model") or MODELS[0]), "system_fingerprint": "sandbox-offline",
        }  # fmt: skip

    def usage(self) -> dict[str, int]:
        """Rough counts: four characters a token."""
        prompt, completion = _tokens(self.request.messages), max(1, len(self.request.answer) // 4)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def whole(self) -> bytes:
        message = {"role": "assistant", "content": self.request.answer, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return dump({**self._base, "object": "chat.completion", "choices": [choice], "usage": self.usage()})

    def all_events(self) -> bytes:
        return b"".join([self.head(), *map(self.event, self.pieces), self.tail()])

    def head(self) -> bytes:
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def event(self, piece: str) -> bytes:
        return self._chunk({"content": piece}, None)

    def tail(self) -> bytes:
        last = self._chunk({}, "stop")
        if self._with_usage:
            last += b"data: " + dump({**self._base, "choices": [], "usage": self.usage()}) + b"\n\n"
        return last + _DONE

    def _chunk(self, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"usage": None} if self._with_usage else {}
        return b"data: " + dump({**self._base, "choices": [choice], **more}) + b"\n\n"


def _tokens(messages: list[dict[str, Any]]) -> int:
    return sum(len(text_of(message.get("content"))) // 4 + 4 for message in messages)


def _error_event() -> bytes:
    return b"data: " + dump(ERRORS["500"].body()) + b"\n\n"


async def _write(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _refuse(send: Send, refusal: Refusal, more: Headers = ()) -> None:
    await reply(send, refusal.status, dump(refusal.body()), _JSON, more)
