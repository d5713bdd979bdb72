"""Trouble at the chat API and at Telegram: a plain sentence, another try, and never a word of it in the history."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from bot import texts
from bot.sandbox import Call, ChatBehaviour, Fault, FloodLimits
from bot.sandbox.chat_faults import ChatKind
from bot.sandbox.faults import Kind
from tests.flows.conftest import QUICK, Customer, Service, World, echo, serving, settings_of, until


def sends(world: World, customer: Customer) -> list[Call]:
    """The final messages tried in a chat, oldest first."""
    return [call for call in world.telegram.calls if (call.method, call.chat_id) == ("sendMessage", customer.chat_id)]


@pytest.mark.parametrize("kind", ["503", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("quota", "401"))])
async def test_a_question_waits_while_the_chat_api_is_down(world: World, kind: ChatKind) -> None:
    """The customer is told once, and answered when it is back; the sentence is in no later request."""
    customer = world.customer()
    await customer.asks("alpha before")
    world.chat_api.faults.add(kind=kind, seconds=0.05)
    assert await customer.asks("alpha waits") == texts.WAITING
    await world.is_asked("alpha waits", len(world.asked("alpha waits")) + 1)
    assert len(customer.texts) == 2
    world.chat_api.faults.clear()
    assert (await customer.sees(3))[-1] == "Answer to: alpha waits"
    await customer.asks("alpha after")
    told = [message["content"] for message in world.asked("alpha after")[-1].messages[1:]]
    before = [text for word in ("before", "waits") for text in (f"alpha {word}", f"Answer to: alpha {word}")]
    assert told == [*before, "alpha after"]


async def test_a_question_that_is_refused_gets_a_sentence_and_the_next_works(world: World) -> None:
    """What would be refused again does not wait; neither it nor the sentence is in a later request."""
    customer = world.customer()
    await customer.asks("able before")
    world.chat_api.faults.add(kind="400")
    assert await customer.asks("able lost") == texts.NOT_TAKEN
    world.chat_api.faults.clear()
    assert await customer.asks("able after") == "Answer to: able after"
    told = [message["content"] for message in world.asked("able after")[-1].messages[1:]]
    assert told == ["able before", "Answer to: able before", "able after"]


async def test_who_waits_can_stop(world: World) -> None:
    """/stop covers the question that waits for the chat API; what is asked next is asked without it."""
    customer = world.customer()
    world.chat_api.faults.add(kind="503", seconds=0.05)
    assert await customer.asks("adam waits") == texts.WAITING
    assert await customer.asks("/stop") == texts.STOPPED
    world.chat_api.faults.clear()
    assert await customer.asks("adam next") == "Answer to: adam next"
    assert "adam waits" not in str(world.asked("adam next")[-1].messages)


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "error_midway", "drop", "500"])
async def test_an_answer_that_fails_once_is_asked_again(world: World, kind: ChatKind) -> None:
    """HTML with 200, an empty answer, a cut stream: the customer sees one whole answer."""
    customer = world.customer()
    words = " ".join(f"bravo{number}" for number in range(30))
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: words)
    world.chat_api.faults.add(kind=kind, count=1, after=5)
    assert await customer.asks(f"bravo {kind}") == words
    assert len(world.asked(f"bravo {kind}")) == 2


async def test_an_answer_without_anything_to_see_gets_a_sentence(world: World) -> None:
    """Invisible characters are no answer, and are not kept as one."""
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: "\x01\x02\x03")
    customer = world.customer()
    assert await customer.asks("charlie") == texts.EMPTY_ANSWER
    world.at_ease()
    await customer.asks("charlie next")
    assert [message["role"] for message in world.asked("charlie next")[0].messages] == ["system", "user"]


async def test_a_429_on_a_final_is_obeyed(world: World) -> None:
    """Nothing goes to that chat until the time is over; the whole answer comes then."""
    customer = world.customer()
    world.telegram.faults.add(method="sendMessage", kind="429", seconds=2, count=1, chat_id=customer.chat_id)
    assert await customer.asks("delta") == "Answer to: delta"
    first, second = sends(world, customer)
    assert first.status == 429
    assert first.t_done is not None
    assert second.t - first.t_done >= 2.0
    ours = [call for call in world.telegram.calls if call.chat_id == customer.chat_id]
    assert [call for call in ours if first.n < call.n < second.n] == []


async def test_a_429_on_the_last_part_loses_nothing(world: World) -> None:
    """The tail of a long answer waits like any other message."""
    customer = world.customer()
    story = " ".join(f"echo{number}" for number in range(1100))
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: story, chunk_words=50)
    refused: list[Fault] = []

    def refuse_second(call: Call) -> None:
        if (call.method, call.chat_id) == ("sendMessage", customer.chat_id) and not refused:
            refused.append(world.telegram.faults.add(
                method="sendMessage", kind="429", seconds=1, count=1, chat_id=customer.chat_id
            ))  # fmt: skip

    world.telegram.on_call = refuse_second
    try:
        customer.writes("echo all")
        await until(lambda: " ".join(customer.texts) == story, "the whole story")
    finally:
        world.telegram.on_call = None
    assert [call.status for call in sends(world, customer)].count(429) == 1
    assert len(sends(world, customer)) == len(customer.texts) + 1


async def test_flood_control_of_one_chat_holds_no_other_back(world: World) -> None:
    """Only the chat that must wait waits."""
    waiting, free = world.customer(), world.customer()
    world.telegram.faults.add(method="sendMessage", kind="429", seconds=3, count=1, chat_id=waiting.chat_id)
    waiting.writes("foxtrot waits")
    await until(lambda: sends(world, waiting), "the refused send")
    for number in range(3):
        assert await free.asks(f"foxtrot free {number}") == f"Answer to: foxtrot free {number}"
    assert waiting.texts == []
    assert await waiting.sees(1) == ["Answer to: foxtrot waits"]


async def test_long_answers_keep_to_the_pace_that_telegram_allows(world: World) -> None:
    """With flood limits in force a long answer arrives whole, and is hardly ever told to wait."""
    customer = world.customer()
    story = "\n".join(f"golf line {number} with some words to fill it" for number in range(400))
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: story, chunk_words=100)
    world.telegram.flood = FloodLimits()
    customer.writes("golf all")
    await until(lambda: "line 399" in " ".join(customer.texts), "the last line")
    assert [call.status for call in sends(world, customer)] == [200] * len(customer.texts)
    assert all(earlier.message_id < later.message_id for earlier, later in pairwise(customer.shown))


async def test_a_blocked_chat_gets_nothing_until_the_customer_returns(world: World) -> None:
    """One refusal is enough; questions from before are not asked, and after the return all is as before."""
    customer = world.customer()
    await customer.asks("hotel first")
    world.slow(0.5)
    customer.writes("hotel while leaving")
    await world.is_asked("hotel while leaving")
    world.telegram.customer_blocks(customer.chat_id)
    await world.all_taken()
    await until(lambda: [call.status for call in sends(world, customer)] == [200, 403], "the refused send")
    world.at_ease()
    await world.customer().asks("hotel other")
    await world.all_taken()
    world.telegram.customer_returns(customer.chat_id)
    assert await customer.asks("hotel again") == "Answer to: hotel again"
    assert [call.status for call in sends(world, customer)].count(403) == 1


async def test_a_403_alone_stops_sends(world: World) -> None:
    """Also without an update that tells of the block: what waits in the mailbox is not sent into the wall."""
    customer = world.customer()
    world.telegram.faults.add(method="sendMessage", kind="403", chat_id=customer.chat_id)
    world.slow(0.4)
    customer.writes("india m1")
    await world.is_asked("india m1")
    customer.writes("india m2")
    await world.all_taken()
    await until(lambda: sends(world, customer), "the refused send")
    world.at_ease()
    await world.customer().asks("india other")
    assert world.asked("india m2") == []
    assert len(sends(world, customer)) == 1


async def test_a_quick_return_after_a_block_is_answered(world: World) -> None:
    """Blocked, unblocked and asked in one breath: what comes after the return is a question like any other."""
    customer = world.customer()
    await customer.asks("papa first")
    world.telegram.customer_blocks(customer.chat_id)
    world.telegram.customer_returns(customer.chat_id)
    assert await customer.asks("papa back") == "Answer to: papa back"


async def test_a_cut_send_shows_one_answer(world: World) -> None:
    """Accepted, and the connection cut before the reply: it is found again, not sent again."""
    customer = world.customer()
    world.telegram.faults.add(method="sendMessage", kind="accept_then_cut", count=1, chat_id=customer.chat_id)
    assert await customer.asks("juliet") == "Answer to: juliet"
    world.telegram.faults.clear()
    await customer.asks("juliet next")
    ever = [message.text for message in world.telegram.messages(customer.chat_id, deleted=True) if message.from_bot]
    assert ever == ["Answer to: juliet", "Answer to: juliet next"]


async def test_a_cut_send_is_found_by_its_text_alone(own_world: World, start_service: Callable[..., Service]) -> None:
    """Should Telegram not tell an untouched message of ours by its markup: no such question is asked."""
    service = start_service(times=QUICK, PROBE_BY_MARKUP="false")
    await service.start()
    customer = own_world.customer()
    await customer.asks("kilo first")
    own_world.telegram.faults.add(method="sendMessage", kind="accept_then_cut", count=1, chat_id=customer.chat_id)
    assert await customer.asks("kilo cut") == "Answer to: kilo cut"
    assert await customer.asks("kilo next") == "Answer to: kilo next"
    ever = [message.text for message in own_world.telegram.messages(customer.chat_id, deleted=True) if message.from_bot]
    assert ever == [f"Answer to: kilo {word}" for word in ("first", "cut", "next")]
    methods = {call.method for call in own_world.telegram.calls}
    assert "editMessageText" in methods
    assert "editMessageReplyMarkup" not in methods
    assert "probe.answered" in service.output


@pytest.mark.parametrize("kind", ["500", "502"])
async def test_a_failing_telegram_shows_one_answer(world: World, kind: Kind) -> None:
    """A 5xx, a proxy's HTML page included, leaves one answer in the end."""
    customer = world.customer()
    world.telegram.faults.add(method="sendMessage", kind=kind, html=kind == "502", count=1, chat_id=customer.chat_id)
    assert await customer.asks("kilo") == "Answer to: kilo"
    assert (await customer.asks("kilo next")) == "Answer to: kilo next"


