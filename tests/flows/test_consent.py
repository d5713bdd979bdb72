"""CONSENT_REQUIRED=true: nothing leaves before the customer agreed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from bot import texts
from tests.flows.archives import files
from tests.flows.conftest import Service, World, Zygote, lasting, until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(tmp_path_factory: "Path", zygote: Zygote) -> AsyncIterator[Service]:
    """A service that asks first, with an operator."""
    folder = tmp_path_factory.mktemp("strict")  # type: ignore[attr-defined]
    async with lasting(zygote, folder, CONSENT_REQUIRED="true", OPERATOR_IDS="5040") as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def world(strict: Service) -> AsyncIterator[World]:
    with strict.world.fresh() as found:
        yield found


def _asking() -> str:
    return texts.Words(processor="127.0.0.1", contact="").say(texts.CONSENT_ASK, "en")


async def test_a_question_waits_until_the_customer_agrees(world: World) -> None:
    """It is not lost and not sent; after the button it is answered without being written again."""
    customer = world.customer()
    assert await customer.asks("aardvark one") == _asking()
    customer.writes("aardvark two")
    await world.all_taken()
    assert world.asked("aardvark") == []
    customer.presses(texts.CONSENT_YES)
    answers = await customer.sees(2)
    assert answers[-1] == "Answer to: aardvark one\n\naardvark two"
    assert await customer.asks("aardvark three") == "Answer to: aardvark three"


async def test_who_does_not_agree_is_not_read(world: World) -> None:
    """The question is dropped, and the next one asks again."""
    customer = world.customer()
    await customer.asks("beaver one")
    customer.presses(texts.CONSENT_NO)
    assert (await customer.sees(2))[-1] == texts.CONSENT_REFUSED
    assert await customer.asks("beaver two") == _asking()
    assert world.asked("beaver") == []
    customer.writes("/stop")
    assert (await customer.sees(4))[-1] == texts.STOPPED


async def test_consent_is_kept_with_time_and_version_and_can_be_withdrawn(world: World) -> None:
    """The export tells all of it; after a withdrawal nothing is answered any more."""
    customer = world.customer()
    await customer.asks("camel one")
    customer.presses(texts.CONSENT_YES)
    await customer.sees(2)
    assert "You agreed on" in await customer.asks("/privacy")
    customer.presses(texts.PRIVACY_WITHDRAW)
    assert "You withdrew your consent" in (await customer.sees(4))[-1]
    assert await customer.asks("camel two") == _asking()
    customer.writes("/stop")
    await customer.sees(6)
    customer.writes("/export")
    account = json.loads((await files(world, customer))["account.json"])
    told = [(consent["what"], consent["given"]) for consent in account["consents"]]
    assert told == [("processing", True), ("processing", False)]
    assert all(consent["version"] and consent["at"] for consent in account["consents"])
    assert world.asked("camel two") == []


async def test_everything_forgotten_means_asked_again(world: World) -> None:
    """Consent is personal data, too."""
    customer = world.customer()
    await customer.asks("donkey one")
    customer.presses(texts.CONSENT_YES)
    await customer.sees(2)
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    await customer.sees(4)
    assert await customer.asks("donkey two") == _asking()


async def test_commands_and_persons_need_no_consent(world: World) -> None:
    """What goes to the team goes to no processor."""
    operator, customer = world.customer(5040), world.customer()
    await operator.asks("/start")
    assert await customer.asks("/help") == texts.HELP
    await customer.asks("elk one")
    assert await customer.asks("/human") == texts.HANDED
    await until(lambda: any("elk one" in text for text in operator.texts), "the operator reads it")
    assert world.asked("elk") == []
    await customer.asks("/handback")


async def test_a_button_of_another_text_is_none(world: World) -> None:
    """What was agreed to is what was shown."""
    customer = world.customer()
    await customer.asks("fox one")
    world.telegram.customer_presses(customer.chat_id, customer.shown[-1].message_id, "consent:yes:00000000")
    await world.all_taken()
    assert world.asked("fox") == []
    customer.presses(texts.CONSENT_YES)
    assert (await customer.sees(2))[-1] == "Answer to: fox one"
    world.telegram.customer_presses(customer.chat_id, customer.shown[-2].message_id, "consent:yes:00000000")
    assert (await customer.sees(3))[-1] == texts.BUTTON_UNKNOWN


async def test_a_group_is_sent_to_a_private_chat(world: World) -> None:
    """One cannot agree for all."""
    group = world.customer(-world.customer().chat_id)
    assert await group.asks("goat") == texts.CONSENT_PRIVATE
    assert world.asked("goat") == []
