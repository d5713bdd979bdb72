"""One exchange forgotten, and one answered again."""

import asyncio
import re

from bot import texts
from bot.sandbox import ChatBehaviour
from storage.keys import Keys
from tests.crash.haul import Haul, held_keys
from tests.flows.archives import exported
from tests.flows.conftest import Customer, Service, World, echo, until

_WORDS = re.compile(rb"(?:first|second|third) \w+")


async def _three(world: World, customer: Customer, word: str) -> dict[str, int]:
    """Three exchanges; the ids of their questions."""
    ids = {}
    for number in ("first", "second", "third"):
        before = len(customer.texts)
        ids[number] = customer.writes(f"{number} {word}")
        await customer.sees(before + 1)
    return ids


async def test_a_reply_forgets_that_exchange_and_no_other(world: World, shared: Service) -> None:
    """The model and the export know the others as before; no byte of any file gives the one back."""
    customer = world.customer()
    ids = await _three(world, customer, "alpaca")
    asked = await customer.asks("/forget", reply_to=ids["second"])
    assert asked == texts.FORGET_ONE_ASK
    assert list(customer.buttons())[1] == texts.FORGET_ONE
    customer.presses(texts.FORGET_ONE)
    receipt = (await customer.sees(5))[-1]
    assert "1 exchange of" in receipt
    await customer.asks("fourth alpaca")
    told = str(world.asked("fourth alpaca")[0].messages)
    assert "first alpaca" in told
    assert "third alpaca" in told
    assert "second alpaca" not in told
    await customer.asks("/export")
    content = await exported(world, customer)
    assert "third alpaca" in content
    assert "second alpaca" not in content
    assert '"skipped":[]' in "".join(content.split())
    folder = shared.folder
    keys = await held_keys(folder / "secrets" / "master.key", f"sqlite:{folder / 'secrets' / 'keyring.db'}")
    read = (await asyncio.to_thread(Haul, folder)).opened(keys, re.compile(rb"\w+ alpaca"))
    assert {b"first alpaca", b"third alpaca", b"fourth alpaca"} <= read
    assert b"second alpaca" not in read


async def test_a_reply_to_an_answer_means_its_exchange(world: World) -> None:
    """Also in a conversation that has ended."""
    customer = world.customer()
    await _three(world, customer, "badger")
    answer = customer.shown[0].message_id
    await customer.asks("/new")
    await customer.asks("other badger")
    await customer.asks("/forget", reply_to=answer)
    customer.presses(texts.FORGET_ONE)
    await customer.sees(7)
    await customer.asks("/export")
    content = await exported(world, customer)
    assert "first badger" not in content
    assert "second badger" in content
    assert "other badger" in content


async def test_the_same_exchange_is_forgotten_once(world: World) -> None:
    """Two windows, two buttons: the second one finds nothing and says so."""
    customer = world.customer()
    ids = await _three(world, customer, "civet")
    buttons = []
    for _ in range(2):
        await customer.asks("/forget", reply_to=ids["third"])
        buttons.append((customer.shown[-1].message_id, customer.buttons()[texts.FORGET_ONE]))
    for message_id, data in buttons:
        world.telegram.customer_presses(customer.chat_id, message_id, data)
    assert "1 exchange" in (await customer.sees(7))[-2]
    assert customer.texts[-1] == texts.FORGET_EXPIRED
    await customer.asks("fourth civet")
    told = str(world.asked("fourth civet")[0].messages)
    assert "second civet" in told
    assert "third civet" not in told
    ids["fourth"] = 0
    await customer.asks("/forget", reply_to=ids["third"])
    assert texts.FORGET_ONE_UNKNOWN in customer.texts[-1]
    assert texts.FORGET_ONE not in customer.buttons()


async def test_two_exchanges_of_one_week_go_one_after_the_other(world: World, shared: Service) -> None:
    """Each removal makes a key of its own; what stays can be read after both."""
    customer = world.customer()
    ids = await _three(world, customer, "dingo")
    seen = 3
    for number in ("first", "third"):
        await customer.asks("/forget", reply_to=ids[number])
        customer.presses(texts.FORGET_ONE)
        seen += 2
        await customer.sees(seen)
    await customer.asks("fourth dingo")
    told = str(world.asked("fourth dingo")[0].messages)
    assert "second dingo" in told
    assert "first dingo" not in told
    async with shared.store() as client:
        keys = Keys(4242).of(customer.chat_id)
        assert await client.hget(keys.turns(0, 0), "1") == b"-"


async def test_a_question_asked_meanwhile_is_answered(world: World) -> None:
    """Only the exchange goes; the mailbox stays, under the next key."""
    customer = world.customer()
    ids = await _three(world, customer, "egret")
    await customer.asks("/forget", reply_to=ids["first"])
    customer.presses(texts.FORGET_ONE)
    customer.writes("meanwhile egret")
    answers = await customer.sees(6)
    assert answers[-1] == "Answer to: meanwhile egret"


async def test_the_bots_message_of_one_exchange_is_removed_on_request(world: World) -> None:
    """That one, and no other."""
    customer = world.customer()
    ids = await _three(world, customer, "ferret")
    await customer.asks("/forget", reply_to=ids["second"])
    customer.presses(texts.FORGET_ONE)
    await customer.sees(5)
    customer.presses(texts.REMOVE_MINE)
    gone = texts.REMOVED.format(count=1)
    await until(lambda: gone in customer.texts)
    assert "Answer to: second ferret" not in customer.texts
    assert "Answer to: third ferret" in customer.texts


async def test_an_edited_question_can_be_answered_again(world: World) -> None:
    """The button comes under the answer that stands; pressed, the corrected words are asked."""
    customer = world.customer()
    asked = customer.writes("which gibbon is tall")
    await customer.sees(1)
    customer.edits(asked, "which gibbon is small")
    await until(lambda: texts.ANSWER_AGAIN in customer.buttons())
    assert len(customer.texts) == 1
    customer.presses(texts.ANSWER_AGAIN)
    assert (await customer.sees(2))[-1] == "Answer to: which gibbon is small"
    told = [message["content"] for message in world.asked("gibbon is small")[0].messages[1:]]
    assert told == ["which gibbon is small", "Answer to: which gibbon is tall", "which gibbon is small"]


async def test_answer_again_of_what_is_gone_means_nothing(world: World) -> None:
    """As any button that means nothing."""
    customer = world.customer()
    asked = customer.writes("heron one")
    await customer.sees(1)
    customer.edits(asked, "heron two")
    await until(lambda: texts.ANSWER_AGAIN in customer.buttons())
    message_id, data = customer.shown[-1].message_id, customer.buttons()[texts.ANSWER_AGAIN]
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    await customer.sees(3)
    world.telegram.customer_presses(customer.chat_id, message_id, data)
    assert (await customer.sees(4))[-1] == texts.BUTTON_UNKNOWN
    world.chat_api.behaviour = ChatBehaviour(answer=echo)
