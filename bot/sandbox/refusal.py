"""How a Bot API call is refused: code, text, and what the caller may do next."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """A definite no, in the real server's words. `retry_after` is in seconds."""

    def __init__(self, code: int, description: str, *, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.retry_after = retry_after

    def answer(self) -> dict[str, Any]:
        body: dict[str, Any] = {"ok": False, "error_code": self.code, "description": self.description}
        if self.retry_after is not None:
            body["parameters"] = {"retry_after": self.retry_after}
        return body


class BadRequestError(RefusedError):
    """400: the call can never succeed as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, f"Bad Request: {reason}")


NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current "
    "content and reply markup of the message"
)
BLOCKED = "Forbidden: bot was blocked by the user"


def too_many(seconds: int) -> RefusedError:
    """429 with the seconds to wait."""
    return RefusedError(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
