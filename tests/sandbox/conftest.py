"""Servers for the sandbox's own tests."""

from __future__ import annotations

import os
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
