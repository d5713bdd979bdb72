"""Sealed content opens in its own place, with its own key, unchanged, or not at all."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from storage.connection import StoreTarget, connect
from storage.datakey import DataKey
from storage.errors import (
    KeyringError,
    KeyringUnavailableError,
    MasterKeyMissingError,
    MasterKeyWrongError,
    SealBrokenError,
    StoreRefusedError,
)
from storage.keyrecord import KeyringRecord, KeyRow, Rewrapped
from storage.keyring import Keyring
from storage.schema import IDENTITY_KEY, SCHEMA_KEY, SCHEMA_VERSION
from storage.vault import OVERHEAD_BYTES, Vault, open_vault

BOT = 4242


class NoKeyring:
    """Sealing and opening need no keyring."""

    identity = durability = ""

    async def obtain(self, owner: str, name: str) -> DataKey:
        raise KeyringUnavailableError

    def cached(self, owner: str, name: str) -> DataKey | None:
        return None

    async def by_id(self, key_id: bytes) -> DataKey | None:
        return None

    async def found(self, owner: str, name: str) -> DataKey | None:
        return None

    async def marks(self, owner: str, *names: str, but: str = "") -> list[bytes]:
        return []

    async def destroy(self, owner: str, *names: str, marks: Sequence[bytes] = (), groups: Sequence[str] = ()) -> int:
        return 0

    async def expire(self, before: int, owner: str | None = None) -> int:
        return 0

    async def record(self) -> KeyringRecord:
        raise KeyringUnavailableError

    async def count(self) -> int:
        return 0

    async def switch(self, record: KeyringRecord, master: str) -> KeyringRecord:
        raise KeyringUnavailableError

    def rewrap(self, record: KeyringRecord) -> AsyncIterator[Rewrapped]:
        raise KeyringUnavailableError

    def rows(self, record: KeyringRecord) -> AsyncIterator[KeyRow]:
        raise KeyringUnavailableError

    async def copied_at(self) -> int:
        return 0

    async def note_copy(self, seconds: int) -> None:
        return None

    async def aclose(self) -> None:
        return None


NO_KEYRING: Keyring = NoKeyring()
VAULT = Vault(NO_KEYRING, BOT)
KEY = DataKey(bytes(range(16)), bytes(32))
OTHER = DataKey(bytes(range(1, 17)), bytes(32))
places = st.text(st.characters(codec="utf-8"), max_size=40)


@given(content=st.binary(max_size=500), bound=places)
def test_sealed_content_opens_in_its_place(content: bytes, bound: str) -> None:
    """Any content, in any place."""
    sealed = VAULT.seal(KEY, content, bound)
    assert VAULT.open(KEY, sealed, bound) == content
    assert len(sealed) == len(content) + OVERHEAD_BYTES


@given(content=st.binary(max_size=60), bound=places, data=st.data())
def test_any_changed_byte_breaks_the_seal(content: bytes, bound: str, data: st.DataObject) -> None:
    """Version, key id, nonce, content and tag are all authenticated."""
    sealed = bytearray(VAULT.seal(KEY, content, bound))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBrokenError):
        VAULT.open(KEY, bytes(sealed), bound)


@given(content=st.binary(max_size=60), bound=places, other=places)
def test_another_place_breaks_the_seal(content: bytes, bound: str, other: str) -> None:
    """No byte of one chat is read as another's, nor one epoch's as the next's."""
    sealed = VAULT.seal(KEY, content, bound)
    if other != bound:
        with pytest.raises(SealBrokenError):
            VAULT.open(KEY, sealed, other)


@given(content=st.binary(max_size=60), length=st.integers(0, 104))
def test_cut_off_content_breaks_the_seal(content: bytes, length: int) -> None:
    """No shorter value passes, not even an empty one."""
    sealed = VAULT.seal(KEY, content, "here")
    if length < len(sealed):
        with pytest.raises(SealBrokenError):
            VAULT.open(KEY, sealed[:length], "here")


def test_another_bot_or_key_breaks_the_seal() -> None:
    """Two bots in one store stay apart, even with the same key bytes."""
    sealed = VAULT.seal(KEY, b"text", "here")
    with pytest.raises(SealBrokenError):
        Vault(NO_KEYRING, BOT + 1).open(KEY, sealed, "here")
    with pytest.raises(SealBrokenError):
        VAULT.open(OTHER, sealed, "here")


def test_the_same_content_never_seals_alike() -> None:
    """A random nonce each time: equal messages cannot be told."""
    assert len({VAULT.seal(KEY, b"text", "here") for _ in range(100)}) == 100


