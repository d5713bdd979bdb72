"""What must not cost more as time goes by: a turn in an old conversation, a message among many chats, a long prefix."""

import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, cycle, repeat
from statistics import median
from typing import Any, Final

from bot.conversation.tokens import count_tokens
from bot.sandbox import ChatBehaviour
from bot.sandbox.chat_api import ChatRequest
from tests.bench.process import BenchError
from tests.bench.rounds import IN_FLIGHT
from tests.bench.seeding import LAST_MESSAGE_ID, Past, seed
from tests.bench.stage import Load
from tests.bench.systems import Running, folder, running
from tests.bench.window import Spare, measured

FULL_BUDGET: Final = 700
"""Tokens: prompt, question and five turns fill it, so the window is as full after 10 turns as after 10,000."""

DEFAULT_BUDGET: Final = 16_000
_FIRST_SEEDED: Final = 200_000
_GROUP: Final = 8
_YOUNG: Final = 32  # many, so that none of them grows old while it is measured: ten turns become twenty
_FEW: Final = 100
_FEW_TURNS: Final = 10
_TURNS_OF_MANY: Final = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is seeded, and how often both sides are measured in turn."""

    turns: int = 10_000
    chats: int = 100_000
    alternations: int = 4
    answers: int = 320
    chats_seconds: float = 3.0


async def history(sizes: Sizes, spare: Spare, tell: Callable[[str], None]) -> dict[str, Any]:
    """CPU and added time of a turn in chats of 10 turns and in chats of many, of one store and one process."""
    found: dict[str, Any] = {}
    for label, budget in (("full", FULL_BUDGET), ("default", DEFAULT_BUDGET)):
        tell(f"history: {sizes.turns:,} turns, context of {budget:,} tokens")
        old = list(range(_FIRST_SEEDED, _FIRST_SEEDED + _GROUP))
        young = [list(range(at, at + _YOUNG)) for at in _starts(sizes.alternations)]
        past = [Past(chat, sizes.turns, budget) for chat in old]
        past += [Past(chat, _FEW_TURNS, budget) for chat in chain(*young)]
        async with folder() as state:
            await seed(state, past)
            async with running("service", state, last_message_id=LAST_MESSAGE_ID, CONTEXT_TOKENS=str(budget)) as system:
                found[label] = await _ages(system, sizes, spare, old, young)
    return found


def _starts(alternations: int) -> Iterator[int]:
    return (_FIRST_SEEDED + _GROUP + _YOUNG * number for number in range(alternations))


async def _ages(system: Running, sizes: Sizes, spare: Spare, old: list[int], young: list[list[int]]) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"young": [], "old": []}
    for group in young:
        for name, chats in (("young", group), ("old", old)):
            # One turn in each chat first: both sides are measured with what the process remembers of a chat in use.
            await _answers(len(chats))(Load(system.stage), cycle(chats))
            runs[name].append(await measured(system, spare, _counted(chats, sizes.answers)))
    return _pair(runs["young"], runs["old"])


def _counted(chats: list[int], answers: int) -> Callable[[Load], Awaitable[None]]:
    async def run(load: Load) -> None:
        await _answers(answers)(load, cycle(chats))

    return run


def _answers(answers: int) -> Callable[[Load, Iterator[int]], Awaitable[None]]:
    async def run(load: Load, chats: Iterator[int]) -> None:
        # Chats take turns, each with one question at a time: the customers count as many as the chats.
        await load.closed(chats, _GROUP // 2, until=lambda: len(load.questions) >= answers)

    return run


def _pair(few: list[dict[str, Any]], many: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both sides, and of their ratio within each alternation. Raises BenchError where the history that was
    seeded did not reach the model: prompt, question and a turn are four messages."""
    if min(side["messages_told"] for side in (*few, *many)) < 4:
        raise BenchError("the seeded history was not told to the model")
    cpu = [(a["cpu_ms_per_answer"], b["cpu_ms_per_answer"]) for a, b in zip(few, many, strict=True)]
    return {
        "few_cpu_ms": round(median(a for a, _ in cpu), 3),
        "many_cpu_ms": round(median(b for _, b in cpu), 3),
        "ratio": round(median(b / a for a, b in cpu if a), 3),
        "ratios": [round(pick(b / a for a, b in cpu if a), 3) for pick in (min, max)],
        "few_added_ms": median(a["added_ms"]["p50"] for a in few),
        "many_added_ms": median(b["added_ms"]["p50"] for b in many),
        "lost": sum(side["lost"] for side in (*few, *many)),
        "disturbed": any(side["disturbed"] for side in (*few, *many)),
        "bench_core_busy": max(side["bench_core_busy"] for side in (*few, *many)),
        "runs": {"few": few, "many": many},
    }


