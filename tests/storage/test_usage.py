"""What chats used: counted once with the turn that used it, in windows that both languages place alike."""

import asyncio
import hashlib
import os
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis

from storage.connection import StoreTarget, connect
from storage.history import header_of
from storage.inbox import Inbox, Mail, Ready
from storage.journal import Change, ChatState, Fate, Journal, Planned, StaleFenceError
from storage.keys import Keys, partition_of
from storage.scripts import Store
from storage.usage import NOTHING, PERIODS, Totals, Used, end_of, used_of, window_of
from tests.storage.conftest import CHAT, OTHER, House

SPEND = (1, 700, 1234)
NEW_YEAR_MS = 1_798_761_600_000  # 2027-01-01 00:00 UTC
READS_CLOCK, SET_CLOCK = "redis.call('TIME')", "{redis.call('GET', 'clock') / 1000, 0}"


def paying(spend: tuple[int, int, int] = SPEND, seq: int = 1) -> Planned:
    return Planned(b"sealed", header_of((11,), 5), 1, 1, "answer", 0, seq, marker=False, change=Change(spend=spend))


def timed(store: Store) -> Store:
    """The same store, where claims, charges and ends of turns happen when the key ``clock`` says (ms)."""
    for name in ("begin", "charge", "erase", "finish"):
        text = store._texts[name]
        assert READS_CLOCK in text
        store._texts[name] = text.replace(READS_CLOCK, SET_CLOCK)
        store._hashes[name] = hashlib.sha1(store._texts[name].encode()).hexdigest()
    return store


