"""`POST /chat/completions`, after the OpenAI API reference: the caller tells everything, every time.

Some compatible servers also hand out a conversation's id and want it back; `ChatBehaviour.conversation_field` names
the field. The chunks of a stream differ in little, so what they share is made JSON once: benchmarks ask this dialect.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

from bot.sandbox.chat_exchange import Asked, Dialect, Exchange, Finish
from bot.sandbox.chat_faults import Refusal, invalid
from bot.sandbox.chat_kept import Kept, new_id
from bot.sandbox.chat_request import ChatBehaviour, ChatRequest
from bot.sandbox.chat_wire import THOUGHT, Event
from bot.sandbox.form import dump

_DONE = Event(b"[DONE]")
_NULLS: Final = {"tool_calls": None, "function_call": None, "audio": None}
_NULLS_JSON: Final = b"," + dump(_NULLS)[1:-1]
_FIRST: Final = b'"role":"assistant","content":"","refusal":null'
_FIRST_NULL: Final = b'"role":"assistant","content":null,"refusal":null'
_FINISHES: Final[dict[Finish | None, bytes]] = {
    finish: dump(finish) for finish in (None, "stop", "length", "content_filter")
}


class CompletionsExchange(Exchange):
    """Chunks with `choices[0].delta`."""

    def __init__(self, request: ChatRequest, kept: Kept, behaviour: ChatBehaviour) -> None:
        super().__init__(request, kept, behaviour)
        options = request.body.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage") is True
        self._with_usage = asked and "no_usage" not in self.odd
        self._nulls: dict[str, Any] = _NULLS if "null_fields" in self.odd else {}
        self._base: dict[str, Any] = {
            "id": f"chatcmpl-sandbox-{request.n}", "object": "chat.completion.chunk", "created": int(time.time()),
            "model": self.model(), "system_fingerprint": "sandbox-offline",
        }  # fmt: skip
        self._thread = request.conversation
        self._field = behaviour.conversation_field
        if self._thread and self._thread not in kept.threads:
            raise invalid("This conversation does not exist", status=404, code="conversation_not_found")
        self._opened = b""

    def begin(self) -> None:
        if self._field:
            self._thread = self._thread or new_id("thread")
            self.kept.threads[self._thread] = self.kept.threads.get(self._thread, 0) + 1
            self._base[self._field] = self._thread

    def head(self) -> list[Event]:
        return [self._chunk(_FIRST_NULL if self._nulls else _FIRST)]

    def thought(self, text: str) -> list[Event]:
        return [self._chunk(dump({"reasoning_content": text, "reasoning": text, "content": None})[1:-1])]

    def piece(self, text: str) -> list[Event]:
        return [self._chunk(b'"content":' + dump(text))]

    def pieces(self, texts: list[str]) -> bytes:
        before, after = self._around(None)
        before, after = b"data: " + before + b'"content":', after + b"\n\n"
        return b"".join([before + dump(text) + after for text in texts])

    def tail(self, answer: str, finish: Finish) -> list[Event]:
        last = [self._chunk(b'"content":null' if self._nulls else b"", finish)]
        if self._with_usage:
            last.append(Event(dump({**self._base, "choices": [], "usage": self._usage(answer)})))
        return last if "no_done" in self.odd else [*last, _DONE]

    def error(self, refusal: Refusal) -> list[Event]:
        return [Event(dump(refusal.body()))]

    def whole(self, answer: str, finish: Finish) -> dict[str, Any]:
        thoughts = {"reasoning_content": THOUGHT, "reasoning": THOUGHT} if "reasoning" in self.odd else {}
        message = {"role": "assistant", "content": self.aside() + answer, "refusal": None, **thoughts, **self._nulls}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._bare(), "choices": [choice], **self._reported(answer)}

    def nothing(self) -> list[Event]:
        return [Event(dump({**self._base, "choices": []})), _DONE]

    def nothing_whole(self) -> dict[str, Any]:
        return {**self._bare(), "choices": []}

    def _bare(self) -> dict[str, Any]:
        return {**self._base, "object": "chat.completion"}

    def _reported(self, answer: str) -> dict[str, Any]:
        return {} if "no_usage" in self.odd else {"usage": self._usage(answer)}

    def _usage(self, answer: str) -> dict[str, Any] | None:
        if self._nulls:
            return None
        prompt, completion = self.counts(answer)
        usage: dict[str, Any] = {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        }  # fmt: skip
        if (key := self.request.body.get("prompt_cache_key")) is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.kept.cached_tokens(key, self.told)}
        return usage

    def _chunk(self, delta: bytes, finish: Finish | None = None) -> Event:
        """`delta` without its braces."""
        before, after = self._around(finish)
        return Event(before + delta + after)

    def _around(self, finish: Finish | None) -> tuple[bytes, bytes]:
        """The JSON of a chunk before and after what its delta holds."""
        if not self._opened:
            self._opened = dump(self._base)[:-1] + b',"choices":[{"index":0,"delta":{'
        nulls = _NULLS_JSON if self._nulls else b""
        usage = b',"usage":null}' if self._with_usage or self._nulls else b"}"
        return self._opened, nulls + b'},"logprobs":null,"finish_reason":' + _FINISHES[finish] + b"}]" + usage


class Completions(Dialect):
    """The default."""

    name: ClassVar[str] = "completions"
    exchange: ClassVar[type[Exchange]] = CompletionsExchange

    def read(self, body: dict[str, Any], behaviour: ChatBehaviour) -> Asked:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise invalid("the body must be a JSON object whose 'messages' is a non-empty array of objects")
        thread = body.get(behaviour.conversation_field) if behaviour.conversation_field else None
        return Asked(messages, bool(body.get("stream")), thread if isinstance(thread, str) else "")
