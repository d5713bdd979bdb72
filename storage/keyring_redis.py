"""The keyring on a second Redis or Valkey, for replicas on several machines.

A cached key may be used for one second after the server confirmed that nothing was destroyed; ``destroy`` returns only
when that second is over for everybody. The server's own files are what it is weaker in: it rewrites its append-only
file after each destruction, but copies somebody made of its files stay as they are.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.connection import StoreTarget
from storage.datakey import CACHED_KEYS, Cache, DataKey, day_bytes, fresh_key, group_and_day, name_mark, opened_key
from storage.errors import KeyringUnavailableError, SealBrokenError
from storage.keyrecord import KeyringRecord, KeyRow, Rewrapped, opened, wrapped_alike
from storage.keyring_server import (
    COPIED,
    DAYS,
    DESTROYED,
    EPOCH,
    IDENTITY,
    PREFIX,
    RESTORING,
    ROWS_AT_ONCE,
    fit,
    group_in,
    mark_in,
    ours,
    parts_of,
    record_of,
    record_text,
)
from storage.masterkey import MARK_BYTES, MasterKey

TRUSTED_SECONDS = 1.0
_REWRITE_SECONDS = 15.0

_EXPIRED_AT_ONCE = 1000
_EPOCHS_TRIED = 5

# The first of those that create a key at once wins, and all get that one.
_OBTAIN = """
local found = redis.call('GET', KEYS[1])
if not found and (redis.call('GET', KEYS[6]) or '1') ~= ARGV[4] then
    found = ''  -- nothing is wrapped by a master key that is being given up
elseif not found then
    found = ARGV[1]
    redis.call('SET', KEYS[1], found)
    redis.call('SET', KEYS[2], string.sub(ARGV[2], 1, 32))
    redis.call('SADD', KEYS[3], ARGV[2])
    local day = tonumber(string.sub(ARGV[2], 65), 16)
    if day > 0 then redis.call('ZADD', KEYS[5], day, ARGV[3] .. ARGV[2]) end
end
return {found, redis.call('GET', KEYS[4]) or '0'}
"""

_DROP = """
local function drop(owner, member)
    local found = redis.call('GETDEL', ARGV[1] .. ':name:' .. string.sub(member, 1, 32))
    redis.call('SREM', ARGV[1] .. ':owner:' .. owner, member)
    redis.call('ZREM', ARGV[1] .. ':days', owner .. member)
    if not found then return 0 end
    redis.call('DEL', ARGV[1] .. ':id:' .. string.sub(found, 1, 32))
    return 1
end
"""

# `before` is -1 where days do not matter; then come how many names there are, the names, and the groups.
_ERASE = f"""
{_DROP}
local owner, before, names = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local all = before < 0 and #ARGV == 4
local wanted = {{}}
for at = 5, #ARGV do wanted[(at < 5 + names and 'name' or 'group') .. ARGV[at]] = true end
local count = 0
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local name, group, day = string.sub(member, 1, 32), string.sub(member, 33, 64), 0
    if group == '' then group = name else day = tonumber(string.sub(member, 65), 16) end
    if all or wanted['name' .. name] or wanted['group' .. group] or (day > 0 and day < before) then
        count = count + drop(owner, member)
    end
end
redis.call('INCR', KEYS[2])
return count
"""

_SWITCH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return 1
"""

# By their old values: a key that was destroyed meanwhile does not come back.
_REWRAP = """
if (redis.call('GET', KEYS[1]) or '1') ~= ARGV[1] then return 0 end
for at = 2, #KEYS do
    if redis.call('GET', KEYS[at]) == ARGV[2 * at - 2] then redis.call('SET', KEYS[at], ARGV[2 * at - 1]) end
end
return 1
"""

_EXPIRE = f"""
{_DROP}
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
local count = 0
for _, place in ipairs(over) do count = count + drop(string.sub(place, 1, 32), string.sub(place, 33)) end
redis.call('INCR', KEYS[2])
return {{#over, count}}
"""


