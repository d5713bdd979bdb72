"""Faults of the offline chat API: what providers have been seen to do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

ChatKind = Literal[
    "400", "401", "429", "500", "503", "context", "quota", "hang", "drop", "cut", "error_midway", "garbage", "empty"
]
CHAT_KINDS: frozenset[str] = frozenset(get_args(ChatKind))


class Refusal(NamedTuple):
    """An error in the shape of the OpenAI API."""

    status: int
    text: str
    kind: str
    code: str | None

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.text, "type": self.kind, "param": None, "code": self.code}}


ERRORS: dict[str, Refusal] = {
    "400": Refusal(400, "The request is not valid", "invalid_request_error", None),
    "401": Refusal(401, "Incorrect API key provided", "invalid_request_error", "invalid_api_key"),
    "429": Refusal(429, "Rate limit reached", "requests", "rate_limit_exceeded"),
    "quota": Refusal(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
    "500": Refusal(500, "The server had an error while processing your request", "server_error", None),
    "503": Refusal(503, "The engine is currently overloaded", "server_error", None),
    "context": Refusal(
        400, "This model's maximum context length is exceeded", "invalid_request_error", "context_length_exceeded"
    ),
}


@dataclass(slots=True, kw_only=True)
class ChatFault:
    """One rule. `seconds`: `Retry-After` of 429 and 503, or when `hang` is cut. `after`: chunks sent before `cut`."""

    kind: ChatKind
    p: float = 1.0
    count: int | None = None
    seconds: float = 1.0
    after: int = 1
    struck: int = 0


class ChatFaultPlan:
    """Rules are tried in order; the first that strikes is taken."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # repeatable, guards nothing
        self._rules: list[ChatFault] = []

    def __bool__(self) -> bool:
        return bool(self._rules)

    def seed(self, seed: int) -> None:
        self._random.seed(seed)

    def add(
        self, *, kind: ChatKind, p: float = 1.0, count: int | None = None, seconds: float = 1.0, after: int = 1
    ) -> ChatFault:
        """Raises ValueError for an unknown kind."""
        if kind not in CHAT_KINDS:
            raise ValueError(f"unknown fault {kind!r}; one of {', '.join(sorted(CHAT_KINDS))}")
        rule = ChatFault(kind=kind, p=p, count=count, seconds=seconds, after=after)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        self._rules.clear()

    def pick(self) -> ChatFault | None:
        for rule in self._rules:
            if (rule.count is None or rule.struck < rule.count) and self._random.random() < rule.p:
                rule.struck += 1
                return rule
        return None
