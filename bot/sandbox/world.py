"""What exists on the sandbox's Telegram for one bot: chats, people, messages, drafts, topics, files.

Pure state: no HTTP, no waiting. All private chats and basic groups share one sequence of message ids, each
supergroup has its own, as on Telegram. Whatever changes is told to watchers (the chat page) and written to the
record (which may be a folder's database or nothing).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox.entities import commands_in
from bot.sandbox.record import Record
from bot.sandbox.refusal import BLOCKED, BadRequestError, RefusedError
from bot.sandbox.units import Entity

#: A draft is a preview of 30 seconds (Bot API, sendMessageDraft).
DRAFT_SECONDS = 30.0
#: The typing status lasts five seconds or less (Bot API, sendChatAction).
ACTION_SECONDS = 5.0
#: A callback query can be answered this long.
CALLBACK_SECONDS = 150.0

CHAT_TYPES = ("private", "group", "supergroup", "channel")


@dataclass(slots=True, kw_only=True)
class SeenMessage:
    """A message as the people in the chat see it. `t`, `t_edited` and `t_deleted` are monotonic seconds."""

    message_id: int
    chat_id: int
    text: str | None
    from_bot: bool
    t: float
    user_id: int = 0
    entities: list[Entity] = field(default_factory=list)
    edits: int = 0
    markup: dict[str, Any] | None = None
    thread_id: int | None = None
    deleted: bool = False
    t_edited: float | None = None
    t_deleted: float | None = None
    date: int = 0
    edit_date: int | None = None
    media: dict[str, Any] = field(default_factory=dict)
    reply_to: int | None = None
    reactions: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Draft:
    """A streamed preview; it dies with the next message or after 30 seconds."""

    draft_id: int
    text: str
    t: float
    entities: list[Entity] = field(default_factory=list)
    can_stop: bool = False
    keep_on_stop: bool = False
    stopped: bool = False


@dataclass(slots=True)
class Chat:
    """One chat and everything in it."""

    id: int
    type: str
    title: str = ""
    is_forum: bool = False
    blocked: bool = False
    last_id: int = 0
    topics: dict[int, dict[str, Any]] = field(default_factory=dict)
    pinned: list[int] = field(default_factory=list)
    messages: dict[int, SeenMessage] = field(default_factory=dict)
    drafts: dict[int | None, Draft] = field(default_factory=dict)
    action: str = ""
    action_until: float = 0.0
    notice: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that `getFile` can hand out; its content rests in the record. `size` is in bytes."""

    file_id: str
    path: str
    name: str
    size: int


Watcher = Callable[[str, Chat, SeenMessage | None], None]


