"""What providers keep and are asked to delete, until they confirm it: sealed entries with the time of the next try.

Outside the partitions, since an entry outlives the chat's own keys. An entry is ``when it was asked for in ms:`` and
the sealed rest; two workers that take the same one delete the same thing twice, which does no harm.
"""

from dataclasses import dataclass
from typing import Final

from storage.keys import Keys
from storage.scripts import Store

_TAKEN_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Removal:
    """``asked_ms``: when it was asked for."""

    asked_ms: int
    sealed: bytes

    def packed(self) -> bytes:
        return b"%d:" % self.asked_ms + self.sealed

    @classmethod
    def unpacked(cls, entry: bytes) -> "Removal":
        asked, _, sealed = entry.partition(b":")
        return cls(int(asked), sealed)


class Removals:
    """Raises StorageError."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._key = keys.removals
        self._receipts = keys.receipts

    async def add(self, removals: list[Removal]) -> None:
        for removal in removals:
            await self._store.call("ZADD", self._key, "NX", removal.asked_ms, removal.packed())

    async def due(self, now_ms: int, most: int) -> list[Removal]:
        """Entries whose time has come; they come again in a minute unless they are done or put off."""
        found = await self._store.call("ZRANGEBYSCORE", self._key, "-inf", now_ms, "LIMIT", 0, most)
        for entry in found:
            await self._store.call("ZADD", self._key, "XX", now_ms + _TAKEN_MS, entry)
        return [Removal.unpacked(entry) for entry in found]

    async def done(self, removal: Removal, receipt_id: str = "", *, given_up: bool = False) -> None:
        """Takes an entry off, and counts it on the receipt that promised it."""
        arguments: list[str | bytes | int | float] = [removal.packed(), receipt_id, "g" if given_up else "c"]
        await self._store.insist("removed", [self._key, self._receipts], arguments)

    async def put_off(self, removal: Removal, due_ms: int) -> None:
        await self._store.call("ZADD", self._key, "XX", due_ms, removal.packed())
