"""What stands before the admin API, as plain ASGI: headers, keys, limits, and the last word on every error.

The API shares its loop with customers' answers, so a refused request must cost next to nothing. Without a usable key
nothing of the framework runs, it is not even loaded. A key over its limit is refused from memory until its minute ends,
and an address that keeps failing to sign in no longer reaches the store. Only keys that were right before still get
through from there: behind a proxy, where all share one address, nobody can lock the others out.
"""

import asyncio
import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.logs import get_logger
from handlers.web.problems import (
    FAILED,
    ROOT,
    SECURITY_HEADERS,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
    ProblemError,
)
from storage.apikeys import ApiKey, ApiKeys
from storage.errors import StorageError

CALLS_A_MINUTE: Final = 600
"""Of one key, over all replicas."""

FAILURES_A_MINUTE: Final = 600
"""Failed sign-ins from one address, in this process."""

_MOST_ADDRESSES: Final = 10_000
_MOST_TOKENS: Final = 1_000
_MOST_TOKEN_SIGNS: Final = 100
_OPEN: Final = f"{ROOT}/openapi.json"
_MINUTE: Final = 60
_log = get_logger(__name__)


class Gate:
    """``load`` builds the API, off the loop where that takes time; it is called once, for the first request let in."""

    def __init__(
        self, api_keys: ApiKeys, load: Callable[[], Awaitable[ASGIApp]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api_keys = api_keys
        self._load = load
        self._app: ASGIApp | None = None
        self._loading = asyncio.Lock()
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._right: OrderedDict[bytes, str] = OrderedDict()
        self._spent: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        try:
            await self._serve(scope, receive, answer)
        except ProblemError as problem:
            await answer.tell(problem)
        except StorageError as error:
            _log.warning("api.unavailable", error=type(error).__name__)
            await answer.tell(ProblemError(UNAVAILABLE, headers={"Retry-After": "5"}))
        except Exception:
            _log.exception("api.failed", method=scope["method"])
            if not answer.begun:
                await answer.tell(ProblemError(FAILED))
            elif not answer.ended:
                raise  # cut off: half an answer must not look like a whole one

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        inner = {**scope, "root_path": ""}
        if not (scope["path"] == _OPEN and scope["method"] == "GET"):
            inner["api_key"] = await self._signed_in(scope, answer)
        app = self._app or await self._loaded()
        await app(inner, receive, answer)

    async def _loaded(self) -> ASGIApp:
        async with self._loading:
            if self._app is None:
                self._app = await self._load()
            return self._app

    # ---- who asks
    async def _signed_in(self, scope: Scope, answer: "_Answer") -> ApiKey:
        address, token = _address(scope), _token(scope)
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        known = self._right.get(digest)
        if known is None:
            self._refuse_failing(address)
        elif known in self._spent:
            self._refuse_spent(known)
        key = await self._api_keys.check(token) if token else None
        if key is None:
            self._right.pop(digest, None)
            self._failed(address)
            raise ProblemError(UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
        _put(self._right, digest, key.id, _MOST_TOKENS)
        spent = await self._api_keys.spend(key.id)
        if spent.calls > CALLS_A_MINUTE:
            self._spent[key.id] = self._clock() + spent.ends_in_s
            self._refuse_spent(key.id)
        answer.headers |= _limits(CALLS_A_MINUTE - spent.calls, spent.ends_in_s)
        return key

    def _refuse_spent(self, key_id: str) -> None:
        left = self._spent[key_id] - self._clock()
        if left <= 0:
            del self._spent[key_id]
            return
        seconds = int(left) + 1
        raise ProblemError(TOO_MANY, headers={"Retry-After": str(seconds), **_limits(0, seconds)})

    def _refuse_failing(self, address: str) -> None:
        begun, count = self._failures.get(address, (0.0, 0))
        left = begun + _MINUTE - self._clock()
        if count >= FAILURES_A_MINUTE and left > 0:
            raise ProblemError(TOO_MANY, headers={"Retry-After": str(int(left) + 1)})

    def _failed(self, address: str) -> None:
        now = self._clock()
        begun, count = self._failures.get(address, (now, 0))
        if now - begun >= _MINUTE:
            begun, count = now, 0
        _put(self._failures, address, (begun, count + 1), _MOST_ADDRESSES)


class _Answer:
    """What goes out: every answer carries the same headers, and we know whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = self.ended = False
        self.headers: dict[str, str] = dict(SECURITY_HEADERS)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            ours = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
            names = {name for name, _ in ours}
            theirs = [(name, value) for name, value in message["headers"] if name not in names]
            message = {**message, "headers": [*theirs, *ours]}
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)

    async def tell(self, problem: ProblemError) -> None:
        headers = {**problem.headers, "Content-Length": str(len(problem.body))}
        packed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": problem.problem.status, "headers": packed})
        await self({"type": "http.response.body", "body": problem.body})


def _limits(left: int, seconds: int) -> Mapping[str, str]:
    """After the IETF's draft "RateLimit header fields for HTTP"."""
    told = {"Limit": CALLS_A_MINUTE, "Remaining": max(0, left), "Reset": seconds}
    return {f"RateLimit-{name}": str(value) for name, value in told.items()}


def _token(scope: Scope) -> str:
    """What stands behind ``Bearer``; empty for none, several, or more than a key can be."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return ""
    scheme, _, token = given[0].decode("latin-1").partition(" ")
    token = token.strip(" ")
    return token if scheme.lower() == "bearer" and len(token) <= _MOST_TOKEN_SIGNS else ""


def _address(scope: Scope) -> str:
    """Who is calling: of IPv6 the network, since one caller has all of its addresses."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def _put(held: OrderedDict[Any, Any], name: Any, value: Any, most: int) -> None:
    held[name] = value
    held.move_to_end(name)
    if len(held) > most:
        held.popitem(last=False)
