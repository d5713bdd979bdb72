"""One customer whose words went wherever the service keeps anything, and the searches that go after them."""

import asyncio
import hashlib
import io
import logging
import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from aiogram import Router
from aiogram.types import Message
from redis.asyncio import Redis

from bot import texts
from bot.conversation.intents import Intent
from bot.conversation.notes import INSTRUCTION
from bot.sandbox import ChatBehaviour
from handlers.telegram import customer as face
from storage.apikeys import SCOPES, ApiKeys
from storage.connection import StoreTarget, connect
from storage.embedded import running_server
from storage.keys import Keys
from storage.scripts import Store
from tests.crash.haul import Haul, Held, held_keys, words_in
from tests.flows.canary.registry import FIELDS, KEYS, Claim, holdings
from tests.flows.canary.stage import OPERATOR, chatted, folder
from tests.flows.conftest import TOKEN, Customer, World, echo, free_port, serving, settings_of, until
from tests.storage.owning import until as eventually

MODES: Final[Mapping[str, Mapping[str, str]]] = {
    "completions": {"SUMMARIES": "true"},
    "responses": {"CHAT_API_DIALECT": "responses", "CHAT_CONVERSATION_FIELD": "conversation"},
    "dify": {"CHAT_API_DIALECT": "dify"},
}
ELSEWHERE: Final[Mapping[str, frozenset[str]]] = {
    "completions": frozenset({"remote", "removed-remote"}),
    "responses": frozenset({"summed"}),
    "dify": frozenset({"summed"}),
}
"""What a way of asking cannot have: a provider that keeps nothing; one that keeps all is asked for no summary."""

KEYS_OF_BOT: Final = Keys(int(TOKEN.partition(":")[0]))
NOTED: Final = "My order number is 4711, canary-noted."
_NAMES: Final = (
    "answered", "stopped", "streamed", "unanswered", "corrected", "ended", "photo", "opening", "relayed", "undelivered",
    "attached", "named", "noted", "summed", "single", "dead", "journaled", "waiting",
)  # fmt: skip


