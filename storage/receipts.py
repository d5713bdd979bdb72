"""What became of the requests that the law gives people: a record of each export, erasure and import.

A record holds no personal data: a random id, times, what kind of thing was done to how many things, and what is out of
reach. Which of them concern a chat is listed with the chat alone, so that nobody gets from a record to a person. An
erasure's record is the receipt that stays when everything else is gone.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import orjson

from storage.keys import Keys
from storage.scripts import Store

_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Letters and digits that are not taken for each other when read aloud."""

_ID_SIGNS: Final = 12
_PAGE: Final = 500
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """``kind``: erasure, export or import; ``by``: customer, operator or retention; ``scope`` of an erasure: exchange,
    conversation, everything or expired. ``done_ms`` is 0 while it is open, ``due_ms`` the legal deadline. ``beyond``:
    what is out of reach, by a word, and until when (ms, 0: not known). ``asked``: things that chat APIs are to delete;
    ``confirmed``: those they did delete, ``given_up``: those they did not in thirty days (see ``Removals``)."""

    id: str
    kind: str
    by: str
    asked_ms: int
    due_ms: int
    scope: str = ""
    done_ms: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    confirmed: int = 0
    given_up: int = 0


def fresh_id() -> str:
    """An id that tells nothing and cannot be guessed: 58 bits, in three groups of four signs."""
    return readable_id(secrets.token_bytes(16))


def readable_id(random: bytes) -> str:
    """The same of bytes that look random, 16 or more."""
    number = int.from_bytes(random[:16], "big")
    signs = ""
    for _ in range(_ID_SIGNS):
        number, place = divmod(number, len(_ALPHABET))
        signs += _ALPHABET[place]
    return "-".join(signs[place : place + 4] for place in range(0, _ID_SIGNS, 4))


class Receipts:
    """``keep_days``: how long each is kept; ``secret``: makes ids. Raises StorageError. All may be done twice."""

    def __init__(self, store: Store, keys: Keys, *, keep_days: int, secret: bytes = b"") -> None:
        self._store = store
        self._keys = keys
        self._keep_ms = keep_days * _DAY_MS
        self._secret = secret

    def id_of(self, chat_id: int, source: int) -> str:
        """The id for what an update asks for: the same whoever carries it out, and it leads nobody back to the chat."""
        return readable_id(hmac.digest(self._secret, b"receipt|%d|%d" % (chat_id, source), hashlib.sha256))

    async def put(self, chat_id: int, receipt: Receipt) -> None:
        """Writes a record, or what became of it since; what chat APIs confirmed stays as it is."""
        packed = orjson.dumps({name: value for name, value in asdict(receipt).items() if name not in _COUNTED})
        of_chat = self._keys.of(chat_id).receipts
        await self._store.call("ZADD", of_chat, "NX", receipt.asked_ms, receipt.id)
        await self._store.call("PEXPIREAT", of_chat, receipt.asked_ms + self._keep_ms)
        await self._store.call("ZADD", self._keys.requests, "NX", receipt.asked_ms, receipt.id)
        await self._store.call("HSET", self._keys.receipts, receipt.id, packed)

    async def read(self, receipt_id: str) -> Receipt | None:
        found = await self._read([receipt_id])
        return found[0] if found else None

    async def of(self, chat_id: int) -> list[Receipt]:
        """Those of a chat, oldest first."""
        return await self._read(await self._store.call("ZRANGE", self._keys.of(chat_id).receipts, 0, -1))

    async def count(self, chat_id: int) -> int:
        """How many a chat has."""
        return int(await self._store.call("ZCARD", self._keys.of(chat_id).receipts))

    async def newest(self, most: int, *, before_ms: int = 0) -> list[Receipt]:
        """The newest of all, newest first; ``before_ms``: only those asked for earlier."""
        highest = f"({before_ms}" if before_ms else "+inf"
        page = ("ZREVRANGEBYSCORE", self._keys.requests, highest, "-inf", "LIMIT", 0, most)
        return await self._read(await self._store.call(*page))

    async def expire(self, now_ms: int) -> int:
        """Removes the records that are too old; how many."""
        count, before_ms = 0, now_ms - self._keep_ms
        while ids := await self._store.call(
            "ZRANGEBYSCORE", self._keys.requests, "-inf", f"({before_ms}", "LIMIT", 0, _PAGE
        ):
            names = [name.decode() for name in ids]
            fields = [f"{name}{end}" for name in names for end in ("", ":c", ":g")]
            await self._store.call("HDEL", self._keys.receipts, *fields)
            await self._store.call("ZREM", self._keys.requests, *names)
            count += len(names)
        return count

    async def _read(self, ids: Iterable[bytes | str]) -> list[Receipt]:
        names = [name if isinstance(name, str) else name.decode() for name in ids]
        if not names:
            return []
        fields = [f"{name}{end}" for name in names for end in ("", ":c", ":g")]
        values = await self._store.call("HMGET", self._keys.receipts, *fields)
        found = []
        for place in range(0, len(values), 3):
            packed, confirmed, given_up = values[place : place + 3]
            if packed is not None:
                told: dict[str, Any] = orjson.loads(packed)
                found.append(replace(Receipt(**told), confirmed=int(confirmed or 0), given_up=int(given_up or 0)))
        return found


_COUNTED: Final = frozenset({"confirmed", "given_up"})
