"""Copies, pins, reactions, pressed buttons."""

from __future__ import annotations

from bot.sandbox import TelegramServer
from tests.sandbox.callers import BUTTONS, Subject, refused, upload


async def test_copy_gives_an_id_and_forward_a_message(subject: Subject) -> None:
    """Bot API, copyMessage returns a MessageId, forwardMessage the Message."""
    source = {
        "chat_id": subject.chat,
        "from_chat_id": subject.chat,
        "message_id": (await subject.send("src"))["message_id"],
    }
    assert set(await subject.ok("copyMessage", **source)) == {"message_id"}
    forwarded = await subject.ok("forwardMessage", **source)
    assert forwarded["text"] == "src"
    assert forwarded["forward_origin"]["type"] == "user"
    source["message_id"] = 2_000_000_000
    assert await subject.no("copyMessage", **source) == refused("message to copy not found")
    assert await subject.no("forwardMessage", **source) == refused("message to forward not found")


async def test_messages_can_be_pinned(subject: Subject) -> None:
    """Bot API, pinChatMessage; getChat shows the newest pin."""
    message_id = (await subject.send("pin me"))["message_id"]
    assert await subject.ok("pinChatMessage", chat_id=subject.chat, message_id=message_id) is True
    assert (await subject.ok("getChat", chat_id=subject.chat))["pinned_message"]["message_id"] == message_id
    assert await subject.ok("unpinAllChatMessages", chat_id=subject.chat) is True
    answer = await subject.no("pinChatMessage", chat_id=subject.chat, message_id=2_000_000_000)
    assert answer == refused("message to pin not found")


async def test_a_reaction_is_set_on_a_message(subject: Subject) -> None:
    """Bot API, setMessageReaction."""
    message_id = (await subject.send())["message_id"]
    reaction = [{"type": "emoji", "emoji": "\U0001f44d"}]
    place = {"chat_id": subject.chat, "message_id": message_id}
    assert await subject.ok("setMessageReaction", reaction=reaction, **place) is True
    place["message_id"] = 2_000_000_000
    answer = await subject.no("setMessageReaction", reaction=reaction, **place)
    assert answer == refused("message to react not found")


async def test_a_press_can_be_answered_for_150_seconds(subject: Subject, customers: TelegramServer) -> None:
    """Server: later, or with a made-up id, the query is too old."""
    too_old = refused("query is too old and response timeout expired or query ID is invalid")
    message = await subject.send("choose", reply_markup=BUTTONS)
    query_id = customers.customer_presses(subject.chat, message["message_id"], "yes")
    (update,) = await subject.ok("getUpdates")
    query = update["callback_query"]
    assert (query["id"], query["data"]) == (query_id, "yes")
    assert query["message"]["message_id"] == message["message_id"]
    assert await subject.ok("answerCallbackQuery", callback_query_id=query_id, text="ok") is True
    assert await subject.no("answerCallbackQuery", callback_query_id="123") == too_old
    world = customers.world()
    now = world.clock()
    world.clock = lambda: now + 151
    assert await subject.no("answerCallbackQuery", callback_query_id=query_id) == too_old


async def test_a_copied_file_may_be_given_another_caption(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, copyMessage: caption, "if not specified, the original caption is kept"."""
    sent = (await upload(subject, "sendDocument", "document", b"x", caption="old"))["result"]
    source = {"chat_id": subject.chat, "from_chat_id": subject.chat, "message_id": sent["message_id"]}
    await subject.ok("copyMessage", **source)
    await subject.ok("copyMessage", caption="<b>new</b>", parse_mode="HTML", **source)
    assert [message.text for message in customers.messages(subject.chat)] == ["old", "old", "new"]
    await subject.no("copyMessage", caption="c" * 1025, **source)


async def test_a_reaction_is_taken_back_by_none(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, setMessageReaction: one reaction of a bot at most; an empty list removes it."""
    place = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    one = {"type": "emoji", "emoji": "\U0001f44d"}
    assert await subject.no("setMessageReaction", reaction=[one, one], **place) == refused("REACTIONS_TOO_MANY")
    await subject.ok("setMessageReaction", reaction=[one], **place)
    (message,) = customers.messages(subject.chat)
    assert message.reactions == [one]
    assert await subject.ok("setMessageReaction", **place) is True
    assert message.reactions == []


async def test_an_answer_to_a_press_may_be_an_alert_of_200_characters(
    subject: Subject, customers: TelegramServer
) -> None:
    """Bot API, answerCallbackQuery: text of 0-200 characters, show_alert."""
    message = await subject.send("choose", reply_markup=BUTTONS)
    query_id = customers.customer_presses(subject.chat, message["message_id"], "yes")
    answer = {"callback_query_id": query_id, "show_alert": True}
    assert await subject.no("answerCallbackQuery", text="x" * 201, **answer) == refused("MESSAGE_TOO_LONG")
    await subject.ok("answerCallbackQuery", text="x" * 200, **answer)
    assert customers.world().answers[query_id] == {"text": "x" * 200, "show_alert": True}
