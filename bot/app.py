"""The composition root: opens what a process needs, in order, and closes it in reverse.

A message flows one way: ingress → inbox → worker → dispatcher → turn → lane. Only this module sees all of it.
"""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from bot.collector import unhurried_collector
from bot.errors import SettingsError, TelegramError, TelegramUnauthorizedError
from bot.ingress import Poller, keep_webhook
from bot.logs import get_logger
from bot.menu import keep_menus
from bot.parts import Parts, open_parts, owned
from bot.settings import OFFLINE, WEBHOOK_PATH, Settings
from bot.timing import Timing
from storage.apikeys import ApiKeys
from storage.errors import StorageError

if TYPE_CHECKING:
    from bot.conversation.batch import Dispatch

_SAMPLE_SECONDS: Final = 5.0
_SILENT_POLL_SECONDS: Final = 90.0
_SANDBOX_PORT: Final = 8081
_UNKNOWN_BOT: Final = (
    "BOT_TOKEN: Telegram does not know this token; it is mistyped or was revoked: get the current one from @BotFather."
)
_log = get_logger(__name__)


async def run(settings: Settings, roles: frozenset[str], timing: Timing | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C, then drains; the exit code."""
    stop = _stop_on_signals()
    async with AsyncExitStack() as stack:
        parts = await open_parts(stack, settings, timing or Timing())
        await _serve(stack, parts, roles, stop)
    return 0


async def sandbox(settings: Settings) -> int:
    """The real service on a local Bot API server with a chat page, and an offline chat API unless one is configured."""
    from bot.sandbox import BOT_TOKEN, OPERATOR_ID, TelegramServer

    stop = _stop_on_signals()
    async with AsyncExitStack() as stack:
        folder = settings.data_dir / "sandbox"
        # The folder remembers the port, so that an open page goes on after a restart.
        port = 0 if (folder / "telegram").exists() else _free_port(_SANDBOX_PORT)
        telegram = TelegramServer(folder=folder / "telegram", port=port)
        telegram.add_bot(BOT_TOKEN)
        await telegram.start()
        stack.push_async_callback(telegram.aclose)
        changes: dict[str, Any] = {
            "bot_token": SecretStr(BOT_TOKEN),
            "telegram_api_url": telegram.url,
            "telegram_mode": "polling",
            "telegram_proxy": "",
            "redis_url": "",
            "data_dir": folder / "store",
            "master_key_file": settings.master_key_file.parent / "sandbox" / "master.key",
            "keyring_url": f"sqlite:{settings.master_key_file.parent / 'sandbox' / 'keyring.db'}",
            "http_port": _free_port(settings.http_port),
            "operator_ids": (OPERATOR_ID,),
        }
        if settings.chat_api_url in {"", OFFLINE}:
            changes["chat_api_url"] = OFFLINE
        parts = await open_parts(stack, settings.model_copy(update=changes), Timing())
        offline = parts.settings.chat_api_url == OFFLINE
        print(_sandbox_words(telegram.page_url, offline=offline), flush=True)  # noqa: T201 (the link is for the person at the terminal)
        await _serve(stack, parts, frozenset({"ingress", "worker", "web"}), stop)
    return 0


def _sandbox_words(link: str, *, offline: bool) -> str:
    model = "an offline model" if offline else "the model behind CHAT_API_URL"
    return (
        f"\n  The sandbox is running: the real service, a local stand-in for Telegram, {model}.\n"
        f"  Open this link in a browser and chat:\n\n    {link}\n\n  Ctrl-C ends it; what was said is kept.\n"
    )


# ---- serving
async def _serve(stack: AsyncExitStack, parts: Parts, roles: frozenset[str], stop: asyncio.Event) -> None:
    settings = parts.settings
    closing = asyncio.Event()
    poller = Poller(
        ingress=parts.ingress,
        telegram=parts.telegram,
        marks=parts.marks,
        metrics=parts.metrics,
        timing=parts.timing,
        alone=parts.alone,
    )
    polls = "ingress" in roles and settings.telegram_mode == "polling"
    working = asyncio.Event()
    troubles = _Troubles(parts, poller if polls else None, working if "worker" in roles else None, closing)
    if "web" in roles:
        await stack.enter_async_context(_web(parts, troubles, closing))
    await stack.enter_async_context(owned(_sample(parts), "sample"))
    await stack.enter_async_context(owned(parts.marks.keep(), "marks"))
    tasks: list[asyncio.Task[None]] = []
    if "worker" in roles:
        tasks.append(await stack.enter_async_context(owned(_work(parts, working), "worker")))
        await stack.enter_async_context(owned(keep_menus(parts.telegram, parts.store, parts.keys.menu), "menus"))
    if "ingress" in roles:
        work = poller.run() if polls else keep_webhook(parts.telegram, settings.webhook_address, _secret(settings))
        tasks.append(await stack.enter_async_context(owned(work, "ingress")))
    _log.info("service.started", roles=sorted(roles))
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    closing.set()
    waiting.cancel()
    _log.info("service.ending")
    for task in done - {waiting}:
        task.result()


async def _work(parts: Parts, working: asyncio.Event) -> None:
    """The worker; its modules are loaded here, off the loop, so that updates are stored from the first moment on."""
    await asyncio.to_thread(_load_worker)
    from bot.assembly import worker_of

    async with AsyncExitStack() as stack:
        username = await _username(parts)
        worker = await worker_of(stack, parts, await _dispatch(stack, parts, username), username)
        working.set()
        await worker.run()


def _load_worker() -> None:
    """Half of a start is spent on these imports. The models come first: they decide how aiogram is imported."""
    with unhurried_collector():
        for name in ("models", "customer", "dispatch"):
            import_module(f"handlers.telegram.{name}")
        import_module("bot.assembly")


async def _dispatch(stack: AsyncExitStack, parts: Parts, username: str) -> "Dispatch":
    from aiogram import Bot

    from handlers.telegram.customer import Audience, customer_router
    from handlers.telegram.dispatch import dispatcher_of

    settings = parts.settings
    assert settings.bot_token is not None
    bot = Bot(settings.bot_token.get_secret_value())
    stack.push_async_callback(bot.session.close)
    audience = Audience(
        username, settings.group_answers == "addressed", settings.operator_group_id, frozenset(settings.banned_ids)
    )
    return dispatcher_of(bot, customer_router(audience))


async def _username(parts: Parts) -> str:
    """The bot's own name; "" while Telegram is away (then only replies and commands count as addressed to it)."""
    try:
        me = await parts.telegram.call("getMe", {}, seconds=5)
    except TelegramUnauthorizedError as error:
        raise SettingsError([_UNKNOWN_BOT]) from error
    except TelegramError as error:
        _log.warning("telegram.unreachable", error=str(error))
        return ""
    return str(me.get("username") or "") if isinstance(me, dict) else ""


async def _sample(parts: Parts) -> None:
    """Counts what waits in the store, for the cap and for the figures."""
    metrics = parts.metrics
    while True:
        try:
            depth = await parts.inbox.depth()
            memory = await parts.store.client.info("memory")
            parts.ingress.note_depth(depth.updates)
            metrics.depth.set(depth.updates)
            metrics.age.set(depth.oldest_seconds)
            metrics.store_memory.set(float(memory.get("used_memory", 0)))
            metrics.store_up.set(1)
        except Exception as error:  # noqa: BLE001 (a figure that cannot be read must not end the service)
            metrics.store_up.set(0)
            _log.info("sample.failed", error=type(error).__name__)
        await asyncio.sleep(_SAMPLE_SECONDS)


@dataclass(slots=True)
class _Troubles:
    """Why this process is not ready, by part."""

    parts: Parts
    poller: Poller | None
    working: asyncio.Event | None
    closing: asyncio.Event

    async def __call__(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.closing.is_set():
            found["service"] = "is ending"
        try:
            await asyncio.wait_for(self.parts.store.call("PING"), 2.0)
        except (StorageError, TimeoutError) as error:
            found["store"] = type(error).__name__
        if self.working is not None and not self.working.is_set():
            found["worker"] = "is starting"
        if self.poller is not None and self.poller.trouble:
            found["telegram"] = self.poller.trouble
        elif self.poller is not None and 0 < self.poller.last_poll < time.time() - _SILENT_POLL_SECONDS:
            found["telegram"] = "no poll has come back for a while"
        return found


@asynccontextmanager
async def _web(parts: Parts, troubles: _Troubles, closing: asyncio.Event) -> AsyncIterator[None]:
    from handlers.web.gate import Gate
    from handlers.web.server import serving
    from handlers.web.service import service_app, webhook_route

    settings = parts.settings
    routes = []
    if settings.telegram_mode == "webhook" and _secret(settings):
        paths = {WEBHOOK_PATH, urlsplit(settings.webhook_address).path}
        routes = [webhook_route(path, parts.ingress, _secret(settings), closing.is_set) for path in sorted(paths)]
    gate = Gate(ApiKeys(parts.store, parts.keys), partial(asyncio.to_thread, _load_api, parts))
    app = service_app(metrics=parts.metrics, health=troubles, webhooks=routes, api=gate)
    async with serving(app, settings.http_host, settings.http_port):
        yield


def _load_api(parts: Parts) -> Any:
    """The admin API; its imports take as long as many services' whole start, so they wait for whoever needs them."""
    from bot.privacy.rights import Rights
    from handlers.web.api import admin_api
    from storage.receipts import Receipts

    known = ""

    async def name() -> str:
        nonlocal known
        known = known or await _username(parts)
        return known

    receipts = Receipts(parts.store, parts.keys, keep_days=parts.settings.receipt_days)
    rights = Rights(
        parts.store, parts.keys, parts.vault, post=parts.post, receipts=receipts, name=name, seal=parts.seal
    )
    return admin_api(rights)


def _free_port(wanted: int) -> int:
    """The port, or 0 (any free one) where another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def _secret(settings: Settings) -> str:
    return settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