@dataclass
class Walk:
    """``words``: what is looked for, by the name that the registry's claims know it by."""

    world: World
    folder: Path
    client: httpx.AsyncClient
    store: Redis
    token: str
    mode: str
    customer: Customer
    operator: Customer
    words: dict[str, bytes] = field(default_factory=lambda: {name: f"canary-{name}".encode() for name in _NAMES})

    # ---- searching
    async def keys(self) -> list[Held]:
        secrets = self.folder / "secrets"
        return await held_keys(secrets / "master.key", f"sqlite:{secrets / 'keyring.db'}")

    def named(self, found: Collection[bytes]) -> set[str]:
        return {name for name, word in self.words.items() if word in found}

    @property
    def pattern(self) -> re.Pattern[bytes]:
        return re.compile(b"|".join(map(re.escape, self.words.values())))

    async def rows(self) -> dict[str, set[str]]:
        """Which words can be read in the live store, by row."""
        keys = await self.keys()
        found = await holdings(self.store)
        return {
            row: self.named(words_in(values, keys, self.pattern) | _plain(values, self.pattern))
            for row, values in found.items()
        }

    async def haul(self) -> Haul:
        return await asyncio.to_thread(Haul, self.folder)

    async def opened(self) -> set[str]:
        """Which words any stored byte gives."""
        return self.named((await self.haul()).opened(await self.keys(), self.pattern))

    async def lies_open(self) -> set[str]:
        """Which words stand unsealed in a file, in the log or in the figures."""
        metrics = (await self.client.get("/metrics")).content
        assert b"updates" in metrics
        told = [metrics, log().encode(), *(await self.haul()).files.values()]
        assert b"service.started" in told[1]
        return self.named(_plain(told, self.pattern))

    def at_the_provider(self) -> set[str]:
        return self.named(_plain([repr(self.world.chat_api.kept).encode()], self.pattern))

    async def data(self) -> set[str]:
        """Which words the admin API tells of the chat."""
        reply = await self.call("GET", f"/chats/{self.customer.chat_id}/data")
        assert reply.status_code in {200, 404}
        return self.named(_plain([reply.content], self.pattern))

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **more)

    # ---- files
    async def rewritten(self) -> None:
        """Everything that is in the store now is also in the base of its log, in a dump, and in a copy of that."""
        await self.store.config_set("rdbcompression", "no")
        await eventually(self.store.bgrewriteaof)
        await eventually(self._is_rewritten)
        await self.store.save()
        [dump] = (self.folder / "data").rglob("dump.rdb")
        (self.folder / "old").mkdir(exist_ok=True)
        (self.folder / "old" / "dump.rdb").write_bytes(dump.read_bytes())

    async def _is_rewritten(self) -> bool:
        return not (await self.store.info("persistence"))["aof_rewrite_in_progress"]

    # ---- planting
    async def plant(self) -> None:
        """All of it; when it returns, an answer is on its way and mail lies behind it."""
        await chatted(self.world, self.customer, self)
        await until(lambda: any("document" in message.media for message in self.customer.shown), "the document")
        await self._forgotten_at_a_deaf_provider()
        archive = await self._exported_over_the_api()
        await self._kept_in_mind()
        await self._wishes()
        await self._set_aside()
        await self._offered(archive)
        await self._on_its_way(archive)

    async def _forgotten_at_a_deaf_provider(self) -> None:
        """What it kept is on the list of what it is to delete."""
        self.world.chat_api.faults.add(kind="500", path="/", method="DELETE")
        for question in ("/new", "hello", "canary-removed"):
            await self.customer.asks(question)
        self._note_remote("removed-remote", "canary-removed")
        await self.customer.asks("/forget")
        await self._presses(texts.FORGET_THIS)
        await until(lambda: self.mode == "completions" or self._deaf_calls(), "a try to delete it")

    async def _presses(self, label: str) -> str:
        before = len(self.customer.texts)
        self.customer.presses(label)
        return (await self.customer.sees(before + 1))[-1]

    def _deaf_calls(self) -> bool:
        return any(call.method == "DELETE" and call.status == 500 for call in self.world.chat_api.calls)

    def _note_remote(self, name: str, question: str) -> None:
        kept = self.world.chat_api.kept
        threads = {**kept.items, **kept.dify}
        found = [thread for thread, said in threads.items() if question in repr(said)]
        assert len(found) == (self.mode != "completions")
        if found:
            self.words[name] = found[0].encode()

    async def _kept_in_mind(self) -> None:
        """Talks on until the notes hold a statement, and a summary where one is asked for."""

        def answer(messages: list[dict[str, Any]]) -> str:
            return "canary-summed" if messages[0]["content"] == INSTRUCTION else echo(messages)

        await self.customer.asks("/new")
        self.world.chat_api.behaviour = ChatBehaviour(answer=answer)
        await self.customer.asks(NOTED)
        for number in range(60):
            await self.customer.asks(f"How does page {number} work, and what else is there? " + "and so on " * 20)
            if {"noted", "summed"} - ELSEWHERE[self.mode] <= (await self.rows()).get("notes:C", set()):
                return
        pytest.fail("nothing was noted")

    async def _exported_over_the_api(self) -> bytes:
        """And one exchange of it forgotten, so that the archive has something to offer."""
        asked = self.customer.writes("canary-single")
        await self.customer.sees(len(self.customer.texts) + 1)
        made = await self.call("POST", "/exports", json={"chat_id": self.customer.chat_id})
        self.words["plan"] = b'"made_s":'
        part = made.json()["parts"][0].removeprefix("/api/v1")
        archive = (await self.call("GET", part)).content
        self.words |= {"offer": hashlib.sha256(archive).hexdigest().encode(), "staged": archive[300:332]}
        await self.customer.asks("/forget", reply_to=asked)
        await self._presses(texts.FORGET_ONE)
        return archive

    async def _wishes(self) -> None:
        await self.customer.asks("/privacy")
        self.customer.presses(texts.PRIVACY_IMPROVE)
        await until(lambda: texts.PRIVACY_IMPROVING in self.customer.buttons())
        self.words["wishes"] = b'"what":"improvement"'

    async def _set_aside(self) -> None:
        assert await self.customer.asks("canary-dead") == texts.SET_ASIDE

    async def _offered(self, archive: bytes) -> None:
        before = len(self.customer.texts)
        self.world.telegram.customer_sends_file(
            self.customer.chat_id, "document", archive, name="a.zip", caption="/import"
        )
        assert "Deleted by you: 1." in (await self.customer.sees(before + 1))[-1]

    async def _on_its_way(self, archive: bytes) -> None:
        """The last answer is journaled and Telegram does not take it yet; behind it waits a message, and an archive."""
        for question in ("one more", "the last one"):
            await self.customer.asks(question)
        self._note_remote("remote", "the last one")
        self.button = await self._confirming()
        chat_id = self.customer.chat_id
        refused = self.world.telegram.faults.add(method="sendMessage", kind="429", seconds=4, count=1, chat_id=chat_id)
        self.customer.writes("canary-journaled")
        await until(lambda: refused.struck, "the refusal")
        self.customer.writes("canary-waiting")
        staged = await self.call("POST", "/imports", content=archive, headers={"Content-Type": "application/zip"})
        assert staged.status_code == 202
        await self.world.all_taken()

    async def _confirming(self) -> tuple[int, str]:
        assert await self.customer.asks("/forget") == texts.FORGET_ASK
        return self.customer.shown[-1].message_id, self.customer.buttons()[texts.FORGET_ALL]

    # ---- forgetting
    async def forget(self, by: str) -> None:
        """Everything, as the customer or the operator can have it."""
        if by == "customer":
            self.world.telegram.customer_presses(self.customer.chat_id, *self.button)
            await until(lambda: texts.FORGOTTEN_MORE in self.customer.texts[-1], "the receipt")
        else:
            asked = await self.call("DELETE", f"/chats/{self.customer.chat_id}/data")
            await self.done(asked.json()["receipt"])
        await self.heard()

    async def heard(self) -> None:
        """The provider hears again, and deletes all that it is to delete."""
        self.world.at_ease()
        entries: Any = await self.store.zrange(KEYS_OF_BOT.removals, 0, -1)
        if entries:
            await self.store.zadd(KEYS_OF_BOT.removals, dict.fromkeys(entries, 0))
        await eventually(self._is_told_to_all)

    async def _is_told_to_all(self) -> bool:
        return not await self.store.zcard(KEYS_OF_BOT.removals)

    async def done(self, receipt_id: str) -> None:
        """Waits until a request was carried out."""

        async def is_done() -> bool:
            return (await self.call("GET", f"/receipts/{receipt_id}")).json()["done"] is not None

        await eventually(is_done)


