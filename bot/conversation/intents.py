"""What a handler makes of an update. Handlers decide, the turn acts: that is why bursts can be answered together."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from bot.texts import Sentence


@dataclass(frozen=True, slots=True)
class Question:
    """Something to answer. ``units``: length in UTF-16 units, as Telegram counts; ``reply_to``: the message that it
    replies to, 0 if there is none; ``language``: of the writer's Telegram; ``name``: what the writer goes by;
    ``other``: content that only a person can make something of, ``text`` is its caption; ``file``: the document's id,
    and ``file_bytes`` its size as Telegram tells it.
    """

    message_id: int
    topic: int
    text: str
    date: int
    units: int
    reply_to: int = 0
    language: str = ""
    name: str = ""
    other: bool = False
    file: str = ""
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Correction:
    """Somebody edited a message; ``reply_to`` and ``name`` as of a question."""

    message_id: int
    topic: int
    text: str
    reply_to: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence of our own; never part of the history."""

    text: Sentence | str
    topic: int = 0
    message_id: int = 0
    language: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """The customer blocked the bot, or came back."""

    blocked: bool


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing to say; ``reason`` is for the log."""

    reason: str


class Deed(Enum):
    """What a command or a button asks for."""

    STOP = auto()
    ANEW = auto()
    LANGUAGE = auto()
    FORGET = auto()  # asks which
    AGAIN = auto()  # answers a question anew, after a correction
    AGED = auto()  # something is too old
    PRIVACY = auto()  # shows the settings, or changes one
    CONSENT = auto()  # to what the service does
    IMPORT = auto()  # asks for a file, or takes what it held
    ERASE = auto()  # confirmed
    KEEP = auto()  # cancelled
    TIDY = auto()  # our own messages, after a forget
    EXPORT = auto()
    PERSON = auto()
    BACK = auto()
    MORE = auto()  # go on with an answer that was cut
    NONE = auto()  # a button that means nothing any more


@dataclass(frozen=True, slots=True)
class Act:
    """A command or a press of a button. ``pressed``: the callback's id, "" for a command.

    ``argument``: the language chosen, or the scope of a forget; ``number``: the turn that is to go on;
    ``draft_id``: of a stop by Telegram's own button; ``conversation``, ``user`` and ``until`` (s) bind a confirmation;
    ``by``: who pressed; ``private``: their own chat; ``receipt``: of a deletion that the operator asks for, and
    ``quiet``: nobody is told of it.
    """

    deed: Deed
    topic: int = 0
    message_id: int = 0
    language: str = ""
    pressed: str = ""
    argument: str = ""
    draft_id: int = 0
    number: int = 0
    conversation: int = -1
    user: int = 0
    until: int = 0
    by: int = 0
    reply_to: int = 0
    private: bool = True
    name: str = ""
    receipt: str = ""
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """From another chat of the bot. ``kind``, to an operator: opening (a customer asks for a person), relay (what one
    writes then), ended, failed (the customer cannot be reached), alert (of what ``name`` and ``values`` say, by no
    chat); to a customer: reply (an operator's words), back, unread (this operator cannot be reached), lost (what was to
    be said could not be delivered).
    ``copy``: the message with the content, where that is not text; ``topic``: where it is said;
    ``about_topic``: the customer's, for the answer.
    """

    kind: str
    chat_id: int
    name: str = ""
    text: str = ""
    question: str = ""
    answer: str = ""
    copy: int = 0
    topic: int = 0
    about_topic: int = 0
    sealed: bytes = b""
    values: dict[str, Any] = field(default_factory=dict)


class Sender(NamedTuple):
    """Who sent a letter, because of which update, and the topic of theirs that it is about."""

    chat_id: int
    cause: int
    topic: int


Intent = Question | Correction | Notice | Presence | Nothing | Act | Letter
