"""Ends of every kind, and beginnings after them: nothing is lost, nothing comes twice."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox import ChatBehaviour
from tests.flows.conftest import QUICK, Outage, Service, World, echo, until

Start = Callable[..., Service]


async def test_history_survives_a_restart_and_kill_9(start_service: Start, own_world: World) -> None:
    """A conversation goes on where it was, after an orderly end and after none."""
    service, customer = start_service(), own_world.customer()
    await service.start()
    await customer.asks("alpha one")
    assert await service.stop() == 0
    await service.start()
    await customer.asks("alpha two")
    await service.kill()
    await service.start()
    await customer.asks("alpha three")
    told = [message["content"] for message in own_world.asked("alpha three")[0].messages[1:]]
    assert told == ["alpha one", "Answer to: alpha one", "alpha two", "Answer to: alpha two", "alpha three"]


async def test_a_killed_single_service_polls_again_at_once(start_service: Start, own_world: World) -> None:
    """On the embedded store nobody else can be polling: the dead one's lease holds nobody up."""
    service = start_service()
    await service.start()
    await own_world.customer().asks("kilo")
    await service.kill()
    begun = time.monotonic()
    await service.start()
    assert time.monotonic() - begun < 8


async def test_kill_9_in_the_middle_of_an_answer_loses_and_doubles_nothing(
    start_service: Start, own_world: World
) -> None:
    """What was confirmed to Telegram is answered after the next start, what was not is fetched again; each once."""
    service = start_service()
    customers = [own_world.customer() for _ in range(6)]
    await service.start()
    words = " ".join(["bravo"] * 40)
    own_world.chat_api.behaviour = ChatBehaviour(
        answer=lambda messages: f"{messages[-1]['content']}: {words}", chunk_seconds=0.05
    )
    for number, customer in enumerate(customers):
        customer.writes(f"bravo m{number}")
    await until(lambda: any(own_world.telegram.draft(customer.chat_id) for customer in customers), "a draft")
    await service.kill()
    late = own_world.customer()
    late.writes("bravo m9")
    own_world.at_ease()
    await service.start()
    for number, customer in enumerate(customers):
        assert await customer.sees(1) == [f"Answer to: bravo m{number}"]
    await late.sees(1)
    assert await service.stop() == 0
    for customer in customers:
        seen = own_world.telegram.messages(customer.chat_id, deleted=True)
        assert len([message for message in seen if message.from_bot]) == 1


async def test_sigterm_lets_a_running_answer_finish(start_service: Start, own_world: World) -> None:
    """The service ends within 25 s, with exit code 0, and the answer under way comes before."""
    service, customer = start_service(), own_world.customer()
    await service.start()
    own_world.slow(1.5)
    customer.writes("charlie")
    await own_world.is_asked("charlie")
    begun = time.monotonic()
    assert await service.stop() == 0
    assert time.monotonic() - begun < 25
    assert customer.texts == ["Answer to: charlie"]


async def test_sigterm_hands_a_slow_answer_over(start_service: Start, own_world: World) -> None:
    """An answer that takes longer than the drain is given after the next start, once."""
    service, customer = start_service(times=QUICK), own_world.customer()
    await service.start()
    own_world.slow(60)
    customer.writes("delta")
    await own_world.is_asked("delta")
    assert await service.stop() == 0
    assert customer.texts == []
    own_world.at_ease()
    await service.start()
    assert await customer.sees(1) == ["Answer to: delta"]
    await customer.asks("delta next")
    assert len(own_world.asked("delta next")[0].messages) == 4


@pytest.fixture
def pair(start_service: Start, store_address: str) -> tuple[Service, Service]:
    """Two whole services with one token over one store."""
    first, second = (start_service(times=QUICK, REDIS_URL=store_address) for _ in range(2))
    return first, second


async def test_one_of_two_pollers_polls_and_the_other_takes_over(
    pair: tuple[Service, Service], own_world: World
) -> None:
    """No poll ever meets another (409), and a killed poller is replaced when its lease ends."""
    first, second = pair
    await first.start()
    second.spawn()
    customers = [own_world.customer() for _ in range(4)]
    for number, customer in enumerate(customers):
        assert await customer.asks(f"echo m{number}") == f"Answer to: echo m{number}"
    await until(lambda: "service.started" in second.output, "the second has started")
    assert own_world.telegram.counts["getUpdates", 409] == 0
    await first.kill()
    for number, customer in enumerate(customers):
        customer.writes(f"echo again m{number}")
    for number, customer in enumerate(customers):
        assert (await customer.sees(2))[1] == f"Answer to: echo again m{number}"
    assert own_world.telegram.counts["getUpdates", 409] == 0


