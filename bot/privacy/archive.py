"""The archive that `/export` hands out: a zip that is made while it is sent, in constant memory.

Three files: ``conversations.json`` for programs, ``chat.html`` for people (see ``page``), ``manifest.json`` last, with
the size and SHA-256 of the other two. The zip goes onto a sink that cannot seek, so it is never whole anywhere here.

``conversations.json`` is UTF-8 with one message a line. ``time`` is ISO 8601 UTC or null, ``id`` a Telegram message
id or null; ``ids`` stands beside it where an answer took several messages. ``notes`` are what the model is told of a
long conversation's turns up to number ``upto`` instead of the turns. What is not known is left out::

    {"format": "support-export", "version": 1, "made", "bot", "chat_id", "part", "parts",
     "conversations": [{"topic", "conversation", "messages": [
       {"id", "ids"?, "turn", "role": "customer" | "assistant" | "operator", "time", "text",
        "model"?, "version"?, "state"?: "stopped" | "handed" | "notice"}],
       "notes"?: {"upto", "statements": ["…"], "summary"?}}],
     "skipped": [{"what", "reason", "topic"?, "conversation"?, "first"?, "last"?}]}

A turn is a question, or several sent together, and what was said to it. Of a skipped run of turns ``first`` and
``last`` are the numbers, both included.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Final, Protocol
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from bot.privacy.content import About, Entry, Gap, Message, Noted, Skipped, gathered, iso, messages_of, moment
from bot.privacy.page import Page

__all__ = ["CHUNK_BYTES", "About", "Entry", "Noted", "Skipped", "archive", "file_name"]

FORMAT: Final = "support-export"
VERSION: Final = 1
CHUNK_BYTES: Final = 64 * 1024
_BATCH_SIGNS: Final = 32 * 1024
_EARLIEST: Final = datetime(1980, 1, 1, tzinfo=UTC)  # a zip cannot hold an earlier time, nor one after 2107
_LATEST: Final = datetime(2107, 12, 31, tzinfo=UTC)


async def archive(
    about: About, entries: Callable[[], AsyncIterator[Entry | Noted]], say: Callable[[str], str]
) -> AsyncGenerator[bytes, None]:
    """The zip, in chunks of at most 64 KiB; the same bytes for the same input.

    ``entries`` is called twice, once per file, and must tell the same turns in the order of topic, conversation,
    number, and behind a conversation's turns the notes on it, if there are any. Its errors pass through, and what was
    given until then is no whole zip. ``say`` translates a sentence (gettext msgid to text). A file may hold 2 GiB
    (RuntimeError): above 50 MB the caller makes parts anyway.
    """
    sink = _Sink()
    written: list[_Written] = []
    tallies: list[_Tally] = []
    with ZipFile(sink, "w", ZIP_DEFLATED) as packed:
        for face in (_Conversations(about), Page(about, say)):
            written.append(_Written(face.name))
            tallies.append(_Tally())
            async with aclosing(_batches(_told(face, entries(), tallies[-1]))) as batches:
                with packed.open(_info(face.name, about), "w") as file:
                    async for batch in batches:
                        written[-1].write(file, batch)
                        for chunk in sink.full():
                            yield chunk
                        await asyncio.sleep(0)  # a batch costs the compressor a millisecond or two
        with packed.open(_info("manifest.json", about), "w") as file:
            for piece in _manifest(about, written, tallies[0]):
                file.write(_bytes(piece))
    for chunk in sink.rest():
        yield chunk


def file_name(about: About) -> str:
    """``conversations-2026-11-21.zip``, or ``conversations-2026-11-21-part-2-of-3.zip``."""
    part = f"-part-{about.part}-of-{about.parts}" if about.parts > 1 else ""
    return f"conversations-{_made(about):%Y-%m-%d}{part}.zip"


class _Face(Protocol):
    """How a file tells the content. Every piece is a whole number of signs."""

    @property
    def name(self) -> str: ...
    def head(self) -> str: ...
    def begin(self, topic: int, conversation: int) -> str: ...
    def message(self, message: Message) -> str: ...
    def gap(self, gap: Gap) -> str: ...
    def notes(self, noted: Noted) -> str: ...
    def end(self) -> str: ...
    def foot(self, gaps: Sequence[Gap]) -> Iterator[str]: ...


@dataclass(slots=True)
class _Tally:
    """What a file came to hold. The gaps are kept: even 50,000 of them take only some megabytes."""

    conversations: int = 0
    turns: int = 0
    messages: int = 0
    gaps: list[Gap] = field(default_factory=list)


@dataclass(slots=True)
class _Written:
    """Size and hash of a file."""

    name: str
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def write(self, file: IO[bytes], content: bytes) -> None:
        file.write(content)
        self.digest.update(content)
        self.size += len(content)


class _Sink:
    """Where the zip goes: takes what comes, cannot seek, and gives it up again in chunks."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, content: bytes, /) -> int:
        self._waiting += content
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""

    def full(self) -> Iterator[bytes]:
        """All whole chunks."""
        while len(self._waiting) >= CHUNK_BYTES:
            yield self._cut()

    def rest(self) -> Iterator[bytes]:
        """Everything."""
        while self._waiting:
            yield self._cut()

    def _cut(self) -> bytes:
        chunk = bytes(self._waiting[:CHUNK_BYTES])
        del self._waiting[:CHUNK_BYTES]
        return chunk


