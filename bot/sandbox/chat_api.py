"""`ChatApiServer`: chat APIs that need no network and no key: OpenAI's completions and responses, and Dify's.

All dialects live on one port under `/v1`, with what the server keeps behind them. The shapes on the wire follow the
public API references; every dialect meets the same faults and the same oddities.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from bot.sandbox.chat_completions import Completions
from bot.sandbox.chat_dify import Dify
from bot.sandbox.chat_exchange import Asked, Dialect, Exchange
from bot.sandbox.chat_faults import (
    BEFORE_TEXT,
    ERRORS,
    SPOILED,
    ChatFault,
    ChatFaultPlan,
    Refusal,
    RefusedError,
    Retry,
    invalid,
)
from bot.sandbox.chat_kept import Kept
from bot.sandbox.chat_request import NATURAL, ChatBehaviour, ChatCall, ChatRequest, count_tokens
from bot.sandbox.chat_resources import answer_call, is_dify
from bot.sandbox.chat_responses import Responses
from bot.sandbox.chat_telling import JSON, SSE, Telling
from bot.sandbox.chat_wire import framing
from bot.sandbox.form import dump
from bot.sandbox.guard import is_foreign, refuse_foreign
from bot.sandbox.offline_model import offline_answer
from bot.sandbox.wire import (
    LOOPBACK,
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

__all__ = ["NATURAL", "ChatApiServer", "ChatBehaviour", "ChatCall", "ChatRequest"]

MAX_BODY_BYTES = 32 << 20
_COMPLETIONS: Final = Completions()
_DIFY: Final = Dify()
_DIALECTS: Final[dict[str, Dialect]] = {
    "/chat/completions": _COMPLETIONS,
    "/responses": Responses(),
    "/chat-messages": _DIFY,
}


class ChatApiServer:
    """Listens on the loopback between `start` and `aclose`. `behaviour` and `faults` may change at any time.

    `requests` are the questions, `calls` everything else that was asked, `kept` is what the server keeps.
    """

    def __init__(self, *, host: str = LOOPBACK, port: int = 0, behaviour: ChatBehaviour | None = None) -> None:
        self.behaviour = behaviour or ChatBehaviour()
        self.faults = ChatFaultPlan()
        self.kept = Kept()
        self.requests: list[ChatRequest] = []
        self.calls: list[ChatCall] = []
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
        full: str = scope["path"]
        path = full.removeprefix("/v1") if full.startswith("/v1/") else ""
        dialect = _DIALECTS.get(path) if scope["method"] == "POST" else None
        if is_foreign(scope, self._listener.port):
            await refuse_foreign(send)
            return
        try:
            body = await _read(receive)
        except ConnectionError:
            return
        if dialect is not None:
            await self._ask(dialect, body, scope, send)
        else:
            await self._call(path, body or {}, scope, send)

    async def _call(self, path: str, body: dict[str, Any], scope: Scope, send: Send) -> None:
        """A request that is no question."""
        call = ChatCall(method=scope["method"], path=path, body=body)
        if self.keep_requests:
            self.calls.append(call)
        dialect: Dialect = _DIFY if is_dify(path) else _COMPLETIONS
        fault = self.faults.pick("", path, call.method) if self.faults else None
        if fault is not None and fault.kind in ERRORS:
            call.status = await _refuse(dialect, fault.refusal(), send, fault.seconds)
            return
        wire: Wire = scope["wire"]
        if fault is not None:
            if fault.kind != "drop" and await wire.lost_within(fault.seconds):
                return
            if fault.kind != "slow_headers":
                wire.cut()
                return
        try:
            query = scope["query_string"].decode("latin-1")
            answered = answer_call(call, query, self.kept, self.behaviour)
        except RefusedError as error:
            call.status = await _refuse(dialect, error.refusal, send)
            return
        call.status = 200 if answered else 204
        if answered:
            await reply(send, 200, dump(answered), JSON)
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _ask(self, dialect: Dialect, body: dict[str, Any] | None, scope: Scope, send: Send) -> None:
        try:
            asked = dialect.read(body or {}, self.behaviour)
        except RefusedError as error:
            await _refuse(dialect, error.refusal, send)
            return
        request = self._note(dialect, asked, body or {}, scope)
        try:
            await self._answer(dialect, request, scope["wire"], send)
        except RefusedError as error:
            request.status = await _refuse(dialect, error.refusal, send)
        finally:
            request.t_end = time.monotonic()
            if self.on_request is not None:
                self.on_request(request)

    def _note(self, dialect: Dialect, asked: Asked, body: dict[str, Any], scope: Scope) -> ChatRequest:
        request = ChatRequest(
            n=self.made, messages=asked.messages, body=body, stream=asked.stream, conversation=asked.conversation,
            key=header(scope, b"authorization").removeprefix("Bearer "), t=time.monotonic(), dialect=dialect.name,
            path=scope["path"],
        )  # fmt: skip
        self.made += 1
        if self.keep_requests:
            self.requests.append(request)
        return request

    async def _answer(self, dialect: Dialect, request: ChatRequest, wire: Wire, send: Send) -> None:
        """Raises RefusedError before anything was sent."""
        behaviour = self.behaviour
        _refuse_unsupported(request, behaviour)
        exchange = dialect.exchange(request, self.kept, behaviour)
        fault = self._fault(request, exchange, behaviour)
        if fault is not None and fault.kind in BEFORE_TEXT and fault.kind != "slow_headers":
            await self._fail(dialect, exchange, fault, wire, send)
            return
        # Nothing awaits between the look at what is kept and this: two questions cannot both find it free.
        exchange.begin()
        try:
            spoiled = SPOILED.get(fault.kind) if fault else None
            words = spoiled.text if spoiled else None
            request.answer = words() if words else (behaviour.answer or offline_answer)(exchange.told)
            delay = behaviour.first_delay_seconds + self._random.random() * behaviour.jitter_seconds
            if fault is not None and fault.kind == "slow_headers":
                delay += fault.seconds
            if delay > 0 and await wire.lost_within(delay):
                request.aborted = True
                return
            request.status, request.t_first = 200, time.monotonic()
            await Telling(exchange, behaviour, fault, wire, send).tell()
        finally:
            exchange.close()

    def _fault(self, request: ChatRequest, exchange: Exchange, behaviour: ChatBehaviour) -> ChatFault | None:
        path = request.path.removeprefix("/v1")
        fault = self.faults.pick(request.dialect, path) if self.faults else None
        if behaviour.context_tokens is not None and count_tokens(exchange.told) > behaviour.context_tokens:
            fault = ChatFault(kind="context")
        if fault is not None:
            request.fault = fault.kind
        return fault

    async def _fail(self, dialect: Dialect, exchange: Exchange, fault: ChatFault, wire: Wire, send: Send) -> None:
        request = exchange.request
        if fault.kind in ("hang", "drop"):
            request.status = 0
            request.aborted = fault.kind == "hang" and await wire.lost_within(fault.seconds)
            wire.cut()
        elif fault.kind == "no_choices":
            request.status = 200
            if request.stream:
                await reply(send, 200, b"".join(map(framing(exchange.odd), exchange.nothing())), SSE)
            else:
                await reply(send, 200, dump(exchange.nothing_whole()), JSON)
        else:
            request.status = await _refuse(dialect, fault.refusal(), send, fault.seconds)


async def _read(receive: Receive) -> dict[str, Any] | None:
    """The body as an object, None where it is none. Raises ConnectionError when the client left midway."""
    try:
        body = orjson.loads(await read_body(receive, MAX_BODY_BYTES))
    except (orjson.JSONDecodeError, TooLargeError):
        return None
    return body if isinstance(body, dict) else None


def _refuse_unsupported(request: ChatRequest, behaviour: ChatBehaviour) -> None:
    """Fields and roles that a narrower server does not know. Raises RefusedError."""
    for name, status in behaviour.refused_fields.items():
        if name in request.body:
            text = f"Unrecognized request argument supplied: {name}"
            extra = {"loc": ["body", name], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}
            raw = {"detail": [extra]} if status == 422 else None
            raise RefusedError(Refusal(status, text, "invalid_request_error", None, name, raw))
    if not behaviour.refused_roles:
        return
    for at, message in enumerate(request.messages):
        if message.get("role") in behaviour.refused_roles:
            text = f"Unsupported value: 'messages[{at}].role' does not support '{message['role']}' with this model."
            raise invalid(text, code="unsupported_value", param=f"messages[{at}].role")


async def _refuse(dialect: Dialect, refusal: Refusal, send: Send, seconds: float = 1.0) -> int:
    """Send an error; its status."""
    headers = _retry_headers(refusal.retry, seconds)
    if isinstance(refusal.raw, bytes):
        await reply(send, refusal.status, refusal.raw, b"text/html" if refusal.raw else SSE, headers)
        return refusal.status
    status, body = (refusal.status, refusal.raw) if refusal.raw is not None else dialect.error(refusal)
    await reply(send, status, dump(body), JSON, headers)
    return status


def _retry_headers(retry: Retry, seconds: float) -> list[tuple[bytes, bytes]]:
    if retry == "seconds":
        return [(b"retry-after", f"{seconds:g}".encode())]
    return [(b"retry-after-ms", f"{seconds * 1000:g}".encode())] if retry else []
