"""A new master key, beside a running service, and from any point on where an earlier attempt was killed.

1. The master key file gets a second secret. From now on whoever reads it can open both epochs.
2. The keyring's record names the new one, in one step: keys made from then on are wrapped by it, in every process.
3. Key after key is wrapped anew where it lies. Until the last is, both secrets open what they wrapped.
4. The store's record names the new master key, 5. the file keeps that one alone.

Each step asks what stands before it acts, so that doing it all again does what is left. Step 2 is taken only from the
record that was read, and with the second secret in the file: no key is ever wrapped by one that nobody has.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from storage.errors import KeyringUnavailableError, StoreRefusedError
from storage.keyrecord import KeyringRecord
from storage.keyring import Keyring, keyring_file
from storage.masterkey import MasterKey, add_next, file_lock, keep_only
from storage.schema import move_identity, read_identity
from storage.vault import open_vault

Progress = Callable[[int, int], None]
"""Told how many keys were wrapped anew, and how many there are."""


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where master key and keyring lie, and the folder that must hold neither."""

    master_key_file: Path
    keyring_url: str
    data_dir: Path


class Rotated(NamedTuple):
    """``done``: otherwise the file with both keys is to be copied to every machine first. ``broken``: keys that no
    master key at hand opens, now as before; they are left as they are."""

    done: bool
    epoch: int
    keys: int
    broken: int


class Way(StrEnum):
    """A keyring on a server may serve several machines, each with a master key file of its own: there the new secret is
    only put into this machine's file at first, and the rest is done by a second call once all machines have it."""

    BEGIN = "begin"
    """Where the keyring is a file, which is one machine's, all is done at once."""
    NOW = "now"
    """There is one machine only."""
    FINISH = "finish"
    """All machines have the file."""


async def rotate(client: Redis, bot_id: int, places: KeyPlaces, way: Way, progress: Progress) -> Rotated:
    """Give the store another master key, or end a rotation that was begun. Raises StorageError."""
    if await read_identity(client, bot_id) is None:
        raise StoreRefusedError("The store was not used by this bot yet: there is no key to rotate.")
    with file_lock(places.master_key_file):
        vault = await open_vault(
            client,
            bot_id,
            master_key_file=places.master_key_file,
            keyring_url=places.keyring_url,
            data_dir=places.data_dir,
        )
        try:
            return await _rotate(client, bot_id, vault.keyring, places, way=way, progress=progress)
        finally:
            await vault.aclose()


async def _rotate(
    client: Redis, bot_id: int, keyring: Keyring, places: KeyPlaces, *, way: Way, progress: Progress
) -> Rotated:
    if way is Way.FINISH and len(MasterKey.load(places.master_key_file).fingerprints()) == 1:
        raise StoreRefusedError("No rotation of the master key is under way: type `keys rotate` to begin one.")
    record = await keyring.record()
    alone = way is not Way.BEGIN or keyring_file(places.keyring_url) is not None
    master = add_next(places.master_key_file)
    current, following = master.fingerprints()
    if record.master == current and not record.former:
        if not alone:
            return Rotated(False, record.epoch, await keyring.count(), 0)
        record = await keyring.switch(record, following)
    total, seen, broken = await keyring.count(), 0, 0
    if record.former:
        async for step in keyring.rewrap(record):
            seen, broken = seen + step.seen, broken + step.broken
            progress(seen, max(seen, total))
    await _moved(client, bot_id, record)
    _retire(places.master_key_file, await keyring.record())
    return Rotated(True, record.epoch, total, broken)


async def _moved(client: Redis, bot_id: int, record: KeyringRecord) -> None:
    standing = await read_identity(client, bot_id)
    if standing is None or not await move_identity(client, bot_id, standing, replace(standing, master=record.master)):
        raise KeyringUnavailableError("The store's record of its keys was changed meanwhile: begin again.")


def _retire(path: Path, record: KeyringRecord) -> None:
    """Give up the former secret, when by the keyring itself nothing is wrapped by it any more."""
    if record.former or record.master not in MasterKey.load(path).fingerprints():
        raise KeyringUnavailableError("Another rotation of the master key began meanwhile: begin again.")
    keep_only(path, record.master)
