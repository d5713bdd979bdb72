"""What somebody who takes every file and every key could still read.

AES-GCM is AES-CTR with a tag on top: whoever holds the key reads a sealed value without the tag, and without the place
it is bound to. So the search needs to know neither where a value ends nor whose it was: it opens every place in every
file that names a key that is still held, be it in bytes or, as in fields that stand in JSON, in base64.
"""

import base64
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from redis.asyncio import Redis

from storage.connection import StoreTarget, connect
from storage.datakey import opened_key
from storage.keyring import keyring_file
from storage.masterkey import MasterKey

_VERSION: Final = b"\x01"
_NONCE: Final = slice(17, 29)
_FIRST_BLOCK: Final = (2).to_bytes(4, "big")
"""GCM's counter where the content begins; block 1 hides the tag (NIST SP 800-38D)."""

_MOST_BYTES: Final = 32 * 1024
_HEAD_SIGNS: Final = 22
"""Of a version and a key's id in base64: those that say nothing of what comes behind them."""

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*")


@dataclass(frozen=True, slots=True)
class Held:
    """A data key that the keyring holds, with the wrapped form that must vanish with it."""

    id: bytes
    secret: bytes
    wrapped: bytes

    def read(self, content: bytes) -> Iterator[bytes]:
        """What each place that names this key says; behind a value's end it is noise."""
        for sealed in self._sealed(content):
            if len(sealed) > _NONCE.stop:
                stream = Cipher(AES(self.secret), CTR(sealed[_NONCE] + _FIRST_BLOCK)).decryptor()
                yield stream.update(sealed[_NONCE.stop :])

    def _sealed(self, content: bytes) -> Iterator[bytes]:
        head = _VERSION + self.id
        for found in re.finditer(re.escape(head), content):
            yield content[found.start() : found.start() + _NONCE.stop + _MOST_BYTES]
        for found in re.finditer(re.escape(base64.b64encode(head)[:_HEAD_SIGNS]), content):
            signs = _BASE64.match(content, found.start(), found.start() + _MOST_BYTES)
            assert signs is not None
            yield base64.b64decode(signs[0][: len(signs[0]) // 4 * 4])


async def held_keys(master_key_file: Path, keyring_url: str) -> list[Held]:
    """Every key of a keyring, in a file or on a server."""
    master = MasterKey.load(master_key_file)
    path = keyring_file(keyring_url)
    rows = _rows_of(path) if path is not None else await _rows_at(keyring_url)
    return [Held(key_id, opened_key(master, key_id, mark, wrapped).secret, wrapped) for key_id, mark, wrapped in rows]


def _rows_of(path: Path) -> list[tuple[bytes, bytes, bytes]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT id, name, wrapped FROM data_key WHERE owner != zeroblob(16)").fetchall()


async def _rows_at(url: str) -> list[tuple[bytes, bytes, bytes]]:
    client: Redis = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
    try:
        names = [name async for name in client.scan_iter("keyring:name:*")]
        values = [value.decode() for value in await client.mget(names) if isinstance(value, bytes)]
    finally:
        await client.aclose()
    hexes = [
        (value[:32], name.decode().rpartition(":")[2], value[32:]) for name, value in zip(names, values, strict=True)
    ]
    return [(bytes.fromhex(key_id), bytes.fromhex(mark), bytes.fromhex(wrapped)) for key_id, mark, wrapped in hexes]


def words_in(contents: Iterable[bytes], keys: Iterable[Held], words: re.Pattern[bytes]) -> set[bytes]:
    """The words that any of the keys opens in any of some values."""
    held, given = list(keys), list(contents)
    texts = (text for content in given for key in held for text in key.read(content))
    return {word for text in texts for word in words.findall(text)}


class Haul:
    """All files under some folders, as they are now."""

    def __init__(self, *folders: Path) -> None:
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        self.files = {path: path.read_bytes() for path in paths}

    def plain(self, words: re.Pattern[bytes]) -> set[bytes]:
        """The words that lie open somewhere."""
        return {word for content in self.files.values() for word in words.findall(content)}

    def opened(self, keys: Iterable[Held], words: re.Pattern[bytes]) -> set[bytes]:
        """The words that any of the keys opens anywhere."""
        return words_in(self.files.values(), keys, words)

    def holding(self, keys: Iterable[Held]) -> list[Path]:
        """The files that hold a key, wrapped or open, as bytes or in hexadecimal."""
        secrets = [
            form for key in keys for secret in (key.wrapped, key.secret) for form in (secret, secret.hex().encode())
        ]
        return [path for path, content in self.files.items() if any(secret in content for secret in secrets)]
