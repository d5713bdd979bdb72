"""The keys of the admin API: who may do what until when. A key reads ``sk-ID-SECRET`` and is shown when it is made.

Of the secret, 256 random bits, only the SHA-256 is kept: nobody can guess such a secret, so a slow hash would protect
nothing and cost every call. A key that is not there, is wrong, has expired or was revoked is told in the same way after
the same work, so that nothing can be learned by trying.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Final

import orjson

from storage.keys import Keys
from storage.scripts import Store

SCOPES: Final = ("data:read", "data:delete", "exports", "imports", "receipts:read", "requests:read")
"""What a key can be allowed to do."""

_SIGNS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_SIGNS: Final = 12
_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"sk-([0-9a-z]{12})-([A-Za-z0-9_-]{43})")
_NO_DIGEST: Final = "0" * 64
_WINDOW_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. ``digest``: SHA-256 of its secret, hex; ``expires_s`` and ``revoked_s`` 0: not set."""

    id: str
    digest: str
    scopes: tuple[str, ...]
    created_s: int
    expires_s: int = 0
    note: str = ""
    revoked_s: int = 0

    def in_force(self, now_s: float) -> bool:
        return not self.revoked_s and (not self.expires_s or now_s < self.expires_s)


@dataclass(frozen=True, slots=True)
class Spent:
    """How many calls a key has made in this minute, over all replicas, and for how long (s) it lasts."""

    calls: int
    ends_in_s: int


class ApiKeys:
    """Raises StorageError."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def create(
        self, scopes: Collection[str], *, expires_s: int = 0, note: str = "", now_s: float | None = None
    ) -> tuple[ApiKey, str]:
        """A new key and its token, which cannot be had again. Raises ValueError for no scope, or an unknown one."""
        if not scopes or not set(scopes) <= set(SCOPES):
            raise ValueError("scopes")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(
            id="".join(secrets.choice(_SIGNS) for _ in range(_ID_SIGNS)),
            digest=_digest(secret),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created_s=int(time.time() if now_s is None else now_s),
            expires_s=expires_s,
            note=note,
        )
        await self._put(key)
        return key, f"sk-{key.id}-{secret}"

    async def check(self, token: str, *, now_s: float | None = None) -> ApiKey | None:
        """The key that a token stands for, if it is in force. Whatever is wrong with it costs the same."""
        shape = _TOKEN.fullmatch(token)
        key_id, secret = shape.groups() if shape else ("", token)
        key = await self._read(key_id)
        is_right = hmac.compare_digest(_digest(secret), key.digest if key else _NO_DIGEST)
        in_force = key is not None and key.in_force(time.time() if now_s is None else now_s)
        return key if is_right and in_force and shape else None

    async def spend(self, key_id: str, *, now_s: float | None = None) -> Spent:
        """Counts one call of a key."""
        now = time.time() if now_s is None else now_s
        minute = int(now // _WINDOW_SECONDS)
        name = self._keys.api_calls(key_id, minute)
        counted = self._store.call("INCR", name)
        calls, _ = await asyncio.gather(counted, self._store.call("EXPIRE", name, 2 * _WINDOW_SECONDS))
        return Spent(int(calls), max(1, round((minute + 1) * _WINDOW_SECONDS - now)))

    async def revoke(self, key_id: str, *, now_s: float | None = None) -> ApiKey | None:
        """Ends a key for good; None where there is none of that id. One that was revoked before stays as it is."""
        key = await self._read(key_id)
        if key is None or key.revoked_s:
            return key
        key = replace(key, revoked_s=int(time.time() if now_s is None else now_s))
        await self._put(key)
        return key

    async def all(self) -> list[ApiKey]:
        """Oldest first, those that are over included."""
        packed = await self._store.call("HVALS", self._keys.api_keys)
        return sorted(map(_unpacked, packed), key=lambda key: (key.created_s, key.id))

    async def _put(self, key: ApiKey) -> None:
        await self._store.call("HSET", self._keys.api_keys, key.id, orjson.dumps(asdict(key)))

    async def _read(self, key_id: str) -> ApiKey | None:
        packed = await self._store.call("HGET", self._keys.api_keys, key_id)
        return None if packed is None else _unpacked(packed)


def _unpacked(packed: bytes) -> ApiKey:
    told = orjson.loads(packed)
    return ApiKey(**{**told, "scopes": tuple(told["scopes"])})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
