"""Operators are told what is wrong and when it is over, in Telegram: once for each state, whatever dies in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from redis.asyncio import Redis

from bot import texts
from bot.alerts import budget_sights, chat_api_sights, is_short
from bot.chat_api.client import Condition
from bot.errors import Reason
from bot.sandbox import ChatApiServer
from bot.texts import Words
from storage.alerts import Alerts, Sight
from storage.connection import StoreTarget, connect
from storage.keys import Keys
from storage.scripts import Store
from tests.flows.conftest import QUICK, TOKEN, Customer, Service, World, echo, until

Start = Callable[..., Service]

OPERATOR, COLLEAGUE = 5_038, 5_046
TIMES = replace(QUICK, look=0.1, outage=0.5, settle=0.7)
KEYS = Keys(int(TOKEN.partition(":")[0]))


def head(text: str, language: str = "") -> str:
    """What a sentence begins with, up to its first value."""
    return Words().worded(text, language).partition("{")[0]


def told(operator: Customer, text: str, language: str = "") -> list[str]:
    """The messages that say a sentence."""
    return [said for said in operator.texts if said.startswith(head(text, language))]


async def is_told(operator: Customer, text: str, language: str = "") -> str:
    """The one message that says it."""
    found: list[str] = await until(lambda: told(operator, text, language), f"{head(text)!r} in {operator.texts}")
    assert len(found) == 1
    return found[0]


async def alerts_of(operator: Customer) -> list[str]:
    """All alerts so far: what comes after them in the operator's chat has come."""
    before = len(operator.texts)
    operator.writes("/language en")
    await until(lambda: texts.LANGUAGE_CHOSEN in operator.texts[before:], "what comes after the alerts")
    return [said for said in operator.texts if said[0] in "⚠⛔✅"]


async def gauge(service: Service, name: str) -> float:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f'bot_alert{{name="{name}"}}')))


async def desk(world: World, service: Service) -> Customer:
    """The service is at work, and its operator has written to it."""
    await service.start()
    await service.ready()
    operator = world.customer(OPERATOR)
    await operator.asks("/start")
    return operator


async def all_told(alerts: Alerts) -> None:
    """Returns when the letters of all news are in the mailboxes."""
    deadline = asyncio.get_running_loop().time() + 20
    while (await alerts.note([])).news:
        assert asyncio.get_running_loop().time() < deadline


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(url), connections=2, timeout_seconds=5.0)
    try:
        yield client
    finally:
        await client.aclose()


async def test_operators_are_told_when_the_model_is_down_and_when_it_is_back(
    own_world: World, start_service: Start
) -> None:
    """Each of them once, however many tries fail; the metric says it meanwhile."""
    service = start_service(times=TIMES, OPERATOR_IDS=f"{OPERATOR},{COLLEAGUE}")
    operator, colleague = await desk(own_world, service), own_world.customer(COLLEAGUE)
    await colleague.asks("/start")
    own_world.chat_api.faults.add(kind="503", seconds=0.05)
    customer = own_world.customer()
    customer.writes("alpha")
    for reader in (operator, colleague):
        assert "(UTC)" in await is_told(reader, texts.ALERT_DOWN)
    assert await gauge(service, "down") == 1
    own_world.chat_api.faults.clear()
    assert (await customer.sees(2))[-1] == "Answer to: alpha"
    for reader in (operator, colleague):
        assert "1 min" in await is_told(reader, texts.ALERT_DOWN_OVER)
        assert len(await alerts_of(reader)) == 2
    assert await gauge(service, "down") == 0
    assert "alpha" not in "".join(operator.texts)


async def test_two_services_on_one_store_tell_once(own_world: World, start_service: Start, store_address: str) -> None:
    """Both see it, both may be the one that tells."""
    first, second = (start_service(times=TIMES, REDIS_URL=store_address, OPERATOR_IDS=str(OPERATOR)) for _ in range(2))
    second.spawn()
    operator = await desk(own_world, first)
    await second.ready()
    own_world.chat_api.faults.add(kind="401")
    customers: list[Customer] = []
    while not all("chat_api.failed" in service.output for service in (first, second)):
        assert len(customers) < 30, "one of them does nothing"
        customers.append(own_world.customer())
        assert await customers[-1].asks("bravo") == texts.WAITING
    await is_told(operator, texts.ALERT_KEY)
    own_world.chat_api.faults.clear()
    for customer in customers:
        assert (await customer.sees(2))[-1] == "Answer to: bravo"
    await is_told(operator, texts.ALERT_ENDPOINT_OVER)
    assert len(await alerts_of(operator)) == 2