async def test_failing_drafts_hold_no_answer_back(world: World) -> None:
    """What is cosmetic may fail: the answer comes all the same, and at once."""
    customer = world.customer()
    world.telegram.faults.add(method="sendMessageDraft", kind="429", seconds=5, chat_id=customer.chat_id)
    words = " ".join(["lima"] * 30)
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: words, chunk_seconds=0.02)
    assert await customer.asks("lima") == words
    drafts = [call for call in world.telegram.calls if call.method == "sendMessageDraft"]
    assert len([call for call in drafts if call.chat_id == customer.chat_id]) == 1


@pytest.mark.slow
async def test_polls_that_fail_lose_nothing(world: World) -> None:
    """Cut, refused or garbled polls are made anew; nothing is confirmed that was not stored."""
    customer = world.customer()
    for kind in ("500", "accept_then_cut", "drop"):
        world.telegram.faults.add(method="getUpdates", kind=kind, count=1)
    world.chat_api.behaviour = ChatBehaviour(answer=echo)
    for number in range(5):
        assert await customer.asks(f"mike {number}") == f"Answer to: mike {number}"


@pytest.mark.slow
async def test_every_answer_is_whole_while_a_fifth_of_all_calls_is_told_to_wait(
    own_world: World, start_service: Callable[..., Service]
) -> None:
    """429 on sends, drafts and typing alike, the last piece included: nothing is lost, doubled or out of order."""
    service = start_service()
    await service.start()
    customers = [own_world.customer() for _ in range(8)]
    story = "\n".join(f"uniform line {number} with some words to fill it" for number in range(250))
    own_world.chat_api.behaviour = ChatBehaviour(answer=lambda _: story, chunk_words=200, chunk_seconds=0.05)
    for method in ("sendMessage", "sendMessageDraft", "sendChatAction"):
        own_world.telegram.faults.add(method=method, kind="429", seconds=1, p=0.2)
    for customer in customers:
        customer.writes("uniform")
    for customer in customers:
        await until(lambda: " ".join(customer.texts).count("line 249") >= 1, "the last line", 60)  # noqa: B023
    statuses = {call.status for customer in customers for call in sends(own_world, customer)}
    assert statuses == {200, 429}
    for customer in customers:
        shown = "\n".join(customer.texts)
        numbers = [int(number) for number in re.findall(r"line (\d+)", shown)]
        assert numbers == list(range(250))


