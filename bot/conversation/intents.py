"""What a handler makes of an update. Handlers decide, the turn acts: that is why bursts can be answered together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """Something to answer. ``units``: length in UTF-16 units, as Telegram counts."""

    message_id: int
    topic: int
    text: str
    date: int
    units: int


@dataclass(frozen=True, slots=True)
class Correction:
    """The customer edited a message."""

    message_id: int
    topic: int
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence of our own; never part of the history."""

    text: str
    topic: int = 0
    message_id: int = 0


@dataclass(frozen=True, slots=True)
class Presence:
    """The customer blocked the bot, or came back."""

    blocked: bool


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing to say; ``reason`` is for the log."""

    reason: str


Intent = Question | Correction | Notice | Presence | Nothing
