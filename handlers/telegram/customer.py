"""What customers send: each handler says what arrived and what is to be done; the turn does it.

Handlers return an intent and touch nothing, so an update can be handed to them again after a crash. Filters are
coroutines throughout: aiogram runs plain functions, ``F`` included, in a thread each, which costs more than the rest of
the dispatch.
"""

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from aiogram import Router
from aiogram.enums import ChatMemberStatus, ChatType
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import CallbackQuery, ChatMemberUpdated, Message, MessageGenerationStopped, User

from bot import texts
from bot.conversation.intents import Act, Correction, Deed, Intent, Nothing, Notice, Presence, Question
from bot.delivery.form import clean, utf16_units
from bot.safety.unseen import visible

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


_DEEDS: Final = {
    "new": Deed.ANEW,
    "stop": Deed.STOP,
    "human": Deed.PERSON,
    "handback": Deed.BACK,
    "export": Deed.EXPORT,
    "forget": Deed.FORGET,
    "privacy": Deed.PRIVACY,
    "import": Deed.IMPORT,
    "language": Deed.LANGUAGE,
}
_BUTTONS: Final = {"person": Deed.PERSON, "export": Deed.EXPORT, "forget": Deed.FORGET, "import": Deed.IMPORT}
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def _Command(name: str) -> Command:  # noqa: N802 (reads as the filter it makes)
    return Command(name, ignore_mention=True, ignore_case=True)


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom the bot answers. ``addressed_only``: in groups, only what names the bot, replies to it, or is a command."""

    bot_username: str
    addressed_only: bool
    operator_group: int | None
    banned: frozenset[int] = frozenset()

    async def is_foreign(self, message: Message) -> bool:
        """Whether a message is none of the bot's business."""
        if message.from_user is not None and message.from_user.is_bot:
            return True
        if message.chat.type == ChatType.CHANNEL or message.chat.id == self.operator_group:
            return True
        command = _COMMAND.match(message.text or "")
        if command is not None and command[1] and self.bot_username:
            return command[1][1:].lower() != self.bot_username.lower()  # in a group of several bots
        return self.addressed_only and message.chat.type in _GROUPS and not self._is_addressed(message)

    async def is_banned(self, message: Message) -> bool:
        """Whether a message is not to be answered. What the law gives everybody stays: commands are obeyed."""
        who = {message.chat.id, message.from_user.id if message.from_user else 0}
        return bool(who & self.banned) and _COMMAND.match(message.text or "") is None

    async def is_banned_press(self, press: CallbackQuery) -> bool:
        """Whether a press is a question of somebody who is not answered; other buttons do what commands do."""
        who = {press.from_user.id, press.message.chat.id if press.message else 0}
        return bool(who & self.banned) and (press.data or "").startswith("more:")

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
    if audience.banned:
        router.message.register(on_banned, audience.is_banned)
        router.edited_message.register(on_banned, audience.is_banned)
        router.callback_query.register(on_banned, audience.is_banned_press)
    router.message.register(on_question, is_plain_text)
    router.message.register(on_other_content, is_archive)
    router.message.register(on_start, CommandStart(ignore_mention=True))
    router.message.register(partial(on_notice, sentence=texts.HELP), _Command("help"))
    for command, deed in _DEEDS.items():
        router.message.register(partial(on_command, deed=deed), _Command(command))
    router.message.register(on_unknown_command, is_text)
    router.message.register(on_other_content)
    router.edited_message.register(on_foreign_message, audience.is_foreign)
    router.edited_message.register(on_edit)
    router.callback_query.register(on_press)
    router.stopped_message_generation.register(on_stop_button)
    router.my_chat_member.register(on_presence)
    return router


async def is_text(message: Message) -> bool:
    return bool(message.text)


async def is_plain_text(message: Message) -> bool:
    return bool(message.text) and _COMMAND.match(message.text or "") is None


async def is_archive(message: Message) -> bool:
    """A file that says itself what it is for: to the command alone it would be an argument."""
    return message.document is not None and (message.caption or "").lower().startswith("/import")


async def on_foreign_message(_: Message) -> Intent:
    return Nothing("not for the bot")


async def on_banned(_: Message | CallbackQuery) -> Intent:
    return Nothing("banned")


async def on_start(message: Message) -> Intent:
    return _notice(message, texts.WELCOME)


async def on_notice(message: Message, sentence: str) -> Intent:
    return _notice(message, sentence)


async def on_command(message: Message, deed: Deed, command: CommandObject) -> Intent:
    user = message.from_user
    return Act(
        deed,
        topic_of(message),
        message.message_id,
        language_of(user),
        argument=(command.args or "").strip().lower() if deed is Deed.LANGUAGE else "",
        user=user.id if user else 0,
        by=user.id if user else 0,
        reply_to=message.reply_to_message.message_id if message.reply_to_message else 0,
        private=message.chat.type == ChatType.PRIVATE,
        name=name_of(user),
    )


