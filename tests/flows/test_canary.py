"""A canary planted by chatting: after a forget nobody reads it, with every stored byte and every key in hand.

The same search runs before the forget and must find every canary then: a search that cannot find proves nothing.
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from bot import texts
from bot.sandbox import ChatBehaviour, SeenMessage
from storage.connection import StoreTarget, connect
from storage.embedded import running_server
from tests.crash.haul import Haul, Held, held_keys
from tests.flows.conftest import QUICK, Customer, Outage, Service, World, Zygote, until

CANARY: Final = re.compile(rb"canary-[a-z]+")
OPERATOR: Final = 5_038
PLANTED: Final = frozenset(
    b"canary-" + name
    for name in (
        b"answered", b"stopped", b"streamed", b"unanswered", b"corrected", b"ended", b"photo", b"opening", b"relayed",
        b"undelivered", b"attached", b"asked", b"waiting", b"named",
    )
)  # fmt: skip
KEPT: Final = frozenset({b"canary-control", b"canary-replied"})
"""Another customer's words; and an operator's own ones, which stay under the operator's key."""


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
                await client.bgrewriteaof()
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


@pytest_asyncio.fixture(loop_scope="session")
async def place(request: pytest.FixtureRequest, own_world: World, zygote: Zygote) -> AsyncIterator[Place]:
    """A service over the embedded store, or over a store and a keyring on servers of their own."""
    with ExitStack() as stack:
        own = stack.enter_context(folder())
        settings = {"OPERATOR_IDS": str(OPERATOR), "TMPDIR": str(own)}
        servers = [stack.enter_context(server()) for _ in range(2)] if request.param == "servers" else []
        if servers:
            settings |= {"REDIS_URL": servers[0].url, "KEYRING_URL": servers[1].url}
        service = Service(own_world, zygote, own, settings=settings, times=QUICK)
        try:
            yield Place(service, [own, *(one.folder for one in servers)])
        finally:
            await service.destroy()


async def chatted(world: World, customer: Customer, place: Place) -> None:
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


@pytest.mark.parametrize(
    ("place", "ending"), [("embedded", "stopped"), ("embedded", "killed"), ("servers", "killed")], indirect=["place"]
)
async def test_nothing_of_a_forgotten_customer_can_be_read_anywhere(
    own_world: World, place: Place, ending: str
) -> None:
    """No decryption of any stored byte with every key still held gives a word back, and none lies open."""
    await place.service.start()
    customer, other = own_world.customer(), own_world.customer()
    await other.asks("canary-control")
    await chatted(own_world, customer, place)
    button = await confirming(customer)
    await in_hand(own_world, customer)
    before = await place.keys()
    haul = place.haul()
    assert haul.opened(before, CANARY) == PLANTED | KEPT
    assert haul.holding(before)
    assert haul.plain(re.compile(rb"service\.started"))  # the log is among the files

    await forgotten(own_world, customer, button)
    await (place.service.stop() if ending == "stopped" else place.service.kill())
    haul, after = place.haul(), await place.keys()
    destroyed = [key for key in before if key not in after]
    assert haul.opened(after, CANARY) == KEPT
    assert haul.plain(CANARY) == set()
    assert len(destroyed) >= 3  # of the mail and of two conversations
    assert haul.holding(destroyed) == []


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
async def test_what_an_operator_does_with_a_customers_words_keeps_none_of_them(own_world: World, place: Place) -> None:
    """Telegram repeats them in edits of a reply, in pins and in presses: there they would lie under another's key."""
    await place.service.start()
    customer, operator = own_world.customer(), own_world.customer(OPERATOR)
    await operator.asks("/start")
    assert await customer.asks("/human") == texts.HANDED
    customer.writes("canary-relayed")
    letter = await letter_about(operator, "canary-relayed")
    reply = operator.writes("how can I help?", reply_to=letter.message_id)
    await customer.sees(2)
    operator.edits(reply, "how may I help?")
    await customer.sees(3)
    told = {
        "message_id": letter.message_id,
        "date": 1,
        "chat": {"id": OPERATOR, "type": "private"},
        "text": letter.text,
    }
    own = {
        **told,
        "message_id": own_world.next_message_id(),
        "from": {"id": OPERATOR, "is_bot": False, "first_name": "A"},
    }
    del own["text"]
    own_world.telegram.push_update({"message": {**own, "pinned_message": told}})
    press = {"id": "1", "from": own["from"], "chat_instance": "1", "data": "keep:1", "message": told}
    own_world.telegram.push_update({"callback_query": press})
    await own_world.all_taken()
    assert place.haul().opened(await place.keys(), CANARY) == {b"canary-relayed"}
    await forgotten(own_world, customer, await confirming(customer))
    assert place.haul().opened(await place.keys(), CANARY) == set()
