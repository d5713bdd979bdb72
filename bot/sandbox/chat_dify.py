"""`POST /chat-messages`, after Dify's API documentation: the conversation lies with the server, one per end user.

The first question carries an empty `conversation_id`, every event of the answer the real one. Pings come in between;
the name of an event stands in its JSON, not in an `event:` line.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, ClassVar, Final

from bot.sandbox.chat_exchange import Asked, Dialect, Exchange, Finish
from bot.sandbox.chat_faults import Refusal, RefusedError, dify_error, invalid
from bot.sandbox.chat_kept import DifyConversation, Exchanged, Kept
from bot.sandbox.chat_request import ChatBehaviour, ChatRequest
from bot.sandbox.chat_wire import Event
from bot.sandbox.form import dump

_PING: Final = Event(b"", "ping")
_PIECES_A_PING: Final = 20
_REPLACED: Final = "Your question cannot be answered here."
_TOKEN_PRICE: Final = 0.000_001


class DifyExchange(Exchange):
    """Events named `message`, then one `message_end`."""

    def __init__(self, request: ChatRequest, kept: Kept, behaviour: ChatBehaviour) -> None:
        super().__init__(request, kept, behaviour)
        self._user = str(request.body["user"])
        self._query = str(request.body["query"])
        if request.conversation:
            self.told = [*dify_conversation(kept, request.conversation, self._user).messages, *request.messages]
        message_id = str(uuid.uuid4())
        self._base = {
            "task_id": str(uuid.uuid4()), "id": message_id, "message_id": message_id,
            "conversation_id": request.conversation or str(uuid.uuid4()), "created_at": int(time.time()),
        }  # fmt: skip
        self._exchanged = Exchanged(self._query)
        self._pieces = 0

    def begin(self) -> None:
        # Dify keeps the question before there is an answer, so a conversation whose first stream broke exists.
        conversation = self.kept.dify.setdefault(str(self._base["conversation_id"]), DifyConversation(self._user))
        conversation.exchanged.append(self._exchanged)

    def head(self) -> list[Event]:
        return [_PING]

    def thought(self, text: str) -> list[Event]:
        more = {"position": 1, "thought": text, "observation": "", "tool": "", "tool_input": "", "message_files": []}
        return [self._event("agent_thought", **more)]

    def piece(self, text: str) -> list[Event]:
        self._pieces += 1
        more = {"metadata": None, "from_variable_selector": None} if "null_fields" in self.odd else {}
        event = self._event("message", answer=text, **more)
        return [event, _PING] if self._pieces % _PIECES_A_PING == 0 else [event]

    def tail(self, answer: str, finish: Finish) -> list[Event]:
        # Dify tells no reason for the end; what its moderation objects to it replaces as a whole.
        replaced = [self._event("message_replace", answer=_REPLACED)] if finish == "content_filter" else []
        self._answered(answer, finish)
        return [*replaced, self._event("message_end", metadata=self._metadata(answer))]

    def error(self, refusal: Refusal) -> list[Event]:
        return [self._event("error", **dify_error(refusal)[1])]

    def whole(self, answer: str, finish: Finish) -> dict[str, Any]:
        self._answered(answer, finish)
        return self._object(self.aside() + self._exchanged.answer)

    def nothing(self) -> list[Event]:
        return [_PING, self._event("message_end", metadata=self._metadata(""))]

    def nothing_whole(self) -> dict[str, Any]:
        return self._object("")

    def _answered(self, answer: str, finish: Finish) -> None:
        self._exchanged.answer = self.request.answer = _REPLACED if finish == "content_filter" else answer

    def _object(self, answer: str) -> dict[str, Any]:
        return {"event": "message", **self._base, "mode": "chat", "answer": answer, "metadata": self._metadata(answer)}

    def _metadata(self, answer: str) -> dict[str, Any] | None:
        if "null_fields" in self.odd:
            return {"usage": None, "retriever_resources": None}
        if "no_usage" in self.odd:
            return {"retriever_resources": []}
        told, said = self.counts(answer)
        unit = f"{_TOKEN_PRICE * 1000:.3f}"
        usage = {
            "prompt_tokens": told, "prompt_unit_price": unit, "prompt_price_unit": "0.001",
            "prompt_price": f"{told * _TOKEN_PRICE:.7f}", "completion_tokens": said, "completion_unit_price": unit,
            "completion_price_unit": "0.001", "completion_price": f"{said * _TOKEN_PRICE:.7f}",
            "total_tokens": told + said, "total_price": f"{(told + said) * _TOKEN_PRICE:.7f}", "currency": "USD",
            "latency": 0.1,
        }  # fmt: skip
        return {"usage": usage, "retriever_resources": []}

    def _event(self, event_kind: str, **fields: Any) -> Event:
        return Event(dump({"event": event_kind, **self._base, **fields}))


class Dify(Dialect):
    """Its own shape for everything, errors too."""

    name: ClassVar[str] = "dify"
    exchange: ClassVar[type[Exchange]] = DifyExchange

    def read(self, body: dict[str, Any], _behaviour: ChatBehaviour) -> Asked:
        for field in ("query", "user"):
            if not isinstance(body.get(field), str) or not body[field]:
                raise invalid(f"Missing required parameter '{field}' in the JSON body", param=field)
        if not isinstance(body.get("inputs"), dict):
            raise invalid("'inputs' must be an object", param="inputs")
        mode = body.get("response_mode", "blocking")
        if mode not in ("streaming", "blocking"):
            raise invalid("'response_mode' is either streaming or blocking", param="response_mode")
        passed = body.get("conversation_id")
        messages = [{"role": "user", "content": body["query"]}]
        return Asked(messages, mode == "streaming", passed if isinstance(passed, str) else "")

    def error(self, refusal: Refusal) -> tuple[int, dict[str, Any]]:
        return dify_error(refusal)


def dify_conversation(kept: Kept, conversation_id: str, user: str) -> DifyConversation:
    """Raises RefusedError where it does not exist or is another user's."""
    found = kept.dify.get(conversation_id)
    if found is None or found.user != user:
        raise RefusedError(Refusal(404, "Conversation Not Exists.", "not_found", None))
    return found
