"""What chat APIs keep of a conversation: gone on from, begun anew, healed where it is lost, and deleted in the end."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
import pytest_asyncio

from bot import texts
from bot.sandbox import ChatApiServer, ChatBehaviour, ChatRequest
from storage.keys import Keys
from tests.flows.conftest import QUICK, Customer, Service, World, Zygote, sandbox_world, until

FIELD: Final = "conversation_id"
MODES: Final = (("responses", ""), ("responses", "conversation"), ("dify", ""), ("completions", FIELD))
KEEPING: Final = MODES[:3]
"""Where the provider is told only what is new, and can delete what it keeps."""

RECEIPT: Final = texts.FORGOTTEN_REMOTE.format(processor="127.0.0.1")


@dataclass
class Stage:
    """A service that speaks to a provider in one way, and what its model was told."""

    service: Service
    dialect: str
    within: str
    told: dict[str, list[str]] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.service.world

    @property
    def server(self) -> ChatApiServer:
        return self.world.chat_api

    def answer(self, messages: list[dict[str, Any]]) -> str:
        asked = str(messages[-1]["content"]).split("\n\n")[-1]
        self.told[asked] = [str(message["content"]) for message in messages if message["role"] != "system"]
        return f"Answer to: {asked}"

    def calm(self) -> None:
        self.world.at_ease()
        self.server.calls.clear()
        given = FIELD if self.dialect == "completions" else ""
        self.server.behaviour = ChatBehaviour(answer=self.answer, conversation_field=given)

    def tells(self, words: str) -> None:
        """Answers that grow slowly."""
        self.server.behaviour = replace(
            self.server.behaviour, answer=lambda messages: self.answer(messages) and words, chunk_seconds=0.03
        )

    def request(self, marker: str) -> ChatRequest:
        return self.world.asked(marker)[-1]

    def asked_alone(self, marker: str) -> bool:
        """Whether the request itself carried nothing but the question."""
        return [m["content"] for m in self.request(marker).messages if m["role"] != "system"] == [marker]

    def ids(self) -> list[str]:
        """All that the provider keeps now, by its names."""
        kept = self.server.kept
        return [*kept.responses, *kept.conversations, *kept.items, *kept.dify]

    async def rewound(self, service: Service | None = None) -> None:
        """What is to be tried again later is to be tried again now."""
        async with (service or self.service).store() as client:
            key = Keys(4242).removals
            entries: list[bytes] = await client.zrange(key, 0, -1)  # type: ignore[assignment]
            await client.zadd(key, dict.fromkeys(entries, 0))


def settings_of(dialect: str, within: str) -> dict[str, str]:
    return {"CHAT_API_DIALECT": dialect, "CHAT_CONVERSATION_FIELD": within}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=MODES, ids=[" ".join(mode) for mode in MODES])
async def lasting_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zygote: Zygote
) -> AsyncIterator[Stage]:
    async with sandbox_world() as world:
        folder = tmp_path_factory.mktemp("remotes")
        service = Service(world, zygote, folder, settings=settings_of(*request.param), times=QUICK)
        await service.start()
        try:
            yield Stage(service, *request.param)
        finally:
            await service.destroy()


@pytest_asyncio.fixture(loop_scope="session")
async def stage(lasting_stage: Stage) -> AsyncIterator[Stage]:
    with lasting_stage.world.fresh():
        lasting_stage.calm()
        yield lasting_stage


@pytest.fixture
def keeping(stage: Stage) -> Stage:
    """The ways in which the provider holds the whole conversation."""
    if (stage.dialect, stage.within) not in KEEPING:
        pytest.skip("the provider keeps no words")
    return stage


def holds_once(told: list[str], *said: str) -> None:
    """What the model was told holds each of these once, in this order, and no other question or answer."""
    joined, at = "\n".join(told), 0
    for text in said:
        at = joined.index(text, at) + len(text)
    found = re.findall(r"(?:Answer to: )?\b\w+ m\d+", joined)
    assert found == list(said), joined


async def forgets(stage: Stage, customer: Customer) -> str:
    """Forgets everything; the receipt."""
    press = await customer.asks_to_forget(texts.FORGET_ALL)
    count = len(customer.texts)
    press()
    return (await customer.sees(count + 1))[-1]


async def test_the_first_request_carries_no_id_and_the_next_one_the_id_and_the_news(stage: Stage) -> None:
    """The model knows all of it; the context goes along only where a provider keeps no words."""
    customer = stage.world.customer()
    for number in range(3):
        assert await customer.asks(f"alpha m{number}") == f"Answer to: alpha m{number}"
    first, second, third = (stage.request(f"alpha m{number}") for number in range(3))
    assert first.conversation == "" or stage.within == "conversation"
    assert second.conversation not in {"", first.conversation} or stage.within == "conversation"
    assert (second.conversation == third.conversation) == ((stage.dialect, stage.within) != ("responses", ""))
    assert all(stage.asked_alone(f"alpha m{number}") for number in range(3)) == (stage.dialect != "completions")
    said = [f"{head}alpha m{number}" for number in (0, 1) for head in ("", "Answer to: ")]
    holds_once(stage.told["alpha m2"], *said, "alpha m2")


async def test_customers_have_conversations_of_their_own(keeping: Stage) -> None:
    """And names of their own at the provider, which stay and tell nothing of them."""
    first, second = keeping.world.customer(), keeping.world.customer()
    for number in range(2):
        await first.asks(f"bravo m{number}")
        await second.asks(f"broom m{number}")
    assert keeping.request("bravo m1").conversation != keeping.request("broom m1").conversation
    holds_once(keeping.told["broom m1"], "broom m0", "Answer to: broom m0", "broom m1")
    if keeping.dialect == "dify":
        users = [keeping.request(marker).body["user"] for marker in ("bravo m0", "bravo m1", "broom m0")]
        assert users[0] == users[1] != users[2]
        assert str(first.chat_id) not in users[0]


async def test_new_begins_another_conversation(stage: Stage) -> None:
    """With nothing of the old one in it."""
    customer = stage.world.customer()
    await customer.asks("charlie m0")
    await customer.asks("charlie m1")
    await customer.asks("/new")
    await customer.asks("charlie m2")
    assert stage.request("charlie m2").conversation in {"", *stage.server.kept.conversations}
    assert stage.request("charlie m2").conversation != stage.request("charlie m1").conversation
    holds_once(stage.told["charlie m2"], "charlie m2")
    await customer.asks("charlie m3")
    assert stage.request("charlie m3").conversation not in {"", stage.request("charlie m1").conversation}
    holds_once(stage.told["charlie m3"], "charlie m2", "Answer to: charlie m2", "charlie m3")


async def test_a_lost_conversation_is_healed_without_the_customer_noticing(stage: Stage) -> None:
    """Our own history is told anew, and what comes after goes on from there."""
    customer = stage.world.customer()
    await customer.asks("delta m0")
    await customer.asks("delta m1")
    kept = stage.server.kept
    for lost in (kept.responses, kept.conversations, kept.items, kept.dify, kept.threads):
        lost.clear()
    assert await customer.asks("delta m2") == "Answer to: delta m2"
    said = [f"{head}delta m{number}" for number in range(3) for head in ("", "Answer to: ")]
    holds_once(stage.told["delta m2"], *said[:5])
    assert await customer.asks("delta m3") == "Answer to: delta m3"
    assert stage.asked_alone("delta m3") == (stage.dialect != "completions")
    holds_once(stage.told["delta m3"], *said, "delta m3")
    assert len(customer.texts) == 4


async def test_an_edit_makes_a_conversation_with_the_corrected_words(keeping: Stage) -> None:
    """What the provider keeps says something else, so that is deleted there."""
    customer = keeping.world.customer()
    before = set(keeping.ids())
    message = customer.writes("echo m0")
    await customer.sees(1)
    await customer.asks("echo m1")
    told = set(keeping.ids()) - before
    customer.edits(message, "echo m7")
    await keeping.world.all_taken()
    await customer.asks("echo m2")
    assert keeping.request("echo m2").conversation != keeping.request("echo m1").conversation or not keeping.within
    holds_once(keeping.told["echo m2"], "echo m7", "Answer to: echo m0", "echo m1", "Answer to: echo m1", "echo m2")
    await customer.asks("echo m3")
    assert keeping.asked_alone("echo m3")
    assert told
    await until(lambda: not told & set(keeping.ids()), "the words as they were are gone")


async def test_a_stopped_answer_is_told_as_far_as_it_was_shown(stage: Stage) -> None:
    """Once, whatever the provider keeps of it."""
    customer = stage.world.customer()
    await customer.asks("foxtrot m0")
    words = " ".join(f"stop{number}" for number in range(400))
    stage.tells(words)
    customer.writes("foxtrot m1")
    await customer.draft()
    customer.writes("/stop")
    shown = (await customer.sees(2))[-1].removesuffix(f"\n\n{texts.STOPPED_MARK}")
    stage.calm()
    await customer.asks("foxtrot m2")
    joined = "\n".join(stage.told["foxtrot m2"])
    assert [joined.count(f"foxtrot m{number}") for number in range(3)] == [2, 1, 1]
    assert joined.count("stop0") == 1
    assert joined.split("stop0")[1].split("\n")[0] == shown.removeprefix("stop0")


async def test_forget_deletes_all_that_the_provider_keeps(keeping: Stage) -> None:
    """Of all conversations, with their items, and the receipt says so; another customer's things stay."""
    customer, other = keeping.world.customer(), keeping.world.customer()
    before = set(keeping.ids())  # of earlier flows: some of it is just being deleted
    await other.asks("golf m9")
    others = set(keeping.ids()) - before
    for marker in ("golf m0", "golf m1", "/new", "golf m2"):
        await customer.asks(marker)
    assert len(set(keeping.ids()) - others - before) >= 2
    assert RECEIPT in await forgets(keeping, customer)
    await until(lambda: set(keeping.ids()) <= others | before, "all is deleted")
    assert others <= set(keeping.ids())
    if keeping.within == "conversation":
        order = [(call.method, call.path) for call in keeping.server.calls]
        ends = [path for method, path in order if method == "DELETE" and re.fullmatch("/conversations/[^/]+", path)]
        assert len(ends) == 2
        assert all(order.index(("GET", f"{path}/items")) < order.index(("DELETE", path)) for path in ends)
    await customer.asks("golf m3")
    holds_once(keeping.told["golf m3"], "golf m3")
    await other.asks("golf m8")
    holds_once(keeping.told["golf m8"], "golf m9", "Answer to: golf m9", "golf m8")


