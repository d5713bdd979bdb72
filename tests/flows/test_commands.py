"""Commands and buttons: stop, a new conversation, forget, export, languages."""

import io
import json
import time
import zipfile
from collections.abc import Callable

import pytest

from bot import texts
from bot.sandbox import ChatBehaviour, SeenMessage
from tests.flows.conftest import QUICK, Customer, Service, World, echo, until

STORY = " ".join(f"story{number}" for number in range(400))


def streams(world: World, seconds: float = 0.05) -> None:
    """Answers that grow slowly."""
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: STORY, chunk_seconds=seconds)


async def draft_of(world: World, customer: Customer) -> str:
    """The text of the chat's draft, once it has one."""
    found = await until(lambda: world.telegram.draft(customer.chat_id), "a draft with text")
    return str(found)


def cancelled(world: World, marker: str) -> bool:
    """Whether the chat API saw its caller leave."""
    return world.asked(marker)[0].aborted


# ---- stop
@pytest.mark.parametrize("by", ["button", "command"])
async def test_stop_ends_the_answer_and_keeps_what_was_shown(world: World, by: str) -> None:
    """The request is cancelled, the beginning stays, marked, and the model is told it later."""
    customer = world.customer()
    streams(world)
    customer.writes("alpha tell")
    await draft_of(world, customer)
    if by == "button":
        world.telegram.customer_stops(customer.chat_id)
    else:
        customer.writes("/stop")
    [said] = await customer.sees(1, 5)
    kept = said.removesuffix(f"\n\n{texts.STOPPED_MARK}")
    assert said != kept
    assert STORY.startswith(kept)
    await until(lambda: cancelled(world, "alpha tell"), "the request ends")
    world.at_ease()
    await customer.asks("alpha next")
    assert [m["content"] for m in world.asked("alpha next")[0].messages[1:]] == ["alpha tell", kept, "alpha next"]
    assert len(customer.texts) == 2


async def test_stop_before_the_first_word_answers_the_question_with_a_sentence(world: World) -> None:
    """The question is covered, and not asked again."""
    customer = world.customer()
    world.slow(15)
    customer.writes("bravo slow")
    await world.is_asked("bravo slow")
    customer.writes("/stop")
    assert await customer.sees(1, 5) == [texts.STOPPED]
    world.at_ease()
    await customer.asks("bravo next")
    assert [m["content"] for m in world.asked("bravo next")[0].messages[1:]] == ["bravo next"]


async def test_stop_ends_the_answer_also_over_other_mail(world: World) -> None:
    """A photo lies between the question and the stop: the question is not asked again for it."""
    customer = world.customer()
    world.slow(15)
    customer.writes("bravo behind")
    await world.is_asked("bravo behind")
    customer.writes(None, extra={"photo": []})
    customer.writes("/stop")
    assert await customer.sees(2, 5) == [texts.STOPPED, texts.ONLY_TEXT]
    assert len(world.asked("bravo behind")) == 1


async def test_stop_in_one_topic_leaves_the_others_alone(world: World) -> None:
    """In a forum each topic is a conversation of its own."""
    group, (first, second) = world.forum("one", "two")
    world.slow(1.5)
    group.writes("bravo topic", thread_id=first)
    await world.is_asked("bravo topic")
    group.writes("/stop", thread_id=second)
    assert await group.sees(2) == ["Answer to: bravo topic", texts.NOTHING_TO_STOP]
    assert [message.thread_id for message in group.shown if message.text] == [first, second]


async def test_stop_after_the_end_gets_a_sentence(world: World) -> None:
    """By command or by a button that came too late: no error, nothing lost."""
    customer = world.customer()
    await customer.asks("charlie")
    assert await customer.asks("/stop") == texts.NOTHING_TO_STOP
    chat = {"id": customer.chat_id, "type": "private", "first_name": "A"}
    world.telegram.push_update({"stopped_message_generation": {"chat": chat, "draft_id": 1}})
    assert (await customer.sees(3))[-1] == texts.NOTHING_TO_STOP
    assert await customer.asks("charlie next") == "Answer to: charlie next"


async def test_a_stop_pressed_late_does_not_hit_the_next_answer(world: World) -> None:
    """Telegram's button means one draft."""
    customer = world.customer()
    streams(world, 0.003)
    customer.writes("delta one")
    await draft_of(world, customer)
    draft = world.telegram.world().draft(customer.chat_id)
    assert draft is not None
    await customer.sees(1)
    customer.writes("delta two")
    await world.is_asked("delta two")
    chat = {"id": customer.chat_id, "type": "private", "first_name": "A"}
    world.telegram.push_update({"stopped_message_generation": {"chat": chat, "draft_id": draft.draft_id}})
    await until(lambda: len(customer.texts) >= 2 and customer.texts[1] == STORY, "the whole second answer")


