"""What a provider keeps on its side: responses, conversations with their items, Dify's conversations.

Plain dictionaries, for tests to read (what is left after `/forget`?) and to empty (a provider that lost an id). As
OpenAI documents, deleting a conversation leaves its items; here they stay in `items`, out of every caller's reach.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from bot.sandbox.chat_faults import invalid
from bot.sandbox.chat_request import count_tokens
from bot.sandbox.offline_model import text_of

_PREFIXES_KEPT: Final = 1000
_CACHED_FROM_TOKENS: Final = 1024


@dataclass(slots=True)
class KeptResponse:
    """One response with what was asked and answered; `previous` leads to the one before it."""

    body: dict[str, Any]
    previous: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Exchanged:
    """One question to Dify; the answer is empty until it is whole."""

    query: str
    answer: str = ""


@dataclass(slots=True)
class DifyConversation:
    """One end user's conversation."""

    user: str
    exchanged: list[Exchanged] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the model is told. As in Dify, a question without an answer is kept, and not told."""
        told: list[dict[str, Any]] = []
        for one in self.exchanged:
            if one.answer:
                told += [{"role": "user", "content": one.query}, {"role": "assistant", "content": one.answer}]
        return told


@dataclass(slots=True)
class Kept:
    """All of it. `items`: by conversation, then by item. `threads`: ids given out by completions, with their use."""

    responses: dict[str, KeptResponse] = field(default_factory=dict)
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    dify: dict[str, DifyConversation] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    _prefixes: dict[str, list[int]] = field(default_factory=dict)

    def before_response(self, response_id: str) -> list[dict[str, Any]]:
        """The chain that ends with a response, oldest first. Raises RefusedError where there is no such response."""
        if response_id not in self.responses:
            raise invalid(
                f"Previous response with id '{response_id}' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        chain: list[list[dict[str, Any]]] = []
        at = response_id
        while (found := self.responses.get(at)) is not None:
            chain.append(found.messages)
            at = found.previous
        return [message for messages in reversed(chain) for message in messages]

    def in_conversation(self, conversation_id: str) -> list[dict[str, Any]]:
        """The messages among its items, oldest first. Raises RefusedError where it does not exist."""
        self.conversation(conversation_id)
        items = self.items.get(conversation_id, {}).values()
        return [{"role": item["role"], "content": text_of(item["content"])} for item in items if "role" in item]

    def conversation(self, conversation_id: str) -> dict[str, Any]:
        """Raises RefusedError where it does not exist."""
        found = self.conversations.get(conversation_id)
        if found is None:
            raise invalid(f"Conversation with id '{conversation_id}' not found.", status=404)
        return found

    def add_items(self, conversation_id: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The items that the messages become."""
        added = [message_item(message) for message in messages]
        if added:
            self.items.setdefault(conversation_id, {}).update((item["id"], item) for item in added)
        return added

    def cached_tokens(self, key: object, messages: list[dict[str, Any]]) -> int:
        """Tokens at the beginning that stood there in the last request with the same `prompt_cache_key` too."""
        if not isinstance(key, str):
            return 0
        now = [hash((str(message.get("role")), text_of(message.get("content")))) for message in messages]
        before = self._prefixes.pop(key, [])
        self._prefixes[key] = now
        if len(self._prefixes) > _PREFIXES_KEPT:
            del self._prefixes[next(iter(self._prefixes))]
        same = 0
        while same < min(len(now), len(before)) and now[same] == before[same]:
            same += 1
        tokens = count_tokens(messages[:same])
        return tokens if tokens >= _CACHED_FROM_TOKENS else 0


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def message_item(message: dict[str, Any], item_id: str = "", status: str = "completed") -> dict[str, Any]:
    """A message as an item of the Responses API."""
    said = message["role"] == "assistant"
    part: dict[str, Any] = {"type": "output_text" if said else "input_text", "text": text_of(message["content"])}
    if said:
        part |= {"annotations": [], "logprobs": []}
    return {
        "id": item_id or new_id("msg"), "type": "message", "status": status, "role": message["role"],
        "content": [part],
    }  # fmt: skip
