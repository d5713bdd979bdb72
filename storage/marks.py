"""What the whole bot knows of message ids, and who polls.

These keys stand outside the partitions: hints, never the reason why an answer counts as sent.
"""

import asyncio
from typing import Final

from storage.errors import StorageError
from storage.keys import Keys
from storage.scripts import Store

_KNOWN_KEPT: Final = 50_000
_SEARCHED: Final = 50_000
_TRIMMED_EVERY: Final = 5_000
_FLUSH_SECONDS: Final = 0.2
_SEQUENCES_REMEMBERED: Final = 10_000


class Marks:
    """Message ids that exist, per numbering. All private chats and basic groups of a bot share one sequence."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._highest: dict[str, int] = {}
        self._noted: dict[str, list[int]] = {}
        self._since_trim = 0

    async def highest(self, chat_id: int) -> int:
        """The highest id this process knows of in the chat's sequence: a lower bound of the next one."""
        key = self._keys.of(chat_id).ids
        highest = self._highest.get(key)
        if highest is None:
            last = await self._store.call("ZRANGE", key, 0, 0, "REV")
            highest = self._highest[key] = int(last[0]) if last else 0
        return highest

    def note(self, chat_id: int, *message_ids: int) -> None:
        """Remembers ids that are known to be somebody's, for the next ``flush``."""
        if not message_ids:
            return
        key = self._keys.of(chat_id).ids
        self._highest[key] = max(self._highest.get(key, 0), *message_ids)
        if len(self._highest) > _SEQUENCES_REMEMBERED:
            self._highest.pop(next(iter(self._highest)))
        self._noted.setdefault(key, []).extend(message_ids)

    async def flush(self) -> None:
        """Writes down what was noted. What a death loses here costs later searches some calls, and nothing else."""
        noted, self._noted = self._noted, {}
        for key, message_ids in noted.items():
            await self._store.call("ZADD", key, *(value for number in message_ids for value in (number, number)))
            self._since_trim += len(message_ids)
        if self._since_trim >= _TRIMMED_EVERY:
            self._since_trim = 0
            await self._store.call("ZREMRANGEBYRANK", self._keys.ids, 0, -_KNOWN_KEPT - 1)

    async def keep(self) -> None:
        """Flushes again and again, until cancelled."""
        while True:
            try:
                await self.flush()
            except StorageError:
                self._noted.clear()
            await asyncio.sleep(_FLUSH_SECONDS)

    async def unknown_above(self, chat_id: int, above: int, slack: int) -> list[int]:
        """Ids above a mark that nobody is known to own, up to the highest known one plus ``slack``, lowest first.

        What the chat's own turns own is left out by its own record: the marks are written after it, and may be missing.
        """
        await self.flush()
        keys = self._keys.of(chat_id)
        replies = await asyncio.gather(
            *(self._store.call("ZRANGEBYSCORE", key, f"({above}", "+inf") for key in (keys.ids, keys.own))
        )
        known = {int(member) for reply in replies for member in reply}
        top = max(known, default=above) + slack
        lowest = max(above, top - slack - _SEARCHED)
        return [number for number in range(lowest + 1, top + 1) if number not in known]

    async def lost(self, chat_id: int) -> set[int]:
        """Messages of the chat that lost against another copy and may still stand."""
        return {int(member) for member in await self._store.call("ZRANGE", self._keys.of(chat_id).tomb, 0, -1)}

    async def discarded(self, chat_id: int, message_id: int) -> None:
        """Takes a message off the list of those to delete: Telegram confirmed that it is gone."""
        await self._store.call("ZREM", self._keys.of(chat_id).trash, f"{chat_id}:{message_id}")

    async def depose(self) -> None:
        """Ends whoever leads: for a process that knows itself alone, so that the one who was is dead."""
        await self._store.call("DEL", self._keys.leader)

    async def lead(self, name: str, ttl_ms: int) -> bool:
        """Takes or renews the poller's lease; 0 gives it up."""
        return bool(await self._store.script("lead", [self._keys.leader], [name, ttl_ms]))
