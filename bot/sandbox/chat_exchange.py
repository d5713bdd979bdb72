"""What a dialect is: how a question is read, how its answer is put into events, what the server then keeps.

An `Exchange` belongs to one question. It writes events and knows nothing of pace, faults and framing; whoever sends
knows nothing of the dialect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

from bot.sandbox.chat_faults import Refusal
from bot.sandbox.chat_kept import Kept
from bot.sandbox.chat_request import ChatBehaviour, ChatRequest, count_tokens
from bot.sandbox.chat_wire import THOUGHT, Event, plain

Finish = Literal["stop", "length", "content_filter", "failed"]
MODELS = ("offline", "offline-large")


class Asked(NamedTuple):
    """What a body asks. `conversation`: the id that it passes, or an empty string."""

    messages: list[dict[str, Any]]
    stream: bool
    conversation: str = ""


class Exchange(ABC):
    """One question and its answer, in one dialect."""

    def __init__(self, request: ChatRequest, kept: Kept, behaviour: ChatBehaviour) -> None:
        self.request = request
        self.kept = kept
        self.odd = behaviour.wire
        self.told = request.messages

    def begin(self) -> None:  # noqa: B027  # most dialects have something to do here, not all
        """The question is taken: from here on the server keeps what it keeps."""

    def close(self) -> None:  # noqa: B027  # the same
        """The exchange is over, however it ended."""

    @abstractmethod
    def head(self) -> list[Event]:
        """What comes before any text."""

    @abstractmethod
    def thought(self, text: str) -> list[Event]:
        """Reasoning."""

    @abstractmethod
    def piece(self, text: str) -> list[Event]:
        """Some text of the answer."""

    @abstractmethod
    def tail(self, answer: str, finish: Finish) -> list[Event]:
        """The end; `answer` is kept as what was said."""

    @abstractmethod
    def error(self, refusal: Refusal) -> list[Event]:
        """An error in the stream."""

    def pieces(self, texts: list[str]) -> bytes:
        """Text that goes out at once, without oddities: the bytes of its events."""
        return b"".join(plain(event) for text in texts for event in self.piece(text))

    def failed(self, refusal: Refusal) -> list[Event]:
        """The answer itself tells that it failed, in dialects that have a shape for it."""
        return self.error(refusal)

    def most_tokens(self) -> int | None:
        """How long the answer may be, where the server heeds it."""
        return None

    @abstractmethod
    def whole(self, answer: str, finish: Finish) -> dict[str, Any]:
        """The answer as one object; it is kept as what was said."""

    @abstractmethod
    def nothing(self) -> list[Event]:
        """A stream that is in order and holds no answer."""

    @abstractmethod
    def nothing_whole(self) -> dict[str, Any]:
        """The same as one object."""

    def aside(self) -> str:
        """What some models write before their answer, as if it were part of it."""
        return f"<think>{THOUGHT}</think>\n" if "think" in self.odd else ""

    def counts(self, answer: str) -> tuple[int, int]:
        """Tokens told and answered, roughly."""
        return count_tokens(self.told), max(1, len(answer) // 4)

    def model(self) -> str:
        return str(self.request.body.get("model") or MODELS[0])


class Dialect(ABC):
    """One way of asking."""

    name: ClassVar[str]
    exchange: ClassVar[type[Exchange]]

    @abstractmethod
    def read(self, body: dict[str, Any], behaviour: ChatBehaviour, /) -> Asked:
        """Raises RefusedError for a body that is none."""

    def error(self, refusal: Refusal) -> tuple[int, dict[str, Any]]:
        """Status and body of an error."""
        return refusal.status, refusal.body()
