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
from storage.datakey import CACHED_KEYS, Cache, DataKey, fresh_key, opened_key
from storage.errors import KeyringUnavailableError, MasterKeyWrongError, StorageError, translated
from storage.masterkey import MasterKey

TRUSTED_SECONDS = 1.0
_CONNECTIONS = 8
_TIMEOUT_SECONDS = 5.0
_REWRITE_SECONDS = 15.0

_PREFIX = "keyring"
_IDENTITY = f"{_PREFIX}:identity"
_DESTROYED = f"{_PREFIX}:destroyed"

# The first of those that create a key at once wins, and all get that one.
_OBTAIN = """
local found = redis.call('GET', KEYS[1])
if not found then
    found = ARGV[1]
    redis.call('SET', KEYS[1], found)
    redis.call('SET', KEYS[2], ARGV[2])
    redis.call('SADD', KEYS[3], ARGV[2])
end
return {found, redis.call('GET', KEYS[4]) or '0'}
"""

_ERASE = """
local names = #ARGV == 1 and redis.call('SMEMBERS', KEYS[1]) or {unpack(ARGV, 2)}
local count = 0
for _, name in ipairs(names) do
    local found = redis.call('GETDEL', ARGV[1] .. ':name:' .. name)
    if found then
        redis.call('DEL', ARGV[1] .. ':id:' .. string.sub(found, 1, 32))
        count = count + 1
    end
    redis.call('SREM', KEYS[1], name)
end
redis.call('INCR', KEYS[2])
return count
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
        return self._at_hand(self._master.mark(owner, name))

    async def obtain(self, owner: str, name: str) -> DataKey:
        mark = self._master.mark(owner, name)
        found = self._at_hand(mark)
        if found is not None:
            return found
        key_id, wrapped = fresh_key(self._master, mark)
        asked = time.monotonic()
        keys = [f"{_PREFIX}:name:{mark.hex()}", f"{_PREFIX}:id:{key_id.hex()}", self._owner(owner), _DESTROYED]
        value, destroyed = await self._done(self._obtain(keys, [key_id.hex() + wrapped.hex(), mark.hex()]))
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
        mark = self._master.mark(owner, name)
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
            return [self._master.mark(owner, name) for name in names]
        kept = self._master.mark(owner, but)
        found = await self._done(self.client.smembers(self._owner(owner)))
        return [mark for mark in (bytes.fromhex(name.decode()) for name in found) if mark != kept]

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = ()) -> int:
        found = marks or [self._master.mark(owner, name) for name in names]
        given = [_PREFIX, *(mark.hex() for mark in found)]
        count = int(await self._done(self._erase([self._owner(owner), _DESTROYED], given)))
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


def _ours(error: BaseException) -> BaseException:
    if isinstance(error, StorageError) or not isinstance(error, RedisError | OSError | TimeoutError):
        return error
    return KeyringUnavailableError(f"The keyring server failed: {translated(error)}")
