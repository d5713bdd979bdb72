"""`/healthz`, `/readyz` and `/metrics` tell the truth."""

from collections.abc import Callable

import httpx
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.flows.conftest import Service, World, until


async def figures(service: Service) -> dict[str, float]:
    """All samples by name; labels in braces."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
        page = await client.get("/metrics")
    assert page.status_code == 200
    found = {}
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_figures_count_what_happens(world: World, shared: Service) -> None:
    """Answers, first words, failures at the chat API: each by one."""
    customer = world.customer()
    await customer.asks("alpha warm")
    before = await figures(shared)
    await customer.asks("alpha one")
    world.chat_api.faults.add(kind="400", count=1)
    await customer.asks("alpha two")
    await until(lambda: world.telegram.pending_updates() == 0)
    after = await figures(shared)

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("bot_turns_total{kind=answer}") == 1
    assert grown("bot_turns_total{kind=notice}") == 1
    assert grown("bot_updates_total{outcome=ok}") == 2
    assert grown("bot_answer_seconds_count") == 2
    assert grown("bot_first_token_seconds_count") == 1
    assert grown("bot_chat_api_failures_total{error=ChatApiRefusedError}") == 1
    assert after["bot_store_up"] == 1
    assert after["bot_store_memory_bytes"] > 100_000


async def test_all_figures_that_are_promised_are_there(world: World, shared: Service) -> None:
    """First word and answer time, failed and uncertain deliveries, queue, redeliveries, set-aside turns, memory."""
    names = {name.partition("{")[0] for name in await figures(shared)}
    assert names >= {
        "bot_first_token_seconds_bucket", "bot_answer_seconds_bucket", "bot_undeliverable_total",
        "bot_delivery_uncertain_total", "bot_queue_updates", "bot_queue_age_seconds", "bot_redeliveries_total",
        "bot_turns_set_aside_total", "bot_store_memory_bytes",
    }  # fmt: skip


async def test_pages_carry_headers_that_keep_them_out_of_caches(shared: Service) -> None:
    """Figures and states are of the moment."""
    async with httpx.AsyncClient(base_url=shared.url, trust_env=False) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            page = await client.get(path)
            assert page.headers["Cache-Control"] == "no-store"
            assert page.headers["X-Content-Type-Options"] == "nosniff"
            assert "server" not in page.headers


async def test_check_works_beside_the_running_service(world: World, shared: Service) -> None:
    """It finds the service, its store and its keys, says that all is well, and disturbs nothing."""
    customer = world.customer()
    await customer.asks("bravo before")
    polls, requests = world.telegram.polls(), world.chat_api.made
    looking = Service(world, shared.zygote, shared.folder, ("check",), port=shared.port)
    looking.spawn()
    assert await looking.ended() == 0, looking.output
    for part in ("The service is running", "Valkey 9", "loss window: 0 s", "keyring are those of this store"):
        assert part in looking.output
    assert (world.telegram.polls(), world.chat_api.made) == (polls, requests)
    assert await customer.asks("bravo after") == "Answer to: bravo after"
    assert len(world.asked("bravo after")[0].messages) == 4


@pytest_asyncio.fixture(loop_scope="session")
async def lonely(own_world: World, start_service: Callable[..., Service]) -> Service:
    """A service whose Telegram does not know its token."""
    service = start_service(BOT_TOKEN="4243:a-token-that-nobody-knows")
    service.spawn()
    return service


async def test_a_wrong_token_ends_in_a_sentence(lonely: Service) -> None:
    """The process says which setting is wrong and where to get the right value; nothing polls on and on."""
    assert await lonely.ended() == 2
    assert "BOT_TOKEN" in lonely.output
    assert "@BotFather" in lonely.output
    assert "Traceback" not in lonely.output


async def test_a_telegram_that_is_away_is_told_and_then_forgotten(
    own_world: World, start_service: Callable[..., Service]
) -> None:
    """`/readyz` names it while polls fail, and is content again when they succeed; `/healthz` is unmoved."""
    own_world.telegram.faults.add(method="getUpdates", kind="500")
    service = start_service()
    service.spawn()
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:

        async def troubles() -> dict[str, str]:
            try:
                page = await client.get("/readyz")
            except httpx.TransportError:
                return {}
            found: dict[str, str] = page.json()["troubles"]
            assert page.status_code == (503 if found else 200)
            return found

        while "telegram" not in await troubles():
            assert service.code is None
        assert (await client.get("/healthz")).status_code == 200
        own_world.telegram.faults.clear()
        await service.ready()
        assert await troubles() == {}
