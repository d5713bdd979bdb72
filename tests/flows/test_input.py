"""Whatever customers and Telegram send: answered or refused in words, never met with silence, never the end."""

import time

import httpx
import pytest

from bot import texts
from bot.sandbox.updates import Kept
from tests.flows.conftest import Service, World, until


def push_raw(world: World, body: str) -> None:
    """Queues an update whose JSON is exactly this, as no well-behaved library would write it."""
    queue = world.telegram.account().updates
    update_id = queue._next_id
    queue._next_id += 1
    queue._kept[update_id] = Kept(update_id, int(time.time()), "raw", body.replace("ID", str(update_id)).encode())
    if queue._waiting is not None and not queue._waiting.done():
        queue._waiting.set_result(None)


def raw_message(world: World, chat_id: int, text: str) -> str:
    """A message update; `text` is JSON between its quotes, escapes as they are."""
    who = f'"id": {chat_id}, "first_name": "R"'
    message = (
        f'"message_id": {world.next_message_id()}, "date": {int(time.time())}, "text": "{text}", '
        f'"chat": {{{who}, "type": "private"}}, "from": {{{who}, "is_bot": false}}'
    )
    return f'{{"update_id": ID, "message": {{{message}}}}}'


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\n \t\n", "\u200b\u200d\u2060\ufeff", "\u202e\u202c\u2066\u2069"),
        *("\u00ad", "\u3164", "\ufe0f", "\x00\x01"),
    ],
    ids=["empty", "blank", "lines", "zero-width", "bidi", "soft-hyphen", "filler", "selector", "control"],
)
async def test_a_text_that_nobody_can_see_gets_a_sentence(world: World, text: str) -> None:
    """Nothing visible is nothing to ask: the customer is told so, and the model is not asked."""
    customer = world.customer()
    before = world.chat_api.made
    answer = await customer.asks(text)
    assert answer in {texts.EMPTY, texts.ONLY_TEXT}
    assert world.chat_api.made == before


async def test_bidirectional_overrides_are_taken_out(world: World) -> None:
    """They make a text read otherwise than it is; its words are asked and stored in the order in which they came."""
    customer = world.customer()
    text = "romeo \u202egnihtemos\u202c and \u2067more\u2069"
    await customer.asks(text)
    await customer.asks("romeo next")
    assert world.asked("romeo next")[0].messages[1]["content"] == "romeo gnihtemos and more"


async def test_lone_surrogates_do_not_stop_anything(world: World) -> None:
    """Half a character becomes a replacement mark; the rest of the text is asked."""
    customer = world.customer()
    await customer.asks("sierra begins")
    push_raw(world, raw_message(world, customer.chat_id, r"sierra \ud83d broken \udc00"))
    push_raw(world, raw_message(world, customer.chat_id, r"sierra \ud83d\ude00 whole"))
    await until(lambda: "whole" in " ".join(customer.texts), "both are answered")
    asked = " ".join(request.messages[-1]["content"] for request in world.asked("sierra"))
    assert "sierra \ufffd broken \ufffd" in asked
    assert "sierra \U0001f600 whole" in asked


async def test_only_a_lone_surrogate_is_nothing_to_ask(world: World) -> None:
    """A replacement mark alone is no question."""
    customer = world.customer()
    await customer.asks("tango")
    push_raw(world, raw_message(world, customer.chat_id, r"\ud83d"))
    assert (await customer.sees(2))[1] == texts.EMPTY


async def test_ten_thousand_emoji_arrive_in_parts_and_are_answered_in_words(world: World) -> None:
    """Telegram splits them at 4,096 units; they are asked together, or refused in one sentence."""
    customer = world.customer()
    emoji = "\U0001f600" * 10_000
    for start in range(0, len(emoji), 2048):
        customer.writes(emoji[start : start + 2048])
    await until(lambda: len(customer.texts) >= 1, "an answer")
    await customer.asks("uniform")
    asked = "".join(
        message["content"] for message in world.asked("uniform")[0].messages if message["role"] == "user"
    ).count("\U0001f600")
    assert asked == 10_000 or texts.TOO_LONG in customer.texts


