"""Buttons, replies and topics of a message."""

from __future__ import annotations

from typing import Any

import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import FORUM, Subject, refused


@pytest.mark.parametrize("data", ["x", "x" * 64, "я" * 32])
async def test_callback_data_of_1_to_64_bytes_is_taken(subject: Subject, data: str) -> None:
    """Bot API, InlineKeyboardButton: callback_data has 1-64 bytes."""
    markup = {"inline_keyboard": [[{"text": "b", "callback_data": data}]]}
    assert (await subject.send(reply_markup=markup))["reply_markup"] == markup


@pytest.mark.parametrize("data", ["", "x" * 65, "я" * 33])
async def test_callback_data_of_other_sizes_is_invalid(subject: Subject, data: str) -> None:
    """Bot API, InlineKeyboardButton; server: BUTTON_DATA_INVALID."""
    markup = {"inline_keyboard": [[{"text": "b", "callback_data": data}]]}
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", reply_markup=markup)
    assert answer == refused("BUTTON_DATA_INVALID")


@pytest.mark.parametrize(
    ("markup", "reason"),
    [
        ("{", "can't parse reply keyboard markup JSON object"),
        ([], "object expected as reply markup"),
        (
            {"inline_keyboard": [[{"text": "b"}]]},
            "can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard",
        ),
        ({"inline_keyboard": [["b"]]}, "can't parse inline keyboard button: expected an Object"),
        ({"inline_keyboard": "b"}, 'field "inline_keyboard" must be of type Array'),
    ],
)
async def test_a_misshapen_reply_markup_is_refused(subject: Subject, markup: Any, reason: str) -> None:
    """Server: the shapes of reply markup."""
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", reply_markup=markup)
    assert answer == refused(reason)


async def test_a_reply_shows_what_it_replies_to(subject: Subject) -> None:
    """Bot API, ReplyParameters."""
    first = await subject.send("first")
    reply = await subject.send("second", reply_parameters={"message_id": first["message_id"]})
    assert reply["reply_to_message"]["message_id"] == first["message_id"]


async def test_a_reply_to_nothing_is_refused_unless_allowed(subject: Subject) -> None:
    """Bot API, ReplyParameters: allow_sending_without_reply."""
    missing = {"message_id": 2_000_000_000}
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", reply_parameters=missing)
    assert answer == refused("message to be replied not found")
    lenient = {**missing, "allow_sending_without_reply": True}
    assert "reply_to_message" not in await subject.send(reply_parameters=lenient)


async def test_an_unknown_topic_is_refused(subject: Subject) -> None:
    """Report: message thread not found."""
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", message_thread_id=77_777)
    assert answer == refused("message thread not found")


async def test_topics_live_in_forums_and_take_messages_until_deleted(
    subject: Subject, customers: TelegramServer
) -> None:
    """Bot API, createForumTopic and its sisters; report: TOPIC_ID_INVALID afterwards."""
    assert await subject.no("createForumTopic", chat_id=subject.chat, name="x") == refused("the chat is not a forum")
    customers.add_chat(FORUM, "supergroup", is_forum=True)
    topic = await subject.ok("createForumTopic", chat_id=FORUM, name="Ticket")
    place = {"chat_id": FORUM, "message_thread_id": topic["message_thread_id"]}
    message = await subject.ok("sendMessage", text="in the topic", **place)
    assert message["message_thread_id"] == topic["message_thread_id"]
    assert message["is_topic_message"] is True
    assert await subject.ok("editForumTopic", name="Ticket 2", **place) is True
    assert await subject.no("editForumTopic", name="Ticket 2", **place) == refused("TOPIC_NOT_MODIFIED")
    assert await subject.ok("closeForumTopic", **place) is True
    assert await subject.ok("deleteForumTopic", **place) is True
    assert await subject.no("sendMessage", text="x", **place) == refused("message thread not found")
    assert await subject.no("reopenForumTopic", **place) == refused("TOPIC_ID_INVALID")
    assert customers.messages(FORUM) == []
