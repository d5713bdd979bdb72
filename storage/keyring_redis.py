"""The keyring on a second Redis or Valkey, for replicas on several machines.

A cached key may be used for one second after the server confirmed that nothing was destroyed; ``destroy`` returns only
when that second is over for everybody. The server's own files are what it is weaker in: it rewrites its append-only
file after each destruction, but copies somebody made of its files stay as they are.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.connection import StoreTarget, connect, inspect
from storage.datakey import CACHED_KEYS, Cache, DataKey, day_bytes, fresh_key, group_and_day, name_mark, opened_key
from storage.errors import KeyringUnavailableError, MasterKeyWrongError, StorageError, translated
from storage.masterkey import MARK_BYTES, MasterKey

TRUSTED_SECONDS = 1.0
_CONNECTIONS = 8
_TIMEOUT_SECONDS = 5.0
_REWRITE_SECONDS = 15.0

_PREFIX = "keyring"
_IDENTITY = f"{_PREFIX}:identity"
_DESTROYED = f"{_PREFIX}:destroyed"
_DAYS = f"{_PREFIX}:days"
_EXPIRED_AT_ONCE = 1000

# A member of an owner's set is the mark of a name, the mark of its group and its day, all in hex; in keyrings made
# before there were groups it is the mark of the name alone, which is a group of its own. The first of those that create
# a key at once wins, and all get that one.
_OBTAIN = """
local found = redis.call('GET', KEYS[1])
if not found then
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

_EXPIRE = f"""
{_DROP}
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
local count = 0
for _, place in ipairs(over) do count = count + drop(string.sub(place, 1, 32), string.sub(place, 33)) end
redis.call('INCR', KEYS[2])
return {{#over, count}}
"""