class Place:
    """A store, and where its keys belong."""

    def __init__(self, client: Redis, url: str, root: Path) -> None:
        self.client = client
        self.url = url
        self.master = root / "secrets" / "master.key"
        self.keyring = root / "secrets" / "keyring.db"
        self.data = root / "data"
        self.data.mkdir()

    async def open(self, *, master: Path | None = None, keyring: str | None = None) -> Vault:
        return await open_vault(
            self.client,
            BOT,
            master_key_file=master or self.master,
            keyring_url=keyring or f"sqlite:{self.keyring}",
            data_dir=self.data,
        )

    def files(self) -> list[str]:
        return sorted(str(file) for file in self.data.parent.rglob("*"))


@pytest.fixture
async def place(store_url: str, short_path: Path) -> AsyncIterator[Place]:
    client = await connect(StoreTarget.parse(store_url), connections=4, timeout_seconds=5.0)
    yield Place(client, store_url, short_path)
    await client.aclose()


async def used(place: Place) -> bytes:
    """A store with one sealed value in it; that value."""
    vault = await place.open()
    sealed = vault.seal(await vault.key(7, "mail.0"), b"text", "7/mail/0")
    await vault.aclose()
    return sealed


async def test_a_fresh_store_gets_its_keys_once(place: Place) -> None:
    """The next start opens what the first one sealed."""
    sealed = await used(place)
    vault = await place.open()
    assert await vault.open_any(sealed, "7/mail/0") == b"text"
    key = await vault.key(7, "mail.0")
    assert vault.cached_key(7, "mail.0") == key
    assert await place.client.get(SCHEMA_KEY.format(bot_id=BOT)) == b"%d" % SCHEMA_VERSION
    await vault.aclose()


async def test_many_values_are_opened_together_and_a_broken_one_is_left_out(place: Place) -> None:
    """One turn that does not open must not take the others with it."""
    vault = await place.open()
    one, two = await vault.key(7, "talk.0"), await vault.key(7, "talk.1")
    sealed = [(vault.seal(key, b"%d" % n, f"7/{n}"), f"7/{n}") for n, key in enumerate((one, one, two, one, two))]
    sealed[1] = (sealed[1][0], "7/elsewhere")
    sealed.append((b"\x01", "7/5"))
    await vault.destroy(7, "talk.1")
    assert await vault.open_all(sealed) == [b"0", None, None, b"3", None, None]
    await vault.aclose()


async def test_a_destroyed_key_leaves_nothing_readable(place: Place) -> None:
    """Forgetting destroys the key first: what remains in files and backups cannot be read."""
    sealed = await used(place)
    vault = await place.open()
    other = vault.seal(await vault.key(8, "mail.0"), b"text", "8/mail/0")
    assert await vault.destroy(7) == 1
    with pytest.raises(SealBrokenError, match="destroyed"):
        await vault.open_any(sealed, "7/mail/0")
    assert await vault.open_any(other, "8/mail/0") == b"text"
    await vault.aclose()


async def test_garbage_does_not_open(place: Place) -> None:
    """What was not sealed here is refused in the same way."""
    vault = await place.open()
    for garbage in (b"", b"\x01", b"\x02" * 80, b"\x01" * 80):
        with pytest.raises(SealBrokenError):
            await vault.open_any(garbage, "here")
    await vault.aclose()


async def refused(
    place: Place, error: type[Exception], match: str, *, master: Path | None = None, keyring: str | None = None
) -> None:
    """The start is refused with a sentence, and touches nothing: no file, no key of the store."""
    files, keys = place.files(), await place.client.dbsize()
    with pytest.raises(error, match=match):
        await place.open(master=master, keyring=keyring)
    assert place.files() == files
    assert await place.client.dbsize() == keys


async def test_a_missing_master_key_is_refused(place: Place) -> None:
    """A new one in its place would seal a store that nobody can open any more."""
    await used(place)
    place.master.rename(place.master.with_name("away"))
    await refused(place, MasterKeyMissingError, "MASTER_KEY_FILE")


async def test_a_missing_keyring_is_refused(place: Place) -> None:
    """The same for the keyring."""
    await used(place)
    place.keyring.rename(place.keyring.with_name("away"))
    await refused(place, KeyringUnavailableError, "KEYRING_URL")


async def test_another_master_key_is_refused(place: Place) -> None:
    """The store knows its master key by a fingerprint."""
    await used(place)
    elsewhere = Place(place.client, place.url, place.data)
    await place.client.rename(IDENTITY_KEY.format(bot_id=BOT), "away")
    await place.client.delete(SCHEMA_KEY.format(bot_id=BOT))
    await (await elsewhere.open()).aclose()
    await place.client.rename("away", IDENTITY_KEY.format(bot_id=BOT))
    await refused(place, MasterKeyWrongError, "MASTER_KEY_FILE", master=_moved(elsewhere, place))


