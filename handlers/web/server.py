"""Serves an ASGI application inside the service's own loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from bot.errors import SettingsError

_GRACE_SECONDS = 3


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the service decides when it ends."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: Any, host: str, port: int) -> AsyncIterator[None]:
    """Listens while the block runs; raises SettingsError where it cannot."""
    listener = _listener(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=_GRACE_SECONDS + 2)
        listener.close()


def _listener(host: str, port: int) -> socket.socket:
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(address[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[4])
    except OSError as error:
        raise SettingsError(
            [f"HTTP_HOST and HTTP_PORT: cannot listen on {host} port {port} ({error.strerror}): set a free port."]
        ) from error
    listener.listen(1024)
    listener.setblocking(False)
    return listener
