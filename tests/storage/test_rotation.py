"""A new master key: nothing is lost or left behind, whatever runs beside it and wherever it is killed."""

import asyncio
import base64
import contextlib
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from storage import keyring_redis
from storage.connection import StoreTarget, connect
from storage.errors import (
    KeyringUnavailableError,
    MasterKeyMissingError,
    MasterKeyWrongError,
    SealBrokenError,
    StoreRefusedError,
)
from storage.keyring import Keyring, MasterKey, open_keyring
from storage.masterkey import add_next, file_lock, keep_only
from storage.rotation import KeyPlaces, Rotated, Way, rotate
from storage.schema import IDENTITY_KEY, Identity, move_identity, read_identity
from storage.vault import Vault, open_vault

BOT = 4242


@dataclass
class House:
    """A store, and where its keys are."""

    client: Redis
    store_url: str
    places: KeyPlaces

    async def open(self, *, master: Path | None = None) -> Vault:
        places = self.places
        return await open_vault(
            self.client,
            BOT,
            master_key_file=master or places.master_key_file,
            keyring_url=places.keyring_url,
            data_dir=places.data_dir,
        )

    async def rotate(self, way: Way = Way.NOW) -> Rotated:
        return await rotate(self.client, BOT, self.places, way, lambda _seen, _total: None)

    async def keyring(self) -> Keyring:
        return await open_keyring(self.places.keyring_url, MasterKey.load(self.places.master_key_file), create=False)

    def bytes(self) -> bytes:
        """All that lies where the keys are."""
        return files_in(self.places.master_key_file.parent)


def files_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".shm")


@pytest.fixture
async def place(valkey_url: str, short_path: Path) -> AsyncIterator[Callable[[str], House]]:
    client = await connect(StoreTarget.parse(valkey_url), connections=4, timeout_seconds=5.0)
    secrets = short_path / "secrets"

    def at(url: str) -> House:
        return House(client, valkey_url, KeyPlaces(secrets / "master.key", url, short_path / "data"))

    yield at
    await client.aclose()


