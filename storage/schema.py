"""What the store is: the record of its keys, and the version of its layout with the way forward.

The record is written when a store is first used, together with the version. From then on a service with another keyring
refuses to touch it, and so does one with another master key, but for those of the same keyring (storage/rotation.py).
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.errors import SchemaTooNewError, StorageError, StoreUnavailableError, translated

SCHEMA_VERSION = 2
"""Of the layout that this code writes."""

IDENTITY_KEY = "tg:{{{bot_id}}}:identity"
"""string: the record (JSON); it changes with the master key, by ``keys rotate`` alone"""

SCHEMA_KEY = "tg:{{{bot_id}}}:schema"
"""string: the version of the layout"""

LOCK_KEY = "tg:{{{bot_id}}}:schema-lock"
"""string, expires: who makes the record or upgrades"""

LOCK_MS = 30_000
_WAIT_SECONDS = 120.0

_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# The version moves only under the lock: one who lost it (a pause, a cut connection) cannot undo another's step.
_ADVANCE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], ARGV[3])
return 1
"""

_MOVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

Step = Callable[[Redis, int], Awaitable[None]]
"""One upgrade: gets the client and the bot's id, and does no harm when it runs again."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which master key and keyring a store belongs to. Neither value tells anything of a key."""

    master: str
    keyring: str


async def read_identity(client: Redis, bot_id: int) -> Identity | None:
    """The store's record; None for a store that was never used."""
    text = await _done(client.get(IDENTITY_KEY.format(bot_id=bot_id)))
    return None if text is None else _parsed(text)


async def claim_identity(client: Redis, bot_id: int, identity: Identity) -> Identity:
    """Write the record unless there is one; the record that stands then."""
    values = {
        IDENTITY_KEY.format(bot_id=bot_id): json.dumps(asdict(identity)),
        SCHEMA_KEY.format(bot_id=bot_id): str(SCHEMA_VERSION),
    }
    await _done(client.msetnx(values))
    standing = await read_identity(client, bot_id)
    if standing is None:
        raise StorageError("The store's record of its keys is gone, its schema version is not: restore a backup.")
    return standing


async def move_identity(client: Redis, bot_id: int, old: Identity, new: Identity) -> bool:
    """Let the record say ``new`` where it says ``old``; whether it says ``new`` then. It moves with the master key."""
    key = IDENTITY_KEY.format(bot_id=bot_id)
    text = await _done(client.get(key))
    if text is not None and _parsed(text) == old:
        await _done(client.eval(_MOVE, 1, key, text, json.dumps(asdict(new))))
    return await read_identity(client, bot_id) == new


def _parsed(text: bytes) -> Identity:
    try:
        record = json.loads(text)
        if "restoring" in record:
            raise StorageError("A restore into this store was begun and not finished: type the same command again.")
        return Identity(master=str(record["master"]), keyring=str(record["keyring"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError("The store's record of its keys is damaged: restore a backup.") from error


async def read_version(client: Redis, bot_id: int) -> int:
    """The version of the store's layout; the current one for a store that was never used."""
    text = await _done(client.get(SCHEMA_KEY.format(bot_id=bot_id)))
    return SCHEMA_VERSION if text is None else int(text)


async def upgrade(client: Redis, bot_id: int, steps: Sequence[Step]) -> int:
    """Bring the store to version ``1 + len(steps)``: ``steps[n]`` leads from ``n + 1`` to ``n + 2``. How many ran.

    Processes that start together do each step once. Raises SchemaTooNewError; StoreUnavailableError when another
    process holds the upgrade for more than two minutes.
    """
    known = 1 + len(steps)
    if await _checked_version(client, bot_id, known) == known:
        return 0
    done = 0
    async with schema_lock(client, bot_id) as token:
        while (version := await _checked_version(client, bot_id, known)) < known:
            await _done(steps[version - 1](client, bot_id))
            keys = [LOCK_KEY.format(bot_id=bot_id), SCHEMA_KEY.format(bot_id=bot_id)]
            moved = client.eval(_ADVANCE, 2, *keys, token, str(version), str(version + 1))
            if not await _done(moved):
                raise StoreUnavailableError("Another process took over the upgrade of the store: start again.")
            done += 1
    return done


async def _checked_version(client: Redis, bot_id: int, known: int) -> int:
    text = await _done(client.get(SCHEMA_KEY.format(bot_id=bot_id)))
    version = known if text is None else int(text)
    if version > known:
        raise SchemaTooNewError(found=version, known=known)
    return version


@contextlib.asynccontextmanager
async def schema_lock(client: Redis, bot_id: int) -> AsyncIterator[str]:
    """One process at a time makes or changes the layout. The lock is renewed while held, and lost with its holder."""
    key, token = LOCK_KEY.format(bot_id=bot_id), secrets.token_hex(8)
    deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
    while not await _done(client.set(key, token, nx=True, px=LOCK_MS)):
        if asyncio.get_running_loop().time() > deadline:
            raise StoreUnavailableError("Another process prepares the store and does not end: start again later.")
        await asyncio.sleep(0.05)
    renewal = asyncio.create_task(_renewed(client, key, token), name="schema lock")
    try:
        yield token
    finally:
        renewal.cancel()
        await asyncio.wait({renewal})
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await client.eval(_RELEASE, 1, key, token)


async def _renewed(client: Redis, key: str, token: str) -> None:
    while True:
        await asyncio.sleep(LOCK_MS / 4000)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await client.eval(_RENEW, 1, key, token, str(LOCK_MS))


async def _done(command: Any) -> Any:
    try:
        return await command
    except (RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error