def _moved(elsewhere: Place, place: Place) -> Path:
    target = place.master.with_name("other.key")
    return elsewhere.master.rename(target)


async def test_another_keyring_of_the_same_master_key_is_refused(place: Place) -> None:
    """A fresh keyring would hide that the right one is gone."""
    await used(place)
    from storage.keyring import MasterKey, open_keyring

    url = f"sqlite:{place.keyring.with_name('second.db')}"
    await (await open_keyring(url, MasterKey.load(place.master), create=True)).aclose()
    await refused(place, KeyringUnavailableError, "KEYRING_URL", keyring=url)


async def test_an_old_keyring_without_its_master_key_is_refused_for_a_fresh_store(place: Place) -> None:
    """A new master key must not take the place of one that may still turn up."""
    await used(place)
    place.master.rename(place.master.with_name("away"))
    await place.client.flushall()
    await refused(place, MasterKeyMissingError, "put that back")


async def test_a_fresh_store_takes_the_keys_that_are_there(place: Place) -> None:
    """A wiped store goes on with the same keys."""
    sealed = await used(place)
    await place.client.flushall()
    vault = await place.open()
    assert await vault.open_any(sealed, "7/mail/0") == b"text"
    await vault.aclose()


async def test_keys_inside_the_data_folder_are_refused(place: Place) -> None:
    """Its backups would carry the keys beside what they lock; a symbolic link does not hide that."""
    link = place.data.parent / "link"
    link.symlink_to(place.data)
    await refused(place, StoreRefusedError, "MASTER_KEY_FILE", master=place.data / "master.key")
    await refused(place, StoreRefusedError, "MASTER_KEY_FILE", master=link / "deeper" / "master.key")
    await refused(place, StoreRefusedError, "KEYRING_URL", keyring=f"sqlite:{link}/keyring.db")


async def test_a_master_key_that_others_may_read_is_refused(place: Place) -> None:
    """The cure is a command to type."""
    await used(place)
    place.master.chmod(0o644)
    await refused(place, MasterKeyWrongError, "chmod 600")


async def test_a_keyring_in_the_store_itself_is_refused(place: Place) -> None:
    """One server's backup must not hold both."""
    with pytest.raises(KeyringError, match="second server"):
        await place.open(keyring=place.url)


async def test_a_keyring_on_a_second_server_serves(place: Place, start_valkey: Callable[..., str]) -> None:
    """Replicas on several machines share it."""
    url = start_valkey("--appendonly", "yes", "--appendfsync", "always")
    first, second = await asyncio.gather(place.open(keyring=url), place.open(keyring=url))
    sealed = first.seal(await first.key(7, "n"), b"text", "here")
    assert await second.open_any(sealed, "here") == b"text"
    await first.aclose()
    await second.aclose()
    await refused(place, KeyringUnavailableError, "KEYRING_URL", keyring=start_valkey())


STARTER = """
import asyncio, sys
from pathlib import Path
from storage.connection import StoreTarget, connect
from storage.vault import open_vault

async def start():
    url, root = sys.argv[1], Path(sys.argv[2])
    client = await connect(StoreTarget.parse(url), connections=2, timeout_seconds=5.0)
    vault = await open_vault(client, 4242, master_key_file=root / "secrets" / "master.key",
                             keyring_url=f"sqlite:{root}/secrets/keyring.db", data_dir=root / "data")
    print((await vault.key(7, "n")).id.hex(), vault.keyring.identity)
    await vault.aclose()
    await client.aclose()

asyncio.run(start())
"""


def test_processes_that_start_at_once_agree(valkey_url: str, short_path: Path, project_root: Path) -> None:
    """On a fresh store all of them use the keys that the first one made."""
    command = [sys.executable, "-c", STARTER, valkey_url, str(short_path)]
    running = [
        subprocess.Popen(command, cwd=project_root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ends = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0], ends
    assert len({out for out, _ in ends}) == 1


def test_machines_that_start_at_once_with_keys_of_their_own_do_not_both_begin(
    valkey_url: str, short_path: Path, project_root: Path
) -> None:
    """The first one's keys stand; the other is refused in words, and made no file that looks like a key."""
    roots = [short_path / name for name in ("a", "b", "c")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, valkey_url, str(root)],
            cwd=project_root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for root in roots
    ]
    ends = [process.communicate(timeout=60) for process in running]
    assert sorted(process.returncode for process in running) == [0, 1, 1], ends
    assert sum((root / "secrets").exists() for root in roots) == 1
    assert all("MasterKeyMissingError" in error for out, error in ends if not out)
