"""The list of chats by when something there is too old, as a whole; single chats are listed by ``Journal``.

A chat is listed by the setting that holds when it is. Which one that was is remembered, so that a shorter one reaches
chats in which nothing is written any more.
"""

import asyncio
import time
from typing import Any, Final

from storage.journal import DAY_MS
from storage.keys import PARTITIONS, Keys
from storage.scripts import Store

_AT_ONCE: Final = 500
_KEPT: Final = "kept"


class Ages:
    """Raises StorageError. All may be done twice, and by several processes."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._lists = [keys.partition("ages", number) for number in range(PARTITIONS)]
        self._stats = keys.partition("stats", 0)

    async def is_due(self, now_ms: int) -> bool:
        """Whether any chat waits for having something too old deleted."""
        page = ("-inf", now_ms, "LIMIT", 0, 1)
        found = await asyncio.gather(*(self._store.call("ZRANGEBYSCORE", name, *page) for name in self._lists))
        return any(found)

    async def keep_to(self, days: int) -> int:
        """From now on things are kept for so many days: where that is less than before, all chats are looked at as much
        earlier; how many those are."""
        before = int(await self._store.call("HGET", self._stats, _KEPT) or 0)
        if before == days:
            return 0
        moved = 0
        if not before or days < before:
            for name in self._lists:
                moved += await self._earlier(name, (before - days) * DAY_MS if before else 0)
        await self._store.call("HSET", self._stats, _KEPT, days)
        return moved

    async def _earlier(self, name: str, by_ms: int) -> int:
        """Lists all chats of a partition so much earlier; 0: as due now, for it is not known how they are listed."""
        flat = await self._store.call("ZRANGE", name, 0, -1, "WITHSCORES")
        now_ms = int(time.time() * 1000)
        chats = [part for chat, due in _pairs(flat) for part in (int(due) - by_ms if by_ms else now_ms, chat)]
        for at in range(0, len(chats), 2 * _AT_ONCE):
            # Only such as are still listed, and never later: a worker may list them anew at the same time.
            await self._store.call("ZADD", name, "XX", "LT", *chats[at : at + 2 * _AT_ONCE])
        return len(chats) // 2


def _pairs(flat: Any) -> list[tuple[bytes, float]]:
    """Members and scores, as a client of either protocol gives them."""
    if flat and isinstance(flat[0], list | tuple):
        return [(chat, float(due)) for chat, due in flat]
    return [(chat, float(due)) for chat, due in zip(flat[::2], flat[1::2], strict=True)]
