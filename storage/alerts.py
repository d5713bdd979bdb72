"""What is wrong now, and what operators are still to be told of it, for all processes of a bot together.

Processes see different things at different times: one asks a chat API that fails while another has not asked it for an
hour. So a state is not what somebody saw last. It begins with the first sign of it, and is over when signs that it is
not there, newer than any that it is, have stood for a while. Each flip leaves one piece of news, which stays until it
is told.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from storage.keys import GROUP, PARTITIONS, Keys
from storage.scripts import Argument, Store

_YES_OR_NO: Final = {True: "1", False: "0"}


@dataclass(frozen=True, slots=True)
class Sight:
    """What a process sees of a state: that it lasts, or not, or (None) that nothing tells.

    ``name``: not ``news``, and not beginning with ``!``; ``lasts_seconds``: for how long already; ``age_seconds``: of
    what tells it; ``hold_seconds``: how long it must have been over before it counts as over, taken when it begins;
    ``values``: for the sentence that tells of it, taken when it begins, too.
    """

    name: str
    on: bool | None
    lasts_seconds: float = 0.0
    age_seconds: float = 0.0
    hold_seconds: float = 30.0
    values: Mapping[str, str] = field(default_factory=dict)


class News(NamedTuple):
    """That a state began (``over_ms`` is 0), or is over. ``number``: 1, 2, 3, …, by which it is told apart."""

    number: int
    name: str
    since_ms: int
    over_ms: int
    values: dict[str, str]


class Noted(NamedTuple):
    """The states that last, by name, and the news that nobody has told, oldest first."""

    lasting: frozenset[str]
    news: list[News]


class Alerts:
    """The states of one bot, at the store's clock. Raises StorageError."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._key = keys.alerts

    async def note(self, sights: Sequence[Sight]) -> Noted:
        """Notes what is seen. May be run twice."""
        arguments: list[Argument] = []
        for sight in sights:
            if sight.on is not None:
                times = (sight.lasts_seconds, sight.age_seconds, sight.hold_seconds)
                values = orjson.dumps(dict(sight.values))
                arguments += [sight.name, _YES_OR_NO[sight.on], *(int(seconds * 1000) for seconds in times), values]
        lasting, news = await self._store.script("alert", [self._key], arguments)
        found = [_news(int(news[place]), news[place + 1]) for place in range(0, len(news), 2)]
        return Noted(frozenset(name.decode() for name in lasting), sorted(found))

    async def told(self, news: News) -> None:
        """Takes news off the list: it is on its way to everybody concerned."""
        await self._store.call("HDEL", self._key, f"!{news.number}")


def _news(number: int, packed: bytes) -> News:
    told: dict[str, Any] = orjson.loads(packed)
    return News(number, told["name"], int(told["since"]), int(told["over"]), orjson.loads(told["values"]))


async def unclaimed_seconds(store: Store, keys: Keys, at_least: float) -> float:
    """How long the oldest ready chat has waited for a worker, if that is ``at_least`` so long; else 0.0.

    A chat that is being worked on is left out, however long its answer takes; so is one that rests until a time.
    Raises StorageError.
    """
    streams = [keys.partition("ready", number) for number in range(PARTITIONS)]
    horizon = time.time() - at_least
    firsts = await asyncio.gather(*(_first(store, stream, "-") for stream in streams))
    old = [stream for stream, first in zip(streams, firsts, strict=True) if 0 < first <= horizon]
    waiting = [first for first in await asyncio.gather(*(_unclaimed(store, stream) for stream in old)) if first]
    return max(0.0, time.time() - min(waiting)) if waiting and min(waiting) <= horizon else 0.0


async def _unclaimed(store: Store, stream: str) -> float:
    for group in await store.call("XINFO GROUPS", stream):
        if group["name"] == GROUP.encode():
            last: bytes = group["last-delivered-id"]
            return await _first(store, stream, f"({last.decode()}")
    return await _first(store, stream, "-")


async def _first(store: Store, stream: str, begin: str) -> float:
    """When the first entry from there on was made (s since 1970), 0.0 if there is none."""
    entries = await store.call("XRANGE", stream, begin, "+", "COUNT", 1)
    return int(entries[0][0].split(b"-")[0]) / 1000 if entries else 0.0


async def memory_share(store: Store) -> float:
    """How much of its memory the store uses, 1.0: all that it may; 0.0 where it has no bound. Raises StorageError."""
    found = await store.call("INFO", "memory")
    most = float(found.get("maxmemory", 0))
    return float(found["used_memory"]) / most if most else 0.0
