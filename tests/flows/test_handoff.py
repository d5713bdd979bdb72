"""A person takes over and gives back: /human, operators' replies, /handback, with the model up or down."""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from bot import texts
from bot.texts import Words
from tests.flows.conftest import Customer, Service, World, Zygote, lasting, until

FIRST, SECOND = 5_038, 5_046
"""Two of one partition: one update causes a letter to each."""

WORDS = Words(processor="", contact="")


def said(text: str, name: str) -> str:
    return text.replace("{name}", name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> AsyncIterator[Service]:
    """A service with two operators."""
    settings = {"OPERATOR_IDS": f"{FIRST},{SECOND}", "SUPPORT_CONTACT": "help@support.example"}
    async with lasting(zygote, tmp_path_factory.mktemp("desk"), **settings) as service:
        for operator in (FIRST, SECOND):  # a bot cannot write first
            await service.world.customer(operator).asks("/start")
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def staffed(desk: Service) -> AsyncIterator[World]:
    """A world with operators, without what earlier flows did to it."""
    with desk.world.fresh() as found:
        yield found


async def newest(operator: Customer, marker: str) -> int:
    """The id of the operator's newest message with a marker, once it is there."""
    found = await until(
        lambda: [message for message in operator.shown if marker in (message.text or "")], f"a letter about {marker}"
    )
    return int(found[-1].message_id)


async def handed(world: World, marker: str) -> tuple[Customer, Customer, int]:
    """A customer whose chat was given to a person, an operator, and the message to reply to."""
    customer, operator = world.customer(), world.customer(FIRST)
    await customer.asks(f"{marker} before")
    assert await customer.asks("/human") == texts.HANDED
    return customer, operator, await newest(operator, marker)


async def test_human_tells_every_operator_and_mutes_the_assistant(staffed: World) -> None:
    """The last exchange goes along; what the customer writes then reaches the operators and not the model."""
    customer, operator, message_id = await handed(staffed, "alpha")
    opening = next(message.text for message in operator.shown if message.message_id == message_id) or ""
    assert said(texts.RELAY_OPENING, "Customer") in opening or "asks for a person" in opening
    assert f"{texts.RELAY_QUESTION}\nalpha before" in opening
    assert f"{texts.RELAY_ANSWER}\nAnswer to: alpha before" in opening
    await newest(staffed.customer(SECOND), "alpha before")
    customer.writes("alpha more")
    assert (await until(lambda: [t for t in operator.texts if "alpha more" in t], "the customer's words"))[0].endswith(
        "\n\nalpha more"
    )
    assert staffed.asked("alpha more") == []
    assert len(customer.texts) == 2
    assert await customer.asks("/human") == texts.HANDED_ALREADY


async def test_a_reply_reaches_the_customer_and_the_assistant_goes_on_with_it(staffed: World) -> None:
    """By either operator, to either message; after /handback the model knows what was said meanwhile."""
    customer, operator, message_id = await handed(staffed, "bravo")
    operator.writes("bravo I can help", reply_to=message_id)
    assert (await customer.sees(3))[-1] == f"{texts.FROM_TEAM}\nbravo I can help"
    customer.writes("bravo thanks")
    colleague = staffed.customer(SECOND)
    colleague.writes("bravo you are welcome", reply_to=await newest(colleague, "bravo thanks"))
    assert (await customer.sees(4))[-1] == f"{texts.FROM_TEAM}\nbravo you are welcome"
    assert await customer.asks("/handback") == texts.HANDED_BACK
    await until(lambda: any("bravo" not in t and "back with the assistant" in t for t in operator.texts), "a note")
    assert await customer.asks("bravo after") == "Answer to: bravo after"
    told = str([message["content"] for message in staffed.asked("bravo after")[0].messages])
    for words in ("bravo before", "bravo I can help", "bravo thanks", "bravo you are welcome"):
        assert words in told


async def test_an_operator_gives_the_chat_back(staffed: World) -> None:
    """By /handback in reply to any of the customer's messages; elsewhere it gets a sentence."""
    customer, operator, message_id = await handed(staffed, "charlie")
    operator.writes("/handback", reply_to=message_id)
    assert (await customer.sees(3))[-1] == texts.HANDED_BACK
    assert await customer.asks("charlie after") == "Answer to: charlie after"
    before = len(operator.texts)
    operator.writes("/handback", reply_to=operator.writes("charlie something else"))
    await until(lambda: texts.RELAY_NOT_HANDED in operator.texts[before:], "a sentence")


async def test_pictures_and_files_go_both_ways(staffed: World) -> None:
    """What the assistant cannot read a person can; a copy whose reply was lost is found and not sent again."""
    customer, operator, message_id = await handed(staffed, "charlie")
    staffed.telegram.faults.add(method="copyMessage", kind="accept_then_cut", count=1, chat_id=FIRST)
    before = len(operator.shown)
    staffed.telegram.customer_sends_file(customer.chat_id, "photo", b"jpeg", name="a.jpg", caption="charlie see this")
    await until(lambda: [message for message in operator.shown[before:] if "photo" in message.media], "the photo")
    [photo] = [message for message in operator.shown[before:] if "photo" in message.media]
    assert photo.text == "charlie see this"
    telegram = staffed.telegram
    telegram.customer_sends_file(FIRST, "document", b"%PDF-", name="form.pdf", caption="", reply_to=photo.message_id)
    await until(lambda: [message for message in customer.shown if "document" in message.media], "the form")
    assert texts.FROM_TEAM in customer.texts
    operator.writes("charlie fill it in", reply_to=message_id)
    await until(lambda: f"{texts.FROM_TEAM}\ncharlie fill it in" in customer.texts, "the words")
    assert await customer.asks("/handback") == texts.HANDED_BACK
    assert sum("photo" in message.media for message in operator.shown[before:]) == 1
    assert await customer.asks("charlie after") == "Answer to: charlie after"
    assert "charlie see this" in str(staffed.asked("charlie after")[0].messages)
    staffed.telegram.customer_sends_file(customer.chat_id, "photo", b"jpeg", name="b.jpg", caption="")
    assert (await customer.sees(len(customer.texts) + 1))[-1] == texts.ONLY_TEXT


async def test_what_is_edited_is_passed_on_again(staffed: World) -> None:
    """Both ways, marked; an edit that comes before its message was passed on takes its place."""
    customer, operator, message_id = await handed(staffed, "kilo")
    reply = operator.writes("kilo costs 10", reply_to=message_id)
    assert (await customer.sees(3))[-1] == f"{texts.FROM_TEAM}\nkilo costs 10"
    operator.edits(reply, "kilo costs 100")
    assert (await customer.sees(4))[-1] == f"{texts.FROM_TEAM}\n✏️ kilo costs 100"
    question = customer.writes("kilo why")
    await newest(operator, "kilo why")
    customer.edits(question, "kilo when")
    await newest(operator, "✏️ kilo when")
    staffed.slow(1)
    operator.writes("kilo something else")
    await staffed.is_asked("kilo something else")
    reply = operator.writes("kilo tomorow", reply_to=message_id)
    operator.edits(reply, "kilo tomorrow")
    assert (await customer.sees(5))[-1] == f"{texts.FROM_TEAM}\nkilo tomorrow"


async def test_a_long_reply_that_telegram_cut_reaches_the_customer_whole(staffed: World) -> None:
    """Only its first part says what it replies to."""
    customer, operator, message_id = await handed(staffed, "lima")
    operator.writes("lima " + "word " * 815, reply_to=message_id)
    operator.writes("lima end")
    assert (await customer.sees(4))[-1] == f"{texts.FROM_TEAM}\nlima end"
    assert staffed.asked("lima end") == []


async def test_in_a_forum_a_person_answers_in_the_topic(staffed: World) -> None:
    """And what they said is in that topic's history."""
    group, (topic, _) = staffed.forum("one", "two")
    operator = staffed.customer(FIRST)
    await group.asks("mike before", thread_id=topic)
    await group.asks("/human", thread_id=topic)
    operator.writes("mike I can help", reply_to=await newest(operator, "mike before"))
    await group.sees(3)
    await group.asks("/handback", thread_id=topic)
    await group.asks("mike after", thread_id=topic)
    assert {message.thread_id for message in group.shown if message.text} == {topic}
    assert "mike I can help" in str(staffed.asked("mike after")[0].messages)


async def test_a_person_is_reached_with_the_model_down(staffed: World) -> None:
    """The sentence about the fault has a button for it; what was asked reaches the operator."""
    customer, operator = staffed.customer(), staffed.customer(FIRST)
    staffed.chat_api.faults.add(kind="500", count=100)
    assert await customer.asks("delta lost") == texts.WAITING
    assert list(customer.buttons()) == [texts.TALK_TO_A_PERSON]
    customer.presses(texts.TALK_TO_A_PERSON)
    assert (await customer.sees(2))[-1] == texts.HANDED
    customer.writes("delta again")
    message_id = await newest(operator, "delta again")
    operator.writes("delta here I am", reply_to=message_id)
    assert (await customer.sees(3))[-1] == f"{texts.FROM_TEAM}\ndelta here I am"
    staffed.chat_api.faults.clear()
    assert await staffed.customer().asks("delta is back") == "Answer to: delta is back"


async def test_human_calls_a_running_answer_away(staffed: World) -> None:
    """Without a word shown, the question goes to the person instead."""
    customer, operator = staffed.customer(), staffed.customer(FIRST)
    staffed.slow(15)
    customer.writes("echo slow")
    await staffed.is_asked("echo slow")
    customer.writes("/human")
    assert await customer.sees(1, 5) == [texts.HANDED]
    await newest(operator, "echo slow")
    await until(lambda: staffed.asked("echo slow")[0].aborted, "the request ends")


async def test_an_operator_is_told_how_to_answer(staffed: World) -> None:
    """With the welcome and the help, which a customer reads without it."""
    operator = staffed.customer(SECOND)
    operator.writes("/help")
    await until(lambda: f"{texts.HELP}\n\n{texts.OPERATOR}" in operator.texts, "the help")
    assert await staffed.customer().asks("/help") == texts.HELP


async def test_an_operator_is_a_customer_otherwise(staffed: World) -> None:
    """What is no reply to a customer is answered by the model, in the operator's own history."""
    operator = staffed.customer(SECOND)
    before = len(operator.texts)
    operator.writes("foxtrot what is new")
    await until(lambda: "Answer to: foxtrot what is new" in operator.texts[before:], "an answer")


async def test_a_forget_reaches_the_operators_copies(staffed: World) -> None:
    """What waits for an operator is sealed under the customer's key; the chat is the assistant's again."""
    customer, _, _ = await handed(staffed, "golf")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    await until(lambda: any("1 exchange" in text for text in customer.texts), "the receipt")
    assert await customer.asks("golf after") == "Answer to: golf after"


async def test_a_customer_who_left_is_told_to_the_operator(staffed: World) -> None:
    """A reply that cannot be delivered is not lost in silence."""
    customer, operator, message_id = await handed(staffed, "hotel")
    staffed.telegram.customer_blocks(customer.chat_id)
    operator.writes("hotel hello", reply_to=message_id)
    await until(lambda: texts.RELAY_FAILED in operator.texts, "the operator is told")


async def test_operators_who_cannot_be_reached_leave_nobody_waiting(
    own_world: World, start_service: Callable[..., Service]
) -> None:
    """They never wrote to the bot, so it cannot write to them: the customer is told, and has the assistant again."""
    service = start_service(OPERATOR_IDS=f"{FIRST},{SECOND}")
    await service.start()
    customer = own_world.customer()
    customer.writes("/human")
    assert await customer.sees(2) == [texts.HANDED, texts.NO_PERSON]
    assert await customer.asks("/human") == texts.NO_PERSON
    assert await customer.asks("india") == "Answer to: india"
    operator = own_world.customer(FIRST)
    await operator.asks("/start")
    assert await customer.asks("/human") == texts.HANDED
    await newest(operator, "india")


async def test_without_operators_there_is_the_contact(own_world: World, start_service: Callable[..., Service]) -> None:
    """Or, without that either, an honest sentence."""
    service = start_service(SUPPORT_CONTACT="help@support.example")
    await service.start()
    customer = own_world.customer()
    contact = texts.CONTACT.replace("{contact}", "help@support.example")
    assert await customer.asks("/human") == f"{texts.NO_PERSON}\n\n{contact}"
    own_world.chat_api.faults.add(kind="500", count=100)
    assert await customer.asks("india") == f"{texts.WAITING}\n\n{contact}"
    own_world.chat_api.faults.clear()
    assert (await customer.sees(3))[-1] == "Answer to: india"
    own_world.slow(1)
    customer.writes("india again")
    await own_world.is_asked("india again")
    customer.writes("/human")
    assert (await customer.sees(5))[3:] == ["Answer to: india again", f"{texts.NO_PERSON}\n\n{contact}"]
