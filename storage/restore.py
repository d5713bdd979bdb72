"""Puts a copied store back into an empty one, all of it or nothing, and without what was erased since.

What the keyring holds no key of was forgotten, and what is older than the rules allow would be gone by now: neither is
put back, and a chat is left as a forget or a retention leaves it. Notes on turns of which one is gone are left out:
they may open and still tell of it. The window then begins where the turns do, and they are made anew.

Until all is there, the store's record of its keys says that it is being restored: no service takes that for a record,
and another restore begins anew.
"""

import base64
import binascii
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.backup import BOT_PARTS, CHAT_PARTS, PARTITION_PARTS, bot_key, named, paired, talks_of
from storage.backup_file import BackupError, Part, Reader, Value
from storage.errors import translated
from storage.history import REMOVED
from storage.inbox import Mail
from storage.keynames import DAY_SECONDS
from storage.keys import PARTITIONS, Keys, partition_of
from storage.remains import ChatCopy, Kept, drop_turn, in_turn, leave, leave_nothing
from storage.schema import IDENTITY_KEY, SCHEMA_KEY, Identity

Stands = Callable[[bytes], Awaitable[bool]]
"""Whether the key with that id is there."""

Tell = Callable[[int], None]

_AT_ONCE: Final = 500
_COMMANDS: Final = 500
_COMMAND_BYTES: Final = 1024 * 1024
_OF_THE_MOMENT: Final = (b"entry", b"halt", b"until", b"rested")


