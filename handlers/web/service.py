"""The HTTP face that needs no sign-in: Telegram's webhook, health, figures. The admin API hangs beside it."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.ingress import Ingress, OverloadedError, parsed
from bot.metrics import Metrics
from storage.errors import StorageError

MOST_BYTES: Final = 1_048_576
"""The largest update taken; Telegram's own stay far below (texts end at 4,096 units)."""

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def service_app(
    *,
    metrics: Metrics,
    health: Callable[[], Awaitable[dict[str, str]]],
    webhooks: Sequence[Route] = (),
    api: ASGIApp | None = None,
) -> Starlette:
    """``health`` gives the troubles of this process by part; none means ready. ``api`` serves all under ``/api``."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_HEADERS)

    async def readyz(_: Request) -> Response:
        troubles = await health()
        return JSONResponse(
            {"ready": not troubles, "troubles": troubles}, status_code=503 if troubles else 200, headers=_HEADERS
        )

    async def figures(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST, headers=_HEADERS)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", figures)]
    return Starlette(routes=[*routes, *webhooks, *([_Under("/api", api)] if api is not None else [])])


class _Under(BaseRoute):
    """All of a path's addresses, whatever they hold: a ``Mount`` lets such with a line break in them by."""

    def __init__(self, path: str, app: ASGIApp) -> None:
        self._path = path
        self._app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = str(scope.get("path", ""))
        return (Match.FULL if path == self._path or path.startswith(f"{self._path}/") else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def webhook_route(path: str, ingress: Ingress, secret: str, closing: Callable[[], bool]) -> Route:
    """Takes updates: the secret first, then at most a megabyte, then the store, and only then 200.

    503 asks Telegram to bring the update again: the store is away, too much is waiting, or the process is ending.
    """

    async def webhook(request: Request) -> Response:
        given = request.headers.get("x-telegram-bot-api-secret-token", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode()):
            return PlainTextResponse("wrong secret\n", status_code=401, headers=_HEADERS)
        if closing():
            return _again()
        body = await _body(request)
        if body is None:
            return PlainTextResponse("too large\n", status_code=413, headers=_HEADERS)
        try:
            update = parsed(body)
        except (ValueError, RecursionError):
            # Not Telegram's doing, and it would be brought again for a day: take it and drop it.
            return PlainTextResponse("no update\n", headers=_HEADERS)
        try:
            await ingress.accept([update])
        except (StorageError, OverloadedError):
            return _again()
        return PlainTextResponse("ok\n", headers=_HEADERS)

    return Route(path, webhook, methods=["POST"])


def _again() -> Response:
    return PlainTextResponse("again later\n", status_code=503, headers={**_HEADERS, "Retry-After": "1"})


async def _body(request: Request) -> bytes | None:
    """The body; None when it is longer than allowed, whatever its header claims."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BYTES:
        return None
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)
