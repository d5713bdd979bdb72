"""What can go wrong above the store, drawn once.

BotError
├── SettingsError                  a setting is missing or wrong; the process stops with these sentences
├── TelegramError                  a Bot API call did not give what was asked for
│   ├── TelegramRetryAfterError        429: nothing was done, wait exactly that long
│   ├── TelegramRefusedError           a definite 4xx other than these three: nothing was done, nothing will be
│   ├── TelegramBlockedError           blocked by the person, thrown out of the group, or never met
│   ├── TelegramUnauthorizedError      401: the token is wrong or was revoked
│   ├── TelegramConflictError          409: somebody else polls, or a webhook is set
│   ├── TelegramUnreachableError       the connection was never made: nothing was sent
│   └── TelegramUncertainError         fate unknown: cut, timed out, or 5xx
└── ChatApiError                   the chat API did not give an answer
    ├── ChatApiUnavailableError        unreachable, 429, 5xx, cut: another try may help
    ├── ChatApiTimeoutError            nothing more came within the deadline
    ├── ChatApiGarbledError            the reply is not what the protocol promises
    ├── ChatApiEmptyError              an answer without words, or one that goes round in circles
    ├── ChatApiRefusedError            a definite refusal: the same request would be refused again
    └── ChatApiDownError               no endpoint can answer for now: the question should wait

Errors of the store are drawn in `storage.errors`; that another worker took a chat over is one of them. No message here
carries a secret or a customer's words: `str()` of any of these may be logged.
"""

import re
from collections.abc import Iterable
from enum import Enum

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|“[^”]*”|\"[^\"]*$")


class BotError(Exception):
    """Everything the service raises on purpose."""


class SettingsError(BotError):
    """One plain sentence for each wrong setting; `str()` puts each on a line of its own."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TelegramError(BotError):
    """A Bot API call failed; the subclass tells whether it may have had an effect."""


class TelegramRetryAfterError(TelegramError):
    """429: nothing was done; the chat (or the bot) may send again after `seconds`, and not before."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"Telegram asks to wait {seconds:g} s")


class TelegramRefusedError(TelegramError):
    """A definite 4xx: `description` is Telegram's own text, which may quote the message; `str()` leaves quotes out."""

    def __init__(self, code: int, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(f"Telegram refused with {code}: {_QUOTED.sub('(…)', description)[:200]}")


class TelegramBlockedError(TelegramError):
    """403, or a chat not found: nothing can be sent there until the person writes."""

    def __init__(self, description: str = "Forbidden") -> None:
        self.description = description
        super().__init__(f"Telegram cannot reach this chat: {description[:200]}")


class TelegramUnauthorizedError(TelegramError):
    """401 (or 404 on the token's address): the bot token is wrong or was revoked."""

    def __init__(self) -> None:
        super().__init__("Telegram does not know this bot token")


class TelegramConflictError(TelegramError):
    """409: another process polls with this token, or a webhook is set while we poll."""

    def __init__(self, description: str = "Conflict") -> None:
        self.description = description
        super().__init__(f"Telegram refused with 409: {description[:200]}")


class TelegramUnreachableError(TelegramError):
    """The connection was never made, so nothing was sent: trying again cannot double a message."""


class TelegramUncertainError(TelegramError):
    """The call may or may not have been carried out.

    `flight_over` is True when a complete reply (a 5xx) came back: nothing is on its way any more that could land late.
    """

    def __init__(self, message: str = "the fate of a call to Telegram is unknown", *, flight_over: bool) -> None:
        self.flight_over = flight_over
        super().__init__(message)


class ChatApiError(BotError):
    """The chat API gave no usable answer."""


class ChatApiUnavailableError(ChatApiError):
    """Unreachable, overloaded or failing; `retry_after` in seconds where the server named a time, else None."""

    def __init__(self, message: str = "the chat API is unavailable", *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Reason(Enum):
    """Why a chat API refuses for certain. The first five are for whoever runs the service to mend."""

    KEY = "key"  # wrong, revoked, or without leave
    CREDIT = "credit"  # the account is used up
    MODEL = "model"  # unknown there
    ADDRESS = "address"  # nothing speaks this dialect there
    REQUEST = "request"  # anything else it does not take
    FIELD = "field"  # it names a field of the request
    SIZE = "size"  # more than it can read at once
    CONTENT = "content"  # its filter
    STATE = "state"  # what we thought it keeps is gone


class ChatApiRefusedError(ChatApiError):
    """A definite refusal with HTTP `status`; `code` is the provider's own word, such as `context_length_exceeded`;
    `field`: the one that it names."""

    def __init__(
        self, status: int, code: str | None = None, *, reason: Reason = Reason.REQUEST, field: str = ""
    ) -> None:
        self.status = status
        self.code = code
        self.reason = reason
        self.field = field
        super().__init__(f"the chat API refused with {status}, {reason.value}" + (f" ({code[:80]})" if code else ""))


class ChatApiGarbledError(ChatApiError):
    """The reply breaks the protocol: HTML, an event that is no JSON."""


class ChatApiEmptyError(ChatApiError):
    """An answer without words, or one that repeats itself without end."""


class ChatApiTimeoutError(ChatApiError):
    """The first words, the next words or the whole answer took longer than allowed."""


class ChatApiDownError(ChatApiError):
    """No endpoint can answer for now; `seconds` until a try may make sense, `reason` where it is known to be ours."""

    def __init__(self, message: str, *, seconds: float = 0.0, reason: Reason | None = None) -> None:
        self.seconds = seconds
        self.reason = reason
        super().__init__(message)
