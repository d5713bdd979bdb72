"""How a command reaches the store: beside the service that runs on it, or alone, on an embedded server that it starts
for as long as it takes. Commands that change a chat leave that to a worker; where none is at work, one runs in here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from bot.conversation.post import Post
from bot.errors import SettingsError
from bot.privacy.rights import Rights
from bot.privacy.seal import seal_of
from bot.settings import Settings
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer, running_server
from storage.inbox import Inbox
from storage.keys import Keys
from storage.receipts import Receipts
from storage.schema import read_identity, upgrade
from storage.scripts import Store
from storage.upgrades import STEPS
from storage.vault import open_vault

_CONNECTIONS = 4
_STORE_SECONDS = 10.0
_UNUSED = "Nothing is stored yet: the store was never used by this bot."


@dataclass(frozen=True, slots=True)
class Reached:
    """A store, and where it is."""

    client: Redis
    store: Store
    keys: Keys
    url: str


@dataclass(frozen=True, slots=True)
class Office(Reached):
    """A store in use, with what can be done for the people in it."""

    rights: Rights
    settings: Settings


@asynccontextmanager
async def reached(settings: Settings, *, fresh: bool = True) -> AsyncIterator[Reached]:
    """The configured store. ``fresh``: also one that was never used. Raises SettingsError, StorageError."""
    bot_id = settings.bot_id
    async with AsyncExitStack() as stack:
        target = StoreTarget.parse(settings.redis_url, ca_file=settings.ca_file)
        if target.embedded:
            target = StoreTarget.parse(await _embedded(stack, settings, fresh=fresh))
        client = await connect(target, connections=_CONNECTIONS, timeout_seconds=_STORE_SECONDS)
        stack.push_async_callback(client.aclose)
        await upgrade(client, bot_id, STEPS)
        yield Reached(client, Store(client), Keys(bot_id), target.url)


async def _embedded(stack: AsyncExitStack, settings: Settings, *, fresh: bool) -> str:
    url = await asyncio.to_thread(running_server, settings.data_dir)
    if url is not None:
        return url
    if not fresh and not (settings.data_dir / "appendonlydir").is_dir():
        raise SettingsError([_UNUSED])
    server = EmbeddedServer(settings.data_dir)
    await server.start()
    stack.push_async_callback(server.aclose)
    return server.url


@asynccontextmanager
async def office(settings: Settings) -> AsyncIterator[Office]:
    """The store with its keys. Raises SettingsError, StorageError."""
    async with reached(settings, fresh=False) as found:
        if await read_identity(found.client, settings.bot_id) is None:
            raise SettingsError([_UNUSED])
        vault = await open_vault(
            found.client,
            settings.bot_id,
            master_key_file=settings.master_key_file,
            keyring_url=settings.keyring_url,
            data_dir=settings.data_dir,
        )
        try:
            post = Post(Inbox(found.store, found.keys, mailbox_cap=settings.mailbox_cap), vault)
            receipts = Receipts(found.store, found.keys, keep_days=settings.receipt_days)
            seal = await seal_of(vault)
            rights = Rights(found.store, found.keys, vault, post=post, receipts=receipts, name=_no_name, seal=seal)
            yield Office(found.client, found.store, found.keys, found.url, rights, settings)
        finally:
            await vault.aclose()


async def _no_name() -> str:
    """Only Telegram knows the bot's name, and a command must work without it."""
    return ""


async def is_worked_on(found: Reached) -> bool:
    """Whether a worker of any process looks after the store now: each listens to what is urgent."""
    reply = await found.store.call("PUBSUB", "NUMSUB", found.keys.control)
    return bool(int(reply[1]))


@asynccontextmanager
async def worked_on(found: Office, work: Callable[..., Awaitable[int]]) -> AsyncIterator[asyncio.Task[int] | None]:
    """While the block runs a worker is there: another process's (None), or one of this process. ``work`` runs one with
    settings and roles (``bot.app.run``)."""
    if await is_worked_on(found):
        yield None
        return
    settings = found.settings
    settings.require_for_run()
    here = settings.model_copy(update={"redis_url": found.url})
    task = asyncio.ensure_future(work(here, frozenset({"worker"})))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
