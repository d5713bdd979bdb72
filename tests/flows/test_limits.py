"""What customers may use: messages, tokens and money, by minute, day and month, each alone and all together.

Windows are the clock's: a flow that runs over the end of a minute or a day would find nothing used, so those that need
the end of one move what was counted into the window before, as it stands in the store when that window is over.
"""

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from bot import texts
from bot.chat_api import profile
from bot.conversation.tokens import count_tokens
from bot.sandbox import ChatBehaviour, ChatRequest
from bot.sandbox.chat_request import count_tokens as reported
from storage.connection import StoreTarget, connect
from storage.keys import PARTITIONS, Keys
from storage.usage import PERIODS, Used, counted, end_of, used_of
from tests.flows.conftest import QUICK, Customer, Outage, Service, World, echo, free_port, serving, settings_of, until

Start = Callable[..., Service]
KEYS = Keys(4242)


def says(text: str, sentence: str) -> re.Match[str] | None:
    """Whether a text begins with a sentence, whatever its values."""
    return re.match(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^\n]+?)", re.escape(sentence)), text)


def now_ms() -> int:
    return int(time.time() * 1000)


def when(period: str) -> str:
    """The time of return as it is told."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(end_of(period, now_ms()) // 1000))


async def used(client: Redis, customer: Customer) -> Used:
    """What the store says a customer used in this month."""
    return used_of(await _fields(client, KEYS.of(customer.chat_id).chat), now_ms())["M"]


async def used_by_all(client: Redis) -> Used:
    found = Used()
    for number in range(PARTITIONS):
        found = found.plus(used_of(await _fields(client, KEYS.partition("stats", number)), now_ms())["M"])
    return found


async def _fields(client: Redis, key: str) -> dict[str, bytes]:
    found: Any = await client.hgetall(key)
    return {name.decode(): value for name, value in found.items()}


async def end_windows(client: Redis, customer: Customer) -> None:
    """As if minute, day and month of what was counted were over."""
    chat = KEYS.of(customer.chat_id).chat
    for period in PERIODS:
        value: Any = await client.hget(chat, f"u:{period}")
        window, amounts = counted(value)
        await client.hset(chat, f"u:{period}", " ".join(map(str, (window - 1, *amounts))))


def usage(request: ChatRequest) -> int:
    """The tokens that the sandbox reports for a request."""
    return reported(request.messages) + max(1, len(request.answer) // 4)


@pytest.fixture
def small(start_service: Start) -> Callable[..., Service]:
    """A service whose requests cost little, with limits."""

    def make(**settings: str) -> Service:
        return start_service(times=QUICK, **{"SYSTEM_PROMPT": "Be brief.", "PRICES": "*=1/1", **settings})

    return make


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
    yield client
    await client.aclose()


# ---- by minute
@pytest.mark.parametrize("limit", ["messages 2/minute", "tokens 60/minute", "money 0.00006/minute"])
async def test_who_is_too_fast_is_told_that_the_questions_are_kept(
    own_world: World, small: Callable[..., Service], limit: str
) -> None:
    """Once: what comes then is kept without a word, and nothing of it is asked; others go on."""
    await small(CUSTOMER_LIMITS=limit, SUPPORT_CONTACT="help@example.com").start()
    customer = own_world.customer()
    for number in range(8):  # the minute may end in between
        last = await customer.asks(f"fast {number}")
        if says(last, texts.SLOWED):
            break
    found = says(last, texts.SLOWED)
    assert found
    assert 1 <= int(found["seconds"]) <= 60
    assert last.endswith(texts.CONTACT.format(contact="help@example.com"))
    assert number >= 2
    customer.writes("fast more")
    await own_world.all_taken()
    assert await own_world.customer().asks("other") == "Answer to: other"
    assert len(customer.texts) == number + 1 or says(customer.texts[-1], "Answer to: ")
    assert [len(own_world.asked(f"fast {asked}")) for asked in range(number)] == [1] * number


@pytest.mark.slow
async def test_after_a_minute_what_was_kept_is_answered_and_what_is_over_for_the_day_is_told_again(
    own_world: World, small: Callable[..., Service]
) -> None:
    """All kept questions in one answer, one sentence before it; and one a minute however often somebody asks."""
    await small(CUSTOMER_LIMITS="messages 2/minute, tokens 1000/day").start()
    fast, greedy = own_world.customer(), own_world.customer()
    await greedy.asks("long " * 780)
    assert says(await greedy.asks("greedy 1"), texts.LIMIT_CUSTOMER)
    told = time.monotonic()
    number = 0
    while not says(await fast.asks(f"fast m{number}"), texts.SLOWED):
        number += 1
    for text in ("fast next", "fast last"):
        fast.writes(text)
        greedy.writes(text)
    kept = f"fast m{number}\n\nfast next\n\nfast last"
    assert (await fast.sees(number + 2, 75))[-1] == f"Answer to: {kept}"
    assert sum(bool(says(text, texts.SLOWED)) for text in fast.texts) == 1
    assert says((await greedy.sees(3, 75))[-1], texts.LIMIT_CUSTOMER)
    assert time.monotonic() - told >= 55
    assert [request for request in own_world.asked("greedy") if request.messages[-1]["content"] == "greedy 1"] == []


# ---- by day and month
@pytest.mark.parametrize(
    ("limit", "period"),
    [("messages 2/day", "d"), ("messages 2/month", "M"), ("tokens 40/day", "d"), ("money 0.00004/month", "M")],
)
async def test_at_the_limit_a_sentence_tells_when_to_come_back(
    own_world: World, small: Callable[..., Service], limit: str, period: str
) -> None:
    """With a way to a person; it is no part of the history, and when the time is over all is as before."""
    service = small(CUSTOMER_LIMITS=limit, SUPPORT_CONTACT="help@example.com")
    await service.start()
    customer = own_world.customer()
    assert await customer.asks("alpha 0") == "Answer to: alpha 0"
    assert await customer.asks("alpha 1") == "Answer to: alpha 1"
    sentence = texts.LIMIT_CUSTOMER.format(when=when(period))
    assert await customer.asks("alpha 2") == f"{sentence}\n\n{texts.CONTACT.format(contact='help@example.com')}"
    assert own_world.asked("alpha 2") == []
    async with service.store() as client:
        await end_windows(client, customer)
    assert await customer.asks("alpha 3") == "Answer to: alpha 3"
    told = [message["content"] for message in own_world.asked("alpha 3")[0].messages[1:]]
    assert told == ["alpha 0", "Answer to: alpha 0", "alpha 1", "Answer to: alpha 1", "alpha 3"]


async def test_at_the_limit_a_person_is_one_press_away(own_world: World, small: Callable[..., Service]) -> None:
    """Also while the next question waits for the time at which it is told again; and so is a deletion."""
    operator = own_world.customer()
    await small(CUSTOMER_LIMITS="messages 1/day", OPERATOR_IDS=str(operator.chat_id)).start()
    await operator.asks("/start")
    customer, other = own_world.customer(), own_world.customer()
    for one in (customer, other):
        await one.asks("bravo")
        assert says(await one.asks("bravo again"), texts.LIMIT_CUSTOMER)
    assert list(customer.buttons()) == [texts.TALK_TO_A_PERSON]
    for one in (customer, other):
        one.writes("bravo waits")
    await own_world.all_taken()
    await own_world.customer().asks("bravo else")
    customer.presses(texts.TALK_TO_A_PERSON)
    assert (await customer.sees(3))[-1] == texts.HANDED
    await until(lambda: any("bravo waits" in text for text in operator.texts), "the operator reads it")
    other.writes("/forget")
    assert (await other.sees(3))[-1] == f"{texts.FORGET_ASK}\n\n{texts.ASK_AGAIN}"
    assert own_world.asked("bravo waits") == []


def _said(customer: Customer, words: list[str]) -> bool:
    return set(words) <= set(customer.texts)


async def test_operators_are_held_by_no_limit(own_world: World, small: Callable[..., Service]) -> None:
    """Who runs the service can try it out; what they use counts."""
    operator = own_world.customer()
    limits = {"CUSTOMER_LIMITS": "messages 0/day", "TOTAL_LIMITS": "tokens 0/month"}
    service = small(**limits, OPERATOR_IDS=str(operator.chat_id))
    await service.start()
    assert says(await own_world.customer().asks("charlie"), texts.LIMIT_TOTAL)
    for number in range(3):
        operator.writes(f"charlie {number}")
        answers = [f"Answer to: charlie {earlier}" for earlier in range(number + 1)]
        await until(partial(_said, operator, answers), answers[-1])  # news of the limit may come in between
    async with service.store() as client:
        assert (await used(client, operator)).messages == 3
        assert (await used_by_all(client)).messages == 3


async def test_messages_of_one_batch_count_each(own_world: World, small: Callable[..., Service]) -> None:
    """Whoever writes in many short messages uses as much as is written."""
    service = small(CUSTOMER_LIMITS="messages 4/day")
    await service.start()
    customer = own_world.customer()
    own_world.slow(0.5)
    customer.writes("delta 0")
    await own_world.is_asked("delta 0")
    for number in (1, 2, 3):
        customer.writes(f"delta {number}")
    assert (await customer.sees(2))[-1] == "Answer to: delta 1\n\ndelta 2\n\ndelta 3"
    async with service.store() as client:
        assert (await used(client, customer)).messages == 4
    assert says(await customer.asks("delta 4"), texts.LIMIT_CUSTOMER)


async def test_what_is_deleted_waits_no_more(own_world: World, small: Callable[..., Service]) -> None:
    """The bug: the deletion of one conversation took the kept question and left the chat waiting, so that the next
    question waited without a word."""
    service = small(CUSTOMER_LIMITS="messages 3/minute")
    await service.start()
    customer = own_world.customer()
    await customer.asks("papa before")
    press = await customer.asks_to_forget(texts.FORGET_THIS)
    for number in range(8):
        if says(await customer.asks(f"papa {number}"), texts.SLOWED):
            break
    before = len(customer.texts)
    press()
    assert texts.FORGOTTEN_MORE in (await customer.sees(before + 1))[-1]
    last = await customer.asks("papa after")
    assert says(last, texts.SLOWED) or last == "Answer to: papa after", "the minute may be over"
    async with service.store() as client:
        waits = await _fields(client, KEYS.of(customer.chat_id).chat)
    assert ("waits" in waits) == bool(says(last, texts.SLOWED))


# ---- what is charged
async def test_a_forget_lifts_no_limit(own_world: World, small: Callable[..., Service]) -> None:
    """Numbers hold nothing of what was said: they stay."""
    await small(CUSTOMER_LIMITS="messages 2/day").start()
    customer = own_world.customer()
    await customer.asks("echo 0")
    await customer.asks("echo 1")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    await customer.sees(4)
    assert says(await customer.asks("echo 2"), texts.LIMIT_CUSTOMER)
    assert own_world.asked("echo 2") == []


async def test_a_stopped_answer_is_charged(own_world: World, small: Callable[..., Service]) -> None:
    """What was told and what was written until then; also where nothing was written yet."""
    service = small(CUSTOMER_LIMITS="messages 3/day")
    await service.start()
    customer, early = own_world.customer(), own_world.customer()
    own_world.streams()
    customer.writes("foxtrot tell")
    await customer.draft()
    assert (await customer.asks("/stop")).endswith(texts.STOPPED_MARK)
    shown = customer.texts[-1].removesuffix(texts.STOPPED_MARK).rstrip()
    own_world.slow(15)
    early.writes("foxtrot early")
    await own_world.is_asked("foxtrot early")
    assert await early.asks("/stop") == texts.STOPPED
    async with service.store() as client:
        spent = await used(client, customer)
        told = sum(count_tokens(text) for text in ("Be brief.", "foxtrot tell"))
        assert spent == Used(1, told + count_tokens(shown), told + count_tokens(shown))
        told = sum(count_tokens(text) for text in ("Be brief.", "foxtrot early", ""))
        assert await used(client, early) == Used(1, told, told)
        assert (await used_by_all(client)) == spent.plus(Used(1, told, told))


async def test_whoever_forgets_each_answer_before_it_is_whole_uses_nothing_for_free(
    own_world: World, small: Callable[..., Service]
) -> None:
    """The deletion takes the words, not the charge; and that once, whatever was on its way."""
    service = small(CUSTOMER_LIMITS="messages 2/day")
    await service.start()
    customer = own_world.customer()
    own_world.streams()
    for number in (1, 2):
        press = await customer.asks_to_forget(texts.FORGET_ALL)
        customer.writes(f"golf {number}")
        await until(lambda: own_world.telegram.draft(customer.chat_id), "a draft with text")
        press()
        await customer.sees(2 * number)
    own_world.at_ease()
    assert says(await customer.asks("golf 3"), texts.LIMIT_CUSTOMER)
    async with service.store() as client:
        spent = await used(client, customer)
        assert spent.messages == 2
        assert spent.tokens > 2 * count_tokens("Be brief.")
        assert await used_by_all(client) == spent


@pytest.mark.slow
async def test_an_answer_that_is_forgotten_on_its_way_out_is_charged_once(
    own_world: World, small: Callable[..., Service]
) -> None:
    """Its words were fixed, and Telegram makes it wait: the deletion ends it, and charges what it used."""
    service = small(CUSTOMER_LIMITS="messages 20/day")
    await service.start()
    customer = own_world.customer()
    press = await customer.asks_to_forget(texts.FORGET_ALL)
    own_world.telegram.faults.add(method="sendMessage", kind="429", seconds=25, count=1, chat_id=customer.chat_id)
    customer.writes("hotel")
    await until(lambda: [call for call in own_world.telegram.calls if call.status == 429], "the refusal")
    press()
    spent = usage(own_world.asked("hotel")[0])
    async with service.store() as client:
        chat = KEYS.of(customer.chat_id).chat
        deadline = time.monotonic() + 20
        while not await client.hexists(chat, "forget"):
            assert time.monotonic() < deadline
        assert await used(client, customer) == Used(1, spent, spent)
        assert await used_by_all(client) == Used(1, spent, spent)
    assert "Answer to: hotel" not in (await customer.sees(2, 40))[-1]
    async with service.store() as client:
        assert await used(client, customer) == Used(1, spent, spent)


@pytest.mark.parametrize("wire", [frozenset[str](), frozenset({"no_usage"})], ids=["reported", "counted here"])
async def test_tokens_are_those_reported_or_else_counted(
    own_world: World, small: Callable[..., Service], wire: frozenset[str]
) -> None:
    """A server that does not tell them is no way around a limit."""
    service = small(CUSTOMER_LIMITS="tokens 1000000/month")
    await service.start()
    own_world.chat_api.behaviour = ChatBehaviour(answer=echo, wire=wire)
    customer = own_world.customer()
    for number in range(3):
        await customer.asks(f"india {number} and some words that make a difference to how many tokens there are")
    tokens = 0
    for request in own_world.asked("india"):
        counted_here = sum(count_tokens(message["content"]) for message in request.messages)
        tokens += counted_here + count_tokens(request.answer) if wire else usage(request)
    async with service.store() as client:
        assert await used(client, customer) == Used(3, tokens, tokens)
        assert await used_by_all(client) == Used(3, tokens, tokens)


async def test_a_refused_question_counts_as_a_message(own_world: World, small: Callable[..., Service]) -> None:
    """Or whoever sends what is refused could do so without end."""
    service = small(CUSTOMER_LIMITS="messages 1/day")
    await service.start()
    customer = own_world.customer()
    own_world.chat_api.faults.add(kind="400")
    assert await customer.asks("juliet") == texts.NOT_TAKEN
    own_world.chat_api.faults.clear()
    assert says(await customer.asks("juliet again"), texts.LIMIT_CUSTOMER)


async def test_the_figures_tell_tokens_and_cost(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the version of the prompt; what the provider had cached at its own price."""
    monkeypatch.setitem(profile._HOSTS, "127.0.0.1", {"cache_key": True})
    port = free_port()
    settings = settings_of(
        own_world, tmp_path, HTTP_PORT=str(port), PRICES="offline=1/10/0.1", SYSTEM_PROMPT="be brief " * 1000
    )
    async with serving(settings):
        customer = own_world.customer()
        for number in range(3):
            await customer.asks(f"kilo {number}")
        await until(lambda: len(customer.texts) == 3)
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    figures = {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", page, re.MULTILINE)}
    found = own_world.asked("kilo")
    prompt = sum(reported(request.messages) for request in found)
    answer = sum(max(1, len(request.answer) // 4) for request in found)
    cached = figures['bot_tokens_total{kind="cached"}']
    assert figures['bot_tokens_total{kind="prompt"}'] == prompt
    assert figures['bot_tokens_total{kind="answer"}'] == answer
    assert reported(found[0].messages[:1]) < cached < prompt, "the prompt of two of three, and what had been said"
    [(name, cost)] = [pair for pair in figures.items() if pair[0].startswith("bot_cost_total")]
    assert re.fullmatch(r'bot_cost_total\{version="[0-9a-f]{8}"\}', name)
    assert cost == pytest.approx((prompt - cached + 10 * answer + 0.1 * cached) / 10**6, abs=2e-6)
    assert figures["bot_answer_cost_count"] == 3
    assert figures["bot_answer_cost_sum"] == pytest.approx(cost)


# ---- all together
async def test_a_limit_on_all_holds_over_two_services_on_one_store(
    own_world: World, small: Callable[..., Service], outage: Outage
) -> None:
    """Whoever answers: what one lets through counts at the other, and after a restart."""
    services = [small(TOTAL_LIMITS="messages 6/day", REDIS_URL=outage.url) for _ in range(2)]
    await services[0].start()
    services[1].spawn()
    await services[1].ready()
    answered = 0
    while not says(told := await own_world.customer().asks("lima"), texts.LIMIT_TOTAL):
        answered += 1
    assert told == texts.LIMIT_TOTAL.format(when=when("d"))
    assert answered >= 6
    async with store_at(outage.url) as client:
        assert (await used_by_all(client)).messages == answered == len(own_world.asked("lima"))
    for gone, left in (services, services[::-1]):
        await gone.stop()
        for _ in range(3):
            assert says(await own_world.customer().asks("mike"), texts.LIMIT_TOTAL)
        gone.spawn()
        await gone.ready()
        await left.ready()
    assert own_world.asked("mike") == []


# ---- who is not answered
async def test_whoever_is_banned_is_not_answered_and_keeps_every_right(
    own_world: World, small: Callable[..., Service]
) -> None:
    """Nothing they write reaches the chat API; what is theirs they still get, and may have deleted."""
    banned = own_world.customer()
    service = small()
    await service.start()
    await banned.asks("november before")
    await service.stop()
    service.settings["BANNED_IDS"] = f"17, {banned.chat_id}"
    await service.start()
    own_world.chat_api.requests.clear()
    question = banned.writes("november question")
    banned.edits(question, "november edited")
    banned.writes(None, extra={"sticker": {
        "file_id": "s", "file_unique_id": "u", "type": "regular", "width": 1, "height": 1,
        "is_animated": False, "is_video": False,
    }})  # fmt: skip
    assert "Your rights" in (await banned.asks("/privacy"))
    assert await banned.asks("/export") == texts.EXPORT_CAPTION
    assert await banned.asks("/forget") == texts.FORGET_ASK
    banned.presses(texts.FORGET_ALL)
    assert "1 exchange" in (await banned.sees(5))[-1]
    assert await own_world.customer().asks("november other") == "Answer to: november other"
    assert len(own_world.chat_api.requests) == 1
    assert len(banned.texts) == 5


async def test_a_button_from_before_the_ban_asks_nothing(own_world: World, small: Callable[..., Service]) -> None:
    """Continue is a question like any other."""
    banned = own_world.customer()
    service = small()
    await service.start()
    own_world.chat_api.faults.add(kind="length", after=5, count=1)
    own_world.chat_api.behaviour = ChatBehaviour(answer=lambda _: "one two three four five six seven")
    await banned.asks("oscar")
    assert texts.CONTINUE in banned.buttons()
    await service.stop()
    service.settings["BANNED_IDS"] = str(banned.chat_id)
    await service.start()
    banned.presses(texts.CONTINUE)
    await own_world.all_taken()
    assert "Your rights" in (await banned.asks("/privacy"))
    assert len(own_world.chat_api.requests) == 1


# ---- settings
@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CUSTOMER_LIMITS", "messages 20/hour", 'CUSTOMER_LIMITS is wrong: "messages 20/hour" is not a limit such as'),
        ("TOTAL_LIMITS", "tokens 1/day, tokens 2/day", 'TOTAL_LIMITS is wrong: "tokens 2/day" is a second limit'),
        ("PRICES", "gpt-x=1", 'PRICES is wrong: "gpt-x=1" does not hold two or three prices'),
        ("BANNED_IDS", "17,@somebody", "BANNED_IDS is not a whole number"),
        ("SUMMARIES", "perhaps", "SUMMARIES is neither true nor false"),
        ("OUTAGE_MINUTES", "-1", "OUTAGE_MINUTES is too small"),
    ],
)
async def test_a_setting_that_is_wrong_stops_the_start_with_a_sentence(
    start_service: Start, name: str, value: str, sentence: str
) -> None:
    """A limit that was left out silently would be none."""
    service = start_service(**{name: value})
    service.spawn()
    assert await service.ended() == 2
    [told] = service.output.splitlines()
    assert told.startswith(sentence)
    assert ": write " in told
