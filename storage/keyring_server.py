"""What the keyring's server holds: the names of its keys, their values, and how they are made out of a copy.

======================  ======  ==================================================================================
key                     type    holds
======================  ======  ==================================================================================
keyring:identity        string  the record (JSON)
keyring:epoch           string  its epoch, for scripts; 1 where there is none
keyring:name:NAME       string  a key: its id in hex (32 characters), then its wrapped form in hex
keyring:id:ID           string  the mark of its name
keyring:owner:OWNER     set     an owner's keys: the marks of name and group, and the day (72 characters of hex); the
                                mark of the name alone where the key was made before there were groups
keyring:days            zset    ``OWNER`` and such a member, for keys that have a day, score = day
keyring:destroyed       string  raised by each destruction
keyring:copied          string  when it was last copied to a backup (Unix time)
keyring:restoring       string  a restore is under way: what is there is not whole
======================  ======  ==================================================================================
"""

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.connection import StoreTarget, connect, inspect
from storage.datakey import day_bytes
from storage.errors import KeyringUnavailableError, StorageError, translated
from storage.keyrecord import KeyringRecord, KeyRow, checked_rows
from storage.masterkey import MARK_BYTES

_CONNECTIONS = 8
_TIMEOUT_SECONDS = 5.0
ROWS_AT_ONCE = 500

# Whoever began to restore last goes on, and nothing of the others' is left: they cannot add any more.
_PUT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local prefix, count = ARGV[2], 0
for at = 3, #ARGV, 5 do
    local owner, member, id, wrapped, day = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
    local name = string.sub(member, 1, 32)
    count = count + redis.call('SADD', prefix .. ':owner:' .. owner, member)
    redis.call('SET', prefix .. ':name:' .. name, id .. wrapped)
    redis.call('SET', prefix .. ':id:' .. id, name)
    if day > 0 then redis.call('ZADD', prefix .. ':days', day, owner .. member) end
end
return count
"""

_FINISH = """
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return redis.call('DEL', KEYS[3])
"""

PREFIX = "keyring"
IDENTITY = f"{PREFIX}:identity"
EPOCH = f"{PREFIX}:epoch"
DESTROYED = f"{PREFIX}:destroyed"
DAYS = f"{PREFIX}:days"
COPIED = f"{PREFIX}:copied"
RESTORING = f"{PREFIX}:restoring"


async def restore_server(target: StoreTarget, record: KeyringRecord, rows: AsyncIterator[KeyRow]) -> int:
    """Make a keyring out of a copy on a server that holds none; how many keys it holds. Its record is written last:
    before that no service takes it for a keyring, and another attempt begins anew."""
    client, _ = await fit(target)
    token = secrets.token_hex(16)
    try:
        if await client.get(IDENTITY) is not None:
            raise KeyringUnavailableError("The server holds a keyring already: use another one, or another database.")
        if not await client.get(RESTORING) and [name async for name in client.scan_iter(f"{PREFIX}:*")]:
            raise KeyringUnavailableError(f"The server holds keys named {PREFIX}:… already: use another database.")
        await client.set(RESTORING, token)
        async for name in client.scan_iter(f"{PREFIX}:*", count=ROWS_AT_ONCE):
            if name != RESTORING.encode():
                await client.delete(name)
        count = await _fill(client, token, rows)
        values = (token, record_text(record), str(record.epoch))
        if not await client.eval(_FINISH, 3, IDENTITY, EPOCH, RESTORING, *values):
            raise _overtaken()
        return count
    except (RedisError, OSError, TimeoutError) as error:
        raise ours(error) from error
    finally:
        await client.aclose()


async def _fill(client: Redis, token: str, rows: AsyncIterator[KeyRow]) -> int:
    batch: list[KeyRow] = []
    count = 0
    async for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            count += await _put(client, token, batch)
            batch = []
    return count + await _put(client, token, batch)


async def _put(client: Redis, token: str, rows: Sequence[KeyRow]) -> int:
    """How many of them were not there yet."""
    given: list[str] = []
    for row in checked_rows(rows):
        member = (row.name + row.group + day_bytes(row.day)).hex()
        given += [row.owner.hex(), member, row.id.hex(), row.wrapped.hex(), str(row.day)]
    count = int(await client.eval(_PUT, 1, RESTORING, token, PREFIX, *given))
    if count < 0:
        raise _overtaken()
    return count


def _overtaken() -> KeyringUnavailableError:
    return KeyringUnavailableError("Another keyring is being put on the server: use another one.")


async def fit(target: StoreTarget) -> tuple[Redis, str]:
    """A client of a server that keeps what it is given, and the sentence on what a crash may cost."""
    client = await connect(target, connections=_CONNECTIONS, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        report = await inspect(client)
        for problem in report.problems:
            if problem.fatal:
                raise KeyringUnavailableError(f"The keyring server is not fit: {problem.sentence} {problem.cure}")
    except BaseException as error:
        await client.aclose()
        raise ours(error) from error
    return client, report.durability


def record_text(record: KeyringRecord) -> str:
    return json.dumps({**asdict(record), "names": record.names.hex()})


def record_of(text: bytes | str | None) -> KeyringRecord:
    if text is None:
        raise KeyringUnavailableError(
            "The keyring server holds no keyring, and what is stored opens only with it: "
            "restore it, or let KEYRING_URL name the right server."
        )
    found = json.loads(text)
    names, past = bytes.fromhex(found.get("names", "")), tuple(found.get("past", ()))
    return KeyringRecord(found["id"], found["master"], found.get("epoch", 1), names, found.get("former", ""), past)


def parts_of(value: bytes) -> tuple[bytes, bytes]:
    """Id and wrapped form."""
    return bytes.fromhex(value[:32].decode()), bytes.fromhex(value[32:].decode())


def group_in(member: bytes) -> bytes:
    """The mark of a key's group, in what its owner's set holds."""
    return member[MARK_BYTES : 2 * MARK_BYTES] or member


def mark_in(name: bytes) -> bytes:
    """The mark that the name of a key of the server ends in."""
    return bytes.fromhex(name.rpartition(b":")[2].decode())


def ours(error: BaseException) -> BaseException:
    if isinstance(error, StorageError) or not isinstance(error, RedisError | OSError | TimeoutError):
        return error
    return KeyringUnavailableError(f"The keyring server failed: {translated(error)}")
