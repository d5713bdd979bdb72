"""What an archive tells of a chat: stored turns as the messages that people saw, and by name what cannot be told.

Both files of an archive are written from this, so they cannot disagree about who said what and when.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from bot.conversation.record import Record
from bot.texts import N_

NO_REASON: Final = N_("It could not be read.")
PAUSE_TURNS: Final = 64


class Role(StrEnum):
    """Who said a message."""

    CUSTOMER = "customer"
    ASSISTANT = "assistant"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored turn. ``record`` None: it is there and cannot be opened; ``reason`` (a msgid) says why."""

    topic: int
    conversation: int
    number: int
    record: Record | None
    answer_ids: tuple[int, ...]
    reason: str = ""


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
    """What an archive is of: ``made_s`` in seconds UTC, ``part`` from 1 to ``parts``, ``language`` a BCP 47 tag."""

    bot: str
    chat_id: int
    made_s: int
    part: int
    parts: int
    language: str
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
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


async def gathered(entries: AsyncIterator[Entry | Noted]) -> AsyncGenerator[Entry | Gap | Noted, None]:
    """The turns in order, with unreadable neighbours as one gap: a lost key takes a whole conversation.

    Lets others run after every ``PAUSE_TURNS`` turns, and closes ``entries`` however it ends.
    """
    gap: Gap | None = None
    read = 0
    try:
        async for entry in entries:
            read += 1
            if read % PAUSE_TURNS == 0:
                await asyncio.sleep(0)
            if gap and _continues(gap, entry):
                gap = replace(gap, last=gap.last + 1)
                continue
            if gap:
                yield gap
            gap = _gap(entry)
            if gap is None:
                yield entry
        if gap:
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


def iso(time: datetime) -> str:
    """As ISO 8601 with seconds: ``2026-11-21T14:03:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _gap(entry: Entry | Noted) -> Gap | None:
    """None for what can be told."""
    if isinstance(entry, Noted) or entry.record is not None:
        return None
    return Gap(entry.topic, entry.conversation, entry.number, entry.number, entry.reason or NO_REASON)


def _continues(gap: Gap, entry: Entry | Noted) -> bool:
    return _gap(entry) == replace(gap, first=gap.last + 1, last=gap.last + 1)


def _word(more: dict[str, Any], name: str) -> str:
    value = more.get(name)
    return "" if value is None else str(value)
