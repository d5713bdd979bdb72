"""A service with everything it writes to, and everything that can happen to a customer's words in it."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bot import texts
from bot.sandbox import ChatBehaviour, SeenMessage
from storage.connection import StoreTarget, connect
from storage.embedded import running_server
from tests.crash.haul import Haul, Held, held_keys
from tests.flows.conftest import Customer, Outage, Service, World, until
from tests.storage.owning import until as eventually

CANARY: Final = re.compile(rb"canary-[a-z]+")
OPERATOR: Final = 5_038


@dataclass
class Place:
    """A service and everything it writes to."""

    service: Service
    folders: list[Path]

    async def keys(self) -> list[Held]:
        secrets = self.service.folder / "secrets"
        keyring_url = self.service.settings.get("KEYRING_URL", f"sqlite:{secrets / 'keyring.db'}")
        return await held_keys(secrets / "master.key", keyring_url)

    def haul(self) -> Haul:
        return Haul(*self.folders)

    async def rewritten(self) -> None:
        """What was said so far goes into the base file of the store's log, where the search can read it as well."""
        embedded = await asyncio.to_thread(running_server, self.service.folder / "data")
        for url in (self.service.settings.get("REDIS_URL", embedded), self.service.settings.get("KEYRING_URL")):
            if url is None:
                continue
            client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
            try:
                await client.config_set("rdbcompression", "no")
                await eventually(client.bgrewriteaof)  # once no other rewrite is under way
            finally:
                await client.aclose()


@contextmanager
def folder() -> Iterator[Path]:
    """With a path that leaves room for a socket's name."""
    found = Path(tempfile.mkdtemp(prefix="flow-")).resolve()
    try:
        yield found
    finally:
        shutil.rmtree(found, ignore_errors=True)


@contextmanager
def server() -> Iterator[Outage]:
    """A Valkey that keeps what it confirms."""
    with folder() as place:
        found = Outage(place)
        try:
            yield found
        finally:
            found.begin()


class Rewritable(Protocol):
    """A store whose log can be rewritten."""

    async def rewritten(self) -> None: ...


async def chatted(world: World, customer: Customer, place: Rewritable) -> None:
    """Everything that can happen to a customer's words; the last of them are still in hand when it returns."""
    operator = world.customer(OPERATOR)
    await operator.asks("/start")  # a bot cannot write first
    world.telegram.add_customer(customer.chat_id, first_name="canary-named")
    await customer.asks("canary-ended")
    await customer.asks("/new")
    first = customer.writes("canary-answered")
    await customer.sees(3)
    customer.edits(first, "canary-corrected")
    await customer.asks("what did I say?")
    assert "canary-corrected" in str(world.asked("what did I say?")[0].messages)
    await place.rewritten()
    await stopped(world, customer)
    world.chat_api.faults.add(kind="500", count=100)
    assert await customer.asks("canary-unanswered") == texts.WAITING
    world.chat_api.faults.clear()
    await customer.sees(7)
    world.telegram.customer_sends_file(customer.chat_id, "document", b"%PDF-", name="a.pdf", caption="canary-photo")
    await customer.sees(8)
    await handed_over(world, customer, operator)
    world.telegram.faults.add(method="sendDocument", kind="accept_then_cut", count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await until(lambda: any("document" in message.media for message in customer.shown), "the document")


async def stopped(world: World, customer: Customer) -> None:
    world.chat_api.behaviour = ChatBehaviour(
        answer=lambda _: "canary-streamed " + "and so on " * 400, chunk_seconds=0.05
    )
    customer.writes("canary-stopped")
    await until(lambda: world.telegram.draft(customer.chat_id), "a draft with text")
    customer.writes("/stop")
    await customer.sees(5)
    world.at_ease()


async def handed_over(world: World, customer: Customer, operator: Customer) -> None:
    """To a person who replies, and does not get the last word."""
    await customer.asks("canary-opening")
    assert await customer.asks("/human") == texts.HANDED
    customer.writes("canary-relayed")
    letter = await letter_about(operator, "canary-relayed")
    operator.writes("canary-replied", reply_to=letter.message_id)
    await customer.sees(11)
    world.telegram.customer_sends_file(customer.chat_id, "document", b"%PDF-", name="a.pdf", caption="canary-attached")
    copied = await letter_about(operator, "canary-attached")
    operator.writes("canary-replied again", reply_to=copied.message_id)
    await customer.sees(12)
    world.telegram.faults.add(method="sendMessage", kind="429", seconds=60, count=99, chat_id=OPERATOR)
    customer.writes("canary-undelivered")
    await until(lambda: [call for call in world.telegram.calls if call.status == 429], "the refusal")
    assert await customer.asks("/handback") == texts.HANDED_BACK


async def letter_about(operator: Customer, words: str) -> SeenMessage:
    found = await until(lambda: [seen for seen in operator.shown if words in (seen.text or "")], "a letter")
    letter: SeenMessage = found[0]
    return letter


async def confirming(customer: Customer) -> tuple[int, str]:
    """The message and the data of the button that deletes everything."""
    assert await customer.asks("/forget") == texts.FORGET_ASK
    return customer.shown[-1].message_id, customer.buttons()[texts.FORGET_ALL]


async def forgotten(world: World, customer: Customer, button: tuple[int, str]) -> None:
    """Presses, and waits for the receipt."""
    world.telegram.customer_presses(customer.chat_id, *button)
    await until(lambda: texts.FORGOTTEN_MORE in (customer.texts or [""])[-1], "the receipt")


async def in_hand(world: World, customer: Customer) -> None:
    """An answer under way, and mail behind it."""
    world.slow(30)
    customer.writes("canary-asked")
    await world.is_asked("canary-asked")
    customer.writes("canary-waiting")
    await world.all_taken()
