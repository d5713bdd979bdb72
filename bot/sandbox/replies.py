"""Bot API objects as JSON: messages, chats, users, in the fullness that client libraries parse."""

from __future__ import annotations

from typing import Any

from bot.sandbox.world import Chat, SeenMessage, World

#: Content that can have a caption; other fields of a message leave its text a text.
CAPTIONED = frozenset({"photo", "video", "animation", "audio", "document", "voice", "paid_media"})


def chat_reply(world: World, chat: Chat) -> dict[str, Any]:
    """A `Chat` as it stands in messages and updates."""
    if chat.type == "private":
        user = world.person(chat.id)
        names = {key: value for key, value in user.items() if key in ("first_name", "last_name", "username")}
        return {"id": chat.id, "type": chat.type, **names}
    shown = {"id": chat.id, "type": chat.type, "title": chat.title}
    return {**shown, "is_forum": True} if chat.is_forum else shown


def is_captioned(message: SeenMessage) -> bool:
    """Its text is a caption under some media."""
    return not CAPTIONED.isdisjoint(message.media)


def sender(world: World, message: SeenMessage) -> dict[str, Any]:
    return world.me if message.from_bot else world.person(message.user_id)


def message_reply(world: World, chat: Chat, message: SeenMessage, *, deep: bool = True) -> dict[str, Any]:
    """A `Message`; the message replied to is shown one level deep."""
    body: dict[str, Any] = {
        "message_id": message.message_id,
        "from": sender(world, message),
        "chat": chat_reply(world, chat),
        "date": message.date,
    }
    body.update(message.media)
    captioned = is_captioned(message)
    if message.text is not None and "rich_message" not in message.media:
        body["caption" if captioned else "text"] = message.text
    if message.entities:
        body["caption_entities" if captioned else "entities"] = message.entities
    if message.thread_id is not None:
        body["message_thread_id"] = message.thread_id
        body["is_topic_message"] = True
    if message.edit_date is not None:
        body["edit_date"] = message.edit_date
    if message.markup is not None and "inline_keyboard" in message.markup:
        body["reply_markup"] = message.markup
    target = chat.messages.get(message.reply_to) if message.reply_to and deep else None
    if target is not None:
        body["reply_to_message"] = message_reply(world, chat, target, deep=False)
    return body
