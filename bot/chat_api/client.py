"""Asks the chat API for an answer, streamed, and turns every failure into one of ours.

httpx over the aiohttp transport: it costs about half the CPU per chunk of httpx's own, and cancelling a request before
its headers arrive leaks no place in the pool (measured). Requests go to the transport directly: redirects, cookies
and authentication flows have no part in this, and passing them by saves a tenth of a turn.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from bot.chat_api import completions
from bot.errors import (
    ChatApiError,
    ChatApiGarbledError,
    ChatApiRefusedError,
    ChatApiTimeoutError,
    ChatApiUnavailableError,
)

TRIES: Final = 4
_RETRY_WITHIN_SECONDS: Final = 20.0
_RETRIED: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds: connecting, from one chunk to the next (the first included), the whole answer."""

    connect: float = 5.0
    gap: float = 60.0
    total: float = 240.0


@dataclass(slots=True)
class Answer:
    """A whole answer. ``first_seconds``: from the request to the first text; tokens only where the API reports them."""

    text: str = ""
    finish: str = ""
    first_seconds: float = 0.0
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class ChatApi:
    """One endpoint. Open with ``async with``; ``aclose`` may be called twice."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "",
        max_output_tokens: int,
        temperature: float | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._url = httpx.URL(f"{url.rstrip('/')}/chat/completions")
        self._headers = {"Host": self._url.netloc.decode("ascii")}
        self._headers |= {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._options: dict[str, object] = {"model": model} if model else {}
        self._options |= {"stream": True, "max_tokens": max_output_tokens}
        if temperature is not None:
            self._options["temperature"] = temperature
        self._proxy = proxy
        self._verify: Any = str(ca_file) if ca_file else True
        self._limits = limits or Limits()
        self._transport: AiohttpTransport | None = None

    async def __aenter__(self) -> Self:
        self._transport = AiohttpTransport(
            verify=httpx.create_ssl_context(verify=self._verify, trust_env=False),
            trust_env=False,
            proxy=httpx.Proxy(self._proxy) if self._proxy else None,
            limits=httpx.Limits(max_connections=2000, keepalive_expiry=60),
            client=self._session,
        )
        return self

    def _session(self) -> aiohttp.ClientSession:
        context = httpx.create_ssl_context(verify=self._verify, trust_env=False)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=context)
        return aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=2**18)

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()

    async def ask(self, messages: list[dict[str, str]], show: Callable[[str], None]) -> Answer:
        """The whole answer; ``show`` gets the text so far as it grows. Raises ChatApiError after its own retries.

        Another try starts from nothing: what a preview showed of a failed one is replaced as the next grows.
        """
        content = orjson.dumps({**self._options, "messages": messages})
        started = time.monotonic()
        for number in range(1, TRIES + 1):
            try:
                async with asyncio.timeout(self._limits.total):
                    return await self._try(content, show)
            except TimeoutError as error:
                raise ChatApiTimeoutError("the answer took too long") from error
            except (ChatApiUnavailableError, ChatApiGarbledError) as error:
                pause = _pause(error, number)
                if number == TRIES or time.monotonic() - started + pause > _RETRY_WITHIN_SECONDS:
                    raise
            await asyncio.sleep(pause)
        raise ChatApiUnavailableError

    async def _request(self, content: bytes) -> httpx.Response:
        if self._transport is None:
            raise ChatApiUnavailableError("the client is closed")
        timeout = {"connect": self._limits.connect, "read": self._limits.gap, "write": 10.0, "pool": None}
        request = httpx.Request(
            "POST", self._url, headers=self._headers, content=content, extensions={"timeout": timeout}
        )
        response = await self._transport.handle_async_request(request)
        response.request = request
        return response

    async def _try(self, content: bytes, show: Callable[[str], None]) -> Answer:
        started = time.monotonic()
        answer = Answer()
        try:
            async with aclosing(await self._request(content)) as response:
                if response.status_code != 200:
                    raise _failure(response.status_code, response.headers, await response.aread())
                async for delta in completions.deltas(response, answer):
                    if not answer.text:
                        answer.first_seconds = time.monotonic() - started
                    answer.text += delta
                    show(answer.text)
        except httpx.ReadTimeout as error:
            raise ChatApiTimeoutError("no words came within the deadline") from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            raise ChatApiUnavailableError(f"{type(error).__name__}") from error
        if not answer.text.strip():
            raise ChatApiGarbledError("an empty answer")
        return answer


def _pause(error: ChatApiError, number: int) -> float:
    asked = error.retry_after if isinstance(error, ChatApiUnavailableError) else None
    return asked if asked is not None else random.uniform(0.5, 1.0) * 0.4 * 2**number  # noqa: S311 (jitter)


def _failure(status: int, headers: httpx.Headers, body: bytes) -> ChatApiError:
    code = _code(body)
    retried = status in _RETRIED or status >= 500 or code == "conversation_locked"
    if retried and code != "insufficient_quota":
        return ChatApiUnavailableError(f"status {status}", retry_after=_retry_after(headers))
    return ChatApiRefusedError(status, code)


def _code(body: bytes) -> str | None:
    """The provider's word for the failure; some send a string, a list or HTML instead of the documented object."""
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(reply, list) and reply:
        reply = reply[0]
    error = reply.get("error") if isinstance(reply, dict) else None
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return str(code) if code is not None else None


def _retry_after(headers: httpx.Headers) -> float | None:
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        if value.replace(".", "", 1).isdigit():
            return float(value) * scale
    return None
