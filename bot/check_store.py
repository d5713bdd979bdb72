"""The part of `check` that looks at the store and, in `check_keys`, at the keys, and leaves all as it is."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from bot.check_backups import look_at_backups
from bot.check_keys import fresh_keys, look_at_keys, standing
from bot.findings import Finding, as_sentence, fault, note, ok, warning
from bot.settings import Settings
from storage.ages import Ages
from storage.connection import StoreReport, StoreTarget, connect, inspect
from storage.embedded import GUARD_BELOW_BYTES, EmbeddedServer, running_server
from storage.errors import StorageError, StoreRefusedError
from storage.keys import Keys
from storage.scripts import Store

_LIMIT_SECONDS: Final = 5.0
_LATE_MS: Final = 3_600_000
_START_SECONDS: Final = 60.0
"""The embedded store reads all of its data first; that it is large is no fault."""


ERASED_IN_BACKUPS: Final = "An erased conversation cannot be read any more in any backup after {days} at the latest."


async def look_at_store(settings: Settings) -> list[Finding]:
    found = list(_disk(settings)) if not settings.redis_url else []
    try:
        async with reached(settings) as client:
            if client is None:
                return [*found, *_fresh_folder(settings.data_dir), *fresh_keys(settings), _about_backups(settings)]
            async with asyncio.timeout(_LIMIT_SECONDS):
                report = await inspect(client)
            async with asyncio.timeout(_LIMIT_SECONDS):
                found += [*_about_store(report), *await look_at_keys(settings, client), _about_backups(settings)]
                found += await look_at_backups(settings, client)
                return [*found, *await _about_ages(settings, client)]
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
    folder = standing(settings.data_dir)
    free = shutil.disk_usage(folder).free
    if free < 2 * GUARD_BELOW_BYTES:
        yield fault(f"The disk with DATA_DIR has {_size(free)} left: too little for messages.", "Free some space.")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield fault(f"{folder} cannot be written by this user.", "Mend its permissions, or choose another DATA_DIR.")


def _fresh_folder(folder: Path) -> Iterator[Finding]:
    if folder.exists() and not folder.is_dir():
        yield fault(f"DATA_DIR {folder} is not a folder.", "Let DATA_DIR name a folder.")
    else:
        yield ok(f"The embedded store is not running, and {folder} holds no data yet: the first start makes it.")


def _about_backups(settings: Settings) -> Finding:
    days = settings.key_backup_days
    return note(ERASED_IN_BACKUPS.format(days=f"{days} day{'' if days == 1 else 's'}"))


async def _about_ages(settings: Settings, client: Redis) -> list[Finding]:
    """Whether what is too old went, as the list of chats by age proves it."""
    if settings.bot_token is None:
        return []
    late_ms = int(time.time() * 1000) - _LATE_MS
    if not await Ages(Store(client), Keys(settings.bot_id)).is_due(late_ms):
        return [ok(f"Nothing in the store is older than {settings.retention_days} days.")]
    what = f"Chats hold something that is older than {settings.retention_days} days."
    return [warning(what, "Look whether a worker is running: it deletes that.")]


def _about_store(report: StoreReport) -> Iterator[Finding]:
    limit = report.max_memory or report.machine_memory
    of = f" of {_size(limit)}" if limit else ""
    window = "unknown" if report.loss_window_seconds is None else f"{report.loss_window_seconds:g} s"
    yield ok(f"{report.server} answers and uses {_size(report.used_memory)}{of} of memory.")
    yield note(f"Durability: {report.durability} (loss window: {window}; append-only file: {report.aof}).")
    yield note(f"Eviction policy: {report.evicting or 'not told'}.")
    for problem in report.problems:
        yield (fault if problem.fatal else warning)(problem.sentence, problem.cure)


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
