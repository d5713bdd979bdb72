"""Copies a store while it is in use, and the keyring: what is copied, and in which order, so that the copy fits itself.

A chat's own keys are read in one atomic step, and say which turns there are. Turns up to that number never change but
by a correction or a removal, so they follow in pages, and nobody waits. The ids of seen updates come before the chats:
what arrives in between is at worst answered twice, never lost. The keyring is copied after the store: it then holds
every key of what was copied, except those destroyed meanwhile.

============  =====================================================================================================
decision      what it means
============  =====================================================================================================
kept          copied as it is, with its deadline
rebuilt       made anew when the copy is put back: who waits becomes ready, what is old is looked at, depth is counted
left          belongs to the moment, or to the machine
============  =====================================================================================================
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.backup_file import Part, Value, Writer
from storage.errors import translated
from storage.keyrecord import KeyringRecord, KeyRow
from storage.keyring import Keyring
from storage.keys import PARTITIONS, ChatKeys, Keys, counts_own_ids

DECIDED: Final[Mapping[str, str]] = {
    "ready": "rebuilt: an entry for each chat that has mail, an open turn or a forget under way",
    "seen": "kept: Telegram repeats updates for a day",
    "later": "rebuilt: who waited for a time is looked at once, and waits again",
    "sweeps": "left: above those marks stand messages that were sent since, and are no strays",
    "trash": "kept: message ids to delete; deleting twice does no harm",
    "ages": "rebuilt: each chat is looked at once, and listed anew by the service",
    "stats": "kept: what was used; its depth is rebuilt",
    "chat:C": "kept, without its entry, which is rebuilt",
    "mail:C": "kept",
    "own:C": "kept",
    "tomb:C": "kept",
    "dead:C": "kept",
    "turns:C:…": "kept, as many as the chat says",
    "past:C": "kept",
    "links:C": "kept",
    "notes:C": "kept",
    "remotes:C": "kept",
    "receipts:C": "kept, also where nothing else is left of a chat",
    "import:C:…": "left: it would be gone within the hour",
    "ids:C": "kept: hints, without which strays are not found",
    "ids": "kept, as those of single chats",
    "leader": "left",
    "control": "left: it holds nothing",
    "menu": "left: Telegram is asked anew",
    "removals": "kept: chat APIs are still to delete it; asking twice does no harm",
    "receipts": "kept",
    "requests": "kept",
    "apikeys": "kept: what was revoked since is to be revoked again",
    "calls:K:M": "left: it would be gone within minutes",
    "export:ID": "left: an export can be asked for again",
    "alerts": "left: what is still wrong is found anew",
    "backups": "left: it tells of the machine that made them",
}
"""What becomes of each key of the table in storage/keys.py."""

DECIDED_ELSEWHERE: Final[Mapping[str, str]] = {
    "identity": "rebuilt: of the keyring that the copy is put back with; until it is whole, it says that it is not",
    "schema": "kept, in the file's header",
    "schema-lock": "left",
}
"""The same for the keys of storage/schema.py."""

CHAT_PARTS: Final[Mapping[str, str]] = {
    "chat": "hash", "mail": "list", "own": "zset", "tomb": "zset", "dead": "hash", "past": "list", "links": "hash",
    "notes": "hash", "remotes": "list", "receipts": "zset",
}  # fmt: skip
"""What is copied of a chat in one step, by the names of its keys; a supergroup's ``ids`` follow in pages."""

PARTITION_PARTS: Final[Mapping[str, str]] = {"seen": "zset", "trash": "zset", "stats": "hash"}
BOT_PARTS: Final[Mapping[str, str]] = {
    "ids": "zset", "removals": "zset", "receipts": "hash", "requests": "zset", "apikeys": "hash",
}  # fmt: skip

