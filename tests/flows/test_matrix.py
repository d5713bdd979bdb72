"""Every dialect of the chat API and every fault that it can have: what the customer sees, and what is told afterwards.

One service for each dialect, with short times. What the model is told is taken where the sandbox's server makes its
answers, so that what a provider keeps counts as well as what the request carries.
"""

import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import pytest_asyncio

from bot import texts
from bot.sandbox import ChatBehaviour, ChatRequest
from bot.sandbox.chat_faults import AFTER_TEXT, BEFORE_TEXT, ChatKind, plays
from tests.flows.conftest import QUICK, Customer, Service, World, Zygote, sandbox_world, until

DIALECTS: Final = ("completions", "responses", "dify")
FIRST, GAP, TOTAL = 1.5, 0.7, 8.0
SLACK: Final = 6.0
"""Seconds for all that is not the chat API's."""

CIRCLE: Final = 250
"""Characters of an answer that goes round in circles."""

KINDS: Final = sorted({*BEFORE_TEXT, *AFTER_TEXT})
REFUSED: Final = {"400": texts.NOT_TAKEN, "422": texts.NOT_TAKEN, "content_filter": texts.FILTERED}
CUTS: Final = {"length": texts.CUT_LENGTH, "filter_midway": texts.CUT_FILTER}
MENDED: Final = {"400", "404"}
"""Where something is held there, these may mean that it is lost: our history is told anew."""

NO_WORDS: Final = {"empty", "blank", "no_choices", "loop", "huge", "endless"}
HALVES: Final = {"cut", "stall", "error_midway", "failed_midway", "garbage_midway"}
TOO_MUCH: Final = {"context", "413"}
SENTENCES: Final = (
    texts.WAITING, texts.NOT_TAKEN, texts.FILTERED, texts.EMPTY_ANSWER, texts.TOO_LONG, *CUTS.values(), texts.CUT_FAULT,
)  # fmt: skip
FOREIGN: Final = re.compile(
    r"<[a-z!/]|\{\"|error|code|status|\b[45]\d\d\b|gateway|overloaded|insufficient|quota|engine|traceback|invalid"
    r"|moderation|management policy|model runner|api key",
    re.IGNORECASE,
)
"""What providers write, and customers need not read."""

_numbers = itertools.count(1)


@dataclass
class Stage:
    """A service that speaks one dialect, and what its model was told."""

    world: World
    dialect: str
    told: dict[str, list[str]] = field(default_factory=dict)

    def answer(self, messages: list[dict[str, Any]]) -> str:
        """Names its question, and is long enough to be cut."""
        asked = str(messages[-1]["content"]).split("\n\n")[-1]
        self.told[asked] = [str(message["content"]) for message in messages if message["role"] != "system"]
        return answer_to(asked)

    def calm(self) -> None:
        self.world.at_ease()
        self.world.chat_api.behaviour = ChatBehaviour(answer=self.answer, chunk_words=1)

    def strikes(self, kind: ChatKind, *, after: int, count: int | None = None) -> None:
        seconds = 30.0 if kind in {"hang", "stall", "slow_headers"} else 0.05
        words = ChatBehaviour(answer=lambda messages: self.answer(messages)[:CIRCLE])
        self.world.chat_api.behaviour = words if kind == "endless" else self.world.chat_api.behaviour
        self.world.chat_api.faults.add(kind=kind, count=count, seconds=seconds, after=after)

    def requests(self, question: str) -> list[ChatRequest]:
        return self.world.asked(question)


SHARED: Final = [pytest.param(name, marks=() if name == "completions" else pytest.mark.slow) for name in DIALECTS]
"""The short run takes one dialect; all that they share stands in it."""


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=SHARED)
async def service_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zygote: Zygote
) -> AsyncIterator[Stage]:
    settings = {
        "CHAT_API_DIALECT": request.param, "CHAT_FIRST_SECONDS": str(FIRST), "CHAT_GAP_SECONDS": str(GAP),
        "CHAT_TOTAL_SECONDS": str(TOTAL),
    }  # fmt: skip
    async with sandbox_world() as world:
        folder = tmp_path_factory.mktemp(f"matrix-{request.param}")
        service = Service(world, zygote, folder, settings=settings, times=QUICK)
        await service.start()
        stage = Stage(world, request.param)
        stage.calm()
        await world.customer().asks("proves what the server takes")
        try:
            yield stage
        finally:
            await service.destroy()


@pytest_asyncio.fixture(loop_scope="session")
async def stage(service_of: Stage) -> AsyncIterator[Stage]:
    with service_of.world.fresh():
        service_of.calm()
        yield service_of


def answer_to(question: str) -> str:
    return f"Answer to: {question}. {' '.join(f'word{number}' for number in range(60))}"


def names(kind: str) -> tuple[str, str, str]:
    """Three questions of one case: before the fault, under it, after it."""
    number = next(_numbers)
    return f"n{number} before", f"n{number} under {kind.replace('_', ' ')}", f"n{number} after"


async def begun(stage: Stage, kind: str) -> tuple[Customer, str, str, str]:
    """A customer with one answered question."""
    if not plays(kind, stage.dialect):
        pytest.skip("no such thing in this dialect")
    customer = stage.world.customer()
    before, under, after = names(kind)
    assert await customer.asks(before) == answer_to(before)
    return customer, before, under, after


