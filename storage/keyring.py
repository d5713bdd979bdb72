"""Data keys, wrapped by the master key, outside the store: destroying one makes unreadable what it sealed, wherever a
copy of that lies.

The default keyring is a SQLite file. Reads go straight to it from the event loop (a few microseconds out of the page
cache), all keys of an owner at once; creations that arrive together share one transaction, so that a burst of new chats
pays for one fsync. Several processes may use the file at once: by SQLite's ``data_version`` each looks, a hundred times
a second at most, whether another one destroyed keys, and drops its cache; ``destroy`` returns when all have to look.
Owners and names are stored as marks only, so the file names no chat.
"""

import asyncio
import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.connection import StoreTarget
from storage.datakey import CACHED_KEYS, Cache, DataKey, fresh_key, opened_key
from storage.errors import KeyringError, KeyringUnavailableError, MasterKeyWrongError, StorageError, StoreFullError
from storage.keyring_redis import RedisKeyring
from storage.masterkey import MasterKey, refuse_shared, sync_folder

__all__ = ["DataKey", "Keyring", "MasterKey", "RedisKeyring", "SqliteKeyring", "keyring_file", "open_keyring"]

_WRITE_BUSY_SECONDS = 10.0
_READ_BUSY_SECONDS = 1.0
_CLEAN_SECONDS = 10.0
_TRUSTED_SECONDS = 0.01
_KEYS_AT_ONCE = 8

_TABLES = """
CREATE TABLE IF NOT EXISTS identity (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL, master TEXT NOT NULL, destroyed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS data_key (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE, owner BLOB NOT NULL, name BLOB NOT NULL UNIQUE, wrapped BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS data_key_owner ON data_key (owner);
"""

# A row is a slot of fixed size that is never deleted, only overwritten where it lies and used again. Deleting would let
# SQLite move rows between pages, and it leaves stale copies of moved rows there, whatever `secure_delete` says.
_FREE = """
UPDATE data_key
SET id = randomblob(16), owner = zeroblob(16), name = randomblob(16), wrapped = zeroblob(length(wrapped))
"""
_FREE_OWNER = f"{_FREE} WHERE owner = ?"
_FREE_NAME = f"{_FREE} WHERE name = ?"
_REUSE = """
UPDATE data_key SET id = ?, owner = ?, name = ?, wrapped = ?
WHERE number = (SELECT number FROM data_key WHERE owner = zeroblob(16) LIMIT 1)
"""

_NEWEST = f"SELECT id, name, wrapped FROM data_key WHERE owner = ? ORDER BY number DESC LIMIT {_KEYS_AT_ONCE}"  # noqa: S608

T = TypeVar("T")


class Keyring(Protocol):
    """Where data keys live. All methods raise KeyringUnavailableError when it cannot be read or written."""

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
        """What stands for these names of an owner, or without any for all keys it has now, ``but`` one."""

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = ()) -> int:
        """Erase keys of an owner, all where neither names nor marks are given; how many there were. When it returns, no
        copy is in the keyring."""

    async def aclose(self) -> None: ...


