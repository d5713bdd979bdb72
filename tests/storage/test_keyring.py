"""Data keys: the same for everybody, durable when given out, and gone without a trace when destroyed."""

import asyncio
import contextlib
import json
import os
import pickle
import random
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from storage import keyring_layout, keyring_redis, keyring_sqlite
from storage.connection import StoreTarget, connect
from storage.datakey import Cache, DataKey, fresh_key
from storage.errors import KeyringUnavailableError, MasterKeyMissingError, MasterKeyWrongError, SealBrokenError
from storage.keyring import Keyring, MasterKey, SqliteKeyring, keyring_file, open_keyring

Open = Callable[[], Awaitable[Keyring]]


@pytest.fixture
def master(tmp_path: Path) -> MasterKey:
    return MasterKey.create(tmp_path / "secrets" / "master.key")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "keyring.db"


def marked(master: MasterKey, *words: str) -> bytes:
    """What stands for a name in a keyring of that master key."""
    return master.first_names().mark(*words)


async def opening(url: str, master: MasterKey) -> AsyncIterator[Open]:
    opened: list[Keyring] = []

    async def open_one() -> Keyring:
        opened.append(await open_keyring(url, master, create=True))
        return opened[-1]

    yield open_one
    for keyring in opened:
        await keyring.aclose()


@pytest.fixture
async def open_file(master: MasterKey, path: Path) -> AsyncIterator[Open]:
    async for opener in opening(f"sqlite:{path}", master):
        yield opener


