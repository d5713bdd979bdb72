"""The keyring's file: its tables, how it is opened and made, and the way from the first layout to this one.

A row of ``data_key`` is a slot of fixed size that is never deleted, only overwritten where it lies and used again.
Deleting would let SQLite move rows between pages, and it leaves stale copies of moved rows there, whatever
``secure_delete`` says. For the same reason a file in the first layout, whose rows have to move, is written anew.
"""

import asyncio
import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from storage.datakey import day_bytes
from storage.errors import KeyringUnavailableError, StorageError, StoreFullError
from storage.keyrecord import KeyringRecord, KeyRow, checked_rows
from storage.masterkey import MasterKey, refuse_shared, sync_folder

WRITE_BUSY_SECONDS = 10.0
READ_BUSY_SECONDS = 1.0
_CLEAN_SECONDS = 10.0
_RESTORED_AT_ONCE = 2000
_FILES = ("", "-wal", "-journal", "-shm")

_LAYOUT = 3
_UNCLEAN = 1
"""Keys have groups and days; stale copies of rows may lie about in the file. With 2 they do not."""

_IDENTITY = """
CREATE TABLE IF NOT EXISTS identity (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL, master TEXT NOT NULL, destroyed INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 1, names BLOB NOT NULL DEFAULT x'', former TEXT NOT NULL DEFAULT '',
    past TEXT NOT NULL DEFAULT '', copied INTEGER NOT NULL DEFAULT 0
)
"""
_EPOCHS = (
    "ALTER TABLE identity ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE identity ADD COLUMN names BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE identity ADD COLUMN former TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE identity ADD COLUMN past TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE identity ADD COLUMN copied INTEGER NOT NULL DEFAULT 0",
)

# `day` is a blob, big-endian: an integer takes more bytes the larger it is. The check refuses a service older than this
# layout, which would leave the new columns empty.
_KEYS = """
CREATE TABLE IF NOT EXISTS data_key (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE, owner BLOB NOT NULL, name BLOB NOT NULL UNIQUE, wrapped BLOB NOT NULL,
    group_mark BLOB NOT NULL, day BLOB NOT NULL CHECK (length(day) = 4),
    CHECK ((owner = zeroblob(16)) = (group_mark = zeroblob(16)))
)
"""
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS data_key_owner ON data_key (owner)",
    "CREATE INDEX IF NOT EXISTS data_key_day ON data_key (day)",
)
INSERT = "INSERT INTO data_key (id, owner, name, wrapped, group_mark, day) VALUES (?, ?, ?, ?, ?, ?)"

# Names had neither group nor day in the first layout: each is a group of its own.
_MOVE = (
    "DROP INDEX data_key_owner",
    "ALTER TABLE data_key RENAME TO data_key_1",
    _KEYS,
    """
    INSERT INTO data_key (number, id, owner, name, wrapped, group_mark, day)
    SELECT number, id, owner, name, wrapped, CASE owner WHEN zeroblob(16) THEN owner ELSE name END, zeroblob(4)
    FROM data_key_1 ORDER BY number
    """,
    "DROP TABLE data_key_1",
    *_INDEXES,
)


def open_file(path: Path, master: MasterKey, *, create: bool) -> KeyringRecord:
    """The record of the keyring in that file, which is in this layout when this returns. Without ``create`` nothing is
    made. Raises KeyringUnavailableError, MasterKeyWrongError."""
    try:
        if create:
            _create(path)
        elif not path.is_file():
            raise KeyringUnavailableError(
                f"The keyring {path} is not there, and what is stored opens only with it: "
                "put it back from your copy, or let KEYRING_URL name it."
            )
        refuse_shared(path, path.stat().st_mode)
        with contextlib.closing(connection(path, WRITE_BUSY_SECONDS)) as opened:
            if create:
                opened.execute("PRAGMA journal_mode = WAL")
                _make_tables(opened, KeyringRecord(secrets.token_hex(16), master.fingerprint()))
            row = opened.execute("SELECT master FROM identity").fetchone()
            if row is None:
                raise KeyringUnavailableError(f"The keyring {path} is empty: put it back from your copy.")
            master.using(row[0])  # refused before anything is touched
            _upgrade(opened, path)
            return read_record(opened)
    except (sqlite3.Error, OSError) as error:
        raise translated(path, error) from error


def read_record(opened: sqlite3.Connection) -> KeyringRecord:
    row = opened.execute("SELECT id, master, epoch, names, former, past FROM identity").fetchone()
    keyring_id, master, epoch, names, former, past = row
    return KeyringRecord(keyring_id, master, epoch, names, former, tuple(past.split()))


def write_record(opened: sqlite3.Connection, record: KeyringRecord) -> None:
    opened.execute(
        "UPDATE identity SET id = ?, master = ?, epoch = ?, names = ?, former = ?, past = ?",
        (record.id, record.master, record.epoch, record.names, record.former, " ".join(record.past)),
    )


def connection(path: Path, busy_seconds: float) -> sqlite3.Connection:
    # `mode=rw`: a file that is missing is never made by looking for it.
    opened = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    opened.execute("PRAGMA secure_delete = ON")
    opened.execute("PRAGMA synchronous = FULL")
    opened.execute("PRAGMA temp_store = MEMORY")  # what a large statement sets aside would be keys in a folder for all
    return opened