def seeded() -> random.Random:
    """Draws from SEED of the environment, or from a random one; printed either way."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"SEED={seed}")
    return random.Random(seed)


async def answered(house: House, spend: tuple[int, int, int] = SPEND, *, seq: int = 1) -> None:
    """One question of the one chat, answered and charged."""
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, f"t{seq}", 0, 40, paying(spend, seq))
    assert await house.journal.finish(state, take=1, turn=f"t{seq}", message_id=40 + seq)


async def seen(house: House) -> dict[str, Used]:
    """What the chat is known to have used, as its next claim finds it."""
    await house.question()
    state = await house.claimed()
    await house.journal.finish(state, take=1)
    return state.used


@pytest.fixture
async def clocked(house: House) -> House:
    """The house in the last second of a year."""
    timed(house.store)
    await house.store.call("SET", "clock", NEW_YEAR_MS - 1000)
    return house


async def test_a_charge_is_applied_once_though_its_turn_is_ended_twice(clocked: House) -> None:
    """No double charge: a reply that was lost on its way makes a worker end its turn again."""
    await clocked.question()
    state = await clocked.claimed()
    await clocked.journal.permit(state, "t1", 0, 40, paying())
    for _ in range(2):
        assert await clocked.journal.finish(state, take=1, turn="t1", message_id=41)
    assert await seen(clocked) == dict.fromkeys(PERIODS, Used(*SPEND))
    assert (await Totals(clocked.store, clocked.keys).sums()).used(state.now_ms) == dict.fromkeys(PERIODS, Used(*SPEND))


async def test_whoever_was_overtaken_charges_nothing_and_its_successor_charges_once(clocked: House) -> None:
    """The charge stands in the journal with the words, and is due when they are said, whoever says them."""
    await clocked.question()
    old = await clocked.claimed()
    await clocked.journal.permit(old, "t1", 0, 40, paying())
    new = await clocked.taken_over(old.ready)
    with pytest.raises(StaleFenceError):
        await clocked.journal.finish(old, take=1, turn="t1", message_id=41)
    assert new.used == dict.fromkeys(PERIODS, NOTHING)
    assert (await clocked.taken_over(old.ready)).used == dict.fromkeys(PERIODS, NOTHING)
    new = await clocked.taken_over(old.ready)
    assert await clocked.journal.finish(new, take=1, turn="t1")
    with pytest.raises(StaleFenceError):
        await clocked.journal.finish(old, take=1, turn="t1", message_id=41)
    assert await seen(clocked) == dict.fromkeys(PERIODS, Used(*SPEND))


async def test_words_that_cannot_be_delivered_are_charged_too(clocked: House) -> None:
    """The model was asked for them: who blocks the bot again and again has no free ride."""
    for seq, fate in ((1, Fate.BLOCKED), (2, Fate.UNDELIVERABLE)):
        await clocked.question()
        state = await clocked.claimed()
        await clocked.journal.permit(state, f"t{seq}", 0, 40, paying(seq=seq))
        await clocked.journal.finish(state, take=1, turn=f"t{seq}", fate=fate)
    assert (await seen(clocked))["d"] == Used(2, 1400, 2468)


async def test_words_that_are_never_said_are_charged_once_for_each_claim(clocked: House) -> None:
    """A reply that was lost may be asked for again; who was overtaken charges nothing."""
    await clocked.question()
    old = await clocked.claimed()
    for _ in range(2):
        await clocked.journal.charge(old, SPEND)
    new = await clocked.taken_over(old.ready)
    assert new.used == dict.fromkeys(PERIODS, Used(*SPEND))
    with pytest.raises(StaleFenceError):
        await clocked.journal.charge(old, SPEND)
    await clocked.journal.charge(new, (0, 1, 10**30))
    expected = Used(*SPEND).plus(Used(0, 1, 10**12))
    assert (await clocked.taken_over(old.ready)).used == dict.fromkeys(PERIODS, expected)
    assert (await Totals(clocked.store, clocked.keys).sums()).used(NEW_YEAR_MS - 1) == dict.fromkeys(PERIODS, expected)


async def test_a_turn_that_is_forgotten_on_its_way_out_is_charged_once(clocked: House) -> None:
    """Its charge was journaled with its words, and goes neither lost with them nor counted by who is late."""
    await clocked.question()
    state = await clocked.claimed()
    await clocked.journal.permit(state, "t1", 0, 40, paying())
    for _ in range(2):
        assert await clocked.journal.erase(state, 1, [], {"set": {}, "del": []})
    assert not await clocked.journal.finish(state, take=1, turn="t1", message_id=41)
    assert (await clocked.taken_over(state.ready)).used == dict.fromkeys(PERIODS, Used(*SPEND))


async def test_a_turn_without_a_charge_leaves_the_counters_alone(clocked: House) -> None:
    """A sentence of our own costs nothing, and a chat that never asks has no counters."""
    await clocked.question()
    state = await clocked.claimed()
    notice = replace(paying(), kind="notice", change=Change({"chosen": "ru"}))
    await clocked.journal.permit(state, "t1", 0, 40, notice)
    await clocked.journal.finish(state, take=1, turn="t1", message_id=41)
    keys = clocked.keys.of(CHAT)
    assert [await clocked.store.call("HEXISTS", key, "u:d") for key in (keys.chat, keys.stats)] == [0, 0]


async def test_a_counter_starts_anew_in_the_next_window_and_not_before(clocked: House) -> None:
    """A limit is over when its minute, day or month is; what was charged in it does not reach into the next one."""
    totals = Totals(clocked.store, clocked.keys)
    await answered(clocked, (1, 10, 100))
    await clocked.store.call("SET", "clock", NEW_YEAR_MS - 1)
    await answered(clocked, (1, 10, 100), seq=2)
    assert await seen(clocked) == dict.fromkeys(PERIODS, Used(2, 20, 200))
    await clocked.store.call("SET", "clock", NEW_YEAR_MS)
    assert await seen(clocked) == dict.fromkeys(PERIODS, NOTHING)
    assert (await totals.sums()).used(NEW_YEAR_MS) == dict.fromkeys(PERIODS, NOTHING)
    for seq, after in enumerate((0, 60_000, 86_400_000), 3):
        await clocked.store.call("SET", "clock", NEW_YEAR_MS + after)
        await answered(clocked, (1, seq, 0), seq=seq)
    expected = {"m": Used(1, 5, 0), "d": Used(1, 5, 0), "M": Used(3, 12, 0)}
    assert await seen(clocked) == expected
    assert (await totals.sums()).used(NEW_YEAR_MS + 86_400_000) == expected


async def test_a_charge_is_counted_at_the_clock_of_the_store(house: House) -> None:
    """Workers' clocks differ: the one of the store decides for all of them."""
    before = (await Totals(house.store, house.keys).sums()).at_ms
    await answered(house)
    after = (await Totals(house.store, house.keys).sums()).at_ms
    for period in PERIODS:
        value = await house.store.call("HGET", house.keys.of(CHAT).chat, f"u:{period}")
        window, *amounts = map(int, value.split())
        assert window_of(period, before) <= window <= window_of(period, after)
        assert tuple(amounts) == SPEND


async def test_a_forget_leaves_what_was_used(clocked: House) -> None:
    """Numbers without content: if they went, a forget would lift every limit."""
    await answered(clocked)
    await clocked.question()
    state = await clocked.claimed()
    assert await clocked.journal.erase(state, 1, [], {"set": {"base": "1", "newest": "1"}, "del": ["n:0", "s:0"]})
    state = await clocked.taken_over(state.ready)
    assert (state.epoch, state.used) == (1, dict.fromkeys(PERIODS, Used(*SPEND)))


