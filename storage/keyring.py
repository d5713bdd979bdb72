"""Data keys, wrapped by the master key, outside the store: destroying one makes unreadable what it sealed, wherever a
copy of that lies.

The default keyring is a SQLite file. Reads go straight to it from the event loop (a few microseconds out of the page
cache), all keys of an owner at once; creations that arrive together share one transaction, so that a burst of new chats
pays for one fsync. Several processes may use the file at once: by SQLite's ``data_version`` each looks, a hundred times
a second at most, whether another one destroyed keys, and drops its cache; ``destroy`` returns when all have to look.
Owners and names are stored as marks only, so the file names no chat.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.connection import StoreTarget
from storage.datakey import CACHED_KEYS, Cache, DataKey, day_bytes, fresh_key, group_and_day, name_mark, opened_key
from storage.errors import KeyringError, KeyringUnavailableError, StorageError
from storage.keyring_layout import (
    READ_BUSY_SECONDS,
    WRITE_BUSY_SECONDS,
    connection,
    empty_log,
    open_file,
    transaction,
    translated,
)
from storage.keyring_redis import RedisKeyring
from storage.masterkey import MasterKey

__all__ = ["DataKey", "Keyring", "MasterKey", "RedisKeyring", "SqliteKeyring", "keyring_file", "open_keyring"]

_TRUSTED_SECONDS = 0.01
_KEYS_AT_ONCE = 8
_EXPIRED_AT_ONCE = 5000

# A slot is freed by noise of the same size (see storage/keyring_layout.py).
_FREE = """
UPDATE data_key
SET id = randomblob(16), owner = zeroblob(16), name = randomblob(16), wrapped = zeroblob(length(wrapped)),
    group_mark = zeroblob(16), day = zeroblob(4)
