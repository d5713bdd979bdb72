"""Servers for the sandbox's own tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from bot.sandbox import ChatApiServer, TelegramServer
from tests.sandbox.callers import CHAT, TOKEN, Subject


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    telegram = TelegramServer(webhook_delay_seconds=0.01)
    telegram.add_bot(TOKEN)
    telegram.add_chat(CHAT)
    await telegram.start()
    yield telegram
    await telegram.aclose()


@pytest.fixture
def api(server: TelegramServer, http: aiohttp.ClientSession) -> Subject:
    """The sandbox, with its customers at hand."""
    return Subject(server.url, TOKEN, CHAT, http, server)


@pytest.fixture
async def chat_api() -> AsyncIterator[ChatApiServer]:
    chat = ChatApiServer()
    await chat.start()
    yield chat
    await chat.aclose()
