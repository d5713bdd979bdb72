"""Conversations that outgrow what the model can be told: what was stated stays known, sealed, the customer's own."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from bot import texts
from bot.conversation.notebook import Notebook
from bot.conversation.notes import HEADING, INSTRUCTION, Past
from bot.conversation.tokens import count_tokens
from bot.sandbox import ChatBehaviour, ChatRequest
from storage.journal import ChatState
from storage.keys import Keys
from tests.crash.haul import Haul, held_keys
from tests.flows.archives import exported
from tests.flows.conftest import QUICK, Customer, Service, World, echo, serving, settings_of, until

Start = Callable[..., Service]
KEYS: Final = Keys(4242)
PROMPT: Final = "Be brief."
BUDGET: Final = 1200
SMALL: Final = {"CONTEXT_TOKENS": str(BUDGET), "SYSTEM_PROMPT": PROMPT, "SUMMARIES": "false"}
FACT: Final = "My order number is ZX-4711."
ASKED: Final = "What is my order number?"
SUMMED_UP: Final = "\nA summary of that part:\n> "
SAID: Final = re.compile(rb"ZX-4711|zebra summary")


def ordinary(number: int) -> str:
    """A question that states nothing."""
    word = "".join(chr(ord("a") + int(digit)) for digit in f"{number:03}")
    return f"How does the page {word} work, where do people find it, and what else is there to see on it?"


def is_summary(messages: list[dict[str, Any]]) -> bool:
    return bool(messages[0]["content"] == INSTRUCTION)


def system(request: ChatRequest) -> str:
    return str(request.messages[0]["content"])


class Talk:
    """A customer of a service whose requests must be small."""

    def __init__(self, service: Service, customer: Customer) -> None:
        self.service = service
        self.customer = customer
        self.turns = 0

    @property
    def world(self) -> World:
        return self.service.world

    async def goes_on(self, turns: int) -> None:
        for _ in range(turns):
            await self.customer.asks(ordinary(self.turns))
            self.turns += 1

    async def outgrows(self, turns: int = 0) -> int:
        """States the fact in the third turn, and goes on until it is no longer told word for word, for so many turns at
        least; its message's id."""
        await self.goes_on(2)
        before = len(self.customer.texts)
        stated = self.customer.writes(FACT)
        await self.customer.sees(before + 1)
        await self.goes_on(turns)
        await self.trims("")
        last = self.world.asked(ordinary(self.turns - 1))[0]
        assert FACT not in str(last.messages[1:])
        return stated

    async def trims(self, before: str) -> None:
        """Goes on until the notes are others than they were before."""
        for _ in range(60):
            await self.goes_on(1)
            last = self.world.asked(ordinary(self.turns - 1))[0]
            if system(last).removeprefix(PROMPT) != before:
                return
        pytest.fail("nothing is left out")

    async def asks(self, text: str) -> ChatRequest:
        """The request that a question came to, once it is answered."""
        await self.customer.asks(text)
        return self.world.asked(text)[-1]

    @property
    def summaries(self) -> list[ChatRequest]:
        return [request for request in self.world.chat_api.requests if is_summary(request.messages)]

    async def notes(self) -> dict[bytes, bytes]:
        """The customer's notes, as they lie in the store."""
        async with self.service.store() as client:
            found: Any = await client.hgetall(KEYS.of(self.customer.chat_id).notes)
        return dict(found)

    async def forgets(self, label: str) -> None:
        press = await self.customer.asks_to_forget(label)
        before = len(self.customer.texts)
        press()
        assert texts.FORGOTTEN_MORE in (await self.customer.sees(before + 1))[-1]

    async def readable(self) -> set[bytes]:
        """What of the fact any byte of the service's files gives, with all keys that are held."""
        secrets = self.service.folder / "secrets"
        keys = await held_keys(secrets / "master.key", f"sqlite:{secrets / 'keyring.db'}")
        haul = Haul(self.service.folder)
        assert not haul.plain(SAID)
        return haul.opened(keys, SAID)


@asynccontextmanager
async def talking(start_service: Start, world: World, **settings: str) -> AsyncIterator[Talk]:
    """With the offline model, which proves what it was told."""
    service = start_service(times=QUICK, **(SMALL | settings))
    world.chat_api.behaviour = ChatBehaviour()
    await service.start()
    yield Talk(service, world.customer())


def summing_up(seconds: float = 0.0) -> ChatBehaviour:
    """Short answers at once; summaries, which are longer, take so many seconds."""
    story = " ".join(f"{first}{second}" for first in "aeiou" for second in "bcdfghjkl")

    def answer(messages: list[dict[str, Any]]) -> str:
        return f"zebra summary {FACT} {story}" if is_summary(messages) else echo(messages)

    return ChatBehaviour(answer=answer, chunk_seconds=seconds, chunk_words=40)


