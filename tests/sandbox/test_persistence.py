"""The world on disk: what survives the sandbox's own `kill -9`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import CHAT, TOKEN, Subject

CHILD = """
import asyncio, sys
from pathlib import Path
from bot.sandbox import TelegramServer

async def main():
    server = TelegramServer(folder=Path(sys.argv[1]))
    server.add_bot(sys.argv[2])
    server.add_customer(1001, first_name="Dana")
    server.customer_writes(1001, "before the end")
    server.add_chat(-1005, "supergroup", title="Team", is_forum=True)
    await server.start()
    print(server.url, server.page_url, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_everything_answered_survives_kill_9(
    tmp_path: Path, project_root: Path, http: aiohttp.ClientSession
) -> None:
    """A reply is sent only after what it says is kept; page link, ids, unconfirmed updates and files go on."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), TOKEN, stdout=asyncio.subprocess.PIPE, cwd=project_root
    )
    try:
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), 20)
        url, page_url = line.decode().split()
        api = Subject(url, TOKEN, CHAT, http)
        kept = await api.send("<b>kept</b>", parse_mode="HTML", reply_markup={"force_reply": True})
        gone = await api.send("deleted")
        await api.ok("deleteMessage", chat_id=CHAT, message_id=gone["message_id"])
        topic = await api.ok("createForumTopic", chat_id=-1005, name="T")
        form = aiohttp.FormData({"chat_id": str(CHAT)})
        form.add_field("document", b"content", filename="a.txt")
        async with http.post(f"{url}/bot{TOKEN}/sendDocument", data=form) as reply:
            file_id = (await reply.json())["result"]["document"]["file_id"]
        await api.ok("setMyCommands", commands=[{"command": "help", "description": "Help"}])
        child.send_signal(signal.SIGKILL)
        await asyncio.wait_for(child.wait(), 10)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()

    server = TelegramServer(folder=tmp_path)
    server.add_bot(TOKEN)
    await server.start()
    try:
        assert server.page_url == page_url
        api = Subject(server.url, TOKEN, CHAT, http, server)
        texts = [message.text for message in server.messages(CHAT)]
        assert texts == ["before the end", "kept", None]
        assert server.messages(CHAT)[1].entities == kept["entities"]
        (update,) = await api.ok("getUpdates")
        assert update["message"]["text"] == "before the end"
        assert update["message"]["from"]["first_name"] == "Dana"
        assert (await api.send())["message_id"] == server.messages(CHAT)[2].message_id + 1
        assert await api.ok("sendMessage", chat_id=-1005, text="x", message_thread_id=topic["message_thread_id"])
        assert (await api.ok("getFile", file_id=file_id))["file_size"] == 7
        assert len(await api.ok("getMyCommands")) == 1
        assert server.customer_writes(CHAT, "after") > 0
        ids = [update["update_id"] for update in await api.ok("getUpdates")]
        assert ids == [ids[0], ids[0] + 1]
    finally:
        await server.aclose()


async def test_a_webhook_goes_on_after_a_restart(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """The address is kept and pushed to again from the start."""
    for round_number in range(2):
        server = TelegramServer(folder=tmp_path, webhook_delay_seconds=0.01)
        server.add_bot(TOKEN)
        await server.start()
        api = Subject(server.url, TOKEN, CHAT, http, server)
        if round_number == 0:
            await api.ok("setWebhook", url="http://127.0.0.1:9/hook", secret_token="abc")
        info = await api.ok("getWebhookInfo")
        assert info["url"] == "http://127.0.0.1:9/hook"
        assert server.account().webhook is not None
        await server.aclose()


async def test_the_page_token_is_a_secret_file(tmp_path: Path) -> None:
    """Only its owner can read the token."""
    server = TelegramServer(folder=tmp_path)
    assert (tmp_path / "page-token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "page-token").read_text() == server.control_token


async def test_an_outage_can_be_played(api: Subject, server: TelegramServer) -> None:
    """Closed and started again, the server has the same address and knows what it knew."""
    await api.send("before")
    url = server.url
    await server.aclose()
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.send()
    server.customer_writes(CHAT, "during")
    await server.start()
    assert server.url == url
    assert [update["message"]["text"] for update in await api.ok("getUpdates")] == ["during"]
    assert [message.text for message in server.messages(CHAT)] == ["before", "during"]


async def test_a_remembered_port_that_is_taken_gives_way(tmp_path: Path) -> None:
    """A port is kept for the sake of open tabs; it is no reason not to start."""
    first = TelegramServer(folder=tmp_path)
    await first.start()
    second = TelegramServer(folder=tmp_path)
    await second.start()
    assert first.url != second.url
    for server in (first, second):
        await server.aclose()
        await server.aclose()
