"""What the page is told: the whole state once, then each change, as events of one stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bot.sandbox.account import Account
from bot.sandbox.form import dump
from bot.sandbox.methods.commands import commands_shown
from bot.sandbox.methods.files import KINDS
from bot.sandbox.people import OPERATOR_ID
from bot.sandbox.world import ACTION_SECONDS, DRAFT_SECONDS, Chat, SeenMessage, World

#: Messages of a chat that a page is given at first.
SHOWN_MESSAGES: Final = 300
#: The page asks again so soon after its stream has broken.
RETRY_MILLISECONDS: Final = 1000
#: So much of a message is quoted above a reply to it.
QUOTED_CHARACTERS: Final = 120
#: Parts of a message that are no content of their own.
_SILENT: Final = frozenset({"rich_message", "media_group_id"})


def state(account: Account) -> bytes:
    """Everything, for a page that has just connected."""
    world = account.world
    chats = [
        {
            **_chat(account, chat),
            "messages": [_message(world, chat, message) for message in _newest(chat)],
            "draft": _draft(world, chat),
            "action": _action(world, chat),
        }
        for chat in world.chats.values()
    ]
    bot = {"name": account.me["first_name"], "username": account.me["username"]}
    told = {"bot": bot, "operator_id": OPERATOR_ID, "chats": chats}
    return b"retry: %d\n" % RETRY_MILLISECONDS + _pack("state", told)


def event(what: str, account: Account, chat: Chat, message: SeenMessage | None) -> bytes:
    """One change."""
    world = account.world
    if what == "message" and message is not None:
        return _pack(what, _message(world, chat, message))
    show = _SHOWN.get(what)
    if show is not None:
        return _pack(what, {"chat_id": chat.id, what: show(world, chat)})
    return _pack("chat", _chat(account, chat))


def _newest(chat: Chat) -> list[SeenMessage]:
    return [message for message in chat.messages.values() if not message.deleted][-SHOWN_MESSAGES:]


def _pack(what: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (what.encode(), dump(data))


def _chat(account: Account, chat: Chat) -> dict[str, Any]:
    is_private = chat.type == "private"
    person = account.world.person(chat.id) if is_private else {}
    return {
        "chat_id": chat.id, "type": chat.type, "name": person["first_name"] if is_private else chat.title,
        "language": person.get("language_code", ""), "blocked": chat.blocked,
        "commands": commands_shown(account, chat, person.get("language_code", "")),
    }  # fmt: skip


def _message(world: World, chat: Chat, message: SeenMessage) -> dict[str, Any]:
    markup = message.markup or {}
    kind = next((kind for kind in message.media if kind not in _SILENT), None)
    quoted = chat.messages.get(message.reply_to) if message.reply_to else None
    return {
        "chat_id": message.chat_id,
        "message_id": message.message_id,
        "from_bot": message.from_bot,
        "name": _name(world, message),
        "text": message.text,
        "entities": message.entities,
        "buttons": markup.get("inline_keyboard", []),
        "keyboard": markup.get("keyboard", [] if markup.get("remove_keyboard") else None),
        "kind": kind.replace("_", " ") if kind else None,
        "file": _file(world, message.media[kind], kind) if kind in KINDS else None,
        "reply": _quote(world, quoted) if quoted else None,
        "date": message.date,
        "edited": message.edit_date is not None,
        "deleted": message.deleted,
        "reactions": [one.get("emoji", "★") for one in message.reactions],
    }


def _name(world: World, message: SeenMessage) -> str:
    sender = world.me if message.from_bot else world.person(message.user_id)
    return str(sender["first_name"])


def _file(world: World, media: Any, kind: str) -> dict[str, Any]:
    """What the page needs to show a file and to offer it; a photo comes as the list of its sizes."""
    shown = media[-1] if isinstance(media, list) else media
    stored = world.files.get(shown["file_id"])
    name = stored.name if stored else shown.get("file_name", kind)
    return {"id": shown["file_id"], "kind": kind, "name": name, "size": shown.get("file_size", 0)}


def _quote(world: World, message: SeenMessage) -> dict[str, Any]:
    kinds = [kind.replace("_", " ") for kind in message.media if kind not in _SILENT]
    text = "deleted message" if message.deleted else message.text or (kinds[0] if kinds else "")
    return {"message_id": message.message_id, "name": _name(world, message), "text": text[:QUOTED_CHARACTERS]}


def _draft(world: World, chat: Chat) -> dict[str, Any] | None:
    draft = world.draft(chat.id)
    if draft is None:
        return None
    left = draft.t + DRAFT_SECONDS - world.clock()
    can_stop = draft.can_stop and not draft.stopped
    return {
        "draft_id": draft.draft_id, "text": draft.text, "entities": draft.entities, "can_stop": can_stop,
        "stopped": draft.stopped, "seconds_left": left,
    }  # fmt: skip


def _action(world: World, chat: Chat) -> dict[str, Any] | None:
    left = chat.action_until - world.clock()
    return {"action": chat.action, "seconds_left": min(left, ACTION_SECONDS)} if left > 0 else None


def _notice(_world: World, chat: Chat) -> dict[str, Any]:
    return chat.notice


_SHOWN: Final[dict[str, Callable[[World, Chat], dict[str, Any] | None]]] = {
    "draft": _draft, "action": _action, "notice": _notice,
}  # fmt: skip
