"""What an archive tells of a chat: stored turns as the messages that people saw, and by name what cannot be told.

Both files of an archive are written from this, so they cannot disagree about who said what and when.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bot.conversation.record import Record
from bot.texts import N_

NO_REASON: Final = N_("It could not be read.")
PAUSE_TURNS: Final = 64
_DAY_MINUTES: Final = 24 * 60
_MINUTES: Final = tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in range(_DAY_MINUTES))
_EPOCH: Final = date(1970, 1, 1)
_NEVER_S: Final = ((date.max - _EPOCH).days + 1) * _DAY_MINUTES * 60


class Role(StrEnum):
    """Who said a message."""

    CUSTOMER = "customer"
    ASSISTANT = "assistant"
    OPERATOR = "operator"


class Entry(NamedTuple):
    """One stored turn. ``record`` None: it is there and cannot be opened; ``reason`` (a msgid) says why. ``gone``: it
    was removed on its own at the customer's request, and nothing is missing."""

    topic: int
    conversation: int
    number: int
    record: Record | None
    answer_ids: tuple[int, ...]
    reason: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """What the model is told of a conversation's turns up to number ``upto`` instead of the turns: the customer's own
    statements, and a summary ("" for none)."""

    topic: int
    conversation: int
    upto: int
    statements: tuple[str, ...]
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is no part of the archive: what it is, in the reader's words, and why (a msgid)."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class About:
    """What an archive is of: ``made_s`` in seconds UTC, ``part`` from 1 to ``parts``, ``language`` a BCP 47 tag,
    ``bot_id`` the bot's number at Telegram."""

    bot: str
    chat_id: int
    made_s: int
    part: int
    parts: int
    language: str
    skipped: tuple[Skipped, ...] = ()
    bot_id: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """What is kept of a chat beside its conversations, as JSON values: settings by name, each consent with its time and
    the version of what was agreed to, and a receipt of each request."""

    settings: dict[str, str | int | bool] = field(default_factory=dict)
    consents: list[dict[str, Any]] = field(default_factory=list)
    receipts: list[dict[str, Any]] = field(default_factory=list)


class Message(NamedTuple):
    """What one side said. An answer that took several Telegram messages is one, with all their ids.

    ``time_s`` 0: not known. ``state``: ``stopped`` by the customer, ``handed`` to a person, ``notice`` of the service
    itself, or nothing to tell.
    """

    role: Role
    turn: int
    ids: tuple[int, ...]
    time_s: int
    text: str
    state: str = ""
    model: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Neighbouring turns, ``first`` to ``last``, that cannot be opened for one reason."""

    topic: int
    conversation: int
    first: int
    last: int
    reason: str


def messages_of(entry: Entry, record: Record) -> Iterator[Message]:
    """The questions of a turn, then what was said to them, if anything was."""
    more = record.more
    state = _word(more, "state")
    answered = bool(record.said) or state == "stopped"
    # A hand-off is told of the questions: they went to a person, and nothing was said to them in this turn.
    of_questions = state if state == "handed" or not answered else ""
    for asked in record.asked:
        yield Message(Role.CUSTOMER, entry.number, (asked.message_id,), asked.date, asked.text, of_questions)
    if not answered:
        return
    is_operator = state == "operator"
    yield Message(
        role=Role.OPERATOR if is_operator else Role.ASSISTANT,
        turn=entry.number,
        ids=entry.answer_ids,
        time_s=said_s if isinstance(said_s := more.get("t"), int) else 0,
        text=record.said,
        state="" if is_operator or of_questions else state or ("notice" if record.plain else ""),
        model=record.model,
        version=_word(more, "version"),
    )


class Gaps:
    """Joins neighbouring turns that cannot be told: a lost key takes a whole conversation."""

    def __init__(self) -> None:
        self._open: Gap | None = None

    def add(self, entry: Entry) -> Gap | None:
        """An unreadable turn. The gap that it does not continue, if there was one."""
        reason = entry.reason or NO_REASON
        before, self._open = self._open, Gap(entry.topic, entry.conversation, entry.number, entry.number, reason)
        if before is not None and replace(before, first=entry.number, last=before.last + 1) == self._open:
            self._open = replace(before, last=entry.number)
            return None
        return before

    def end(self) -> Gap | None:
        """The gap that ends here, if there was one."""
        before, self._open = self._open, None
        return before


async def gathered(entries: AsyncIterator[Entry | Noted]) -> AsyncGenerator[Entry | Gap | Noted, None]:
    """What can be told, in order, and the gaps between. Lets others run after every ``PAUSE_TURNS`` turns, and closes
    ``entries`` however it ends."""
    gaps = Gaps()
    read = 0
    try:
        async for entry in entries:
            read += 1
            if read % PAUSE_TURNS == 0:
                await asyncio.sleep(0)
            if isinstance(entry, Entry) and entry.record is None:
                if gap := gaps.end() if entry.gone else gaps.add(entry):
                    yield gap
                continue
            if gap := gaps.end():
                yield gap
            yield entry
        if gap := gaps.end():
            yield gap
    finally:
        if isinstance(entries, AsyncGenerator):
            await entries.aclose()


def moment(seconds: int) -> datetime | None:
    """A point in time, UTC; None where it is not known (0) or out of any calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


class Clock(NamedTuple):
    """A point in time, UTC, as it is written: ``2026-11-21``, ``14:03`` and ``2026-11-21T14:03:00Z``."""

    day: str
    minute: str
    iso: str


def clock_of(seconds: int) -> Clock | None:
    """None where it is not known (0), or out of any calendar."""
    if not 0 < seconds < _NEVER_S:
        return None
    minutes, second = divmod(seconds, 60)
    days, minute = divmod(minutes, _DAY_MINUTES)
    day, time = _day(days), _MINUTES[minute]
    return Clock(day, time, f"{day}T{time}:{_MINUTES[second][3:]}Z")


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return (_EPOCH + timedelta(days)).isoformat()


def iso(time: datetime) -> str:
    """As ISO 8601 with seconds: ``2026-11-21T14:03:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _word(more: dict[str, Any], name: str) -> str:
    value = more.get(name)
    return "" if value is None else str(value)