@dataclass(slots=True)
class Restored:
    """What was put back; ``erased``: turns that do not open any more, ``expired``: turns that are too old,
    ``forgotten``: chats of which nothing opens."""

    chats: int = 0
    conversations: int = 0
    turns: int = 0
    waiting: int = 0
    erased: int = 0
    expired: int = 0
    forgotten: int = 0
    api_keys: int = 0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A restore that did not end: the codes of the files it was made from."""

    restoring: str
    keys: str = ""


async def unfinished(client: Redis, keys: Keys) -> Unfinished | None:
    """What an earlier restore left; None where the store is empty. Raises BackupError where this bot uses it."""
    try:
        text: Any = await client.get(IDENTITY_KEY.format(bot_id=keys.bot_id))
        if text is not None and (found := _unfinished(text)) is not None:
            return found
        async with aclosing(_names(client, keys)) as names:
            async for _ in names:
                raise BackupError("The store holds data of this bot already: restore into an empty one.")
    except (RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error
    return None


async def begin(client: Redis, keys: Keys, mark: Unfinished) -> None:
    """From here on no service starts on this store until ``finish``; what an earlier restore left is removed."""
    key = IDENTITY_KEY.format(bot_id=keys.bot_id)
    try:
        await client.set(key, json.dumps(asdict(mark)))
        async for name in _names(client, keys):
            if name != key.encode():
                await client.unlink(name)
    except (RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error


async def abandon(client: Redis, keys: Keys) -> None:
    """Takes the mark of ``begin`` off a store into which nothing was put."""
    try:
        await client.delete(IDENTITY_KEY.format(bot_id=keys.bot_id))
    except (RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error


async def finish(client: Redis, keys: Keys, schema: int, identity: Identity) -> None:
    """The store is whole."""
    try:
        async with client.pipeline(transaction=True) as together:
            together.set(SCHEMA_KEY.format(bot_id=keys.bot_id), schema)
            together.set(IDENTITY_KEY.format(bot_id=keys.bot_id), json.dumps(asdict(identity)))
            await together.execute()
    except (RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error


def _unfinished(text: bytes) -> Unfinished | None:
    try:
        return Unfinished(**json.loads(text))
    except (ValueError, TypeError):
        return None


async def _names(client: Redis, keys: Keys) -> AsyncGenerator[bytes, None]:
    """All keys of the bot, some perhaps twice."""
    for pattern in (f"tg:{{{keys.bot_id}.*}}:*", f"tg:{{{keys.bot_id}}}:*"):
        found: Any  # bytes, as all replies
        async for found in client.scan_iter(pattern, count=_AT_ONCE):
            yield found


class Restoring:
    """Puts the parts of a checked backup into a store that was begun. ``keep_days``: how long anything is kept at most.
    Raises StorageError."""

    def __init__(self, client: Redis, keys: Keys, stands: Stands, *, keep_days: int, now_s: float) -> None:
        self._client = client
        self._keys = keys
        self._stands = stands
        self._keep_days = keep_days
        self._today = int(now_s) // DAY_SECONDS
        self._now_ms = int(now_s * 1000)
        self._commands = client.pipeline(transaction=False)
        self._chat: ChatCopy | None = None
        self._depth = [0] * PARTITIONS
        self._entries = 0
        self._waiting_bytes = 0
        self.done = Restored()

    async def run(self, reader: Reader, tell: Tell) -> Restored:
        """All of the file; ``tell`` hears how many bytes of it are read."""
        try:
            for part in reader.parts():
                await self._take(part)
                self._waiting_bytes += sum(len(value) for value in part.values if value)
                if len(self._commands) >= _COMMANDS or self._waiting_bytes > _COMMAND_BYTES:
                    await self._send()
                    tell(reader.read_bytes())
            await self._close()
            for partition, depth in enumerate(self._depth):
                if depth:
                    self._commands.hset(self._keys.partition("stats", partition), "depth", str(depth))
            await self._send()
        except (RedisError, OSError, TimeoutError) as error:
            raise translated(error) from error
        return self.done

    async def _send(self) -> None:
        self._waiting_bytes = 0
        if len(self._commands):
            await self._commands.execute()

    async def _take(self, part: Part) -> None:
        head = part.head
        match head["k"]:
            case "chat":
                await self._close()
                self._open(part)
            case "turns":
                await self._take_turns(head, part.values)
            case "ids":
                self._write(self._keys.of(head["id"]).ids, "zset", part.values)
            case "partition":
                self._write_partition(head, part.values)
            case "bot":
                self.done.api_keys += len(part.values) // 2 if head["name"] == "apikeys" else 0
                self._write(bot_key(self._keys, head["name"]), BOT_PARTS[head["name"]], part.values)

    def _write_partition(self, head: Mapping[str, Any], values: Sequence[Value]) -> None:
        key, name = self._keys.partition(head["name"], head["partition"]), head["name"]
        if name == "stats":
            fields = paired(values)
            fields.pop(b"depth", None)
            values = in_turn(fields)
        self._write(key, PARTITION_PARTS[name], values)

    # ---- a chat
    def _open(self, part: Part) -> None:
        parts = named(part)
        expires = {name: deadline for name, _, deadline in part.head["parts"]}
        fields = paired(parts.pop("chat", []))
        past = [value for value in parts.get("past", ()) if value is not None]
        talks = {}
        for talk in talks_of(fields, past):
            oldest = int(fields.get(b"o:%d:%d" % (talk.topic, talk.number), 1))
            talks[talk.topic, talk.number] = Kept(talk, oldest)
        self._chat = ChatCopy(part.head["id"], fields, parts, expires, talks)

    async def _take_turns(self, head: Mapping[str, Any], values: Sequence[Value]) -> None:
        assert self._chat is not None
        chat, kept = self._chat, self._chat.talks[head["topic"], head["number"]]
        wished = int(chat.fields.get(b"keep", 0)) or self._keep_days
        cut = self._today - min(wished, self._keep_days)
        fresh: dict[str, bytes] = {}
        for number, value in enumerate(values, head["first"]):
            if value == REMOVED:
                standing: bytes | None = value
            elif value is None:
                kept.lost |= number >= kept.oldest
                standing = None
            else:
                standing = await self._turn(chat, kept, number, value, cut)
            if standing is not None and (standing != REMOVED or kept.first or not kept.lost):
                fresh[str(number)] = standing
            elif kept.first:
                fresh[str(number)] = REMOVED  # its number is not a gap
        if fresh:
            self._commands.hset(self._keys.of(chat.id).turns(head["topic"], head["number"]), mapping=fresh)  # type: ignore[arg-type]

    async def _turn(self, chat: ChatCopy, kept: Kept, number: int, value: bytes, cut: int) -> bytes | None:
        header, _, sealed = value.partition(b"\n")
        _, _, *dated, _ = header.split(b"|")
        day = int(dated[0]) if dated else 0  # in the first layout it was not told
        opens = await self._opens(chat, sealed)
        too_old = 0 < day < cut
        if opens and not too_old:
            kept.first = kept.first or number
            self.done.turns += 1
            return value
        kept.lost = True
        if too_old:
            self.done.expired += 1
        else:
            self.done.erased += 1
        return None

    async def _opens(self, chat: ChatCopy, sealed: bytes) -> bool:
        opens = await self._stands(sealed[1:17])
        chat.opens += opens
        chat.erased += not opens
        return opens

    async def _close(self) -> None:
        """Writes the chat that was read last: its turns are known by now."""
        chat, self._chat = self._chat, None
        if chat is None:
            return
        before = len(chat.parts.get("mail", ()))
        await self._drop_sealed(chat)
        await self._drop_mail(chat)
        for kept in chat.talks.values():
            if kept.lost:
                leave(chat, kept)
        if chat.erased and not chat.opens:
            leave_nothing(chat)
            self.done.forgotten += 1
        if before and not chat.parts.get("mail"):
            chat.fields.pop(b"waits", None)
        for name in _OF_THE_MOMENT:
            chat.fields.pop(name, None)
        self._hand_on(chat)
        self._write_chat(chat)

    def _hand_on(self, chat: ChatCopy) -> None:
        """Who waits becomes ready, and each chat is looked at for what is too old."""
        of, mail = self._keys.of(chat.id), chat.parts.get("mail", ())
        if not chat.fields:
            return
        if mail or b"turn" in chat.fields or b"forget" in chat.fields:
            self._entries += 1
            entry = f"{self._now_ms}-{self._entries}"
            chat.fields[b"entry"] = entry.encode()
            self._commands.xadd(of.ready, {"chat": chat.id}, id=entry)
        self._commands.zadd(of.ages, {str(chat.id): self._now_ms})
        self._depth[partition_of(chat.id)] += len(mail)
        self.done.waiting += len(mail)

    def _write_chat(self, chat: ChatCopy) -> None:
        of = self._keys.of(chat.id)
        for kept in chat.talks.values():
            if kept.over:
                self._commands.unlink(of.turns(kept.talk.topic, kept.talk.number))
            else:
                self.done.conversations += 1
        self.done.chats += 1
        for name, values in {"chat": in_turn(chat.fields), **chat.parts}.items():
            deadline = chat.expires.get(name, 0)
            if not deadline or deadline > self._now_ms:
                self._write(getattr(of, name), CHAT_PARTS[name], values)
                if deadline and values:
                    self._commands.pexpireat(getattr(of, name), deadline)

    # ---- what does not open
    async def _drop_sealed(self, chat: ChatCopy) -> None:
        fields = chat.fields
        for name in [name for name in fields if name == b"rights" or name.startswith((b"r:", b"offer"))]:
            if not await self._opens(chat, _plain(fields[name])):
                del fields[name]
        if b"turn" in fields and not await self._opens(chat, fields[b"record"]):
            drop_turn(fields)
        notes = paired(chat.parts.get("notes", ()))
        chat.noted = frozenset(notes)
        chat.parts["notes"] = in_turn({of: note for of, note in notes.items() if await self._opens(chat, note)})
        remotes = [entry or b"" for entry in chat.parts.get("remotes", ())]
        chat.parts["remotes"] = [entry for entry in remotes if await self._opens(chat, entry.split(b":", 2)[2])]
        dead = paired(chat.parts.get("dead", ()))
        chat.parts["dead"] = in_turn({of: item for of, item in dead.items() if await self._stays(chat, item)})

    async def _drop_mail(self, chat: ChatCopy) -> None:
        items = [item or b"" for item in chat.parts.get("mail", ())]
        stays = [await self._stays(chat, item) for item in items]
        chat.parts["mail"] = [item for item, stay in zip(items, stays, strict=True) if stay]
        if b"take" in chat.fields:
            taken = stays[: int(chat.fields[b"take"])]
            chat.fields[b"take"] = b"%d" % sum(taken)

    async def _stays(self, chat: ChatCopy, item: bytes) -> bool:
        sealed = Mail.unpacked(item).sealed
        return not sealed or await self._opens(chat, sealed)

    # ---- writing
    def _write(self, key: str, kind: str, values: Sequence[Value]) -> None:
        for at in range(0, len(values), 2 * _AT_ONCE):
            some = values[at : at + 2 * _AT_ONCE]
            if kind == "list":
                self._commands.rpush(key, *(value or b"" for value in some))
            elif kind == "hash":
                self._commands.hset(key, mapping=paired(some))  # type: ignore[arg-type]
            else:
                self._commands.zadd(key, {member: float(score) for member, score in paired(some).items()})


def _plain(packed: bytes) -> bytes:
    try:
        return base64.b64decode(packed)
    except binascii.Error:
        return b""
