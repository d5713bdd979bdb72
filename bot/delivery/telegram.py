"""The wire to the Bot API for calls on the hot path: JSON out, and of the reply only what is asked for.

aiogram parses every reply into its full model, which costs more than the rest of a turn; everything that is not hot may
go through aiogram's own ``Bot``. What sets this client apart is that it tells refusals, calls that were never sent and
calls whose fate is unknown from each other, and that it can check something in the very moment before the write.
"""

import asyncio
import json
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import MultipartWriter
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import AsyncIterablePayload, BytesPayload, Payload

from bot.errors import (
    TelegramBlockedError,
    TelegramConflictError,
    TelegramError,
    TelegramRefusedError,
    TelegramRetryAfterError,
    TelegramUnauthorizedError,
    TelegramUncertainError,
    TelegramUnreachableError,
)

Guard = Callable[[], Awaitable[None]]

REPLY_SECONDS: Final = 20.0
"""How long a reply is awaited: longer than a request may be on its way, for the reply to a send carries its id."""

_KEEPALIVE_SECONDS: Final = 20.0
_CONNECT_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 64 * 1024


def checked_within(seconds: float, check: Callable[[], Awaitable[None]], *, since: float = -math.inf) -> Guard:
    """A guard that asks ``check`` until its answer is younger than that: a process may freeze while it asks, too.

    ``since``: when it was last asked, by the loop's clock.
    """

    async def guard() -> None:
        loop = asyncio.get_running_loop()
        asked = since
        while loop.time() - asked > seconds:
            asked = loop.time()
            await check()

    return guard


class _Guarded(BytesPayload):
    """A body whose write asks first: headers alone are no request, so a refusal here means that nothing was sent."""

    def __init__(self, body: bytes, guard: Guard) -> None:
        super().__init__(body, content_type="application/json")
        self._guard = guard
        self.refusal: BaseException | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        try:
            await self._guard()
        except BaseException as error:
            self.refusal = error
            raise
        await super().write_with_length(writer, content_length)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send: the parameter it goes by, its name, and its content in chunks."""

    field: str
    name: str
    chunks: Callable[[], AsyncIterator[bytes]]


class _Making:
    """A file's chunks, and why there are no more: a request that ends early is cut off, and never accepted."""

    def __init__(self, chunks: Callable[[], AsyncIterator[bytes]], guard: Guard | None) -> None:
        self._chunks = chunks
        self._guard = guard
        self.failure: BaseException | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """All but the last chunk go at once; the last one, which makes the request whole, only after the check."""
        held = b""
        try:
            async for chunk in self._chunks():
                if held:
                    yield held
                held = chunk
            if self._guard is not None:
                await self._guard()
        except (asyncio.CancelledError, GeneratorExit):
            raise  # the server answered before it had read all, or nobody waits any more
        except BaseException as error:
            self.failure = error
            raise
        yield held


class TelegramClient:
    """Calls methods of one bot. Open with ``async with``; ``aclose`` may be called twice."""

    def __init__(self, token: str, api_url: str, *, proxy: str | None = None, ca_file: Path | None = None) -> None:
        self._address = f"{api_url.rstrip('/')}/bot{token}/"
        self._files = f"{api_url.rstrip('/')}/file/bot{token}/"
        self._proxy = proxy or None
        self._ssl = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=self._ssl)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def call(
        self, method: str, parameters: dict[str, Any], *, seconds: float = REPLY_SECONDS, guard: Guard | None = None
    ) -> Any:
        """The ``result`` of a call, as JSON gives it. Raises one of the TelegramError family, or what ``guard`` raised.

        ``seconds`` bounds the wait for the reply, connecting not included.
        """
        body = orjson.dumps(parameters)
        payload = BytesPayload(body, content_type="application/json") if guard is None else _Guarded(body, guard)
        return await self._post(method, payload, seconds)

    async def upload(
        self,
        method: str,
        parameters: dict[str, Any],
        file: Upload,
        *,
        seconds: float = REPLY_SECONDS,
        guard: Guard | None = None,
    ) -> Any:
        """The same for a method that takes a file, which is made while it is sent. What making it raises comes out."""
        form = MultipartWriter("form-data")
        for name, value in parameters.items():
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            form.append(text).set_content_disposition("form-data", name=name)
        making = _Making(file.chunks, guard)
        part = form.append(AsyncIterablePayload(making.chunks(), content_type="application/octet-stream"))
        part.set_content_disposition("form-data", name=file.field, filename=file.name)
        try:
            return await self._post(method, form, seconds)
        except TelegramError:
            if making.failure is not None:
                raise making.failure from None
            raise

    async def download(self, file_id: str, most_bytes: int, *, seconds: float = REPLY_SECONDS) -> bytes:
        """The content of a file that somebody sent. Raises one of the TelegramError family; TelegramRefusedError (413)
        where it is larger than ``most_bytes``."""
        told = await self.call("getFile", {"file_id": file_id}, seconds=seconds)
        path = told.get("file_path") if isinstance(told, dict) else None
        if not isinstance(path, str) or self._session is None:
            raise TelegramUncertainError("getFile named no file", flight_over=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, connect=None, sock_read=seconds)
        try:
            async with self._session.get(
                self._files + quote(path), timeout=timeout, proxy=self._proxy, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise TelegramUncertainError(f"a file's status {response.status}", flight_over=True)
                content = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    content += chunk
                    if len(content) > most_bytes:
                        raise TelegramRefusedError(413, "the file is too large")
                return bytes(content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TelegramUncertainError(type(error).__name__, flight_over=True) from None

    async def _post(self, method: str, payload: Payload, seconds: float) -> Any:
        if self._session is None:
            raise TelegramUnreachableError("the client is closed")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, connect=None, sock_read=seconds)
        try:
            async with self._session.post(
                self._address + method, data=payload, timeout=timeout, proxy=self._proxy, allow_redirects=False
            ) as response:
                return _result(response.status, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise TelegramUnreachableError(type(error).__name__) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(payload, _Guarded) and payload.refusal is not None:
                raise payload.refusal from None
            raise TelegramUncertainError(type(error).__name__, flight_over=False) from None


def _result(status: int, body: bytes) -> Any:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        reply = _loaded_leniently(body)
    if not isinstance(reply, dict) or "ok" not in reply:
        raise TelegramUncertainError(f"no Bot API reply, status {status}", flight_over=status != 504)
    if reply["ok"]:
        return reply.get("result")
    code = int(reply.get("error_code") or status)
    raise _error(code, str(reply.get("description") or ""), reply.get("parameters") or {})


def _loaded_leniently(body: bytes) -> Any:
    """The standard parser takes lone surrogates and huge numbers, which the fast one refuses."""
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        return None


def _error(code: int, description: str, parameters: dict[str, Any]) -> Exception:
    if code == 429:
        return TelegramRetryAfterError(float(parameters.get("retry_after") or 1))
    if code == 401:
        return TelegramUnauthorizedError()
    if code == 403 or (code == 400 and "chat not found" in description.lower()):
        return TelegramBlockedError(description)
    if code == 409:
        return TelegramConflictError(description)
    if code >= 500:
        return TelegramUncertainError(f"status {code}", flight_over=code != 504)
    return TelegramRefusedError(code, description)
