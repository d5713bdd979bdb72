from __future__ import annotations

from typing import Any


class ChatPage:
    def __init__(self, server: Any, token: str) -> None: ...
    def close(self) -> None: ...
    def watcher(self, account: Any) -> Any:
        return lambda *a: None

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        from bot.sandbox.wire import reply

        await reply(send, 404, b"", b"text/plain")
