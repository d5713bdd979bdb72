"""The webhook route: the secret first, a cap on the body, stored before confirmed, once each."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from bot import app
from bot.sandbox.webhook import SECRET_HEADER
from handlers.web.service import MOST_BYTES
from tests.flows.conftest import Customer, Outage, World, free_port, serving, settings_of, until

SECRET = "webhook-secret-0123456789"
PATH = "/telegram/webhook"


class Hook:
    """The webhook's side of a service that runs in webhook mode over a store that can be taken away."""

    def __init__(self, world: World, client: httpx.AsyncClient, port: int, outage: Outage) -> None:
        self.world = world
        self.client = client
        self.port = port
        self.outage = outage
        self.numbers = iter(range(500_000, 600_000))

    def update(self, customer: Customer, text: str) -> dict[str, Any]:
        """An update as Telegram would bring it; the chat exists at the sandbox, so it can be answered."""
        self.world.telegram.add_chat(customer.chat_id)
        who = {"id": customer.chat_id, "first_name": "W"}
        number = next(self.numbers)
        message = {
            "message_id": self.world.next_message_id(), "date": int(time.time()), "text": text,
            "chat": {**who, "type": "private"}, "from": {**who, "is_bot": False},
        }  # fmt: skip
        return {"update_id": number, "message": message}

    async def post(self, update: Any, *, secret: str | None = SECRET) -> httpx.Response:
        headers = {SECRET_HEADER: secret} if secret is not None else {}
        body = update if isinstance(update, bytes) else json.dumps(update).encode()
        return await self.client.post(PATH, headers=headers, content=body)


@asynccontextmanager
async def hooked(world: World, folder: Path, outage: Outage, **more: str) -> AsyncIterator[Hook]:
    """A service in webhook mode, registered at the sandbox's Telegram."""
    port = free_port()
    hook = {"TELEGRAM_MODE": "webhook", "WEBHOOK_URL": f"http://127.0.0.1:{port}", "WEBHOOK_SECRET": SECRET}
    settings = settings_of(world, folder, REDIS_URL=outage.url, HTTP_PORT=str(port), **hook, **more)
    async with serving(settings), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        await until(lambda: world.telegram.account().webhook, "the webhook is registered")
        yield Hook(world, client, port, outage)


@pytest_asyncio.fixture(loop_scope="session")
async def hook(own_world: World, tmp_path: Path, outage: Outage) -> AsyncIterator[Hook]:
    async with hooked(own_world, tmp_path, outage) as found:
        yield found