"""
_FREE_OWNER = f"{_FREE} WHERE owner = ?"
_FREE_NAME = f"{_FREE} WHERE name = ?"
_FREE_GROUP = f"{_FREE} WHERE owner = ? AND group_mark = ?"
_OVER = "SELECT number FROM data_key WHERE day > zeroblob(4) AND day < ?"
_FREE_OVER = f"{_FREE} WHERE number IN ({_OVER} LIMIT {_EXPIRED_AT_ONCE})"
_FREE_OVER_OWNER = f"{_FREE} WHERE number IN ({_OVER} AND owner = ? LIMIT {_EXPIRED_AT_ONCE})"
_REUSE = """
UPDATE data_key SET id = ?, owner = ?, name = ?, wrapped = ?, group_mark = ?, day = ?
WHERE number = (SELECT number FROM data_key WHERE owner = zeroblob(16) LIMIT 1)
"""
_INSERT = "INSERT INTO data_key (id, owner, name, wrapped, group_mark, day) VALUES (?, ?, ?, ?, ?, ?)"

_NEWEST = f"SELECT id, name, wrapped FROM data_key WHERE owner = ? ORDER BY number DESC LIMIT {_KEYS_AT_ONCE}"  # noqa: S608

T = TypeVar("T")
_Erasure = tuple[str, tuple[bytes, ...]]


class Keyring(Protocol):
    """Where data keys live. All methods raise KeyringUnavailableError when it cannot be read or written.

    A name is ``GROUP``, ``GROUP/DAY`` or ``GROUP/DAY.N``. The day counts UTC days since 1970: it is the last one of the
    period whose content the key seals, and 0, like none, stands for no end. ``N`` tells keys of one day apart.
    """

    identity: str
    durability: str

    async def obtain(self, owner: str, name: str) -> DataKey:
        """The key of that name, made if there is none; on disk when this returns. Everybody gets the same one."""

    def cached(self, owner: str, name: str) -> DataKey | None:
        """The key, when it is at hand without waiting."""

    async def by_id(self, key_id: bytes) -> DataKey | None:
        """The key with that id; None when there is none (any more)."""

    async def found(self, owner: str, name: str) -> DataKey | None:
        """The key of that name; None when there is none (any more)."""

    async def marks(self, owner: str, *names: str, but: str = "") -> list[bytes]:
        """What stands for these names of an owner, or without any for all keys it has now, ``but`` those of one
        group."""

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        """Erase keys of an owner: those of these names, of these marks and of these groups; all where none of the
        three is given. How many there were. When it returns, no copy is in the keyring."""

    async def expire(self, before: int, owner: str | None = None) -> int:
        """Erase, as ``destroy`` does, every key whose day lies before that day: of one owner, or of all."""

    async def aclose(self) -> None: ...


class SqliteKeyring:
    """The keyring in a file (0600, WAL, synchronous=FULL, secure_delete). Open it with ``open_keyring``."""

    durability = "nothing that was confirmed is lost"

    def __init__(self, path: Path, master: MasterKey, identity: str, *, bound: int = CACHED_KEYS) -> None:
        self.identity = identity
        self._path = path
        self._master = master
        self._cache = Cache(bound)
        self._reader = connection(path, READ_BUSY_SECONDS)
        self._writer = connection(path, WRITE_BUSY_SECONDS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keyring")
        self._wanted: dict[tuple[str, str], asyncio.Future[DataKey]] = {}
        self._commits: asyncio.Task[None] | None = None
        self._data_version = self._destroyed = -1
        self._trusted_until = 0.0
        self._closed = False

    def cached(self, owner: str, name: str) -> DataKey | None:
        self._drop_destroyed()
        return self._cache.named(name_mark(self._master, owner, name))

    async def obtain(self, owner: str, name: str) -> DataKey:
        self._drop_destroyed()
        mark = name_mark(self._master, owner, name)
        found = self._cache.named(mark) or self._read_owner(owner, mark) or self._read_named(mark)
        return found or await self._created(owner, name)

    async def found(self, owner: str, name: str) -> DataKey | None:
        self._drop_destroyed()
        mark = name_mark(self._master, owner, name)
        return self._cache.named(mark) or self._read_named(mark)

    async def by_id(self, key_id: bytes) -> DataKey | None:
        self._drop_destroyed()
        found = self._cache.with_id(key_id)
        if found is not None:
            return found
        rows = self._read("SELECT id, name, wrapped FROM data_key WHERE id = ?", key_id)
        return self._kept(rows[0]) if rows else None

    async def marks(self, owner: str, *names: str, but: str = "") -> list[bytes]:
        if names:
            return [name_mark(self._master, owner, name) for name in names]
        kept = self._master.mark(owner, but)
        found = self._read("SELECT name, group_mark FROM data_key WHERE owner = ?", self._master.mark(owner))
        return [mark for mark, group in found if group != kept]

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        found = [*marks, *(name_mark(self._master, owner, name) for name in names)]
        wanted: list[_Erasure] = [(_FREE_NAME, (mark,)) for mark in found]
        own = self._master.mark(owner)
        wanted += [(_FREE_GROUP, (own, self._master.mark(owner, group))) for group in groups]
        return await self._cleaned(await self._written(partial(self._erase, wanted or [(_FREE_OWNER, (own,))])))

    async def expire(self, before: int, owner: str | None = None) -> int:
        values = (day_bytes(before),) if owner is None else (day_bytes(before), self._master.mark(owner))
        statement = _FREE_OVER if owner is None else _FREE_OVER_OWNER
        count = 0
        # In steps, so that who creates a key meanwhile does not wait for all of them.
        while some := await self._written(partial(self._erase, [(statement, values)])):
            count += some
        return await self._cleaned(count)

    async def _cleaned(self, count: int) -> int:
        erased = time.monotonic()
        self._cache.clear()
        # Others may still trust what they have read. A tenth more, for clocks that do not run alike.
        await asyncio.sleep(max(0.0, erased + _TRUSTED_SECONDS * 1.1 - time.monotonic()))
        return count

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._commits is not None:
            await asyncio.wait({self._commits})
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._reader.close()
        self._thread.shutdown(wait=False)

    def _drop_destroyed(self) -> None:
        """Forget what any process destroyed. ``data_version`` moves with each commit of another connection."""
        now = time.monotonic()
        if now < self._trusted_until:
            return
        self._trusted_until = now + _TRUSTED_SECONDS
        version = int(self._read("PRAGMA data_version")[0][0])
        if version == self._data_version:
            return
        destroyed = int(self._read("SELECT destroyed FROM identity")[0][0])
        if destroyed != self._destroyed:
            self._cache.clear()
        self._data_version, self._destroyed = version, destroyed

    def _read_owner(self, owner: str, mark: bytes) -> DataKey | None:
        """The key of that mark, if it is among the newest of its owner; the others are wanted next, and are kept."""
        for row in self._read(_NEWEST, self._master.mark(owner)):
            self._kept(row)
        return self._cache.named(mark)

    def _read_named(self, mark: bytes) -> DataKey | None:
        rows = self._read("SELECT id, name, wrapped FROM data_key WHERE name = ?", mark)
        return self._kept(rows[0]) if rows else None

    def _kept(self, row: tuple[bytes, bytes, bytes]) -> DataKey:
        key_id, mark, wrapped = row
        found = self._cache.with_id(key_id)
        if found is None:
            found = opened_key(self._master, key_id, mark, wrapped)
            self._cache.put(found, mark)
        return found

    def _read(self, statement: str, *values: bytes) -> list[Any]:
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise translated(self._path, error) from error

    async def _created(self, owner: str, name: str) -> DataKey:
        if self._closed:
            raise KeyringUnavailableError("The keyring is closed.")
        wanted = self._wanted.get((owner, name))
        if wanted is None:
            wanted = self._wanted[owner, name] = asyncio.get_running_loop().create_future()
            wanted.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._commits is None or self._commits.done():
            self._commits = asyncio.create_task(self._commit_wanted(), name="keyring commits")
        return await asyncio.shield(wanted)

    async def _commit_wanted(self) -> None:
        """All that is wanted by now in one transaction; what arrives meanwhile in the next."""
        while self._wanted:
            batch, self._wanted = self._wanted, {}
            try:
                keys = await self._written(partial(self._insert, list(batch)))
            except StorageError as error:
                for wanted in batch.values():
                    wanted.set_exception(error)
                continue
            except BaseException:
                for wanted in batch.values():
                    wanted.cancel()
                raise
            for (owner, name), key in keys.items():
                self._cache.put(key, name_mark(self._master, owner, name))
                batch[owner, name].set_result(key)

    async def _written(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise translated(self._path, error) from error

    def _insert(self, names: list[tuple[str, str]]) -> dict[tuple[str, str], DataKey]:
        with transaction(self._writer):
            return {(owner, name): self._stored(owner, name) for owner, name in names}

    def _stored(self, owner: str, name: str) -> DataKey:
        mark = name_mark(self._master, owner, name)
        # Another process may have made it since we looked: the first one stands.
        row = self._writer.execute("SELECT id, wrapped FROM data_key WHERE name = ?", (mark,)).fetchone()
        if row is None:
            row = fresh_key(self._master, mark)
            group, day = group_and_day(name)
            own = self._master.mark(owner)
            slot = (row[0], own, mark, row[1], self._master.mark(owner, group), day_bytes(day))
            if not self._writer.execute(_REUSE, slot).rowcount:
                self._writer.execute(_INSERT, slot)
        return opened_key(self._master, row[0], mark, row[1])

    def _erase(self, wanted: list[_Erasure]) -> int:
        with transaction(self._writer):
            count = sum(self._writer.execute(statement, values).rowcount for statement, values in wanted)
            self._writer.execute("UPDATE identity SET destroyed = destroyed + ?", (count,))
        empty_log(self._writer, self._path)
        return count


async def open_keyring(url: str, master: MasterKey, *, create: bool) -> Keyring:
    """Open ``sqlite:PATH`` or a second server, ``redis://…``. Without ``create`` nothing is made, not even a file.

    Raises KeyringUnavailableError, and MasterKeyWrongError when the keyring belongs to another master key.
    """
    path = keyring_file(url)
    if path is not None:
        return await asyncio.to_thread(_opened_file, path, master, create=create)
    try:
        return await RedisKeyring.open(StoreTarget.parse(url), master, create=create)
    except KeyringError:
        raise
    except StorageError as error:
        raise KeyringUnavailableError(f"The keyring server cannot be used: {error}") from error


def keyring_file(url: str) -> Path | None:
    """The file that KEYRING_URL names; None for a server. Raises KeyringUnavailableError for anything else."""
    scheme, _, rest = url.strip().partition(":")
    if scheme in {"redis", "rediss", "unix"}:
        return None
    if scheme != "sqlite" or not rest.strip("/"):
        raise KeyringUnavailableError("KEYRING_URL must be sqlite:PATH, or redis:// for a second server.")
    return Path(rest.removeprefix("//"))


def _opened_file(path: Path, master: MasterKey, *, create: bool) -> SqliteKeyring:
    identity = open_file(path, master, create=create)
    try:
        return SqliteKeyring(path, master, identity)
    except sqlite3.Error as error:
        raise translated(path, error) from error