def is_fit_to_read(customer: Customer) -> None:
    """Nothing of what a provider wrote is in any message, and nothing is said twice."""
    for text in customer.texts:
        own = re.sub(r"Answer to: n\d+ \w+( [\w ]+)?\.", "", text)
        for sentence in SENTENCES:
            own = own.replace(sentence, "")
        assert not FOREIGN.search(own), text
    assert len(set(customer.texts)) == len(customer.texts)


async def remembers(stage: Stage, customer: Customer, after: str, *said: str) -> None:
    """The next question is answered, and the model is told what stayed visible: each thing once, nothing else."""
    shown = len(customer.texts)
    customer.writes(after)
    await until(lambda: len(customer.texts) > shown, "the next answer")
    assert customer.texts[shown:] == [answer_to(after)]
    told = stage.told[after]
    if stage.dialect == "completions":
        assert [text.rstrip() for text in told] == [*said, after]
        return
    joined, at = "\n".join(told), 0
    for text in (*said, after):
        assert joined.count(text if text.startswith("Answer") else f"{text}\n") + (text == after) >= 1, joined
        at = joined.index(text, at) + len(text)
    questions = re.findall(r"(?<!Answer to: )n\d+ (?:before|under [\w ]+|after)(?=\n|$)", joined)
    assert questions == [text for text in (*said, after) if not text.startswith("Answer")], joined
    assert joined.count("Answer to: ") == len([text for text in said if text.startswith("Answer")]), joined
    assert not any(sentence in joined for sentence in SENTENCES), joined


async def settled(stage: Stage, customer: Customer, under: str, *, marked: bool = True) -> str:
    """The one outcome of a question, behind a sentence that it waits where there is one."""

    def outcome() -> list[str]:
        return [text for text in customer.texts[1:] if text != texts.WAITING]

    await until(outcome, f"an outcome of {under}, seen {customer.texts}", FIRST + TOTAL + SLACK)
    assert len(outcome()) == 1, customer.texts
    assert customer.texts[1:] in ([outcome()[0]], [texts.WAITING, outcome()[0]])
    is_fit_to_read(customer)
    return outcome()[0]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_that_strikes_once(stage: Stage, kind: ChatKind) -> None:
    """One outcome: the whole answer, or what belongs to a fault that is definite; and it is remembered as it stands."""
    customer, before, under, after = await begun(stage, kind)
    stage.strikes(kind, after=5, count=1)
    customer.writes(under)
    outcome = await settled(stage, customer, under)
    stage.calm()
    held = stage.dialect != "completions" and kind in MENDED
    if kind in REFUSED and not held:
        assert outcome == REFUSED[kind]
        kept: tuple[str, ...] = ()
    elif kind == "filter_midway" and stage.dialect == "dify":
        assert outcome == "Your question cannot be answered here."
        await customer.asks(after)
        assert outcome in "\n".join(stage.told[after])
        return
    elif kind in CUTS:
        part = " ".join(answer_to(under).split()[:5])
        assert outcome == f"{part}\n\n{CUTS[kind]}"
        kept = (under, part)
    else:
        whole = answer_to(under)[:CIRCLE].rstrip() if kind == "endless" else answer_to(under)
        assert outcome == whole
        kept = (under, whole)
    await remembers(stage, customer, after, before, answer_to(before), *kept)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "words"), [*((kind, 1) for kind in KINDS), *((kind, 45) for kind in sorted(HALVES))])
async def test_a_fault_that_lasts(stage: Stage, kind: ChatKind, words: int) -> None:
    """A sentence, or as much of the answer as there is, within the deadlines; where the question waits, its answer
    comes once the fault is over, and the customer hears nothing else meanwhile."""
    customer, before, under, after = await begun(stage, kind)
    stage.strikes(kind, after=words)
    customer.writes(under)
    await until(lambda: len(customer.texts) == 2, f"an outcome of {kind}", TOTAL + SLACK)
    is_fit_to_read(customer)
    first = customer.texts[1]
    history: tuple[str, ...] = (before, answer_to(before))
    if kind in REFUSED:
        assert first == REFUSED[kind]
    elif kind in NO_WORDS:
        assert first == texts.EMPTY_ANSWER
    elif kind in TOO_MUCH:
        assert first == texts.TOO_LONG
    elif kind in HALVES and words > 1:
        part = " ".join(answer_to(under).split()[:words])
        assert first == f"{part}\n\n{texts.CUT_FAULT}"
        history += (under, part)
    elif kind in CUTS:
        assert CUTS[kind] in first or stage.dialect == "dify"
        return
    else:
        assert first == texts.WAITING
        asked = len(stage.requests(under))
        await until(lambda: len(stage.requests(under)) > asked, "another try")
        assert len(customer.texts) == 2
        stage.calm()
        assert await settled(stage, customer, under) == answer_to(under)
        history += (under, answer_to(under))
    stage.calm()
    await remembers(stage, customer, after, *history)


@pytest.mark.slow
async def test_an_answer_without_end_is_shown_up_to_its_bound(stage: Stage) -> None:
    """Words that never end and never repeat: many messages, the last one with its mark."""
    customer = stage.world.customer()
    words = [f"line {number}: {number * number % 997}" for number in range(9000)]
    stage.world.chat_api.behaviour = ChatBehaviour(answer=lambda _: "\n".join(words), chunk_words=50)
    stage.world.chat_api.faults.add(kind="endless")
    customer.writes("tell me all")
    mark = texts.CUT_LENGTH
    await until(lambda: customer.texts and customer.texts[-1].endswith(mark), "the mark", 120)
    assert sum(map(len, customer.texts)) <= 70_000
    assert [mark in text for text in customer.texts].count(True) == 1
