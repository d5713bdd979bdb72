"""Everything kept of a chat as one JSON document, piece by piece: what ``conversations.json`` of an archive holds, with
the account in front of the conversations. For programs that ask over the admin API and shall not have to open a zip.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Final

from bot.privacy.content import About, Account, Entry, Gap, Noted, gathered, messages_of
from bot.privacy.listing import FORMAT, VERSION, Listing, origin_of, packed_json

_BATCH_BYTES: Final = 32 * 1024


async def document(
    about: About, account: Account, entries: AsyncIterator[Entry | Noted]
) -> AsyncGenerator[bytes, None]:
    """``entries``: all turns in the order of topic, conversation, number, and the notes on each conversation."""
    waiting: list[bytes] = []
    size = 0
    async with aclosing(_pieces(about, account, entries)) as pieces:
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _BATCH_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
                await asyncio.sleep(0)
    yield b"".join(waiting)


async def _pieces(about: About, account: Account, entries: AsyncIterator[Entry | Noted]) -> AsyncGenerator[bytes, None]:
    listing = Listing(about)
    head = {"format": FORMAT, "version": VERSION, **origin_of(about), "account": asdict(account)}
    yield packed_json(head)[:-1] + b',\n"conversations":['
    place: tuple[int, int] | None = None
    gaps: list[Gap] = []
    async with aclosing(gathered(entries)) as content:
        async for item in content:
            if place != (item.topic, item.conversation):
                if place is not None:
                    yield listing.end()
                place = (item.topic, item.conversation)
                yield listing.begin(*place)
            if isinstance(item, Gap):
                gaps.append(item)
            elif isinstance(item, Noted):
                yield listing.notes(item)
            else:
                assert item.record is not None  # it would be a gap
                for message in messages_of(item, item.record):
                    yield listing.message(message)
    if place is not None:
        yield listing.end()
    for piece in listing.foot(gaps):
        yield piece
