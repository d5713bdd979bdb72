"""A copy of a store fits itself, is refused when a byte of it is not as it was, and comes back whole or not at all."""

import asyncio
import base64
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage import keys as keys_module
from storage import schema
from storage.backup import DECIDED, DECIDED_ELSEWHERE, copy_store, talks_of
from storage.backup_file import BackupError, Header, Part, Reader, written
from storage.connection import StoreTarget, connect
from storage.errors import StorageError
from storage.history import REMOVED, StoredTurn
from storage.inbox import Mail
from storage.keynames import DAY_SECONDS
from storage.keys import PARTITIONS, Keys, partition_of
from storage.restore import Restored, Restoring, Unfinished, begin, finish, unfinished
from storage.schema import Identity, read_identity
from tests.storage.conftest import StartServer

BOT, CHAT, GROUP = 4242, 100_001, -1_000_000_000_777
SECRET = b"k" * 32
NOW_S = 1_790_000_000.0
TODAY = int(NOW_S) // DAY_SECONDS
KEYS = Keys(BOT)
OF = KEYS.of(CHAT)
KEEPING = ("--appendonly", "yes", "--appendfsync", "always")


@asynccontextmanager
async def reached(url: str) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(url), connections=4, timeout_seconds=5.0)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def other(start_valkey: StartServer) -> AsyncIterator[Redis]:
    """An empty store to restore into."""
    async with reached(start_valkey(*KEEPING)) as client:
        yield client


def sealed(key: str, content: str = "content") -> bytes:
    """What looks as if a key of that name had sealed it."""
    return b"\x01" + key.encode().ljust(16, b".") + b"n" * 12 + content.encode() + b"t" * 16


def turn(number: int, key: str = "good", day: int = TODAY) -> bytes:
    return StoredTurn(number, (number,), 7, (number + 1000,), sealed(key), day).packed()


async def copied(client: Redis, path: Path) -> dict[str, int]:
    """What the copy says of itself."""
    with written(path, SECRET) as writer:
        writer.begin(Header("store", BOT, 2, "ring", "master", "aa", int(NOW_S)))
        await copy_store(client, KEYS, writer, lambda _: None)
    return writer.counts


async def put_back(client: Redis, path: Path, *, gone: frozenset[str] = frozenset(), keep_days: int = 90) -> Restored:
    """Into an empty store; ``gone``: names of keys that were destroyed since."""
    dead = {name.encode().ljust(16, b".") for name in gone}

    async def stands(key_id: bytes) -> bool:
        return key_id not in dead

    with Reader(path) as reader:
        reader.check(SECRET)
        await unfinished(client, KEYS)
        await begin(client, KEYS, Unfinished(reader.code))
        done = await Restoring(client, KEYS, stands, keep_days=keep_days, now_s=NOW_S).run(reader, lambda _: None)
    await finish(client, KEYS, 2, Identity("master", "ring"))
    return done


async def everything(client: Redis) -> dict[str, Any]:
    """What a store holds, by the names of its keys, with what is kept for a time alone marked."""
    found: dict[str, Any] = {}
    name: Any
    async for name in client.scan_iter("*"):
        kind = str(await client.type(name), "ascii")  # type: ignore[arg-type]
        content: Any = {
            "hash": client.hgetall, "zset": lambda of: client.zrange(of, 0, -1, withscores=True),
            "list": lambda of: client.lrange(of, 0, -1), "string": client.get, "stream": client.xrange,
        }[kind]  # fmt: skip
        found[name.decode()] = (await content(name), await client.pexpiretime(name))
    return found


async def fields_of(client: Redis, chat_id: int = CHAT) -> dict[str, str]:
    found: Mapping[Any, Any] = await client.hgetall(KEYS.of(chat_id).chat)
    return {name.decode(): value.decode("latin-1") for name, value in found.items()}


