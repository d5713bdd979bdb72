"""States that operators are told of, on every store the code claims to support."""

import asyncio
from dataclasses import replace

from redis.asyncio import Redis

from storage.alerts import Alerts, News, Sight, memory_share, unclaimed_seconds
from storage.scripts import Store
from tests.storage.conftest import CHAT, House, StartServer

DOWN = Sight("down", True, hold_seconds=0.05, values={"host": "llm.example.com"})
AWAY = replace(DOWN, on=False)


async def seen_until_over(alerts: Alerts, sight: Sight = AWAY) -> list[News]:
    """The news once the state is over."""
    deadline = asyncio.get_running_loop().time() + 10
    while (noted := await alerts.note([sight])).lasting:
        assert asyncio.get_running_loop().time() < deadline
    return noted.news


async def begun(alerts: Alerts) -> News:
    """The state has begun, and was told."""
    [news] = (await alerts.note([DOWN])).news
    await alerts.told(news)
    return news


async def test_a_state_is_news_when_it_begins_and_when_it_is_over(house: House) -> None:
    """Once each, with what was known of it at the beginning."""
    alerts = Alerts(house.store, house.keys)
    noted = await alerts.note([replace(DOWN, lasts_seconds=20)])
    assert noted.lasting == {"down"}
    [first] = noted.news
    assert (first.number, first.name, first.over_ms, first.values) == (1, "down", 0, {"host": "llm.example.com"})
    seconds, _ = await house.store.call("TIME")
    assert 15_000 < int(seconds) * 1000 - first.since_ms < 40_000
    await alerts.told(first)
    assert (await alerts.note([DOWN])).news == []
    [second] = await seen_until_over(alerts)
    assert (second.number, second.since_ms, second.values) == (2, first.since_ms, first.values)
    assert second.over_ms > second.since_ms
    await alerts.told(second)
    assert await alerts.note([AWAY]) == (frozenset(), [])


async def test_of_many_that_look_at_once_one_begins_a_state(house: House) -> None:
    """Each sees the same piece of news, under the same number."""
    alerts = Alerts(house.store, house.keys)
    seen = await asyncio.gather(*(alerts.note([DOWN]) for _ in range(20)))
    assert {news.number for noted in seen for news in noted.news} == {1}
    await asyncio.gather(*(alerts.told(seen[0].news[0]) for _ in range(20)))
    over = [news for found in await asyncio.gather(*(seen_until_over(alerts) for _ in range(5))) for news in found]
    assert {news.number for news in over} == {2}


async def test_news_stays_until_it_is_told(house: House) -> None:
    """A death between the flip and the letters loses nothing, and the order is kept."""
    alerts = Alerts(house.store, house.keys)
    await alerts.note([DOWN])
    await seen_until_over(alerts)
    again = await Alerts(house.store, house.keys).note([])
    assert [(news.number, bool(news.over_ms)) for news in again.news] == [(1, False), (2, True)]
    await alerts.told(again.news[0])
    assert [news.number for news in (await alerts.note([])).news] == [2]


async def test_what_lasts_for_anybody_is_not_over(house: House) -> None:
    """Of two processes one sees that it lasts: it is over only when no newer sign tells so."""
    alerts = Alerts(house.store, house.keys)
    await begun(alerts)
    await alerts.note([AWAY])
    await asyncio.sleep(0.06)
    assert (await alerts.note([DOWN, AWAY])).lasting == {"down"}
    assert (await alerts.note([])).lasting == {"down"}


async def test_a_state_is_over_only_when_it_has_been_for_a_while(house: House) -> None:
    """It does not flap; what the hold is, its beginning says."""
    alerts = Alerts(house.store, house.keys)
    await alerts.note([replace(DOWN, hold_seconds=3600)])
    for _ in range(3):
        assert (await alerts.note([AWAY])).lasting == {"down"}


async def test_a_sign_older_than_the_last_that_it_lasts_tells_nothing(house: House) -> None:
    """Whoever was answered an hour ago does not know that it is over."""
    alerts = Alerts(house.store, house.keys)
    await begun(alerts)
    await alerts.note([replace(DOWN, age_seconds=7200)])  # nor does an older sign that it lasts
    await asyncio.sleep(0.06)
    old = replace(AWAY, age_seconds=3600)
    for _ in range(2):
        assert (await alerts.note([old])).lasting == {"down"}


async def test_an_old_sign_brings_no_state_back(house: House) -> None:
    """Whoever failed long ago and has not asked since says nothing new."""
    alerts = Alerts(house.store, house.keys)
    await begun(alerts)
    [over] = await seen_until_over(alerts)
    await alerts.told(over)
    assert await alerts.note([replace(DOWN, age_seconds=3600)]) == (frozenset(), [])
    assert (await alerts.note([DOWN])).news[0].number == 3


async def test_what_nobody_can_tell_changes_nothing(house: House) -> None:
    """None is neither yes nor no: after a restart a process knows of no failure, and of no success."""
    alerts = Alerts(house.store, house.keys)
    assert await alerts.note([replace(DOWN, on=None)]) == (frozenset(), [])
    await begun(alerts)
    await asyncio.sleep(0.06)
    assert (await alerts.note([replace(DOWN, on=None)])).lasting == {"down"}


async def test_states_are_told_apart(house: House) -> None:
    """By their names, whatever characters they hold."""
    alerts = Alerts(house.store, house.keys)
    names = ["budget:tokens 200000/day", "key:запас", "a'b\"c\\"]
    noted = await alerts.note([replace(DOWN, name=name) for name in names])
    assert [news.name for news in noted.news] == names
    assert noted.lasting == set(names)


async def put_long_ago(house: House, seconds: float) -> str:
    """An entry of the chat's stream that was made so long ago; its id."""
    now, _ = await house.store.call("TIME")
    entry = f"{int(now) * 1000 - int(seconds * 1000)}-0"
    await house.store.call("XADD", house.keys.of(CHAT).ready, entry, "chat", CHAT)
    return entry


async def test_a_chat_that_no_worker_takes_grows_old(house: House) -> None:
    """From a bound on; before that it is none of anybody's business."""
    assert await unclaimed_seconds(house.store, house.keys, 60) == 0.0
    await put_long_ago(house, 100)
    assert 99 <= await unclaimed_seconds(house.store, house.keys, 60) < 130
    assert await unclaimed_seconds(house.store, house.keys, 600) == 0.0


async def test_a_chat_that_is_worked_on_waits_for_nobody(house: House) -> None:
    """A long answer is no queue; what comes behind it in the same partition is."""
    await put_long_ago(house, 200)
    assert [ready.chat_id for ready in await house.claim()] == [CHAT]
    assert await unclaimed_seconds(house.store, house.keys, 60) == 0.0
    await put_long_ago(house, 100)
    assert 99 <= await unclaimed_seconds(house.store, house.keys, 60) < 130


async def test_a_chat_that_rests_is_not_in_the_queue(house: House) -> None:
    """It waits for the chat API, and that is told elsewhere."""
    await house.put(CHAT, 1)
    state = await house.claimed()
    await house.journal.park(state, 60_000)
    assert await unclaimed_seconds(house.store, house.keys, 0) == 0.0


async def test_the_share_of_the_memory_is_known_where_there_is_a_bound(start_store: StartServer) -> None:
    """Without one a store takes what the machine has."""
    for option, low, high in (("0", 0.0, 0.0), (str(512 << 20), 0.0001, 0.5)):
        client = Redis.from_url(start_store("--maxmemory", option))
        assert low <= await memory_share(Store(client)) <= high
        await client.aclose()
