"""A canary planted by chatting: after a forget nobody reads it, with every stored byte and every key in hand.

The same search runs before the forget and must find every canary then: a search that cannot find proves nothing.
"""

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Final

import pytest
import pytest_asyncio

from bot import texts
from tests.flows.canary.stage import (
    CANARY,
    OPERATOR,
    Place,
    chatted,
    confirming,
    folder,
    forgotten,
    in_hand,
    letter_about,
    server,
)
from tests.flows.conftest import QUICK, Service, World, Zygote

PLANTED: Final = frozenset(
    b"canary-" + name
    for name in (
        b"answered", b"stopped", b"streamed", b"unanswered", b"corrected", b"ended", b"photo", b"opening", b"relayed",
        b"undelivered", b"attached", b"asked", b"waiting", b"named",
    )
)  # fmt: skip
KEPT: Final = frozenset({b"canary-control", b"canary-replied"})
"""Another customer's words; and an operator's own ones, which stay under the operator's key."""


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