async def chats(sizes: Sizes, spare: Spare, tell: Callable[[str], None]) -> dict[str, Any]:
    """Cost of a message from a random chat of 100 and of many: two stores and two processes, loaded in turn."""
    tell(f"chats: {_FEW} and {sizes.chats:,}")
    async with AsyncExitStack() as stack:
        systems: dict[int, Running] = {}
        for number in (_FEW, sizes.chats):
            state = await stack.enter_async_context(folder())
            known = range(_FIRST_SEEDED, _FIRST_SEEDED + number)
            await seed(state, [Past(chat, _TURNS_OF_MANY + chat % 8, _CHATS_BUDGET) for chat in known])
            systems[number] = await stack.enter_async_context(
                running("service", state, last_message_id=LAST_MESSAGE_ID, CONTEXT_TOKENS=str(_CHATS_BUDGET))
            )
        runs: dict[int, list[dict[str, Any]]] = {number: [] for number in systems}
        draws = {number: _at_random(number) for number in systems}
        for number, system in systems.items():
            await _for_seconds(draws[number], 1.0)(Load(system.stage))
        for _ in range(sizes.alternations):
            for number, system in systems.items():
                runs[number].append(await measured(system, spare, _for_seconds(draws[number], sizes.chats_seconds)))
        many = systems[sizes.chats]
        store = {str(number): round(system.child.memory_mib()["store"], 1) for number, system in systems.items()}
        return {**_pair(runs[_FEW], runs[sizes.chats]), "ready_with_many": many.start["ready"], "store_mib": store}


_CHATS_BUDGET: Final = 500
"""Tokens: the seeded turns fill it (four to eleven, so that windows stand at all lengths between two trimmings, as they
do in chats that are asked often), and chats asked often are told no more than chats asked once."""


def _at_random(number: int) -> Iterator[int]:
    """Chats at random, none twice within the number in flight."""
    drawn, recent = random.Random(number), [0] * IN_FLIGHT
    while True:
        chat = _FIRST_SEEDED + drawn.randrange(number)
        if chat not in recent:
            recent = [*recent[1:], chat]
            yield chat


def _for_seconds(draw: Iterator[int], seconds: float) -> Callable[[Load], Awaitable[None]]:
    async def run(load: Load) -> None:
        end = time.monotonic() + seconds
        await load.closed(draw, IN_FLIGHT // 2, until=lambda: time.monotonic() >= end)

    return run


@dataclass(slots=True)
class _Prefixes:
    """Tokens of each request, and those among them that stand unchanged in front since the request before."""

    before: list[str]
    total: int = 0
    unchanged: int = 0
    requests: int = 0

    def note(self, request: ChatRequest) -> None:
        texts = [f"{message['role']}: {message['content']}" for message in request.messages]
        same = next((i for i, (a, b) in enumerate(zip(texts, self.before, strict=False)) if a != b), None)
        same = min(len(texts), len(self.before)) if same is None else same
        self.total += sum(map(_tokens, texts))
        self.unchanged += sum(map(_tokens, texts[:same]))
        self.requests += 1
        self.before = texts


_tokens = lru_cache(maxsize=2000)(count_tokens)


async def prefix(turns: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Share of the prompt's tokens that a provider could take from its cache over one long conversation."""
    tell(f"prefix: a conversation of {turns} turns")
    seen = _Prefixes([])
    words = ["order", "parcel", "invoice", "address", "courier", "refund", "voucher", "size", "colour", "warranty"]
    drawn = random.Random(1)

    def text(length: int) -> str:
        return " ".join(drawn.choice(words) for _ in range(length))

    async with folder() as state, running("service", state) as system:
        system.stage.chat_api.behaviour = ChatBehaviour(answer=lambda _: text(120), chunk_words=1000)
        system.stage.on_request = seen.note
        chat = system.stage.new_chats(1)[0]
        lost = 0
        for question in (text(60) for _ in repeat(None, turns)):
            lost += not await system.stage.answered(system.stage.ask(chat, question))
    share = seen.unchanged / max(seen.total, 1)
    return {"requests": seen.requests, "tokens": seen.total, "share": round(share, 4), "lost": lost}
