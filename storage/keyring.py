"""Data keys, wrapped by the master key, outside the store: destroying one makes unreadable what it sealed, wherever a
copy of that lies.

The keyring is a SQLite file by default (storage/keyring_sqlite.py), or a second server for replicas on several machines
(storage/keyring_redis.py). Owners and names are kept as marks only, so that a keyring names no chat.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from storage.connection import StoreTarget
from storage.datakey import DataKey
from storage.errors import KeyringError, KeyringUnavailableError, StorageError
from storage.keyrecord import KeyringRecord, KeyRow, Rewrapped
from storage.keyring_layout import restore_file, translated
from storage.keyring_redis import RedisKeyring
from storage.keyring_server import restore_server
from storage.keyring_sqlite import SqliteKeyring
from storage.masterkey import MasterKey

__all__ = [
    "DataKey",
    "KeyRow",
    "Keyring",
    "KeyringRecord",
    "MasterKey",
    "RedisKeyring",
    "SqliteKeyring",
    "keyring_file",
    "open_keyring",
    "restore_keyring",
]


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

    async def record(self) -> KeyringRecord:
        """What the keyring tells of itself now."""

    async def count(self) -> int:
        """How many keys there are."""

    async def switch(self, record: KeyringRecord, master: str) -> KeyringRecord:
        """Begin the next epoch: from now on that master key (its fingerprint) wraps, and what the former one wrapped
        opens as long as the file holds it too. Raises unless ``record`` still stands."""

    def rewrap(self, record: KeyringRecord) -> AsyncIterator[Rewrapped]:
        """Wrap every key by the master key of ``record``, which is that of the present epoch, step by step. At the end
        nothing is left that the former one opens. May be done twice; raises when another epoch began."""

    def rows(self, record: KeyringRecord) -> AsyncIterator[KeyRow]:
        """Every key that stood when this began and stands when it ends, all wrapped by the master key of ``record``; of
        those made or destroyed meanwhile some, and one may come twice. Raises when another epoch began."""

    async def copied_at(self) -> int:
        """When the keyring was last copied to a backup (Unix time), as told by ``note_copy``; 0: never."""

    async def note_copy(self, seconds: int) -> None:
        """Remember that a backup of the keyring was made then."""

    async def aclose(self) -> None: ...


async def open_keyring(url: str, master: MasterKey, *, create: bool) -> Keyring:
    """Open ``sqlite:PATH`` or a second server, ``redis://…``. Without ``create`` nothing is made, not even a file.

    Raises KeyringUnavailableError, and MasterKeyWrongError when the keyring belongs to another master key.
    """
    path = keyring_file(url)
    if path is not None:
        return await asyncio.to_thread(SqliteKeyring.open, path, master, create=create)
    async with _server_errors():
        return await RedisKeyring.open(StoreTarget.parse(url), master, create=create)


def keyring_file(url: str) -> Path | None:
    """The file that KEYRING_URL names; None for a server. Raises KeyringUnavailableError for anything else."""
    scheme, _, rest = url.strip().partition(":")
    if scheme in {"redis", "rediss", "unix"}:
        return None
    if scheme != "sqlite" or not rest.strip("/"):
        raise KeyringUnavailableError("KEYRING_URL must be sqlite:PATH, or redis:// for a second server.")
    return Path(rest.removeprefix("//"))


async def restore_keyring(url: str, record: KeyringRecord, rows: AsyncIterator[KeyRow]) -> int:
    """Make a keyring out of a copy, in a file or on a server without one; how many keys it holds. It is there whole or
    not at all. Raises KeyringUnavailableError where there is a keyring already; KeyringError for a damaged copy."""
    path = keyring_file(url)
    if path is None:
        async with _server_errors():
            return await restore_server(StoreTarget.parse(url), record.settled(), rows)
    try:
        return await restore_file(path, record.settled(), rows)
    except (sqlite3.Error, OSError) as error:
        raise translated(path, error) from error


@asynccontextmanager
async def _server_errors() -> AsyncIterator[None]:
    try:
        yield
    except KeyringError:
        raise
    except StorageError as error:
        raise KeyringUnavailableError(f"The keyring server cannot be used: {error}") from error
