"""Methods that put something new into a chat: messages, drafts, rich messages, copies, the typing status."""

from __future__ import annotations

import re
from typing import Any

from bot.sandbox.entities import MAX_CAPTION, MAX_TEXT
from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.refusal import BadRequestError
from bot.sandbox.replies import is_captioned
from bot.sandbox.rich import read_rich
from bot.sandbox.world import Chat, Draft, SeenMessage

#: Bot API, sendChatAction.
CHAT_ACTIONS = frozenset({
    "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document",
    "choose_sticker", "find_location", "record_video_note", "upload_video_note",
})  # fmt: skip
_DICE = re.compile("[\U0001f3b2\U0001f3af\U0001f3c0\u26bd\U0001f3b3\U0001f3b0]")


def send_message(call: MethodCall) -> dict[str, Any]:
    text, entities = call.formatted()
    return call.post(call.writable_chat(), text, entities=entities)


def send_message_draft(call: MethodCall) -> bool:
    text, entities = call.formatted(may_be_empty=True, limit=MAX_TEXT)
    return _show_draft(call, text, entities)


def send_rich_message(call: MethodCall) -> dict[str, Any]:
    rich = read_rich(call.params)
    call.text = rich.text
    return call.post(call.writable_chat(), rich.text, media={"rich_message": rich.shown})


def send_rich_message_draft(call: MethodCall) -> bool:
    rich = read_rich(call.params)
    call.text = rich.text
    return _show_draft(call, rich.text, [])


def _show_draft(call: MethodCall, text: str, entities: list[dict[str, Any]]) -> bool:
    draft_id = call.params.number("draft_id")
    if not draft_id:
        raise BadRequestError("draft_id must be non-zero")
    chat = call.writable_chat()
    if chat.type != "private":
        # What groups and channels answer in practice; drafts are for private chats only.
        raise BadRequestError("TEXTDRAFT_PEER_INVALID")
    thread_id = call.thread_id(chat)
    last = chat.drafts.get(thread_id)
    if last is not None and last.stopped and last.draft_id == draft_id:
        return True  # The customer pressed Stop: the preview stays as it is.
    draft = Draft(
        draft_id=draft_id, text=text, t=call.world.clock(), entities=entities, can_stop=call.params.flag("can_stop"),
        keep_on_stop=call.params.flag("keep_on_stop"),
    )  # fmt: skip
    call.world.show_draft(chat, thread_id, draft)
    return True


def send_chat_action(call: MethodCall) -> bool:
    action = call.params.text("action").lower()
    if action not in CHAT_ACTIONS:
        raise BadRequestError("wrong parameter action in request")
    call.world.show_action(call.writable_chat(), action)
    return True


def copy_message(call: MethodCall) -> dict[str, Any]:
    """A caption given here takes the place of the old one (Bot API, copyMessage); a text stays as it is."""
    chat, source = call.writable_chat(), _source(call, "copy")
    if "caption" not in call.params or not is_captioned(source):
        return {"message_id": _repeat(call, chat, source)["message_id"]}
    caption, entities = call.formatted("caption", "caption_entities", limit=MAX_CAPTION, may_be_empty=True)
    copied = call.post(chat, caption or None, entities=entities, media=dict(source.media))
    return {"message_id": copied["message_id"]}


def forward_message(call: MethodCall) -> dict[str, Any]:
    chat, source = call.writable_chat(), _source(call, "forward")
    reply = _repeat(call, chat, source)
    origin = call.world.me if source.from_bot else call.world.person(source.user_id)
    return {**reply, "forward_origin": {"type": "user", "sender_user": origin, "date": source.date}}


def _source(call: MethodCall, what: str) -> SeenMessage:
    from_chat = call.world.known_chat(call.params.number("from_chat_id"))
    return call.world.live_message(from_chat, call.params.number("message_id"), what)


def _repeat(call: MethodCall, chat: Chat, source: SeenMessage) -> dict[str, Any]:
    call.text = source.text
    return call.post(chat, source.text, entities=list(source.entities), media=dict(source.media))


def send_location(call: MethodCall) -> dict[str, Any]:
    place = {name: _decimal(call, name) for name in ("latitude", "longitude")}
    return call.post(call.writable_chat(), None, media={"location": place})


def _decimal(call: MethodCall, name: str) -> float:
    try:
        return float(call.params.text(name))
    except ValueError as error:
        raise BadRequestError(f"{name} is empty") from error


def send_contact(call: MethodCall) -> dict[str, Any]:
    contact = {name: call.params.text(name) for name in ("phone_number", "first_name")}
    for name, value in contact.items():
        if not value:
            raise BadRequestError(f"{name.replace('_', ' ')} is empty")
    return call.post(call.writable_chat(), None, media={"contact": contact})


def send_dice(call: MethodCall) -> dict[str, Any]:
    emoji = call.params.text("emoji") or "\U0001f3b2"
    if not _DICE.match(emoji):
        raise BadRequestError("EMOTICON_INVALID")
    return call.post(call.writable_chat(), None, media={"dice": {"emoji": emoji, "value": 4}})


SENDING_METHODS: dict[str, Handler] = {
    "sendMessage": send_message,
    "sendMessageDraft": send_message_draft,
    "sendRichMessage": send_rich_message,
    "sendRichMessageDraft": send_rich_message_draft,
    "sendChatAction": send_chat_action,
    "copyMessage": copy_message,
    "forwardMessage": forward_message,
    "sendLocation": send_location,
    "sendContact": send_contact,
    "sendDice": send_dice,
}