def _plain(values: Collection[bytes], words: re.Pattern[bytes]) -> set[bytes]:
    return {word for value in values for word in words.findall(value)}


def log() -> str:
    """What the service in this process has logged."""
    streams = [getattr(handler, "stream", None) for handler in logging.getLogger().handlers]
    return "".join(stream.getvalue() for stream in streams if isinstance(stream, io.StringIO))


def claims() -> dict[str, Claim]:
    """Of rows and fields, as ``holdings`` names them."""
    of_rows = {row: claim for row, claim in KEYS.items() if row != "chat:C"}
    return of_rows | {f"chat:C/{name}": claim for name, claim in FIELDS.items()}


def failing_on_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that raises on one message, again and again."""
    genuine = face.customer_router

    def with_a_fault(*words: Any, **options: Any) -> Router:
        router = Router()

        async def on_poison(_: Message) -> Intent:
            raise RuntimeError("poison")

        router.message.register(on_poison, lambda message: message.text == "canary-dead")
        router.include_router(genuine(*words, **options))
        return router

    monkeypatch.setattr(face, "customer_router", with_a_fault)


@asynccontextmanager
async def walking(world: World, mode: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walk]:
    """A service in this process, in a folder of its own, asking its model in one of the ``MODES``."""
    failing_on_canaries(monkeypatch)
    port = free_port()
    with folder() as place:
        settings = settings_of(
            world, place, OPERATOR_IDS=str(OPERATOR), CONTEXT_TOKENS="1200", HTTP_PORT=str(port), **MODES[mode]
        )
        async with (
            serving(settings),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
        ):
            await until(lambda: world.telegram.polls() > 0 and "service.started" in log(), "the service polls")
            url = await asyncio.to_thread(running_server, place / "data")
            assert url is not None
            store = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
            try:
                _, token = await ApiKeys(Store(store), KEYS_OF_BOT).create(SCOPES, note="operator-note")
                customer, operator = world.customer(), world.customer(OPERATOR)
                yield Walk(world, place, client, store, token, mode, customer, operator)
            finally:
                await store.aclose()
