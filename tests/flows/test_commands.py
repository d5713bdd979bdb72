"""Commands and buttons: a new conversation, languages, and what means nothing."""

from bot import texts
from tests.flows.conftest import World, echo, until


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
    assert (await customer.asks("/privacy")).startswith(words.say(texts.PRIVACY, "es"))
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


async def test_an_album_gets_one_sentence(world: World) -> None:
    """What came together is answered together."""
    customer = world.customer()
    world.slow(1)
    customer.writes("sierra slow")
    await world.is_asked("sierra slow")
    for number in range(4):
        world.telegram.customer_sends_file(customer.chat_id, "photo", b"jpeg", name=f"{number}.jpg")
    await world.all_taken()
    assert await customer.sees(2) == ["Answer to: sierra slow", texts.ONLY_TEXT]
    assert await customer.asks("sierra after") == "Answer to: sierra after"


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


async def test_a_button_pressed_long_ago_still_works(world: World) -> None:
    """After 150 seconds Telegram no longer takes the answer to a press: what was asked for is done all the same."""
    customer = world.customer()
    await customer.asks("/language")
    too_old = "Bad Request: query is too old and response timeout expired or query ID is invalid"
    world.telegram.faults.add(method="answerCallbackQuery", kind="400", description=too_old, count=1)
    customer.presses("Русский")
    assert (await customer.sees(2))[-1] == texts.Words().say(texts.LANGUAGE_CHOSEN, "ru")


async def test_a_button_of_a_deleted_message_still_works(world: World) -> None:
    """Telegram then tells only where the message was (InaccessibleMessage), and its date is 0."""
    customer = world.customer()
    await customer.asks("victor")
    await customer.asks("/forget")
    data = customer.buttons()[texts.FORGET_ALL]
    chat = {"id": customer.chat_id, "type": "private", "first_name": "A"}
    gone = {"chat": chat, "message_id": customer.shown[-1].message_id, "date": 0}
    person = {"id": customer.chat_id, "is_bot": False, "first_name": "A"}
    press = {"id": "77", "from": person, "message": gone, "chat_instance": "1", "data": data}
    world.telegram.push_update({"callback_query": press})
    assert "1 exchange" in (await customer.sees(3))[-1]


async def test_words_behind_a_command_do_no_harm(world: World) -> None:
    """A command with arguments that it does not take does what it does without."""
    customer = world.customer()
    assert await customer.asks("/help me please") == texts.HELP
    assert await customer.asks("/new york") == texts.ANEW
    assert await customer.asks("/forget everything!") == texts.FORGET_ASK
    assert await customer.asks("/export now") == texts.EXPORT_NOTHING
    assert await customer.asks("/stop it") == texts.NOTHING_TO_STOP
    assert await customer.asks("/unknown thing") == texts.UNKNOWN_COMMAND
