"""Faults of the offline chat API: what providers, and the proxies before them, have been seen to do.

One table says how each kind is played. `BEFORE_TEXT` kinds come instead of an answer (`slow_headers` before one);
`AFTER_TEXT` kinds start an answer and spoil it. Which dialects know a kind, `plays` tells: the rest pass it by.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

ChatKind = Literal[
    "400", "401", "402", "403", "404", "404_model", "408", "409", "413", "422", "429", "429_bare", "429_ms", "500",
    "502", "503", "504", "529", "quota", "context", "locked", "content_filter", "html", "garbage", "empty",
    "no_choices", "detail", "string_error", "int_code", "array", "hang", "drop", "slow_headers",
    "cut", "error_midway", "failed_midway", "garbage_midway", "stall", "endless", "huge", "length", "filter_midway",
    "blank", "loop",
]  # fmt: skip
CHAT_KINDS: frozenset[str] = frozenset(get_args(ChatKind))

DIALECTS: Final = frozenset({"completions", "responses", "dify"})
HUGE_BYTES: Final = 10 << 20
LOOPS: Final = 200
_SENTENCE: Final = "I can help you with your order, please tell me its number. "

Retry = Literal["", "seconds", "milliseconds"]
Ending = Literal["stop", "length", "content_filter", "cut", "stall", "error", "failed", "garbage", "endless"]


class Refusal(NamedTuple):
    """An error. Where `raw` is set it is the body in every dialect: an object as JSON, bytes as a page.

    `retry`: the header that tells when to come back, in the unit that it uses.
    """

    status: int
    text: str
    kind: str
    code: str | int | None
    param: str | None = None
    raw: Any = None
    retry: Retry = ""

    def body(self) -> dict[str, Any]:
        """In the shape of the OpenAI API."""
        return {"error": {"message": self.text, "type": self.kind, "param": self.param, "code": self.code}}


class RefusedError(Exception):
    """A request that the server will not answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def invalid(text: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> RefusedError:
    """The request itself is wrong."""
    return RefusedError(Refusal(status, text, "invalid_request_error", code, param))


_WRONG: Final = "invalid_request_error"
_FAILED: Final = "server_error"
_OVERLOADED: Final = "The engine is currently overloaded"
_LIMITED: Final = "Rate limit reached"
_FILTERED: Final = "The prompt was stopped by the content management policy"
_LOCKED: Final = "Another process is working on this conversation; please retry in a few seconds"


def _page(title: str) -> bytes:
    return f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()


_AZURE: Final = {
    "error": {
        "message": _FILTERED, "type": None, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
        },
    }
}  # fmt: skip

