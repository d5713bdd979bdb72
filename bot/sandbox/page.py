"""The chat page: a plain web face of the customers, behind a link that holds the token.

The page is three static files; everything it shows arrives over one event stream, everything it does is one POST.
A stream begins with the whole state, so a page that lost its connection only has to connect again. Slow readers are
cut off rather than buffered for: their next connection brings them up to date.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from bot.sandbox.account import Account
from bot.sandbox.customers import Customers
from bot.sandbox.form import dump
from bot.sandbox.guard import PAGE_HEADERS
from bot.sandbox.wire import Receive, Scope, Send, TooLargeError, Wire, header, read_body, reply
from bot.sandbox.world import ACTION_SECONDS, DRAFT_SECONDS, Chat, SeenMessage, Watcher, World

STATIC = Path(__file__).parent / "static"
FILES = {
    "": ("page.html", b"text/html; charset=utf-8"),
    "style.css": ("style.css", b"text/css; charset=utf-8"),
    "script.js": ("script.js", b"text/javascript; charset=utf-8"),
}
MAX_BODY_BYTES = 1 << 20
#: Messages of a chat that a page is given at first.
SHOWN_MESSAGES = 300
#: Events that may wait for one page.
MAX_WAITING = 2000
#: A comment after so many quiet seconds keeps proxies and browsers from giving up.
QUIET_SECONDS = 20.0
#: How long the answer to a pressed button is shown.
NOTICE_SECONDS = 4.0
#: The page asks again so soon after its stream has broken.
RETRY_MILLISECONDS = 1000
FIRST_CUSTOMER = 1001
#: Telegram's apps cut a longer text into messages of so many UTF-16 units.
MESSAGE_UNITS = 4096

#: What the page can send that is no text; the bytes only have to be there.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f00050001ff56c72fd00000000049454e44ae426082"
)
SENDABLE = {
    "sticker": (_PIXEL, "sticker.webp"),
    "photo": (_PIXEL, "photo.png"),
    "voice": (b"OggS", "voice.ogg"),
    "document": (b"a,b\n1,2\n", "table.csv"),
}


class ChatPage:
    """Serves `/chat/<token>/…` for the first bot of `server`."""

    def __init__(self, server: Customers, token: str) -> None:
        self._server = server
        self._token = token
        self._readers: set[asyncio.Queue[bytes]] = set()

    def close(self) -> None:
        """End every stream."""
        for reader in self._readers:
            _put(reader, b"")

    def watcher(self, account: Account) -> Watcher:
        """Tells the open pages what changes in the account's world."""

        def watch(what: str, chat: Chat, message: SeenMessage | None) -> None:
            if not self._readers or self._server.account() is not account:
                return
            event = _event(what, account.world, chat, message)
            for reader in tuple(self._readers):
                _put(reader, event)

        return watch

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/favicon.ico":
            await reply(send, 204, b"", b"image/x-icon", PAGE_HEADERS)
            return
        head, _, rest = scope["path"].removeprefix("/chat/").partition("/")
        if not scope["path"].startswith("/chat/") or not secrets.compare_digest(head.encode(), self._token.encode()):
            await _say(send, 404, "Not found. Open the link that was printed at the start: it holds a token.")
        elif rest in FILES and scope["method"] == "GET":
            name, content_type = FILES[rest]
            await reply(send, 200, (STATIC / name).read_bytes(), content_type, PAGE_HEADERS)
        elif rest == "events" and scope["method"] == "GET":
            await self._stream(scope["wire"], send)
        elif rest == "act" and scope["method"] == "POST":
            await self._act(scope, receive, send)
        else:
            await _say(send, 404, "Not found.")

    # --- from the page ----------------------------------------------------------------------------------------
    async def _act(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One act of a customer, as JSON: another site's form cannot send that without asking first."""
        if header(scope, b"content-type").partition(";")[0] != "application/json":
            return await _say(send, 415, "JSON is expected.")
        try:
            given = orjson.loads(await read_body(receive, MAX_BODY_BYTES))
            act = _ACTS[given["do"]]
            done = act(self._server, given)
        except (KeyError, TypeError, ValueError, LookupError, TooLargeError) as error:
            return await _say(send, 400, f"That cannot be done: {error}")
        except ConnectionError:
            return None
        return await reply(send, 200, dump(done), b"application/json", PAGE_HEADERS)

    # --- to the page ------------------------------------------------------------------------------------------
    async def _stream(self, wire: Wire, send: Send) -> None:
        reader: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._readers.add(reader)
        reader.put_nowait(_state(self._server.account()))
        wire.on_lost.add(end := lambda: _put(reader, b""))
        headers = [(b"content-type", b"text/event-stream"), *PAGE_HEADERS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while True:
                try:
                    event = await asyncio.wait_for(reader.get(), QUIET_SECONDS)
                except TimeoutError:
                    event = b": quiet\n\n"
                if not event:
                    break
                await send({"type": "http.response.body", "body": event, "more_body": True})
        finally:
            self._readers.discard(reader)
            wire.on_lost.discard(end)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _put(reader: asyncio.Queue[bytes], event: bytes) -> None:
    """Queue an event; a page that is too far behind loses its stream and starts over."""
    if reader.full():
        while not reader.empty():
            reader.get_nowait()
        event = b""
    reader.put_nowait(event)


# --- acts -------------------------------------------------------------------------------------------------
def _write(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    chat_id = int(given["chat_id"])
    return {"message_id": [server.customer_writes(chat_id, piece) for piece in pieces(_text(given))][-1]}


def _edit(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    server.customer_edits(int(given["chat_id"]), int(given["message_id"]), _text(given))
    return {}


def _text(given: dict[str, Any]) -> str:
    text = given["text"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a text is needed")
    return text


def _press(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    query_id = server.customer_presses(int(given["chat_id"]), int(given["message_id"]), str(given["data"]))
    return {"callback_query_id": query_id}


def _stop(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    server.customer_stops(int(given["chat_id"]))
    return {}


def _block(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    change = server.customer_blocks if given["blocked"] else server.customer_returns
    change(int(given["chat_id"]))
    return {}


def _send(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    kind = str(given["kind"])
    content, name = SENDABLE[kind]
    return {"message_id": server.customer_sends_file(int(given["chat_id"]), kind, content, name=name)}


def _add(server: Customers, _given: dict[str, Any]) -> dict[str, Any]:
    return {"chat_id": add_customer(server)}


_ACTS: dict[str, Callable[[Customers, dict[str, Any]], dict[str, Any]]] = {
    "write": _write, "edit": _edit, "press": _press, "stop": _stop, "block": _block, "send": _send, "add": _add,
}  # fmt: skip


def pieces(text: str) -> list[str]:
    """The messages that Telegram's apps make of a pasted text; no character is cut in two, blank ones are left out."""
    units = text.encode("utf-16-le", "surrogatepass")
    cuts, begin = list[str](), 0
    while begin < len(units):
        end = begin + 2 * MESSAGE_UNITS
        if end < len(units) and 0xDC <= units[end + 1] <= 0xDF:
            end -= 2  # the second half of a pair goes with its first
        cuts.append(units[begin:end].decode("utf-16-le", "surrogatepass"))
        begin = end
    return [cut for cut in cuts if cut.strip()]


def customer_name(number: int) -> str:
    """Customer A for 0, then B … Z, AA, AB …: nobody's name."""
    letters = ""
    while number >= 0:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
    return f"Customer {letters}"


def add_customer(server: Customers) -> int:
    """A new person with a letter of their own and an empty chat; returns the chat's id."""
    world = server.account().world
    chat_id = max((chat_id + 1 for chat_id in world.chats if chat_id >= FIRST_CUSTOMER), default=FIRST_CUSTOMER)
    server.add_customer(chat_id, first_name=customer_name(chat_id - FIRST_CUSTOMER))
    server.add_chat(chat_id)
    return chat_id


# --- what a page is told ----------------------------------------------------------------------------------
def _state(account: Account) -> bytes:
    """Everything, for a page that has just connected."""
    world = account.world
    chats = [
        {
            **_chat(world, chat),
            "messages": [_message(world, message) for message in _newest(chat)],
            "draft": _draft(world, chat),
            "action": _action(world, chat),
        }
        for chat in world.chats.values()
    ]
    bot = {"name": account.me["first_name"], "username": account.me["username"]}
    return b"retry: %d\n" % RETRY_MILLISECONDS + _pack("state", {"bot": bot, "chats": chats})


def _newest(chat: Chat) -> list[SeenMessage]:
    return [message for message in chat.messages.values() if not message.deleted][-SHOWN_MESSAGES:]


def _event(what: str, world: World, chat: Chat, message: SeenMessage | None) -> bytes:
    if what == "message" and message is not None:
        return _pack(what, _message(world, message))
    if what == "draft":
        return _pack(what, {"chat_id": chat.id, "draft": _draft(world, chat)})
    if what == "action":
        return _pack(what, {"chat_id": chat.id, "action": _action(world, chat)})
    if what == "notice":
        return _pack(what, {"chat_id": chat.id, "notice": {"text": chat.notice, "seconds_left": NOTICE_SECONDS}})
    return _pack("chat", _chat(world, chat))


def _pack(what: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (what.encode(), dump(data))


def _chat(world: World, chat: Chat) -> dict[str, Any]:
    name = world.person(chat.id)["first_name"] if chat.type == "private" else chat.title
    return {"chat_id": chat.id, "type": chat.type, "name": name, "blocked": chat.blocked}


def _message(world: World, message: SeenMessage) -> dict[str, Any]:
    markup = message.markup or {}
    kinds = [kind for kind in message.media if kind not in ("rich_message", "media_group_id")]
    return {
        "chat_id": message.chat_id,
        "message_id": message.message_id,
        "from_bot": message.from_bot,
        "name": None if message.from_bot else world.person(message.user_id)["first_name"],
        "text": message.text,
        "entities": message.entities,
        "buttons": markup.get("inline_keyboard", []),
        "kind": kinds[0].replace("_", " ") if kinds else None,
        "date": message.date,
        "edited": message.edit_date is not None,
        "deleted": message.deleted,
        "reactions": [one.get("emoji", "★") for one in message.reactions],
    }


def _draft(world: World, chat: Chat) -> dict[str, Any] | None:
    draft = world.draft(chat.id)
    if draft is None:
        return None
    left = draft.t + DRAFT_SECONDS - world.clock()
    can_stop = draft.can_stop and not draft.stopped
    return {"text": draft.text, "entities": draft.entities, "can_stop": can_stop, "seconds_left": left}


def _action(world: World, chat: Chat) -> dict[str, Any] | None:
    left = chat.action_until - world.clock()
    return {"action": chat.action, "seconds_left": min(left, ACTION_SECONDS)} if left > 0 else None


async def _say(send: Send, status: int, text: str) -> None:
    await reply(send, status, text.encode(), b"text/plain; charset=utf-8", PAGE_HEADERS)
