"""Methods on a chat as a whole: what it is, who is in it, its topics, pins, reactions and pressed buttons."""

from __future__ import annotations

from typing import Any

from bot.sandbox.form import as_number
from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.refusal import BadRequestError
from bot.sandbox.replies import chat_reply, message_reply
from bot.sandbox.world import Chat

#: Bot API, createForumTopic.
MAX_TOPIC_NAME = 128
TOPIC_COLOR = 7322096
#: Bot API, answerCallbackQuery.
MAX_ANSWER = 200
_GIFTS = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")


def get_chat(call: MethodCall) -> dict[str, Any]:
    chat = call.chat()
    full: dict[str, Any] = {
        **chat_reply(call.world, chat), "accent_color_id": 0, "max_reaction_count": 11,
        "accepted_gift_types": dict.fromkeys(_GIFTS, True),
    }  # fmt: skip
    if chat.pinned:
        full["pinned_message"] = message_reply(call.world, chat, chat.messages[chat.pinned[-1]])
    return full


def get_chat_member(call: MethodCall) -> dict[str, Any]:
    chat, user_id = call.chat(), call.params.number("user_id")
    if user_id == call.account.bot_id:
        status = "member" if chat.type == "private" else "administrator"
        return _administrator(call) if status == "administrator" else {"status": status, "user": call.world.me}
    if user_id not in call.world.users:
        raise BadRequestError("user not found")
    return {"status": "member", "user": call.world.users[user_id]}


def _administrator(call: MethodCall) -> dict[str, Any]:
    rights = (
        "can_manage_chat", "can_delete_messages", "can_manage_video_chats", "can_restrict_members",
        "can_promote_members", "can_change_info", "can_invite_users", "can_post_stories", "can_edit_stories",
        "can_delete_stories", "can_pin_messages", "can_manage_topics", "can_manage_tags",
        "can_send_welcome_messages",
    )  # fmt: skip
    return {
        "status": "administrator", "user": call.world.me, "can_be_edited": False, "is_anonymous": False,
        **dict.fromkeys(rights, True),
    }  # fmt: skip


def get_chat_administrators(call: MethodCall) -> list[dict[str, Any]]:
    if call.chat().type == "private":
        raise BadRequestError("there are no administrators in the private chat")
    return [_administrator(call)]


def get_chat_member_count(call: MethodCall) -> int:
    people = {message.user_id for message in call.chat().messages.values() if not message.from_bot}
    return len(people) + 1


def leave_chat(call: MethodCall) -> bool:
    chat = call.chat()
    if chat.type == "private":
        raise BadRequestError("chat member status can't be changed in private chats")
    chat.blocked = True
    call.world.keep_chat(chat)
    return True


# --- topics -----------------------------------------------------------------------------------------------
def create_forum_topic(call: MethodCall) -> dict[str, Any]:
    chat = call.writable_chat()
    if not chat.is_forum:
        raise BadRequestError("the chat is not a forum")
    name = _topic_name(call)
    color = call.params.number("icon_color") or TOPIC_COLOR
    return {"message_thread_id": call.world.topic(chat, name, color), "name": name, "icon_color": color}


def _topic_name(call: MethodCall) -> str:
    name = call.params.text("name").strip()
    if not name or len(name) > MAX_TOPIC_NAME:
        raise BadRequestError("TOPIC_TITLE_EMPTY" if not name else "TOPIC_TITLE_TOO_LONG")
    return name


def _topic(call: MethodCall) -> tuple[Chat, int]:
    chat, thread_id = call.writable_chat(), call.params.number("message_thread_id")
    if thread_id not in chat.topics:
        raise BadRequestError("TOPIC_ID_INVALID")
    return chat, thread_id


def edit_forum_topic(call: MethodCall) -> bool:
    chat, thread_id = _topic(call)
    name = _topic_name(call) if "name" in call.params else chat.topics[thread_id]["name"]
    if name == chat.topics[thread_id]["name"]:
        raise BadRequestError("TOPIC_NOT_MODIFIED")
    chat.topics[thread_id]["name"] = name
    call.world.keep_chat(chat)
    return True


def _set_closed(*, closed: bool) -> Handler:
    def change(call: MethodCall) -> bool:
        chat, thread_id = _topic(call)
        if chat.topics[thread_id].get("closed", False) == closed:
            raise BadRequestError("TOPIC_NOT_MODIFIED")
        chat.topics[thread_id]["closed"] = closed
        call.world.keep_chat(chat)
        return True

    return change


def delete_forum_topic(call: MethodCall) -> bool:
    """The topic goes with all its messages."""
    chat, thread_id = _topic(call)
    del chat.topics[thread_id]
    call.world.keep_chat(chat)
    for message in chat.messages.values():
        if message.thread_id == thread_id and not message.deleted:
            call.world.delete(message)
    return True


# --- single messages and presses --------------------------------------------------------------------------
def pin_chat_message(call: MethodCall) -> bool:
    chat = call.writable_chat()
    message = call.message(chat, "pin")
    chat.pinned = [*(pin for pin in chat.pinned if pin != message.message_id), message.message_id]
    call.world.keep_chat(chat)
    return True


def unpin_chat_message(call: MethodCall) -> bool:
    chat, message_id = call.writable_chat(), call.params.number("message_id")
    if not chat.pinned or (message_id and message_id not in chat.pinned):
        raise BadRequestError("message to unpin not found")
    chat.pinned.remove(message_id or chat.pinned[-1])
    call.world.keep_chat(chat)
    return True


def unpin_all_chat_messages(call: MethodCall) -> bool:
    chat = call.writable_chat()
    chat.pinned = []
    call.world.keep_chat(chat)
    return True


def set_message_reaction(call: MethodCall) -> bool:
    message = call.message(call.writable_chat(), "react")
    reactions = call.params.nested("reaction") or []
    if not isinstance(reactions, list) or not all(isinstance(one, dict) and one.get("type") for one in reactions):
        raise BadRequestError("can't parse reaction types")
    if len(reactions) > 1:
        raise BadRequestError("REACTIONS_TOO_MANY")
    message.reactions = reactions
    call.world.touch(message)
    return True


def answer_callback_query(call: MethodCall) -> bool:
    query_id = call.params.text("callback_query_id")
    text = call.params.text("text")
    if len(text) > MAX_ANSWER:
        raise BadRequestError("MESSAGE_TOO_LONG")
    call.world.answer_callback(query_id, text, is_alert=call.params.flag("show_alert"))
    return True


def get_user_profile_photos(call: MethodCall) -> dict[str, Any]:
    if as_number(call.params.values.get("user_id")) not in call.world.users:
        raise BadRequestError("user not found")
    return {"total_count": 0, "photos": []}


CHAT_METHODS: dict[str, Handler] = {
    "getChat": get_chat,
    "getChatMember": get_chat_member,
    "getChatAdministrators": get_chat_administrators,
    "getChatMemberCount": get_chat_member_count,
    "leaveChat": leave_chat,
    "createForumTopic": create_forum_topic,
    "editForumTopic": edit_forum_topic,
    "closeForumTopic": _set_closed(closed=True),
    "reopenForumTopic": _set_closed(closed=False),
    "deleteForumTopic": delete_forum_topic,
    "pinChatMessage": pin_chat_message,
    "unpinChatMessage": unpin_chat_message,
    "unpinAllChatMessages": unpin_all_chat_messages,
    "setMessageReaction": set_message_reaction,
    "answerCallbackQuery": answer_callback_query,
    "getUserProfilePhotos": get_user_profile_photos,
}
