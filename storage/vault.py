"""Every stored content passes through here: sealed with AES-256-GCM under its conversation's key, bound to its place.

A sealed value is ``version (1) | key id (16) | nonce (12) | ciphertext and tag``. The version, the bot and ``bound``
(the caller's name for the place: chat, kind, sequence, epoch) are authenticated with it, so that a value moved
elsewhere does not open. Random nonces are safe for 2^32 values under one key (NIST SP 800-38D).
"""

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis.asyncio import Redis

from storage.errors import (
    KeyringError,
    KeyringUnavailableError,
    MasterKeyMissingError,
    MasterKeyWrongError,
    SealBrokenError,
    StoreRefusedError,
)
from storage.keyring import DataKey, Keyring, MasterKey, RedisKeyring, keyring_file, open_keyring
from storage.schema import Identity, claim_identity, read_identity, schema_lock

VERSION = 1
_VERSION = bytes([VERSION])
_ID_END = 17
_NONCE_END = 29
OVERHEAD_BYTES = _NONCE_END + 16
"""How much longer a sealed value is than its content."""


class Vault:
    """Seals and opens the content of one bot. It owns the keyring: ``aclose`` closes it."""

    def __init__(self, keyring: Keyring, bot_id: int) -> None:
        self.keyring = keyring
        self._owner = f"{bot_id}/"
        self._bot = _VERSION + bot_id.to_bytes(8, "big")

    def cached_key(self, chat_id: int, name: str) -> DataKey | None:
        """The key when it is at hand; otherwise await ``key``."""
        return self.keyring.cached(f"{self._owner}{chat_id}", name)

    async def key(self, chat_id: int, name: str) -> DataKey:
        """The key of a chat's content, made if there is none, durable when this returns. Its name is ``GROUP``, or
        ``GROUP/DAY`` where it seals what is kept until the end of that UTC day (counted since 1970)."""
        return await self.keyring.obtain(f"{self._owner}{chat_id}", name)

    def seal(self, key: DataKey, content: bytes, bound: str) -> bytes:
        nonce = os.urandom(12)
        return b"".join((_VERSION, key.id, nonce, key.cipher.encrypt(nonce, content, self._bot + bound.encode())))

    def open(self, key: DataKey, sealed: bytes, bound: str) -> bytes:
        """Raises SealBrokenError unless ``sealed`` was made with this key for this place, and is unchanged."""
        if sealed[:_ID_END] != _VERSION + key.id:
            raise SealBrokenError("Stored content was sealed with another key, or is cut off.")
        return self._decrypted(key.cipher, sealed, bound)

    async def open_any(self, sealed: bytes, bound: str) -> bytes:
        """Open with whatever key sealed it. Raises SealBrokenError also when that key is destroyed."""
        key = await self.keyring.by_id(sealed[1:_ID_END]) if sealed[:1] == _VERSION else None
        if key is None:
            raise SealBrokenError("Stored content cannot be opened: its key is destroyed.")
        return self.open(key, sealed, bound)

    async def open_all(self, sealed: Sequence[tuple[bytes, str]]) -> list[bytes | None]:
        """Like ``open_any`` for values and their places, most of them under one key; None for what does not open."""
        opened: list[bytes | None] = []
        head, cipher = b"", None
        for value, bound in sealed:
            if value[:_ID_END] != head:
                head = value[:_ID_END]
                key = await self.keyring.by_id(head[1:]) if head[:1] == _VERSION else None
                cipher = key.cipher if key else None
            try:
                opened.append(self._decrypted(cipher, value, bound) if cipher else None)
            except SealBrokenError:
                opened.append(None)
        return opened

    def _decrypted(self, cipher: AESGCM, sealed: bytes, bound: str) -> bytes:
        if len(sealed) < OVERHEAD_BYTES:
            raise SealBrokenError("Stored content is cut off.")
        try:
            return cipher.decrypt(sealed[_ID_END:_NONCE_END], sealed[_NONCE_END:], self._bot + bound.encode())
        except InvalidTag as error:
            raise SealBrokenError("Stored content does not open: it was altered or moved.") from error

    async def standing_key(self, chat_id: int, name: str) -> DataKey | None:
        """The key of a chat's content, unless there is none (any more)."""
        return await self.keyring.found(f"{self._owner}{chat_id}", name)

    async def key_of(self, sealed: bytes) -> DataKey | None:
        """The key that sealed a value, unless it is destroyed."""
        return await self.keyring.by_id(sealed[1:_ID_END])

    async def marks(self, chat_id: int, *names: str, but: str = "") -> list[bytes]:
        """What stands for these keys of a chat, or without names for all that it has now, ``but`` those of one
        group."""
        return await self.keyring.marks(f"{self._owner}{chat_id}", *names, but=but)

    async def destroy(self, chat_id: int, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        """Destroy keys of a chat: those of these names, marks and groups, all where none is given; how many. What they
        sealed cannot be read any more, wherever it lies."""
        return await self.keyring.destroy(f"{self._owner}{chat_id}", *names, marks=marks, groups=groups)

    async def expire(self, before: int, chat_id: int | None = None) -> int:
        """Destroy every key whose day (UTC days since 1970) lies before that day, of one chat or of all; how many."""
        return await self.keyring.expire(before, None if chat_id is None else f"{self._owner}{chat_id}")

    async def aclose(self) -> None:
        await self.keyring.aclose()


async def open_vault(client: Redis, bot_id: int, *, master_key_file: Path, keyring_url: str, data_dir: Path) -> Vault:
    """The vault of this store. Master key and keyring are made only for a store that was never used.

    Otherwise a missing or wrong one raises (MasterKeyMissingError, MasterKeyWrongError, KeyringUnavailableError) and
    nothing is touched. Raises StoreRefusedError when either lies inside ``data_dir``.
    """
    _refuse_inside(master_key_file, keyring_url, data_dir)
    standing = await read_identity(client, bot_id)
    if standing is None:
        # Under the lock: of two that start at once on a fresh store, the second finds what the first made.
        async with schema_lock(client, bot_id):
            standing = await read_identity(client, bot_id)
            if standing is None:
                return await _first_vault(client, bot_id, master_key_file, keyring_url)
    return await _known_vault(client, bot_id, standing, master_key_file, keyring_url)


async def _first_vault(client: Redis, bot_id: int, master_key_file: Path, keyring_url: str) -> Vault:
    _refuse_orphan(master_key_file, keyring_file(keyring_url))
    master = MasterKey.create(master_key_file)
    keyring = await open_keyring(keyring_url, master, create=True)
    try:
        await _refuse_same_server(client, keyring)
        wanted = Identity(master=(await keyring.record()).master, keyring=keyring.identity)
        _compare(await claim_identity(client, bot_id, wanted), wanted)
    except BaseException:
        await keyring.aclose()
        raise
    return Vault(keyring, bot_id)


async def _known_vault(
    client: Redis, bot_id: int, standing: Identity, master_key_file: Path, keyring_url: str
) -> Vault:
    master = MasterKey.load(master_key_file)
    try:
        keyring = await open_keyring(keyring_url, master, create=False)
    except MasterKeyWrongError as error:
        if standing.master in master.fingerprints():
            raise
        raise MasterKeyWrongError(
            f"{master_key_file} is not the master key this store was sealed with: put back the right one, "
            "let MASTER_KEY_FILE name it, or copy it from the machine where `keys rotate` was typed."
        ) from error
    try:
        await _refuse_same_server(client, keyring)
        record = await keyring.record()
        # A store may be behind its keyring, as old backups are, and ahead of one that was put back from a backup while
        # a rotation was under way.
        known = {record.master, *record.past, *master.fingerprints()}
        ours = standing.master if standing.master in known else record.master
        _compare(standing, Identity(master=ours, keyring=keyring.identity))
    except BaseException:
        await keyring.aclose()
        raise
    return Vault(keyring, bot_id)


def _compare(standing: Identity, ours: Identity) -> None:
    if standing.master != ours.master:
        raise MasterKeyWrongError(
            "The store was sealed with another master key: put back the right one, or let MASTER_KEY_FILE name it."
        )
    if standing.keyring != ours.keyring:
        raise KeyringUnavailableError("The keyring is not the one this store was sealed with: let KEYRING_URL name it.")


def _refuse_orphan(master_key_file: Path, keyring: Path | None) -> None:
    """A fresh store beside an old keyring: a new master key could not open it, and must not take its place."""
    if keyring is not None and keyring.exists() and not master_key_file.exists():
        raise MasterKeyMissingError(
            f"There is a keyring {keyring}, but not its master key {master_key_file}: "
            "put that back, or move the keyring away."
        )


def _refuse_inside(master_key_file: Path, keyring_url: str, data_dir: Path) -> None:
    # A backup of DATA_DIR would carry the keys beside what they lock.
    folder = data_dir.resolve()
    for setting, path in (("MASTER_KEY_FILE", master_key_file), ("KEYRING_URL", keyring_file(keyring_url))):
        if path is not None and path.resolve().is_relative_to(folder):
            raise StoreRefusedError(f"{setting} lies inside DATA_DIR, whose backups must not hold keys: move it out.")


async def _refuse_same_server(client: Redis, keyring: Keyring) -> None:
    if not isinstance(keyring, RedisKeyring):
        return
    store, keys = await client.info("server"), await keyring.client.info("server")
    if store.get("run_id") == keys.get("run_id"):
        raise KeyringError("KEYRING_URL names the store itself, whose backups must not hold keys: use a second server.")