async def test_forgetting_one_conversation_leaves_the_others_there(keeping: Stage) -> None:
    """Only what belongs to it is deleted, and asked to be."""
    customer = keeping.world.customer()
    await customer.asks("hotel m0")
    old = set(keeping.ids())
    await customer.asks("/new")
    await customer.asks("hotel m1")
    press = await customer.asks_to_forget(texts.FORGET_THIS)
    press()
    assert RECEIPT in (await customer.sees(5))[-1]
    await until(lambda: set(keeping.ids()) == old, "only the new one is deleted")


async def test_a_customer_of_whom_nothing_is_kept_is_told_of_no_copy(own_world: World, shared: Service) -> None:
    """The receipt of a completions service names nobody."""
    customer = shared.world.customer()
    await customer.asks("india m0")
    press = await customer.asks_to_forget(texts.FORGET_ALL)
    press()
    assert "keeps a copy" not in (await customer.sees(3))[-1]


async def test_a_deletion_that_fails_is_tried_again(keeping: Stage) -> None:
    """Later and later, until it is confirmed; the customer is not kept waiting for it."""
    customer, before = keeping.world.customer(), set(keeping.ids())
    await customer.asks("juliet m0")
    keeping.server.faults.add(kind="500", path="/", method="DELETE")
    assert RECEIPT in await forgets(keeping, customer)
    await until(lambda: [call for call in keeping.server.calls if call.method == "DELETE"], "a try")
    assert set(keeping.ids()) > before
    await until(lambda: "remote.kept" in keeping.service.output, "it is put off")
    keeping.server.faults.clear()
    await keeping.rewound()
    await until(lambda: set(keeping.ids()) == before, "all is deleted")


