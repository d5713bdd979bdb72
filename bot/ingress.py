"""From Telegram into the inbox: stored first, confirmed second.

Polling asks for the next updates only after all of the last ones are stored, which is what confirms them; the webhook
answers 200 only then. One process polls at a time, under a lease; the others wait to take over.
"""

import asyncio
import json
import time
import uuid
from typing import Any, Final

import orjson

from bot.conversation.control import is_urgent
from bot.conversation.post import Post
from bot.delivery.telegram import TelegramClient
from bot.errors import (
    TelegramConflictError,
    TelegramError,
    TelegramRetryAfterError,
    TelegramUnauthorizedError,
)
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.timing import Timing
from storage.errors import StorageError
from storage.marks import Marks

ALLOWED_UPDATES: Final = ["message", "edited_message", "callback_query", "my_chat_member", "stopped_message_generation"]
WATCHDOG_SECONDS: Final = 60.0
"""A poll that has not come back after this long is given up and made anew."""

_log = get_logger(__name__)


class OverloadedError(Exception):
    """More is waiting than the service keeps: take nothing more for now."""


class Ingress:
    """Stores updates. Raises StorageError and OverloadedError, and then nothing may be confirmed."""

    def __init__(
        self, post: Post, marks: Marks, metrics: Metrics, *, queue_cap: int, operators: frozenset[int] = frozenset()
    ) -> None:
        self._post = post
        self._marks = marks
        self._metrics = metrics
        self._queue_cap = queue_cap
        self._operators = operators
        self._waiting = 0

    def note_depth(self, updates: int) -> None:
        """How many updates wait in the store, as last counted."""
        self._waiting = updates

    async def accept(self, updates: list[Any]) -> None:
        """Stores updates; when it returns, all of them are safe. Those of one chat keep their order."""
        if self._waiting >= self._queue_cap:
            raise OverloadedError
        chats: dict[int, list[dict[str, Any]]] = {}
        for update in updates:
            chat_id = self._chat_of(update)
            if chat_id is not None:
                chats.setdefault(chat_id, []).append(update)
        results = await asyncio.gather(
            *(self._accept_chat(chat_id, of_chat) for chat_id, of_chat in chats.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, (StorageError, asyncio.CancelledError)):
                raise result
            if isinstance(result, BaseException):
                # A fault of ours: brought again it would fail again, and stop everything behind it.
                self._metrics.updates.labels("failed").inc()
                _log.error("update.failed", exc_info=result)

    def _chat_of(self, update: Any) -> int | None:
        """The chat an update belongs to; None (and a line in the log) when there is none to answer in."""
        kind = _kind(update)
        if kind in ALLOWED_UPDATES and isinstance(update.get("update_id"), int):
            chat_id = _chat_in(update.get(kind))
            if chat_id is not None:
                return chat_id
        self._metrics.updates.labels("skipped").inc()
        _log.info("update.skipped", type=kind)
        return None

    async def _accept_chat(self, chat_id: int, updates: list[dict[str, Any]]) -> None:
        received_ms = int(time.time() * 1000)
        self._marks.note(chat_id, *(mid for update in updates if (mid := _message_id(update)) is not None))
        for update in updates:
            answer = await self._accept_one(chat_id, update, received_ms)
            self._metrics.updates.labels(answer).inc()

    async def _accept_one(self, chat_id: int, update: dict[str, Any], received_ms: int) -> str:
        if chat_id in self._operators:
            _drop_quotes(update)
        try:
            content = orjson.dumps(update)
        except TypeError:
            # Nested deeper than any real update: only this one is dropped, not what comes behind it.
            _log.warning("update.unreadable", type=_kind(update))
            return "skipped"
        return await self._post.update(chat_id, update["update_id"], received_ms, content, urgent=is_urgent(update))


class Poller:
    """Polls Telegram while it holds the lease."""

    def __init__(
        self,
        *,
        ingress: Ingress,
        telegram: TelegramClient,
        marks: Marks,
        metrics: Metrics,
        timing: Timing,
        alone: bool,
    ) -> None:
        """``alone``: no other process can poll for this store; whoever holds the lease died with it."""
        self._alone = alone
        self._ingress = ingress
        self._telegram = telegram
        self._marks = marks
        self._metrics = metrics
        self._poll_seconds = int(timing.poll)
        self._lease = timing.leader
        self._name = uuid.uuid4().hex
        self._leads_until = 0.0
        self.last_poll = 0.0
        self.trouble = ""

    async def run(self) -> None:
        """Until cancelled; gives the lease up at the end."""
        offset = 0
        pause = 0.5
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_lease())
                while True:
                    if not self._leads():
                        await asyncio.sleep(0.1)
                        continue
                    try:
                        offset = await self._poll(offset)
                        pause = 0.5
                    except (TelegramError, StorageError, OverloadedError) as error:
                        pause = await self._after(error, pause)
        finally:
            await self._give_up()

    def _leads(self) -> bool:
        return asyncio.get_running_loop().time() < self._leads_until

    async def _keep_lease(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            try:
                if self._alone:
                    await self._marks.depose()
                    self._alone = False
                if await self._marks.lead(self._name, int(self._lease * 1000)):
                    self._leads_until = asked + self._lease * 0.9
            except StorageError:
                _log.warning("lease.unknown")
            await asyncio.sleep(self._lease / 3 if self._leads() else min(1.0, self._lease / 3))

    async def _give_up(self) -> None:
        try:
            if self._leads():
                await self._marks.lead(self._name, 0)
        except StorageError:
            _log.info("lease.kept")

    async def _poll(self, offset: int) -> int:
        parameters = {
            "offset": offset,
            "limit": 100,
            # After a failure the first poll is a short one: it tells at once whether Telegram is back.
            "timeout": 0 if self.trouble else self._poll_seconds,
            "allowed_updates": ALLOWED_UPDATES,
        }
        seconds = max(WATCHDOG_SECONDS, self._poll_seconds + 10)
        updates = await self._telegram.call("getUpdates", parameters, seconds=seconds)
        self.last_poll = time.time()
        self._metrics.last_poll.set(self.last_poll)
        self.trouble = ""
        if not isinstance(updates, list) or not updates:
            return offset
        await self._until_stored([clean_update(update) for update in updates])
        ids = [u["update_id"] for u in updates if isinstance(u, dict) and isinstance(u.get("update_id"), int)]
        return max(ids, default=offset - 1) + 1

    async def _until_stored(self, updates: list[Any]) -> None:
        """Nothing is confirmed before it is stored, however long the store takes to come back."""
        pause = 0.05
        while True:
            try:
                await self._ingress.accept(updates)
            except (StorageError, OverloadedError) as error:
                if pause < 0.1:
                    _log.warning("ingress.waiting", reason=type(error).__name__)
                self.trouble = type(error).__name__
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                return

    async def _after(self, error: Exception, pause: float) -> float:
        """Waits out a failed poll; returns the next pause in seconds."""
        self.trouble = type(error).__name__
        _log.warning("poll.failed", error=str(error))
        if isinstance(error, TelegramConflictError) and "webhook" in error.description:
            try:
                await self._telegram.call("deleteWebhook", {"drop_pending_updates": False})
            except TelegramError:
                _log.warning("webhook.kept")
            pause = 0.5
        elif isinstance(error, TelegramRetryAfterError):
            pause = error.seconds
        elif isinstance(error, TelegramUnauthorizedError):
            pause = max(pause, 5.0)
        await asyncio.sleep(pause)
        return min(pause * 2, 15.0)


async def keep_webhook(telegram: TelegramClient, address: str, secret: str) -> None:
    """Registers the webhook, and again whenever it is not what it should be. Until cancelled."""
    wanted = {"url": address, "secret_token": secret, "allowed_updates": ALLOWED_UPDATES, "max_connections": 40}
    pause = 1.0
    known = False
    while True:
        try:
            info = await telegram.call("getWebhookInfo", {}) if known else {}
            if not isinstance(info, dict) or info.get("url") != address:
                await telegram.call("setWebhook", wanted)
                known = True
                _log.info("webhook.set")
            pause = 300.0
        except TelegramError as error:
            _log.warning("webhook.unset", error=str(error))
            pause = min(pause * 2, 60.0)
        await asyncio.sleep(pause)


def parsed(body: bytes) -> Any:
    """JSON of an update or a list of them; raises ValueError. Lone surrogates and huge numbers are taken, too."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return clean_update(json.loads(body.decode("utf-8", "replace")))


def clean_update(value: Any) -> Any:
    """The value with lone surrogates replaced: no store, page or API could carry them further."""
    try:
        orjson.dumps(value)
    except TypeError:
        try:
            return _cleaned(value)
        except RecursionError:
            return None
    return value


def _kind(update: Any) -> str:
    """The type of an update, which is the name of its content; "none" for what is no update."""
    names = update if isinstance(update, dict) else ()
    return next((str(name)[:40] for name in names if name != "update_id"), "none")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {str(_cleaned(name)): _cleaned(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_cleaned(entry) for entry in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


def _drop_quotes(update: dict[str, Any]) -> None:
    """What an operator replies to, edits, pins or presses a button under are a customer's words, which Telegram tells
    again: they must not be kept under the operator's key."""
    press = update.get("callback_query")
    if isinstance(press, dict) and isinstance(press.get("message"), dict):
        press["message"] = _bare(press["message"])
    for message in (update.get("message"), update.get("edited_message")):
        if not isinstance(message, dict):
            continue
        for name in ("quote", "external_reply"):
            message.pop(name, None)
        for name in ("reply_to_message", "pinned_message"):
            if isinstance(message.get(name), dict):
                message[name] = _bare(message[name])


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what it says."""
    kept = ("message_id", "message_thread_id", "is_topic_message", "date", "chat", "from")
    return {name: message[name] for name in kept if name in message}


def _chat_in(content: Any) -> int | None:
    if not isinstance(content, dict):
        return None
    for holder in (content, content.get("message")):
        chat = holder.get("chat") if isinstance(holder, dict) else None
        chat_id = chat.get("id") if isinstance(chat, dict) else None
        if isinstance(chat_id, int) and not isinstance(chat_id, bool) and abs(chat_id) < 2**53:
            return chat_id
    return None


def _message_id(update: dict[str, Any]) -> int | None:
    message = update.get("message")
    message_id = message.get("message_id") if isinstance(message, dict) else None
    # Telegram's ids fit 32 bits: a larger one is no id, and believing it would spoil the mark of the highest.
    return message_id if isinstance(message_id, int) and 0 < message_id < 2**31 else None
