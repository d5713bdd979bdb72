"""What every role shares, opened in order and closed in reverse: store, vault, Telegram, the way into the inbox."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bot.conversation.post import Post
from bot.delivery.telegram import TelegramClient
from bot.ingress import Ingress
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.privacy.seal import Seal, seal_of
from bot.settings import Settings
from bot.timing import Timing
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.errors import StoreUnavailableError
from storage.inbox import Inbox
from storage.keys import Keys
from storage.marks import Marks
from storage.schema import upgrade
from storage.scripts import Store
from storage.upgrades import STEPS
from storage.vault import Vault, open_vault

if TYPE_CHECKING:
    from redis.asyncio import Redis

_CONNECTIONS: Final = 8
_STORE_SECONDS: Final = 5.0
_START_SECONDS: Final = 8.0
_BESIDE_THE_ANSWER_SECONDS: Final = 60.0
_Result = TypeVar("_Result")
_log = get_logger(__name__)


@dataclass(slots=True)
class Parts:
    """``alone``: no other process works on this store; ``seal``: what this installation signs exports with."""

    settings: Settings
    target: StoreTarget
    store: Store
    keys: Keys
    inbox: Inbox
    marks: Marks
    vault: Vault
    post: Post
    telegram: TelegramClient
    metrics: Metrics
    ingress: Ingress
    alone: bool
    timing: Timing
    seal: Seal


async def open_parts(stack: AsyncExitStack, settings: Settings, timing: Timing) -> Parts:
    """Raises StorageError, and TimeoutError never: a store that is away is waited for some seconds."""
    target = StoreTarget.parse(settings.redis_url, ca_file=settings.ca_file)
    alone = False
    if target.embedded:
        server = EmbeddedServer(settings.data_dir, on_event=lambda event, fields: _log.info(event, **fields))
        await server.start()
        stack.push_async_callback(server.aclose)
        await stack.enter_async_context(owned(server.watch(), "store.watch"))
        target = StoreTarget.parse(server.url)
        alone = True
    client = await connected(target, _CONNECTIONS)
    stack.push_async_callback(client.aclose)
    await _patiently(lambda: upgrade(client, settings.bot_id, STEPS))
    vault = await _patiently(
        lambda: open_vault(
            client,
            settings.bot_id,
            master_key_file=settings.master_key_file,
            keyring_url=settings.keyring_url,
            data_dir=settings.data_dir,
        )
    )
    stack.push_async_callback(vault.aclose)
    store, keys, metrics = Store(client), Keys(settings.bot_id), Metrics()
    telegram = await stack.enter_async_context(_telegram(settings))
    inbox, marks = Inbox(store, keys, mailbox_cap=settings.mailbox_cap), Marks(store, keys)
    post = Post(inbox, vault)
    operators = frozenset(settings.operator_ids)
    ingress = Ingress(post, marks, metrics, queue_cap=settings.queue_cap, operators=operators)
    timing = replace(timing, turn=max(timing.turn, settings.chat_total_seconds + _BESIDE_THE_ANSWER_SECONDS))
    seal = await seal_of(vault)
    return Parts(
        settings, target, store, keys, inbox, marks, vault, post, telegram, metrics, ingress, alone, timing, seal
    )


async def connected(target: StoreTarget, connections: int, seconds: float = _START_SECONDS) -> "Redis":
    """Connections to the store, which is waited for up to ``seconds``. Raises StoreUnavailableError."""
    return await _patiently(
        lambda: connect(target, connections=connections, timeout_seconds=_STORE_SECONDS), seconds=seconds
    )


async def _patiently(step: Callable[[], Awaitable[_Result]], seconds: float = _START_SECONDS) -> _Result:
    """Tries again while the store is away: it may be loading, or just being revived. After that the error stands."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await step()
        except StoreUnavailableError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.1)


def _telegram(settings: Settings) -> TelegramClient:
    assert settings.bot_token is not None
    return TelegramClient(
        settings.bot_token.get_secret_value(),
        settings.telegram_api_url,
        proxy=settings.telegram_proxy or None,
        ca_file=settings.ca_file,
    )


@asynccontextmanager
async def owned(work: Any, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends with the block: cancelled and awaited."""
    task: asyncio.Task[None] = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task.failed", task=name, exc_info=error)
