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

Reading it back is strict, down to where a line ends: only what was written here is read, after its signature.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import groupby
from types import NoneType
from typing import Any, Final, NamedTuple

import orjson

from bot.conversation.record import Asked, Record
from bot.privacy.content import About, Entry, Gap, Message, Noted, Role, clock_of, iso, messages_of, moment

FORMAT: Final = "support-export"
VERSION: Final = 2
NAME: Final = "conversations.json"

Shape = Mapping[str, tuple[type, ...]]
"""The types of an object's fields by name; a name that ends in a question mark may be left out."""

ORIGIN: Final[Shape] = {
    "made": (str,),
    "bot": (str,),
    "bot_id": (int,),
    "chat_id": (int,),
    "part": (int,),
    "parts": (int,),
}
_HEAD: Final[Shape] = {"format": (str,), "version": (int,), **ORIGIN}
_PLACE: Final[Shape] = {"topic": (int,), "conversation": (int,), "messages": (list,)}
_NOTES: Final[Shape] = {"upto": (int,), "statements": (list,), "summary?": (str,)}
_MESSAGE: Final[Shape] = {
    "id": (int, NoneType),
    "ids?": (list,),
    "turn": (int,),
    "role": (str,),
    "time": (str, NoneType),
    "text": (str,),
    "model?": (str,),
    "version?": (str,),
    "state?": (str,),
}
_SKIPPED: Final[Shape] = {
    "what": (str,),
    "reason": (str,),
    "topic?": (int,),
    "conversation?": (int,),
    "first?": (int,),
    "last?": (int,),
}
_TIME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_EPOCH: Final = date(1970, 1, 1)


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


# ---- back again
class ListingError(ValueError):
    """Not what is written here. The text holds nothing of the file."""


class Returned(NamedTuple):
    """A turn as it was told of: what ``messages_of`` makes of it again are the very messages of the file."""

    topic: int
    conversation: int
    number: int
    record: Record
    answer_ids: tuple[int, ...]

    def messages(self) -> Iterator[Message]:
        """Its messages, anew."""
        return messages_of(Entry(self.topic, self.conversation, self.number, self.record, self.answer_ids), self.record)


def returned(pieces: Iterable[bytes], origin: Mapping[str, Any]) -> Iterator[Returned]:
    """The turns of a file that comes in pieces, which must be the one of ``origin``. Raises ListingError."""
    lines = _lines(pieces)
    head = unpacked_json(_next(lines).removesuffix(b",") + b"}")
    check_shape(head, _HEAD)
    if head != {"format": FORMAT, "version": VERSION, **origin}:
        raise ListingError("of another archive than the manifest")
    _expect(_next(lines) == b'"conversations":[')
    told: set[tuple[int, int]] = set()
    while (line := _next(lines)) != b"],":
        place = unpacked_json(line + b"]}")
        check_shape(place, _PLACE)
        topic, conversation = place["topic"], place["conversation"]
        _expect(min(topic, conversation) >= 0 and (topic, conversation) not in told)
        told.add((topic, conversation))
        yield from _conversation(topic, conversation, lines)
    _check_skipped(lines)


def check_shape(value: Any, shape: Shape) -> None:
    """Raises ListingError unless the value is an object with just these fields."""
    _expect(type(value) is dict)
    for name, types in shape.items():
        if name not in value and name.endswith("?"):
            known = name[:-1]
            _expect(known not in value or type(value[known]) in types)
        else:
            _expect(name in value and type(value[name]) in types)
    _expect(all(name in shape or f"{name}?" in shape for name in value))


def unpacked_json(content: bytes) -> Any:
    """Raises ListingError."""
    try:
        return orjson.loads(content)
    except ValueError:
        pass
    try:
        return json.loads(content)  # half of a pair is no text to the other one
    except (ValueError, RecursionError):
        raise ListingError("what should be JSON is not") from None