ERRORS: Final[dict[str, Refusal]] = {
    "400": Refusal(400, "The request is not valid", _WRONG, None),
    "401": Refusal(401, "Incorrect API key provided", _WRONG, "invalid_api_key"),
    "402": Refusal(402, "Insufficient balance", "insufficient_balance", "insufficient_balance"),
    "403": Refusal(403, "Country, region or territory not supported", "request_forbidden", "forbidden"),
    "404": Refusal(404, "Not found", _WRONG, None),
    "404_model": Refusal(
        404, "The model does not exist or you have no access to it", _WRONG, "model_not_found", "model"
    ),
    "408": Refusal(408, "The request took too long", "timeout", "request_timeout"),
    "409": Refusal(409, "The resource was changed by another request", "conflict_error", "conflict"),
    "413": Refusal(413, "The request is too large", _WRONG, "request_too_large"),
    "422": Refusal(422, "The request cannot be processed", _WRONG, None),
    "429": Refusal(429, _LIMITED, "requests", "rate_limit_exceeded", retry="seconds"),
    "429_bare": Refusal(429, _LIMITED, "requests", "rate_limit_exceeded"),
    "429_ms": Refusal(429, _LIMITED, "requests", "rate_limit_exceeded", retry="milliseconds"),
    "quota": Refusal(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
    "500": Refusal(500, "The server had an error while processing your request", _FAILED, None),
    "502": Refusal(502, "Bad Gateway", _FAILED, None, raw=_page("502 Bad Gateway")),
    "503": Refusal(503, _OVERLOADED, _FAILED, None, retry="seconds"),
    "504": Refusal(504, "The upstream server took too long", _FAILED, "gateway_timeout"),
    "529": Refusal(529, "Overloaded", "overloaded_error", "overloaded"),
    "context": Refusal(400, "This model's maximum context length is exceeded", _WRONG, "context_length_exceeded"),
    "locked": Refusal(400, _LOCKED, _WRONG, "conversation_locked", "conversation"),
    "content_filter": Refusal(400, _FILTERED, _WRONG, "content_filter", "prompt", raw=_AZURE),
    "html": Refusal(200, "", _FAILED, None, raw=_page("Sign in to the network")),
    "garbage": Refusal(200, "", _FAILED, None, raw=b"<html><body>Something went wrong</body></html>"),
    "empty": Refusal(200, "", _FAILED, None, raw=b""),
    "detail": Refusal(500, "", _FAILED, None, raw={"detail": "Internal Server Error"}),
    "string_error": Refusal(500, "", _FAILED, None, raw={"error": "model runner has stopped"}),
    "int_code": Refusal(429, "", _FAILED, 429, raw={"error": {"message": _LIMITED, "code": 429}}),
    "array": Refusal(
        429, "", _FAILED, 429, raw=[{"error": {"code": 429, "message": _LIMITED, "status": "RESOURCE_EXHAUSTED"}}]
    ),
}


class Play(NamedTuple):
    """How a kind that starts an answer is played: how it ends and, where it is not the model's, its text."""

    ending: Ending
    text: Callable[[], str] | None = None


SPOILED: Final[dict[str, Play]] = {
    "cut": Play("cut"),
    "error_midway": Play("error"),
    "failed_midway": Play("failed"),
    "garbage_midway": Play("garbage"),
    "stall": Play("stall"),
    "endless": Play("endless"),
    "huge": Play("stop", lambda: _SENTENCE * (HUGE_BYTES // len(_SENTENCE) + 1)),
    "length": Play("length"),
    "filter_midway": Play("content_filter"),
    "blank": Play("stop", lambda: " \n\t\n "),
    "loop": Play("stop", lambda: _SENTENCE * LOOPS),
}

AFTER_TEXT: Final[frozenset[str]] = frozenset(SPOILED)
BEFORE_TEXT: Final[frozenset[str]] = CHAT_KINDS - AFTER_TEXT

#: Kinds that only some dialects have a shape for.
_ONLY: Final[dict[str, frozenset[str]]] = {
    "locked": frozenset({"completions", "responses"}),
    "failed_midway": frozenset({"responses"}),
    "length": frozenset({"completions", "responses"}),
}


def plays(kind: str, dialect: str) -> bool:
    """Whether a kind can happen in a dialect."""
    return dialect in _ONLY.get(kind, DIALECTS)


def dify_error(refusal: Refusal) -> tuple[int, dict[str, Any]]:
    """Status and body as Dify gives them: errors of the model behind it come as 400."""
    status, code = _DIFY_CODES.get(refusal.code, (refusal.status, _DIFY_STATUS.get(refusal.status, "unknown")))
    return status, {"code": code, "message": refusal.text, "status": status}


_DIFY_CODES: Final[dict[str | int | None, tuple[int, str]]] = {
    "insufficient_quota": (400, "provider_quota_exceeded"),
    "context_length_exceeded": (400, "completion_request_error"),
    "content_filter": (400, "completion_request_error"),
    "model_not_found": (400, "model_currently_not_support"),
}
_DIFY_STATUS: Final[dict[int, str]] = {
    400: "invalid_param", 401: "unauthorized", 403: "forbidden", 404: "not_found", 408: "request_timeout",
    409: "conflict", 413: "request_entity_too_large", 422: "unprocessable_entity", 429: "too_many_requests",
    500: "internal_server_error", 502: "bad_gateway", 503: "service_unavailable", 504: "gateway_timeout",
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class ChatFault:
    """One rule.

    `seconds`: what a retry header tells, how long `slow_headers`, `hang` and `stall` last. `after`: chunks of text
    sent before an answer is spoiled. `status` and `text` replace those of a refusal. With `path` (after `/v1`, its
    beginning) and `method` the rule strikes what is no question too, such as `/conversations` with DELETE.
    """

    kind: ChatKind
    p: float = 1.0
    count: int | None = None
    seconds: float = 1.0
    after: int = 1
    status: int | None = None
    text: str | None = None
    path: str = ""
    method: str = ""
    struck: int = 0

    def refusal(self) -> Refusal:
        """The error to send. Raises KeyError for a kind that sends none."""
        refusal = ERRORS[self.kind]
        if self.status is not None:
            refusal = refusal._replace(status=self.status)
        return refusal if self.text is None else refusal._replace(text=self.text)

    def aims_at(self, dialect: str, path: str, method: str) -> bool:
        if self.path or self.method:
            return path.startswith(self.path) and self.method in {"", method}
        return bool(dialect) and plays(self.kind, dialect)


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
        self,
        *,
        kind: ChatKind,
        p: float = 1.0,
        count: int | None = None,
        seconds: float = 1.0,
        after: int = 1,
        status: int | None = None,
        text: str | None = None,
        path: str = "",
        method: str = "",
    ) -> ChatFault:
        """Raises ValueError for an unknown kind."""
        if kind not in CHAT_KINDS:
            raise ValueError(f"unknown fault {kind!r}; one of {', '.join(sorted(CHAT_KINDS))}")
        rule = ChatFault(
            kind=kind, p=p, count=count, seconds=seconds, after=after, status=status, text=text, path=path,
            method=method,
        )  # fmt: skip
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        self._rules.clear()

    def pick(self, dialect: str = "completions", path: str = "", method: str = "POST") -> ChatFault | None:
        """The rule that strikes a request; an empty `dialect` is a request that is no question."""
        for rule in self._rules:
            if (
                (rule.count is None or rule.struck < rule.count)
                and rule.aims_at(dialect, path, method)
                and self._random.random() < rule.p
            ):
                rule.struck += 1
                return rule
        return None