async def test_a_paste_of_100_kilobytes_is_answered_in_words(world: World) -> None:
    """25 parts are one question: answered, or refused as too long once, and the next question is answered."""
    customer = world.customer()
    paste = "".join(f"victor line {number:05} of the long paste\n" for number in range(2_700))[:100_000]
    for start in range(0, len(paste), 4096):
        customer.writes(paste[start : start + 4096])
    await world.all_taken()
    await until(lambda: len(customer.texts) >= 1, "an answer")
    before = list(customer.texts)
    assert len(before) <= 2
    assert (await customer.asks("victor next")).startswith("Answer to: victor next")


MALFORMED = [
    '{"update_id": ID}',
    '{"update_id": ID, "message": null}',
    '{"update_id": ID, "message": 7}',
    '{"update_id": ID, "message": {"chat": {"id": CHAT}}}',
    '{"update_id": ID, "message": {"chat": {"id": CHAT, "type": "private"}, "message_id": "x", "date": "never"}}',
    '{"update_id": ID, "message": {"chat": {"id": "CHAT"}, "message_id": 5, "date": 1, "text": "x"}}',
    '{"update_id": ID, "message": {"chat": {"id": 99999999999999999999, "type": "private"}, "message_id": 1}}',
    '{"update_id": ID, "message": {"chat": {"id": CHAT, "type": "private"}, "message_id": 99999999999999999999999}}',
    '{"update_id": ID, "message": {"chat": {"id": CHAT, "type": "moon"}, "message_id": 5, "date": 1, "text": [1]}}',
    '{"update_id": ID, "edited_message": {"chat": {"id": CHAT, "type": "private"}, "message_id": -1, "date": 1}}',
    '{"update_id": ID, "callback_query": {"id": 5, "message": {"chat": {"id": CHAT}}}}',
    '{"update_id": ID, "my_chat_member": {"chat": {"id": CHAT, "type": "private"}}}',
    '{"update_id": ID, "something_of_next_year": {"chat": {"id": CHAT, "type": "private"}, "x": [{}]}}',
    '{"update_id": ID, "message": {"chat": {"id": CHAT, "type": "private"}, "n": ' + "[" * 300 + "]" * 300 + "}}",
    '{"update_id": ID, "message": {"chat": {"id": true, "type": "private"}, "date": 1e400, "message_id": 1.5}}',
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
async def test_a_malformed_update_stops_nothing(world: World, body: str) -> None:
    """It is skipped, confirmed and forgotten; the same chat's next question is answered."""
    customer = world.customer()
    push_raw(world, body.replace("CHAT", str(customer.chat_id)))
    answer = await customer.asks("whiskey after it")
    assert answer == "Answer to: whiskey after it"
    await world.all_taken()


async def test_unknown_kinds_of_updates_are_skipped(world: World, shared: Service) -> None:
    """They are logged by their kind alone."""
    queue = world.telegram.account().updates
    allowed, queue._allowed = queue._allowed, []
    world.telegram.push_update({"brand_new_update": {"text": "xray hidden words"}})
    queue._allowed = allowed
    await world.all_taken()
    await until(lambda: "brand_new_update" in shared.output, "its kind in the log")
    assert "hidden words" not in shared.output
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{shared.url}/readyz")).json() == {"ready": True, "troubles": {}}


async def test_messages_of_bots_and_services_are_not_answered(world: World) -> None:
    """Somebody joined, or another bot spoke: nobody waits for an answer."""
    customer = world.customer(-(next_group := 71_500))
    joined = {"id": 5, "is_bot": False, "first_name": "New"}
    customer.writes(None, chat_type="group", extra={"new_chat_members": [joined]})
    world.telegram.add_customer(next_group, is_bot=True, first_name="Other bot")
    customer.writes("yankee from a bot", chat_type="group", user_id=next_group)
    customer.writes("yankee from a person", chat_type="group")
    assert await customer.sees(1) == ["Answer to: yankee from a person"]
    assert world.asked("yankee from a bot") == []