def seconds_of(time: str | None) -> int:
    """Seconds UTC of a time as it is written; 0 for none. Raises ListingError for any other form."""
    if time is None:
        return 0
    parts = _TIME.fullmatch(time)
    if not parts:
        raise ListingError("a time is none")
    seconds = _day_s(parts[1]) + int(parts[2]) * 3600 + int(parts[3]) * 60 + int(parts[4])
    clock = clock_of(seconds)
    _expect(clock is not None and clock.iso == time)
    return seconds


@lru_cache(maxsize=64)
def _day_s(day: str) -> int:
    try:
        return (date.fromisoformat(day) - _EPOCH).days * 86_400
    except ValueError:
        raise ListingError("a day is none") from None


def _conversation(topic: int, conversation: int, lines: Iterator[bytes]) -> Iterator[Returned]:
    last = 0
    for number, messages in groupby(_messages(lines), lambda message: message.turn):
        _expect(number > last)  # also: the messages of a turn stand together
        last = number
        yield _turn(topic, conversation, number, list(messages))


def _messages(lines: Iterator[bytes]) -> Iterator[Message]:
    """Up to the end of a conversation, which is read, too."""
    while not (line := _next(lines)).startswith(b"]"):
        yield _message(unpacked_json(line.removesuffix(b",")))
    closing = line.removesuffix(b",")
    if closing == b"]}":
        return
    _expect(closing.startswith(b'],"notes":'))
    notes = unpacked_json(b"{" + closing.removeprefix(b"],"))
    check_shape(notes, {"notes": (dict,)})
    check_shape(notes["notes"], _NOTES)
    _expect(all(type(statement) is str for statement in notes["notes"]["statements"]))


def _message(told: Any) -> Message:
    check_shape(told, _MESSAGE)
    first = told["id"]
    ids = tuple(told.get("ids") or (() if first is None else (first,)))
    _expect(all(type(one) is int for one in ids) and ids[:1] == (() if first is None else (first,)))
    _expect(told["role"] in _ROLES)
    state, model, version = (told.get(name, "") for name in ("state", "model", "version"))
    role, time_s = Role(told["role"]), seconds_of(told["time"])
    return Message(role, told["turn"], ids, time_s, told["text"], state, model, version)


_ROLES: Final = frozenset(Role)


def _turn(topic: int, conversation: int, number: int, messages: list[Message]) -> Returned:
    """The record that tells these messages, and no others."""
    asked = [message for message in messages if message.role is Role.CUSTOMER]
    answers = messages[len(asked) :]
    answer = answers[0] if answers else None
    more: dict[str, Any] = {}
    if state := _state(asked, answer):
        more["state"] = state
    if answer and answer.time_s:
        more["t"] = answer.time_s
    if answer and answer.version:
        more["version"] = answer.version
    record = Record(
        tuple(Asked(message.ids[0], message.text, message.time_s) for message in asked if message.ids),
        answer.text if answer else "",
        plain=answer is not None and answer.state == _NOTICE,
        model=answer.model if answer else "",
        more=more,
    )
    turn = Returned(topic, conversation, number, record, answer.ids if answer else ())
    _expect(list(turn.messages()) == messages)
    return turn


_NOTICE: Final = "notice"
_OPERATOR: Final = "operator"


def _state(asked: Sequence[Message], answer: Message | None) -> str:
    if asked and asked[0].state:
        return asked[0].state
    if answer is None or answer.state == _NOTICE:
        return ""
    return _OPERATOR if answer.role is Role.OPERATOR else answer.state


def _check_skipped(lines: Iterator[bytes]) -> None:
    _expect(_next(lines) == b'"skipped":[')
    while (line := _next(lines)) != b"]}":
        check_shape(unpacked_json(line.removesuffix(b",")), _SKIPPED)
    _expect(next(lines, None) is None)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        if b"\n" not in piece:
            rest += piece
            continue
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    _expect(not rest)


def _next(lines: Iterator[bytes]) -> bytes:
    line = next(lines, None)
    if line is None:
        raise ListingError("it ends too early")
    return line


def _expect(is_so: bool) -> None:
    if not is_so:
        raise ListingError("not what an archive holds")
