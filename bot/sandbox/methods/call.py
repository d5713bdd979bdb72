"""One Bot API call on its way through a handler, and what handlers share: chat, text, buttons, replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from bot.sandbox.account import Account
from bot.sandbox.buttons import checked_markup
from bot.sandbox.entities import MAX_TEXT, Formatted, formatted
from bot.sandbox.form import Params, as_number
from bot.sandbox.refusal import BadRequestError
from bot.sandbox.replies import message_reply
from bot.sandbox.world import Chat, SeenMessage, World


@dataclass(slots=True)
class MethodCall:
    """What a handler gets; `message_id` and `text` are noted for the call log."""

    account: Account
    params: Params
    message_id: int | None = None
    text: str | None = None
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = self.account.world

    @property
    def chat_id(self) -> int:
        """Raises `BadRequestError` where none is given; names such as @channel are known to nobody here."""
        given = self.params.values.get("chat_id")
        if given is None or given == "":
            raise BadRequestError("chat_id is empty")
        number = as_number(given)
        if not number:
            raise BadRequestError("chat not found")
        return number

    def chat(self) -> Chat:
        return self.world.known_chat(self.chat_id)

    def writable_chat(self) -> Chat:
        return self.world.writable_chat(self.chat_id)

    def thread_id(self, chat: Chat) -> int | None:
        """The topic to write into; raises where the chat has no such topic."""
        thread_id = self.params.number("message_thread_id") or None
        self.world.check_thread(chat, thread_id)
        return thread_id

    def message(self, chat: Chat, what: str) -> SeenMessage:
        message = self.world.live_message(chat, self.params.number("message_id"), what)
        self.message_id = message.message_id
        return message

    def formatted(
        self, name: str = "text", array: str = "entities", *, limit: int = MAX_TEXT, may_be_empty: bool = False
    ) -> Formatted:
        """The text argument `name` after parsing. Raises `BadRequestError` for what the server refuses."""
        source = self.params.text(name)
        if not source:
            if may_be_empty:
                return Formatted("", [])
            raise BadRequestError("message text is empty")
        try:
            entities = self.params.nested(array)
        except orjson.JSONDecodeError:
            entities = None
        parse_mode = self.params.text("parse_mode")
        result = formatted(source, parse_mode, entities, limit=limit, may_be_empty=may_be_empty)
        self.text = result.text
        return result

    def markup(self) -> dict[str, Any] | None:
        try:
            given = self.params.nested("reply_markup")
        except orjson.JSONDecodeError as error:
            raise BadRequestError("can't parse reply keyboard markup JSON object") from error
        return checked_markup(given)

    def reply_to(self, chat: Chat) -> int | None:
        """The message replied to, if any. Raises "message to be replied not found"."""
        message_id = self.params.number("reply_to_message_id")
        lenient = self.params.flag("allow_sending_without_reply")
        given = self.params.nested("reply_parameters") if "reply_parameters" in self.params else None
        if isinstance(given, dict):
            message_id = as_number(given.get("message_id"))
            lenient = given.get("allow_sending_without_reply") is True
        if not message_id:
            return None
        target = chat.messages.get(message_id)
        if target is None or target.deleted:
            if lenient:
                return None
            raise BadRequestError("message to be replied not found")
        return message_id

    def show(self, chat: Chat, message: SeenMessage) -> dict[str, Any]:
        """The message as the reply shows it."""
        self.message_id = message.message_id
        return message_reply(self.world, chat, message)

    def post(self, chat: Chat, text: str | None, **fields: Any) -> dict[str, Any]:
        """Write into the chat as the bot, with the thread, reply and buttons that the call asks for."""
        thread_id, reply_to, markup = self.thread_id(chat), self.reply_to(chat), self.markup()
        message = self.world.post(
            chat, text, from_bot=True, user_id=self.account.bot_id, thread_id=thread_id, reply_to=reply_to,
            markup=markup, **fields,
        )  # fmt: skip
        return self.show(chat, message)


Handler = Callable[[MethodCall], Any]