@pytest.mark.slow
async def test_five_streams_at_sixty_tokens_a_second_never_hear_429(
    own_world: World, start_service: Callable[..., Service]
) -> None:
    """With Telegram's limits in force: drafts, typing and sends share one budget."""
    service = start_service()
    await service.start()
    own_world.telegram.flood = FloodLimits()
    answer = " ".join(f"victor{number}" for number in range(300))
    own_world.chat_api.behaviour = ChatBehaviour(answer=lambda _: answer, chunk_seconds=1 / 60)
    customers = [own_world.customer() for _ in range(5)]
    for customer in customers:
        customer.writes("victor tell")
    for customer in customers:
        assert await customer.sees(1) == [answer]
    calls = [call for call in own_world.telegram.calls if call.chat_id in {c.chat_id for c in customers}]
    assert {call.status for call in calls} == {200}
    assert sum(call.method == "sendMessageDraft" for call in calls) >= 5 * 3


async def test_an_answer_that_telegram_refuses_in_any_form_is_told(world: World) -> None:
    """Not with entities and not as plain text: a sentence instead of silence, and nothing of it in the history."""
    customer = world.customer()
    world.telegram.faults.add(method="sendMessage", kind="400", count=2, chat_id=customer.chat_id)
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: "**whiskey**")
    assert await customer.asks("whiskey") == texts.UNDELIVERABLE
    world.at_ease()
    await customer.asks("whiskey again")
    assert len(world.asked("whiskey again")[0].messages) == 2


@pytest.mark.slow
async def test_a_draft_is_kept_alive_while_the_model_stalls(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telegram ends a draft after 30 seconds: it is shown again before, unchanged, and again as soon as text comes."""
    monkeypatch.setattr("bot.delivery.preview._REFRESH_SECONDS", 0.5)
    async with serving(settings_of(own_world, tmp_path)):
        customer = own_world.customer()
        own_world.chat_api.behaviour = ChatBehaviour(answer=lambda _: "xray yankee", chunk_seconds=3.5)
        customer.writes("xray")
        assert await customer.sees(1) == ["xray yankee"]
        drafts = [call.params["text"] for call in own_world.telegram.calls if call.method == "sendMessageDraft"]
        assert drafts.count("xray") >= 2
        assert set(drafts) <= {"", "xray", "xray yankee"}