async def test_roles_are_split_over_an_external_store(
    start_service: Start, own_world: World, store_address: str
) -> None:
    """Ingress, worker and web are processes of their own; none does another's work."""
    own = {"REDIS_URL": store_address}
    ingress, worker, web = (start_service("run", "--only", role, **own) for role in ("ingress", "worker", "web"))
    customer = own_world.customer()
    await ingress.start()
    customer.writes("foxtrot")
    await own_world.all_taken()
    assert own_world.asked("foxtrot") == []
    worker.spawn()
    web.spawn()
    assert await customer.sees(1) == ["Answer to: foxtrot"]
    await web.ready()
    polls = own_world.telegram.polls()
    await ingress.stop()
    customer.writes("foxtrot waits")
    assert own_world.telegram.polls() <= polls + 1
    assert own_world.telegram.pending_updates() == 1
    assert await worker.stop() == 0
    assert await web.stop() == 0


async def test_a_webhook_set_elsewhere_is_removed_in_polling_mode(start_service: Start, own_world: World) -> None:
    """A token that served a webhook before is taken over without losing what waits."""
    from bot.sandbox.account import Webhook

    account, customer = own_world.telegram.account(), own_world.customer()
    account.keep_webhook(Webhook("https://elsewhere.example.com/hook"))
    customer.writes("golf")
    service = start_service()
    service.spawn()
    assert await customer.sees(1) == ["Answer to: golf"]
    assert account.webhook is None


async def test_a_missing_master_key_refuses_and_touches_nothing(
    start_service: Start, own_world: World, tmp_path: Path
) -> None:
    """A store sealed with a key that is gone or another is left as it is, with a sentence and exit code 2."""
    service, customer = start_service(), own_world.customer()
    await service.start()
    await customer.asks("hotel")
    assert await service.stop() == 0
    key = tmp_path / "secrets" / "master.key"
    kept = key.read_text()
    own_world.telegram.calls.clear()
    other = another_key(tmp_path)
    for content, words in ((None, "is not there"), (other, "not the master key"), ("damaged", "damaged")):
        key.unlink(missing_ok=True)
        if content is not None:
            key.touch(mode=0o600)
            key.write_text(content)
        before = stored(tmp_path)
        service.spawn()
        assert await service.ended() == 2
        assert words in service.output
        assert "Traceback" not in service.output
        assert stored(tmp_path) == before
        assert key.exists() == (content is not None)
    assert own_world.telegram.calls == []
    key.write_text(kept)
    await service.start()
    await customer.asks("hotel again")
    assert len(own_world.asked("hotel again")[0].messages) == 4


def another_key(folder: Path) -> str:
    from storage.masterkey import MasterKey

    path = folder / "another.key"
    MasterKey.create(path)
    return path.read_text()


def stored(folder: Path) -> dict[str, bytes]:
    """What the store and the keyring hold on disk; the append-only file without the marks of a start."""
    kept = {path.name: path.read_bytes() for path in (folder / "data" / "appendonlydir").iterdir()}
    kept["keyring"] = (folder / "secrets" / "keyring.db").read_bytes()
    return kept


async def test_a_handler_that_raises_five_times_is_set_aside(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer gets an apology, the operator a record, and the next message is answered."""
    from aiogram import Router
    from aiogram.types import Message

    from bot import texts
    from bot.conversation.intents import Intent
    from handlers.telegram import customer as face
    from tests.flows.conftest import serving, settings_of

    tries: list[str] = []
    genuine = face.customer_router

    def with_a_fault(*words: Any, **options: Any) -> Router:
        router = Router()

        async def on_poison(message: Message) -> Intent:
            tries.append(message.text or "")
            raise RuntimeError("poison")

        router.message.register(on_poison, lambda message: message.text == "poison")
        router.include_router(genuine(*words, **options))
        return router

    monkeypatch.setattr(face, "customer_router", with_a_fault)
    customer = own_world.customer()
    own_world.slow(0.3)
    async with serving(settings_of(own_world, tmp_path)):
        for text in ("india before", "poison", "india after"):
            customer.writes(text)
        answers = await customer.sees(3)
    assert answers == ["Answer to: india before", texts.SET_ASIDE, "Answer to: india after"]
    assert tries == ["poison"] * 5
    assert texts.SET_ASIDE not in str(own_world.asked("india after")[0].messages)


async def test_the_store_may_be_away_for_a_while(own_world: World, tmp_path: Path, outage: Outage) -> None:
    """Nothing is confirmed meanwhile, and everything is answered afterwards, by itself."""
    import httpx

    from tests.flows.conftest import free_port, serving, settings_of

    port, customer = free_port(), own_world.customer()
    settings = settings_of(own_world, tmp_path, REDIS_URL=outage.url, HTTP_PORT=str(port))
    async with serving(settings), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        await customer.asks("juliet one")
        outage.begin()
        customer.writes("juliet two")
        await until(lambda: own_world.telegram.polls() > 1, "the update was fetched")
        unready = await client.get("/readyz")
        assert unready.status_code == 503
        assert "store" in unready.json()["troubles"]
        assert (await client.get("/healthz")).status_code == 200
        assert own_world.telegram.pending_updates() == 1
        outage.end()
        assert (await customer.sees(2))[1] == "Answer to: juliet two"
        assert len(own_world.asked("juliet two")[0].messages) == 4
    own_world.chat_api.behaviour = ChatBehaviour(answer=echo)
