"""The wire to the Bot API: refused, never sent, or of unknown fate."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bot.delivery.telegram import TelegramClient, checked_within
from bot.errors import (
    TelegramBlockedError,
    TelegramRefusedError,
    TelegramRetryAfterError,
    TelegramUnauthorizedError,
    TelegramUncertainError,
    TelegramUnreachableError,
)
from bot.sandbox import TelegramServer
from bot.sandbox.faults import Kind

TOKEN = "4242:test-token-of-the-sandbox"
CHAT = 77
SAY = {"chat_id": CHAT, "text": "hello"}


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    server = TelegramServer()
    server.add_bot(TOKEN)
    await server.start()
    server.customer_writes(CHAT, "hi")
    yield server
    await server.aclose()


@pytest.fixture
async def client(server: TelegramServer) -> AsyncIterator[TelegramClient]:
    async with TelegramClient(TOKEN, server.url) as client:
        yield client


def said(server: TelegramServer) -> list[str | None]:
    return [message.text for message in server.messages(CHAT) if message.from_bot]


async def test_a_call_gives_the_result(server: TelegramServer, client: TelegramClient) -> None:
    """Only what is asked for is read of the reply."""
    reply = await client.call("sendMessage", SAY)
    assert reply["message_id"] == server.messages(CHAT)[-1].message_id
    assert said(server) == ["hello"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("400", TelegramRefusedError),
        ("401", TelegramUnauthorizedError),
        ("403", TelegramBlockedError),
        ("429", TelegramRetryAfterError),
    ],
)
async def test_a_definite_refusal_is_one(
    server: TelegramServer, client: TelegramClient, kind: Kind, error: type[Exception]
) -> None:
    """After a 4xx nothing was done: trying again cannot double a message."""
    server.faults.add(method="sendMessage", kind=kind, count=1)
    with pytest.raises(error):
        await client.call("sendMessage", SAY)
    assert said(server) == []


@pytest.mark.parametrize(
    ("kind", "over", "done"),
    [("500", True, 0), ("502", True, 0), ("504", False, 0), ("drop", False, 0), ("accept_then_cut", False, 1)],
)
async def test_a_fate_that_is_unknown_is_called_so(
    server: TelegramServer, client: TelegramClient, kind: Kind, over: bool, done: int
) -> None:
    """A cut call may have been carried out; after a complete 5xx it is at least no longer under way."""
    server.faults.add(method="sendMessage", kind=kind, count=1)
    with pytest.raises(TelegramUncertainError) as caught:
        await client.call("sendMessage", SAY)
    assert caught.value.flight_over is over
    assert len(said(server)) == done


async def test_a_server_that_is_not_there_was_sent_nothing() -> None:
    """Only then may a send be repeated blindly."""
    async with TelegramClient(TOKEN, "http://127.0.0.1:9") as client:
        with pytest.raises(TelegramUnreachableError):
            await client.call("sendMessage", SAY)


async def test_a_silent_server_is_given_up_after_the_time_given(server: TelegramServer, client: TelegramClient) -> None:
    """A reply that never comes leaves the fate unknown."""
    server.faults.add(method="sendMessage", kind="hang", seconds=5, count=1)
    with pytest.raises(TelegramUncertainError):
        await client.call("sendMessage", SAY, seconds=0.1)


async def test_a_guard_that_refuses_leaves_nothing_sent(server: TelegramServer, client: TelegramClient) -> None:
    """Rule 5: the check happens in the moment of the write; headers alone are no request."""

    class TooLateError(Exception):
        pass

    async def refuse() -> None:
        raise TooLateError

    with pytest.raises(TooLateError):
        await client.call("sendMessage", SAY, guard=refuse)
    assert said(server) == []
    assert (await client.call("sendMessage", SAY))["text"] == "hello", "the client goes on working"


async def test_a_guard_that_agrees_is_asked_once(server: TelegramServer, client: TelegramClient) -> None:
    """The normal path costs no further call."""
    asked = []

    async def agree() -> None:
        asked.append(1)

    await client.call("sendMessage", SAY, guard=agree)
    assert (asked, said(server)) == ([1], ["hello"])


async def test_no_error_shows_the_token(server: TelegramServer) -> None:
    """The bot token is part of every address."""
    for url in ("http://127.0.0.1:9", server.url):
        async with TelegramClient(TOKEN, url) as client:
            server.faults.add(method="sendMessage", kind="drop", count=1)
            with pytest.raises((TelegramUnreachableError, TelegramUncertainError)) as caught:
                await client.call("sendMessage", SAY)
            assert "test-token" not in repr(caught.value) + str(caught.value)
            assert caught.value.__cause__ is None


async def test_a_check_whose_answer_is_old_by_the_time_it_comes_is_asked_again() -> None:
    """A process can freeze between the answer of a check and the write it permits."""
    asked = []

    async def slow_at_first() -> None:
        asked.append(1)
        if len(asked) == 1:
            time.sleep(0.05)  # noqa: ASYNC251 (the whole process stands still)

    guard = checked_within(0.02, slow_at_first)
    await guard()
    assert len(asked) == 2


async def test_a_fresh_permit_is_not_asked_for_again() -> None:
    """The normal path costs no further call."""

    async def never() -> None:
        pytest.fail("asked")

    await checked_within(10.0, never, since=asyncio.get_running_loop().time())()