# ---- what is known
async def test_a_fact_is_known_sixty_turns_later_and_no_request_is_larger_than_it_may_be(
    start_service: Start, own_world: World
) -> None:
    """Word for word in the notes behind the prompt, which stays as it is between two trims."""
    async with talking(start_service, own_world) as talk:
        await talk.outgrows(60)
        last = await talk.asks(ASKED)
        assert "is ZX-4711." in talk.customer.texts[-1]
        assert f"\n- {FACT}" in system(last)
        assert system(last).startswith(f"{PROMPT}\n\n{HEADING}\n")
        assert FACT not in str(last.messages[1:])
        requests = own_world.chat_api.requests
        assert len(requests) == talk.turns + 2 >= 64
        for request in requests:
            assert sum(count_tokens(message["content"]) for message in request.messages) <= BUDGET
            roles = [message["role"] for message in request.messages[1:]]
            assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
        trims = sum(system(a) != system(b) for a, b in pairwise(requests))
        assert 1 <= trims <= 12, "in large steps"
        assert await talk.notes()
        assert not talk.summaries, "none were wanted"


async def test_notes_outlast_the_service(start_service: Start, own_world: World) -> None:
    """After an orderly end and after none."""
    async with talking(start_service, own_world) as talk:
        await talk.outgrows()
        await talk.service.stop()
        await talk.service.start()
        await talk.asks(ASKED)
        assert "is ZX-4711." in talk.customer.texts[-1]
        await talk.service.kill()
        await talk.service.start()
        await talk.goes_on(2)
        assert FACT in system(await talk.asks(ASKED))


async def test_an_edit_of_what_is_no_longer_told_changes_what_is_known(start_service: Start, own_world: World) -> None:
    """Also in a summary: it is left out until a model writes the next."""
    async with talking(start_service, own_world, SUMMARIES="true") as talk:
        stated = await talk.outgrows()
        await until(lambda: talk.summaries and talk.summaries[-1].t_end, "a summary")
        talk.customer.edits(stated, FACT.replace("4711", "2000"))
        await own_world.all_taken()
        last = await talk.asks(ASKED)
        assert "is ZX-2000." in talk.customer.texts[-1]
        assert "4711" not in system(last)
        await talk.goes_on(20)
        last = await talk.asks(ASKED)
        assert "is ZX-2000." in talk.customer.texts[-1]
        assert "4711" not in str(last.messages)


# ---- summaries
async def test_a_summary_is_asked_for_beside_the_turn_and_told_from_the_next_trim_on(
    start_service: Start, own_world: World
) -> None:
    """It takes its time and nobody waits for it; without the setting none is asked for."""
    async with talking(start_service, own_world, SUMMARIES="true") as talk:
        own_world.chat_api.behaviour = summing_up(3)
        while not talk.summaries:
            await talk.goes_on(1)
        assert talk.summaries[0].t_end is None, "the answer came before it"
        assert SUMMED_UP not in system(await talk.asks("alpha meanwhile"))
        await until(lambda: talk.summaries[0].t_end, "the summary")
        await until_told(talk, "zebra summary")


async def until_told(talk: Talk, words: str) -> ChatRequest:
    """Turns until the model is told a summary with these words: it is written beside them, for the next trim."""
    for _ in range(40):
        last = await talk.asks(f"told {talk.turns}?")
        talk.turns += 1
        if f"{SUMMED_UP}{words}" in system(last):
            return last
    pytest.fail("the summary is not told")


@pytest.mark.parametrize("kind", ["empty", "looping"])
async def test_a_summary_that_fails_harms_no_turn(start_service: Start, own_world: World, kind: str) -> None:
    """Statements are kept all the same."""

    def answer(messages: list[dict[str, Any]]) -> str:
        if not is_summary(messages):
            return echo(messages)
        return "" if kind == "empty" else "and so on " * 3000

    async with talking(start_service, own_world, SUMMARIES="true") as talk:
        own_world.chat_api.behaviour = ChatBehaviour(answer=answer)
        await talk.outgrows(24)
        assert talk.summaries
        last = await talk.asks(ASKED)
        assert talk.customer.texts[-1] == f"Answer to: {ASKED}"
        assert FACT in system(last)
        assert sum(count_tokens(message["content"]) for message in last.messages) <= BUDGET
        assert len(talk.customer.texts) == talk.turns + 2


