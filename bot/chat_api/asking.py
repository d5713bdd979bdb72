"""What is asked of a chat API and what it answers, whatever its dialect."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

Message = dict[str, str]
"""``role`` (system, user, assistant) and ``content``."""

LENGTH: Final = "length"
FILTER: Final = "content_filter"
CUT: Final = "cut"
"""Why an answer ends early: its limit, the provider's filter, or a fault after enough of it had come."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Something a provider keeps about a conversation. ``endpoint``: the mark of who keeps it; ``kind``: conversation
    (it grows there), response (one answer and what it continues) or field (whatever the server returns)."""

    endpoint: str
    kind: str
    id: str


Keep = Callable[[Remote], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One question with its context. ``messages``: all the model is told, the system prompt first; ``news``: what of it
    a provider that keeps ``remote`` does not know yet, the question last; ``user``: a pseudonym of the customer that
    stays; ``keep``: told of everything the provider begins to keep, before the answer goes on."""

    messages: list[Message]
    news: list[Message] = field(default_factory=list)
    remote: Remote | None = None
    user: str = ""
    keep: Keep | None = None

    def anew(self) -> "Ask":
        """The same without what the provider keeps: our own history is told instead."""
        return replace(self, remote=None, news=[])


@dataclass(slots=True)
class Answer:
    """A whole answer. ``finish``: LENGTH, FILTER or CUT where it ends early; ``first_seconds``: from the request to the
    first text; tokens only where the API reports them; ``remote``: what the next question can go on from."""

    text: str = ""
    finish: str = ""
    first_seconds: float = 0.0
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    cached_tokens: int | None = None
    model: str = ""
    endpoint: str = ""
    remote: Remote | None = None
