"""`TelegramServer`: a local Bot API server, and the hands of the people who chat with the bot."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp

from bot.sandbox.account import Account
from bot.sandbox.bot_api import BotApi
from bot.sandbox.call_log import Call, CallLog
from bot.sandbox.customers import Customers
from bot.sandbox.faults import FaultPlan
from bot.sandbox.flood import FloodGate, FloodLimits
from bot.sandbox.guard import is_foreign, refuse_foreign
from bot.sandbox.page import ChatPage
from bot.sandbox.record import Database
from bot.sandbox.webhook import FIRST_DELAY_SECONDS, Pusher
from bot.sandbox.wire import LOOPBACK, Listener, Receive, Scope, Send
from bot.sandbox.world import SeenMessage, World

CLOSING_SECONDS = 2.0


class TelegramServer(Customers):
    """Listens on the loopback between `start` and `aclose`; the state may be used before and after.

    `folder` keeps the world across restarts, a `kill -9` included; without it everything is in memory. The first bot
    added is the one that customers write to unless they name another.
    """

    def __init__(
        self, *, folder: Path | None = None, flood: FloodLimits | None = None, control_token: str | None = None,
        host: str = LOOPBACK, port: int = 0, keep_calls: bool = True, accept_any_token: bool = False,
        webhook_delay_seconds: float = FIRST_DELAY_SECONDS,
    ) -> None:  # fmt: skip
        self._database = Database(folder / "telegram.db" if folder else None)
        self._accounts: dict[str, Account] = {}
        self._pushers: dict[str, Pusher] = {}
        self._session: aiohttp.ClientSession | None = None
        self._accept_any_token = accept_any_token
        self._webhook_delay = webhook_delay_seconds
        self.faults = FaultPlan()
        self.log = CallLog(keep_calls)
        self._api = BotApi(self._find_account, self.log, self.faults)
        self._flood: FloodLimits | None = None
        self.flood = flood
        self._folder = folder
        self.control_token = control_token or _kept_token(folder)
        self._page = ChatPage(self, self.control_token)
        self._listener = Listener(self._serve, host, port or _kept_port(folder))
        self._port_is_fixed = port != 0

    # --- running -------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Raises OSError when the asked port is taken; a port merely remembered from last time gives way."""
        self._api.open()
        try:
            await self._listener.start()
        except OSError:
            if self._port_is_fixed or not self._listener.port:
                raise
            self._listener.port = 0
            await self._listener.start()
        if self._folder is not None:
            (self._folder / "port").write_text(str(self._listener.port))
        for account in self._accounts.values():
            self._push_anew(account)

    async def aclose(self) -> None:
        """May be called twice; `start` opens the same address again, so that an outage can be played."""
        self._page.close()
        self._api.close()
        for account in self._accounts.values():
            account.updates.end_poll("Conflict: terminated by close request")
        ending = [task for pusher in self._pushers.values() for task in pusher.stop()]
        self._pushers.clear()
        if ending:
            await asyncio.wait(ending, timeout=CLOSING_SECONDS)
        await self._listener.aclose()
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._database.close()

    @property
    def url(self) -> str:
        """Root of the Bot API."""
        return self._listener.url

    @property
    def page_url(self) -> str:
        """Link of the chat page, token included: it is a secret of this machine."""
        return f"{self._listener.url}/chat/{self.control_token}/"

    # --- bots ----------------------------------------------------------------------------------------------
    def add_bot(self, token: str, *, username: str = "sandbox_bot") -> None:
        """Register a token; the same token again changes nothing. Raises ValueError for a malformed one."""
        if token in self._accounts:
            return
        account = Account(token, username, self._database)
        account.webhook_changed = lambda: self._push_anew(account)
        account.world.watchers.append(self._page.watcher(account))
        self._accounts[token] = account
        self._database.commit()

    def account(self, token: str | None = None) -> Account:
        """The account of `token`, or the first one. Raises LookupError where no bot was added."""
        if token is not None:
            return self._accounts[token]
        for account in self._accounts.values():
            return account
        raise LookupError("the sandbox has no bot yet: call add_bot first")

    def world(self, token: str | None = None) -> World:
        return self.account(token).world

    # --- what can be seen ----------------------------------------------------------------------------------
    @property
    def calls(self) -> list[Call]:
        return self.log.calls

    @property
    def counts(self) -> Counter[tuple[str, int]]:
        return self.log.counts

    @property
    def keep_calls(self) -> bool:
        return self.log.keep_calls

    @keep_calls.setter
    def keep_calls(self, keep: bool) -> None:
        self.log.keep_calls = keep

    @property
    def on_call(self) -> Callable[[Call], None] | None:
        return self.log.on_call

    @on_call.setter
    def on_call(self, hook: Callable[[Call], None] | None) -> None:
        self.log.on_call = hook

    @property
    def flood(self) -> FloodLimits | None:
        """Flood control in force; setting it starts counting anew."""
        return self._flood

    @flood.setter
    def flood(self, limits: FloodLimits | None) -> None:
        self._flood = limits
        self._api.gate = FloodGate(limits) if limits else None

    def messages(self, chat_id: int, *, deleted: bool = False, bot: str | None = None) -> list[SeenMessage]:
        """The chat's messages in id order, as they are now (live objects); with `deleted` those too."""
        chat = self.world(bot).chats.get(chat_id)
        found = chat.messages.values() if chat else ()
        return [message for message in found if deleted or not message.deleted]

    def draft(self, chat_id: int, *, thread_id: int | None = None, bot: str | None = None) -> str | None:
        """The preview on the customer's screen, or None; an empty text stands for "Thinking…"."""
        draft = self.world(bot).draft(chat_id, thread_id)
        return draft.text if draft else None

    def pending_updates(self, *, bot: str | None = None) -> int:
        """Updates that are not confirmed yet."""
        return len(self.account(bot).updates)

    def polls(self, *, bot: str | None = None) -> int:
        """How often updates were asked for: the bot is up once this is above zero."""
        return self.account(bot).updates.polls

    # --- inside --------------------------------------------------------------------------------------------
    def _find_account(self, token: str) -> Account | None:
        account = self._accounts.get(token)
        if account is None and self._accept_any_token:
            try:
                self.add_bot(token)
            except ValueError:
                return None
            account = self._accounts[token]
        return account

    def _push_anew(self, account: Account) -> None:
        """Start, replace or end the pusher after the account's webhook."""
        pusher = self._pushers.pop(account.token, None)
        if pusher is not None:
            pusher.stop()
        if account.webhook is not None:
            if self._session is None:
                self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, use_dns_cache=False))
            self._pushers[account.token] = Pusher(
                account, account.webhook, self._session, self._api.from_webhook, self._webhook_delay
            )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if is_foreign(scope, self._listener.port):
            await refuse_foreign(send)
        elif path.startswith("/bot"):
            await self._api.call(scope, receive, send)
        elif path.startswith("/file/bot"):
            await self._api.file(scope, send)
        else:
            await self._page.serve(scope, receive, send)


def _kept_token(folder: Path | None) -> str:
    """The page's token: kept in the folder (0600), so that a tab stays good across restarts."""
    if folder is None:
        return secrets.token_urlsafe(24)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "page-token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text().strip()


def _kept_port(folder: Path | None) -> int:
    """The port of the last run, or 0: the address in an open tab should go on working."""
    path = folder / "port" if folder else None
    text = path.read_text().strip() if path and path.exists() else ""
    return int(text) if text.isdecimal() else 0