async def test_a_restart_in_the_state_tells_nothing_again(own_world: World, start_service: Start) -> None:
    """Not that it began, and not that it is over, as long as nobody saw that."""
    service = start_service(times=TIMES, OPERATOR_IDS=str(OPERATOR))
    operator = await desk(own_world, service)
    own_world.chat_api.faults.add(kind="401")
    customer = own_world.customer()
    customer.writes("charlie")
    said = await is_told(operator, texts.ALERT_KEY)
    assert "127.0.0.1" in said
    assert said.endswith(texts.ALERT_WAITING)
    await service.kill()
    before = len(own_world.asked("charlie"))
    await service.start()
    await own_world.is_asked("charlie", before + 3)
    assert await gauge(service, "key") == 1
    assert await alerts_of(operator) == [said]
    own_world.chat_api.faults.clear()
    assert (await customer.sees(2))[-1] == "Answer to: charlie"
    assert "127.0.0.1" in await is_told(operator, texts.ALERT_ENDPOINT_OVER)
    assert len(await alerts_of(operator)) == 2


async def test_one_chat_api_of_several_is_named(own_world: World, start_service: Start) -> None:
    """The others answer meanwhile, so nobody waits."""
    spare = ChatApiServer()
    await spare.start()
    spare.behaviour = replace(own_world.chat_api.behaviour, answer=echo)
    service = start_service(times=TIMES, OPERATOR_IDS=str(OPERATOR), CHAT_FALLBACKS=spare.url)
    operator = await desk(own_world, service)
    own_world.chat_api.faults.add(kind="quota")
    assert await own_world.customer().asks("delta") == "Answer to: delta"
    said = await is_told(operator, texts.ALERT_CREDIT)
    assert said.endswith(texts.ALERT_OTHERS)
    assert await alerts_of(operator) == [said]
    await service.stop()
    await spare.aclose()


async def test_news_that_nobody_told_is_told_by_the_next(
    own_world: World, start_service: Start, store_address: str
) -> None:
    """Whoever noted it died before its letters; or after them, and then they are not sent twice."""
    service = start_service(times=TIMES, REDIS_URL=store_address, OPERATOR_IDS=str(OPERATOR))
    operator = await desk(own_world, service)
    async with store_at(store_address) as client:
        alerts = Alerts(Store(client), KEYS)
        await service.kill()
        noted = await alerts.note([Sight("queue", True, hold_seconds=3600)])
        packed = await client.hget(KEYS.alerts, f"!{noted.news[0].number}")
        await service.start()
        await is_told(operator, texts.ALERT_QUEUE)
        await client.hset(KEYS.alerts, f"!{noted.news[0].number}", packed)
        await all_told(alerts)
    assert len(await alerts_of(operator)) == 1


async def test_who_is_no_operator_any_more_reads_no_alert(
    own_world: World, start_service: Start, store_address: str
) -> None:
    """The settings may have changed while it waited to be read."""
    service = start_service(times=TIMES, REDIS_URL=store_address, OPERATOR_IDS=str(OPERATOR))
    operator = await desk(own_world, service)
    own_world.slow(60)
    operator.writes("foxtrot")
    await own_world.is_asked("foxtrot")
    async with store_at(store_address) as client:
        alerts = Alerts(Store(client), KEYS)
        await alerts.note([Sight("queue", True, hold_seconds=3600)])
        await all_told(alerts)
    await service.kill()
    own_world.at_ease()
    service.settings["OPERATOR_IDS"] = str(COLLEAGUE)
    await service.start()
    await until(lambda: "Answer to: foxtrot" in operator.texts, "the answer")
    assert await alerts_of(operator) == []


async def test_a_store_that_is_nearly_full_is_told(own_world: World, start_service: Start, store_address: str) -> None:
    """While there is still room to tell it; and when there is more again."""
    service = start_service(times=TIMES, REDIS_URL=store_address, OPERATOR_IDS=str(OPERATOR))
    operator = await desk(own_world, service)
    async with store_at(store_address) as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used * 1.09))
        await is_told(operator, texts.ALERT_MEMORY)
        await client.config_set("maxmemory", used * 4)
    await is_told(operator, texts.ALERT_STORE_OVER)
    assert len(await alerts_of(operator)) == 2


@pytest.mark.slow
async def test_a_revoked_token_is_logged_and_told_once_it_works(own_world: World, start_service: Start) -> None:
    """Nothing can be said in Telegram before."""
    service = start_service(times=TIMES, OPERATOR_IDS=str(OPERATOR))
    operator = await desk(own_world, service)
    for method in ("*", "getUpdates"):
        own_world.telegram.faults.add(method=method, kind="401")
    await until(lambda: "telegram.token_revoked" in service.output, "the log tells")
    assert '"level": "error"' in next(line for line in service.output.splitlines() if "token_revoked" in line)
    assert await gauge(service, "token") == 1
    own_world.telegram.faults.clear()
    await is_told(operator, texts.ALERT_TOKEN_OVER)
    assert len(await alerts_of(operator)) == 1


