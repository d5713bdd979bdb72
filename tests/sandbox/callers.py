"""A plain caller of the Bot API, and waiting for what must become true."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from bot.sandbox import TelegramServer

TOKEN = "4242:sandbox-test-token"
CHAT = 1001
GROUP = -1001234
FORUM = -1005678
BUTTONS = {"inline_keyboard": [[{"text": "Yes", "callback_data": "yes"}, {"text": "No", "callback_data": "no"}]]}
NOT_MODIFIED = (
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a "
    "current content and reply markup of the message"
)


@dataclass
class Subject:
    """The server under test: ours, or another one without a hand on its customers (`server` is None)."""

    url: str
    token: str
    chat: int
    http: aiohttp.ClientSession
    server: TelegramServer | None = None

    async def call(self, method: str, **params: Any) -> tuple[int, dict[str, Any]]:
        """HTTP status and body of one call with a JSON body."""
        async with self.http.post(f"{self.url}/bot{self.token}/{method}", json=params) as reply:
            return reply.status, await reply.json()

    async def ok(self, method: str, **params: Any) -> Any:
        """The result of a call that must succeed."""
        status, body = await self.call(method, **params)
        assert status == 200, body
        assert body["ok"] is True
        return body["result"]

    async def no(self, method: str, **params: Any) -> tuple[int, str]:
        """Code and description of a call that must be refused."""
        status, body = await self.call(method, **params)
        assert body["ok"] is False, body
        assert body["error_code"] == status
        return status, body["description"]

    async def send(self, text: str = "hello", **params: Any) -> dict[str, Any]:
        """A message of the bot in the chat under test."""
        message: dict[str, Any] = await self.ok("sendMessage", chat_id=self.chat, text=text, **params)
        return message


def refused(reason: str) -> tuple[int, str]:
    """What `Subject.no` gives for a request that the server finds wrong."""
    return 400, f"Bad Request: {reason}"


async def upload(subject: Subject, method: str, field: str, content: bytes, **values: str) -> dict[str, Any]:
    """The body of the answer to a call that carries a file."""
    form = aiohttp.FormData({"chat_id": str(subject.chat), **values})
    name = 'na"me.txt' if field == "document" else "x.bin"
    form.add_field(field, io.BytesIO(content), filename=name, content_type="text/plain")
    async with subject.http.post(f"{subject.url}/bot{subject.token}/{method}", data=form) as reply:
        body: dict[str, Any] = await reply.json()
    return body


async def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition; fails when it does not hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "this did not become true in time"
        await asyncio.sleep(0.002)
