"""A store's layout moves forward only, one step after the other, whoever starts when."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from storage import schema
from storage.errors import SchemaTooNewError, StorageError, StoreUnavailableError
from storage.history import History
from storage.keys import Keys
from storage.schema import (
    IDENTITY_KEY,
    LOCK_KEY,
    SCHEMA_KEY,
    Identity,
    Step,
    claim_identity,
    read_identity,
    read_version,
    schema_lock,
    upgrade,
)
from storage.scripts import Store
from storage.upgrades import date_turns

BOT = 4242
ONE = Identity(master="m1", keyring="k1")
TWO = Identity(master="m2", keyring="k2")


@pytest.fixture(autouse=True)
def first_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """These stores begin with version 1, whatever the newest is."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 1)


def noting(name: str) -> Step:
    async def step(client: Redis, bot_id: int) -> None:
        await client.rpush(f"steps:{bot_id}", name)
        await asyncio.sleep(0)

    return step


async def ran(store: Redis) -> list[bytes]:
    return [step for step in await store.lrange(f"steps:{BOT}", 0, -1) if isinstance(step, bytes)]


async def test_the_first_record_stands(store: Redis) -> None:
    """Of two that claim a fresh store, both learn whose it is."""
    assert await read_identity(store, BOT) is None
    found = await asyncio.gather(*(claim_identity(store, BOT, identity) for identity in (ONE, TWO, ONE)))
    assert len(set(found)) == 1
    assert await read_identity(store, BOT) == found[0]


async def test_two_bots_have_a_record_each(store: Redis) -> None:
    """Every key carries the bot's id."""
    await claim_identity(store, BOT, ONE)
    assert await read_identity(store, BOT + 1) is None
    for key in (IDENTITY_KEY, SCHEMA_KEY, LOCK_KEY):
        assert key.format(bot_id=BOT).startswith("tg:{4242}:")


async def test_a_damaged_record_is_told_in_words(store: Redis) -> None:
    """No traceback, and never taken for a fresh store."""
    await store.set(IDENTITY_KEY.format(bot_id=BOT), "{}")
    with pytest.raises(StorageError, match="damaged"):
        await read_identity(store, BOT)


async def test_a_record_lost_beside_its_version_is_no_fresh_store(store: Redis) -> None:
    """New keys for a store that is in use would lock everybody out."""
    await claim_identity(store, BOT, ONE)
    await store.delete(IDENTITY_KEY.format(bot_id=BOT))
    with pytest.raises(StorageError, match="restore a backup"):
        await claim_identity(store, BOT, TWO)


async def test_steps_run_in_order_and_once(store: Redis) -> None:
    """From version 1 to the newest."""
    await claim_identity(store, BOT, ONE)
    assert await upgrade(store, BOT, []) == 0
    assert await upgrade(store, BOT, [noting("a")]) == 1
    assert await upgrade(store, BOT, [noting("a"), noting("b"), noting("c")]) == 2
    assert await upgrade(store, BOT, [noting("a"), noting("b"), noting("c")]) == 0
    assert await ran(store) == [b"a", b"b", b"c"]
    assert await read_version(store, BOT) == 4


async def test_processes_that_start_together_upgrade_once(store: Redis) -> None:
    """Under a lock."""
    await claim_identity(store, BOT, ONE)
    steps = [noting("a"), noting("b")]
    counts = await asyncio.gather(*(upgrade(store, BOT, steps) for _ in range(5)))
    assert sum(counts) == 2
    assert await ran(store) == [b"a", b"b"]
    assert await store.get(LOCK_KEY.format(bot_id=BOT)) is None


async def test_a_step_that_fails_is_repeated_by_the_next_start(store: Redis) -> None:
    """The version moves after the step: hence each step does no harm when it runs again."""

    async def failing(client: Redis, bot_id: int) -> None:
        raise StoreUnavailableError("cut")

    await claim_identity(store, BOT, ONE)
    with pytest.raises(StoreUnavailableError):
        await upgrade(store, BOT, [noting("a"), failing])
    assert await read_version(store, BOT) == 2
    assert await upgrade(store, BOT, [noting("a"), noting("b")]) == 1
    assert await ran(store) == [b"a", b"b"]


async def test_who_lost_the_lock_cannot_move_the_version(store: Redis) -> None:
    """A process frozen in the middle of a step must not undo what another did meanwhile."""

    async def overtaken(client: Redis, bot_id: int) -> None:
        await client.set(LOCK_KEY.format(bot_id=bot_id), "somebody else")

    await claim_identity(store, BOT, ONE)
    with pytest.raises(StoreUnavailableError, match="took over"):
        await upgrade(store, BOT, [overtaken])
    assert await read_version(store, BOT) == 1
    assert await store.get(LOCK_KEY.format(bot_id=BOT)) == b"somebody else"


async def test_a_newer_store_is_refused(store: Redis) -> None:
    """An older service would misread it."""
    await claim_identity(store, BOT, ONE)
    await upgrade(store, BOT, [noting("a"), noting("b")])
    with pytest.raises(SchemaTooNewError) as caught:
        await upgrade(store, BOT, [noting("a")])
    assert (caught.value.found, caught.value.known) == (3, 2)


async def test_the_lock_lives_as_long_as_its_holder(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewed while held: a long step keeps it; a dead holder loses it."""
    monkeypatch.setattr(schema, "LOCK_MS", 200)
    async with schema_lock(store, BOT) as token:
        await asyncio.sleep(0.6)
        assert await store.get(LOCK_KEY.format(bot_id=BOT)) == token.encode()
    await store.set(LOCK_KEY.format(bot_id=BOT), "dead", px=150)
    async with asyncio.timeout(5), schema_lock(store, BOT):
        pass


async def test_waiting_for_the_lock_is_bounded(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start ends with a sentence rather than never."""
    monkeypatch.setattr(schema, "_WAIT_SECONDS", 0.2)
    await store.set(LOCK_KEY.format(bot_id=BOT), "busy")
    with pytest.raises(StoreUnavailableError, match="start again later"):
        async with schema_lock(store, BOT):
            pass


async def test_turns_of_version_1_are_dated_and_their_chats_listed(store: Redis) -> None:
    """From 1 to 2: a turn's age counts from the upgrade; what is sealed stays as it is; twice does no harm."""
    keys = Keys(BOT)
    name = keys.of(7).turns(0, 0)
    sealed = bytes(range(256))
    await store.hset(name, mapping={"1": b"11,12|5|13,14\n" + sealed, "2": b"|0|\n" + sealed, "3": b"-"})
    await store.hset(keys.of(7).chat, "fence", 1)
    await date_turns(store, BOT)
    await date_turns(store, BOT)
    history = History(Store(store), keys)
    today = int(time.time()) // 86_400
    first, second = await history.read(7, 0, 0, 1, 3)
    assert (first.question_ids, first.tokens, first.answer_ids, first.record) == ((11, 12), 5, (13, 14), sealed)
    assert (second.question_ids, second.answer_ids, second.record) == ((), (), sealed)
    assert {first.day, second.day} <= {today, today - 1}
    assert await store.zscore(keys.of(7).ages, "7") is not None


async def test_a_half_restored_store_says_so(store: Redis) -> None:
    """Nothing is built on it, and the sentence names the way out."""
    await store.set(IDENTITY_KEY.format(bot_id=BOT), '{"restoring": "a copy", "keys": ""}')
    with pytest.raises(StorageError, match="not finished: type the same command again"):
        await read_identity(store, BOT)
