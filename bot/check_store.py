"""The part of `check` that looks at the store, the master key and the keyring, and leaves all three as they are."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from bot.findings import Finding, as_sentence, fault, note, ok, warning
from bot.settings import Settings
from storage.connection import StoreReport, StoreTarget, connect, inspect
from storage.embedded import GUARD_BELOW_BYTES, EmbeddedServer, running_server
from storage.errors import StorageError, StoreRefusedError
from storage.keyring import MasterKey, keyring_file
from storage.schema import SCHEMA_VERSION, read_identity, read_version
from storage.vault import open_vault

_LIMIT_SECONDS: Final = 5.0
_START_SECONDS: Final = 60.0
"""The embedded store reads all of its data first; that it is large is no fault."""


async def look_at_store(settings: Settings) -> list[Finding]:
    found = list(_disk(settings)) if not settings.redis_url else []
    try:
        async with reached(settings) as client:
            if client is None:
                return [*found, *_fresh_folder(settings.data_dir), *_fresh_keys(settings)]
            async with asyncio.timeout(_LIMIT_SECONDS):
                report = await inspect(client)
            async with asyncio.timeout(_LIMIT_SECONDS):
                return [*found, *_about_store(report), *await _about_keys(settings, client)]
    except StorageError as error:
        return [*found, _from_storage(error)]


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[Redis | None]:
    """A client of the store; None for an embedded store that was never used, which is not made by looking at it."""
    target = StoreTarget.parse(settings.redis_url, ca_file=settings.ca_file)
    server = None
    if target.embedded:
        url = await asyncio.to_thread(running_server, settings.data_dir)
        if url is None:
            if not _holds_data(settings.data_dir):
                yield None
                return
            server = EmbeddedServer(settings.data_dir)
            url = await _started(server)
        target = StoreTarget.parse(url)
    try:
        client = await connect(target, connections=2, timeout_seconds=_LIMIT_SECONDS)
        try:
            yield client
        finally:
            await client.aclose()
    finally:
        if server is not None:
            await server.aclose()


async def _started(server: EmbeddedServer) -> str:
    try:
        async with asyncio.timeout(_START_SECONDS):
            await server.start()
    except StoreRefusedError:
        # A service that was just starting holds the folder by now: its server is as good.
        url = await asyncio.to_thread(running_server, server.data_dir)
        if url is None:
            raise
        return url
    return server.url


def _holds_data(folder: Path) -> bool:
    with suppress(OSError):
        return any((folder / "appendonlydir").iterdir())
    return False


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = _standing(settings.data_dir)
    free = shutil.disk_usage(folder).free
    if free < 2 * GUARD_BELOW_BYTES:
        yield fault(f"The disk with DATA_DIR has {_size(free)} left: too little for messages.", "Free some space.")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield fault(f"{folder} cannot be written by this user.", "Mend its permissions, or choose another DATA_DIR.")


def _standing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _fresh_folder(folder: Path) -> Iterator[Finding]:
    if folder.exists() and not folder.is_dir():
        yield fault(f"DATA_DIR {folder} is not a folder.", "Let DATA_DIR name a folder.")
    else:
        yield ok(f"The embedded store is not running, and {folder} holds no data yet: the first start makes it.")


def _about_store(report: StoreReport) -> Iterator[Finding]:
    limit = report.max_memory or report.machine_memory
    of = f" of {_size(limit)}" if limit else ""
    window = "unknown" if report.loss_window_seconds is None else f"{report.loss_window_seconds:g} s"
    yield ok(f"{report.server} answers and uses {_size(report.used_memory)}{of} of memory.")
    yield note(f"Durability: {report.durability} (loss window: {window}; append-only file: {report.aof}).")
    yield note(f"Eviction policy: {report.evicting or 'not told'}.")
    for problem in report.problems:
        yield (fault if problem.fatal else warning)(problem.sentence, problem.cure)


async def _about_keys(settings: Settings, client: Redis) -> list[Finding]:
    if settings.bot_token is None:
        return [note("Keys were not compared with the store: that needs BOT_TOKEN."), *_misplaced(settings)]
    version = await read_version(client, settings.bot_id)
    if version > SCHEMA_VERSION:
        return [fault(f"The store has schema version {version}.", f"Install a service newer than {SCHEMA_VERSION}.")]
    if await read_identity(client, settings.bot_id) is None:
        return [note("The store was not used by this bot yet."), *_fresh_keys(settings)]
    vault = await open_vault(
        client,
        settings.bot_id,
        master_key_file=settings.master_key_file,
        keyring_url=settings.keyring_url,
        data_dir=settings.data_dir,
    )
    durability = vault.keyring.durability
    await vault.aclose()
    return [ok(f"Master key and keyring are those of this store, and private. Keyring: {durability}.")]


def _fresh_keys(settings: Settings) -> list[Finding]:
    """Keys beside a store that was never used: the first start makes what is missing."""
    found = list(_misplaced(settings))
    master, ring = settings.master_key_file, keyring_file(settings.keyring_url)
    if master.exists():
        MasterKey.load(master)
        found.append(ok(f"The master key {master} can be read, and only by this user."))
    elif ring is not None and ring.exists():
        found.append(fault(f"There is a keyring {ring} without its master key {master}.", "Put the key back."))
    elif not os.access(_standing(master.parent), os.W_OK | os.X_OK):
        found.append(fault(f"{master} cannot be made by this user.", "Mend the permissions of its folder."))
    else:
        found.append(note(f"The first start makes the master key {master}. Keep a copy of it and of the keyring."))
    return found


def _misplaced(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    places = {"MASTER_KEY_FILE": settings.master_key_file, "KEYRING_URL": keyring_file(settings.keyring_url)}
    for name, path in places.items():
        if path is not None and path.resolve().is_relative_to(folder):
            yield fault(f"{name} lies inside DATA_DIR, whose backups must not hold keys.", "Move it out.")


def _from_storage(error: StorageError) -> Finding:
    sentence, _, cure = str(error).partition(": ")
    cure = as_sentence(cure) or "Look whether the store that REDIS_URL names is up, and at its log."
    return fault(sentence if sentence.endswith(".") else f"{sentence}.", cure)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