@pytest.mark.slow
async def test_a_summary_that_comes_too_late_is_not_kept(start_service: Start, own_world: World) -> None:
    """After an edit it would bring back what was corrected, after a deletion what was deleted."""
    async with talking(start_service, own_world, SUMMARIES="true") as talk:
        own_world.chat_api.behaviour = summing_up(4)
        first = talk.customer.writes(FACT)
        await talk.customer.sees(1)
        while not talk.summaries:
            await talk.goes_on(1)
        talk.customer.edits(first, FACT.replace("4711", "2000"))
        await talk.asks("bravo meanwhile")
        kept = await talk.notes()
        assert talk.summaries[0].t_end is None
        await until(lambda: talk.summaries[0].t_end, "the summary")
        last = await talk.asks("bravo next")
        assert "ZX-2000" in system(last)
        assert "zebra summary" not in system(last)
        assert await talk.notes() == kept
        while len(talk.summaries) < 2:
            await talk.goes_on(1)
        assert talk.summaries[1].t_end is None
        await talk.forgets(texts.FORGET_ALL)
        assert talk.summaries[1].t_end is None
        await until(lambda: talk.summaries[1].t_end, "the summary")
        await talk.asks("bravo last")
        assert await talk.notes() == {}
        assert await talk.readable() == set()


async def test_an_edit_is_not_lost_to_a_summary_that_comes_at_the_same_moment(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: notes that were replaced while they were made anew stayed as they were, the corrected fact included."""
    past, rebuild, struck, states = Notebook._past, Notebook.rebuild, list[bool](), list[ChatState]()

    async def disturbed(self: Notebook, place: tuple[int, int, int], first: int, last: int) -> list[Past]:
        if not struck:
            struck.append(True)
            sealed, notes = await self._read(states[-1], place)
            assert await self._write(states[-1], place, sealed, notes.with_summary("zebra summary"))
        return await past(self, place, first, last)

    async def rebuilt(self: Notebook, state: ChatState, topic: int, turn: int, **more: Any) -> None:
        states.append(state)
        await rebuild(self, state, topic, turn, **more)

    monkeypatch.setattr(Notebook, "_past", disturbed)
    monkeypatch.setattr(Notebook, "rebuild", rebuilt)
    settings = settings_of(own_world, tmp_path, **SMALL)
    async with serving(settings):
        customer = own_world.customer()
        stated = customer.writes(FACT)
        await customer.sees(1)
        for number in range(40):
            await customer.asks(ordinary(number))
            if HEADING in system(own_world.asked(ordinary(number))[0]):
                break
        customer.edits(stated, FACT.replace("4711", "2000"))
        await customer.asks(ASKED)
        told = system(own_world.asked(ASKED)[0])
        assert struck
        assert "ZX-2000" in told
        assert "4711" not in told
        assert "zebra" not in told


# ---- whose they are
async def test_notes_are_sealed_and_forgotten_with_everything(start_service: Start, own_world: World) -> None:
    """No plain word in any file; after the deletion none that any key opens, and nothing is known."""
    async with talking(start_service, own_world, SUMMARIES="true") as talk:
        own_world.chat_api.behaviour = summing_up()
        await talk.outgrows()
        await until_told(talk, "zebra summary")
        assert list(await talk.notes()) == [b"0:0"]
        assert await talk.readable() == {b"ZX-4711", b"zebra summary"}
        await talk.forgets(texts.FORGET_ALL)
        assert await talk.notes() == {}
        assert await talk.readable() == set()
        assert [message["content"] for message in (await talk.asks(ASKED)).messages] == [PROMPT, ASKED]


async def test_a_new_conversation_begins_without_notes_and_each_is_forgotten_alone(
    start_service: Start, own_world: World
) -> None:
    """What was ended keeps its notes, for the export; a deletion of the new one leaves them."""
    async with talking(start_service, own_world) as talk:
        await talk.outgrows()
        await talk.customer.asks("/new")
        assert [message["content"] for message in (await talk.asks(ASKED)).messages] == [PROMPT, ASKED]
        await talk.goes_on(14)
        last = await talk.asks(ASKED)
        assert HEADING not in system(last) or "4711" not in system(last)
        await talk.customer.asks("My street is Elm Street.")
        await talk.goes_on(14)
        assert sorted(await talk.notes()) == [b"0:0", b"0:1"]
        await talk.forgets(texts.FORGET_THIS)
        assert list(await talk.notes()) == [b"0:0"]
        await talk.forgets(texts.FORGET_ALL)
        assert await talk.notes() == {}


async def test_the_export_holds_what_is_kept_in_mind(start_service: Start, own_world: World) -> None:
    """Statements and summary of each conversation, beside all that was said; none where nothing was left out."""
    async with talking(start_service, own_world, SUMMARIES="true") as talk:
        own_world.chat_api.behaviour = summing_up()
        await talk.outgrows()
        await until_told(talk, "zebra summary")
        await talk.customer.asks("/new")
        await talk.goes_on(1)
        talk.customer.writes("/export")
        told = json.loads(await exported(own_world, talk.customer))
        first, second = told["conversations"]
        assert first["notes"]["statements"] == [FACT]
        assert first["notes"]["summary"].startswith(f"zebra summary {FACT}")
        assert 3 <= first["notes"]["upto"] < len(first["messages"]) // 2
        assert "notes" not in second
        assert len(first["messages"]) >= 2 * 17