class _Conversations:
    """``conversations.json``."""

    name: Final = "conversations.json"

    def __init__(self, about: About) -> None:
        self._about = about
        self._is_first_conversation = True
        self._is_first_message = True
        self._has_notes = False

    def head(self) -> str:
        opened = _json({"format": FORMAT, "version": VERSION, **_origin(self._about)}).removesuffix("}")
        return f'{opened},\n"conversations": ['

    def begin(self, topic: int, conversation: int) -> str:
        comma = "" if self._is_first_conversation else ","
        self._is_first_conversation, self._is_first_message, self._has_notes = False, True, False
        opened = _json({"topic": topic, "conversation": conversation}).removesuffix("}")
        return f'{comma}\n{opened}, "messages": ['

    def message(self, message: Message) -> str:
        comma = "" if self._is_first_message else ","
        self._is_first_message = False
        time = moment(message.time_s)
        told: dict[str, Any] = {"id": message.ids[0] if message.ids else None}
        if len(message.ids) > 1:
            told["ids"] = message.ids
        told |= {
            "turn": message.turn,
            "role": message.role,
            "time": iso(time) if time else None,
            "text": message.text,
        }
        known = {"model": message.model, "version": message.version, "state": message.state}
        return f"{comma}\n{_json(told | {name: value for name, value in known.items() if value})}"

    def gap(self, gap: Gap) -> str:  # noqa: ARG002 (told at the end)
        return ""

    def notes(self, noted: Noted) -> str:
        self._has_notes = True
        told = {"upto": noted.upto, "statements": noted.statements}
        return f'\n], "notes": {_json(told | ({"summary": noted.summary} if noted.summary else {}))}'

    def end(self) -> str:
        return "}" if self._has_notes else "\n]}"

    def foot(self, gaps: Sequence[Gap]) -> Iterator[str]:
        yield '\n],\n"skipped": ['
        yield from _skipped(self._about, gaps)
        yield "]}\n"


async def _told(face: _Face, entries: AsyncIterator[Entry | Noted], tally: _Tally) -> AsyncGenerator[str, None]:
    """A file, piece by piece."""
    yield face.head()
    place: tuple[int, int] | None = None
    async with aclosing(gathered(entries)) as content:
        async for item in content:
            if place != (item.topic, item.conversation):
                if place is not None:
                    yield face.end()
                place = (item.topic, item.conversation)
                tally.conversations += 1
                yield face.begin(*place)
            if isinstance(item, Gap):
                tally.gaps.append(item)
                yield face.gap(item)
                continue
            if isinstance(item, Noted):
                yield face.notes(item)
                continue
            assert item.record is not None  # it would be a gap
            tally.turns += 1
            for message in messages_of(item, item.record):
                tally.messages += 1
                yield face.message(message)
    if place is not None:
        yield face.end()
    for piece in face.foot(tally.gaps):
        yield piece


async def _batches(pieces: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    """The same in fewer, larger pieces: each costs a call into the compressor and the hash."""
    waiting: list[str] = []
    signs = 0
    async with aclosing(pieces):
        async for piece in pieces:
            waiting.append(piece)
            signs += len(piece)
            if signs >= _BATCH_SIGNS:
                yield _bytes("".join(waiting))
                waiting.clear()
                signs = 0
    yield _bytes("".join(waiting))


def _manifest(about: About, written: Iterable[_Written], tally: _Tally) -> Iterator[str]:
    files = [{"name": file.name, "bytes": file.size, "sha256": file.digest.hexdigest()} for file in written]
    counts = {
        "conversations": tally.conversations,
        "turns": tally.turns,
        "messages": tally.messages,
        "skipped": len(about.skipped) + len(tally.gaps),
    }
    opened = {"format": f"{FORMAT}-manifest", "version": VERSION, **_origin(about), "files": files, "counts": counts}
    yield _json(opened, indent=1).removesuffix("\n}") + ',\n "skipped": ['
    yield from _skipped(about, tally.gaps)
    yield "]\n}\n"


def _skipped(about: About, gaps: Iterable[Gap]) -> Iterator[str]:
    """The items of a list of what is left out: first what the caller named, then what could not be opened."""
    comma = ""
    for skipped in about.skipped:
        yield f"{comma}\n{_json(asdict(skipped))}"
        comma = ","
    for gap in gaps:
        turns = f"turn {gap.first}" if gap.first == gap.last else f"turns {gap.first} to {gap.last}"
        what = f"{turns} of conversation {gap.conversation} in topic {gap.topic}"
        yield f"{comma}\n{_json({'what': what, **asdict(gap)})}"
        comma = ","


def _origin(about: About) -> dict[str, Any]:
    return {
        "made": iso(_made(about)),
        "bot": about.bot,
        "chat_id": about.chat_id,
        "part": about.part,
        "parts": about.parts,
    }


def _made(about: About) -> datetime:
    return moment(about.made_s) or datetime.fromtimestamp(0, UTC)


def _info(name: str, about: About) -> ZipInfo:
    """A file's head. Its time is the archive's, so that the same input gives the same bytes."""
    time = min(max(_made(about), _EARLIEST), _LATEST)
    info = ZipInfo(name, time.timetuple()[:6])
    info.compress_type = ZIP_DEFLATED
    info.create_system = 3  # Unix wherever it runs, for the file mode below
    info.external_attr = 0o644 << 16
    return info


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _bytes(text: str) -> bytes:
    """As UTF-8. A lone surrogate, which UTF-8 cannot hold, becomes ``\\ud83d``: inside a JSON string that is itself."""
    return text.encode("utf-8", "backslashreplace")
