"""What people do, as the bot is told of it."""

from __future__ import annotations

from bot.sandbox import TelegramServer
from tests.sandbox.callers import Subject


async def test_a_blocked_bot_is_told_so_and_may_write_again_later(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, my_chat_member; server: 403 for every send while blocked."""
    blocked = (403, "Forbidden: bot was blocked by the user")
    customers.customer_blocks(subject.chat)
    assert await subject.no("sendMessage", chat_id=subject.chat, text="x") == blocked
    assert await subject.no("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="x") == blocked
    assert await subject.no("sendChatAction", chat_id=subject.chat, action="typing") == blocked
    customers.customer_returns(subject.chat)
    assert await subject.send()
    left, back = [update["my_chat_member"] for update in await subject.ok("getUpdates")]
    assert (left["old_chat_member"]["status"], left["new_chat_member"]["status"]) == ("member", "kicked")
    assert back["new_chat_member"]["status"] == "member"


async def test_a_customers_message_and_its_edit_arrive_as_updates(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, Update: message, edited_message; commands are marked by entities."""
    message_id = customers.customer_writes(subject.chat, "/start now")
    customers.customer_edits(subject.chat, message_id, "hello")
    first, second = await subject.ok("getUpdates")
    assert first["message"]["entities"] == [{"type": "bot_command", "offset": 0, "length": 6}]
    assert first["message"]["from"]["id"] == subject.chat
    assert second["edited_message"]["text"] == "hello"
    assert second["edited_message"]["message_id"] == message_id
    assert second["edited_message"]["edit_date"]


async def test_get_chat_is_full(subject: Subject) -> None:
    """Bot API, getChat: a ChatFullInfo."""
    chat = await subject.ok("getChat", chat_id=subject.chat)
    assert {"id", "type", "accent_color_id", "max_reaction_count", "accepted_gift_types"} <= chat.keys()