async def test_no_report_of_a_chat_api_breaks_a_counter(clocked: House) -> None:
    """Figures that nobody can have used are cut; those that sums can reach keep every digit."""
    await answered(clocked, (1, 10**30, -5))
    assert (await seen(clocked))["M"] == Used(1, 10**12, 0)
    window = window_of("M", NEW_YEAR_MS - 1)
    await clocked.store.call("HSET", clocked.keys.of(CHAT).chat, "u:M", f"{window} 1 2 {8 * 10**15 + 1}")
    await answered(clocked, (1, 1, 2), seq=2)
    assert (await seen(clocked))["M"] == Used(2, 3, 8 * 10**15 + 3)


def random_times(draw: random.Random) -> Iterator[int]:
    """Times from 1970 to 2100 in ms: any, and those around each beginning of a month."""
    for year in range(1970, 2101):
        for month in range(1, 13):
            first = int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
            yield from (first, first + 1, max(first - 1, 0))
    end = int(datetime(2101, 1, 1, tzinfo=UTC).timestamp()) * 1000
    yield from (draw.randrange(end) for _ in range(20_000))


async def test_the_script_and_this_code_agree_on_every_window(store: Redis, project_root: Path) -> None:
    """Leap years included: what one language counts, the other must find again."""
    text = (project_root / "storage" / "lua" / "shared" / "charge.lua").read_text()
    function = re.search(r"^local function windows\(.*?^end$", text, re.MULTILINE | re.DOTALL)
    assert function is not None
    script = f"""{function.group()}
    local found = {{}}
    for _, ms in ipairs(ARGV) do
      local w = windows(tonumber(ms))
      found[#found + 1] = {{w.m, w.d, w.M}}
    end
    return found"""
    times = list(random_times(seeded()))
    for start in range(0, len(times), 1000):
        some = times[start : start + 1000]
        reply = await Store(store).call("EVAL", script, 0, *some)
        assert reply == [[window_of(period, ms) for period in PERIODS] for ms in some]


def test_windows_follow_the_calendar_and_each_other() -> None:
    """A window ends where the next one begins; a month is one of the calendar's."""
    for ms in random_times(seeded()):
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        assert divmod(window_of("M", ms), 12) == (date.year, date.month - 1)
        for period in PERIODS:
            over = end_of(period, ms)
            assert ms < over
            assert (window_of(period, over - 1), window_of(period, over)) == (
                window_of(period, ms),
                window_of(period, ms) + 1,
            )


# ---- many workers that die
CHATS = [CHAT + number for number in range(40)]
QUESTIONS = 5


def spend_of(chat_id: int, seq: int) -> tuple[int, int, int]:
    """Another one for each turn, so that no mistake cancels another out."""
    return 1, 1000 + seq, chat_id % 100 * 10 + seq


@dataclass
class Crew:
    """What workers share: the dice, the frozen turns of others, and how often each fate was met."""

    draw: random.Random
    message_ids: Iterator[int] = field(default_factory=lambda: count(1000))
    frozen: list[AsyncIterator[None]] = field(default_factory=list)
    fates: dict[str, int] = field(default_factory=dict)

    def meets(self, fate: str) -> None:
        self.fates[fate] = self.fates.get(fate, 0) + 1