class RedisKeyring:
    """Open it with ``open_keyring``. What the server holds is told in storage/keyring_server.py."""

    def __init__(
        self, client: Redis, master: MasterKey, record: KeyringRecord, durability: str, *, bound: int = CACHED_KEYS
    ) -> None:
        self.identity = record.id
        self.durability = durability
        self.client = client
        self._opened = opened(master, record)
        self._names = self._opened.names
        self._cache = Cache(bound)
        self._destroyed = b""
        self._trusted_until = 0.0
        self._obtain = client.register_script(_OBTAIN)
        self._erase = client.register_script(_ERASE)
        self._expire = client.register_script(_EXPIRE)
        self._switch = client.register_script(_SWITCH)
        self._rewrap = client.register_script(_REWRAP)

    @classmethod
    async def open(cls, target: StoreTarget, master: MasterKey, *, create: bool) -> Self:
        client, durability = await fit(target)
        try:
            if create:
                if await client.exists(RESTORING):
                    raise KeyringUnavailableError("A restore of the keyring was cut off: restore it again.")
                fresh = KeyringRecord(secrets.token_hex(16), master.fingerprint())
                await client.set(IDENTITY, record_text(fresh), nx=True)
            return cls(client, master, record_of(await client.get(IDENTITY)), durability)
        except BaseException as error:
            await client.aclose()
            raise ours(error) from error

    def cached(self, owner: str, name: str) -> DataKey | None:
        return self._at_hand(name_mark(self._names, owner, name))

    async def obtain(self, owner: str, name: str) -> DataKey:
        mark = name_mark(self._names, owner, name)
        found = self._at_hand(mark)
        if found is not None:
            return found
        group, day = group_and_day(name)
        member = (mark + self._names.mark(owner, group) + day_bytes(day)).hex()
        for _ in range(_EPOCHS_TRIED):
            value = await self._obtained(mark, member, self._names.mark(owner).hex())
            if value:
                return await self._kept(value, mark)
            await self._follow()
        raise KeyringUnavailableError("The master key is rotated again and again: no key can be made.")

    async def _obtained(self, mark: bytes, member: str, own: str) -> bytes:
        """The stored key of that name, the one made here or another one's; empty when a new epoch began."""
        epoch, master, _ = self._opened
        key_id, wrapped = fresh_key(master, mark)
        asked = time.monotonic()
        names = [f"name:{mark.hex()}", f"id:{key_id.hex()}", f"owner:{own}"]
        keys = [*(f"{PREFIX}:{name}" for name in names), DESTROYED, DAYS, EPOCH]
        given: list[Any] = [key_id.hex() + wrapped.hex(), member, own, epoch]
        value, destroyed = await self._done(self._obtain(keys, given))
        self._trust(destroyed, asked)
        return bytes(value)

    async def by_id(self, key_id: bytes) -> DataKey | None:
        if time.monotonic() < self._trusted_until and (found := self._cache.with_id(key_id)):
            return found
        asked = time.monotonic()
        mark, destroyed = await self._done(self.client.mget(f"{PREFIX}:id:{key_id.hex()}", DESTROYED))
        self._trust(destroyed or b"0", asked)
        value = mark and await self._done(self.client.get(f"{PREFIX}:name:{mark.decode()}"))
        if not value or parts_of(value)[0] != key_id:
            return None
        return await self._kept(value, bytes.fromhex(mark.decode()))

    async def found(self, owner: str, name: str) -> DataKey | None:
        mark = name_mark(self._names, owner, name)
        if (found := self._at_hand(mark)) is not None:
            return found
        asked = time.monotonic()
        value, destroyed = await self._done(self.client.mget(f"{PREFIX}:name:{mark.hex()}", DESTROYED))
        self._trust(destroyed or b"0", asked)
        return await self._kept(value, mark) if value else None

    async def marks(self, owner: str, *names: str, but: str = "") -> list[bytes]:
        if names:
            return [name_mark(self._names, owner, name) for name in names]
        kept = self._names.mark(owner, but)
        found = [
            bytes.fromhex(member.decode()) for member in await self._done(self.client.smembers(self._owner(owner)))
        ]
        return [member[:MARK_BYTES] for member in found if group_in(member) != kept]

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        found = [*marks, *(name_mark(self._names, owner, name) for name in names)]
        wanted = [*found, *(self._names.mark(owner, group) for group in groups)]
        return await self._cleaned(await self._erased(owner, -1, len(found), wanted))

    async def expire(self, before: int, owner: str | None = None) -> int:
        if owner is not None:
            return await self._cleaned(await self._erased(owner, max(before, 0), 0, []))
        count, seen = 0, _EXPIRED_AT_ONCE
        while seen == _EXPIRED_AT_ONCE:
            given: list[Any] = [PREFIX, max(before, 0), _EXPIRED_AT_ONCE]
            seen, some = await self._done(self._expire([DAYS, DESTROYED], given))
            count += some
        return await self._cleaned(count)

    async def _erased(self, owner: str, before: int, names: int, marks: Sequence[bytes]) -> int:
        given: list[Any] = [PREFIX, self._names.mark(owner).hex(), before, names, *(mark.hex() for mark in marks)]
        return int(await self._done(self._erase([self._owner(owner), DESTROYED], given)))

    async def _cleaned(self, count: int) -> int:
        erased = time.monotonic()
        self._cache.clear()
        await self._rewritten()
        # Others may still trust their cache. A tenth more, for clocks that do not run alike.
        await asyncio.sleep(max(0.0, erased + TRUSTED_SECONDS * 1.1 - time.monotonic()))
        return count

    # ---- the whole of it: for rotations and copies
    async def record(self) -> KeyringRecord:
        return record_of(await self._done(self.client.get(IDENTITY)))

    async def count(self) -> int:
        seen: set[bytes] = set()
        async for names in self._scanned("name"):
            seen.update(names)
        return len(seen)

    async def switch(self, record: KeyringRecord, master: str) -> KeyringRecord:
        keys = opened(await asyncio.to_thread(self._opened.master.reloaded), record)
        following = record.switched(keys, master)
        await self._move_on(record, following)
        await self._follow()
        return following

    async def rewrap(self, record: KeyringRecord) -> AsyncIterator[Rewrapped]:
        await self._follow()
        async for names in self._scanned("name"):
            yield await self._rewrapped(record, names)
        await self._rewritten()  # only once no file holds a key that the former master key opens may that one go
        await self._move_on(record, record.settled())
        await self._rewritten()

    async def rows(self, record: KeyringRecord) -> AsyncIterator[KeyRow]:
        await self._follow()
        async for owners in self._scanned("owner"):
            for owner in owners:
                for row in await self._rows_of(owner):
                    yield wrapped_alike(self._opened.master, record, row)
        if (await self.record()).epoch != record.epoch:
            raise _rotated()

    async def copied_at(self) -> int:
        return int(await self._done(self.client.get(COPIED)) or 0)

    async def note_copy(self, seconds: int) -> None:
        await self._done(self.client.set(COPIED, seconds))

    async def _scanned(self, kind: str) -> AsyncIterator[list[bytes]]:
        """Names of the server's keys of that kind. One may come twice."""
        cursor = 0
        while True:
            cursor, names = await self._done(self.client.scan(cursor, match=f"{PREFIX}:{kind}:*", count=ROWS_AT_ONCE))
            if names:
                yield names
            if not cursor:
                return

    async def _rewrapped(self, record: KeyringRecord, names: list[bytes]) -> Rewrapped:
        keys: list[bytes | str] = [EPOCH]
        given: list[Any] = [record.epoch]
        broken = 0
        for name, value in zip(names, await self._done(self.client.mget(names)), strict=True):
            if value is None:
                continue
            key_id, wrapped = parts_of(value)
            try:
                fresh = self._opened.master.rewrapped(wrapped, key_id + mark_in(name))
            except SealBrokenError:
                broken += 1
                continue
            if fresh is not None:
                keys.append(name)
                given += [value, key_id.hex() + fresh.hex()]
        if not await self._done(self._rewrap(keys, given)):
            raise _rotated()
        return Rewrapped(len(names), broken)

    async def _move_on(self, standing: KeyringRecord, following: KeyringRecord) -> None:
        text = await self._done(self.client.get(IDENTITY))
        moved = record_of(text) == standing and await self._done(
            self._switch([IDENTITY, EPOCH], [text, record_text(following), following.epoch])
        )
        if not moved:
            raise _rotated()

    async def _rows_of(self, owner: bytes) -> list[KeyRow]:
        members = [bytes.fromhex(member.decode()) for member in await self._done(self.client.smembers(owner))]
        if not members:
            return []
        names = [f"{PREFIX}:name:{member[:MARK_BYTES].hex()}" for member in members]
        values = await self._done(self.client.mget(names))
        rows: list[KeyRow] = []
        for member, value in zip(members, values, strict=True):
            if value is not None:
                key_id, wrapped = parts_of(value)
                day = int.from_bytes(member[2 * MARK_BYTES :], "big")
                mark = member[:MARK_BYTES]
                rows.append(KeyRow(key_id, mark_in(owner), mark, group_in(member), day, wrapped))
        return rows

    async def aclose(self) -> None:
        await self.client.aclose()

    def _at_hand(self, mark: bytes) -> DataKey | None:
        return self._cache.named(mark) if time.monotonic() < self._trusted_until else None

    def _owner(self, owner: str) -> str:
        return f"{PREFIX}:owner:{self._names.mark(owner).hex()}"

    async def _kept(self, value: bytes, mark: bytes) -> DataKey:
        known = self._opened
        key_id, wrapped = parts_of(value)
        try:
            key = opened_key(known.master, key_id, mark, wrapped)
        except SealBrokenError:
            await self._follow()
            if self._opened.epoch == known.epoch:
                raise
            # A rotation began: the master key file holds the next one since before it did.
            key = opened_key(self._opened.master, key_id, mark, wrapped)
        self._cache.put(key, mark)
        return key

    async def _follow(self) -> None:
        """Go over to the master key of the keyring's present epoch."""
        record = await self.record()
        if record.epoch != self._opened.epoch:
            master = await asyncio.to_thread(self._opened.master.reloaded)
            self._opened = opened(master, record)

    def _trust(self, destroyed: bytes, asked: float) -> None:
        if destroyed != self._destroyed:
            self._cache.clear()
            self._destroyed = destroyed
        self._trusted_until = max(self._trusted_until, asked + TRUSTED_SECONDS)

    async def _done(self, command: Any) -> Any:
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            raise ours(error) from error

    async def _rewritten(self) -> None:
        """Let the server write its append-only file anew, without what was erased.

        ``aof_rewrites`` counts those that were begun. One that runs already may have begun before the erasure, and the
        server refuses another beside it: whichever begins next is awaited, whoever asked for it.
        """
        facts = await self._done(self.client.info("persistence"))
        if not facts.get("aof_enabled"):
            return
        begun = facts.get("aof_rewrites", 0)
        deadline = time.monotonic() + _REWRITE_SECONDS
        while True:
            running = facts.get("aof_rewrite_in_progress", 0)
            ended = facts.get("aof_rewrites", 0) - running
            if ended > begun and facts.get("aof_last_bgrewrite_status") == "ok":
                return
            if not running and not facts.get("aof_rewrite_scheduled"):
                with contextlib.suppress(RedisError):  # somebody else came first
                    await self.client.bgrewriteaof()
            if time.monotonic() > deadline:
                raise KeyringUnavailableError("The keys are erased, but the keyring server does not rewrite its file.")
            await asyncio.sleep(0.02)
            facts = await self._done(self.client.info("persistence"))


def _rotated() -> KeyringUnavailableError:
    return KeyringUnavailableError("The master key was rotated meanwhile: begin again.")
