"""The rules of the Bot API server that the service stands on, each with its source.

They run against the sandbox. CONFORMANCE_API_URL, CONFORMANCE_TOKEN and CONFORMANCE_CHAT (a private chat that has
started the bot) aim them at another server; cases that need a customer to act are skipped there. Sources: "Bot API" is
the documentation of version 10.3, "server" the behaviour of telegram-bot-api and the client library under it, "report"
what bots were answered in practice.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import CHAT, TOKEN, Subject


@pytest.fixture
async def subject(http: aiohttp.ClientSession) -> AsyncIterator[Subject]:
    """The server under conformance test: the sandbox, or the one that CONFORMANCE_API_URL names."""
    url = os.environ.get("CONFORMANCE_API_URL")
    if url:
        chat = int(os.environ["CONFORMANCE_CHAT"])
        yield Subject(url.rstrip("/"), os.environ["CONFORMANCE_TOKEN"], chat, http)
        return
    telegram = TelegramServer(webhook_delay_seconds=0.01)
    telegram.add_bot(TOKEN)
    telegram.add_chat(CHAT)
    await telegram.start()
    yield Subject(telegram.url, TOKEN, CHAT, http, telegram)
    await telegram.aclose()


@pytest.fixture
def customers(subject: Subject) -> TelegramServer:
    """What people do in the chats; only the sandbox can act it."""
    if subject.server is None:
        pytest.skip("needs somebody to act as a customer, which only the sandbox can do")
    return subject.server
