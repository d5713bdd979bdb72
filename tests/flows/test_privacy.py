"""/privacy: what it tells, and what its buttons change."""

import json

from bot import texts
from storage.keys import Keys
from tests.flows.archives import files
from tests.flows.conftest import Customer, Service, World, until


async def _screen(customer: Customer) -> int:
    """Opens the screen; its message."""
    await customer.asks("/privacy")
    return customer.shown[-1].message_id


async def _shows(customer: Customer, message_id: int, words: str) -> None:
    """Waits until the screen was changed in its place."""
    await until(lambda: words in _text(customer, message_id), words)


def _text(customer: Customer, message_id: int) -> str:
    return next((message.text or "" for message in customer.shown if message.message_id == message_id), "")


async def test_privacy_names_what_is_kept_how_long_and_by_whom(world: World) -> None:
    """And has a button for every right."""
    customer = world.customer()
    await customer.asks("alpha one")
    await customer.asks("/new")
    await customer.asks("alpha two")
    told = await customer.asks("/privacy")
    assert "127.0.0.1" in told
    assert "90 days" in told
    assert "7 days at the latest" in told
    assert "questions with answers: 2, in conversations: 2" in told
    labels = set(customer.buttons())
    assert {texts.PRIVACY_EXPORT, texts.PRIVACY_IMPORT, texts.PRIVACY_FORGET, texts.PRIVACY_RECEIPTS} <= labels
    assert {texts.PRIVACY_WARN, texts.PRIVACY_IMPROVE, "Keep 7 days", "Keep 30 days", "✓ Keep 90 days"} <= labels


async def test_settings_change_in_their_place(world: World, shared: Service) -> None:
    """No new message for each press; what was chosen is in the export, with its time and version."""
    customer = world.customer()
    await customer.asks("bravo")
    message_id = await _screen(customer)
    before = len(customer.texts)
    customer.presses(texts.PRIVACY_IMPROVE)
    await _shows(customer, message_id, "you allow the team")
    customer.presses("Keep 30 days")
    await _shows(customer, message_id, "30 days")
    customer.presses(texts.PRIVACY_WARN)
    await until(lambda: texts.PRIVACY_WARNS in customer.buttons())
    assert len(customer.texts) == before
    async with shared.store() as client:
        chat = Keys(4242).of(customer.chat_id).chat
        assert await client.hget(chat, "keep") == b"30"
    customer.presses(texts.PRIVACY_IMPROVING)
    await _shows(customer, message_id, "may not use your conversations")
    await customer.asks("/export")
    account = json.loads((await files(world, customer))["account.json"])
    assert account["settings"]["keep_days"] == 30
    assert account["settings"]["warn"] is True
    told = [(consent["what"], consent["given"], consent["processors"]) for consent in account["consents"]]
    assert told == [("improvement", True, "127.0.0.1"), ("improvement", False, "127.0.0.1")]
    assert all(len(consent["version"]) == 8 and consent["at"] for consent in account["consents"])


async def test_a_choice_beyond_the_operators_is_none(world: World) -> None:
    """Clients can send any data."""
    customer = world.customer()
    await customer.asks("charlie")
    message_id = await _screen(customer)
    for number, data in enumerate(
        ("privacy:keep:9999", "privacy:keep:91", "privacy:warn:2", "privacy:zebra", "privacy:keep:x")
    ):
        world.telegram.customer_presses(customer.chat_id, message_id, data)
        assert (await customer.sees(3 + number))[-1] == texts.BUTTON_UNKNOWN


async def test_the_screen_that_was_deleted_is_shown_anew(world: World) -> None:
    """A press always shows what became of it."""
    customer = world.customer()
    message_id = await _screen(customer)
    data = customer.buttons()[texts.PRIVACY_IMPROVE]
    gone = "Bad Request: message to edit not found"
    world.telegram.faults.add(method="editMessageText", kind="400", description=gone, count=1)
    world.telegram.customer_presses(customer.chat_id, message_id, data)
    assert "you allow the team" in (await customer.sees(2))[-1]


async def test_receipts_are_listed_with_their_ids(world: World) -> None:
    """The same id that the receipt of a deletion told."""
    customer = world.customer()
    await _screen(customer)
    customer.presses(texts.PRIVACY_RECEIPTS)
    assert (await customer.sees(2))[-1] == texts.RECEIPTS_NONE
    await customer.asks("delta")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    receipt = (await customer.sees(5))[-1]
    number = receipt.partition("Receipt ")[2][:14]
    await _screen(customer)
    customer.presses(texts.PRIVACY_RECEIPTS)
    told = (await customer.sees(7))[-1]
    assert number in told
    assert "everything, questions with answers: 1. Done." in told


async def test_a_group_reads_it_without_buttons(world: World) -> None:
    """What is chosen is a person's own."""
    group = world.customer(-world.customer().chat_id)
    assert "How long" in await group.asks("/privacy")
    assert group.buttons() == {}
