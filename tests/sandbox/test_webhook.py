"""The webhook pusher against a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from bot.sandbox import TelegramServer
from bot.sandbox.webhook import delay_seconds
from tests.sandbox.callers import CHAT, TOKEN, Subject, until


@dataclass
class Receiver:
    """A bot's web server: notes each delivery, answers as `answer` says (status, JSON body)."""

    url: str = ""
    seen: list[tuple[dict[str, Any], str | None]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], tuple[int, Any]] = lambda _update: (200, None)
    running: int = 0
    most_running: int = 0
    hold: asyncio.Event | None = None

    def texts(self) -> list[str]:
        return [update["message"]["text"] for update, _ in self.seen if "message" in update]

    async def take(self, request: web.Request) -> web.Response:
        update = await request.json()
        self.seen.append((update, request.headers.get("X-Telegram-Bot-Api-Secret-Token")))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        if self.hold is not None and "message" in update:
            await self.hold.wait()
        self.running -= 1
        status, body = self.answer(update)
        return web.json_response(body, status=status) if body is not None else web.Response(status=status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/hook"
    yield found
    if found.hold is not None:
        found.hold.set()
    await runner.cleanup()


async def test_waiting_and_new_updates_are_pushed_with_the_secret(
    api: Subject, server: TelegramServer, receiver: Receiver
) -> None:
    """Bot API, setWebhook: POST of each update, the secret in X-Telegram-Bot-Api-Secret-Token."""
    server.customer_writes(CHAT, "waiting")
    await api.ok("setWebhook", url=receiver.url, secret_token="s3cret")
    server.customer_writes(CHAT, "new")
    await until(lambda: len(receiver.seen) == 2)
    assert receiver.texts() == ["waiting", "new"]
    assert {secret for _, secret in receiver.seen} == {"s3cret"}
    await until(lambda: server.pending_updates() == 0)


async def test_a_failed_update_is_pushed_again_before_the_next(
    api: Subject, server: TelegramServer, receiver: Receiver
) -> None:
    """Bot API, setWebhook: repeated until a 2xx; the chat's later messages wait."""
    answers = iter([500, 503, 200])
    receiver.answer = lambda _update: (next(answers, 200), None)
    await api.ok("setWebhook", url=receiver.url)
    server.customer_writes(CHAT, "first")
    server.customer_writes(CHAT, "second")
    await until(lambda: server.pending_updates() == 0)
    assert receiver.texts() == ["first", "first", "first", "second"]
    info = await api.ok("getWebhookInfo")
    assert info["last_error_message"].startswith("Wrong response from the webhook: 503")


async def test_chats_do_not_wait_for_each_other_and_presses_overtake(
    api: Subject, server: TelegramServer, receiver: Receiver
) -> None:
    """Server: one lane per chat, and lanes of their own for pressed buttons."""
    message_id = (await api.send("choose"))["message_id"]
    receiver.hold = asyncio.Event()
    await api.ok("setWebhook", url=receiver.url)
    server.customer_writes(CHAT, "slow")
    server.customer_writes(CHAT, "after slow")
    server.customer_writes(2002, "other chat")
    server.customer_presses(CHAT, message_id, "yes")
    await until(lambda: len(receiver.seen) == 3)
    assert sorted(receiver.texts()) == ["other chat", "slow"]
    assert sum("callback_query" in update for update, _ in receiver.seen) == 1
    receiver.hold.set()
    await until(lambda: server.pending_updates() == 0)
    assert receiver.texts()[-1] == "after slow"


async def test_no_more_connections_than_allowed(api: Subject, server: TelegramServer, receiver: Receiver) -> None:
    """Bot API, setWebhook max_connections."""
    receiver.hold = asyncio.Event()
    await api.ok("setWebhook", url=receiver.url, max_connections=2)
    for chat in range(2001, 2006):
        server.customer_writes(chat, "hi")
    await until(lambda: receiver.running == 2)
    receiver.hold.set()
    await until(lambda: server.pending_updates() == 0)
    assert receiver.most_running == 2
    assert len(receiver.seen) == 5


async def test_a_call_in_the_reply_is_carried_out(api: Subject, server: TelegramServer, receiver: Receiver) -> None:
    """Bot API, making requests when getting updates: a method in the webhook's reply."""
    receiver.answer = lambda _update: (200, {"method": "sendMessage", "chat_id": CHAT, "text": "by reply"})
    await api.ok("setWebhook", url=receiver.url)
    server.customer_writes(CHAT, "hello")
    await until(lambda: [m.text for m in server.messages(CHAT)] == ["hello", "by reply"])
    assert server.counts["sendMessage", 200] == 1


async def test_a_query_in_the_reply_is_ignored(api: Subject, server: TelegramServer, receiver: Receiver) -> None:
    """Server: get…, setWebhook, deleteWebhook, close and logOut are not carried out from a reply."""
    receiver.answer = lambda _update: (200, {"method": "deleteWebhook"})
    await api.ok("setWebhook", url=receiver.url)
    server.customer_writes(CHAT, "hello")
    await until(lambda: server.pending_updates() == 0)
    assert (await api.ok("getWebhookInfo"))["url"] == receiver.url


async def test_what_was_not_taken_can_be_polled_after_delete_webhook(api: Subject, server: TelegramServer) -> None:
    """Bot API, deleteWebhook: switches back to getUpdates; nothing undelivered is lost."""
    await api.ok("setWebhook", url="http://127.0.0.1:9/nobody")
    server.customer_writes(CHAT, "kept")
    await until(lambda: server.account().webhook_error is not None)
    await api.ok("deleteWebhook")
    assert [update["message"]["text"] for update in await api.ok("getUpdates")] == ["kept"]


async def test_pending_updates_can_be_dropped(api: Subject, server: TelegramServer) -> None:
    """Bot API, deleteWebhook drop_pending_updates."""
    server.customer_writes(CHAT, "dropped")
    await api.ok("deleteWebhook", drop_pending_updates=True)
    assert server.pending_updates() == 0


def test_the_delay_grows_to_a_minute() -> None:
    """Server: at once, then doubling."""
    assert [delay_seconds(failures, 1.0) for failures in range(8)] == [0, 2, 4, 8, 16, 32, 60, 60]


async def test_redirects_are_not_followed(api: Subject, server: TelegramServer, receiver: Receiver) -> None:
    """Only a 2xx of the named address counts."""
    answers = iter([302, 200])
    receiver.answer = lambda _update: (next(answers, 200), None)
    await api.ok("setWebhook", url=receiver.url)
    server.customer_writes(CHAT, "hello")
    await until(lambda: server.pending_updates() == 0)
    assert len(receiver.seen) == 2


async def test_another_webhook_replaces_the_first(api: Subject, server: TelegramServer, receiver: Receiver) -> None:
    """Bot API, setWebhook: the new address takes over what is pending."""
    await api.ok("setWebhook", url="http://127.0.0.1:9/nobody")
    server.customer_writes(CHAT, "hello")
    await api.ok("setWebhook", url=receiver.url)
    await until(lambda: receiver.texts() == ["hello"])
    assert server.account(TOKEN).webhook is not None
