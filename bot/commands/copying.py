"""Writes the two files of a backup, each read again before it counts, into folders that lie apart.

Either file alone tells nothing: the store's is sealed, the keyring's is wrapped by a master key that is in neither. So
whatever would bring them together is refused, and copies of keys go before anybody was promised they would.
"""

import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import typer
from redis.asyncio import Redis

from bot.check_store import reached
from bot.commands.words import DONE, bar
from bot.errors import SettingsError
from bot.privacy.copies import verified
from bot.settings import Settings
from storage.backup import copy_keyring, copy_store, opener_bound, rows_of
from storage.backup_file import BackupError, Header, Reader, clear_parts, copies_of_keys, file_named, written
from storage.errors import SchemaTooNewError, SealBrokenError
from storage.keynames import SERVICE
from storage.keyring import MasterKey, keyring_file
from storage.keys import Keys
from storage.schema import SCHEMA_VERSION, read_identity, read_version
from storage.vault import Vault, open_vault

_KEY: Final = "backup"
"""The key that the codes at the ends of backups are made with."""

_DAY_SECONDS: Final = 86_400


async def back_up(settings: Settings, folder: Path, keys_folder: Path | None) -> int:
    """Writes and verifies the copies; the exit code. Raises SettingsError, StorageError."""
    if settings.bot_token is None:
        raise SettingsError(["BOT_TOKEN is not set: it tells which bot's store is copied."])
    _check_folders(settings, folder, keys_folder)
    # Not upgraded for it: before an upgrade is when a copy is wanted most.
    async with reached(settings) as client:
        if client is None or await read_identity(client, settings.bot_id) is None:
            raise SettingsError(["Nothing is stored yet: the store was never used by this bot."])
        if (version := await read_version(client, settings.bot_id)) > SCHEMA_VERSION:
            raise SchemaTooNewError(found=version, known=SCHEMA_VERSION)
        vault = await _vault(settings, client)
        try:
            for place in (folder, keys_folder):
                if place is not None:
                    _made(place)
                    clear_parts(place, time.time())
            copier = _Copier(settings, client, vault, _free_second(folder, keys_folder))
            await copier.copy_store(folder)
            if keys_folder is None:
                typer.echo("The keyring was not copied: what is in the copy opens only with it. --keys copies it.")
            else:
                await copier.copy_keys(keys_folder)
            await copier.note(keys_folder)
        finally:
            await vault.aclose()
    return DONE


async def _vault(settings: Settings, client: Redis) -> Vault:
    return await open_vault(
        client,
        settings.bot_id,
        master_key_file=settings.master_key_file,
        keyring_url=settings.keyring_url,
        data_dir=settings.data_dir,
    )


