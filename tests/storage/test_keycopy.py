"""Keyrings copied and made out of copies: whole or not at all, from either kind into either kind."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage import keyring_redis
from storage.connection import StoreTarget, connect
from storage.errors import KeyringError, KeyringUnavailableError, SealBrokenError
from storage.keyrecord import KeyringRecord, KeyRow
from storage.keyring import Keyring, MasterKey, open_keyring, restore_keyring
from storage.masterkey import add_next, keep_only

Start = Callable[..., str]
Copy = tuple[KeyringRecord, list[KeyRow]]
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def master(tmp_path: Path) -> MasterKey:
    return MasterKey.create(tmp_path / "secrets" / "master.key")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process is not waited for as long as several machines are."""
    monkeypatch.setattr(keyring_redis, "TRUSTED_SECONDS", 0.05)


@pytest.fixture(params=["file", "server"])
def source(request: pytest.FixtureRequest, tmp_path: Path, start_valkey: Start) -> str:
    """Where a keyring is."""
    return f"sqlite:{tmp_path / 'secrets' / 'keyring.db'}" if request.param == "file" else start_valkey(*DURABLE)


@pytest.fixture(params=["file", "server"])
def target(request: pytest.FixtureRequest, tmp_path: Path, start_valkey: Start) -> str:
    """Where none is."""
    return f"sqlite:{tmp_path / 'restored' / 'keyring.db'}" if request.param == "file" else start_valkey(*DURABLE)


async def copied(keyring: Keyring) -> Copy:
    record = await keyring.record()
    return record, [row async for row in keyring.rows(record)]


async def given(rows: list[KeyRow], then: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[KeyRow]:
    for row in rows:
        yield row
    if then is not None:
        await then()


async def filled(url: str, master: MasterKey) -> tuple[Keyring, dict[tuple[str, str], bytes]]:
    """A keyring with freed slots, groups and days; the ids of its keys."""
    keyring = await open_keyring(url, master, create=True)
    names = [
        (str(number % 9), f"talk.{number % 4}/{20_000 + number}" if number % 3 else "mail") for number in range(90)
    ]
    ids = {place: (await keyring.obtain(*place)).id for place in dict.fromkeys(names)}
    await keyring.destroy("8")
    return keyring, {place: key_id for place, key_id in ids.items() if place[0] != "8"}


async def test_a_copy_makes_the_same_keyring_of_either_kind(source: str, target: str, master: MasterKey) -> None:
    """Every key under its name and id, with its group and day; what was destroyed is not in it."""
    keyring, ids = await filled(source, master)
    record, rows = await copied(keyring)
    assert {row.id for row in rows} == set(ids.values())
    assert await restore_keyring(target, record, given(rows)) == len(ids)
    restored = await open_keyring(target, master, create=False)
    assert restored.identity == keyring.identity
    assert await restored.count() == len(ids)
    for (owner, name), key_id in ids.items():
        found, old = await restored.found(owner, name), await keyring.found(owner, name)
        assert found is not None
        assert old is not None
        assert (found.id, found.secret) == (key_id, old.secret)
        assert await restored.by_id(key_id) == found
    assert sorted((await copied(restored))[1]) == sorted(rows)
    for asked in (keyring, restored):
        assert await asked.destroy("1", groups=["talk.1", "mail"]) > 0
        assert await asked.expire(20_040) > 0
        assert await asked.expire(20_060, "2") > 0
    assert sorted(row.id for row in (await copied(restored))[1]) == sorted(row.id for row in (await copied(keyring))[1])
    await keyring.aclose()
    await restored.aclose()


async def test_a_copy_of_a_rotated_keyring_opens_with_the_new_master_key(
    source: str, target: str, master: MasterKey, tmp_path: Path
) -> None:
    """Also one that is taken while a rotation is under way: no row needs the former key."""
    keyring, ids = await filled(source, master)
    path = tmp_path / "secrets" / "master.key"
    following = add_next(path).fingerprints()[1]
    await keyring.switch(await keyring.record(), following)
    record, rows = await copied(keyring)
    assert record.former
    await restore_keyring(target, record, given(rows))
    await keyring.aclose()
    keep_only(path, following)
    restored = await open_keyring(target, MasterKey.load(path), create=False)
    for (owner, name), key_id in ids.items():
        assert (await restored.obtain(owner, name)).id == key_id
    for row in rows:
        with pytest.raises(SealBrokenError):
            master.unwrap(row.wrapped, row.id + row.name)
    await restored.aclose()


async def test_a_copy_taken_while_others_write_holds_all_that_stands(source: str, master: MasterKey) -> None:
    """Keys that are made and destroyed meanwhile take none of the others along."""
    keyring, ids = await filled(source, master)
    beside = await open_keyring(source, master, create=False)
    record = await keyring.record()
    rows: dict[bytes, KeyRow] = {}
    number = 0
    async for row in keyring.rows(record):
        rows[row.id] = row
        number += 1
        if number < 20:
            await beside.obtain("new", f"n/{number}")
    await beside.destroy("new")
    assert set(ids.values()) <= set(rows)
    assert all(row.name == rows[row.id].name for row in (await copied(beside))[1])
    await keyring.aclose()
    await beside.aclose()


async def test_a_keyring_is_never_written_over(source: str, master: MasterKey) -> None:
    """Refused in words, and what stands is as it was; so are remains of one that is gone."""
    keyring, ids = await filled(source, master)
    record, rows = await copied(keyring)
    with pytest.raises(KeyringUnavailableError, match="already"):
        await restore_keyring(source, record, given([]))
    assert await keyring.count() == len(ids)
    await keyring.aclose()
    if source.startswith("sqlite:"):
        path = Path(source.removeprefix("sqlite:"))
        await asyncio.to_thread(path.rename, path.with_name("away.db"))
        path.with_name("keyring.db-wal").touch()
        with pytest.raises(KeyringUnavailableError, match=r"keyring\.db-wal already"):
            await restore_keyring(source, record, given(rows))
        assert sorted(file.name for file in path.parent.iterdir()) == ["away.db", "keyring.db-wal", "master.key"]


async def test_a_server_with_foreign_keys_of_the_same_names_is_refused(start_valkey: Start, master: MasterKey) -> None:
    """They may be what is left of a keyring whose record was lost."""
    url = start_valkey(*DURABLE)
    client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5.0)
    await client.set("keyring:name:00", "x")
    with pytest.raises(KeyringUnavailableError, match="already"):
        await restore_keyring(url, KeyringRecord("id", master.fingerprint()), given([]))
    assert await client.get("keyring:name:00") == b"x"
    await client.aclose()


