"""Streamed previews, Stop, the typing status."""

from __future__ import annotations

import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import GROUP, Subject, refused


async def test_a_draft_is_taken_and_has_no_message_id(subject: Subject) -> None:
    """Bot API, sendMessageDraft: returns True; an empty text shows a placeholder."""
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=7, text="so far") is True
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=7, text="") is True
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=7) is True


async def test_a_draft_id_must_not_be_zero(subject: Subject) -> None:
    """Bot API, sendMessageDraft: draft_id must be non-zero (the wording is not documented)."""
    code, description = await subject.no("sendMessageDraft", chat_id=subject.chat, draft_id=0, text="x")
    assert code == 400
    assert "draft" in description.lower()


async def test_a_draft_longer_than_a_message_is_refused(subject: Subject) -> None:
    """Bot API, sendMessageDraft: 0-4096 characters."""
    answer = await subject.no("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="x" * 4097)
    assert answer == refused("message is too long")


async def test_drafts_are_for_private_chats_only(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft: a private chat; report: TEXTDRAFT_PEER_INVALID elsewhere."""
    customers.add_chat(GROUP, "supergroup")
    answer = await subject.no("sendMessageDraft", chat_id=GROUP, draft_id=1, text="x")
    assert answer == refused("TEXTDRAFT_PEER_INVALID")


async def test_a_draft_vanishes_with_the_next_message(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft: a preview until the message is sent."""
    await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="so far")
    assert customers.draft(subject.chat) == "so far"
    await subject.send("finished")
    assert customers.draft(subject.chat) is None


async def test_a_draft_vanishes_after_30_seconds(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft: a temporary 30-second preview."""
    await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="so far")
    world = customers.world()
    now = world.clock()
    world.clock = lambda: now + 29
    assert customers.draft(subject.chat) == "so far"
    world.clock = lambda: now + 31
    assert customers.draft(subject.chat) is None


async def test_stop_under_a_draft_reaches_the_bot(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft can_stop and MessageGenerationStopped; frames after Stop are not shown."""
    await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=5, text="so far", can_stop=True)
    customers.customer_stops(subject.chat)
    (update,) = await subject.ok("getUpdates")
    stopped = update["stopped_message_generation"]
    assert (stopped["chat"]["id"], stopped["draft_id"]) == (subject.chat, 5)
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=5, text="and on") is True
    assert customers.draft(subject.chat) is None


async def test_a_stopped_draft_may_be_kept(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft keep_on_stop."""
    place = {"chat_id": subject.chat, "draft_id": 5, "can_stop": True, "keep_on_stop": True}
    await subject.ok("sendMessageDraft", text="so far", **place)
    customers.customer_stops(subject.chat)
    assert customers.draft(subject.chat) == "so far"


async def test_the_typing_status_is_one_of_a_list(subject: Subject) -> None:
    """Bot API, sendChatAction."""
    assert await subject.ok("sendChatAction", chat_id=subject.chat, action="typing") is True
    answer = await subject.no("sendChatAction", chat_id=subject.chat, action="juggling")
    assert answer == refused("wrong parameter action in request")


@pytest.mark.parametrize(
    "action",
    ["typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document",
     "choose_sticker", "find_location", "record_video_note", "upload_video_note"],
)  # fmt: skip
async def test_every_chat_action_is_shown_for_five_seconds(
    subject: Subject, customers: TelegramServer, action: str
) -> None:
    """Bot API, sendChatAction: the status is set for 5 seconds or less, a message of the bot ends it."""
    assert await subject.ok("sendChatAction", chat_id=subject.chat, action=action) is True
    chat, now = customers.world().chats[subject.chat], customers.world().clock()
    assert chat.action == action
    assert now < chat.action_until <= now + 5
    await subject.send()
    assert chat.action_until <= now