class _Copier:
    """Writes both files of one backup, and reads each again."""

    def __init__(self, settings: Settings, client: Redis, vault: Vault, made_s: int) -> None:
        self._settings = settings
        self._client = client
        self._vault = vault
        self._made_s = made_s

    async def copy_store(self, folder: Path) -> None:
        key = await self._vault.key(SERVICE, _KEY)
        path = self._path(folder, "store")
        with bar("Chats copied", None) as tell, written(path, key.secret) as writer:
            writer.begin(await self._header("store"))
            await copy_store(self._client, Keys(self._settings.bot_id), writer, tell)
        with Reader(path) as reader:
            reader.check(key.secret)
            found = await verified(reader, self._vault, writer.counts.get("turns", 0))
        typer.echo(f"{path}: {_held(writer.counts)}. Read again, and whole.")
        every = "all" if found.step == 1 else f"every {found.step}th"
        typer.echo(f"Of {found.seen:,} sealed values {every} were tried: {found.opened:,} open, {found.gone:,} do not, "
                   "since they were forgotten or are too old.")  # fmt: skip
        if found.broken:
            typer.echo(
                f"{found.broken:,} do not open although their key is there: the store is damaged there.", err=True
            )

    async def copy_keys(self, folder: Path) -> None:
        key, keyring = await self._vault.key(SERVICE, _KEY), self._vault.keyring
        record = await keyring.record()
        master = MasterKey.load(self._settings.master_key_file).using(record.master)
        header = await self._header("keys")
        kept = {**asdict(record.settled()), "names": record.names.hex()}
        path = self._path(folder, "keys")
        with written(path, key.secret) as writer:
            opener = master.wrap(key.secret, opener_bound(record.id))
            writer.begin(replace(header, master=record.master, record=kept, opener=opener.hex()))
            await copy_keyring(keyring, record, writer)
        broken = 0
        with Reader(path) as reader:
            reader.check(key.secret)
            for row in rows_of(reader.parts()):
                try:
                    master.unwrap(row.wrapped, row.id + row.name)
                except SealBrokenError:
                    broken += 1
        await keyring.note_copy(self._made_s)
        typer.echo(f"{path}: {writer.counts.get('keys', 0):,} keys. Read again, and whole.")
        if broken:
            typer.echo(f"{broken:,} of them could not be opened, as in the keyring itself.", err=True)
        self._drop_old(folder)

    async def note(self, keys_folder: Path | None) -> None:
        """What `check` tells of the last backups."""
        known = {"store": str(self._made_s)}
        if keys_folder is not None:
            known |= {"keys": str(self._made_s), "folder": _full(keys_folder)}
        await self._client.hset(Keys(self._settings.bot_id).backups, mapping=known)  # type: ignore[arg-type]

    def _drop_old(self, folder: Path) -> None:
        """The next backup may come a day from now: what would be too old before that goes now."""
        days = self._settings.key_backup_days
        most = (days - 1) * _DAY_SECONDS
        old = [path for path, made in copies_of_keys(folder) if self._made_s - made > most]
        for path in old:
            path.unlink(missing_ok=True)
        if old:
            copies = "1 copy" if len(old) == 1 else f"{len(old)} copies"
            typer.echo(f"{copies} of keys in {folder} deleted: none is to be older than {days} days (KEY_BACKUP_DAYS).")

    def _path(self, folder: Path, what: str) -> Path:
        return file_named(folder, what, self._made_s)

    async def _header(self, what: str) -> Header:
        record = await self._vault.keyring.record()
        bot_id = self._settings.bot_id
        key = await self._vault.key(SERVICE, _KEY)
        schema = await read_version(self._client, bot_id)
        return Header(what, bot_id, schema, record.id, record.master, key.id.hex(), self._made_s, record.past)


def _free_second(folder: Path, keys_folder: Path | None) -> int:
    """Now, or the first second after it that no copy is named by."""
    made_s = int(time.time())
    while file_named(folder, "store", made_s).exists() or (
        keys_folder is not None and file_named(keys_folder, "keys", made_s).exists()
    ):
        made_s += 1
    return made_s


def _full(folder: Path) -> str:
    return str(folder.resolve())


def _held(counts: dict[str, int]) -> str:
    chats, conversations, turns = (counts.get(name, 0) for name in ("chats", "conversations", "turns"))
    return f"{chats:,} chats, {conversations:,} conversations, {turns:,} turns"


def _check_folders(settings: Settings, folder: Path, keys_folder: Path | None) -> None:
    """Raises SettingsError where a copy of the store would lie within reach of keys."""

    keyring = keyring_file(settings.keyring_url)
    own = {settings.master_key_file.parent} | ({keyring.parent} if keyring is not None else set())
    for place in own:
        if _within_reach(folder, place):
            raise SettingsError(
                [f"{folder} and {place}, where the keys are, must lie apart: let the store's copies go elsewhere."]
            )
    if keys_folder is None:
        return
    if not settings.key_backup_days:
        raise SettingsError(["KEY_BACKUP_DAYS is 0, so no copy of keys may be kept: raise it, or leave out --keys."])
    if _within_reach(folder, keys_folder):
        raise SettingsError(
            [f"{folder} and {keys_folder} must lie apart, neither in the other: whoever gets both can read everything."]
        )
    if _within_reach(keys_folder, settings.data_dir):
        raise SettingsError(
            [f"{keys_folder} and DATA_DIR must lie apart: choose another folder for the copies of keys."]
        )


def _within_reach(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(f"{folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BackupError(f"{folder} cannot be written by this user.")
