"""What customers send: each handler says what arrived and what is to be done; the turn does it.

Handlers return an intent and touch nothing, so an update can be handed to them again after a crash. Filters are
coroutines throughout: aiogram runs plain functions, ``F`` included, in a thread each, which costs more than the rest of
the dispatch.
"""

import re
from dataclasses import dataclass
from typing import Final

from aiogram import Router
from aiogram.enums import ChatMemberStatus, ChatType
from aiogram.filters import Command, CommandStart
from aiogram.types import ChatMemberUpdated, Message

from bot import texts
from bot.conversation.intents import Correction, Intent, Nothing, Notice, Presence, Question
from bot.delivery.form import clean, utf16_units

_GROUPS: Final = {ChatType.GROUP, ChatType.SUPERGROUP}
_AWAY: Final = {ChatMemberStatus.KICKED, ChatMemberStatus.LEFT}
_COMMAND: Final = re.compile(r"/[A-Za-z0-9_]{1,32}(@\w+)?(\s|$)")
_UNSEEN: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe0f\ufe0e\u034f\ufffd")
_SERVICE: Final = frozenset(
    {
        "new_chat_members", "left_chat_member", "new_chat_title", "new_chat_photo", "delete_chat_photo",
        "group_chat_created", "supergroup_chat_created", "channel_chat_created", "message_auto_delete_timer_changed",
        "migrate_to_chat_id", "migrate_from_chat_id", "pinned_message", "forum_topic_created", "forum_topic_edited",
        "forum_topic_closed", "forum_topic_reopened", "general_forum_topic_hidden", "general_forum_topic_unhidden",
        "video_chat_scheduled", "video_chat_started", "video_chat_ended", "video_chat_participants_invited",
        "chat_background_set", "boost_added", "write_access_allowed", "proximity_alert_triggered",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom the bot answers. ``addressed_only``: in groups, only what names the bot, replies to it, or is a command."""

    bot_username: str
    addressed_only: bool
    operator_group: int | None

    async def is_foreign(self, message: Message) -> bool:
        """Whether a message is none of the bot's business."""
        if message.from_user is not None and message.from_user.is_bot:
            return True
        if message.chat.type == ChatType.CHANNEL or message.chat.id == self.operator_group:
            return True
        return self.addressed_only and message.chat.type in _GROUPS and not self._is_addressed(message)

    def _is_addressed(self, message: Message) -> bool:
        reply = message.reply_to_message
        if reply is not None and reply.from_user is not None and reply.from_user.username == self.bot_username:
            return True
        text = message.text or message.caption or ""
        return text.startswith("/") or (bool(self.bot_username) and f"@{self.bot_username}".lower() in text.lower())


def customer_router(audience: Audience) -> Router:
    """The routes of all customer updates; handlers return an ``Intent``."""
    router = Router(name="customer")
    router.message.register(on_foreign_message, audience.is_foreign)
    router.message.register(on_question, is_plain_text)
    router.message.register(on_start, CommandStart(ignore_mention=True))
    router.message.register(on_help, Command("help", ignore_mention=True))
    router.message.register(on_unknown_command, is_text)
    router.message.register(on_other_content)
    router.edited_message.register(on_foreign_message, audience.is_foreign)
    router.edited_message.register(on_edit)
    router.my_chat_member.register(on_presence)
    return router


async def is_text(message: Message) -> bool:
    return bool(message.text)


async def is_plain_text(message: Message) -> bool:
    return bool(message.text) and _COMMAND.match(message.text or "") is None


async def on_foreign_message(_: Message) -> Intent:
    return Nothing("not for the bot")


async def on_start(message: Message) -> Intent:
    return _notice(message, texts.WELCOME)


async def on_help(message: Message) -> Intent:
    return _notice(message, texts.HELP)


async def on_unknown_command(message: Message) -> Intent:
    return _notice(message, texts.UNKNOWN_COMMAND)


async def on_question(message: Message) -> Intent:
    text = message.text or ""
    if not is_visible(text):
        return _notice(message, texts.EMPTY)
    return Question(message.message_id, topic_of(message), text, int(message.date.timestamp()), utf16_units(text))


async def on_other_content(message: Message) -> Intent:
    if message.content_type in _SERVICE:
        return Nothing(f"service message {message.content_type}")  # Telegram made it: nobody expects an answer
    return _notice(message, texts.ONLY_TEXT)


async def on_edit(message: Message) -> Intent:
    text = message.text or ""
    return Correction(message.message_id, topic_of(message), text) if is_visible(text) else Nothing("edited to nothing")


async def on_presence(change: ChatMemberUpdated) -> Intent:
    return Presence(blocked=change.new_chat_member.status in _AWAY)


def topic_of(message: Message) -> int:
    """The forum topic of a message, 0 where there is none (a reply's thread in a plain group is no topic)."""
    return (message.message_thread_id or 0) if message.is_topic_message else 0


def is_visible(text: str) -> bool:
    """Whether a person would see anything: invisible characters and directional marks alone do not count."""
    return any(sign.isprintable() and not sign.isspace() and sign not in _UNSEEN for sign in clean(text))


def _notice(message: Message, sentence: str) -> Notice:
    return Notice(sentence, topic_of(message), message.message_id)
