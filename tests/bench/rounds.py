"""Relay and service in turn, the same load on each: throughput, latency, first text, memory, start, idle."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Any, Final

from tests.bench.stage import CHUNKED, PACED, SPOKEN, WHOLE, Load, at_random
from tests.bench.systems import Name, Running, folder, running
from tests.bench.window import Meter, Spare, measured

IN_FLIGHT: Final = 32
CHATS: Final = 500
LATENCY_CHATS: Final = 8
SPOKEN_PER_SECOND: Final = 6.0
"""Answers of two seconds: twelve of them at a time, and thirty in a window, so that its p95 is not its worst one."""

PARTS: Final = ("throughput", "latency", "streaming", "memory", "start", "idle")
_LEAST_RATE: Final = 5.0
_WARM_SECONDS: Final = 12.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. ``seconds``: one window; ``warm_answers`` also stand before memory is read."""

    rounds: int = 3
    seconds: float = 5.0
    idle_seconds: float = 4.0
    warm_answers: int = 1000


async def alternate(
    wanted: frozenset[str], scale: Scale, spare: Spare, tell: Callable[[str], None], *, into: list[dict[str, Any]]
) -> None:
    """One entry per finished round: the figures of ``relay`` and of ``service``, measured one after the other."""
    for number in range(scale.rounds):
        pair: dict[str, Any] = {}
        rate = 0.0
        for name in _ORDER:
            tell(f"round {number + 1}/{scale.rounds}: {name}")
            async with folder() as state, running(name, state) as system:
                pair[name] = await _figures(system, wanted, scale, spare, rate=rate, number=number)
            rate = rate or pair[name].get("half_rate", 0.0)
        into.append(pair)


_ORDER: Final[tuple[Name, Name]] = ("relay", "service")  # the relay's maximum sets the pace of the half load


async def _figures(
    system: Running, wanted: frozenset[str], scale: Scale, spare: Spare, *, rate: float, number: int
) -> dict[str, Any]:
    found: dict[str, Any] = {"start": system.start}
    chats = cycle(system.stage.new_chats(CHATS))
    if wanted & {"throughput", "latency", "streaming", "memory"}:
        warm = Load(system.stage)
        end = time.monotonic() + _WARM_SECONDS
        full = scale.warm_answers
        await warm.closed(chats, IN_FLIGHT, until=lambda: len(warm.questions) >= full or time.monotonic() >= end)
        found["warm_answers"] = warm.answers
        found["memory"] = system.child.memory_mib()
    if wanted & {"throughput", "latency"}:
        system.stage.chat_api.behaviour = WHOLE
        found["one_chunk"] = await measured(system, spare, _closed(chats, scale.seconds))
    if "throughput" in wanted:
        system.stage.chat_api.behaviour = CHUNKED
        found["twenty_chunks"] = await measured(system, spare, _closed(chats, scale.seconds))
        found["memory_after"] = system.child.memory_mib()
    if "latency" in wanted:
        found["half_rate"] = rate or max(_LEAST_RATE, found["one_chunk"]["answers_per_second"] / 2)
        found |= await _latency(system, chats, scale, spare, rate=found["half_rate"], number=number)
    if "streaming" in wanted:
        system.stage.chat_api.behaviour = SPOKEN
        found["streaming"] = await measured(
            system, spare, _open(chats, lambda: repeat(1 / SPOKEN_PER_SECOND), scale.seconds)
        )
    if "idle" in wanted:
        found["idle"] = await _idle(system, scale.idle_seconds)
    return found


async def _latency(
    system: Running, chats: Iterator[int], scale: Scale, spare: Spare, *, rate: float, number: int
) -> dict[str, Any]:
    system.stage.chat_api.behaviour = WHOLE
    half = await measured(system, spare, _open(chats, lambda: at_random(rate, number), scale.seconds + 1))
    half["half_rate"] = rate
    system.stage.chat_api.behaviour = PACED
    few = cycle(system.stage.new_chats(LATENCY_CHATS))
    paced = await measured(system, spare, _closed(few, scale.seconds, in_flight=LATENCY_CHATS, think_seconds=0.05))
    return {"half_load": half, "paced": paced}


def _closed(
    chats: Iterator[int], seconds: float, *, in_flight: int = IN_FLIGHT, think_seconds: float = 0.0
) -> Callable[[Load], Awaitable[None]]:
    async def run(load: Load) -> None:
        end = time.monotonic() + seconds
        await load.closed(chats, in_flight, until=lambda: time.monotonic() >= end, think_seconds=think_seconds)

    return run


def _open(
    chats: Iterator[int], gaps: Callable[[], Iterator[float]], seconds: float
) -> Callable[[Load], Awaitable[None]]:
    async def run(load: Load) -> None:
        await load.open(chats, gaps(), seconds)

    return run


async def _idle(system: Running, seconds: float) -> dict[str, Any]:
    await asyncio.sleep(0.5)
    meter = Meter(system)
    await asyncio.sleep(seconds)
    return {"cpu_percent": round(100 * float(meter.figures(0)["cpu_share"]), 2)}