class Mortal:
    """A worker with connections of its own. Its turns may end, or freeze, between any two steps or within one."""

    def __init__(self, name: str, crew: Crew, store: Store, reader: Redis, keys: Keys) -> None:
        self._name, self._crew, self._reader = name, crew, reader
        self.inbox = Inbox(store, keys, mailbox_cap=100)
        self._journal = Journal(store, keys, sweep_after=())

    async def work(self) -> None:
        """Until all questions are answered. Takes chats over from the dead and from the living alike."""
        draw = self._crew.draw
        while (await self.inbox.depth()).updates:
            found = await self.inbox.claim(self._reader, self._name, 1, 1)
            if not found or draw.random() < 0.1:
                found += await self.inbox.reclaim(self._name, draw.choice((0, 20)))
            for ready in draw.sample(found, len(found)):
                await self._live(self._turn(ready))
            if self._crew.frozen and draw.random() < 0.5:
                self._crew.meets("thawed")
                await self._live(self._crew.frozen.pop(draw.randrange(len(self._crew.frozen))))

    async def _live(self, turn: AsyncIterator[None]) -> None:
        draw, meets = self._crew.draw, self._crew.meets
        while await self._survives(asyncio.ensure_future(anext(turn, False))):
            if draw.random() < 0.15:
                return meets("killed between steps")
            if draw.random() < 0.15:
                self._crew.frozen.append(turn)
                return meets("frozen")
        return None

    async def _survives(self, step: "asyncio.Future[bool | None]") -> bool:
        """Whether another step follows."""
        if self._crew.draw.random() < 0.1:
            for _ in range(self._crew.draw.randrange(8)):
                await asyncio.sleep(0)
            step.cancel()
        await asyncio.wait({step})
        if step.cancelled():
            self._crew.meets("killed within a step")
            return False
        if isinstance(step.exception(), StaleFenceError):
            self._crew.meets("overtaken")
            return False
        return step.result() is not False

    async def _turn(self, ready: Ready) -> AsyncIterator[None]:
        state = await self._journal.begin(ready, 1)
        if state is None:
            await self.inbox.drop(ready)
            return
        yield
        turn = await self._planned(state)
        yield
        message_id = next(self._crew.message_ids)
        for _ in range(2):
            await self._journal.finish(state, take=1, turn=turn, message_id=message_id)
            yield

    async def _planned(self, state: ChatState) -> str:
        if state.open_turn is not None:
            return state.open_turn.turn
        seq = state.last.get(0, 0) + 1
        turn = f"{self._name}.{state.fence}"
        await self._journal.permit(state, turn, 0, 40, paying(spend_of(state.ready.chat_id, seq), seq))
        return turn


@pytest.fixture
async def mortals(store_url: str) -> AsyncIterator[list[Mortal]]:
    """Eight workers of one crew."""
    crew, keys = Crew(seeded()), Keys(7)
    async with AsyncExitStack() as stack:

        async def connected(connections: int) -> Redis:
            client = await connect(StoreTarget.parse(store_url), connections=connections, timeout_seconds=10.0)
            stack.push_async_callback(client.aclose)
            return client

        workers = [
            Mortal(f"w{number}", crew, timed(Store(await connected(2))), await connected(1), keys)
            for number in range(8)
        ]
        yield workers
        for turn in crew.frozen:
            with suppress(StaleFenceError):
                async for _ in turn:
                    pass


async def test_eight_workers_that_die_at_any_step_charge_each_turn_once(mortals: list[Mortal], store: Redis) -> None:
    """No double charge and no free ride, per chat and in total, whoever is killed, frozen or overtaken when."""
    keys, plain = Keys(7), Store(store)
    await plain.call("SET", "clock", NEW_YEAR_MS)
    await mortals[0].inbox.prepare()
    for chat_id in CHATS:
        for number in range(QUESTIONS):
            await mortals[0].inbox.enqueue(chat_id, 0, Mail("update", chat_id * QUESTIONS + number, 1, b"sealed"))
    await asyncio.gather(*(mortal.work() for mortal in mortals))
    total = NOTHING
    for chat_id in CHATS:
        expected = NOTHING
        for seq in range(1, QUESTIONS + 1):
            expected = expected.plus(Used(*spend_of(chat_id, seq)))
        total = total.plus(expected)
        of = keys.of(chat_id)
        fields = {f"u:{period}": await plain.call("HGET", of.chat, f"u:{period}") for period in PERIODS}
        assert await plain.call("HLEN", of.turns(0, 0)) == QUESTIONS
        assert used_of(fields, NEW_YEAR_MS) == dict.fromkeys(PERIODS, expected)
    assert (await Totals(plain, keys).sums()).used(NEW_YEAR_MS) == dict.fromkeys(PERIODS, total)
    fates = mortals[0]._crew.fates
    print(fates)
    assert min(fates[fate] for fate in ("killed within a step", "killed between steps", "thawed", "overtaken")) > 0


async def test_the_totals_are_the_sums_over_all_chats(clocked: House) -> None:
    """Chats of one partition and of others alike; a partition without chats counts for nothing."""
    house = clocked
    neighbour = next(n for n in count(OTHER + 1) if partition_of(n) == partition_of(CHAT))
    total = NOTHING
    for number, chat_id in enumerate((CHAT, OTHER, neighbour), 1):
        await house.put(chat_id, 100 + number)
        state = await house.claimed()
        await house.journal.permit(state, f"t{number}", 0, 40, paying((number, 10 * number, 100 * number)))
        await house.journal.finish(state, take=1, turn=f"t{number}", message_id=50 + number)
        total = total.plus(Used(number, 10 * number, 100 * number))
    assert (await Totals(house.store, house.keys).sums()).used(state.now_ms) == dict.fromkeys(PERIODS, total)
