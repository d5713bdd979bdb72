"""The archive that `/export` hands out: a zip that is made while it is sent, in constant memory.

Its files, in this order: ``conversations.json`` for programs (see ``listing``), ``chat.html`` for people (see
``page``), ``account.json`` with settings, consents and receipts, ``schema.json`` which describes the files for
programs, ``manifest.json`` with size and SHA-256 of all these, and ``manifest.sig``, which says who made it (see
``seal``). The zip goes onto a sink that cannot seek, so it is never whole anywhere here. ``intake`` reads it back.

The manifest is small however long the history is, because it is read before its signature is known to be right.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from bot.privacy.content import About, Account, Entry, Gap, Message, Noted, Skipped, gathered, messages_of
from bot.privacy.listing import FORMAT, NAME, VERSION, Listing, made_at, origin_of, packed_json
from bot.privacy.page import Page
from bot.privacy.seal import Seal
from bot.privacy.zipped import Zipping

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "ACCOUNT",
    "CHUNK_BYTES",
    "FORMAT",
    "LISTING",
    "MANIFEST",
    "PAGE",
    "SCHEMA",
    "SIGNATURE",
    "VERSION",
    "About",
    "Account",
    "Entry",
    "Noted",
    "Skipped",
    "archive",
    "file_name",
    "schema",
]

LISTING: Final = NAME
PAGE: Final = Page.name
ACCOUNT: Final = "account.json"
SCHEMA: Final = "schema.json"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
CHUNK_BYTES: Final = 64 * 1024
_BATCH_BYTES: Final = 64 * 1024
_EARLIEST: Final = datetime(1980, 1, 1, tzinfo=UTC)  # a zip cannot hold an earlier time, nor one after 2107
_LATEST: Final = datetime(2107, 12, 31, tzinfo=UTC)


async def archive(
    about: About,
    entries: Callable[[], AsyncIterator[Entry | Noted]],
    say: Callable[[str], str],
    *,
    account: Account | None = None,
    seal: Seal | None = None,
) -> AsyncGenerator[bytes, None]:
    """The zip, in chunks of at most 64 KiB; the same bytes for the same input.

    ``entries`` is called twice, once per file, and must tell the same turns in the order of topic, conversation,
    number, and behind a conversation's turns the notes on it, if there are any. Its errors pass through, and what was
    given until then is no whole zip. ``say`` translates a sentence (gettext msgid to text). Without ``seal`` there is
    no signature, and no installation takes the archive back. A file may hold 4 GiB (ValueError): the caller makes parts
    long before that.
    """
    told_of = account or Account()
    zipping = Zipping(_zip_time(about))
    written: list[_Written] = []
    tallies: list[_Tally] = []
    for face in (Listing(about), Page(about, told_of, say)):
        tallies.append(_Tally())
        written.append(_Written(zipping, face.name))
        async with aclosing(_told(face, entries(), tallies[-1])) as batches:
            async for batch in batches:
                written[-1].write(batch)
                for chunk in zipping.taken(CHUNK_BYTES):
                    yield chunk
                await asyncio.sleep(0)  # a batch costs the compressor a millisecond or two
    for name, content in ((ACCOUNT, _account(about, told_of)), (SCHEMA, schema())):
        written.append(_Written(zipping, name))
        written[-1].write(content)
    manifest = _manifest(about, seal, written, tallies[0])
    _Written(zipping, MANIFEST).write(manifest)
    if seal is not None:
        _Written(zipping, SIGNATURE).write(seal.signed(manifest))
    zipping.finish()
    for chunk in zipping.rest(CHUNK_BYTES):
        yield chunk


def file_name(about: About) -> str:
    """``conversations-2026-11-21.zip``, or ``conversations-2026-11-21-part-2-of-3.zip``."""
    part = f"-part-{about.part}-of-{about.parts}" if about.parts > 1 else ""
    return f"conversations-{made_at(about):%Y-%m-%d}{part}.zip"


@cache
def schema() -> bytes:
    """``schema.json``: JSON Schema (2020-12) of the files for programs."""
    return (Path(__file__).parent / "schema" / "export.schema.json").read_bytes()


class _Face(Protocol):
    """How a file tells the content."""

    @property
    def name(self) -> str: ...
    def head(self) -> bytes: ...
    def begin(self, topic: int, conversation: int) -> bytes: ...
    def message(self, message: Message) -> bytes: ...
    def gap(self, gap: Gap) -> bytes: ...
    def notes(self, noted: Noted) -> bytes: ...
    def end(self) -> bytes: ...
    def foot(self, gaps: Sequence[Gap]) -> Iterator[bytes]: ...


@dataclass(slots=True)
class _Tally:
    """What a file came to hold. The gaps are kept: even 50,000 of them take only some megabytes."""

    conversations: int = 0
    turns: int = 0
    messages: int = 0
    gaps: list[Gap] = field(default_factory=list)


class _Written:
    """A file in the zip, begun with its name; its size and hash so far."""

    def __init__(self, zipping: Zipping, name: str) -> None:
        self._zipping = zipping
        self.name = name
        self.size = 0
        self.digest: _Hash = sha256()
        zipping.begin(name)

    def write(self, content: bytes) -> None:
        self._zipping.write(content)
        self.digest.update(content)
        self.size += len(content)


async def _told(face: _Face, entries: AsyncIterator[Entry | Noted], tally: _Tally) -> AsyncGenerator[bytes, None]:
    """A file in large pieces: each costs a call into the compressor and the hash."""
    batch = _Batch(face.head())
    place: tuple[int, int] | None = None
    async with aclosing(gathered(entries)) as content:
        async for item in content:
            if place != (item.topic, item.conversation):
                if place is not None:
                    batch.add(face.end())
                place = (item.topic, item.conversation)
                tally.conversations += 1
                batch.add(face.begin(*place))
            _tell(face, item, tally, batch)
            if batch.size >= _BATCH_BYTES:
                yield batch.taken()
    if place is not None:
        batch.add(face.end())
    for piece in face.foot(tally.gaps):
        batch.add(piece)
        if batch.size >= _BATCH_BYTES:
            yield batch.taken()
    yield batch.taken()


def _tell(face: _Face, item: Entry | Gap | Noted, tally: _Tally, batch: "_Batch") -> None:
    if isinstance(item, Gap):
        tally.gaps.append(item)
        batch.add(face.gap(item))
        return
    if isinstance(item, Noted):
        batch.add(face.notes(item))
        return
    assert item.record is not None  # it would be a gap
    tally.turns += 1
    for message in messages_of(item, item.record):
        tally.messages += 1
        batch.add(face.message(message))


class _Batch:
    """Pieces that wait to be written together."""

    def __init__(self, first: bytes) -> None:
        self._pieces = [first]
        self.size = len(first)

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)

    def taken(self) -> bytes:
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return whole


def _account(about: About, account: Account) -> bytes:
    head = {"format": f"{FORMAT}-account", "version": VERSION, **origin_of(about)}
    # The service keeps no files: the list says so to programs, and stays where that should change.
    return packed_json(head | asdict(account) | {"files": []}) + b"\n"


def _manifest(about: About, seal: Seal | None, written: Iterable[_Written], tally: _Tally) -> bytes:
    told: dict[str, Any] = {
        "format": f"{FORMAT}-manifest",
        "version": VERSION,
        "installation": seal.installation if seal else "",
        **origin_of(about),
        "files": [{"name": file.name, "bytes": file.size, "sha256": file.digest.hexdigest()} for file in written],
        "counts": {
            "conversations": tally.conversations,
            "turns": tally.turns,
            "messages": tally.messages,
            "skipped": len(about.skipped) + len(tally.gaps),
        },
    }
    return packed_json(told) + b"\n"


def _zip_time(about: About) -> tuple[int, int, int, int, int, int]:
    """Every file's: the archive's, so that the same input gives the same bytes."""
    time = min(max(made_at(about), _EARLIEST), _LATEST)
    return (time.year, time.month, time.day, time.hour, time.minute, time.second)
