"""One chat API: a connection pool, one attempt at an answer, and what is known of the server.

httpx over the aiohttp transport: it costs about half the CPU per chunk of httpx's own, and cancelling a request before
its headers arrive leaks no place in the pool (measured). Requests go to the transport directly: redirects, cookies
and authentication flows have no part in this, and passing them by saves a tenth of a turn.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from bot.chat_api.asking import Answer, Ask, Remote
from bot.chat_api.breaker import Breaker
from bot.chat_api.completions import Completions
from bot.chat_api.dialect import Dialect, Options
from bot.chat_api.dify import Dify
from bot.chat_api.events import EventStream, object_in
from bot.chat_api.failures import failure
from bot.chat_api.hearing import Hearing
from bot.chat_api.profile import profile_of
from bot.chat_api.responses import Responses
from bot.errors import (
    ChatApiError,
    ChatApiGarbledError,
    ChatApiRefusedError,
    ChatApiTimeoutError,
    ChatApiUnavailableError,
    Reason,
)

_MOST_REPLY_BYTES: Final = 4 << 20
_MOST_FAILURE_BYTES: Final = 64 << 10
_CHARACTERS_PER_TOKEN: Final = 16
_FEWEST_CHARACTERS: Final = 64_000
_MOST_LESSONS: Final = 5
_ITEMS_PER_PAGE: Final = 100
_CALL_SECONDS: Final = 10.0
_GONE: Final = frozenset({404, 410})
_NEVER: Final = frozenset({405, 501})
_LOST: Final = frozenset({400, 404, 410})
_AT_A_LOSS: Final = frozenset({Reason.REQUEST, Reason.ADDRESS})
_BLANKS: Final = b"\xef\xbb\xbf \t\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds: connecting, the first words, from one to the next, the whole answer."""

    connect: float = 5.0
    first: float = 60.0
    gap: float = 60.0
    total: float = 240.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chat API is and how it is spoken to."""

    url: str
    model: str = ""
    key: str = ""
    dialect: str = "completions"
    conversation_field: str = ""

    @property
    def mark(self) -> str:
        """Tells endpoints apart, also after a restart; shows nothing of the address."""
        return hashlib.sha256(f"{self.dialect}|{self.url}".encode()).hexdigest()[:12]

    def spoken(self) -> Dialect:
        match self.dialect:
            case "responses":
                return Responses()
            case "dify":
                return Dify()
            case _:
                return Completions(self.conversation_field)


class Endpoint:
    """Open with ``async with``; ``aclose`` may be called twice."""

    def __init__(
        self,
        place: Place,
        *,
        max_output_tokens: int,
        temperature: float | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
        limits: Limits | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.place = place
        self.mark = place.mark
        self.breaker = breaker or Breaker()
        self._dialect = place.spoken()
        self._address = httpx.URL(f"{place.url}/{self._dialect.path}")  # parsed once: that costs as much as a request
        self._profile = profile_of(place.url)
        self._options = Options(place.model, max_output_tokens, temperature, place.conversation_field)
        self._most = max(_FEWEST_CHARACTERS, _CHARACTERS_PER_TOKEN * max_output_tokens)
        self._headers = {"Host": httpx.URL(place.url).netloc.decode("ascii"), "Content-Type": "application/json"}
        if place.key:
            self._headers["Authorization"] = f"Bearer {place.key}"
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

    @property
    def keeps(self) -> bool:
        """Whether the provider keeps conversations under ids."""
        return self._dialect.keeps

    @property
    def caches(self) -> bool:
        """Whether a key that keeps a conversation's prefix in one cache is sent."""
        return self._profile.cache_key

    @property
    def host(self) -> str:
        return self._address.host

    # ---- asking
    async def attempt(self, ask: Ask, answer: Answer, show: Callable[[str], None]) -> None:
        """One answer into ``answer``, which also holds what came of one that failed. Raises ChatApiError."""
        before = frozenset(self._profile.dropped)
        for _ in range(_MOST_LESSONS):
            lessons = self._profile.lessons
            try:
                await self._attempt(ask, answer, show)
            except ChatApiRefusedError as error:
                if not self._learned(error, lessons):
                    if error.reason is Reason.REQUEST:
                        self._profile.unlearn(before)
                    raise self._at_a_loss(error, ask) from error
            else:
                self._profile.proven = True
                return
        await self._attempt(ask, answer, show)

    def _at_a_loss(self, error: ChatApiRefusedError, ask: Ask) -> ChatApiRefusedError:
        """A refusal without a known reason may mean that what the provider kept is gone: not all of them say so."""
        held = ask.remote is not None and ask.remote.endpoint == self.mark
        if held and error.reason in _AT_A_LOSS and error.status in _LOST:
            return ChatApiRefusedError(error.status, error.code, reason=Reason.STATE)
        return error

    def _learned(self, error: ChatApiRefusedError, lessons: int) -> bool:
        """Whether another form of the request is worth trying. ``lessons``: learned before this one was sent."""
        if (
            error.status in {400, 422}
            and error.reason in {Reason.FIELD, Reason.REQUEST}
            and self._profile.lessons > lessons
        ):
            return True  # another question learned something meanwhile
        if error.reason is Reason.FIELD:
            return self._profile.learn(error.field)
        unexplained = error.reason is Reason.REQUEST and error.status in {400, 422}
        extras = self._dialect.optional - {"role"} - self._profile.dropped
        if unexplained and not self._profile.proven and extras:
            self._profile.bare(set(extras))
            return True
        return False

    async def _attempt(self, ask: Ask, answer: Answer, show: Callable[[str], None]) -> None:
        hearing: Hearing | None = None
        with _translated():
            try:
                async with asyncio.timeout(self._limits.first) as scope:
                    ask = await self._with_what_is_held(ask)
                    hearing = Hearing(self._dialect, self.mark, ask, answer, show)
                    hearing.bounded(scope, self._limits.gap, self._most)
                    body = self._profile.fitted(self._dialect.body(ask, self._options, self._profile))
                    async with aclosing(await self._request("POST", self._dialect.path, body)) as response:
                        if not 200 <= response.status_code < 300:
                            raise await self._failure(response, self._dialect.optional & {*body, "role"})
                        await self._hear(hearing, response)
            except (TimeoutError, httpx.HTTPError, aiohttp.ClientError, OSError):
                if hearing is None or not hearing.ended:
                    raise
                hearing.over(cleanly=True)  # the answer was whole, only the end of the body was not

    async def _with_what_is_held(self, ask: Ask) -> Ask:
        """The ask as this endpoint can take it: with what it keeps of the conversation, or else with all of it."""
        held = ask.remote if ask.remote is not None and ask.remote.endpoint == self.mark else None
        if held is not None or not self._creates:
            return ask if held is ask.remote else ask.anew()
        held = await self._conversation(ask)
        told = [message for message in ask.messages if message["role"] != "system"]
        return replace(ask, remote=held, news=told)

    async def _hear(self, hearing: Hearing, response: httpx.Response) -> None:
        pieces: AsyncGenerator[bytes, None] = (
            _decoded(response) if "content-encoding" in response.headers else _raw(response)
        )
        async with aclosing(pieces):
            first = await _first(pieces)
            begun = first[:1]
            if begun in {b"{", b"["}:
                await hearing.whole(object_in(await _all(pieces, first, _MOST_REPLY_BYTES + 4 * self._most)))
                return
            if begun == b"<":
                raise ChatApiGarbledError("a page instead of an answer")
            stream = EventStream()
            if await hearing.events(stream.feed(first)):
                return
            async for piece in pieces:
                if (found := stream.feed(piece)) and await hearing.events(found):
                    return
            if await hearing.events(stream.end()):
                return
        # A body in chunks or of known length raises where it was cut; else it is whole, even without an end mark.
        hearing.over(cleanly="transfer-encoding" in response.headers or "content-length" in response.headers)

    @property
    def _creates(self) -> bool:
        wanted = self._options.conversation_field == "conversation" and self.place.dialect == "responses"
        return wanted and "conversation" not in self._profile.dropped

    async def _conversation(self, ask: Ask) -> Remote | None:
        """A new conversation of the provider; None where it has no such thing."""
        async with aclosing(await self._request("POST", "conversations", {})) as response:
            if response.status_code in _GONE | _NEVER:
                self._profile.dropped.add("conversation")
                return None
            if not 200 <= response.status_code < 300:
                raise await self._failure(response)
            reply = object_in(await _all(_raw(response), b"", _MOST_REPLY_BYTES))
        remote = Remote(self.mark, "conversation", str(reply.get("id") or ""))
        if not remote.id:
            raise ChatApiGarbledError("a conversation without an id")
        if ask.keep is not None:
            await ask.keep(remote)
        return remote

    # ---- what the provider keeps
    async def remove(self, remote: Remote, user: str) -> bool:
        """Deletes what the provider keeps; False where it says that it never does. Raises ChatApiError, and then it is
        to be tried again."""
        with _translated():
            async with asyncio.timeout(self._limits.first):
                for method, path, body in self._dialect.removals(remote, user):
                    if method == "ITEMS":
                        await self._remove_items(path)
                    elif not await self._removed(method, path, body):
                        return False
        return True

    async def _removed(self, method: str, path: str, body: dict[str, object] | None) -> bool:
        async with aclosing(await self._request(method, path, body)) as response:
            if 200 <= response.status_code < 300 or response.status_code in _GONE:
                return True
            if response.status_code in _NEVER:
                return False
            raise await self._failure(response)

    async def _remove_items(self, path: str) -> None:
        """Deleting a conversation does not delete its items, so they go first, page by page."""
        while True:
            async with aclosing(await self._request("GET", f"{path}/items?limit={_ITEMS_PER_PAGE}", None)) as response:
                if response.status_code in _GONE | _NEVER:
                    return
                if not 200 <= response.status_code < 300:
                    raise await self._failure(response)
                listed = object_in(await _all(_raw(response), b"", _MOST_REPLY_BYTES)).get("data")
            items = [str(item["id"]) for item in listed or () if isinstance(item, Mapping) and item.get("id")]
            for item in items:
                if not await self._removed("DELETE", f"{path}/items/{item}", None):
                    return
            if not items:
                return

    async def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        """The JSON of a small call beside the answers, such as a moderation. Raises ChatApiError."""
        with _translated():
            async with (
                asyncio.timeout(_CALL_SECONDS),
                aclosing(await self._request("POST", path, body)) as response,
            ):
                if not 200 <= response.status_code < 300:
                    raise await self._failure(response)
                return object_in(await _all(_raw(response), b"", _MOST_REPLY_BYTES))

    # ---- the wire
    async def _request(self, method: str, path: str, body: dict[str, object] | None) -> httpx.Response:
        if self._transport is None:
            raise ChatApiUnavailableError("the client is closed")
        request = httpx.Request(
            method,
            self._address if path == self._dialect.path else f"{self.place.url}/{path}",
            headers=self._headers,
            content=None if body is None else orjson.dumps(body),
            extensions={"timeout": {"connect": self._limits.connect, "read": None, "write": 10.0, "pool": None}},
        )
        response = await self._transport.handle_async_request(request)
        response.request = request
        return response

    async def _failure(self, response: httpx.Response, sent: Collection[str] = ()) -> ChatApiError:
        body = await _all(_raw(response), b"", _MOST_FAILURE_BYTES, strict=False)
        return failure(response.status_code, response.headers, body, sent)


@contextmanager
def _translated() -> Iterator[None]:
    """What the wire raises, as errors of ours."""
    try:
        yield
    except TimeoutError as error:
        raise ChatApiTimeoutError("no words came within the deadline") from error
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        raise ChatApiUnavailableError(f"{type(error).__name__}") from error


async def _raw(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for piece in response.stream:
        yield piece


async def _decoded(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    async for piece in response.aiter_bytes():
        yield piece


async def _first(pieces: AsyncIterator[bytes]) -> bytes:
    """The beginning of a body, from the first byte that is no blank."""
    async for piece in pieces:
        if begun := piece.lstrip(_BLANKS):  # blanks keep a connection alive, for as long as the deadline lets them
            return begun
    return b""


async def _all(pieces: AsyncIterator[bytes], begun: bytes, most: int, *, strict: bool = True) -> bytes:
    """A body of at most so many bytes; a longer one raises ChatApiGarbledError, unless only its beginning matters."""
    parts, size = [begun], len(begun)
    async for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > most:
            if strict:
                raise ChatApiGarbledError("a reply that is too long")
            break
    return b"".join(parts)
