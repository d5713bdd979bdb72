"""One HTTP listener on the loopback: uvicorn's protocol under a raw ASGI application.

Hidden here: how to learn the port, how several listeners share one event loop without touching signals, and
how an application cuts its own connection (a fault no ASGI message can express). `uvicorn.Server` is not used:
it captures signals and logs; its protocol class alone is enough for `loop.create_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

LOOPBACK = "127.0.0.1"
#: Idle connections are kept as long as a usual reverse proxy keeps them.
KEEP_ALIVE_SECONDS = 75
#: Seconds that running requests get at `aclose` before they are cancelled.
CLOSING_SECONDS = 0.5


class Wire(HttpToolsProtocol):
    """A connection that shows itself to the application as `scope["wire"]`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False
        self.on_lost: set[Callable[[], None]] = set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["wire"] = self  # type: ignore[typeddict-unknown-key]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for tell in tuple(self.on_lost):
            tell()

    @property
    def is_lost(self) -> bool:
        """The peer hung up, or we did: nothing written now can arrive."""
        return self.transport.is_closing()

    async def lost_within(self, seconds: float) -> bool:
        """Wait `seconds`, or less when the client hangs up; whether it did."""
        if self.is_lost:
            return True
        lost: asyncio.Future[None] = self.loop.create_future()
        with self.telling(lost):
            done, _ = await asyncio.wait({lost}, timeout=seconds)
        return bool(done)

    @contextlib.contextmanager
    def telling(self, lost: asyncio.Future[None]) -> Iterator[None]:
        """Within, `lost` is done as soon as the connection is gone."""

        def tell() -> None:
            if not lost.done():
                lost.set_result(None)

        self.on_lost.add(tell)
        try:
            yield
        finally:
            self.on_lost.discard(tell)

    def cut(self) -> None:
        """End the connection without an answer."""
        # uvicorn would answer 500 for an application that returns without a response.
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()


class Listener:
    """Serves `app` on a loopback port; `port` 0 lets the system choose."""

    def __init__(self, app: App, host: str = LOOPBACK, port: int = 0) -> None:
        self.host = loopback(host)
        self.port = port
        self._app = app
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The root, without a closing slash; the port is known after `start`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        config = Config(
            self._app,
            http=Wire,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Wire(config=config, server_state=self._state, app_state={}), self.host, self.port, backlog=2048
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Cut every connection, cancel what still runs. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._state.connections):
            if isinstance(connection, Wire):
                connection.cut()
        tasks = tuple(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def loopback(host: str) -> str:
    """`host` where it is a loopback address, else 127.0.0.1: the sandbox is never reachable from outside."""
    try:
        return host if ipaddress.ip_address(host).is_loopback else LOOPBACK
    except ValueError:
        return LOOPBACK


class TooLargeError(Exception):
    """The request's body is over the limit."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `TooLargeError` past `limit` bytes and ConnectionError when the client left midway."""
    message = await receive()
    if message["type"] != "http.request":
        raise ConnectionError
    if not message.get("more_body"):
        body: bytes = message["body"]
        if len(body) > limit:
            raise TooLargeError
        return body
    parts, size = [message["body"]], len(message["body"])
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise TooLargeError
    return b"".join(parts)


async def reply(send: Send, status: int, body: bytes, content_type: bytes, more: Headers = ()) -> None:
    """Send one complete response."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> str:
    """The last value of a header given in lower case, or an empty string."""
    found = b""
    for key, value in scope["headers"]:
        if key == name:
            found = value
    return found.decode("latin-1")