async def test_the_budget_of_all_customers_is_told_before_and_when_it_is_used_up(
    own_world: World, start_service: Start
) -> None:
    """At four fifths and at the end of it; another limit in the settings ends it."""
    service = start_service(times=TIMES, OPERATOR_IDS=str(OPERATOR), TOTAL_LIMITS="messages 5/month")
    operator = await desk(own_world, service)
    for number in range(4):
        await own_world.customer().asks(f"echo m{number}")
    assert "80 %" in await is_told(operator, texts.ALERT_BUDGET)
    assert told(operator, texts.ALERT_LIMIT) == []
    await own_world.customer().asks("echo m4")
    assert "messages 5/month" in await is_told(operator, texts.ALERT_LIMIT)
    assert len(await alerts_of(operator)) == 2
    await service.stop()
    service.settings["TOTAL_LIMITS"] = "messages 500/month"
    await service.start()
    ended = await until(lambda: len(found := told(operator, texts.ALERT_BUDGET_OVER)) == 2 and found, "both are over")
    assert all("messages 5/month" in said for said in ended)


@pytest.mark.parametrize("language", ["ru", "zh", "es"])
async def test_alerts_are_told_in_the_operators_language(
    own_world: World, start_service: Start, store_address: str, language: str
) -> None:
    """They are put into words where they are read."""
    service = start_service(times=TIMES, REDIS_URL=store_address, OPERATOR_IDS=str(OPERATOR))
    operator = await desk(own_world, service)
    await operator.asks(f"/language {language}")
    async with store_at(store_address) as client:
        await Alerts(Store(client), KEYS).note([Sight("queue", True, hold_seconds=3600)])
    await is_told(operator, texts.ALERT_QUEUE, language)


# ---- what is seen
UP = Condition("m", "llm.example.com", 0.0, None, works=True, age_seconds=3.0)
GONE = Condition("m", "llm.example.com", 60.0, None, works=False, age_seconds=2.0)
SPARE = Condition("s", "spare.example.com", 0.0, None, works=True, age_seconds=1.0)


def sights(*conditions: Condition) -> dict[str, bool | None]:
    """What is seen of them, without what nobody can tell."""
    found = chat_api_sights(conditions, 20, 30)
    return {sight.name: sight.on for sight in found if sight.on is not None}


def on(*conditions: Condition) -> set[str]:
    return {name for name, seen in sights(*conditions).items() if seen}


def test_chat_apis_that_work_are_seen_to() -> None:
    """And one that was never asked, or failed a few times, tells nothing."""
    assert set(sights(UP).values()) == {False}
    assert sights(replace(UP, works=False)) == {}


def test_all_down_is_one_state_and_one_of_several_another() -> None:
    """A state for each would tell the same thing twice."""
    assert on(GONE) == {"down"}
    assert on(GONE, replace(GONE, mark="s")) == {"down"}
    assert on(GONE, SPARE) == {"endpoint:m"}
    assert sights(GONE, SPARE)["down"] is False


def test_a_short_absence_is_none() -> None:
    """It passes by itself, mostly."""
    assert on(replace(GONE, down_seconds=19)) == set()
    assert on(replace(GONE, down_seconds=19), SPARE) == set()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [(Reason.KEY, "key"), (Reason.CREDIT, "credit"), (Reason.MODEL, "model"), (Reason.ADDRESS, "address")],
)
def test_what_an_operator_can_mend_is_told_at_once_and_alone(reason: Reason, kind: str) -> None:
    """It says more than that nothing answers."""
    refused = replace(GONE, down_seconds=0.1, reason=reason)
    assert on(refused) == {f"{kind}:m"}
    assert on(replace(refused, down_seconds=60)) == {f"{kind}:m"}
    assert on(refused, SPARE) == {f"{kind}:m"}


@pytest.mark.parametrize(
    ("total", "free", "short"), [(100, 4, True), (100, 6, False), (1, 0.19, True), (1, 0.21, False), (1000, 49, True)]
)
def test_a_disk_is_short_below_a_twentieth_and_below_200_megabytes(
    total: float, free: float, short: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In GB: a share is much of a large disk, and nothing of a small one."""
    usage = SimpleNamespace(total=int(total * 2**30), free=int(free * 2**30))
    monkeypatch.setattr("bot.alerts.shutil.disk_usage", lambda _: usage)
    assert is_short(tmp_path) is short


def test_a_budget_is_seen_at_four_fifths_and_when_it_is_used_up() -> None:
    """Of a minute only when it is used up: that passes, and comes again."""
    shares = {"tokens 9/day": 0.79, "tokens 9/month": 0.8, "money 9/day": 1.0, "messages 9/minute": 0.9}
    found = {sight.name: sight for sight in budget_sights(shares, 30)}
    assert {name for name, sight in found.items() if sight.on} == {"budget:tokens 9/month", "limit:money 9/day"}
    assert found["budget:money 9/day"].on is None
    assert "budget:messages 9/minute" not in found
    assert found["limit:messages 9/minute"].hold_seconds > found["limit:money 9/day"].hold_seconds
