"""`POST /responses`, after the OpenAI API reference: the server keeps what was said.

A question names the response before it or a conversation, or neither. A response is kept from its first event on, so
one whose stream was cut is there to be deleted too; a conversation grows when a response is complete, as documented.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from bot.sandbox.chat_exchange import Asked, Dialect, Exchange, Finish
from bot.sandbox.chat_faults import ERRORS, Refusal, RefusedError, invalid
from bot.sandbox.chat_kept import Kept, KeptResponse, message_item, new_id
from bot.sandbox.chat_request import ChatBehaviour, ChatRequest
from bot.sandbox.chat_wire import THOUGHT, Event
from bot.sandbox.form import dump
from bot.sandbox.offline_model import text_of

_LOCKED = ERRORS["locked"]
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_INPUT = "'input' must be a string or a non-empty array of messages"


class ResponsesExchange(Exchange):
    """Typed events, counted; the message opens with its first text."""

    def __init__(self, request: ChatRequest, kept: Kept, behaviour: ChatBehaviour) -> None:
        super().__init__(request, kept, behaviour)
        body = request.body
        self._conversation = _id_of(body.get("conversation"))
        self._previous = "" if self._conversation else request.conversation
        self._instructions = 1 if body.get("instructions") else 0
        history = self._history()
        # Instructions are not part of the chain: each request brings its own, and they stand first.
        head, rest = request.messages[: self._instructions], request.messages[self._instructions :]
        self.told = [*head, *history, *rest]
        self._counted = 0
        self._output: list[dict[str, Any]] = []
        self._message_id = ""
        self._place: dict[str, Any] = {}
        self._holds = False
        self._response_id = new_id("resp")
        self._response: dict[str, Any] = {
            "id": self._response_id, "object": "response", "created_at": int(time.time()), "status": "in_progress",
            "background": False, "error": None, "incomplete_details": None,
            "instructions": body.get("instructions"), "max_output_tokens": body.get("max_output_tokens"),
            "model": self.model(), "output": [], "parallel_tool_calls": True,
            "previous_response_id": self._previous or None,
            "conversation": {"id": self._conversation} if self._conversation else None,
            "store": body.get("store") is not False, "temperature": 1.0, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": None,
            "metadata": body.get("metadata") or {},
        }  # fmt: skip

    def _history(self) -> list[dict[str, Any]]:
        if self._conversation:
            history = self.kept.in_conversation(self._conversation)
            if self._conversation in self.kept.busy:
                raise RefusedError(_LOCKED)
            return history
        return self.kept.before_response(self._previous) if self._previous else []

    def begin(self) -> None:
        if self._conversation:
            self.kept.busy.add(self._conversation)
            self._holds = True
        if self._response["store"]:
            asked = self.request.messages[self._instructions :]
            kept = KeptResponse(self._response, self._previous, list(asked))
            self.kept.responses[self._response_id] = kept

    def close(self) -> None:
        if self._holds:
            self._holds = False
            self.kept.busy.discard(self._conversation)
        if self._response["status"] == "in_progress":
            self._response["status"] = "cancelled"

    def head(self) -> list[Event]:
        return [self._event(name, response=self._shown()) for name in ("response.created", "response.in_progress")]

    def thought(self, text: str) -> list[Event]:
        index, part = len(self._output), {"type": "reasoning_text", "text": text}
        empty = {"id": new_id("rs"), "type": "reasoning", "summary": [], "content": [], "status": "in_progress"}
        full = {**empty, "content": [part], "status": "completed"}
        self._output.append(full)
        place = {"item_id": empty["id"], "output_index": index, "content_index": 0}
        return [
            self._event("response.output_item.added", output_index=index, item=empty),
            self._event("response.content_part.added", **place, part={**part, "text": ""}),
            self._event("response.reasoning_text.delta", **place, delta=text),
            self._event("response.reasoning_text.done", **place, text=text),
            self._event("response.content_part.done", **place, part=part),
            self._event("response.output_item.done", output_index=index, item=full),
        ]

    def piece(self, text: str) -> list[Event]:
        opened = self._open()
        delta = self._event("response.output_text.delta", **self._place, delta=text, logprobs=self._none([]))
        return [*opened, delta]

    def most_tokens(self) -> int | None:
        most = self.request.body.get("max_output_tokens")
        return most if isinstance(most, int) else None

    def tail(self, answer: str, finish: Finish) -> list[Event]:
        opened = self._open()
        said = self.aside() + answer
        item = self._message(said, finish)
        part = item["content"][0]
        events = [
            self._event("response.output_text.done", **self._place, text=said, logprobs=self._none([])),
            self._event("response.content_part.done", **self._place, part=part),
            self._event("response.output_item.done", output_index=self._place["output_index"], item=item),
        ]
        self._finish(answer, finish, item)
        return [*opened, *events, self._event(f"response.{self._response['status']}", response=self._shown())]

    def error(self, refusal: Refusal) -> list[Event]:
        code = refusal.code or refusal.kind
        return [self._event("error", code=code, message=refusal.text, param=refusal.param)]

    def failed(self, refusal: Refusal) -> list[Event]:
        self._fail(refusal)
        return [self._event("response.failed", response=self._shown())]

    def whole(self, answer: str, finish: Finish) -> dict[str, Any]:
        if finish == "failed":
            self._fail(ERRORS["500"])
            return self._shown()
        if "reasoning" in self.odd:
            self.thought(THOUGHT)
        self._open()
        self._finish(answer, finish, self._message(self.aside() + answer, finish))
        return self._shown()

    def nothing(self) -> list[Event]:
        head = self.head()
        return [*head, self._event("response.completed", response=self.nothing_whole())]

    def nothing_whole(self) -> dict[str, Any]:
        self._response["status"] = "completed"
        return self._shown()

    def _open(self) -> list[Event]:
        """The message begins, unless it has."""
        if self._message_id:
            return []
        self._message_id = new_id("msg")
        index = len(self._output)
        self._place = {"item_id": self._message_id, "output_index": index, "content_index": 0}
        item = {"id": self._message_id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._output.append(item)
        return [
            self._event("response.output_item.added", output_index=index, item=item),
            self._event("response.content_part.added", **self._place, part=part),
        ]

    def _message(self, said: str, finish: Finish) -> dict[str, Any]:
        status = "incomplete" if finish in _INCOMPLETE else "completed"
        return message_item({"role": "assistant", "content": said}, self._message_id, status)

    def _finish(self, answer: str, finish: Finish, item: dict[str, Any]) -> None:
        reason = _INCOMPLETE.get(finish)
        self._output[self._place["output_index"]] = item
        self._response["status"] = "incomplete" if reason else "completed"
        self._response["incomplete_details"] = {"reason": reason} if reason else None
        self._response["output"] = self._output
        self._report(answer)
        said = {"role": "assistant", "content": answer}
        if (kept := self.kept.responses.get(self._response_id)) is not None:
            kept.messages.append(said)
        # Deleted while it was answered: nothing is put back.
        if self._conversation and self._conversation in self.kept.conversations:
            self.kept.add_items(self._conversation, self.request.messages[self._instructions :])
            self.kept.items[self._conversation][item["id"]] = item
        self.close()

    def _fail(self, refusal: Refusal) -> None:
        self._response["status"] = "failed"
        self._response["error"] = {"code": refusal.code or refusal.kind, "message": refusal.text}

    def _report(self, answer: str) -> None:
        if "null_fields" in self.odd:
            return
        if "no_usage" in self.odd:
            del self._response["usage"]
            return
        told, said = self.counts(answer)
        cached = self.kept.cached_tokens(self.request.body.get("prompt_cache_key"), self.told)
        self._response["usage"] = {
            "input_tokens": told, "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": said, "output_tokens_details": {"reasoning_tokens": self._reasoned()},
            "total_tokens": told + said,
        }  # fmt: skip

    def _reasoned(self) -> int:
        return sum(len(text_of(item["content"])) // 4 for item in self._output if item["type"] == "reasoning")

    def _none(self, value: list[Any]) -> list[Any] | None:
        return None if "null_fields" in self.odd else value

    def _shown(self) -> dict[str, Any]:
        return dict(self._response)

    def _event(self, name: str, **fields: Any) -> Event:
        data = dump({"type": name, "sequence_number": self._counted, **fields})
        self._counted += 1
        return Event(data, name)


class Responses(Dialect):
    """Provider-side history, by chain or by conversation."""

    name: ClassVar[str] = "responses"
    exchange: ClassVar[type[Exchange]] = ResponsesExchange

    def read(self, body: dict[str, Any], _behaviour: ChatBehaviour) -> Asked:
        previous, conversation = body.get("previous_response_id"), body.get("conversation")
        if previous and conversation:
            code = "mutually_exclusive_parameters"
            raise invalid("'previous_response_id' and 'conversation' exclude each other", code=code)
        instructions = body.get("instructions")
        system = [{"role": "system", "content": str(instructions)}] if instructions else []
        passed = _id_of(conversation) or (previous if isinstance(previous, str) else "")
        return Asked([*system, *read_input(body.get("input"))], bool(body.get("stream")), passed)


def read_input(given: object) -> list[dict[str, Any]]:
    """Text or items as messages; items that are no messages are passed over. Raises RefusedError."""
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise invalid(_INPUT, param="input")
    messages = [
        {"role": str(item.get("role")), "content": text_of(item.get("content"))}
        for item in given
        if item.get("type", "message") == "message"
    ]
    if not messages:
        raise invalid(_INPUT, param="input")
    return messages


def _id_of(conversation: object) -> str:
    """A conversation is named by its id, or by an object that holds it."""
    found = conversation.get("id") if isinstance(conversation, dict) else conversation
    return found if isinstance(found, str) else ""