async def furnish(client: Redis) -> None:
    """Some of each kind."""
    later = int(NOW_S * 1000) + 40 * 365 * DAY_SECONDS * 1000
    await client.hset(
        OF.chat,
        mapping={
            "fence": "9", "epoch": "2", "n:0": "450", "c:0": "3", "newest": "3", "o:0:3": "2", "u:d": "1 2 3 4",
            "done": "9", "language": "es",
        },
    )  # fmt: skip
    await client.hset(OF.turns(0, 3), mapping={str(number): turn(number) for number in range(2, 451)})
    await client.hset(OF.turns(0, 3), "77", REMOVED)
    await client.rpush(OF.past, "0:1:2")
    await client.hset(OF.turns(0, 1), mapping={"1": turn(1), "2": turn(2)})
    await client.zadd(OF.own, {"17": 17, "18": 18})
    await client.zadd(OF.tomb, {"16": 16})
    await client.hset(OF.dead, "5", Mail("update", 5, 1, sealed("good")).packed())
    await client.hset(OF.links, "8", "100002:0")
    await client.pexpireat(OF.links, later)
    await client.hset(OF.notes, "0:3", sealed("good"))
    await client.rpush(OF.remotes, b"0:3:" + sealed("good"))
    await client.zadd(OF.receipts, {"ABCD": 5})
    await client.pexpireat(OF.receipts, later)
    alone = KEYS.of(100_009)
    await client.zadd(alone.receipts, {"EFGH": 6})  # of a chat of which nothing else is left
    await client.hset(KEYS.of(GROUP).chat, mapping={"fence": "1"})
    await client.zadd(KEYS.of(GROUP).ids, {str(number): number for number in range(700)})
    await client.zadd(KEYS.ids, {str(number): number for number in range(1200)})
    await client.zadd(KEYS.removals, {b"7:" + sealed("service"): 7.5})
    await client.hset(KEYS.receipts, mapping={"ABCD": "{}", "ABCD:c": "1"})
    await client.zadd(KEYS.requests, {"ABCD": 5})
    await client.hset(KEYS.api_keys, "id", "{}")
    await client.zadd(OF.seen, {"71": 1_790_000_000_123})
    await client.zadd(OF.trash, {f"{CHAT}:16": 5})
    await client.hset(OF.stats, mapping={"depth": "0", "u:d": "1 2 3 4"})


# ---- what is copied
def test_every_key_of_the_tables_has_its_decision() -> None:
    """Whoever adds a key says whether a backup keeps it; and no decision outlives its key."""
    rows = re.findall(
        r"^([a-z]+(?::\S+)?|ids) +(?:stream|zset|hash|list|string|channel) ", keys_module.__doc__ or "", re.M
    )
    assert len(rows) > 25
    assert set(rows) == set(DECIDED)
    beside = {value.rpartition(":")[2] for name, value in vars(schema).items() if name.endswith("_KEY")}
    assert beside == set(DECIDED_ELSEWHERE)
    assert {text.partition(":")[0].partition(",")[0] for text in DECIDED.values()} == {"kept", "rebuilt", "left"}


async def test_a_store_comes_back_as_it_was_whatever_brand_it_was_and_goes_to(
    store: Redis, other: Redis, tmp_path: Path
) -> None:
    """Content, order, scores and deadlines; what belongs to the moment is made anew."""
    await furnish(store)
    for moment in (KEYS.leader, KEYS.menu, KEYS.api_calls("id", 1), KEYS.export("E"), OF.staged("R")):
        await store.set(moment, "x")
    before = await everything(store)
    counts = await copied(store, tmp_path / "one")
    assert counts == {"chats": 3, "conversations": 2, "turns": 451}
    done = await put_back(other, tmp_path / "one")
    assert (done.turns, done.erased, done.expired, done.api_keys) == (450, 0, 0, 1)
    for moment in (KEYS.leader, KEYS.menu, KEYS.api_calls("id", 1), KEYS.export("E"), OF.staged("R")):
        del before[moment]
    after = await everything(other)
    fresh = {name for name in after if name.rpartition(":")[2] in {"ages", "identity", "schema"}}
    assert {name: content for name, content in after.items() if name not in fresh} == {
        name: (({b"u:d": b"1 2 3 4"}, -1) if name == OF.stats else content) for name, content in before.items()
    }
    listed: list[Any] = [await other.zrange(KEYS.partition("ages", number), 0, -1) for number in range(PARTITIONS)]
    assert sorted(int(chat) for some in listed for chat in some) == [GROUP, CHAT]
    await copied(other, tmp_path / "two")  # and once more, from the one it went to
    async with reached_again(store) as third:
        await put_back(third, tmp_path / "two")
        assert await everything(third) == after


@asynccontextmanager
async def reached_again(client: Redis) -> AsyncIterator[Redis]:
    """The same server, empty."""
    await client.flushall()
    yield client


