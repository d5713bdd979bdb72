"""The chat page as a server: who may reach it, what it is told, and what it takes. In a browser: `tests/browser`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bot.sandbox import TelegramServer
from bot.sandbox.page import MAX_WAITING
from bot.sandbox.wire import loopback
from tests.sandbox.callers import CHAT, Subject, until

POLICY_PARTS = (
    "default-src 'none'",
    "script-src 'self'",
    "require-trusted-types-for 'script'",
    "frame-ancestors 'none'",
)


async def test_the_page_needs_the_token_of_its_link(server: TelegramServer, http: aiohttp.ClientSession) -> None:
    """Without it there is nothing: no page, no events, no acts."""
    async with http.get(server.page_url) as reply:
        assert reply.status == 200
    for path in ("/", "/chat/", "/chat/wrong/", "/chat/wrong/events", "/chat//frame.css"):
        async with http.get(f"{server.url}{path}") as reply:
            assert reply.status == 404, path
    async with http.post(f"{server.url}/chat/wrong/act", json={"do": "add"}) as reply:
        assert reply.status == 404


@pytest.mark.parametrize(
    ("rest", "status"),
    [("", 200), ("frame.css", 200), ("page.js", 200), ("nothing", 404), ("nothing.js", 404), ("file/none", 404),
     ("picture/none", 404), ("../page.py", 404), ("%2e%2e/page.js", 404), ("act", 404)],
)  # fmt: skip
async def test_every_answer_carries_the_strict_policy(
    server: TelegramServer, http: aiohttp.ClientSession, rest: str, status: int
) -> None:
    """CSP, nosniff and no-referrer on pages and on refusals alike; nothing outside the page's folder is given out."""
    async with http.get(URL(server.page_url + rest, encoded=True)) as reply:
        assert reply.status == status
        policy = reply.headers["Content-Security-Policy"]
        assert all(part in policy for part in POLICY_PARTS)
        assert "unsafe" not in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
@pytest.mark.parametrize("path", ["page", "act", "bot", "file"])
async def test_foreign_hosts_and_origins_are_refused_everywhere(
    server: TelegramServer, http: aiohttp.ClientSession, headers: dict[str, str], path: str
) -> None:
    """DNS rebinding and other sites' pages reach nothing, the Bot API included."""
    paths = {"page": server.page_url, "act": server.page_url + "act", "bot": f"{server.url}/bot1:x/getMe"}
    url = paths.get(path, f"{server.url}/file/bot1:x/y")
    async with http.request("POST" if path == "act" else "GET", url, headers=headers) as reply:
        assert reply.status == 403
        assert "Content-Security-Policy" in reply.headers


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_our_own_host_and_origin_pass(server: TelegramServer, http: aiohttp.ClientSession, name: str) -> None:
    """Both names of the loopback are ours, with our port."""
    own = f"{name}:{server.url.rpartition(':')[2]}"
    async with http.get(server.page_url, headers={"Host": own, "Origin": f"http://{own}"}) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("asked", ["0.0.0.0", "::", "example.org", "192.168.1.5", "127.0.0.1"])
def test_only_the_loopback_is_bound(asked: str) -> None:
    """Whatever host is asked for."""
    assert loopback(asked) == "127.0.0.1"
    assert loopback("::1") == "::1"


async def test_an_act_must_be_json(server: TelegramServer, http: aiohttp.ClientSession) -> None:
    """A form of another site cannot send JSON without asking first."""
    async with http.post(server.page_url + "act", data='{"do":"add"}', headers={"Content-Type": "text/plain"}) as reply:
        assert reply.status == 415


@pytest.mark.parametrize(
    "act",
    [{}, [], {"do": "fly"}, {"do": "write", "chat_id": CHAT, "text": " "}, {"do": "stop", "chat_id": CHAT},
     {"do": "edit", "chat_id": CHAT, "message_id": 9, "text": "x"}, {"do": "write", "chat_id": "x", "text": "x"},
     {"do": "add", "language": "tlh"}, {"do": "write", "chat_id": CHAT, "text": "x", "reply_to": 99},
     {"do": "press", "chat_id": CHAT, "message_id": 99, "data": "x"}, {"do": "send", "chat_id": CHAT, "kind": "gold"}],
)  # fmt: skip
async def test_impossible_acts_are_refused_in_words(
    server: TelegramServer, http: aiohttp.ClientSession, act: Any
) -> None:
    """Bad input never is a server error."""
    async with http.post(server.page_url + "act", json=act) as reply:
        assert reply.status == 400
        assert (await reply.text()).startswith("That cannot be done")