class RedisKeyring:
    """Open it with ``open_keyring``. A key's value is its id in hex (32 characters), then its wrapped form in hex."""

    def __init__(
        self, client: Redis, master: MasterKey, identity: str, durability: str, *, bound: int = CACHED_KEYS
    ) -> None:
        self.identity = identity
        self.durability = durability
        self.client = client
        self._master = master
        self._cache = Cache(bound)
        self._destroyed = b""
        self._trusted_until = 0.0
        self._obtain = client.register_script(_OBTAIN)
        self._erase = client.register_script(_ERASE)
        self._expire = client.register_script(_EXPIRE)

    @classmethod
    async def open(cls, target: StoreTarget, master: MasterKey, *, create: bool) -> Self:
        client = await connect(target, connections=_CONNECTIONS, timeout_seconds=_TIMEOUT_SECONDS)
        try:
            report = await inspect(client)
            for problem in report.problems:
                if problem.fatal:
                    raise KeyringUnavailableError(f"The keyring server is not fit: {problem.sentence} {problem.cure}")
            identity = await _identity(client, master, create=create)
        except BaseException as error:
            await client.aclose()
            raise _ours(error) from error
        return cls(client, master, identity, report.durability)

    def cached(self, owner: str, name: str) -> DataKey | None:
        return self._at_hand(name_mark(self._master, owner, name))

    async def obtain(self, owner: str, name: str) -> DataKey:
        mark = name_mark(self._master, owner, name)
        found = self._at_hand(mark)
        if found is not None:
            return found
        key_id, wrapped = fresh_key(self._master, mark)
        asked = time.monotonic()
        group, day = group_and_day(name)
        own = self._master.mark(owner).hex()
        member = (mark + self._master.mark(owner, group) + day_bytes(day)).hex()
        names = [f"name:{mark.hex()}", f"id:{key_id.hex()}", f"owner:{own}"]
        keys = [*(f"{_PREFIX}:{name}" for name in names), _DESTROYED, _DAYS]
        value, destroyed = await self._done(self._obtain(keys, [key_id.hex() + wrapped.hex(), member, own]))
        self._trust(destroyed, asked)
        key = self._opened(value, mark)
        self._cache.put(key, mark)
        return key

    async def by_id(self, key_id: bytes) -> DataKey | None:
        if time.monotonic() < self._trusted_until and (found := self._cache.with_id(key_id)):
            return found
        asked = time.monotonic()
        mark, destroyed = await self._done(self.client.mget(f"{_PREFIX}:id:{key_id.hex()}", _DESTROYED))
        self._trust(destroyed or b"0", asked)
        value = mark and await self._done(self.client.get(f"{_PREFIX}:name:{mark.decode()}"))
        if not value:
            return None
        name = bytes.fromhex(mark.decode())
        key = self._opened(value, name)
        self._cache.put(key, name)
        return key

    async def found(self, owner: str, name: str) -> DataKey | None:
        mark = name_mark(self._master, owner, name)
        if (found := self._at_hand(mark)) is not None:
            return found
        asked = time.monotonic()
        value, destroyed = await self._done(self.client.mget(f"{_PREFIX}:name:{mark.hex()}", _DESTROYED))
        self._trust(destroyed or b"0", asked)
        if not value:
            return None
        key = self._opened(value, mark)
        self._cache.put(key, mark)
        return key

    async def marks(self, owner: str, *names: str, but: str = "") -> list[bytes]:
        if names:
            return [name_mark(self._master, owner, name) for name in names]
        kept = self._master.mark(owner, but)
        found = [
            bytes.fromhex(member.decode()) for member in await self._done(self.client.smembers(self._owner(owner)))
        ]
        return [member[:MARK_BYTES] for member in found if _group_in(member) != kept]

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        found = [*marks, *(name_mark(self._master, owner, name) for name in names)]
        wanted = [*found, *(self._master.mark(owner, group) for group in groups)]
        return await self._cleaned(await self._erased(owner, -1, len(found), wanted))

    async def expire(self, before: int, owner: str | None = None) -> int:
        if owner is not None:
            return await self._cleaned(await self._erased(owner, max(before, 0), 0, []))
        count, seen = 0, _EXPIRED_AT_ONCE
        while seen == _EXPIRED_AT_ONCE:
            given: list[Any] = [_PREFIX, max(before, 0), _EXPIRED_AT_ONCE]
            seen, some = await self._done(self._expire([_DAYS, _DESTROYED], given))
            count += some
        return await self._cleaned(count)

    async def _erased(self, owner: str, before: int, names: int, marks: Sequence[bytes]) -> int:
        given: list[Any] = [_PREFIX, self._master.mark(owner).hex(), before, names, *(mark.hex() for mark in marks)]
        return int(await self._done(self._erase([self._owner(owner), _DESTROYED], given)))

    async def _cleaned(self, count: int) -> int:
        erased = time.monotonic()
        self._cache.clear()
        await self._rewritten()
        # Others may still trust their cache. A tenth more, for clocks that do not run alike.
        await asyncio.sleep(max(0.0, erased + TRUSTED_SECONDS * 1.1 - time.monotonic()))
        return count

    async def aclose(self) -> None:
        await self.client.aclose()

    def _at_hand(self, mark: bytes) -> DataKey | None:
        return self._cache.named(mark) if time.monotonic() < self._trusted_until else None

    def _owner(self, owner: str) -> str:
        return f"{_PREFIX}:owner:{self._master.mark(owner).hex()}"

    def _opened(self, value: bytes, mark: bytes) -> DataKey:
        return opened_key(self._master, bytes.fromhex(value[:32].decode()), mark, bytes.fromhex(value[32:].decode()))

    def _trust(self, destroyed: bytes, asked: float) -> None:
        if destroyed != self._destroyed:
            self._cache.clear()
            self._destroyed = destroyed
        self._trusted_until = max(self._trusted_until, asked + TRUSTED_SECONDS)

    async def _done(self, command: Any) -> Any:
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            raise _ours(error) from error

    async def _rewritten(self) -> None:
        """Let the server write its append-only file anew, without what was erased."""
        facts = await self._done(self.client.info("persistence"))
        if not facts.get("aof_enabled"):
            return
        rewrites = facts.get("aof_rewrites", 0)
        with contextlib.suppress(RedisError):  # one is under way: it may have begun before the erasure, so ask again
            await self.client.bgrewriteaof()
        deadline = time.monotonic() + _REWRITE_SECONDS
        while True:
            facts = await self._done(self.client.info("persistence"))
            busy = facts.get("aof_rewrite_in_progress") or facts.get("aof_rewrite_scheduled")
            if not busy and facts.get("aof_rewrites", 0) > rewrites:
                return
            if time.monotonic() > deadline:
                raise KeyringUnavailableError("The keys are erased, but the keyring server does not rewrite its file.")
            await asyncio.sleep(0.02)


async def _identity(client: Redis, master: MasterKey, *, create: bool) -> str:
    if create:
        fresh = {"id": secrets.token_hex(16), "master": master.fingerprint()}
        await client.set(_IDENTITY, json.dumps(fresh), nx=True)
    text = await client.get(_IDENTITY)
    if text is None:
        raise KeyringUnavailableError(
            "The keyring server holds no keyring, and what is stored opens only with it: "
            "restore it, or let KEYRING_URL name the right server."
        )
    record = json.loads(text)
    if record["master"] != master.fingerprint():
        raise MasterKeyWrongError("The keyring belongs to another master key: MASTER_KEY_FILE must name that one.")
    return str(record["id"])


def _group_in(member: bytes) -> bytes:
    """The mark of a key's group, in what its owner's set holds."""
    return member[MARK_BYTES : 2 * MARK_BYTES] or member


def _ours(error: BaseException) -> BaseException:
    if isinstance(error, StorageError) or not isinstance(error, RedisError | OSError | TimeoutError):
        return error
    return KeyringUnavailableError(f"The keyring server failed: {translated(error)}")