async def test_turns_that_are_written_meanwhile_make_no_gap(store: Redis, other: Redis, tmp_path: Path) -> None:
    """A chat is copied up to the turn that its own keys name, whatever is written while it is copied."""
    chats = range(CHAT, CHAT + 12)
    stop = asyncio.Event()

    async def writes() -> int:
        number = 0
        while not stop.is_set() or number < 50:
            number += 1
            for chat_id in chats:
                of = KEYS.of(chat_id)
                async with store.pipeline(transaction=True) as together:  # as `finish` does
                    together.hset(of.turns(0, 0), str(number), turn(number))
                    together.hset(of.chat, mapping={"n:0": str(number), "fence": str(number)})
                    await together.execute()
        return number

    writing = asyncio.create_task(writes())
    for _ in range(5):
        await copied(store, tmp_path / "copy")
        await other.flushall()
        await put_back(other, tmp_path / "copy")
        for chat_id in chats:
            fields = await fields_of(other, chat_id)
            numbers = [int(name) for name in await other.hkeys(KEYS.of(chat_id).turns(0, 0))]
            assert sorted(numbers) == list(range(1, int(fields.get("n:0", "0")) + 1))
        (tmp_path / "copy").unlink()
    stop.set()
    assert await writing >= 50


# ---- the file
async def test_no_byte_can_be_changed_or_left_out(store: Redis, tmp_path: Path) -> None:
    """A code over everything, under a key that is not in the file."""
    await furnish(store)
    await copied(store, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(200):
        at = draw.randrange(len(content))
        changed = bytearray(content)
        changed[at] ^= 1 << draw.randrange(8)
        for altered in (bytes(changed), content[:at], content[:at] + content[at + 1 :], content + content[at:]):
            (tmp_path / "altered").write_bytes(altered)
            with pytest.raises(BackupError), Reader(tmp_path / "altered") as reader:
                reader.check(SECRET)
    with pytest.raises(BackupError, match="altered"), Reader(tmp_path / "whole") as reader:
        reader.check(b"another key")


def test_a_newer_form_is_told_in_words(tmp_path: Path) -> None:
    """It says what to do."""
    (tmp_path / "newer").write_bytes(b'{"format":"telegram-support-backup","version":2}\n')
    with pytest.raises(BackupError, match="newer version"):
        Reader(tmp_path / "newer")


def test_a_copy_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Neither whole nor in part, and never over another one."""
    with pytest.raises(StorageError), written(tmp_path / "copy", SECRET):
        raise StorageError("away")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(BackupError, match="already"), written(tmp_path / "copy", SECRET):
        pass
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


# ---- all or nothing
async def test_a_restore_that_died_anywhere_is_no_store_and_begins_anew(
    store: Redis, other: Redis, tmp_path: Path
) -> None:
    """Until it is whole no service takes it for one; another restore comes to the same end."""
    await furnish(store)
    await copied(store, tmp_path / "copy")
    await put_back(other, tmp_path / "copy")
    whole = await everything(other)
    await other.flushall()
    with Reader(tmp_path / "copy") as reader:
        total = len(list(reader.parts()))
    for deaths in range(0, total, 3):
        with Reader(tmp_path / "copy") as reader:
            reader.check(SECRET)
            await begin(other, KEYS, Unfinished(reader.code))
            with pytest.raises(_DiedError):
                await Restoring(other, KEYS, _all_stand, keep_days=90, now_s=NOW_S).run(Dying(reader, deaths), _told)
        with pytest.raises(StorageError):
            await read_identity(other, BOT)
        found = await unfinished(other, KEYS)
        assert found is not None
        assert found.restoring
    await put_back(other, tmp_path / "copy")
    assert await everything(other) == whole
    with pytest.raises(BackupError, match="holds data"):
        await unfinished(other, KEYS)


class _DiedError(Exception):
    pass


class Dying(Reader):
    """Ends after some parts; what was read until then is on its way."""

    def __init__(self, whole: Reader, after: int) -> None:
        super().__init__(whole.path)
        self._after = after

    def parts(self) -> Iterator[Part]:
        try:
            for number, part in enumerate(super().parts()):
                if number == self._after:
                    raise _DiedError
                yield part
        finally:
            self.close()


async def _all_stand(_: bytes) -> bool:
    return True


def _told(_: int) -> None:
    pass


async def test_a_store_in_use_by_this_bot_is_no_place_and_that_of_another_is(store: Redis) -> None:
    """Two bots may share a server."""
    await store.set("tg:{4243}:menu", "x")
    await store.set("tg:{4243.5}:stats", "x")
    assert await unfinished(store, KEYS) is None
    await store.hset(KEYS.of(CHAT).chat, "fence", "1")
    with pytest.raises(BackupError, match="holds data"):
        await unfinished(store, KEYS)


# ---- what was erased since
async def back(store: Redis, other: Redis, tmp_path: Path, *gone: str, keep_days: int = 90) -> Restored:
    await copied(store, tmp_path / "copy")
    return await put_back(other, tmp_path / "copy", gone=frozenset(gone), keep_days=keep_days)


async def test_what_is_gone_in_front_is_left_as_a_retention_leaves_it(
    store: Redis, other: Redis, tmp_path: Path
) -> None:
    """The window begins where the turns do, and no notes tell of those before."""
    await store.hset(OF.chat, mapping={"fence": "5", "n:0": "5", "c:0": "1", "s:0": "4"})
    await store.hset(OF.chat, "r:0", base64.b64encode(sealed("good")))
    turns = {number: turn(number, "old" if number < 3 else "good") for number in range(1, 6)}
    await store.hset(OF.turns(0, 1), mapping={str(number): value for number, value in turns.items()})
    await store.hset(OF.notes, "0:1", sealed("good"))
    done = await back(store, other, tmp_path, "old")
    fields = await fields_of(other)
    assert (fields["n:0"], fields["s:0"], fields["o:0:1"], fields["c:0"]) == ("5", "3", "3", "1")
    assert "r:0" not in fields
    assert not await other.exists(OF.notes)
    assert sorted(map(int, await other.hkeys(OF.turns(0, 1)))) == [3, 4, 5]
    assert (done.erased, done.turns, done.forgotten) == (2, 3, 0)


async def test_what_is_gone_in_between_leaves_its_numbers(store: Redis, other: Redis, tmp_path: Path) -> None:
    """As an exchange that was forgotten on its own."""
    await store.hset(OF.chat, mapping={"fence": "5", "n:0": "5"})
    turns = {number: turn(number, "week" if number in {3, 4} else "good") for number in range(1, 6)}
    await store.hset(OF.turns(0, 0), mapping={str(number): value for number, value in turns.items()})
    await back(store, other, tmp_path, "week")
    assert await other.hmget(OF.turns(0, 0), ["1", "2", "3", "4", "5"]) == [
        turns[1], turns[2], REMOVED, REMOVED, turns[5],
    ]  # fmt: skip
    assert (await fields_of(other))["n:0"] == "5"


async def test_a_conversation_of_which_nothing_opens_is_no_more(store: Redis, other: Redis, tmp_path: Path) -> None:
    """Its topic gets a number that nobody had; the other conversations stay."""
    await store.hset(
        OF.chat, mapping={"fence": "5", "n:0": "2", "c:0": "4", "newest": "4", "n:7": "1", "c:7": "2", "g:0:4:9": "1"}
    )
    await store.rpush(OF.past, "0:1:1", "0:3:1")
    for topic, number, last, key in ((0, 4, 2, "bad"), (7, 2, 1, "good"), (0, 1, 1, "good"), (0, 3, 1, "bad")):
        values: dict[Any, Any] = {str(one): turn(one, key) for one in range(1, last + 1)}
        await store.hset(OF.turns(topic, number), mapping=values)
    done = await back(store, other, tmp_path, "bad")
    fields = await fields_of(other)
    assert {"n:0", "s:0", "g:0:4:9"}.isdisjoint(fields)
    assert (fields["c:0"], fields["newest"], fields["n:7"]) == ("5", "5", "1")
    assert await other.lrange(OF.past, 0, -1) == [b"0:1:1"]
    assert not await other.exists(OF.turns(0, 4), OF.turns(0, 3))
    assert (done.conversations, done.turns, done.erased, done.forgotten) == (2, 2, 3, 0)


async def test_a_chat_of_which_nothing_opens_is_left_as_forgotten(store: Redis, other: Redis, tmp_path: Path) -> None:
    """No language, no consent, no numbers to be used again; what was used, and receipts, stay."""
    await store.hset(
        OF.chat,
        mapping={
            "fence": "5", "epoch": "1", "n:0": "1", "c:0": "4", "newest": "4", "language": "es", "u:d": "1 2 3 4",
            "turn": "t", "take": "1", "mid:0": "5",
        },
    )  # fmt: skip
    await store.hset(OF.chat, "rights", base64.b64encode(sealed("bad")))
    await store.hset(OF.chat, "record", sealed("bad"))
    await store.hset(OF.turns(0, 4), "1", turn(1, "bad"))
    await store.rpush(OF.mail, Mail("update", 5, 1, sealed("bad")).packed())
    await store.zadd(OF.receipts, {"ABCD": 5})
    done = await back(store, other, tmp_path, "bad")
    assert await fields_of(other) == {"fence": "5", "epoch": "2", "base": "6", "newest": "6", "u:d": "1 2 3 4"}
    assert not await other.exists(OF.mail, OF.turns(0, 4))
    assert await other.zcard(OF.receipts) == 1
    assert (done.forgotten, done.waiting) == (1, 0)


async def test_who_waits_becomes_ready_once_and_is_counted(store: Redis, other: Redis, tmp_path: Path) -> None:
    """Mail, an open turn, or a forget under way; whatever the copy said of where they stood."""
    items = [Mail("update", 1, 1, sealed("gone")), Mail("update", 2, 1, sealed("good")), Mail("sweep", above=3)]
    await store.rpush(OF.mail, *(item.packed() for item in items))
    await store.hset(OF.chat, mapping={"fence": "5", "entry": "later", "until": "9", "halt": "1"})
    of_turn, of_forget = KEYS.of(CHAT + 1), KEYS.of(CHAT + 2)
    opened: dict[Any, Any] = {"fence": "2", "entry": "1-1", "turn": "t", "record": sealed("good"), "take": "2"}
    await store.hset(of_turn.chat, mapping=opened)
    await store.rpush(of_turn.mail, *(item.packed() for item in items[:2]))
    await store.hset(of_forget.chat, mapping={"fence": "2", "forget": "{}"})
    done = await back(store, other, tmp_path, "gone")
    assert done.waiting == 3
    for chat_id in (CHAT, CHAT + 1, CHAT + 2):
        of, fields = KEYS.of(chat_id), await fields_of(other, chat_id)
        found: Any = await other.xrange(of.ready)
        entries = dict(found)
        assert entries[fields["entry"].encode()] == {b"chat": b"%d" % chat_id}
        assert {"until", "halt"}.isdisjoint(fields)
    assert (await fields_of(other, CHAT + 1))["take"] == "1"
    depths: dict[int, int] = {}
    for chat_id, count in ((CHAT, 2), (CHAT + 1, 1)):
        depths[partition_of(chat_id)] = depths.get(partition_of(chat_id), 0) + count
    for partition, depth in depths.items():
        assert await other.hget(KEYS.partition("stats", partition), "depth") == b"%d" % depth


async def test_what_is_too_old_by_now_does_not_come_back(store: Redis, other: Redis, tmp_path: Path) -> None:
    """By the operator's rule, or the customer's shorter one."""
    for chat_id, keep in ((CHAT, "0"), (CHAT + 1, "10")):
        of = KEYS.of(chat_id)
        await store.hset(of.chat, mapping={"fence": "5", "n:0": "3", "keep": keep})
        days = {"1": TODAY - 40, "2": TODAY - 20, "3": TODAY}
        await store.hset(of.turns(0, 0), mapping={name: turn(int(name), day=day) for name, day in days.items()})
    done = await back(store, other, tmp_path, keep_days=30)
    assert sorted(await other.hkeys(OF.turns(0, 0))) == [b"2", b"3"]
    assert sorted(await other.hkeys(KEYS.of(CHAT + 1).turns(0, 0))) == [b"3"]
    assert (await fields_of(other, CHAT + 1))["o:0:0"] == "3"
    assert (done.expired, done.erased) == (3, 0)


def test_conversations_are_listed_as_the_chat_lists_them() -> None:
    """Current ones by their number or the chat's base, ended ones by their entry."""
    found = talks_of({b"n:0": b"3", b"base": b"2", b"n:5": b"1", b"c:5": b"9"}, [b"5:7:4"])
    assert [(talk.topic, talk.number, talk.last, talk.current) for talk in found] == [
        (0, 2, 3, True), (5, 9, 1, True), (5, 7, 4, False),
    ]  # fmt: skip