_SCANNED: Final = 500
_AT_ONCE: Final = 4
_PAGE_TURNS: Final = 200
_PAGE_ROWS: Final = 500
_ROW_VALUES: Final = 6

Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of a chat, with the number of its last turn. ``current``: it goes on."""

    topic: int
    number: int
    last: int
    current: bool


def bot_key(keys: Keys, name: str) -> str:
    """The key of one of ``BOT_PARTS``."""
    return keys.api_keys if name == "apikeys" else str(getattr(keys, name))


def talks_of(fields: Mapping[bytes, bytes], past: Sequence[bytes]) -> list[Talk]:
    """The conversations that a chat's own keys list."""
    base = int(fields.get(b"base", 0))
    found = []
    for name, value in fields.items():
        if name.startswith(b"n:"):
            topic = int(name[2:])
            found.append(Talk(topic, int(fields.get(b"c:%d" % topic, base)), int(value), current=True))
    for entry in past:
        topic, number, last = map(int, entry.split(b":"))
        found.append(Talk(topic, number, last, current=False))
    return found


# ---- the store
async def copy_store(client: Redis, keys: Keys, writer: Writer, tell: Tell) -> None:
    """Copies what ``DECIDED`` keeps; ``tell`` hears how many chats are done. Raises StorageError."""
    try:
        for name, kind in BOT_PARTS.items():
            await _copy_pages(client, bot_key(keys, name), kind, {"k": "bot", "name": name}, writer)
        for partition in range(PARTITIONS):
            for name, kind in PARTITION_PARTS.items():
                head = {"k": "partition", "name": name, "partition": partition}
                await _copy_pages(client, keys.partition(name, partition), kind, head, writer)
        await _copy_chats(client, keys, writer, tell)
    except (RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error


async def _copy_chats(client: Redis, keys: Keys, writer: Writer, tell: Tell) -> None:
    seen: set[int] = set()
    cursor = 0
    while True:
        cursor, names = await client.scan(cursor, match=f"tg:{{{keys.bot_id}.*}}:*", count=_SCANNED)
        fresh = sorted({chat_id for name in names if (chat_id := _chat_of(name)) is not None} - seen)
        seen.update(fresh)
        for at in range(0, len(fresh), _AT_ONCE):
            some = fresh[at : at + _AT_ONCE]
            parts = await asyncio.gather(*(_snapshot(client, keys.of(chat_id), chat_id) for chat_id in some))
            for chat_id, part in zip(some, parts, strict=True):
                await _copy_chat(client, keys.of(chat_id), chat_id, part, writer)
        tell(len(seen))
        if not cursor:
            return


def _chat_of(name: Any) -> int | None:
    """The chat that a key is of, where it is one that is copied in its chat's step."""
    kind, _, rest = name.partition(b"}:")[2].partition(b":")
    return int(rest) if rest and kind.decode() in CHAT_PARTS else None


async def _snapshot(client: Redis, of: ChatKeys, chat_id: int) -> Part:
    """A chat's small keys as they were at one moment."""
    async with client.pipeline(transaction=True) as together:
        for name, kind in CHAT_PARTS.items():
            _read(together, getattr(of, name), kind)
            together.pexpiretime(getattr(of, name))
        replies = await together.execute()
    head: dict[str, Any] = {"k": "chat", "id": chat_id, "parts": []}
    values: list[Value] = []
    for (name, kind), content, expires in zip(CHAT_PARTS.items(), replies[::2], replies[1::2], strict=True):
        flat = list(_flat(kind, content))
        if flat:
            head["parts"].append([name, len(flat), max(int(expires), 0)])
            values += flat
    return Part(head, values)


async def _copy_chat(client: Redis, of: ChatKeys, chat_id: int, part: Part, writer: Writer) -> None:
    if not part.values:
        return  # gone since it was listed
    writer.put(part)
    found = named(part)
    talks = talks_of(paired(found.get("chat", ())), [value for value in found.get("past", ()) if value is not None])
    writer.count(chats=1, conversations=len(talks))
    for talk in talks:
        await _copy_turns(client, of, chat_id, talk, writer)
    if counts_own_ids(chat_id):
        await _copy_pages(client, of.ids, "zset", {"k": "ids", "id": chat_id}, writer)


async def _copy_turns(client: Redis, of: ChatKeys, chat_id: int, talk: Talk, writer: Writer) -> None:
    for first in range(1, talk.last + 1, _PAGE_TURNS):
        numbers = [str(number) for number in range(first, min(first + _PAGE_TURNS - 1, talk.last) + 1)]
        values: list[Any] = await client.hmget(of.turns(talk.topic, talk.number), numbers)
        writer.count(turns=sum(value is not None for value in values))
        writer.put(
            Part({"k": "turns", "id": chat_id, "topic": talk.topic, "number": talk.number, "first": first}, values)
        )


async def _copy_pages(client: Redis, key: str, kind: str, head: dict[str, Any], writer: Writer) -> None:
    """A key that may be large: what stays in it all the while is copied, some of it perhaps twice."""
    cursor, found = 0, None  # type: int, Any
    while True:
        if kind == "hash":
            cursor, found = await client.hscan(key, cursor, count=_SCANNED)
        else:
            cursor, found = await client.zscan(key, cursor, count=_SCANNED)
        flat = list(_flat(kind, found))
        if flat:
            writer.put(Part(head, flat))
        if not cursor:
            return


def _read(together: Any, key: str, kind: str) -> None:
    if kind == "hash":
        together.hgetall(key)
    elif kind == "list":
        together.lrange(key, 0, -1)
    else:
        together.zrange(key, 0, -1, withscores=True)


def _flat(kind: str, content: Any) -> Iterator[bytes]:
    """A hash as names and values in turn, a sorted set as members and scores, a list as it is."""
    if kind == "list":
        yield from content
        return
    for name, value in content.items() if kind == "hash" else content:
        yield name
        yield value if kind == "hash" else b"%d" % value if value == int(value) else repr(value).encode()


# ---- what was copied
def named(part: Part) -> dict[str, list[Value]]:
    """What a chat's part holds, by the names of its keys."""
    found, at = {}, 0
    for name, count, _ in part.head["parts"]:
        found[name] = list(part.values[at : at + count])
        at += count
    return found


def paired(flat: Sequence[Value]) -> dict[bytes, bytes]:
    """A hash, or a sorted set with its scores, of names and values in turn."""
    return {name or b"": value or b"" for name, value in zip(flat[::2], flat[1::2], strict=True)}


# ---- the keyring
async def copy_keyring(keyring: Keyring, record: KeyringRecord, writer: Writer) -> None:
    """Copies every key as it is wrapped. Raises StorageError, also where another master key came meanwhile."""
    values: list[Value] = []
    async for row in keyring.rows(record):
        values += [row.id, row.owner, row.name, row.group, b"%d" % row.day, row.wrapped]
        writer.count(keys=1)
        if len(values) == _PAGE_ROWS * _ROW_VALUES:
            writer.put(Part({"k": "rows"}, values))
            values = []
    if values:
        writer.put(Part({"k": "rows"}, values))


def rows_of(parts: Iterator[Part]) -> Iterator[KeyRow]:
    """The keys of a copied keyring."""
    for part in parts:
        values = [value or b"" for value in part.values]
        for at in range(0, len(values), _ROW_VALUES):
            key_id, owner, name, group, day, wrapped = values[at : at + _ROW_VALUES]
            yield KeyRow(key_id, owner, name, group, int(day), wrapped)


async def steadily(rows: Iterator[KeyRow]) -> AsyncIterator[KeyRow]:
    """The same, as a keyring is restored from."""
    for row in rows:
        yield row


def opener_bound(keyring: str) -> bytes:
    """What the key in the header of a copied keyring is bound to; ``keyring``: its id."""
    return b"backup of " + keyring.encode()
