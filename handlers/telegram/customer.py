"""What customers send: each handler says what arrived and what is to be done; the turn does it.

Handlers return an intent and touch nothing, so an update can be handed to them again after a crash.
"""

from typing import Final

from aiogram import F, Router
from aiogram.enums import ChatMemberStatus, ChatType
from aiogram.filters import Command, CommandStart
from aiogram.types import ChatMemberUpdated, Message

from bot import texts
from bot.conversation.intents import Correction, Intent, Nothing, Notice, Presence, Question
from bot.delivery.form import clean, utf16_units

_GROUPS: Final = {ChatType.GROUP, ChatType.SUPERGROUP}
_AWAY: Final = {ChatMemberStatus.KICKED, ChatMemberStatus.LEFT}


def customer_router(*, bot_username: str, addressed_only: bool, operator_group: int | None) -> Router:
    """The routes of all customer updates; handlers return an ``Intent``."""
    router = Router(name="customer")

    async def on_foreign_message(message: Message) -> Intent:
        return Nothing("not for the bot")

    async def on_start(message: Message) -> Intent:
        return _notice(message, texts.WELCOME)

    async def on_help(message: Message) -> Intent:
        return _notice(message, texts.HELP)

    async def on_unknown_command(message: Message) -> Intent:
        return _notice(message, texts.UNKNOWN_COMMAND)

    async def on_question(message: Message) -> Intent:
        text = message.text or ""
        if not visible(text):
            return _notice(message, texts.EMPTY)
        return Question(message.message_id, topic_of(message), text, int(message.date.timestamp()), utf16_units(text))

    async def on_other_content(message: Message) -> Intent:
        if _service(message):
            return Nothing(f"service message {message.content_type}")
        return _notice(message, texts.ONLY_TEXT)

    async def on_edit(message: Message) -> Intent:
        text = message.text or ""
        if not visible(text):
            return Nothing("edited without text")
        return Correction(message.message_id, topic_of(message), text)

    async def on_presence(change: ChatMemberUpdated) -> Intent:
        return Presence(blocked=change.new_chat_member.status in _AWAY)

    def foreign(message: Message) -> bool:
        if message.from_user is not None and message.from_user.is_bot:
            return True
        if message.chat.type == ChatType.CHANNEL or message.chat.id == operator_group:
            return True
        return addressed_only and message.chat.type in _GROUPS and not _addressed(message, bot_username)

    router.message.register(on_foreign_message, foreign)
    router.message.register(on_start, CommandStart(ignore_mention=True))
    router.message.register(on_help, Command("help", ignore_mention=True))
    router.message.register(on_unknown_command, F.text.regexp(r"^/[A-Za-z0-9_]{1,32}(@\w+)?(\s|$)"))
    router.message.register(on_question, F.text)
    router.message.register(on_other_content)
    router.edited_message.register(on_edit)
    router.my_chat_member.register(on_presence)
    return router


def topic_of(message: Message) -> int:
    """The forum topic of a message, 0 where there is none (a reply's thread in a plain group is no topic)."""
    return (message.message_thread_id or 0) if message.is_topic_message else 0


def visible(text: str) -> bool:
    """Whether a person would see anything: invisible characters and directional marks alone do not count."""
    return any(character.isprintable() and not character.isspace() for character in clean(text) if character not in _UNSEEN)


_UNSEEN: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe0f\ufe0e\u034f\ufffd")


def _notice(message: Message, sentence: str) -> Notice:
    return Notice(sentence, topic_of(message), message.message_id if message.chat.type in _GROUPS else 0)


def _addressed(message: Message, bot_username: str) -> bool:
    reply = message.reply_to_message
    if reply is not None and reply.from_user is not None and reply.from_user.username == bot_username:
        return True
    text = message.text or message.caption or ""
    return f"@{bot_username}".lower() in text.lower() or text.startswith("/")


def _service(message: Message) -> bool:
    """Messages that Telegram makes (somebody joined, a topic was created): nobody expects an answer to them."""
    return message.content_type in _SERVICE


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