async def raw(port: int, *lines: str) -> bytes:
    """What the server says to a request whose body never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            return await reader.readline()
    finally:
        writer.close()


async def test_updates_come_through_the_webhook_and_are_answered_once(hook: Hook) -> None:
    """Telegram pushes, the service answers; the same update brought again changes nothing; polling is not touched."""
    customer = hook.world.customer()
    assert await customer.asks("alpha one") == "Answer to: alpha one"
    await hook.world.all_taken()
    update = hook.update(customer, "alpha two")
    for _ in range(3):
        assert (await hook.post(update)).status_code == 200
    assert (await customer.sees(2))[1] == "Answer to: alpha two"
    await customer.asks("alpha three")
    assert len(hook.world.asked("alpha two")) == 1
    assert hook.world.telegram.polls() == 0


async def test_a_wrong_secret_is_refused_before_the_body_is_read(hook: Hook) -> None:
    """401 without the secret, with a wrong one, and for a body that is announced and never sent."""
    customer = hook.world.customer()
    update = hook.update(customer, "bravo")
    for secret in (None, "", "wrong", SECRET + "x", SECRET.upper()):
        assert (await hook.post(update, secret=secret)).status_code == 401
    head = (f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Length: 1000000", f"{SECRET_HEADER}: wrong")
    assert b" 401 " in await raw(hook.port, *head)
    assert (await hook.client.get(PATH)).status_code == 405
    await customer.asks("bravo next")
    assert [request.messages[-1]["content"] for request in hook.world.asked("bravo")] == ["bravo next"]


async def test_too_large_a_body_is_refused(hook: Hook) -> None:
    """413 by its announced length, and by what really comes when none is announced."""
    announced = ("Content-Length: 99999999999", f"{SECRET_HEADER}: {SECRET}")
    assert b" 413 " in await raw(hook.port, f"POST {PATH} HTTP/1.1", "Host: localhost", *announced)
    headers = {SECRET_HEADER: SECRET}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MOST_BYTES // 65_536 + 2):
            yield b" " * 65_536

    assert (await hook.client.post(PATH, headers=headers, content=chunks())).status_code == 413
    assert (await hook.world.customer().asks("charlie")).startswith("Answer to: charlie")


async def test_what_is_no_update_is_taken_and_dropped(hook: Hook) -> None:
    """Brought again for a day, it would hold up its chat; nothing of it is an error of the service."""
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"update_id": "x"}'):
        reply = await hook.post(content)
        assert reply.status_code == 200, content[:20]
    assert (await hook.world.customer().asks("delta")).startswith("Answer to: delta")


async def test_nothing_is_confirmed_while_the_store_is_away(hook: Hook) -> None:
    """503 until it is back; what Telegram brings again is then answered, once."""
    customer = hook.world.customer()
    await customer.asks("echo one")
    hook.outage.begin()
    update = hook.update(customer, "echo two")
    reply = await hook.post(update)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    customer.writes("echo three")
    ready = await hook.client.get("/readyz")
    assert (ready.status_code, list(ready.json()["troubles"])) == (503, ["store"])
    hook.outage.end()
    deadline = time.monotonic() + 20
    while (reply := await hook.post(update)).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    parts = ("echo two", "echo three")
    await until(lambda: all(part in " ".join(customer.texts) for part in parts), "both are answered")
    for part in parts:
        assert " ".join(customer.texts).count(part) == 1


async def test_lone_surrogates_come_through_the_webhook(hook: Hook) -> None:
    """Half a character becomes a replacement mark there, too."""
    customer = hook.world.customer()
    assert (await hook.post(hook.update(customer, "golf \ud83d broken"))).status_code == 200
    assert await customer.sees(1) == ["Answer to: golf \ufffd broken"]


async def test_too_much_waiting_answers_503(
    own_world: World, tmp_path: Path, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the cap of the whole service Telegram keeps the updates; they are taken once there is room."""
    monkeypatch.setattr(app, "_SAMPLE_SECONDS", 0.05)
    own_world.slow(2.0)
    async with hooked(own_world, tmp_path, outage, QUEUE_CAP="3") as hook:
        customers = [own_world.customer() for _ in range(6)]
        for number, customer in enumerate(customers[:3]):
            assert (await hook.post(hook.update(customer, f"hotel m{number}"))).status_code == 200
        update = hook.update(customers[3], "hotel m3")
        deadline = time.monotonic() + 20
        while (reply := await hook.post(update)).status_code == 200:
            update = hook.update(customers[3], "hotel again")
            assert time.monotonic() < deadline
        assert reply.status_code == 503
        own_world.at_ease()
        while (await hook.post(update)).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        for number, customer in enumerate(customers[:3]):
            assert await customer.sees(1) == [f"Answer to: hotel m{number}"]


async def test_200_means_stored(hook: Hook) -> None:
    """When Telegram hears 200, the update is in the store, and nobody can read it there."""
    from storage.connection import StoreTarget, connect

    hook.world.slow(5)
    customer = hook.world.customer()
    assert (await hook.post(hook.update(customer, "foxtrot-marker"))).status_code == 200
    client = await connect(StoreTarget.parse(hook.outage.url), connections=1, timeout_seconds=5)
    try:
        mail = await client.lrange((await client.keys("*:mail:*"))[0], 0, -1)
    finally:
        await client.aclose()
    assert len(mail) == 1
    assert b"foxtrot" not in mail[0]
