"""Edits and deletions."""

from __future__ import annotations

import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import BUTTONS, NOT_MODIFIED, Subject, refused


async def test_an_edit_replaces_text_and_buttons(subject: Subject) -> None:
    """Bot API, editMessageText: the edited Message is returned; buttons not given again are gone."""
    message = await subject.send("before", reply_markup=BUTTONS)
    edited = await subject.ok(
        "editMessageText",
        chat_id=subject.chat,
        message_id=message["message_id"],
        text="<b>after</b>",
        parse_mode="HTML",
    )
    assert edited["text"] == "after"
    assert edited["entities"] == [{"type": "bold", "offset": 0, "length": 5}]
    assert edited["edit_date"] >= edited["date"]
    assert "reply_markup" not in edited


async def test_an_unchanged_edit_is_not_modified(subject: Subject) -> None:
    """Server: same text, same entities and same buttons are refused; one difference is enough."""
    message = await subject.send("same")
    place = {"chat_id": subject.chat, "message_id": message["message_id"]}
    assert await subject.no("editMessageText", text="same", **place) == (400, NOT_MODIFIED)
    assert await subject.no("editMessageText", text=" same\n", **place) == (400, NOT_MODIFIED)
    assert await subject.ok("editMessageText", text="same", reply_markup=BUTTONS, **place)
    assert await subject.ok("editMessageText", text="*same*", parse_mode="MarkdownV2", reply_markup=BUTTONS, **place)


async def test_removing_buttons_from_a_plain_message_is_not_modified(subject: Subject) -> None:
    """Server: editMessageReplyMarkup without markup on a message without buttons (to be verified on Telegram's own)."""
    plain, buttoned = await subject.send("plain"), await subject.send("x", reply_markup=BUTTONS)
    place = {"chat_id": subject.chat, "message_id": plain["message_id"]}
    assert await subject.no("editMessageReplyMarkup", **place) == (400, NOT_MODIFIED)
    place["message_id"] = buttoned["message_id"]
    assert await subject.no("editMessageReplyMarkup", reply_markup=BUTTONS, **place) == (400, NOT_MODIFIED)
    assert "reply_markup" not in await subject.ok("editMessageReplyMarkup", **place)


@pytest.mark.parametrize("method", ["editMessageText", "editMessageReplyMarkup", "editMessageCaption"])
async def test_a_message_that_is_not_there_cannot_be_edited(subject: Subject, method: str) -> None:
    """Server: unknown and deleted messages alike."""
    gone = await subject.send("gone")
    assert await subject.ok("deleteMessage", chat_id=subject.chat, message_id=gone["message_id"]) is True
    for message_id in (2_000_000_000, gone["message_id"]):
        answer = await subject.no(method, chat_id=subject.chat, message_id=message_id, text="x", caption="x")
        assert answer == refused("message to edit not found")


async def test_an_edit_needs_a_message_id(subject: Subject) -> None:
    """Server: message_id is required."""
    answer = await subject.no("editMessageText", chat_id=subject.chat, text="x")
    assert answer == refused("message identifier is not specified")


async def test_a_foreign_message_cannot_be_edited(subject: Subject, customers: TelegramServer) -> None:
    """Server: a bot edits only its own messages."""
    theirs = customers.customer_writes(subject.chat, "mine, not yours")
    for method in ("editMessageText", "editMessageReplyMarkup"):
        answer = await subject.no(method, chat_id=subject.chat, message_id=theirs, text="x")
        assert answer == refused("message can't be edited")


async def test_a_message_with_a_reply_keyboard_cannot_be_edited(subject: Subject) -> None:
    """Report: only messages without reply markup or with inline keyboards can be edited."""
    message = await subject.send("x", reply_markup={"keyboard": [[{"text": "Yes"}]]})
    answer = await subject.no("editMessageText", chat_id=subject.chat, message_id=message["message_id"], text="y")
    assert answer == refused("message can't be edited")


async def test_a_message_is_deleted_once(subject: Subject) -> None:
    """Bot API, deleteMessage: True; server: afterwards it is not found."""
    place = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    assert await subject.ok("deleteMessage", **place) is True
    assert await subject.no("deleteMessage", **place) == refused("message to delete not found")


async def test_delete_messages_skips_what_is_not_there(subject: Subject) -> None:
    """Bot API, deleteMessages: messages not found are skipped; 1-100 identifiers."""
    ids = [(await subject.send())["message_id"], 2_000_000_000, (await subject.send())["message_id"]]
    assert await subject.ok("deleteMessages", chat_id=subject.chat, message_ids=ids) is True
    assert (await subject.no("deleteMessage", chat_id=subject.chat, message_id=ids[0]))[0] == 400
    assert (await subject.no("deleteMessages", chat_id=subject.chat, message_ids=[*range(1, 102)]))[0] == 400


async def test_messages_older_than_two_days_cannot_be_deleted(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, deleteMessage: only within 48 hours."""
    message = await subject.send()
    customers.messages(subject.chat)[-1].date -= 48 * 3600 + 60
    answer = await subject.no("deleteMessage", chat_id=subject.chat, message_id=message["message_id"])
    assert answer == refused("message can't be deleted")
