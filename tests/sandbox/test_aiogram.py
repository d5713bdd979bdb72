"""The client library that the service uses takes every reply and update of the sandbox for Telegram's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError, TelegramNotFound, TelegramRetryAfter
from aiogram.types import (
    BotCommand,
    BufferedInputFile,
    ChatMemberAdministrator,
    ForumTopic,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputRichMessage,
    ReactionTypeEmoji,
)

from bot.sandbox import TelegramServer
from tests.sandbox.callers import CHAT, TOKEN

FORUM = -1005


@pytest.fixture
async def bot(server: TelegramServer) -> AsyncIterator[Bot]:
    session = AiohttpSession(api=TelegramAPIServer.from_base(server.url))
    yield Bot(TOKEN, session=session)
    await session.close()


async def test_every_kind_of_message_is_parsed(server: TelegramServer, bot: Bot) -> None:
    """Models with all their required fields."""
    keys = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="b", callback_data="d")]])
    message = await bot.send_message(CHAT, "<b>x</b>", parse_mode="HTML", reply_markup=keys)
    assert message.entities is not None
    assert message.html_text == "<b>x</b>"
    file = BufferedInputFile(b"content", "a.txt")
    for send in (bot.send_document, bot.send_photo, bot.send_voice, bot.send_audio, bot.send_video,
                 bot.send_animation, bot.send_sticker, bot.send_video_note):  # fmt: skip
        assert (await send(CHAT, file)).message_id
    album = [InputMediaDocument(media=file), InputMediaDocument(media=file, caption="c")]
    assert len(await bot.send_media_group(CHAT, album)) == 2  # type: ignore[arg-type]  # lists are invariant
    assert (await bot.send_location(CHAT, 1.5, 2.5)).location is not None
    assert (await bot.send_contact(CHAT, "+123", "A")).contact is not None
    assert (await bot.send_dice(CHAT)).dice is not None
    rich = await bot.send_rich_message(CHAT, InputRichMessage(markdown="# T\n\ntext"))
    assert rich.rich_message is not None
    assert (await bot.copy_message(CHAT, CHAT, message.message_id)).message_id
    assert (await bot.forward_message(CHAT, CHAT, message.message_id)).forward_origin is not None
    reply = await bot.send_message(CHAT, "r", reply_to_message_id=message.message_id)
    assert reply.reply_to_message is not None
    edited = await bot.edit_message_text("y", chat_id=CHAT, message_id=message.message_id)
    assert not isinstance(edited, bool)
    assert edited.edit_date is not None


async def test_everything_around_messages_is_parsed(server: TelegramServer, bot: Bot) -> None:
    """Chats, members, files, commands, topics, webhook."""
    server.add_chat(FORUM, "supergroup", is_forum=True)
    assert (await bot.me()).username == "sandbox_bot"
    assert (await bot.get_chat(CHAT)).type == "private"
    assert isinstance(await bot.get_chat_member(FORUM, bot.id), ChatMemberAdministrator)
    assert await bot.get_chat_administrators(FORUM)
    assert await bot.get_chat_member_count(CHAT) == 1
    topic = await bot.create_forum_topic(FORUM, "T")
    assert isinstance(topic, ForumTopic)
    document = await bot.send_document(CHAT, BufferedInputFile(b"content", "a.txt"))
    assert document.document is not None
    content = await bot.download(document.document.file_id)
    assert content is not None
    assert content.read() == b"content"
    await bot.set_my_commands([BotCommand(command="help", description="Help")])
    assert (await bot.get_my_commands())[0].command == "help"
    await bot.set_my_description("d")
    assert (await bot.get_my_description()).description == "d"
    assert (await bot.get_my_name()).name
    assert await bot.set_message_reaction(CHAT, document.message_id, [ReactionTypeEmoji(emoji="\U0001f44d")])
    assert await bot.pin_chat_message(CHAT, document.message_id)
    assert (await bot.get_webhook_info()).url == ""
    assert (await bot.get_chat_menu_button()).type == "default"
    assert await bot.send_message_draft(CHAT, 1, text="so far")


async def test_every_kind_of_update_is_parsed(server: TelegramServer, bot: Bot) -> None:
    """What customers do, with its event type."""
    sent = await bot.send_message(CHAT, "x")
    message_id = server.customer_writes(CHAT, "/start")
    server.customer_edits(CHAT, message_id, "/help")
    server.customer_presses(CHAT, sent.message_id, "d")
    await bot.send_message_draft(CHAT, 1, text="so far", can_stop=True)
    server.customer_stops(CHAT)
    server.customer_sends_file(CHAT, "photo", b"x", caption="/look")
    server.customer_sends_file(CHAT, "sticker", b"x")
    server.customer_writes(-77, "in a group", chat_type="group", user_id=5)
    server.customer_writes(
        CHAT, "forwarded", extra={"forward_origin": {"type": "hidden_user", "sender_user_name": "A", "date": 1}}
    )
    server.customer_blocks(CHAT)
    updates = await bot.get_updates()
    assert [update.event_type for update in updates] == [
        "message", "edited_message", "callback_query", "stopped_message_generation", "message", "message", "message",
        "message", "my_chat_member",
    ]  # fmt: skip
    photo, forwarded = updates[4].message, updates[7].message
    assert photo is not None
    assert photo.caption == "/look"
    assert photo.caption_entities is not None
    assert forwarded is not None
    assert forwarded.text == "forwarded"


async def test_refusals_become_the_librarys_errors(server: TelegramServer, bot: Bot) -> None:
    """By status and parameters."""
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(987_654, "x")
    server.customer_blocks(CHAT)
    with pytest.raises(TelegramForbiddenError, match="blocked by the user"):
        await bot.send_message(CHAT, "x")
    server.customer_returns(CHAT)
    server.faults.add(kind="429", seconds=9, count=1)
    with pytest.raises(TelegramRetryAfter) as limited:
        await bot.send_message(CHAT, "x")
    assert limited.value.retry_after == 9
    with pytest.raises(TelegramNotFound):
        await bot.get_game_high_scores(1)