async def test_a_restore_that_failed_leaves_no_keyring_and_may_be_done_again(
    source: str, target: str, master: MasterKey, tmp_path: Path
) -> None:
    """Before it is whole no service takes it for a keyring, nor makes one in its place on that server."""
    keyring, ids = await filled(source, master)
    record, rows = await copied(keyring)
    await keyring.aclose()

    async def cut() -> None:
        raise KeyringUnavailableError("The copy ends here.")

    stray = [row._replace(id=os.urandom(16), name=os.urandom(16), group=os.urandom(16)) for row in rows * 10]
    with pytest.raises(KeyringUnavailableError, match="ends here"):
        await restore_keyring(target, record, given(stray, cut))
    with pytest.raises(KeyringUnavailableError):
        await open_keyring(target, master, create=False)
    if target.startswith("sqlite:"):
        assert list((tmp_path / "restored").iterdir()) == []
    else:
        with pytest.raises(KeyringUnavailableError, match="cut off"):
            await open_keyring(target, master, create=True)
    assert await restore_keyring(target, record, given(rows)) == len(ids)
    restored = await open_keyring(target, master, create=False)
    assert {row.id for row in (await copied(restored))[1]} == set(ids.values())
    await restored.aclose()


async def test_of_two_restores_at_once_one_stands(target: str, source: str, master: MasterKey) -> None:
    """Never a mixture."""
    keyring, ids = await filled(source, master)
    record, rows = await copied(keyring)
    await keyring.aclose()
    done = await asyncio.gather(
        *(restore_keyring(target, record, given(rows)) for _ in range(2)), return_exceptions=True
    )
    assert [found for found in done if isinstance(found, int)] == [len(ids)]
    assert [found for found in done if isinstance(found, KeyringUnavailableError)]
    restored = await open_keyring(target, master, create=False)
    assert await restored.count() == len(ids)
    await restored.aclose()


@pytest.mark.parametrize(
    "change",
    [
        {"id": b"short"},
        {"owner": bytes(16)},
        {"owner": b""},
        {"name": bytes(15)},
        {"group": bytes(16)},
        {"wrapped": bytes(59)},
        {"day": -1},
        {"day": 2**32},
    ],
)
async def test_a_damaged_copy_is_refused(
    source: str, target: str, master: MasterKey, change: dict[str, bytes | int]
) -> None:
    """Rows that no keyring wrote: nothing is made of them."""
    keyring, _ = await filled(source, master)
    record, rows = await copied(keyring)
    await keyring.aclose()
    with pytest.raises(KeyringError, match="damaged"):
        await restore_keyring(target, record, given([*rows, rows[0]._replace(**change)]))  # type: ignore[arg-type]
    with pytest.raises(KeyringUnavailableError):
        await open_keyring(target, master, create=False)


async def test_a_restored_file_is_private_and_written_ahead(tmp_path: Path, master: MasterKey) -> None:
    """As one that the service made: otherwise old pages would go to a journal beside it."""
    url = f"sqlite:{tmp_path / 'secrets' / 'keyring.db'}"
    keyring, _ = await filled(url, master)
    path = tmp_path / "restored" / "keyring.db"
    record, rows = await copied(keyring)
    await restore_keyring(f"sqlite:{path}", record, given(rows))
    await keyring.aclose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keyring.db"]
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_the_last_copy_is_remembered(source: str, master: MasterKey) -> None:
    """`keys status` tells how old it is."""
    keyring = await open_keyring(source, master, create=True)
    assert await keyring.copied_at() == 0
    await keyring.note_copy(1_800_000_000)
    assert await keyring.copied_at() == 1_800_000_000
    await keyring.aclose()
