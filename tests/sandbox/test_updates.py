"""The queue of updates as pollers see it."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import CHAT, Subject, until

pytestmark = pytest.mark.usefixtures("server")


async def texts(api: Subject, **params: object) -> list[str]:
    return [update["message"]["text"] for update in await api.ok("getUpdates", **params)]


async def test_unconfirmed_updates_come_again(api: Subject, server: TelegramServer) -> None:
    """Bot API, getUpdates: an update is confirmed by a higher offset only."""
    server.customer_writes(CHAT, "one")
    server.customer_writes(CHAT, "two")
    assert await texts(api) == ["one", "two"]
    assert await texts(api, offset=0) == ["one", "two"]
    first = (await api.ok("getUpdates"))[0]["update_id"]
    assert await texts(api, offset=first + 1) == ["two"]
    assert await texts(api) == ["two"]
    assert await texts(api, offset=first + 2) == []
    assert server.pending_updates() == 0


async def test_update_ids_are_sequential(api: Subject, server: TelegramServer) -> None:
    """Bot API, Update: ids start from a certain number and increase sequentially."""
    for number in range(3):
        server.customer_writes(CHAT, str(number))
    ids = [update["update_id"] for update in await api.ok("getUpdates")]
    assert ids == list(range(ids[0], ids[0] + 3))


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (100, 100), (0, 1), (1000, 100), (None, 100)])
async def test_a_batch_holds_1_to_100(api: Subject, server: TelegramServer, limit: int | None, expected: int) -> None:
    """Bot API, getUpdates limit; the server brings other values into the range."""
    for number in range(101):
        server.customer_writes(CHAT, str(number))
    assert len(await api.ok("getUpdates", limit=limit)) == expected


async def test_a_negative_offset_keeps_the_newest(api: Subject, server: TelegramServer) -> None:
    """Bot API, getUpdates: from -offset update from the end; all previous ones are forgotten."""
    for number in range(5):
        server.customer_writes(CHAT, str(number))
    assert await texts(api, offset=-2) == ["3", "4"]
    assert server.pending_updates() == 2


async def test_a_long_poll_ends_with_the_first_update(api: Subject, server: TelegramServer) -> None:
    """Bot API, getUpdates timeout: long polling."""
    poll = asyncio.create_task(texts(api, timeout=20))
    await until(lambda: server.polls() == 1)
    server.customer_writes(CHAT, "wake up")
    assert await asyncio.wait_for(poll, 10) == ["wake up"]


async def test_a_long_poll_ends_empty_after_its_timeout(api: Subject) -> None:
    """Bot API, getUpdates timeout: in seconds."""
    start = time.monotonic()
    assert await texts(api, timeout=1) == []
    assert 0.9 < time.monotonic() - start < 5


async def test_a_second_poll_ends_the_first_with_409(api: Subject, server: TelegramServer) -> None:
    """Server: terminated by other getUpdates request."""
    first = asyncio.create_task(api.call("getUpdates", timeout=20))
    await until(lambda: server.polls() == 1)
    second = asyncio.create_task(texts(api, timeout=20))
    status, body = await asyncio.wait_for(first, 10)
    assert (status, body["error_code"]) == (409, 409)
    assert body["description"] == (
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
    )
    server.customer_writes(CHAT, "for the second")
    assert await asyncio.wait_for(second, 10) == ["for the second"]


async def test_a_poller_that_hung_up_leaves_the_place_free(api: Subject, server: TelegramServer) -> None:
    """A killed process must not take an update with it, nor cost the next poller a 409."""
    killed = asyncio.create_task(api.call("getUpdates", timeout=20))
    await until(lambda: server.polls() == 1)
    killed.cancel()
    await until(lambda: server.counts["getUpdates", 200] == 1)
    second = asyncio.create_task(texts(api, timeout=20))
    await until(lambda: server.polls() == 2)
    server.customer_writes(CHAT, "kept")
    assert await asyncio.wait_for(second, 10) == ["kept"]
    assert server.counts["getUpdates", 409] == 0


async def test_setting_a_webhook_ends_the_poll(api: Subject, server: TelegramServer) -> None:
    """Server: terminated by setWebhook request."""
    poll = asyncio.create_task(api.call("getUpdates", timeout=20))
    await until(lambda: server.polls() == 1)
    await api.ok("setWebhook", url="http://127.0.0.1:9/")
    status, body = await asyncio.wait_for(poll, 10)
    assert (status, body["description"]) == (409, "Conflict: terminated by setWebhook request")


async def test_allowed_updates_leave_others_out(api: Subject, server: TelegramServer) -> None:
    """Bot API, getUpdates allowed_updates: remembered; an empty list stands for all usual kinds."""
    await api.ok("getUpdates", allowed_updates=["edited_message"])
    message_id = server.customer_writes(CHAT, "not asked for")
    server.customer_edits(CHAT, message_id, "asked for")
    assert [list(update)[1] for update in await api.ok("getUpdates")] == ["edited_message"]
    await api.ok("getUpdates", allowed_updates=[])
    server.customer_writes(CHAT, "asked for again")
    assert server.pending_updates() == 2


async def test_stop_must_be_named_where_kinds_are_named(api: Subject, server: TelegramServer) -> None:
    """Bot API, Update stopped_message_generation: as every kind, it has to be in the list."""
    await api.ok("getUpdates", allowed_updates=["message"])
    await api.ok("sendMessageDraft", chat_id=CHAT, draft_id=1, text="x", can_stop=True)
    server.customer_stops(CHAT)
    assert server.pending_updates() == 0


@pytest.mark.parametrize("kind", ["chat_member", "message_reaction", "message_reaction_count"])
async def test_some_kinds_come_only_when_named(api: Subject, server: TelegramServer, kind: str) -> None:
    """Bot API, getUpdates allowed_updates: all except these by default."""
    assert server.push_update({kind: {}}) == 0
    await api.ok("getUpdates", allowed_updates=[kind])
    assert server.push_update({kind: {}}) > 0


async def test_updates_are_gone_after_a_day(api: Subject, server: TelegramServer) -> None:
    """Bot API, getting updates: not kept longer than 24 hours."""
    server.customer_writes(CHAT, "yesterday")
    queue = server.account().updates
    for kept in queue.all():
        queue._kept[kept.update_id] = kept._replace(kept_at=kept.kept_at - 24 * 3600 - 1)
    server.customer_writes(CHAT, "today")
    assert await texts(api) == ["today"]


async def test_a_lone_surrogate_travels(api: Subject, server: TelegramServer, http: aiohttp.ClientSession) -> None:
    """Texts that no strict encoder takes reach the bot as JSON escapes."""
    server.customer_writes(CHAT, "half \ud83d of a pair")
    async with http.get(f"{server.url}/bot{api.token}/getUpdates") as reply:
        raw = await reply.text()
    assert "half \\ud83d of a pair" in raw
