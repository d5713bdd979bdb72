"""The chat page: a plain web face of the customers and the operator, behind a link that holds the token.

The page is a few static files; everything it shows arrives over one event stream, everything it does is one POST.
A stream begins with the whole state, so a page that lost its connection only has to connect again. Slow readers are
cut off rather than buffered for: their next connection brings them up to date.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

import orjson

from bot.sandbox import acts, view
from bot.sandbox.account import Account
from bot.sandbox.customers import Customers
from bot.sandbox.form import dump
from bot.sandbox.guard import PAGE_HEADERS
from bot.sandbox.methods.files import MAX_UPLOAD_BYTES
from bot.sandbox.people import seat
from bot.sandbox.wire import Headers, Receive, Scope, Send, TooLargeError, Wire, header, read_body, reply
from bot.sandbox.world import Chat, SeenMessage, Watcher

_STATIC: Final = Path(__file__).parent / "static"
_PAGE: Final = "page.html"
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8", ".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8",
}  # fmt: skip
MAX_BODY_BYTES: Final = 1 << 20
#: Events that may wait for one page.
MAX_WAITING: Final = 2000
#: A comment after so many quiet seconds keeps proxies and browsers from giving up.
QUIET_SECONDS: Final = 20.0
#: How a picture begins that a browser may draw. SVG is none of them: it can hold a script.
_PICTURES: Final = {
    b"\x89PNG\r\n\x1a\n": b"image/png", b"\xff\xd8\xff": b"image/jpeg", b"GIF8": b"image/gif", b"RIFF": b"image/webp",
}  # fmt: skip
_WRONG: Final = (KeyError, TypeError, ValueError, LookupError)


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
            event = view.event(what, account, chat, message)
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
        elif scope["method"] == "POST" and rest in ("act", "attach"):
            await (self._act if rest == "act" else self._attach)(scope, receive, send)
        elif scope["method"] == "GET":
            await self._show(scope, rest, send)
        else:
            await _say(send, 404, "Not found.")

    async def _show(self, scope: Scope, rest: str, send: Send) -> None:
        name, (folder, _, file_id) = rest or _PAGE, rest.partition("/")
        if rest == "events":
            await self._stream(scope["wire"], send)
        elif folder in ("file", "picture") and file_id:
            await self._hand_out(send, unquote(file_id), as_picture=folder == "picture")
        elif (kind := _TYPES.get(Path(name).suffix)) and "/" not in name and (_STATIC / name).is_file():
            await reply(send, 200, (_STATIC / name).read_bytes(), kind, PAGE_HEADERS)
        else:
            await _say(send, 404, "Not found.")

    # --- from the page ----------------------------------------------------------------------------------------
    async def _act(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One act of a person, as JSON: another site's form cannot send that without asking first."""
        if header(scope, b"content-type").partition(";")[0] != "application/json":
            return await _say(send, 415, "JSON is expected.")
        try:
            done = acts.carry_out(self._server, orjson.loads(await read_body(receive, MAX_BODY_BYTES)))
        except (*_WRONG, TooLargeError) as error:
            return await _say(send, 400, f"That cannot be done: {error}")
        except ConnectionError:
            return None
        return await reply(send, 200, dump(done), b"application/json", PAGE_HEADERS)

    async def _attach(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A file as the bare body, its name and the rest in the query; the type keeps other sites' forms out."""
        if header(scope, b"content-type") != "application/octet-stream":
            return await _say(send, 415, "A file is expected.")
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        try:
            done = acts.attach(self._server, asked, await read_body(receive, MAX_UPLOAD_BYTES))
        except TooLargeError:
            return await _say(send, 413, f"A file may have {MAX_UPLOAD_BYTES >> 20} MB at most.")
        except _WRONG as error:
            return await _say(send, 400, f"That cannot be done: {error}")
        except ConnectionError:
            return None
        return await reply(send, 200, dump(done), b"application/json", PAGE_HEADERS)

    # --- to the page ------------------------------------------------------------------------------------------
    async def _hand_out(self, send: Send, file_id: str, *, as_picture: bool) -> None:
        """A file of a chat: as a download, or, where its first bytes are those of a picture, to be drawn."""
        world = self._server.account().world
        stored = world.files.get(file_id)
        if stored is None:
            return await _say(send, 404, "There is no such file.")
        content = world.content_of(stored)
        if not as_picture:
            name = f"attachment; filename*=UTF-8''{quote(stored.name, safe='')}".encode()
            more: Headers = [(b"content-disposition", name), *PAGE_HEADERS]
            return await reply(send, 200, content, b"application/octet-stream", more)
        kind = next((kind for begin, kind in _PICTURES.items() if content.startswith(begin)), None)
        if kind is None:
            return await _say(send, 404, "That is no picture.")
        return await reply(send, 200, content, kind, PAGE_HEADERS)

    async def _stream(self, wire: Wire, send: Send) -> None:
        seat(self._server)
        reader: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._readers.add(reader)
        reader.put_nowait(view.state(self._server.account()))
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


async def _say(send: Send, status: int, text: str) -> None:
    await reply(send, status, text.encode(), b"text/plain; charset=utf-8", PAGE_HEADERS)