@contextlib.contextmanager
def transaction(opened: sqlite3.Connection) -> Iterator[None]:
    opened.execute("BEGIN IMMEDIATE")
    try:
        yield
        opened.execute("COMMIT")
    except BaseException:
        if opened.in_transaction:
            opened.execute("ROLLBACK")
        raise


def empty_log(opened: sqlite3.Connection, path: Path) -> None:
    """The write-ahead log still holds the pages as they were: copy it into the file and cut it to nothing."""
    deadline = time.monotonic() + _CLEAN_SECONDS
    while opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise KeyringUnavailableError(
                f"The keys are erased from {path}, but its log cannot be emptied: another program reads it."
            )
        time.sleep(0.01)
    with contextlib.suppress(FileNotFoundError):
        _sync_file(Path(f"{path}-wal"))


def translated(path: Path, error: sqlite3.Error | OSError) -> StorageError:
    if "full" in str(error):
        return StoreFullError(f"The disk with the keyring {path} is full: free some space.")
    return KeyringUnavailableError(f"The keyring {path} cannot be used: {error}.")


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(path.parent)


def _make_tables(opened: sqlite3.Connection, record: KeyringRecord) -> None:
    """Unless there are some, whose record stands then."""
    with transaction(opened):
        if opened.execute("SELECT 1 FROM sqlite_schema WHERE name = 'data_key'").fetchone():
            return
        for statement in (_IDENTITY, _KEYS, *_INDEXES, f"PRAGMA user_version = {_LAYOUT}"):
            opened.execute(statement)
        opened.execute("INSERT INTO identity (only_row, id, master) VALUES (1, '', '')")
        write_record(opened, record)


async def restore_file(path: Path, record: KeyringRecord, rows: AsyncIterator[KeyRow]) -> int:
    """Make a keyring file out of a copy; how many keys it holds. It is made beside its place, and put there whole.
    Raises KeyringUnavailableError where there is a keyring, or what is left of one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        writer = await asyncio.to_thread(_begin_restoring, path, fresh, record)
        with contextlib.closing(writer):
            batch: list[KeyRow] = []
            async for row in rows:
                batch.append(row)
                if len(batch) == _RESTORED_AT_ONCE:
                    await asyncio.to_thread(_add, writer, batch)
                    batch = []
            await asyncio.to_thread(_add, writer, batch)
            count = int(writer.execute("SELECT count(*) FROM data_key").fetchone()[0])
            writer.execute("PRAGMA journal_mode = WAL")
        await asyncio.to_thread(_put, fresh, path)
    finally:
        await asyncio.to_thread(_clear, fresh)
    return count


def _begin_restoring(path: Path, fresh: Path, record: KeyringRecord) -> sqlite3.Connection:
    # A log left behind by a keyring that is gone would be taken for the new one's.
    for old in (Path(f"{path}{end}") for end in _FILES):
        if old.exists() or old.is_symlink():
            raise _occupied(old)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    writer = connection(fresh, WRITE_BUSY_SECONDS)
    writer.execute("PRAGMA journal_mode = MEMORY")
    _make_tables(writer, record)
    return writer


def _add(writer: sqlite3.Connection, rows: Sequence[KeyRow]) -> None:
    slots = [(row.id, row.owner, row.name, row.wrapped, row.group, day_bytes(row.day)) for row in checked_rows(rows)]
    with transaction(writer):
        writer.executemany(f"{INSERT} ON CONFLICT DO NOTHING", slots)


def _put(fresh: Path, path: Path) -> None:
    _sync_file(fresh)
    try:
        os.link(fresh, path)
    except FileExistsError as error:
        raise _occupied(path) from error
    sync_folder(path.parent)


def _clear(fresh: Path) -> None:
    for end in _FILES:
        Path(f"{fresh}{end}").unlink(missing_ok=True)


def _occupied(path: Path) -> KeyringUnavailableError:
    return KeyringUnavailableError(f"There is a keyring {path} already: move it away first.")


def _upgrade(opened: sqlite3.Connection, path: Path) -> None:
    """From the first layout to this one. Killed anywhere, the next to open it goes on."""
    if _layout(opened, path) == _LAYOUT:
        return
    with transaction(opened):
        # Another process may have come first.
        if _layout(opened, path) < _UNCLEAN:
            for statement in (*_MOVE, f"PRAGMA user_version = {_UNCLEAN}"):
                opened.execute(statement)
    if _layout(opened, path) == _UNCLEAN:
        # The rows were moved, and are moved once more; the file is then cut to what is in use, its log to nothing.
        opened.execute("VACUUM")
        empty_log(opened, path)
    with transaction(opened):
        if _layout(opened, path) < _LAYOUT:
            for statement in (*_EPOCHS, f"PRAGMA user_version = {_LAYOUT}"):
                opened.execute(statement)


def _layout(opened: sqlite3.Connection, path: Path) -> int:
    found = int(opened.execute("PRAGMA user_version").fetchone()[0])
    if found > _LAYOUT:
        raise KeyringUnavailableError(f"The keyring {path} was written by a newer service: install that one again.")
    return found


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