@pytest.mark.parametrize(
    ("asked", "content", "status"),
    [
        ({"chat_id": str(CHAT), "kind": "document", "name": "a.txt", "caption": "see"}, b"a", 200),
        ({"chat_id": str(CHAT), "kind": "document", "name": "a.txt"}, b"", 400),
        ({"chat_id": str(CHAT), "kind": "document", "name": " "}, b"a", 400),
        ({"chat_id": str(CHAT), "kind": "gold", "name": "a.txt"}, b"a", 400),
        ({"chat_id": "31", "kind": "document", "name": "a.txt"}, b"a", 400),
        ({"chat_id": str(CHAT), "kind": "document", "name": "a.txt", "caption": "c" * 1025}, b"a", 400),
        ({}, b"a", 400),
    ],
)
async def test_a_file_is_taken_with_a_name_and_for_a_chat(
    api: Subject, server: TelegramServer, asked: dict[str, str], content: bytes, status: int
) -> None:
    """What does not fit is refused in words, with the policy; nothing of it reaches the bot."""
    headers = {"Content-Type": "application/octet-stream"}
    async with api.http.post(server.page_url + "attach", params=asked, data=content, headers=headers) as reply:
        assert reply.status == status
        assert "Content-Security-Policy" in reply.headers
    assert len(await api.ok("getUpdates")) == (status == 200)


async def test_another_sites_form_cannot_attach(server: TelegramServer, http: aiohttp.ClientSession) -> None:
    """A form's own types are not taken: octet-stream needs to be asked for first."""
    async with http.post(server.page_url + "attach", data={"chat_id": str(CHAT)}) as reply:
        assert reply.status == 415


async def test_acts_become_updates(api: Subject, server: TelegramServer) -> None:
    """Writing, editing, pressing, blocking and files by the page are those of a customer."""

    async def act(**what: Any) -> Any:
        async with api.http.post(server.page_url + "act", json=what) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json()

    chat = (await act(do="add"))["chat_id"]
    message_id = (await act(do="write", chat_id=chat, text="hello"))["message_id"]
    await act(do="edit", chat_id=chat, message_id=message_id, text="hello!")
    await act(do="send", chat_id=chat, kind="sticker")
    bot_message = await api.ok("sendMessage", chat_id=chat, text="x")
    await act(do="press", chat_id=chat, message_id=bot_message["message_id"], data="d")
    await act(do="block", chat_id=chat, blocked=True)
    await act(do="block", chat_id=chat, blocked=False)
    kinds = [list(update)[1] for update in await api.ok("getUpdates")]
    assert kinds == ["message", "edited_message", "message", "callback_query", "my_chat_member", "my_chat_member"]


async def events(http: aiohttp.ClientSession, url: str) -> AsyncIterator[tuple[str, Any]]:
    async with http.get(url + "events") as reply:
        assert reply.content_type == "text/event-stream"
        name = ""
        async for line in reply.content:
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                yield name, json.loads(value)


async def test_a_stream_begins_with_the_state_and_goes_on_with_changes(api: Subject, server: TelegramServer) -> None:
    """A page that connects again needs nothing from before."""
    server.customer_writes(CHAT, "already there")
    stream = events(api.http, server.page_url)
    name, state = await anext(stream)
    assert name == "state"
    assert [m["text"] for chat in state["chats"] for m in chat["messages"]] == ["already there"]
    await api.ok("sendChatAction", chat_id=CHAT, action="typing")
    await api.ok("sendMessageDraft", chat_id=CHAT, draft_id=1, text="so far", can_stop=True)
    message = await api.send("done")
    await api.ok("deleteMessage", chat_id=CHAT, message_id=message["message_id"])
    seen = [await anext(stream) for _ in range(4)]
    assert [name for name, _ in seen] == ["action", "draft", "message", "message"]
    assert seen[1][1]["draft"]["can_stop"] is True
    assert (seen[2][1]["text"], seen[3][1]["deleted"]) == ("done", True)
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_a_page_that_does_not_read_is_cut_off(server: TelegramServer) -> None:
    """Memory stays bounded: the stream ends, and a new one begins with the state."""
    page = server._page
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    path = server.page_url.removeprefix(server.url)
    writer.write(f"GET {path}events HTTP/1.1\r\nHost: {server.url.removeprefix('http://')}\r\n\r\n".encode())
    await until(lambda: len(page._readers) == 1)
    for _ in range(MAX_WAITING + 50):
        server.customer_writes(CHAT, "x")
    await until(lambda: not page._readers)
    writer.close()
    del reader
