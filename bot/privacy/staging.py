"""An archive between the call that brought it and the worker that reads it in: sealed in the store, for an hour.

It lies in pieces under a key of its chat, so that a forget in between takes it along; each piece is bound to its place
and to how many there are, so that what comes out is what went in, or nothing.
"""

import asyncio
from typing import Any, Final

import orjson

from bot.privacy.archive import MANIFEST
from bot.privacy.intake import MOST_BYTES
from bot.privacy.zipped import ZipFileError, opened
from storage.errors import SealBrokenError
from storage.keys import Keys
from storage.scripts import Store
from storage.vault import Vault

KEPT_SECONDS: Final = 3_600
_KEY: Final = "import"
_PIECE_BYTES: Final = 512 * 1024
_MOST_MANIFEST_BYTES: Final = 2**16


class Staging:
    """Raises StorageError."""

    def __init__(self, store: Store, keys: Keys, vault: Vault) -> None:
        self._store = store
        self._keys = keys
        self._vault = vault

    async def put(self, chat_id: int, request_id: str, content: bytes) -> None:
        """Keeps an archive; durable when this returns."""
        key = await self._vault.key(chat_id, _KEY)
        name = self._keys.of(chat_id).staged(request_id)
        count = max(1, -(-len(content) // _PIECE_BYTES))
        for number in range(count):
            piece = content[number * _PIECE_BYTES : (number + 1) * _PIECE_BYTES]
            sealed = self._vault.seal(key, piece, _bound(chat_id, request_id, number, count))
            pushed = self._store.call("RPUSH", name, sealed)
            # With each piece: whoever dies here leaves nothing that stays.
            await asyncio.gather(pushed, self._store.call("EXPIRE", name, KEPT_SECONDS))

    async def read(self, chat_id: int, request_id: str) -> bytes | None:
        """The archive; None where it is not whole, no longer there, or the chat was forgotten since."""
        pieces = await self._store.call("LRANGE", self._keys.of(chat_id).staged(request_id), 0, -1)
        if not pieces:
            return None
        try:
            opened_pieces = [
                await self._vault.open_any(sealed, _bound(chat_id, request_id, number, len(pieces)))
                for number, sealed in enumerate(pieces)
            ]
        except SealBrokenError:
            return None
        return b"".join(opened_pieces)

    async def drop(self, chat_id: int, request_id: str) -> None:
        """What was read in is not needed any more."""
        await self._store.call("UNLINK", self._keys.of(chat_id).staged(request_id))


def claimed_chat(content: bytes) -> int:
    """The chat that an archive says it is of, 0 where it says nothing readable. That is a stranger's word: ``examined``
    takes an archive for no other chat than the one its signed manifest names."""
    if len(content) > MOST_BYTES:
        return 0
    try:
        manifest: Any = orjson.loads(opened(content, {MANIFEST: _MOST_MANIFEST_BYTES})[MANIFEST].whole())
    except (ZipFileError, KeyError, ValueError):
        return 0
    chat_id = manifest.get("chat_id") if isinstance(manifest, dict) else None
    return chat_id if type(chat_id) is int else 0


def _bound(chat_id: int, request_id: str, number: int, count: int) -> str:
    return f"{chat_id}|import|{request_id}|{number}|{count}"