@pytest.fixture(params=["file", "server"])
def house(
    request: pytest.FixtureRequest,
    place: Callable[[str], House],
    start_valkey: Callable[..., str],
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    """With each kind of keyring in turn."""
    monkeypatch.setattr(keyring_redis, "TRUSTED_SECONDS", 0.1)
    if request.param == "file":
        return place(f"sqlite:{short_path / 'secrets' / 'keyring.db'}")
    return place(start_valkey("--appendonly", "yes", "--appendfsync", "always"))


@pytest.fixture
def file_house(place: Callable[[str], House], short_path: Path) -> House:
    return place(f"sqlite:{short_path / 'secrets' / 'keyring.db'}")


async def furnished(house: House, count: int = 40) -> list[bytes]:
    """Sealed values, one under each key."""
    vault = await house.open()
    names = [f"talk/{number % 7}" if number % 2 else f"talk.{number}" for number in range(count)]
    keys = await asyncio.gather(*(vault.key(number, name) for number, name in enumerate(names)))
    sealed = [vault.seal(key, b"text %d" % number, "here") for number, key in enumerate(keys)]
    await vault.aclose()
    return sealed


async def opens(house: House, sealed: list[bytes]) -> None:
    """Whoever starts now opens all of it."""
    vault = await house.open()
    try:
        for number, value in enumerate(sealed):
            assert await vault.open_any(value, "here") == b"text %d" % number
    finally:
        await vault.aclose()


async def wrapped_forms(house: House) -> set[bytes]:
    keyring = await house.keyring()
    try:
        return {row.wrapped async for row in keyring.rows(await keyring.record())}
    finally:
        await keyring.aclose()


async def test_a_rotation_leaves_everything_readable_under_a_new_master_key(house: House) -> None:
    """Names find their keys as before: what they go by does not change."""
    sealed = await furnished(house)
    old, before = MasterKey.load(house.places.master_key_file), await wrapped_forms(house)
    done = await house.rotate()
    assert done == Rotated(done=True, epoch=2, keys=40, broken=0)
    new = MasterKey.load(house.places.master_key_file)
    assert len(new.fingerprints()) == 1
    assert new.fingerprint() != old.fingerprint()
    await opens(house, sealed)
    identity = await read_identity(house.client, BOT)
    assert identity is not None
    assert identity.master == new.fingerprint()
    assert not before & await wrapped_forms(house)
    vault = await house.open()
    assert (await vault.key(4, "talk.4")).id == sealed[4][1:17]
    assert await vault.destroy(1, groups=["talk"]) == 1
    assert await vault.expire(5) > 0
    await vault.aclose()
    assert (await house.rotate()).epoch == 3


async def test_the_old_master_key_opens_nothing_any_more(house: House) -> None:
    """Neither keyring nor store takes it, and the rows do not open with it."""
    await furnished(house)
    kept = house.places.master_key_file.with_name("kept.key")
    kept.write_bytes(house.places.master_key_file.read_bytes())
    kept.chmod(0o600)
    await house.rotate()
    old = MasterKey.load(kept)
    with pytest.raises(MasterKeyWrongError, match="keys rotate"):
        await house.open(master=kept)
    with pytest.raises(MasterKeyWrongError):
        await open_keyring(house.places.keyring_url, old, create=False)
    keyring = await house.keyring()
    async for row in keyring.rows(await keyring.record()):
        with pytest.raises(SealBrokenError):
            old.unwrap(row.wrapped, row.id + row.name)
    await keyring.aclose()


async def test_no_wrapped_form_of_before_stays_in_the_files(file_house: House) -> None:
    """Overwritten where they lay, the log emptied; the old secret is in no file either. Two rotations, as the second
    one has a names key to replace."""
    await furnished(file_house, 1500)
    beside = await file_house.open()  # whoever closes the file last empties its log in any case
    for _ in range(2):
        before = await wrapped_forms(file_house)
        secret = file_house.places.master_key_file.read_text().rpartition(":")[2].strip()
        keyring = await file_house.keyring()
        names = (await keyring.record()).names
        await keyring.aclose()
        await file_house.rotate()
        content = file_house.bytes()
        assert not [form for form in before if form in content]
        assert not names or names not in content
        raw = base64.urlsafe_b64decode(secret)
        assert secret.encode() not in content
        assert raw not in content
        after = await wrapped_forms(file_house)
        assert {content.count(form) for form in after} == {1}
    await beside.aclose()


async def test_no_wrapped_form_of_before_stays_on_the_server(
    place: Callable[[str], House], start_valkey: Callable[..., str]
) -> None:
    """Its append-only file is rewritten."""
    url = start_valkey("--appendonly", "yes", "--appendfsync", "always")
    house = place(url)
    await furnished(house)
    before = await wrapped_forms(house)
    await house.rotate()
    content = files_in(Path(url.removeprefix("unix://")).parent / "appendonlydir")
    assert not [form for form in before if form.hex().encode() in content]
    assert all(form.hex().encode() in content for form in await wrapped_forms(house))


async def test_a_service_beside_a_rotation_never_fails_a_request(house: House) -> None:
    """It makes, opens and destroys keys all the while."""
    sealed = await furnished(house, 400)
    beside = await house.open()
    made: dict[int, bytes] = {}
    stop = asyncio.Event()

    async def work(worker: int) -> None:
        number = worker * 1_000_000
        while not stop.is_set():
            number += 1
            key = await beside.key(number, "talk/7")
            made[number] = beside.seal(key, b"new", "here")
            at = (number * 13) % len(sealed)
            assert await beside.open_any(sealed[at], "here") == b"text %d" % at
            if number % 5 == 0:
                assert await beside.destroy(number, "talk/7") == 1
                del made[number]

    workers = [asyncio.create_task(work(worker)) for worker in (1, 2, 3)]
    for epoch in (2, 3, 4):
        assert (await house.rotate()).epoch == epoch
    stop.set()
    await asyncio.gather(*workers)
    await beside.aclose()
    await opens(house, sealed)
    after = await house.open()
    assert len(made) > 10
    assert {await after.open_any(value, "here") for value in made.values()} == {b"new"}
    assert await after.keyring.count() == len(sealed) + len(made)
    await after.aclose()


async def test_no_key_is_made_under_a_master_key_that_was_given_up(house: House) -> None:
    """Not even by a process that has not noticed yet, and does not look."""
    await furnished(house, 3)
    old = MasterKey.load(house.places.master_key_file)
    beside, turning = await house.keyring(), await house.keyring()
    await beside.obtain("before", "n")
    add_next(house.places.master_key_file)
    record = await turning.record()
    following = MasterKey.load(house.places.master_key_file).fingerprints()[1]
    await turning.switch(record, following)
    key = await beside.obtain("after", "n")
    assert await beside.obtain("before", "n") == await turning.found("before", "n")
    assert await turning.found("after", "n") == key
    keyring = await house.keyring()
    rows = {row.id: row async for row in keyring.rows(await keyring.record())}
    with pytest.raises(SealBrokenError):
        old.unwrap(rows[key.id].wrapped, key.id + rows[key.id].name)
    with pytest.raises(KeyringUnavailableError, match="begin again"):
        await turning.switch(record, following)
    with pytest.raises(KeyringUnavailableError, match="begin again"):
        _ = [step async for step in turning.rewrap(record)]
    with pytest.raises(KeyringUnavailableError, match="begin again"):
        _ = [row async for row in turning.rows(record)]
    for opened in (beside, turning, keyring):
        await opened.aclose()


async def test_what_is_at_hand_serves_while_the_master_key_file_is_away(file_house: House) -> None:
    """After a rotation it is needed for other keys only; with the file they can be had again."""
    await furnished(file_house, 3)
    beside = await file_house.open()
    key = await beside.key(0, "talk.0")
    await file_house.rotate()
    path = file_house.places.master_key_file
    away = path.rename(path.with_name("away.key"))
    assert await beside.key(0, "talk.0") == key == beside.cached_key(0, "talk.0")
    for name in ("talk.2", "new"):
        with pytest.raises(MasterKeyMissingError):
            await beside.key(2, name)
    away.rename(path)
    assert await beside.key(2, "talk.2")
    assert await beside.key(2, "new")
    await beside.aclose()


async def test_a_key_destroyed_during_a_rotation_does_not_come_back(house: House) -> None:
    """Between reading a row and writing it anew."""
    sealed = await furnished(house, 30)
    add_next(house.places.master_key_file)
    turning, beside = await house.keyring(), await house.open()
    record = await turning.record()
    record = await turning.switch(record, MasterKey.load(house.places.master_key_file).fingerprints()[1])
    async for _ in turning.rewrap(record):
        assert await beside.destroy(7) in {0, 1}
    for value in sealed[7:8]:
        with pytest.raises(SealBrokenError, match="destroyed"):
            await beside.open_any(value, "here")
    assert await turning.count() == 29
    await turning.aclose()
    await beside.aclose()


async def test_a_machine_without_the_new_key_is_told_and_goes_on_when_it_has_it(
    place: Callable[[str], House], start_valkey: Callable[..., str], short_path: Path
) -> None:
    """Where a server is the keyring, each machine has a file of its own."""
    house = place(start_valkey("--appendonly", "yes", "--appendfsync", "always"))
    sealed = await furnished(house)
    elsewhere = short_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    copy = elsewhere / "master.key"

    def carried() -> None:
        copy.unlink(missing_ok=True)
        copy.touch(0o600)
        copy.write_bytes(house.places.master_key_file.read_bytes())

    carried()
    other = await house.open(master=copy)
    with pytest.raises(StoreRefusedError, match="No rotation"):
        await house.rotate(Way.FINISH)
    for _ in range(2):
        assert not (await house.rotate(Way.BEGIN)).done
    await opens(house, sealed)
    assert (await house.rotate(Way.FINISH)).done
    with pytest.raises(MasterKeyWrongError, match="copy it from the machine"):
        await other.open_any(sealed[3], "here")
    with pytest.raises(MasterKeyWrongError):
        await other.key(99, "n")
    carried()
    assert await other.open_any(sealed[3], "here") == b"text 3"
    assert await other.key(99, "n")
    await other.aclose()


KILLED = """
import asyncio, os, signal, sys
from functools import wraps
from pathlib import Path
from storage import keyring_redis, keyring_sqlite, masterkey, rotation
from storage.connection import StoreTarget, connect

point, store_url, master, keyring_url, data = sys.argv[1:]
keyring_sqlite._ROWS_AT_ONCE = keyring_redis.ROWS_AT_ONCE = 10
written = 0

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(module, name, *, before=False):
    work = getattr(module, name)
    def sync(*args, **more):
        found = None if before else work(*args, **more)
        die()
        return found
    async def later(*args, **more):
        found = None if before else await work(*args, **more)
        die()
        return found
    setattr(module, name, later if asyncio.iscoroutinefunction(work) else sync)

kinds = (keyring_sqlite.SqliteKeyring, keyring_redis.RedisKeyring)
match point:
    case "file": dying(rotation, "add_next")
    case "switch": [dying(kind, "switch") for kind in kinds]
    case "last":
        dying(keyring_sqlite.SqliteKeyring, "_settle", before=True)
        dying(keyring_redis.RedisKeyring, "_rewritten", before=True)
    case "settled": dying(rotation, "_moved", before=True)
    case "store": dying(rotation, "_moved")
    case "retire": dying(rotation, "keep_only")

async def main():
    client = await connect(StoreTarget.parse(store_url), connections=2, timeout_seconds=5.0)
    places = rotation.KeyPlaces(Path(master), keyring_url, Path(data))
    await rotation.rotate(client, 4242, places, rotation.Way.NOW, die if point == "batch" else lambda *_: None)

asyncio.run(main())
"""


@pytest.mark.parametrize("point", ["file", "switch", "batch", "last", "settled", "store", "retire"])
async def test_a_rotation_that_was_killed_is_ended_by_the_next(house: House, point: str, project_root: Path) -> None:
    """Whatever stands then, a service starts and opens everything, and nothing of the first key is left at the end."""
    sealed = await furnished(house)
    first, before = MasterKey.load(house.places.master_key_file).fingerprint(), await wrapped_forms(house)
    places = house.places
    given = [point, house.store_url, str(places.master_key_file), places.keyring_url, str(places.data_dir)]
    command = [sys.executable, "-c", KILLED, *given]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=project_root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    beside = await house.open()
    assert await beside.open_any(sealed[5], "here") == b"text 5"
    sealed.append(beside.seal(await beside.key(900, "n"), b"text 40", "here"))
    await opens(house, sealed)
    assert (await house.rotate()).done
    assert await beside.open_any(sealed[39], "here") == b"text 39"
    await beside.aclose()
    await opens(house, sealed)
    now = MasterKey.load(places.master_key_file).fingerprints()
    assert len(now) == 1
    assert first not in now
    identity = await read_identity(house.client, BOT)
    assert identity is not None
    assert (identity.master,) == now
    assert not before & await wrapped_forms(house)
    assert sorted(file.suffix for file in places.master_key_file.parent.iterdir() if file.suffix == ".key") == [".key"]
    assert not [file for file in places.master_key_file.parent.iterdir() if file.name.startswith(".")]


async def test_two_rotations_at_once_are_one(house: House) -> None:
    """Two new secrets, one in the file and the other in the keyring, would lock everybody out."""
    sealed = await furnished(house)
    done = await asyncio.gather(*(house.rotate() for _ in range(3)), return_exceptions=True)
    refused = [error for error in done if isinstance(error, KeyringUnavailableError)]
    assert len(refused) < 3
    assert all("Another process" in str(error) for error in refused)
    assert len(refused) + sum(isinstance(found, Rotated) for found in done) == 3
    await opens(house, sealed)


async def test_a_store_behind_its_keyring_is_taken(house: House) -> None:
    """An old backup of the store, put back, names a master key of before; with another keyring's it is refused."""
    sealed = await furnished(house)
    behind = await read_identity(house.client, BOT)
    assert behind is not None
    await house.rotate()
    await house.rotate()
    ahead = await read_identity(house.client, BOT)
    assert ahead is not None
    assert await move_identity(house.client, BOT, ahead, behind)
    await opens(house, sealed)
    assert await move_identity(house.client, BOT, behind, replace(behind, master="0" * 32))
    with pytest.raises(MasterKeyWrongError, match="another master key"):
        await house.open()


async def test_a_store_ahead_of_its_keyring_is_taken_while_the_file_has_both_keys(file_house: House) -> None:
    """A keyring put back from a backup made before the new master key."""
    sealed = await furnished(file_house)
    following = add_next(file_house.places.master_key_file).fingerprints()[1]
    standing = await read_identity(file_house.client, BOT)
    assert standing is not None
    assert await move_identity(file_house.client, BOT, standing, replace(standing, master=following))
    await opens(file_house, sealed)
    assert (await file_house.rotate()).done
    await opens(file_house, sealed)


async def test_a_row_that_does_not_open_is_counted_and_left(file_house: House) -> None:
    """It was broken before; the others are not held up by it."""
    sealed = await furnished(file_house)
    path = file_house.places.master_key_file.with_name("keyring.db")
    with contextlib.closing(sqlite3.connect(path)) as writer, writer:
        writer.execute("UPDATE data_key SET wrapped = randomblob(60) WHERE id = ?", (sealed[7][1:17],))
    assert await file_house.rotate() == Rotated(done=True, epoch=2, keys=40, broken=1)
    await opens(file_house, sealed[:7])


async def test_nothing_is_rotated_where_nothing_was_stored_or_the_key_is_wrong(file_house: House) -> None:
    """Refused in words, and nothing is made or touched."""
    with pytest.raises(StoreRefusedError, match="not used"):
        await file_house.rotate()
    assert not file_house.places.master_key_file.exists()
    await furnished(file_house)
    path = file_house.places.master_key_file
    right = path.rename(path.with_name("right.key"))
    before = files_in(path.parent)
    with pytest.raises(MasterKeyMissingError):
        await file_house.rotate()
    assert files_in(path.parent) == before
    MasterKey.create(path)
    before = files_in(path.parent)
    with pytest.raises(MasterKeyWrongError):
        await file_house.rotate()
    assert files_in(path.parent) == before
    right.replace(path)
    with file_lock(path), pytest.raises(KeyringUnavailableError, match="Another process"):
        await file_house.rotate()


def test_a_master_key_file_keeps_one_secret_or_two(tmp_path: Path) -> None:
    """Written whole, private, and only what is asked for is given up; a link stays a link."""
    target, path = tmp_path / "there" / "master.key", tmp_path / "master.key"
    first = MasterKey.create(target).fingerprint()
    path.symlink_to(target)
    both = add_next(path).fingerprints()
    assert both[0] == first
    assert add_next(path).fingerprints() == both
    assert path.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(MasterKeyWrongError):
        keep_only(path, "0" * 32)
    assert MasterKey.load(path).fingerprints() == both
    keep_only(path, both[1])
    assert MasterKey.load(path).fingerprints() == both[1:]
    assert path.is_symlink()
    assert "rotation" not in target.read_text()
    assert [file.name for file in target.parent.iterdir()] == ["master.key"]


@pytest.mark.parametrize("change", ["swapped", "cut", "same", "three", "only next"])
def test_a_damaged_file_with_two_secrets_is_refused(tmp_path: Path, change: str) -> None:
    """Which one wraps must not be guessed."""
    path = tmp_path / "master.key"
    MasterKey.create(path)
    add_next(path)
    head, note, one, two = path.read_text().splitlines()
    lines = {
        "swapped": [head, note, two, one],
        "cut": [head, note, one, two[:-6]],
        "same": [head, note, one, two.partition(":")[0] + ":" + one.partition(":")[2]],
        "three": [head, note, one, two, two],
        "only next": [head, two],
    }
    path.write_text("\n".join(lines[change]) + "\n")
    with pytest.raises(MasterKeyWrongError, match="damaged"):
        MasterKey.load(path)


async def test_the_record_moves_only_from_what_was_read(valkey: Redis) -> None:
    """A compare and set: of two that move it, one does."""
    one, two, three = (Identity(master=name, keyring="k") for name in ("m1", "m2", "m3"))
    assert not await move_identity(valkey, BOT, one, two)
    await valkey.set(IDENTITY_KEY.format(bot_id=BOT), '{"master":"m1",  "keyring":"k"}')
    assert await move_identity(valkey, BOT, one, two)
    assert not await move_identity(valkey, BOT, one, three)
    assert await read_identity(valkey, BOT) == two
    assert await move_identity(valkey, BOT, one, two)