async def test_stop_reaches_a_turn_in_another_process(
    own_world: World, start_service: Callable[..., Service], store_address: str
) -> None:
    """Ingress and worker are two processes here; how long it takes is in the bench."""
    streams(own_world)
    for role in ("ingress", "worker"):
        start_service("run", "--only", role, times=QUICK, REDIS_URL=store_address).spawn()
    customer = own_world.customer()
    customer.writes("echo tell")
    await draft_of(own_world, customer)
    pressed = time.monotonic()
    own_world.telegram.customer_stops(customer.chat_id)
    await until(lambda: cancelled(own_world, "echo tell"), "the request ends", 5)
    assert time.monotonic() - pressed < 2
    await customer.sees(1, 5)


# ---- a new conversation, languages, plain sentences
async def test_new_begins_without_the_past(world: World) -> None:
    """The model is told nothing of before; numbers of turns begin anew."""
    customer = world.customer()
    await customer.asks("foxtrot one")
    assert await customer.asks("/new") == texts.ANEW
    await customer.asks("foxtrot two")
    assert [m["content"] for m in world.asked("foxtrot two")[0].messages[1:]] == ["foxtrot two"]
    await customer.asks("foxtrot three")
    assert len(world.asked("foxtrot three")[0].messages) == 4


async def test_the_service_speaks_the_language_of_telegram_or_the_chosen_one(world: World) -> None:
    """By Telegram's own setting first; /language goes before it."""
    customer = world.customer()
    world.telegram.add_customer(customer.chat_id, first_name="A", language_code="ru")
    words = texts.Words(processor="127.0.0.1", contact="")
    assert await customer.asks("/help") == words.say(texts.HELP, "ru") != texts.HELP
    await customer.asks("/language")
    assert set(customer.buttons()) == set(texts.LANGUAGES.values())
    customer.presses("Español")
    assert (await customer.sees(3))[-1] == words.say(texts.LANGUAGE_CHOSEN, "es")
    assert await customer.asks("/privacy") == words.say(texts.PRIVACY, "es")
    assert await customer.asks("/language en") == texts.LANGUAGE_CHOSEN
    assert await customer.asks("/language klingon") == texts.LANGUAGE_UNKNOWN


async def test_a_button_that_means_nothing_gets_a_sentence(world: World) -> None:
    """Data of another version, or made up by a client; the waiting sign ends."""
    customer = world.customer()
    await customer.asks("/language")
    message_id = customer.shown[-1].message_id
    for data in ("nonsense", "erase:all:x:y:z:0", "erase:all:0:1", "keep:", ":", "language:xx"):
        world.telegram.customer_presses(customer.chat_id, message_id, data)
        await until(lambda: world.telegram.pending_updates() == 0)
    answers = await customer.sees(7)
    assert set(answers[1:]) == {texts.BUTTON_UNKNOWN, texts.LANGUAGE_UNKNOWN}
    pressed = [call for call in world.telegram.calls if call.method == "answerCallbackQuery"]
    assert [call.status for call in pressed] == [200] * 6


# ---- forget
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
    assert await customer.asks("/export") == texts.EXPORT_NOTHING
    assert await customer.asks("/forget") == texts.FORGET_ASK
    assert list(customer.buttons()) == [texts.FORGET_EXPORT, texts.FORGET_ALL, texts.FORGET_CANCEL]


async def test_forget_works_at_once_while_an_answer_streams(world: World) -> None:
    """The answer ends unfinished, nothing of it is kept, and what was asked is not asked again."""
    customer = world.customer()
    await customer.asks("india before")
    await customer.asks("/forget")
    data, message_id = customer.buttons()[texts.FORGET_ALL], customer.shown[-1].message_id
    streams(world)
    customer.writes("india tell")
    await draft_of(world, customer)
    world.telegram.customer_presses(customer.chat_id, message_id, data)
    receipt = (await customer.sees(3, 5))[-1]
    assert "1 exchange" in receipt
    await until(lambda: cancelled(world, "india tell"), "the request ends")
    world.at_ease()
    await customer.asks("india after")
    assert [m["content"] for m in world.asked("india after")[0].messages[1:]] == ["india after"]
    assert len(world.asked("india tell")) == 1


async def test_forget_asks_at_once_while_an_answer_streams(world: World) -> None:
    """The command does not queue behind a long answer, which is kept as stopped."""
    customer = world.customer()
    streams(world)
    customer.writes("juliet tell")
    await draft_of(world, customer)
    customer.writes("/forget")
    stopped, asked = await customer.sees(2, 5)
    assert stopped.endswith(texts.STOPPED_MARK)
    assert asked == texts.FORGET_ASK


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


