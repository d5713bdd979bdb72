"""What a dialect of a chat API is: where a question goes, how it is put, and how the answer's events read.

A dialect knows shapes and nothing else: connections, deadlines and failures are the endpoint's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bot.chat_api.asking import Answer, Ask, Remote
from bot.chat_api.profile import Profile
from bot.errors import ChatApiGarbledError

_TEXTS: Final = frozenset({"text", "output_text", "refusal"})


@dataclass(frozen=True, slots=True)
class Options:
    """How an endpoint is to answer. ``conversation_field``: as in CHAT_CONVERSATION_FIELD."""

    model: str
    max_output_tokens: int
    temperature: float | None = None
    conversation_field: str = ""


@dataclass(slots=True)
class Heard:
    """What the events of one answer told so far. ``delta``: text that is new; ``anew``: it replaces all before it;
    ``ended``: the answer is whole."""

    answer: Answer
    delta: str = ""
    anew: bool = False
    ended: bool = False
    conversation: str = ""
    response: str = ""


class Dialect(Protocol):
    """One way to speak. ``optional``: fields that a request can do without, ``role`` among them where the prompt's role
    can be another."""

    path: str
    optional: frozenset[str]
    keeps: bool

    def body(self, ask: Ask, options: Options, profile: Profile, /) -> dict[str, object]:
        """The request's JSON."""

    def read(self, event: Mapping[str, Any], heard: Heard) -> None:
        """One event of a stream."""

    def read_whole(self, reply: Mapping[str, Any], heard: Heard) -> None:
        """The reply of a server that does not stream. Raises ChatApiGarbledError."""

    def removals(self, remote: Remote, user: str, /) -> list[tuple[str, str, dict[str, object] | None]]:
        """The calls (method, path, body) that delete what a provider keeps, in order."""


def text_in(content: object) -> str:
    """The text of a content that may be a string or a list of parts; parts of reasoning are none."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of(part) for part in content if isinstance(part, Mapping))
    return ""


def count(fields: object, *names: str) -> int | None:
    """A number of tokens somewhere in a report of usage; None where there is none."""
    for name in names:
        fields = fields.get(name) if isinstance(fields, Mapping) else None
    return fields if isinstance(fields, int) and not isinstance(fields, bool) and fields >= 0 else None


def garbled(what: str) -> ChatApiGarbledError:
    return ChatApiGarbledError(f"a reply without {what}")


def _text_of(part: Mapping[str, object]) -> str:
    kind = part.get("type", "text")
    return str(part.get("refusal" if kind == "refusal" else "text") or "") if kind in _TEXTS else ""
