"""Everything kept of a chat as one JSON document, piece by piece: what ``conversations.json`` of an archive holds, and
the account beside it. For programs that ask for it over the admin API, so that no zip has to be opened.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Final

from bot.privacy.archive import FORMAT, VERSION
from bot.privacy.content import Entry, Gap, Message, Noted, gathered, iso, messages_of, moment

_BATCH_BYTES: Final = 32 * 1024


async def document(
    origin: Mapping[str, Any], account: Mapping[str, Any], entries: AsyncIterator[Entry | Noted]
) -> AsyncGenerator[bytes, None]:
    """``entries``: all turns in the order of topic, conversation, number. ``origin``: what stands in front of them."""
    waiting: list[bytes] = []
    size = 0
    async with aclosing(_pieces({"format": FORMAT, "version": VERSION, **origin}, account, entries)) as pieces:
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _BATCH_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
                await asyncio.sleep(0)
    yield b"".join(waiting)


async def _pieces(
    head: Mapping[str, Any], account: Mapping[str, Any], entries: AsyncIterator[Entry | Noted]
) -> AsyncGenerator[bytes, None]:
    yield _json(head)[:-1] + b',\n"account": ' + _json(account) + b',\n"conversations": ['
    place: tuple[int, int] | None = None
    gaps: list[Gap] = []
    end, comma = b"", b""
    async with aclosing(gathered(entries)) as content:
        async for item in content:
            if place != (item.topic, item.conversation):
                opened = _json({"topic": item.topic, "conversation": item.conversation})[:-1]
                yield end + (b"," if place else b"") + b"\n" + opened + b', "messages": ['
                place, end, comma = (item.topic, item.conversation), b"\n]}", b""
            if isinstance(item, Gap):
                gaps.append(item)
            elif isinstance(item, Noted):
                notes = {"upto": item.upto, "statements": item.statements}
                yield b'\n], "notes": ' + _json(notes | ({"summary": item.summary} if item.summary else {}))
                end = b"}"
            else:
                assert item.record is not None  # it would be a gap
                for message in messages_of(item, item.record):
                    yield comma + b"\n" + _json(_told(message))
                    comma = b","
    yield end + b'\n],\n"skipped": ' + _json([asdict(gap) for gap in gaps]) + b"}\n"


def _told(message: Message) -> dict[str, Any]:
    time = moment(message.time_s)
    told: dict[str, Any] = {"id": message.ids[0] if message.ids else None}
    if len(message.ids) > 1:
        told["ids"] = message.ids
    told |= {"turn": message.turn, "role": message.role, "time": iso(time) if time else None, "text": message.text}
    known = {"model": message.model, "version": message.version, "state": message.state}
    return told | {name: value for name, value in known.items() if value}


def _json(value: Any) -> bytes:
    """As UTF-8. A lone surrogate, which UTF-8 cannot hold, becomes ``\\ud83d``: inside a JSON string that is itself."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