class World:
    """The state of one bot's chats. Raises `RefusedError` where the real server would refuse."""

    def __init__(self, me: dict[str, Any], record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self.me = me
        self.clock = clock
        self.chats: dict[int, Chat] = {}
        self.users: dict[int, dict[str, Any]] = {}
        self.files: dict[str, StoredFile] = {}
        self.callbacks: dict[str, tuple[float, int]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.watchers: list[Watcher] = []
        self.last_id = 0
        self._record = record
        self._files_made = 0
        self._callbacks_made = 0
        self._restore()

    # --- finding -------------------------------------------------------------------------------------------
    def known_chat(self, chat_id: int) -> Chat:
        """The chat, or "chat not found": a bot cannot write to anybody it has never seen."""
        chat = self.chats.get(chat_id)
        if chat is None:
            raise BadRequestError("chat not found")
        return chat

    def writable_chat(self, chat_id: int) -> Chat:
        """Like `known_chat`, and 403 while the bot is blocked there."""
        chat = self.known_chat(chat_id)
        if chat.blocked:
            kicked = f"Forbidden: bot was kicked from the {chat.type} chat"
            raise RefusedError(403, BLOCKED if chat.type == "private" else kicked)
        return chat

    def live_message(self, chat: Chat, message_id: int, what: str) -> SeenMessage:
        """A message that is still there; `what` names the purpose in "message to … not found"."""
        if message_id <= 0:
            raise BadRequestError("message identifier is not specified")
        message = chat.messages.get(message_id)
        if message is None or message.deleted:
            raise BadRequestError(f"message to {what} not found")
        return message

    def check_thread(self, chat: Chat, thread_id: int | None) -> None:
        if thread_id is not None and thread_id not in chat.topics:
            raise BadRequestError("message thread not found")

    def draft(self, chat_id: int, thread_id: int | None = None) -> Draft | None:
        """The preview that is on the screen now."""
        chat = self.chats.get(chat_id)
        draft = chat.drafts.get(thread_id) if chat else None
        if draft is None or self.clock() - draft.t >= DRAFT_SECONDS:
            return None
        return None if draft.stopped and not draft.keep_on_stop else draft

    # --- people and chats ----------------------------------------------------------------------------------
    def meet(self, chat_id: int, chat_type: str = "private", *, is_forum: bool = False) -> Chat:
        """The chat, made on first sight. Raises ValueError for a type that the sign of the id contradicts."""
        chat = self.chats.get(chat_id)
        if chat is None:
            if chat_type not in CHAT_TYPES or (chat_id > 0) != (chat_type == "private"):
                raise ValueError(f"chat {chat_id} cannot be of type {chat_type!r}")
            title = "" if chat_type == "private" else f"Group {-chat_id}"
            chat = self.chats[chat_id] = Chat(chat_id, chat_type, title, is_forum)
            self.keep_chat(chat)
            self.tell("chat", chat)
        return chat

    def person(self, user_id: int, **fields: Any) -> dict[str, Any]:
        """A customer, made on first sight; `fields` (first_name, language_code, …) replace what was known."""
        user = self.users.get(user_id)
        if user is None or fields:
            fresh = {"id": user_id, "is_bot": False, "first_name": f"Customer {user_id}", "language_code": "en"}
            user = self.users[user_id] = {**(user or fresh), **fields}
            self._record.keep(f"user:{user_id}", user)
        return user

    def topic(self, chat: Chat, name: str, icon_color: int) -> int:
        """A new topic; its id is the id of the service message that opens it."""
        message = self.post(chat, None, from_bot=True, media={"forum_topic_created": {"name": name}})
        message.thread_id = message.message_id
        chat.is_forum = True
        chat.topics[message.message_id] = {"name": name, "icon_color": icon_color}
        self.keep_chat(chat)
        self._record.keep_message(message)
        return message.message_id

    # --- messages ------------------------------------------------------------------------------------------
    def post(self, chat: Chat, text: str | None, *, from_bot: bool, **fields: Any) -> SeenMessage:
        """A new message at the end of the chat. Ends the draft and the typing status where the bot wrote it."""
        message = SeenMessage(
            message_id=self._next_id(chat), chat_id=chat.id, text=text, from_bot=from_bot, t=self.clock(),
            date=int(time.time()), **fields,
        )  # fmt: skip
        chat.messages[message.message_id] = message
        if from_bot:
            chat.drafts.pop(message.thread_id, None)
            chat.action_until = 0.0
        self._record.keep_message(message)
        self.tell("message", chat, message)
        return message

    def customer_message(self, chat: Chat, text: str | None, user_id: int, **fields: Any) -> SeenMessage:
        """A message of a person; who writes into a topic proves that it exists."""
        self.person(user_id)
        thread_id = fields.get("thread_id")
        if thread_id is not None and thread_id not in chat.topics:
            chat.is_forum = True
            chat.topics[thread_id] = {"name": f"Topic {thread_id}"}
            self.keep_chat(chat)
        entities = commands_in(text) if text else []
        return self.post(chat, text, from_bot=False, user_id=user_id, entities=entities, **fields)

    def change(self, message: SeenMessage) -> None:
        """Note an edit that the caller has made to `message`."""
        message.edits += 1
        message.t_edited = self.clock()
        message.edit_date = int(time.time())
        self.touch(message)

    def touch(self, message: SeenMessage) -> None:
        """Keep and show a change that is no edit."""
        self._record.keep_message(message)
        self.tell("message", self.chats[message.chat_id], message)

    def delete(self, message: SeenMessage) -> None:
        message.deleted = True
        message.t_deleted = self.clock()
        self.touch(message)

    def show_draft(self, chat: Chat, thread_id: int | None, draft: Draft) -> None:
        chat.drafts[thread_id] = draft
        self.tell("draft", chat)

    def end_draft(self, chat: Chat, thread_id: int | None) -> None:
        if chat.drafts.pop(thread_id, None) is not None:
            self.tell("draft", chat)

    def show_action(self, chat: Chat, action: str) -> None:
        chat.action, chat.action_until = action, self.clock() + ACTION_SECONDS
        self.tell("action", chat)

    # --- files and callbacks -------------------------------------------------------------------------------
    def store_file(self, kind: str, name: str, content: bytes) -> StoredFile:
        """Keep a file; its path looks like the real server's, `documents/file_7.txt`."""
        self._files_made += 1
        _, dot, ending = name.rpartition(".")
        suffix = f".{ending}" if dot and ending.isalnum() else ""
        bot_id = self.me["id"]
        stored = StoredFile(
            f"sandbox-{bot_id}-{self._files_made}", f"{kind}s/file_{self._files_made}{suffix}", name, len(content)
        )
        self.files[stored.file_id] = stored
        self._record.keep_file(stored.file_id, stored.path, stored.name, content)
        return stored

    def content_of(self, stored: StoredFile) -> bytes:
        return self._record.content(stored.file_id)

    def file_at(self, path: str) -> StoredFile | None:
        return next((stored for stored in self.files.values() if stored.path == path), None)

    def open_callback(self, chat: Chat) -> str:
        """A new callback query id, answerable for 150 s."""
        now = self.clock()
        self._callbacks_made += 1
        query_id = str(self.me["id"] * 1_000_000 + self._callbacks_made)
        self.callbacks = {key: kept for key, kept in self.callbacks.items() if now - kept[0] <= CALLBACK_SECONDS}
        self.callbacks[query_id] = (now, chat.id)
        self._record.keep("callbacks", {"made": self._callbacks_made, "open": self.callbacks})
        return query_id

    def answer_callback(self, query_id: str, text: str, *, is_alert: bool) -> None:
        """What the person who pressed sees; kept for those who look, not on disk. Raises where it is too late."""
        opened, chat_id = self.callbacks.get(query_id, (-CALLBACK_SECONDS, 0))
        if not chat_id or self.clock() - opened > CALLBACK_SECONDS:
            raise BadRequestError("query is too old and response timeout expired or query ID is invalid")
        self.answers[query_id] = {"text": text, "show_alert": is_alert}
        chat = self.chats[chat_id]
        chat.notice = {"callback_query_id": query_id, "text": text, "alert": is_alert}
        self.tell("notice", chat)

    # --- watching and keeping ------------------------------------------------------------------------------
    def tell(self, what: str, chat: Chat, message: SeenMessage | None = None) -> None:
        for watch in self.watchers:
            watch(what, chat, message)

    def keep_chat(self, chat: Chat) -> None:
        self._record.keep_chat(chat)

    def _next_id(self, chat: Chat) -> int:
        if chat.type in ("private", "group"):
            self.last_id += 1
            self._record.keep("last_id", self.last_id)
            return self.last_id
        chat.last_id += 1
        self.keep_chat(chat)
        return chat.last_id

    def _restore(self) -> None:
        record = self._record
        self.last_id = record.kept("last_id", 0)
        callbacks = record.kept("callbacks", {"made": 0, "open": {}})
        self._callbacks_made, self.callbacks = callbacks["made"], callbacks["open"]
        for body in record.kept_all("chat:"):
            topics = {int(key): value for key, value in body.pop("topics").items()}
            self.chats[body["id"]] = Chat(topics=topics, **body)
        for user in record.kept_all("user:"):
            self.users[user["id"]] = user
        for body in record.messages():
            self.chats[body["chat_id"]].messages[body["message_id"]] = SeenMessage(**body)
        for file_id, path, name, size in record.files():
            self.files[file_id] = StoredFile(file_id, path, name, size)
        self._files_made = len(self.files)
