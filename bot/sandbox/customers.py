"""What people do in the sandbox's chats; each act becomes an update for the bot at once."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from bot.sandbox.account import Account
from bot.sandbox.entities import commands_in
from bot.sandbox.methods.files import media_of
from bot.sandbox.replies import chat_reply, message_reply
from bot.sandbox.world import Chat, SeenMessage, World

#: Who writes in a group when nobody is named.
GROUP_CUSTOMER = 777


class Customers(ABC):
    """A face of the server; `bot` names a token where several bots are registered."""

    @abstractmethod
    def account(self, token: str | None = None) -> Account:
        """The account of a token, or the one that customers write to unless they name another."""

    def add_chat(
        self, chat_id: int, chat_type: str = "private", *, title: str = "", is_forum: bool = False,
        bot: str | None = None,
    ) -> None:  # fmt: skip
        """A chat that the bot has seen, without a message in it. Raises ValueError where sign and type disagree."""
        account = self.account(bot)
        chat = account.world.meet(chat_id, chat_type, is_forum=is_forum)
        chat.title = title or chat.title
        account.world.keep_chat(chat)
        account.record.commit()

    def add_customer(self, user_id: int, *, bot: str | None = None, **fields: Any) -> None:
        """Name a person: `first_name`, `last_name`, `username`, `language_code`."""
        account = self.account(bot)
        account.world.person(user_id, **fields)
        account.record.commit()

    def customer_writes(
        self, chat_id: int, text: str | None, *, user_id: int | None = None, chat_type: str = "private",
        thread_id: int | None = None, reply_to: int | None = None, extra: dict[str, Any] | None = None,
        bot: str | None = None,
    ) -> int:  # fmt: skip
        """A message to the bot; `extra` adds Bot API fields (`sticker`, `photo`, …). Returns the message id.

        Raises LookupError where the message replied to is gone.
        """
        account = self.account(bot)
        kind = chat_type if chat_id > 0 or chat_type != "private" else "supergroup"
        chat = account.world.meet(chat_id, kind)
        if reply_to is not None:
            _find(account.world, chat_id, reply_to)
        message = account.world.customer_message(
            chat, text, user_id or (chat_id if chat_id > 0 else GROUP_CUSTOMER), thread_id=thread_id,
            reply_to=reply_to, media=dict(extra or {}),
        )  # fmt: skip
        account.updates.push({"message": message_reply(account.world, chat, message)})
        return message.message_id

    def customer_sends_file(
        self, chat_id: int, kind: str, content: bytes, *, name: str = "file.bin", caption: str | None = None,
        content_type: str = "", reply_to: int | None = None, bot: str | None = None,
    ) -> int:  # fmt: skip
        """A photo, voice, document … with a file that `getFile` hands out. Returns the message id."""
        stored = self.account(bot).world.store_file(kind, name, content)
        extra = media_of(kind, stored, content_type)
        return self.customer_writes(chat_id, caption, extra=extra, reply_to=reply_to, bot=bot)

    def customer_edits(self, chat_id: int, message_id: int, text: str, *, bot: str | None = None) -> None:
        """Raises LookupError for a message that is not the customer's or is gone."""
        account = self.account(bot)
        chat, message = _find(account.world, chat_id, message_id)
        if message.from_bot:
            raise LookupError(f"message {message_id} is the bot's")
        message.text, message.entities = text, commands_in(text)
        account.world.change(message)
        account.updates.push({"edited_message": message_reply(account.world, chat, message)})

    def customer_presses(
        self, chat_id: int, message_id: int, data: str, *, user_id: int | None = None, bot: str | None = None
    ) -> str:
        """Press an inline button. Returns the callback query's id. Raises LookupError for a message that is gone."""
        account = self.account(bot)
        chat, message = _find(account.world, chat_id, message_id)
        query_id = account.world.open_callback(chat)
        person = account.world.person(user_id or (chat_id if chat_id > 0 else GROUP_CUSTOMER))
        shown = message_reply(account.world, chat, message)
        account.updates.push({
            "callback_query": {
                "id": query_id, "from": person, "message": shown, "chat_instance": str(chat_id), "data": data,
            }
        })  # fmt: skip
        return query_id

    def customer_stops(self, chat_id: int, *, thread_id: int | None = None, bot: str | None = None) -> None:
        """Press Stop under the draft. Raises LookupError where no draft is shown."""
        account = self.account(bot)
        chat, draft = account.world.chats.get(chat_id), account.world.draft(chat_id, thread_id)
        if chat is None or draft is None:
            raise LookupError(f"chat {chat_id} shows no draft")
        draft.stopped = True
        account.world.tell("draft", chat)
        stopped: dict[str, Any] = {"chat": chat_reply(account.world, chat), "draft_id": draft.draft_id}
        if thread_id is not None:
            stopped["message_thread_id"] = thread_id
        account.updates.push({"stopped_message_generation": stopped})

    def customer_blocks(self, chat_id: int, *, bot: str | None = None) -> None:
        """The bot is blocked in a private chat, or removed from a group."""
        self._set_blocked(chat_id, blocked=True, bot=bot)

    def customer_returns(self, chat_id: int, *, bot: str | None = None) -> None:
        self._set_blocked(chat_id, blocked=False, bot=bot)

    def push_update(self, update: dict[str, Any], *, bot: str | None = None) -> int:
        """Queue any update given without `update_id`. Returns its id, 0 where allowed_updates leaves it out."""
        return self.account(bot).updates.push(update)

    def _set_blocked(self, chat_id: int, *, blocked: bool, bot: str | None) -> None:
        account = self.account(bot)
        chat = account.world.meet(chat_id, "private" if chat_id > 0 else "supergroup")
        chat.blocked = blocked
        account.world.keep_chat(chat)
        account.world.tell("chat", chat)
        members = (_member(account, joined=blocked), _member(account, joined=not blocked))
        person = account.world.person(chat_id if chat_id > 0 else GROUP_CUSTOMER)
        account.updates.push({
            "my_chat_member": {
                "chat": chat_reply(account.world, chat), "from": person, "date": int(time.time()),
                "old_chat_member": members[0], "new_chat_member": members[1],
            }
        })  # fmt: skip


def _member(account: Account, *, joined: bool) -> dict[str, Any]:
    if joined:
        return {"status": "member", "user": account.me}
    return {"status": "kicked", "user": account.me, "until_date": 0}


def _find(world: World, chat_id: int, message_id: int) -> tuple[Chat, SeenMessage]:
    chat = world.chats.get(chat_id)
    message = chat.messages.get(message_id) if chat else None
    if chat is None or message is None or message.deleted:
        raise LookupError(f"no message {message_id} in chat {chat_id}")
    return chat, message
