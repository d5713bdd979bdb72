"""Methods that change or remove what stands in a chat."""

from __future__ import annotations

import time
from typing import Any

from bot.sandbox.entities import MAX_CAPTION
from bot.sandbox.form import as_number
from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.refusal import NOT_MODIFIED, BadRequestError
from bot.sandbox.replies import is_captioned
from bot.sandbox.rich import read_rich
from bot.sandbox.world import Chat, SeenMessage

#: A message can be deleted for 48 hours (Bot API, deleteMessage).
DELETABLE_SECONDS = 48 * 3600
MAX_DELETIONS = 100


def edit_message_text(call: MethodCall) -> dict[str, Any]:
    if "rich_message" in call.params:
        return _edit_rich(call)
    text, entities = call.formatted()
    markup, (chat, message) = call.markup(), _editable(call)
    was_rich = message.media.get("rich_message") is not None
    if is_captioned(message) or (message.text is None and not was_rich):
        raise BadRequestError("there is no text in the message to edit")
    if (text, entities, markup) == (message.text, message.entities, message.markup) and not was_rich:
        raise BadRequestError(NOT_MODIFIED)
    message.text, message.entities, message.markup, message.media = text, entities, markup, {}
    call.world.change(message)
    return call.show(chat, message)


def _edit_rich(call: MethodCall) -> dict[str, Any]:
    rich = read_rich(call.params)
    call.text = rich.text
    markup, (chat, message) = call.markup(), _editable(call)
    media = {"rich_message": rich.shown}
    if (rich.text, media, markup) == (message.text, message.media, message.markup):
        raise BadRequestError(NOT_MODIFIED)
    message.text, message.entities, message.markup, message.media = rich.text, [], markup, media
    call.world.change(message)
    return call.show(chat, message)


def edit_message_caption(call: MethodCall) -> dict[str, Any]:
    caption, entities = call.formatted("caption", "caption_entities", limit=MAX_CAPTION, may_be_empty=True)
    markup, (chat, message) = call.markup(), _editable(call)
    if not is_captioned(message):
        raise BadRequestError("there is no caption in the message to edit")
    if (caption or None, entities, markup) == (message.text, message.entities, message.markup):
        raise BadRequestError(NOT_MODIFIED)
    message.text, message.entities, message.markup = caption or None, entities, markup
    call.world.change(message)
    return call.show(chat, message)


def edit_message_reply_markup(call: MethodCall) -> dict[str, Any]:
    markup, (chat, message) = call.markup(), _editable(call)
    if markup == message.markup:
        raise BadRequestError(NOT_MODIFIED)
    message.markup = markup
    call.world.change(message)
    return call.show(chat, message)


def _editable(call: MethodCall) -> tuple[Chat, SeenMessage]:
    """A message of the bot's own; one that carries a reply keyboard cannot be edited either."""
    chat = call.writable_chat()
    message = call.message(chat, "edit")
    has_keyboard = message.markup is not None and "inline_keyboard" not in message.markup
    if not message.from_bot or has_keyboard:
        raise BadRequestError("message can't be edited")
    return chat, message


def delete_message(call: MethodCall) -> bool:
    message = call.message(call.chat(), "delete")
    _check_deletable(message)
    call.world.delete(message)
    return True


def delete_messages(call: MethodCall) -> bool:
    """Messages that are not there are skipped, as documented."""
    ids = call.params.nested("message_ids")
    if not isinstance(ids, list) or not ids:
        raise BadRequestError("message identifiers are not specified")
    if len(ids) > MAX_DELETIONS:
        raise BadRequestError("too many message identifiers specified")
    chat = call.chat()
    for given in ids:
        message = chat.messages.get(as_number(given))
        if message is not None and not message.deleted:
            _check_deletable(message)
            call.world.delete(message)
    return True


def _check_deletable(message: SeenMessage) -> None:
    if time.time() - message.date > DELETABLE_SECONDS:
        raise BadRequestError("message can't be deleted")


EDITING_METHODS: dict[str, Handler] = {
    "editMessageText": edit_message_text,
    "editMessageCaption": edit_message_caption,
    "editMessageReplyMarkup": edit_message_reply_markup,
    "deleteMessage": delete_message,
    "deleteMessages": delete_messages,
}
