"""/forget: what is asked, what is deleted, what stays."""

import asyncio
import json
import time

import orjson

from bot import texts
from storage.keys import Keys
from tests.flows.archives import exported, files
from tests.flows.conftest import Service, World, until


async def test_forget_deletes_what_was_said_and_says_so(world: World) -> None:
    """Asked first, with what it means; then the model knows nothing, and a receipt tells what and when."""
    customer = world.customer()
    await customer.asks("golf my secret")
    assert await customer.asks("/forget") == texts.FORGET_ASK
    labels = [texts.FORGET_EXPORT, texts.FORGET_THIS, texts.FORGET_ALL, texts.FORGET_CANCEL]
    assert list(customer.buttons()) == labels
    customer.presses(texts.FORGET_THIS)
    receipt = (await customer.sees(3))[-1]
    assert "1 exchange of questions and answers" in receipt
    assert texts.FORGOTTEN_MORE in receipt
    await customer.asks("golf what do you know")
    assert [m["content"] for m in world.asked("golf what do you know")[0].messages[1:]] == ["golf what do you know"]
    assert await customer.asks("/export") == texts.EXPORT_CAPTION
    content = await exported(world, customer)
    assert "golf my secret" not in content


async def test_forget_this_leaves_the_other_conversations(world: World) -> None:
    """What /new ended stays in the export; everything goes with the other button."""
    customer = world.customer()
    await customer.asks("hotel old")
    await customer.asks("/new")
    await customer.asks("hotel new")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_THIS)
    await customer.sees(5)
    await customer.asks("/export")
    content = await exported(world, customer)
    assert "hotel old" in content
    assert "hotel new" not in content
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    await customer.sees(8)
    await customer.asks("/export")
    found = await files(world, customer)
    assert "hotel" not in str(found)
    kept = [receipt["kind"] for receipt in json.loads(found["account.json"])["receipts"]]
    assert kept == ["erasure", "export", "erasure", "export"]
    assert await customer.asks("/forget") == texts.FORGET_ASK
    assert list(customer.buttons()) == [texts.FORGET_EXPORT, texts.FORGET_ALL, texts.FORGET_CANCEL]


async def test_forget_works_at_once_while_an_answer_streams(world: World) -> None:
    """The answer ends unfinished, nothing of it is kept, and what was asked is not asked again."""
    customer = world.customer()
    await customer.asks("india before")
    press = await customer.asks_to_forget(texts.FORGET_ALL)
    world.streams()
    customer.writes("india tell")
    await customer.draft()
    press()
    receipt = (await customer.sees(3, 5))[-1]
    assert "1 exchange" in receipt
    await until(lambda: world.asked("india tell")[0].aborted, "the request ends")
    world.at_ease()
    await customer.asks("india after")
    assert [m["content"] for m in world.asked("india after")[0].messages[1:]] == ["india after"]
    assert len(world.asked("india tell")) == 1


async def test_forget_asks_at_once_while_an_answer_streams(world: World) -> None:
    """The command does not queue behind a long answer, which is kept as stopped."""
    customer = world.customer()
    world.streams()
    customer.writes("juliet tell")
    await customer.draft()
    customer.writes("/forget")
    stopped, asked = await customer.sees(2, 5)
    assert stopped.endswith(texts.STOPPED_MARK)
    assert asked == texts.FORGET_ASK


async def test_a_question_that_a_forget_overtook_is_not_passed_over(world: World) -> None:
    """It was not answered, and the customer is told so."""
    customer = world.customer()
    world.slow(15)
    customer.writes("juliet slow")
    await world.is_asked("juliet slow")
    customer.writes("/forget")
    assert await customer.sees(1, 5) == [f"{texts.FORGET_ASK}\n\n{texts.ASK_AGAIN}"]