class SqliteKeyring:
    """The keyring in a file (0600, WAL, synchronous=FULL, secure_delete). Open it with ``open_keyring``."""

    durability = "nothing that was confirmed is lost"

    def __init__(self, path: Path, master: MasterKey, identity: str, *, bound: int = CACHED_KEYS) -> None:
        self.identity = identity
        self._path = path
        self._master = master
        self._cache = Cache(bound)
        self._reader = _connection(path, _READ_BUSY_SECONDS)
        self._writer = _connection(path, _WRITE_BUSY_SECONDS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keyring")
        self._wanted: dict[tuple[str, str], asyncio.Future[DataKey]] = {}
        self._commits: asyncio.Task[None] | None = None
        self._data_version = self._destroyed = -1
        self._trusted_until = 0.0
        self._closed = False

    def cached(self, owner: str, name: str) -> DataKey | None:
        self._drop_destroyed()
        return self._cache.named(self._master.mark(owner, name))

    async def obtain(self, owner: str, name: str) -> DataKey:
        self._drop_destroyed()
        mark = self._master.mark(owner, name)
        found = self._cache.named(mark) or self._read_owner(owner, mark) or self._read_named(mark)
        return found or await self._created(owner, name)

    async def found(self, owner: str, name: str) -> DataKey | None:
        self._drop_destroyed()
        mark = self._master.mark(owner, name)
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
            return [self._master.mark(owner, name) for name in names]
        kept = self._master.mark(owner, but)
        found = self._read("SELECT name FROM data_key WHERE owner = ?", self._master.mark(owner))
        return [mark for (mark,) in found if mark != kept]

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = ()) -> int:
        found = list(marks) or [self._master.mark(owner, name) for name in names]
        count = await self._written(partial(self._erase, owner, found))
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
            raise _translated(self._path, error) from error

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
                self._cache.put(key, self._master.mark(owner, name))
                batch[owner, name].set_result(key)

    async def _written(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise _translated(self._path, error) from error

    def _insert(self, names: list[tuple[str, str]]) -> dict[tuple[str, str], DataKey]:
        with _transaction(self._writer):
            return {(owner, name): self._stored(owner, name) for owner, name in names}

    def _stored(self, owner: str, name: str) -> DataKey:
        mark = self._master.mark(owner, name)
        # Another process may have made it since we looked: the first one stands.
        row = self._writer.execute("SELECT id, wrapped FROM data_key WHERE name = ?", (mark,)).fetchone()
        if row is None:
            row = fresh_key(self._master, mark)
            slot = (row[0], self._master.mark(owner), mark, row[1])
            if not self._writer.execute(_REUSE, slot).rowcount:
                self._writer.execute("INSERT INTO data_key (id, owner, name, wrapped) VALUES (?, ?, ?, ?)", slot)
        return opened_key(self._master, row[0], mark, row[1])

    def _erase(self, owner: str, marks: list[bytes]) -> int:
        with _transaction(self._writer):
            statement, given = (_FREE_NAME, marks) if marks else (_FREE_OWNER, [self._master.mark(owner)])
            count = sum(self._writer.execute(statement, (mark,)).rowcount for mark in given)
            self._writer.execute("UPDATE identity SET destroyed = destroyed + ?", (count,))
        self._empty_log()
        return count

    def _empty_log(self) -> None:
        """The write-ahead log still holds the pages as they were: copy it into the file and cut it to nothing."""
        deadline = time.monotonic() + _CLEAN_SECONDS
        while self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise KeyringUnavailableError(
                    f"The keys are erased from {self._path}, but its log cannot be emptied: another program reads it."
                )
            time.sleep(0.01)
        with contextlib.suppress(FileNotFoundError):
            _sync_file(Path(f"{self._path}-wal"))


async def open_keyring(url: str, master: MasterKey, *, create: bool) -> Keyring:
    """Open ``sqlite:PATH`` or a second server, ``redis://…``. Without ``create`` nothing is made, not even a file.

    Raises KeyringUnavailableError, and MasterKeyWrongError when the keyring belongs to another master key.
    """
    path = keyring_file(url)
    if path is not None:
        return await asyncio.to_thread(_open_file, path, master, create=create)
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


def _open_file(path: Path, master: MasterKey, *, create: bool) -> SqliteKeyring:
    try:
        if create:
            _create_file(path)
        elif not path.is_file():
            raise KeyringUnavailableError(
                f"The keyring {path} is not there, and what is stored opens only with it: "
                "put it back from your copy, or let KEYRING_URL name it."
            )
        refuse_shared(path, path.stat().st_mode)
        identity = _identity(path, master, create=create)
        return SqliteKeyring(path, master, identity)
    except (sqlite3.Error, OSError) as error:
        raise _translated(path, error) from error


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(path.parent)


def _identity(path: Path, master: MasterKey, *, create: bool) -> str:
    with contextlib.closing(_connection(path, _WRITE_BUSY_SECONDS)) as connection:
        if create:
            _make_tables(connection, master)
        row = connection.execute("SELECT id, master FROM identity").fetchone()
    if row is None:
        raise KeyringUnavailableError(f"The keyring {path} is empty: put it back from your copy.")
    if row[1] != master.fingerprint():
        raise MasterKeyWrongError(f"The keyring {path} belongs to another master key: let MASTER_KEY_FILE name it.")
    return str(row[0])


def _make_tables(connection: sqlite3.Connection, master: MasterKey) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    with _transaction(connection):
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO identity (only_row, id, master) VALUES (1, ?, ?) ON CONFLICT DO NOTHING",
            (secrets.token_hex(16), master.fingerprint()),
        )


def _connection(path: Path, busy_seconds: float) -> sqlite3.Connection:
    # `mode=rw`: a file that is missing is never made by looking for it.
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(path: Path, error: sqlite3.Error | OSError) -> StorageError:
    if "full" in str(error):
        return StoreFullError(f"The disk with the keyring {path} is full: free some space.")
    return KeyringUnavailableError(f"The keyring {path} cannot be used: {error}.")