@pytest.fixture
async def open_server(master: MasterKey, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    monkeypatch.setattr(keyring_redis, "TRUSTED_SECONDS", 0.2)
    async for opener in opening(valkey_url, master):
        yield opener


@pytest.fixture
async def open_server7(master: MasterKey, redis7_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    monkeypatch.setattr(keyring_redis, "TRUSTED_SECONDS", 0.2)
    async for opener in opening(redis7_url, master):
        yield opener


@pytest.fixture(params=["file", "server", "server7"])
def open_one(request: pytest.FixtureRequest) -> Open:
    """Opens the same keyring again and again, as several processes do; each kind in turn."""
    opener: Open = request.getfixturevalue(f"open_{request.param}")
    return opener


@pytest.fixture(params=["valkey", "redis7"])
def open_either(request: pytest.FixtureRequest) -> tuple[Open, str]:
    """Opens a keyring on a server of each kind in turn; the server's address."""
    opener: Open = request.getfixturevalue({"valkey": "open_server", "redis7": "open_server7"}[request.param])
    return opener, request.getfixturevalue(f"{request.param}_url")


async def test_everybody_gets_the_same_key(open_one: Open) -> None:
    """Of many that ask at once, in several processes, the first creates and all use that one."""
    first, second = await open_one(), await open_one()
    asked = [keyring.obtain("4242/1", "mail.0") for keyring in (first, second) for _ in range(20)]
    keys = await asyncio.gather(*asked)
    assert len({key.id for key in keys}) == 1
    sealed = keys[0].cipher.encrypt(bytes(12), b"text", None)
    assert keys[-1].cipher.decrypt(bytes(12), sealed, None) == b"text"
    assert first.identity == second.identity


async def test_each_name_has_its_own_key(open_one: Open) -> None:
    """A key seals one conversation: destroying it spares the others."""
    keyring = await open_one()
    names = [("1", "mail.0"), ("1", "mail.1"), ("11", "mail.0"), ("1m", "ail.0")]
    keys = [await keyring.obtain(*name) for name in names]
    assert len({key.id for key in keys}) == len(names)


async def test_keys_outlive_the_process(open_one: Open) -> None:
    """What is given out is on disk."""
    first = await open_one()
    key = await first.obtain("1", "n")
    await first.aclose()
    await first.aclose()
    again = await open_one()
    assert (await again.obtain("1", "n")).id == key.id


async def test_a_key_is_found_by_its_id(open_one: Open) -> None:
    """Sealed content names its key by id only."""
    first, second = await open_one(), await open_one()
    key = await first.obtain("1", "n")
    found = await second.by_id(key.id)
    assert found is not None
    assert found.cipher.decrypt(bytes(12), key.cipher.encrypt(bytes(12), b"text", None), None) == b"text"
    assert await second.by_id(os.urandom(16)) is None


async def test_a_cached_key_needs_no_waiting(open_one: Open) -> None:
    """The hot path has no await."""
    keyring = await open_one()
    assert keyring.cached("1", "n") is None
    key = await keyring.obtain("1", "n")
    assert keyring.cached("1", "n") == key


async def test_an_owner_may_have_more_keys_than_are_read_at_once(open_one: Open) -> None:
    """The newest are read together; an older one is found as well."""
    names = [f"n{number}" for number in range(12)]
    keys = [await (await open_one()).obtain("1", name) for name in names]
    again = await open_one()
    assert [await again.obtain("1", name) for name in names] == keys


async def test_destroying_one_key_or_all_of_an_owner(open_one: Open) -> None:
    """The count is told; others' keys stay."""
    keyring = await open_one()
    keys = {name: await keyring.obtain("1", name) for name in ("a", "b", "c")}
    other = await keyring.obtain("2", "a")
    assert await keyring.destroy("1", "a") == 1
    assert await keyring.by_id(keys["a"].id) is None
    assert await keyring.by_id(keys["b"].id) is not None
    kept = await keyring.obtain("1", "c")
    assert await keyring.destroy("1", marks=await keyring.marks("1", but="c")) == 1
    assert await keyring.by_id(kept.id) == kept
    assert await keyring.destroy("1") == 1
    assert await keyring.destroy("1") == 0
    assert await keyring.by_id(keys["c"].id) is None
    assert await keyring.by_id(other.id) is not None
    assert (await keyring.obtain("1", "a")).id != keys["a"].id


async def test_a_group_is_destroyed_or_spared_with_all_its_days(open_one: Open) -> None:
    """Names, marks and groups may be given together; what is not named stays."""
    keyring = await open_one()
    names = ["talk", "talk/20400", "talk/20401", "talks/20400", "mail", "mail/20400", "notes"]
    keys = {name: await keyring.obtain("1", name) for name in names}
    other = await keyring.obtain("2", "talk/20400")
    assert len({key.id for key in keys.values()}) == len(names)

    async def left() -> list[str]:
        return [name for name, key in keys.items() if await keyring.by_id(key.id) is not None]

    spared = await keyring.marks("1", but="talk")
    assert sorted(spared) == sorted(await keyring.marks("1", *names[3:]))
    assert await keyring.destroy("1", groups=["talk"]) == 3
    assert await left() == names[3:]
    some = await keyring.marks("1", "mail")
    assert await keyring.destroy("1", "notes", marks=some, groups=["talks", "nothing"]) == 3
    assert await left() == ["mail/20400"]
    assert await keyring.by_id(other.id) is not None
    assert await keyring.destroy("1") == 1


async def test_day_nought_is_no_day(open_one: Open) -> None:
    """Both spellings are one name; what is no day is refused."""
    keyring = await open_one()
    key = await keyring.obtain("1", "talk/0")
    assert await keyring.obtain("1", "talk") == key == keyring.cached("1", "talk/00")
    assert await keyring.obtain("1", "talk/7") == await keyring.found("1", "talk/07")
    second = await keyring.obtain("1", "talk/7.2")
    assert second == keyring.cached("1", "talk/07.2") != await keyring.obtain("1", "talk/7")
    assert await keyring.expire(8) == 2
    assert await keyring.obtain("1", "talk/0.1") != key
    assert await keyring.destroy("1", groups=["talk"]) == 2
    for wrong in (
        "talk/",
        "talk/x",
        "talk/7.",
        "talk/.7",
        "talk/7.x",
        "talk/-1",
        "talk/1/2",
        "talk/4294967295",
        "talk/\u0663",
    ):
        with pytest.raises(ValueError, match="day"):
            await keyring.obtain("1", wrong)


async def test_keys_expire_by_their_day(open_one: Open) -> None:
    """Those whose day is over, of one owner or of all; those without a day never."""
    keyring = await open_one()
    keys = {
        (owner, day): await keyring.obtain(owner, f"talk/{day}") for owner in ("1", "2") for day in (0, 255, 256, 20400)
    }

    async def left() -> list[tuple[str, int]]:
        return [place for place, key in keys.items() if await keyring.by_id(key.id) is not None]

    assert await keyring.expire(0) == await keyring.expire(-5) == await keyring.expire(255) == 0
    assert await keyring.expire(0, "1") == await keyring.expire(255, "1") == 0
    assert await left() == list(keys)
    assert await keyring.expire(256, "1") == 1
    assert await left() == [place for place in keys if place != ("1", 255)]
    assert await keyring.expire(257) == 3
    assert await left() == [(owner, day) for owner in ("1", "2") for day in (0, 20400)]
    assert await keyring.expire(2**40) == 2
    assert await left() == [("1", 0), ("2", 0)]
    assert await keyring.expire(2**40) == 0
    assert (await keyring.obtain("1", "talk/255")).id != keys["1", 255].id


async def test_an_expired_key_is_gone_for_every_process(open_one: Open) -> None:
    """As after a destruction: no process goes on with the one it has at hand."""
    first, second = await open_one(), await open_one()
    key = await first.obtain("1", "n/20400")
    await second.obtain("1", "n/20400")
    assert second.cached("1", "n/20400") is not None
    assert await first.expire(20401) == 1
    assert second.cached("1", "n/20400") is None
    assert await second.by_id(key.id) is None


async def test_a_destroyed_key_is_gone_for_every_process(open_one: Open) -> None:
    """Nothing written before a /forget can be read after it, by no process that had the key at hand."""
    first, second = await open_one(), await open_one()
    key = await first.obtain("1", "n")
    await second.obtain("1", "n")
    assert second.cached("1", "n") is not None
    await first.destroy("1")
    assert second.cached("1", "n") is None
    assert await second.by_id(key.id) is None
    assert (await second.obtain("1", "n")).id != key.id


async def test_a_cancelled_asker_does_not_harm_the_others(open_one: Open) -> None:
    """A creation belongs to all that wait for it."""
    keyring = await open_one()
    first = asyncio.ensure_future(keyring.obtain("1", "n"))
    second = asyncio.ensure_future(keyring.obtain("1", "n"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).id == (await keyring.obtain("1", "n")).id


async def test_keys_at_once_share_a_transaction(open_file: Open, path: Path) -> None:
    """A burst of new chats pays for one fsync, not for one each."""
    keyring = await open_file()
    for number in range(20):
        await keyring.obtain("alone", str(number))
    alone = len(raw(path))
    await asyncio.gather(*(keyring.obtain("together", str(number)) for number in range(20)))
    assert len(raw(path)) - alone < alone / 3


async def test_a_given_key_survives_a_kill(master: MasterKey, path: Path, tmp_path: Path, project_root: Path) -> None:
    """On disk before it returns: what was sealed with it must stay readable."""
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from storage.keyring import MasterKey, open_keyring
async def ask():
    master = MasterKey.load(Path(sys.argv[1]))
    keyring = await open_keyring("sqlite:" + sys.argv[2], master, create=True)
    print((await keyring.obtain("1", "n")).id.hex(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(ask())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "secrets" / "master.key"), str(path)]
    given = printed(command, project_root)
    keyring = await open_keyring(f"sqlite:{path}", master, create=False)
    assert (await keyring.obtain("1", "n")).id.hex() == given
    await keyring.aclose()


def printed(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip()


def stored(path: Path) -> set[bytes]:
    """The wrapped form of each key in the keyring."""
    with contextlib.closing(sqlite3.connect(path)) as reader:
        rows = reader.execute("SELECT wrapped FROM data_key WHERE owner != zeroblob(16)").fetchall()
    return {row[0] for row in rows}


def raw(path: Path) -> bytes:
    """All bytes of the keyring's files."""
    return b"".join(
        file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")) if not file.name.endswith("-shm")
    )


async def test_no_copy_of_a_destroyed_key_stays_in_the_files(open_file: Open, path: Path) -> None:
    """Pages split, move and are freed: none keeps an old image, nor does the log."""
    keyring = await open_file()
    await asyncio.gather(*(keyring.obtain(f"chat-{n % 200}", f"{n}") for n in range(1500)))
    wrapped = stored(path)
    assert len(wrapped) == 1500
    assert all(key in raw(path) for key in wrapped)
    for owner in range(0, 200, 2):
        assert await keyring.destroy(f"chat-{owner}") in {7, 8}
        await keyring.obtain(f"late-{owner}", "n")
    content, left = raw(path), stored(path)
    assert len(wrapped - left) == 750
    assert not [key for key in wrapped - left if key in content]


async def test_no_copy_of_an_expired_key_stays_in_the_files(
    open_file: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many steps it takes."""
    monkeypatch.setattr(keyring_sqlite, "_FREE_OVER", keyring_sqlite._FREE_OVER.replace("5000", "50"))
    opened = await open_file()
    await asyncio.gather(*(opened.obtain(f"chat-{n % 20}", f"talk/{20_000 + n}") for n in range(400)))
    wrapped = stored(path)
    assert await opened.expire(20_200) == 200
    content, left = raw(path), stored(path)
    assert len(left) == 200
    assert not [key for key in wrapped - left if key in content]


_FIRST_LAYOUT = """
CREATE TABLE identity (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL, master TEXT NOT NULL, destroyed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE data_key (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE, owner BLOB NOT NULL, name BLOB NOT NULL UNIQUE, wrapped BLOB NOT NULL
);
CREATE INDEX data_key_owner ON data_key (owner);
"""


def first_layout(master: MasterKey, path: Path, count: int, *, freed: int = 0) -> dict[str, bytes]:
    """A keyring as it was made before keys had groups: each name of owner "1", and its key's id."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    keys = {f"talk.0.{number}": fresh_key(master, marked(master, "1", f"talk.0.{number}")) for number in range(count)}
    with contextlib.closing(sqlite3.connect(path)) as writer, writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.executescript(_FIRST_LAYOUT)
        writer.execute("INSERT INTO identity VALUES (1, 'an id', ?, 7)", (master.fingerprint(),))
        writer.execute("PRAGMA secure_delete = OFF")
        numbers = list(range(1, count + 1))
        random.Random(count).shuffle(numbers)  # rows in between others split pages, and leave copies behind
        for number, (name, (key_id, wrapped)) in zip(numbers, keys.items(), strict=True):
            row = (number, key_id, marked(master, "1"), marked(master, "1", name), wrapped)
            writer.execute("INSERT INTO data_key (number, id, owner, name, wrapped) VALUES (?, ?, ?, ?, ?)", row)
        writer.executemany(
            "UPDATE data_key SET id = randomblob(16), owner = zeroblob(16), name = randomblob(16), "
            "wrapped = zeroblob(60) WHERE id = ?",
            [(key_id,) for key_id, _ in list(keys.values())[:freed]],
        )
    return {name: key_id for name, (key_id, _) in list(keys.items())[freed:]}


async def test_a_keyring_without_groups_is_upgraded_when_it_is_opened(
    open_file: Open, master: MasterKey, path: Path
) -> None:
    """Every key stays under its name, each a group of its own and without a day; freed slots are used again."""
    ids = first_layout(master, path, 300, freed=100)
    first, second = await asyncio.gather(open_file(), open_file())
    assert first.identity == second.identity == "an id"
    for name, key_id in ids.items():
        assert (await first.obtain("1", name)).id == key_id
    assert await first.expire(2**40) == 0
    assert len(await second.marks("1", but="talk.0.299")) == 199
    assert await second.destroy("1", groups=["talk.0.299"]) == 1
    size = len(raw(path))
    await asyncio.gather(*(first.obtain("2", f"n/{number}") for number in range(101)))
    await first.destroy("3")
    assert len(raw(path)) == size
    assert await second.destroy("1") == 199
    assert await second.expire(101) == 100


async def test_no_copy_stays_of_rows_that_an_upgrade_moved(open_file: Open, master: MasterKey, path: Path) -> None:
    """Each wrapped key is in the files exactly once afterwards, and not at all once it is destroyed."""
    first_layout(master, path, 2000, freed=20)
    assert any(raw(path).count(key) > 1 for key in stored(path))
    keyring = await open_file()
    wrapped, content = stored(path), raw(path)
    assert len(wrapped) == 1980
    assert {content.count(key) for key in wrapped} == {1}
    await keyring.destroy("1", groups=[f"talk.0.{number}" for number in range(1000)])
    content, left = raw(path), stored(path)
    assert len(left) == 1000
    assert not [key for key in wrapped - left if key in content]


async def test_an_upgrade_that_was_killed_is_ended_by_the_next(
    open_file: Open, master: MasterKey, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the move of the rows and the new writing of the file there may be copies: they do not stay."""
    ids = first_layout(master, path, 2000)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(keyring_layout, "empty_log", killed)
        with pytest.raises(KeyboardInterrupt):
            keyring_layout.open_file(path, master, create=False)
    opened = await open_file()
    content = raw(path)
    assert {content.count(key) for key in stored(path)} == {1}
    assert (await opened.obtain("1", "talk.0.7")).id == ids["talk.0.7"]


async def test_a_keyring_of_another_master_key_is_not_upgraded(master: MasterKey, path: Path, tmp_path: Path) -> None:
    """Refused means untouched."""
    first_layout(master, path, 5)
    before = raw(path)
    other = MasterKey.create(tmp_path / "other" / "master.key")
    with pytest.raises(MasterKeyWrongError):
        await open_keyring(f"sqlite:{path}", other, create=False)
    assert raw(path) == before


async def test_a_keyring_of_a_newer_service_is_refused(open_file: Open, master: MasterKey, path: Path) -> None:
    """An older one would misread it."""
    await open_file()
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA user_version = 9")
    with pytest.raises(KeyringUnavailableError, match="newer"):
        await open_keyring(f"sqlite:{path}", master, create=False)


async def test_keys_of_a_server_made_before_there_were_groups_still_serve(
    open_server: Open, master: MasterKey, valkey_url: str
) -> None:
    """Each name is a group of its own, without a day."""
    opened = await open_server()
    client = await connect(StoreTarget.parse(valkey_url), connections=1, timeout_seconds=5.0)
    ids: dict[str, bytes] = {}
    for name in ("talk.0.0", "talk.0.1", "mail.0"):
        mark = marked(master, "1", name)
        ids[name], wrapped = fresh_key(master, mark)
        await client.set(f"keyring:name:{mark.hex()}", ids[name].hex() + wrapped.hex())
        await client.set(f"keyring:id:{ids[name].hex()}", mark.hex())
        await client.sadd(f"keyring:owner:{marked(master, '1').hex()}", mark.hex())
    await client.aclose()
    await opened.obtain("1", "talk.0.0/20400")
    assert await opened.expire(1, "1") == 0
    assert sorted(await opened.marks("1", but="talk.0.0")) == sorted(await opened.marks("1", "talk.0.1", "mail.0"))
    assert await opened.destroy("1", groups=["talk.0.0"]) == 2
    assert await opened.by_id(ids["talk.0.0"]) is None
    assert (await opened.obtain("1", "mail.0")).id == ids["mail.0"]
    assert await opened.destroy("1") == 2


async def test_freed_room_is_used_again(open_file: Open, path: Path) -> None:
    """The file grows with the chats there are, not with those there were."""
    keyring = await open_file()
    await asyncio.gather(*(keyring.obtain("1", f"{n}") for n in range(300)))
    await keyring.destroy("1")
    size = len(raw(path))
    await asyncio.gather(*(keyring.obtain("2", f"{n}") for n in range(300)))
    await keyring.destroy("3")
    await keyring.destroy("2", "0")
    assert len(raw(path)) <= size * 1.2


async def test_no_copy_of_a_destroyed_key_stays_on_the_server(open_server: Open, valkey_url: str) -> None:
    """The append-only file is rewritten without it."""
    keyring = await open_server()
    key = await keyring.obtain("1", "n")
    kept = await keyring.obtain("2", "n")
    folder = Path(valkey_url.removeprefix("unix://")).parent / "appendonlydir"

    def files() -> bytes:
        return b"".join(file.read_bytes() for file in folder.iterdir())

    assert key.id.hex().encode() in files()
    await keyring.destroy("1")
    assert key.id.hex().encode() not in files()
    assert kept.id.hex().encode() in files()


async def test_a_file_that_is_being_rewritten_is_rewritten_once_more(open_either: tuple[Open, str]) -> None:
    """That one may have begun before the erasure, and the server refuses a second beside it: it was never asked for."""
    opener, url = open_either
    keyring = await opener()
    key = await keyring.obtain("1", "n")
    client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5.0)
    for part in range(20):
        await client.mset({f"filler:{part}:{number}": "x" * 200 for number in range(5000)})  # a rewrite takes a while
    await client.bgrewriteaof()
    assert (await client.info("persistence"))["aof_rewrite_in_progress"]
    await asyncio.gather(keyring.destroy("1"), keyring.destroy("2"))
    await client.aclose()
    folder = Path(url.removeprefix("unix://")).parent / "appendonlydir"
    assert key.id.hex().encode() not in b"".join(file.read_bytes() for file in folder.iterdir())


async def test_the_files_name_no_chat(open_file: Open, path: Path) -> None:
    """Owners and names are marks under a key of the master key."""
    keyring = await open_file()
    await keyring.obtain("4242/100001", "mail.0")
    assert b"100001" not in raw(path)
    assert b"mail.0" not in raw(path)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in path.parent.iterdir())


async def test_a_missing_keyring_is_refused_and_not_made(master: MasterKey, path: Path, valkey_url: str) -> None:
    """An empty keyring in its place would hide that the keys are gone."""
    for url in (f"sqlite:{path}", valkey_url):
        with pytest.raises(KeyringUnavailableError, match="KEYRING_URL"):
            await open_keyring(url, master, create=False)
    assert [file.name for file in path.parent.iterdir()] == ["master.key"]


async def test_another_master_key_is_refused(master: MasterKey, tmp_path: Path, path: Path, valkey_url: str) -> None:
    """A keyring opens with its own master key only."""
    other = MasterKey.create(tmp_path / "other" / "master.key")
    for url in (f"sqlite:{path}", valkey_url):
        await (await open_keyring(url, master, create=True)).aclose()
        for create in (False, True):
            with pytest.raises(MasterKeyWrongError):
                await open_keyring(url, other, create=create)


async def test_a_keyring_server_that_drops_data_is_refused(master: MasterKey, start_valkey: Callable[..., str]) -> None:
    """A dropped key is a conversation lost."""
    with pytest.raises(KeyringUnavailableError, match="allkeys-lru"):
        await open_keyring(start_valkey("--maxmemory-policy", "allkeys-lru"), master, create=True)


async def test_a_keyring_server_tells_its_weaker_durability(
    master: MasterKey, start_valkey: Callable[..., str]
) -> None:
    """`check` shows what a crash of that machine may cost."""
    keyring = await open_keyring(start_valkey("--appendonly", "yes", "--appendfsync", "everysec"), master, create=True)
    assert "one second" in keyring.durability
    await keyring.aclose()


async def test_a_damaged_keyring_is_refused_in_words(master: MasterKey, path: Path) -> None:
    """No traceback of SQLite reaches whoever runs the service."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    await asyncio.to_thread(path.write_bytes, b"no database at all" * 100)
    with pytest.raises(KeyringUnavailableError, match="cannot be used"):
        await open_keyring(f"sqlite:{path}", master, create=False)


async def test_an_altered_key_does_not_open(open_file: Open, path: Path) -> None:
    """A wrapped key is bound to its id and to the name it goes by."""
    keyring = await open_file()
    first = await keyring.obtain("1", "a")
    await keyring.obtain("1", "b")
    await keyring.aclose()
    with sqlite3.connect(path) as writer:
        statement = "UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE id != ?) WHERE id = ?"
        writer.execute(statement, (first.id, first.id))
    writer.close()
    again = await open_file()
    with pytest.raises(SealBrokenError):
        await again.obtain("1", "a")


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite://", "file:x", "http://host"])
def test_a_wrong_keyring_url_is_refused(url: str) -> None:
    """Nothing fails open."""
    with pytest.raises(KeyringUnavailableError, match="KEYRING_URL"):
        keyring_file(url)


def test_a_relative_path_is_meant_from_here() -> None:
    """The default is beside the master key, in a folder of the project."""
    assert keyring_file("sqlite:secrets/keyring.db") == Path("secrets/keyring.db")
    assert keyring_file("sqlite:///var/keyring.db") == Path("/var/keyring.db")
    assert keyring_file("rediss://host") is None


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    """Memory does not grow with the number of chats."""
    cache = Cache(bound=3)
    for number in range(5):
        cache.put(DataKey(bytes([number]), bytes(32)), b"%d" % number)
        cache.named(b"0")
    assert [number for number in range(5) if cache.named(b"%d" % number)] == [0, 3, 4]
    assert cache.with_id(b"\x01") is None


async def test_keys_show_nothing_and_are_not_copied(open_file: Open, master: MasterKey) -> None:
    """No secret appears in any output."""
    key = await (await open_file()).obtain("1", "n")
    assert re.fullmatch(r"DataKey\(\)", repr(key))
    assert repr(master) == "MasterKey(…)"
    for secret in (key, master):
        with pytest.raises(TypeError):
            pickle.dumps(secret)


def test_a_master_key_is_made_once_and_private(tmp_path: Path) -> None:
    """Of two that create it, both get the same; only the owner may read it."""
    path = tmp_path / "new" / "master.key"
    first, second = MasterKey.create(path), MasterKey.create(path)
    assert first.fingerprint() == second.fingerprint() == MasterKey.load(path).fingerprint()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text().startswith("# Master key")
    assert [file.name for file in path.parent.iterdir()] == ["master.key"]
    assert first.fingerprint() not in path.read_text()


def test_a_missing_master_key_is_told(tmp_path: Path) -> None:
    """The sentence says where it was looked for and what to do."""
    with pytest.raises(MasterKeyMissingError, match="MASTER_KEY_FILE"):
        MasterKey.load(tmp_path / "master.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_master_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The cure can be typed as it stands."""
    path = tmp_path / "master.key"
    MasterKey.create(path)
    path.chmod(mode)
    with pytest.raises(MasterKeyWrongError, match=f"chmod 600 {path}"):
        MasterKey.load(path)


@pytest.mark.parametrize("change", ["", "x", "cut", "double", "header"])
def test_a_damaged_master_key_is_refused(tmp_path: Path, change: str) -> None:
    """Half a key, or two, is no key."""
    path = tmp_path / "master.key"
    MasterKey.create(path)
    text = path.read_text()
    line = text.splitlines()[1]
    changed = {"": "", "x": f"{line}x", "cut": line[:-8], "double": f"{text}{line}\n", "header": text.splitlines()[0]}
    path.write_text(changed[change])
    with pytest.raises(MasterKeyWrongError, match="damaged"):
        MasterKey.load(path)


def test_marks_do_not_collide(master: MasterKey) -> None:
    """("a", "bc") and ("ab", "c") are two names."""
    assert marked(master, "a", "bc") != marked(master, "ab", "c") != marked(master, "abc")


async def test_a_full_disk_is_told_as_such(master: MasterKey, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation fails, what is there stays readable, and it goes on once there is room."""
    keyring = await open_keyring(f"sqlite:{path}", master, create=True)
    assert isinstance(keyring, SqliteKeyring)
    key = await keyring.obtain("1", "n")
    pages = keyring._writer.execute("PRAGMA page_count").fetchone()[0]
    keyring._writer.execute(f"PRAGMA max_page_count = {pages}")
    from storage.errors import StoreFullError

    with pytest.raises(StoreFullError):
        await asyncio.gather(*(keyring.obtain("2", str(n)) for n in range(500)))
    assert await keyring.by_id(key.id) is not None
    keyring._writer.execute("PRAGMA max_page_count = 1000000")
    assert await keyring.obtain("2", "0")
    await keyring.aclose()


def test_the_record_of_a_server_tells_no_key(master: MasterKey) -> None:
    """A fingerprint is derived, not cut out of the key."""
    assert re.fullmatch(r"[0-9a-f]{32}", master.fingerprint())
    assert json.dumps(master.fingerprint())