async def on_press(press: CallbackQuery) -> Intent:
    """A button of ours. Clients can send any data: what does not read as ours means nothing."""
    user, message = press.from_user, press.message
    act = Act(
        Deed.NONE,
        topic_of(message) if isinstance(message, Message) else 0,
        language=language_of(user),
        pressed=press.id,
        by=user.id,
        user=user.id,
        private=message is not None and message.chat.type == ChatType.PRIVATE,
        name=name_of(user),
    )
    shown = message.message_id if message is not None else 0
    match (press.data or "").split(":"):
        case ["erase", scope, *bound] if len(bound) in {4, 5} and all(map(_NUMBER.fullmatch, bound)):
            topic, conversation, asked_by, until, *number = map(int, bound)
            asked = replace(act, deed=Deed.ERASE, topic=topic, argument=scope, number=sum(number))
            found = replace(asked, conversation=conversation, user=asked_by, until=until)
        case ["keep" | "tidy" as name, asked_by] if _NUMBER.fullmatch(asked_by):
            found = replace(act, deed=Deed.KEEP if name == "keep" else Deed.TIDY, user=int(asked_by))
        case ["more" | "again" as name, topic_id, number] if _NUMBER.fullmatch(topic_id) and _NUMBER.fullmatch(number):
            deed = Deed.MORE if name == "more" else Deed.AGAIN
            found = replace(act, deed=deed, topic=int(topic_id), number=int(number), message_id=shown)
        case ["privacy", *words]:
            found = replace(act, deed=Deed.PRIVACY, argument=":".join(words), message_id=shown)
        case ["import", said, *bound] if len(bound) == 3 and all(map(_NUMBER.fullmatch, bound)):
            asked_by, until, offer = map(int, bound)
            found = replace(act, deed=Deed.IMPORT, argument=said, user=asked_by, until=until, number=offer)
        case ["consent", said, version]:
            found = replace(act, deed=Deed.CONSENT, argument=said, name=version)
        case ["language", language]:
            found = replace(act, deed=Deed.LANGUAGE, argument=language)
        case [name] if name in _BUTTONS:
            found = replace(act, deed=_BUTTONS[name])
        case _:
            found = act
    return found


async def on_stop_button(stop: MessageGenerationStopped) -> Intent:
    return Act(Deed.STOP, stop.message_thread_id or 0, draft_id=stop.draft_id)


async def on_unknown_command(message: Message) -> Intent:
    return _notice(message, texts.UNKNOWN_COMMAND)


async def on_question(message: Message) -> Intent:
    text = visible(message.text or "")
    if not is_visible(text):
        return _notice(message, texts.EMPTY)
    return _question(message, text)


async def on_other_content(message: Message) -> Intent:
    if message.content_type in _SERVICE:
        return Nothing(f"service message {message.content_type}")  # Telegram made it: nobody expects an answer
    question = replace(_question(message, visible(message.caption or "")), other=True)
    document = message.document
    return (
        question if document is None else replace(question, file=document.file_id, file_bytes=document.file_size or 0)
    )


async def on_edit(message: Message) -> Intent:
    text = visible(message.text or "")
    if not is_visible(text):
        return Nothing("edited to nothing")
    reply = message.reply_to_message.message_id if message.reply_to_message else 0
    return Correction(message.message_id, topic_of(message), text, reply, name_of(message.from_user))


async def on_presence(change: ChatMemberUpdated) -> Intent:
    return Presence(blocked=change.new_chat_member.status in _AWAY)


def topic_of(message: Message) -> int:
    """The forum topic of a message, 0 where there is none (a reply's thread in a plain group is no topic)."""
    return (message.message_thread_id or 0) if message.is_topic_message else 0


def language_of(user: User | None) -> str:
    """Of the person's Telegram, "" where it is not told."""
    return (user.language_code or "") if user else ""


def name_of(user: User | None) -> str:
    """What a person goes by, for the operator."""
    if user is None:
        return ""
    return f"{user.full_name} (@{user.username})" if user.username else user.full_name


def is_visible(text: str) -> bool:
    """Whether a person would see anything: invisible characters and directional marks alone do not count."""
    return any(sign.isprintable() and not sign.isspace() and sign not in _UNSEEN for sign in clean(text))


def _question(message: Message, text: str) -> Question:
    return Question(
        message.message_id,
        topic_of(message),
        text,
        int(message.date.timestamp()),
        utf16_units(message.text or ""),
        message.reply_to_message.message_id if message.reply_to_message else 0,
        language_of(message.from_user),
        name_of(message.from_user),
    )


def _notice(message: Message, sentence: str) -> Notice:
    return Notice(sentence, topic_of(message), message.message_id, language_of(message.from_user))
