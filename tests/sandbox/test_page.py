"""The chat page: who may reach it, what it is told, and that it works in a browser."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright

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
    for path in ("/", "/chat/", "/chat/wrong/", "/chat/wrong/events", "/chat//style.css"):
        async with http.get(f"{server.url}{path}") as reply:
            assert reply.status == 404, path
    async with http.post(f"{server.url}/chat/wrong/act", json={"do": "add"}) as reply:
        assert reply.status == 404


@pytest.mark.parametrize("rest", ["", "style.css", "script.js", "nothing"])
async def test_every_answer_carries_the_strict_policy(
    server: TelegramServer, http: aiohttp.ClientSession, rest: str
) -> None:
    """CSP, nosniff and no-referrer on pages and on refusals alike."""
    async with http.get(server.page_url + rest) as reply:
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
     {"do": "edit", "chat_id": CHAT, "message_id": 9, "text": "x"}, {"do": "write", "chat_id": "x", "text": "x"}],
)  # fmt: skip
async def test_impossible_acts_are_refused_in_words(
    server: TelegramServer, http: aiohttp.ClientSession, act: Any
) -> None:
    """Bad input never is a server error."""
    async with http.post(server.page_url + "act", json=act) as reply:
        assert reply.status == 400
        assert (await reply.text()).startswith("That cannot be done")


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


# --- in a browser -----------------------------------------------------------------------------------------
@pytest.fixture
async def browser_page(server: TelegramServer, tmp_path: Path) -> AsyncIterator[Page]:
    """A Chromium on the chat page; errors of the page fail the test."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing")
        pytest.skip("chromium is not installed")
    problems: list[str] = []
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=flags, viewport={"width": 390, "height": 800}
        )
        page = context.pages[0]
        page.on("pageerror", lambda error: problems.append(str(error)))
        # The browser's own lines about a lost connection are no fault of the page.
        page.on(
            "console",
            lambda line: problems.append(line.text) if line.type == "error" and "ERR_" not in line.text else None,
        )
        await page.goto(server.page_url)
        yield page
        await context.close()
    assert problems == []


@pytest.mark.browser
async def test_a_person_can_chat_by_keyboard(api: Subject, server: TelegramServer, browser_page: Page) -> None:
    """Write, read a formatted answer, watch a draft, stop it, press a button: under the strict policy."""
    page = browser_page
    await page.get_by_role("button", name="Start", exact=True).press("Enter")
    await until(lambda: [m.text for m in server.messages(CHAT)] == ["/start"])
    await page.get_by_label("Message", exact=True).fill("<img src=x onerror=alert(1)>")
    await page.keyboard.press("Enter")
    await until(lambda: len(server.messages(CHAT)) == 2)
    await page.get_by_text("<img src=x onerror=alert(1)>").last.wait_for()
    await api.ok("sendMessageDraft", chat_id=CHAT, draft_id=3, text="growing", can_stop=True)
    await page.get_by_role("button", name="Stop").press("Enter")
    await until(lambda: server.draft(CHAT) is None)
    markup = {"inline_keyboard": [[{"text": "A person, please", "callback_data": "human"}]]}
    await api.send("<b>Bold</b> answer", parse_mode="HTML", reply_markup=markup)
    await page.locator("strong", has_text="Bold").wait_for()
    await page.get_by_role("button", name="A person, please").press("Enter")
    await until(lambda: server.pending_updates() == 4)
    kinds = [list(update)[1] for update in await api.ok("getUpdates")]
    assert kinds == ["message", "message", "stopped_message_generation", "callback_query"]


@pytest.mark.browser
async def test_a_page_comes_back_after_a_restart(tmp_path: Path, browser_page: Page) -> None:
    """An open tab goes on with the same link, port and state."""
    folder, token = tmp_path / "world", "99:tab"
    for number in range(2):
        server = TelegramServer(folder=folder)
        server.add_bot(token)
        server.customer_writes(5, f"message {number}")
        await server.start()
        if number == 0:
            await browser_page.goto(server.page_url)
        await browser_page.locator("article", has_text=f"message {number}").wait_for(timeout=15_000)
        assert await browser_page.locator("article").count() == number + 1
        await server.aclose()