async def test_forget_does_not_wait_for_flood_control(world: World) -> None:
    """The keys go at once; the receipt comes when Telegram lets it."""
    customer = world.customer()
    await customer.asks("november flood")
    await customer.asks("/forget")
    data, message_id = customer.buttons()[texts.FORGET_ALL], customer.shown[-1].message_id
    world.telegram.faults.add(method="sendMessage", kind="429", seconds=25, count=1, chat_id=customer.chat_id)
    customer.writes("november muted")
    await world.is_asked("november muted")
    await until(lambda: [call for call in world.telegram.calls if call.status == 429], "the refusal")
    pressed = time.monotonic()
    world.telegram.customer_presses(customer.chat_id, message_id, data)
    await until(
        lambda: [call for call in world.telegram.calls if call.method == "answerCallbackQuery"], "it is begun", 5
    )
    assert time.monotonic() - pressed < 5


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
    await until(lambda: customer.texts == [texts.REMOVED_MANY.format(count=5)], "only the last sentence stands")


# ---- export
async def document_of(customer: Customer, number: int = -1) -> SeenMessage:
    found = await until(lambda: [message for message in customer.shown if "document" in message.media], "a document")
    messages: list[SeenMessage] = found
    return messages[number]


async def files(world: World, customer: Customer, number: int = -1) -> dict[str, bytes]:
    """The files of an exported archive."""
    message = await document_of(customer, number)
    kept = world.telegram.world()
    content = kept.content_of(kept.files[message.media["document"]["file_id"]])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


async def exported(world: World, customer: Customer) -> str:
    return (await files(world, customer))["conversations.json"].decode()


async def test_the_export_holds_all_conversations(world: World) -> None:
    """Questions, answers, what was stopped, and the conversation that /new ended; for programs and for people."""
    customer = world.customer()
    await customer.asks("papa one <b>&")
    await customer.asks("/new")
    streams(world)
    customer.writes("papa two")
    await draft_of(world, customer)
    customer.writes("/stop")
    await customer.sees(3)
    world.at_ease()
    customer.writes("/export")
    found = await files(world, customer)
    assert set(found) == {"conversations.json", "chat.html", "manifest.json"}
    told = json.loads(found["conversations.json"])
    messages = [message for talk in told["conversations"] for message in talk["messages"]]
    assert [m["role"] for m in messages] == ["customer", "assistant"] * 2
    assert messages[0]["text"] == "papa one <b>&"
    assert messages[1]["text"] == "Answer to: papa one <b>&"
    assert messages[3]["state"] == "stopped"
    assert b"papa one &lt;b&gt;&amp;" in found["chat.html"]
    assert (await document_of(customer)).text == texts.EXPORT_CAPTION


async def test_two_exports_at_once_are_one(world: World) -> None:
    """Asked twice in one breath: one archive answers both."""
    customer = world.customer()
    await customer.asks("quebec")
    world.slow(0.5)
    customer.writes("quebec slow")
    await world.is_asked("quebec slow")
    customer.writes("/export")
    customer.writes("/export")
    await world.all_taken()
    await document_of(customer)
    world.at_ease()
    await customer.asks("quebec next")
    assert sum("document" in message.media for message in customer.shown) == 1


async def test_a_cut_upload_shows_one_document(world: World) -> None:
    """The document is found again by its caption, and not sent again."""
    customer = world.customer()
    await customer.asks("romeo")
    world.telegram.faults.add(method="sendDocument", kind="accept_then_cut", count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await document_of(customer)
    await customer.asks("romeo next")
    ever = world.telegram.messages(customer.chat_id, deleted=True)
    assert sum("document" in message.media for message in ever) == 1


async def test_nothing_to_export_and_not_in_a_group(world: World) -> None:
    """A sentence each."""
    customer = world.customer()
    assert await customer.asks("/export") == texts.EXPORT_NOTHING
    group = world.customer(-customer.chat_id)
    await group.asks("sierra")
    assert await group.asks("/export") == texts.EXPORT_PRIVATE


async def test_an_upload_that_telegram_refuses_midway_is_obeyed(world: World) -> None:
    """429 before the file was read: the export waits as long as it is told, and comes."""
    customer = world.customer()
    await customer.asks("sierra flood")
    world.telegram.faults.add(method="sendDocument", kind="429", seconds=1, count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await document_of(customer)
    tries = [call for call in world.telegram.calls if call.method == "sendDocument"]
    assert [call.status for call in tries] == [429, 200]
    assert tries[1].t - tries[0].t >= 1


async def test_commands_for_another_bot_are_left_to_it(world: World) -> None:
    """In a group of several bots."""
    group = world.customer(-world.customer().chat_id)
    group.writes("/new@AnotherBot")
    me = str(world.telegram.world().me["username"])
    assert await group.asks(f"/help@{me.upper()}") == texts.HELP
    assert len(group.texts) == 1


async def test_a_document_sent_to_the_bot_gets_a_sentence(world: World) -> None:
    """Content that is not understood is answered in words, in its place."""
    customer = world.customer()
    world.telegram.customer_sends_file(customer.chat_id, "document", b"%PDF-", name="a.pdf", caption="tango see this")
    assert await customer.sees(1) == [texts.ONLY_TEXT]
    assert await customer.asks("tango") == "Answer to: tango"
    assert echo(world.asked("tango")[0].messages) == "Answer to: tango"
