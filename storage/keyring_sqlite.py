"""The keyring in a SQLite file, which several processes may use at once.

Reads go straight to it from the event loop (a few microseconds out of the page cache), all keys of an owner at once;
creations that arrive together share one transaction, so that a burst of new chats pays for one fsync. By SQLite's
``data_version`` each process looks, a hundred times a second at most, whether another one destroyed keys or rotated the
master key; ``destroy`` returns when all have to look. Owners and names are stored as marks only.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from storage.datakey import CACHED_KEYS, Cache, DataKey, day_bytes, fresh_key, group_and_day, name_mark, opened_key
from storage.errors import KeyringUnavailableError, SealBrokenError, StorageError
from storage.keyrecord import KeyringRecord, KeyRow, Rewrapped, opened, wrapped_alike
from storage.keyring_layout import (
    INSERT,
    READ_BUSY_SECONDS,
    WRITE_BUSY_SECONDS,
    connection,
    empty_log,
    open_file,
    read_record,
    transaction,
    translated,
    write_record,
)
from storage.masterkey import MasterKey

_TRUSTED_SECONDS = 0.01
_KEYS_AT_ONCE = 8
_EXPIRED_AT_ONCE = 5000
_ROWS_AT_ONCE = 2000

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
_STANDING = """
SELECT number, id, owner, name, group_mark, day, wrapped FROM data_key
WHERE number > ? AND owner != zeroblob(16) ORDER BY number LIMIT ?
"""
_NEWEST = f"SELECT id, name, wrapped FROM data_key WHERE owner = ? ORDER BY number DESC LIMIT {_KEYS_AT_ONCE}"  # noqa: S608

T = TypeVar("T")
_Erasure = tuple[str, tuple[bytes, ...]]


class SqliteKeyring:
    """The keyring in a file (0600, WAL, synchronous=FULL, secure_delete). Open it with ``open_keyring``."""

    durability = "nothing that was confirmed is lost"

    def __init__(self, path: Path, master: MasterKey, record: KeyringRecord, *, bound: int = CACHED_KEYS) -> None:
        self.identity = record.id
        self._path = path
        self._opened = opened(master, record)
        self._names = self._opened.names
        self._cache = Cache(bound)
        self._reader = connection(path, READ_BUSY_SECONDS)
        self._writer = connection(path, WRITE_BUSY_SECONDS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keyring")
        self._wanted: dict[tuple[str, str], asyncio.Future[DataKey]] = {}
        self._commits: asyncio.Task[None] | None = None
        self._data_version = self._destroyed = -1
        self._trusted_until = 0.0
        self._closed = False

    @classmethod
    def open(cls, path: Path, master: MasterKey, *, create: bool) -> Self:
        record = open_file(path, master, create=create)
        try:
            return cls(path, master, record)
        except sqlite3.Error as error:
            raise translated(path, error) from error

    def cached(self, owner: str, name: str) -> DataKey | None:
        self._catch_up()
        return self._cache.named(name_mark(self._names, owner, name))

    async def obtain(self, owner: str, name: str) -> DataKey:
        self._catch_up()
        mark = name_mark(self._names, owner, name)
        found = self._cache.named(mark) or self._read_owner(owner, mark) or self._read_named(mark)
        return found or await self._created(owner, name)

    async def found(self, owner: str, name: str) -> DataKey | None:
        self._catch_up()
        mark = name_mark(self._names, owner, name)
        return self._cache.named(mark) or self._read_named(mark)

    async def by_id(self, key_id: bytes) -> DataKey | None:
        self._catch_up()
        found = self._cache.with_id(key_id)
        if found is not None:
            return found
        rows = self._read("SELECT id, name, wrapped FROM data_key WHERE id = ?", key_id)
        return self._kept(rows[0]) if rows else None

    async def marks(self, owner: str, *names: str, but: str = "") -> list[bytes]:
        if names:
            return [name_mark(self._names, owner, name) for name in names]
        kept = self._names.mark(owner, but)
        found = self._read("SELECT name, group_mark FROM data_key WHERE owner = ?", self._names.mark(owner))
        return [mark for mark, group in found if group != kept]

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        found = [*marks, *(name_mark(self._names, owner, name) for name in names)]
        wanted: list[_Erasure] = [(_FREE_NAME, (mark,)) for mark in found]
        own = self._names.mark(owner)
        wanted += [(_FREE_GROUP, (own, self._names.mark(owner, group))) for group in groups]
        return await self._cleaned(await self._written(partial(self._erase, wanted or [(_FREE_OWNER, (own,))])))

    async def expire(self, before: int, owner: str | None = None) -> int:
        values = (day_bytes(before),) if owner is None else (day_bytes(before), self._names.mark(owner))
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

    # ---- the whole of it: for rotations and copies
    async def record(self) -> KeyringRecord:
        return await self._written(partial(read_record, self._writer))

    async def count(self) -> int:
        counted = "SELECT count(*) FROM data_key WHERE owner != zeroblob(16)"
        return int((await self._written(lambda: self._writer.execute(counted).fetchone()))[0])

    async def switch(self, record: KeyringRecord, master: str) -> KeyringRecord:
        return await self._written(partial(self._switched, record, master))

    async def rewrap(self, record: KeyringRecord) -> AsyncIterator[Rewrapped]:
        after = 0
        while True:
            after, step = await self._written(partial(self._rewrapped, record, after))
            if not step.seen:
                break
            yield step
        await self._written(partial(self._settle, record))

    async def rows(self, record: KeyringRecord) -> AsyncIterator[KeyRow]:
        after = 0
        while page := await self._written(partial(self._page, record, after)):
            for _, row in page:
                yield row
            after = page[-1][0]

    async def copied_at(self) -> int:
        return int((await self._written(lambda: self._writer.execute("SELECT copied FROM identity").fetchone()))[0])

    async def note_copy(self, seconds: int) -> None:
        statement = "UPDATE identity SET copied = max(copied, ?)"
        await self._written(lambda: self._writer.execute(statement, (seconds,)))

    def _switched(self, record: KeyringRecord, master: str) -> KeyringRecord:
        with transaction(self._writer):
            self._refuse_other_epoch(record)
            following = record.switched(opened(self._opened.master.reloaded(), record), master)
            write_record(self._writer, following)
        self._follow(self._writer)
        empty_log(self._writer, self._path)
        return following

    def _rewrapped(self, record: KeyringRecord, after: int) -> tuple[int, Rewrapped]:
        broken = 0
        with transaction(self._writer):
            self._refuse_other_epoch(record)
            self._follow(self._writer)
            rows = self._writer.execute(_STANDING, (after, _ROWS_AT_ONCE)).fetchall()
            fresh: list[tuple[bytes, int]] = []
            for number, key_id, _, name, _, _, wrapped in rows:
                try:
                    found = self._opened.master.rewrapped(wrapped, key_id + name)
                except SealBrokenError:
                    broken += 1
                    continue
                if found is not None:
                    fresh.append((found, number))
            self._writer.executemany("UPDATE data_key SET wrapped = ? WHERE number = ?", fresh)
        return (rows[-1][0] if rows else after), Rewrapped(len(rows), broken)

    def _settle(self, record: KeyringRecord) -> None:
        # In this order: only once no file holds a key that the former master key opens may that one go.
        empty_log(self._writer, self._path)
        with transaction(self._writer):
            self._refuse_other_epoch(record)
            write_record(self._writer, record.settled())
        empty_log(self._writer, self._path)

    def _page(self, record: KeyringRecord, after: int) -> list[tuple[int, KeyRow]]:
        with transaction(self._writer):
            self._refuse_other_epoch(record)
            self._follow(self._writer)
            rows = self._writer.execute(_STANDING, (after, _ROWS_AT_ONCE)).fetchall()
        master = self._opened.master
        return [
            (number, wrapped_alike(master, record, KeyRow(key_id, owner, name, group, int.from_bytes(day), wrapped)))
            for number, key_id, owner, name, group, day, wrapped in rows
        ]

    def _refuse_other_epoch(self, record: KeyringRecord) -> None:
        if read_record(self._writer).epoch != record.epoch:
            raise KeyringUnavailableError("The master key was rotated meanwhile: begin again.")

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._commits is not None:
            await asyncio.wait({self._commits})
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._reader.close()
        self._thread.shutdown(wait=False)

    def _catch_up(self) -> None:
        """Forget what any process destroyed, and follow a rotation. ``data_version`` moves with each commit of another
        connection."""
        now = time.monotonic()
        if now < self._trusted_until:
            return
        self._trusted_until = now + _TRUSTED_SECONDS
        self._look()

    def _look(self) -> None:
        version = int(self._read("PRAGMA data_version")[0][0])
        if version == self._data_version:
            return
        destroyed, epoch = self._read("SELECT destroyed, epoch FROM identity")[0]
        if destroyed != self._destroyed:
            self._cache.clear()
        if epoch != self._opened.epoch:
            with contextlib.suppress(StorageError):  # what is at hand still serves; who needs more is told
                self._follow(self._reader)
        self._data_version, self._destroyed = version, destroyed

    def _read_owner(self, owner: str, mark: bytes) -> DataKey | None:
        """The key of that mark, if it is among the newest of its owner; the others are wanted next, and are kept."""
        for row in self._read(_NEWEST, self._names.mark(owner)):
            self._kept(row)
        return self._cache.named(mark)

    def _read_named(self, mark: bytes) -> DataKey | None:
        rows = self._read("SELECT id, name, wrapped FROM data_key WHERE name = ?", mark)
        return self._kept(rows[0]) if rows else None

    def _kept(self, row: tuple[bytes, bytes, bytes]) -> DataKey:
        key_id, mark, wrapped = row
        found = self._cache.with_id(key_id)
        if found is None:
            found = self._unwrapped(key_id, mark, wrapped)
            self._cache.put(found, mark)
        return found

    def _unwrapped(self, key_id: bytes, mark: bytes, wrapped: bytes) -> DataKey:
        known = self._opened
        try:
            return opened_key(known.master, key_id, mark, wrapped)
        except SealBrokenError:
            self._follow(self._reader)
            if self._opened.epoch == known.epoch:
                raise
        # A rotation began since we looked.
        return opened_key(self._opened.master, key_id, mark, wrapped)

    def _follow(self, looker: sqlite3.Connection) -> None:
        """Go over to the master key of the keyring's present epoch; the file holds it before the keyring does."""
        try:
            record = read_record(looker)
        except sqlite3.Error as error:
            raise translated(self._path, error) from error
        if record.epoch != self._opened.epoch:
            self._opened = opened(self._opened.master.reloaded(), record)

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
                self._cache.put(key, name_mark(self._names, owner, name))
                batch[owner, name].set_result(key)

    async def _written(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise translated(self._path, error) from error

    def _insert(self, names: list[tuple[str, str]]) -> dict[tuple[str, str], DataKey]:
        with transaction(self._writer):
            self._follow(self._writer)  # nothing is wrapped by a master key that is being given up
            return {(owner, name): self._stored(owner, name) for owner, name in names}

    def _stored(self, owner: str, name: str) -> DataKey:
        master, mark = self._opened.master, name_mark(self._names, owner, name)
        # Another process may have made it since we looked: the first one stands.
        row = self._writer.execute("SELECT id, wrapped FROM data_key WHERE name = ?", (mark,)).fetchone()
        if row is None:
            row = fresh_key(master, mark)
            group, day = group_and_day(name)
            own = self._names.mark(owner)
            slot = (row[0], own, mark, row[1], self._names.mark(owner, group), day_bytes(day))
            if not self._writer.execute(_REUSE, slot).rowcount:
                self._writer.execute(INSERT, slot)
        return opened_key(master, row[0], mark, row[1])

    def _erase(self, wanted: list[_Erasure]) -> int:
        with transaction(self._writer):
            count = sum(self._writer.execute(statement, values).rowcount for statement, values in wanted)
            self._writer.execute("UPDATE identity SET destroyed = destroyed + ?", (count,))
        empty_log(self._writer, self._path)
        return count
