"""Keeps other web sites out: a page in the same browser can reach the loopback too.

A foreign `Host` means DNS rebinding, a foreign `Origin` a request from another site's page. Both are refused before
anything else looks at the request.
"""

from __future__ import annotations

import functools

from bot.sandbox.wire import Scope, Send, reply

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
#: Sent with everything that is not the Bot API's JSON.
PAGE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@functools.lru_cache(maxsize=64)
def _own_hosts(port: int) -> frozenset[bytes]:
    return frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]"))


def is_foreign(scope: Scope, port: int) -> bool:
    """The request names another host than ours, or comes from another site's page."""
    hosts = _own_hosts(port)
    named = False
    for key, value in scope["headers"]:
        if key == b"host":
            named = True
            if value.lower() not in hosts:
                return True
        elif key == b"origin" and value.removeprefix(b"http://").lower() not in hosts:
            return True
    return not named


async def refuse_foreign(send: Send) -> None:
    await reply(send, 403, b"Forbidden: this server answers only its own address", b"text/plain", PAGE_HEADERS)
