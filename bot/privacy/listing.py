"""``conversations.json``: an archive's file for programs, with one message a line, so that it is written and read back
a message at a time.

UTF-8. ``time`` is ISO 8601 UTC or null, ``id`` a Telegram message id or null; ``ids`` stands beside it where an answer
took several messages. ``notes`` are what the model is told of a long conversation's turns up to number ``upto`` instead
of the turns. What is not known is left out::

    {"format": "support-export", "version": 2, "made", "bot", "bot_id", "chat_id", "part", "parts",
     "conversations": [{"topic", "conversation", "messages": [
       {"id", "ids"?, "turn", "role": "customer" | "assistant" | "operator", "time", "text",
        "model"?, "version"?, "state"?: "stopped" | "handed" | "notice"}],
       "notes"?: {"upto", "statements": ["…"], "summary"?}}],
     "skipped": [{"what", "reason", "topic"?, "conversation"?, "first"?, "last"?}]}

A turn is a question, or several sent together, and what was said to it. Of a skipped run of turns ``first`` and
``last`` are the numbers, both included. A turn that was removed at the customer's request is no more, and not skipped.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from bot.privacy.content import About, Gap, Message, Noted, clock_of, iso, moment

FORMAT: Final = "support-export"
VERSION: Final = 2
NAME: Final = "conversations.json"


class Listing:
    """The file, piece by piece."""

    name: Final = NAME

    def __init__(self, about: About) -> None:
        self._about = about
        self._is_first_conversation = True
        self._is_first_message = True
        self._has_notes = False

    def head(self) -> bytes:
        opened = packed_json({"format": FORMAT, "version": VERSION, **origin_of(self._about)})
        return opened[:-1] + b',\n"conversations":['

    def begin(self, topic: int, conversation: int) -> bytes:
        comma = b"" if self._is_first_conversation else b","
        self._is_first_conversation, self._is_first_message, self._has_notes = False, True, False
        return b'%b\n{"topic":%d,"conversation":%d,"messages":[' % (comma, topic, conversation)

    def message(self, message: Message) -> bytes:
        role, turn, ids, time_s, text, state, model, version = message
        clock = clock_of(time_s)
        told: dict[str, Any] = {"id": ids[0] if ids else None}
        if len(ids) > 1:
            told["ids"] = ids
        told["turn"] = turn
        told["role"] = role
        told["time"] = clock.iso if clock else None
        told["text"] = text
        if model:
            told["model"] = model
        if version:
            told["version"] = version
        if state:
            told["state"] = state
        if self._is_first_message:
            self._is_first_message = False
            return b"\n" + packed_json(told)
        return b",\n" + packed_json(told)

    def gap(self, gap: Gap) -> bytes:  # noqa: ARG002 (told at the end)
        return b""

    def notes(self, noted: Noted) -> bytes:
        self._has_notes = True
        told = {"upto": noted.upto, "statements": noted.statements}
        return b'\n],"notes":' + packed_json(told | ({"summary": noted.summary} if noted.summary else {}))

    def end(self) -> bytes:
        return b"}" if self._has_notes else b"\n]}"

    def foot(self, gaps: Sequence[Gap]) -> Iterator[bytes]:
        yield b'\n],\n"skipped":['
        comma = b"\n"
        for item in _skipped(self._about, gaps):
            yield comma + packed_json(item)
            comma = b",\n"
        yield b"\n]}\n"


def origin_of(about: About) -> dict[str, Any]:
    """What every file for programs says of the archive it is part of."""
    return {
        "made": iso(made_at(about)),
        "bot": about.bot,
        "bot_id": about.bot_id,
        "chat_id": about.chat_id,
        "part": about.part,
        "parts": about.parts,
    }


def made_at(about: About) -> datetime:
    """When the archive was asked for."""
    return moment(about.made_s) or datetime.fromtimestamp(0, UTC)


def packed_json(value: Any) -> bytes:
    """As UTF-8, in one line. A lone surrogate, which UTF-8 cannot hold, becomes ``\\ud83d``: inside a JSON string that
    is itself."""
    try:
        return orjson.dumps(value)
    except TypeError:
        told = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return told.encode("utf-8", "backslashreplace")


def _skipped(about: About, gaps: Iterable[Gap]) -> Iterator[dict[str, Any]]:
    """What is left out: first what the caller named, then what could not be opened."""
    for skipped in about.skipped:
        yield asdict(skipped)
    for gap in gaps:
        turns = f"turn {gap.first}" if gap.first == gap.last else f"turns {gap.first} to {gap.last}"
        yield {"what": f"{turns} of conversation {gap.conversation} in topic {gap.topic}", **asdict(gap)}
