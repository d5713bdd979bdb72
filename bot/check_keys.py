"""The part of `check` that looks at the master key and the keyring, and leaves both as they are.

A backup of DATA_DIR must not hold what opens it. So nothing in that folder may lead to the keys, by whatever kind of
link, and the folder may not lie within theirs, where one backup would take both.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.findings import Finding, fault, note, ok, warning
from bot.settings import Settings
from storage.connection import StoreTarget, connect
from storage.errors import StorageError
from storage.keyring import MasterKey, keyring_file
from storage.schema import SCHEMA_VERSION, read_identity, read_version
from storage.vault import open_vault

_LIMIT_SECONDS: Final = 5.0
_APART: Final = "Give the keys a folder of their own, and back it up apart."
FileId = tuple[int, int]


async def look_at_keys(settings: Settings, client: Redis) -> list[Finding]:
    """Raises StorageError where the keys are missing, wrong or not the store's."""
    misplaced = [*_misplaced(settings), *await _on_server(settings, client)]
    if settings.bot_token is None:
        return [note("Keys were not compared with the store: that needs BOT_TOKEN."), *misplaced]
    version = await read_version(client, settings.bot_id)
    if version > SCHEMA_VERSION:
        return [fault(f"The store has schema version {version}.", f"Install a service newer than {SCHEMA_VERSION}.")]
    if await read_identity(client, settings.bot_id) is None:
        return [note("The store was not used by this bot yet."), *(misplaced or _to_be_made(settings))]
    if misplaced:
        return misplaced
    vault = await open_vault(
        client,
        settings.bot_id,
        master_key_file=settings.master_key_file,
        keyring_url=settings.keyring_url,
        data_dir=settings.data_dir,
    )
    durability = vault.keyring.durability
    await vault.aclose()
    found = ok(f"Master key and keyring are those of this store, and private. Keyring: {durability}.")
    return [found, *_under_way(settings)]


def fresh_keys(settings: Settings) -> list[Finding]:
    """Keys beside a store that was never used: the first start makes what is missing."""
    return [*_misplaced(settings)] or [*_to_be_made(settings)]


def standing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _to_be_made(settings: Settings) -> Iterator[Finding]:
    master, ring = settings.master_key_file, keyring_file(settings.keyring_url)
    if master.exists():
        MasterKey.load(master)
        yield ok(f"The master key {master} can be read, and only by this user.")
    elif ring is not None and ring.exists():
        yield fault(f"There is a keyring {ring} without its master key {master}.", "Put the key back.")
    elif not os.access(standing(master.parent), os.W_OK | os.X_OK):
        yield fault(f"{master} cannot be made by this user.", "Mend the permissions of its folder.")
    else:
        yield note(f"The first start makes the master key {master}. Keep a copy of it and of the keyring.")


def _under_way(settings: Settings) -> Iterator[Finding]:
    if len(MasterKey.load(settings.master_key_file).fingerprints()) > 1:
        yield warning("A rotation of the master key is under way.", "End it: type `python -m bot keys rotate`.")


def _misplaced(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    for name, path in _places(settings):
        if path.resolve().is_relative_to(folder):
            yield fault(f"{name} lies inside DATA_DIR, whose backups must not hold keys.", "Move it out.")
        elif folder.is_relative_to(path.resolve().parent):
            yield fault(f"DATA_DIR lies inside the folder of {name}: a backup of that would hold both.", _APART)
        elif (link := _leading_to(folder, path)) is not None:
            yield fault(f"{link} in DATA_DIR leads to {name}: backups must not hold keys.", "Remove that link.")


def _places(settings: Settings) -> list[tuple[str, Path]]:
    places = {"MASTER_KEY_FILE": settings.master_key_file, "KEYRING_URL": keyring_file(settings.keyring_url)}
    return [(name, path) for name, path in places.items() if path is not None]


def _leading_to(folder: Path, path: Path) -> Path | None:
    """What in that folder is the file itself, by a link of either kind or a mount, or a folder that holds it."""
    real = path.resolve()
    wanted = {_file_id(place) for place in (real, Path(f"{real}-wal"), *real.parents)} - {None}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if _file_id(Path(root, name)) in wanted:
                return Path(root, name)
    return None


def _file_id(path: Path) -> FileId | None:
    """The same for all names of one file or folder; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _on_server(settings: Settings, client: Redis) -> list[Finding]:
    """A keyring on a server: not on that of the store, and no server that writes its files into DATA_DIR."""
    if keyring_file(settings.keyring_url) is not None:
        return []
    async with _keyring_server(settings) as server:
        if server is None:
            return []  # told of when the vault is opened
        if (mine := await _told(server.info("server"), "run_id")) and mine == await _told(
            client.info("server"), "run_id"
        ):
            cure = "Let KEYRING_URL name a second server."
            return [fault("KEYRING_URL and REDIS_URL name one server, whose backups must not hold keys.", cure)]
        if settings.keyring_url.startswith("unix:") and (place := await _told(server.config_get("dir"), "dir")):
            return list(_writing_into(settings.data_dir, Path(os.fsdecode(place))))
    return []


async def _told(command: Awaitable[Mapping[Any, Any]], name: str) -> Any:
    """What a server tells of itself; None where it does not: hosted ones forbid such commands."""
    try:
        found = await command
    except (RedisError, OSError, TimeoutError):
        return None
    return found.get(name, found.get(name.encode()))


def _writing_into(folder: Path, place: Path) -> Iterator[Finding]:
    if place.resolve().is_relative_to(folder.resolve()):
        yield fault("The server of KEYRING_URL writes its files into DATA_DIR.", "Let its dir be elsewhere.")


@asynccontextmanager
async def _keyring_server(settings: Settings) -> AsyncIterator[Redis | None]:
    try:
        server = await connect(StoreTarget.parse(settings.keyring_url), connections=1, timeout_seconds=_LIMIT_SECONDS)
    except StorageError:
        yield None
        return
    try:
        yield server
    finally:
        await server.aclose()