async def test_no_id_can_be_read_in_the_store(stage: Stage) -> None:
    """Neither by its commands nor in its files: ids are as secret as the words they lead to."""
    customer = stage.world.customer()
    await customer.asks("kilo m0")
    await customer.asks("kilo m1")
    ids = {stage.request("kilo m1").conversation, *stage.ids(), *stage.server.kept.threads} - {""}
    assert ids
    async with stage.service.store() as client:
        dumped = b"".join([await client.dump(key) or b"" for key in await client.keys("*")])
    files = [path for path in (stage.service.folder / "data").rglob("*") if path.is_file()]
    content = dumped + b"".join(path.read_bytes() for path in files) + stage.service.output.encode()
    assert b"kilo" not in content
    assert [one for one in ids if one.encode() in content] == []


@pytest.mark.parametrize("mode", KEEPING, ids=[" ".join(mode) for mode in KEEPING])
async def test_a_worker_killed_in_mid_answer_leaves_nothing_behind(
    own_world: World, start_service: Callable[..., Service], mode: tuple[str, str]
) -> None:
    """The answer is made again by the next one, once; what both began at the provider goes with /forget."""
    service = start_service(times=QUICK, **settings_of(*mode))
    await service.start()
    stage, customer = Stage(service, *mode), own_world.customer()
    stage.calm()
    await customer.asks("lima m0")
    words = " ".join(f"word{number}" for number in range(400))
    stage.tells(words)
    customer.writes("lima m1")
    await own_world.is_asked("lima m1")
    await until(lambda: own_world.asked("lima m1")[0].chunks_sent > 5, "the answer grows")
    await service.kill()
    stage.calm()
    stage.service = start_service(times=QUICK, **settings_of(*mode))
    await stage.service.start()
    assert (await customer.sees(2))[-1] == "Answer to: lima m1"
    assert stage.ids()
    assert RECEIPT in await forgets(stage, customer)
    await until(lambda: not stage.ids(), "all is deleted")


@pytest.mark.slow
async def test_another_dialect_after_a_restart_keeps_the_context(
    own_world: World, start_service: Callable[..., Service]
) -> None:
    """There and back again; what a provider keeps that is not spoken to any more is deleted when it is again."""
    ways = [*MODES, MODES[0], ("completions", ""), MODES[2]]
    customer, said = own_world.customer(), list[str]()
    for number, mode in enumerate(ways):
        service = start_service(times=QUICK, **settings_of(*mode))
        stage = Stage(service, *mode)
        stage.calm()
        await service.start()
        marker = f"mike m{number}"
        assert await customer.asks(marker) == f"Answer to: {marker}"
        holds_once(stage.told[marker], *said, marker)
        said += [marker, f"Answer to: {marker}"]
        if number + 1 < len(ways):
            assert await service.stop() == 0
    assert RECEIPT in await forgets(stage, customer)
    await until(lambda: not own_world.chat_api.kept.dify, "what is spoken to is deleted")
    assert own_world.chat_api.kept.responses
    await service.stop()
    service = start_service(times=QUICK, **settings_of("responses", ""))
    await service.start()
    await stage.rewound(service)
    await until(lambda: not stage.ids(), "all is deleted")
