"""The inbox: a mailbox per chat, and per partition a stream of the chats that are ready for a worker.

A chat has at most one entry in its stream, so one worker at a time works on it and its mail stays in order, while all
chats run in parallel. An entry that its worker stopped renewing is claimed by another one, on a timer of its own.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from storage.errors import translated
from storage.keys import GROUP, PARTITIONS, SEEN_MS, Keys, partition_of
from storage.scripts import Store

_OVER: Final = b"!"
_SWEEP: Final = b"~"
_AGED: Final = b"="
_LETTERS: Final = {"update": b"u", "urgent": b"U", "post": b"p"}
_KINDS: Final = {letter[0]: kind for kind, letter in _LETTERS.items()}
_TIMED: Final = ("later", "sweeps", "trash", "ages")
_NO_CAP: Final = 10**9
_URGENT_ROOM: Final = 20
"""Places beyond the cap: a stop or a deletion must get through where messages pile up."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A claimed entry of a ready stream."""

    chat_id: int
    entry: str


@dataclass(frozen=True, slots=True)
class Mail:
    """One item of a mailbox.

    ``kind`` is update, urgent (an update that a running turn must see at once), post (from another chat of the bot),
    over (mail beyond the cap was turned away), sweep (look for strays ``above`` a message id) or aged (the chat holds
    something too old). A post bears the id of the update it comes from, with a minus sign.
    """

    kind: str
    update_id: int = 0
    received_ms: int = 0
    sealed: bytes = b""
    above: int = 0

    def packed(self) -> bytes:
        if self.kind == "over":
            return _OVER
        if self.kind == "sweep":
            return b"%b%d" % (_SWEEP, self.above)
        if self.kind == "aged":
            return _AGED
        return b"%c%d|%d|%b" % (_LETTERS[self.kind], self.update_id, self.received_ms, self.sealed)

    @classmethod
    def unpacked(cls, raw: bytes) -> "Mail":
        if raw == _OVER:
            return cls("over")
        if raw[:1] == _SWEEP:
            return cls("sweep", above=int(raw[1:]))
        if raw == _AGED:
            return cls("aged")
        update_id, received_ms, sealed = raw[1:].split(b"|", 2)
        return cls(_KINDS[raw[0]], int(update_id), int(received_ms), sealed)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of an update: ok, seen, full, or epoch (the chat's is another one: seal again)."""

    answer: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits: updates not finished, and the age of the oldest ready chat in seconds."""

    updates: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Due:
    """How many chats became ready, and the messages (chat, id) that lost and whose deletion nobody confirmed."""

    woken: int
    overdue: list[tuple[int, int]]


class Inbox:
    """Everything that is done to mailboxes and ready streams. Raises StorageError."""

    def __init__(self, store: Store, keys: Keys, *, mailbox_cap: int) -> None:
        self._store = store
        self._keys = keys
        self._cap = mailbox_cap
        self._streams = [keys.partition("ready", number) for number in range(PARTITIONS)]
        self._numbers = {stream: number for number, stream in enumerate(self._streams)}

    async def prepare(self) -> None:
        """Makes the consumer groups; harmless when they exist."""
        pipeline = self._store.client.pipeline(transaction=False)
        for stream in self._streams:
            pipeline.xgroup_create(stream, GROUP, id="0", mkstream=True)
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            raise translated(error) from error
        for reply in replies:
            if isinstance(reply, Exception) and "BUSYGROUP" not in str(reply):
                raise translated(reply) from reply

    async def enqueue(self, chat_id: int, epoch: int, mail: Mail) -> Enqueued:
        """Stores one sealed update. When this returns ok, seen or full, Telegram may be told that it arrived.

        What is urgent calls the chat's running turn, wherever it runs; a post is taken whatever waits already.
        """
        keys = self._keys.of(chat_id)
        reply = await self._store.script(
            "enqueue",
            [keys.chat, keys.mail, keys.ready, keys.seen, keys.stats, keys.later],
            [
                epoch,
                # A post is one of several that one update causes: each chat takes its own.
                f"{mail.update_id}:{chat_id}" if mail.kind == "post" else mail.update_id or "",
                mail.packed(),
                self._room(mail),
                chat_id,
                self._keys.control if mail.kind == "urgent" else "",
            ],
        )
        answer = reply[0].decode()
        return Enqueued(answer, int(reply[1]) if answer == "epoch" else epoch)

    def _room(self, mail: Mail) -> int:
        """How long a mailbox may be to take one more item: what nobody would send again is always taken."""
        if mail.kind == "post" or mail.update_id < 0:
            return _NO_CAP
        return self._cap + (_URGENT_ROOM if mail.kind == "urgent" else 0)

    async def epoch(self, chat_id: int) -> int:
        """How often a chat was forgotten, in the store's own words."""
        return int(await self._store.call("HGET", self._keys.of(chat_id).chat, "epoch") or 0)

    async def claim(self, reader: "Redis", consumer: str, count: int, block_ms: int) -> list[Ready]:
        """Waits for ready chats, at most ``block_ms``; up to ``count`` of each partition.

        ``reader`` is a connection that nobody else uses.
        """
        try:
            reply = await reader.xreadgroup(
                GROUP, consumer, dict.fromkeys(self._streams, ">"), count=count, block=block_ms
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise translated(error) from error
            await self.prepare()
            return []
        except (RedisError, OSError, TimeoutError) as error:
            raise translated(error) from error
        streams = reply.values() if isinstance(reply, dict) else [pair[1] for pair in reply or []]
        return [ready for entries in streams for ready in _entries(entries)]

    async def reclaim(self, consumer: str, idle_ms: int) -> list[Ready]:
        """Takes over entries whose worker has not renewed them for ``idle_ms``."""
        pipeline = self._store.client.pipeline(transaction=False)
        for stream in self._streams:
            pipeline.xautoclaim(stream, GROUP, consumer, idle_ms, start_id="0-0", count=1000)
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            raise translated(error) from error
        return [ready for reply in replies if not isinstance(reply, Exception) for ready in _entries(reply[1])]

    async def renew(self, consumer: str, held: Iterable[Ready]) -> None:
        """Keeps the lease on entries. (Not by a raw command: redis-py cannot parse its ``JUSTID`` reply.)"""
        grouped: dict[str, list[str]] = {}
        for ready in held:
            grouped.setdefault(self._streams[partition_of(ready.chat_id)], []).append(ready.entry)
        if not grouped:
            return
        pipeline = self._store.client.pipeline(transaction=False)
        for stream, entries in grouped.items():
            pipeline.xclaim(stream, GROUP, consumer, 0, entries, justid=True)  # type: ignore[arg-type]
        try:
            await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            raise translated(error) from error

    async def drop(self, ready: Ready) -> None:
        """Removes an entry that no longer stands for its chat."""
        stream = self._streams[partition_of(ready.chat_id)]
        await self._store.call("XACK", stream, GROUP, ready.entry)
        await self._store.call("XDEL", stream, ready.entry)

    async def due(self, trash_age_ms: int) -> Due:
        """Wakes parked chats and hands out tasks whose time has come; names the messages that should be gone."""
        names = [[self._keys.partition(name, n) for name in _TIMED] for n in range(PARTITIONS)]
        replies = await asyncio.gather(*(self._store.script("due", keys, [trash_age_ms]) for keys in names))
        woken = 0
        for chats, sweeps, _, aged in replies:
            for chat in chats:
                woken += await self._wake(int(chat))
            for member in sweeps:
                woken += await self._sweep(member)
            for chat in aged:
                woken += await self._hand_out("ages", chat, _AGED, int(chat))
        overdue = [member.split(b":") for _, _, trash, _ in replies for member in trash]
        return Due(woken, [(int(chat_id), int(message_id)) for chat_id, message_id in overdue])

    async def _wake(self, chat_id: int) -> int:
        keys = self._keys.of(chat_id)
        return int(await self._store.script("wake", [keys.chat, keys.ready, keys.later], [chat_id]))

    async def _sweep(self, member: bytes) -> int:
        chat_id, above, _ = member.decode().split(":")
        return await self._hand_out("sweeps", member, _SWEEP + above.encode(), int(chat_id))

    async def _hand_out(self, name: str, member: bytes, item: bytes, chat_id: int) -> int:
        keys = self._keys.of(chat_id)
        names = [self._keys.partition(name, partition_of(chat_id)), keys.chat, keys.mail, keys.ready, keys.stats]
        return int(await self._store.script("sweep", names, [member, item, chat_id]))

    async def prune(self, idle_consumer_ms: int) -> None:
        """Forgets update ids that Telegram can no longer repeat, and consumers that left."""
        border = int(time.time() * 1000) - SEEN_MS
        for number in range(PARTITIONS):
            await self._store.call("ZREMRANGEBYSCORE", self._keys.partition("seen", number), 0, border)
        for stream in self._streams:
            try:
                for consumer in await self._store.client.xinfo_consumers(stream, GROUP):
                    if consumer["pending"] == 0 and consumer["idle"] > idle_consumer_ms:
                        await self._store.client.xgroup_delconsumer(stream, GROUP, consumer["name"])
            except (RedisError, OSError, TimeoutError) as error:
                raise translated(error) from error

    async def depth(self) -> Depth:
        """Sums over all partitions; 128 small commands in one pipeline."""
        pipeline = self._store.client.pipeline(transaction=False)
        for number in range(PARTITIONS):
            pipeline.hget(self._keys.partition("stats", number), "depth")
        for stream in self._streams:
            pipeline.xrange(stream, count=1)
        try:
            replies: list[Any] = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise translated(error) from error
        updates = sum(int(reply or 0) for reply in replies[:PARTITIONS])
        firsts = [int(reply[0][0].split(b"-")[0]) for reply in replies[PARTITIONS:] if reply]
        oldest = max(0.0, time.time() - min(firsts) / 1000) if firsts else 0.0
        return Depth(updates, oldest)


def _entries(entries: Any) -> list[Ready]:
    found = []
    for entry, fields in entries or []:
        if fields:
            values = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
            found.append(Ready(int(values[b"chat"]), entry.decode()))
    return found