async def test_an_export_goes_on_when_another_topic_is_forgotten(world: World) -> None:
    """What is being said is none of it: the deletion waits for its end, and nothing goes round in circles."""
    customer = world.customer()
    topic = {"message_thread_id": 7, "is_topic_message": True}
    await customer.asks("juliet here")
    await customer.asks("juliet there", extra=topic)
    press = await customer.asks_to_forget(texts.FORGET_THIS, extra=topic)
    world.telegram.faults.add(method="sendDocument", kind="429", seconds=2, count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await until(lambda: [call for call in world.telegram.calls if call.method == "sendDocument"], "the upload")
    press()
    assert "1 exchange" in (await customer.sees(5))[-1]
    assert any("document" in message.media for message in customer.shown)
    assert await customer.asks("juliet after") == "Answer to: juliet after"
    assert "juliet here" in str(world.asked("juliet after")[0].messages)


async def test_forget_twice_in_two_windows_deletes_once(world: World) -> None:
    """The second button finds nothing of what it was about: a sentence, no error."""
    customer = world.customer()
    await customer.asks("kilo")
    await customer.asks("/forget")
    first = (customer.shown[-1].message_id, customer.buttons()[texts.FORGET_THIS])
    await customer.asks("/forget")
    customer.presses(texts.FORGET_THIS)
    await customer.sees(4)
    world.telegram.customer_presses(customer.chat_id, *first)
    assert (await customer.sees(5))[-1] == texts.FORGET_EXPIRED


async def test_only_who_asked_can_delete_and_only_for_five_minutes(world: World) -> None:
    """The button is bound to a person and to a time."""
    customer = world.customer()
    await customer.asks("lima")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL, user_id=customer.chat_id + 5_000_000)
    assert (await customer.sees(3))[-1] == texts.NOT_YOURS
    old = f"erase:all:0:0:{customer.chat_id}:{int(time.time()) - 1}"
    world.telegram.customer_presses(customer.chat_id, customer.shown[1].message_id, old)
    assert (await customer.sees(4))[-1] == texts.FORGET_EXPIRED
    await customer.asks("lima next")
    assert len(world.asked("lima next")[0].messages) == 4


async def test_a_cancelled_forget_deletes_nothing(world: World) -> None:
    """Cancel is an answer, too."""
    customer = world.customer()
    await customer.asks("mike")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_CANCEL)
    assert (await customer.sees(3))[-1] == texts.FORGET_KEPT
    await customer.asks("mike next")
    assert len(world.asked("mike next")[0].messages) == 4


async def test_what_is_written_after_the_press_is_answered(world: World) -> None:
    """Only what came before is forgotten."""
    customer = world.customer()
    await customer.asks("november")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    customer.writes("november after")
    assert (await customer.sees(4))[-1] == "Answer to: november after"


async def test_the_receipt_comes_where_it_was_asked_for(world: World) -> None:
    """In the topic of the button, and only that topic's conversation is gone."""
    group, (first, second) = world.forum("one", "two")
    for topic in (first, second):
        await group.asks(f"november {topic}", thread_id=topic)
    await group.asks("/forget", thread_id=second)
    world.slow(1)
    group.writes("november meanwhile", thread_id=first)
    await world.is_asked("november meanwhile")
    group.presses(texts.FORGET_THIS)
    await group.sees(5)
    [receipt] = [message for message in group.shown if "1 exchange" in (message.text or "")]
    assert receipt.thread_id == second
    world.at_ease()
    await group.asks("november again", thread_id=first)
    told = [m["content"] for m in world.asked("november again")[0].messages[1:]]
    assert told[0] == f"november {first}"
    assert told.count("november meanwhile") == 1


async def test_forget_does_not_wait_for_flood_control(world: World, shared: Service) -> None:
    """The keys go at once; the receipt comes when Telegram lets it."""
    customer = world.customer()
    await customer.asks("november flood")
    press = await customer.asks_to_forget(texts.FORGET_ALL)
    world.telegram.faults.add(method="sendMessage", kind="429", seconds=25, count=1, chat_id=customer.chat_id)
    customer.writes("november muted")
    await until(lambda: [call for call in world.telegram.calls if call.status == 429], "the refusal")
    pressed = time.monotonic()
    press()
    async with shared.store() as client:
        chat = Keys(4242).of(customer.chat_id).chat
        while not orjson.loads(await client.hget(chat, "forget") or b"{}").get("done"):
            assert time.monotonic() - pressed < 5
            await asyncio.sleep(0.05)
    assert len(customer.texts) == 2


async def test_the_bots_messages_are_removed_on_request(world: World) -> None:
    """Telegram keeps its own copy; ours can be taken back."""
    customer = world.customer()
    await customer.asks("oscar one")
    await customer.asks("oscar two")
    await customer.asks("/forget")
    customer.presses(texts.FORGET_ALL)
    await customer.sees(4)
    customer.presses(texts.REMOVE_MINE, user_id=customer.chat_id + 5_000_000)
    assert (await customer.sees(5))[-1] == texts.NOT_YOURS
    message_id = customer.shown[-2].message_id
    world.telegram.customer_presses(customer.chat_id, message_id, f"tidy:{customer.chat_id}")
    later = texts.REMOVED_MANY.format(count=3)
    await until(lambda: customer.texts[2:] == [later], "what came after the deletion stands")
    assert customer.texts[1] == texts.NOT_YOURS
