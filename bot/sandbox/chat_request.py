"""What the offline chat API is told to do, and what it notes of each question that it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox.chat_wire import ODDITIES
from bot.sandbox.offline_model import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBehaviour:
    """How answers come: seconds to the first chunk (plus up to `jitter_seconds` at random) and between chunks.

    `answer` replaces the offline model's own words; it is given what the server keeps and what the request carries.
    With `context_tokens` (roughly four characters each) a longer prompt is refused with `context_length_exceeded`.
    `conversation_field` names the field of completions that carries a conversation's id both ways. `refused_fields`
    (field to 400 or 422) and `refused_roles` are what a narrower server does not take. `flagged`: words that
    moderation objects to. `wire`: oddities of the answer, of `chat_wire.ODDITIES`; ValueError for others.
    """

    first_delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    chunk_seconds: float = 0.0
    answer: Callable[[list[dict[str, Any]]], str] | None = None
    chunk_words: int = 1
    context_tokens: int | None = None
    conversation_field: str = ""
    refused_fields: Mapping[str, int] = field(default_factory=dict)
    refused_roles: frozenset[str] = frozenset()
    flagged: frozenset[str] = frozenset()
    wire: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.wire - ODDITIES:
            raise ValueError(f"unknown oddities: {', '.join(sorted(unknown))}")


#: Pace that a person in front of the chat page finds natural.
NATURAL = ChatBehaviour(first_delay_seconds=0.6, jitter_seconds=0.4, chunk_seconds=0.05)


@dataclass(slots=True, kw_only=True)
class ChatRequest:
    """One question. Times are monotonic seconds; `aborted` where the client hung up before the end.

    `messages` is what the request itself carried, in any dialect as a list of role and content. `conversation` is the
    id that it passed (of a conversation or of the previous response), or an empty string.
    """

    n: int
    messages: list[dict[str, Any]]
    body: dict[str, Any]
    key: str
    t: float
    stream: bool = False
    dialect: str = "completions"
    path: str = "/v1/chat/completions"
    conversation: str = ""
    status: int | None = None
    answer: str = ""
    chunks_sent: int = 0
    aborted: bool = False
    fault: str | None = None
    t_first: float | None = None
    t_end: float | None = None


@dataclass(slots=True, kw_only=True)
class ChatCall:
    """A request that asks for no answer: a deletion, a listing, a moderation. `path` without `/v1`."""

    method: str
    path: str
    body: dict[str, Any]
    status: int | None = None


def count_tokens(messages: list[dict[str, Any]]) -> int:
    """Roughly: four characters a token, four tokens a message."""
    return sum(len(text_of(message.get("content"))) // 4 + 4 for message in messages)
