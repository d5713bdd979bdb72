"""Many streamed answers at once, read by the service's client, by plain httpx and by the ``openai`` package in turn.

Server and reader are a process each, on a processor each, so what is measured is the reader's own CPU. Each stream is
one answer: with a second one plain httpx would take three times as long, because its pool looks at all connections for
every idle one. The wide load is nearly all that a processor can do with it, so first words wait in line, and late
chunks are read several at a time, which makes them cheaper; hence there is a narrow load, too.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from statistics import median
from typing import Any, Final

from tests.bench.process import BenchError, Child, processors
from tests.bench.readers import CLIENTS
from tests.bench.stage import percentile
from tests.bench.systems import ROOT, folder, free_port

LOADS: Final = {"wide": 200, "narrow": 100}
QUICK_LOADS: Final = {"narrow": 20}
"""Answers at a time."""

_START_SECONDS: Final = 10.0
_MOST_SECONDS: Final = 90.0

Rounds = list[dict[str, dict[str, Any]]]
"""One dictionary a round: the figures of each client by its name."""


async def streams(loads: Mapping[str, int], rounds: int, tell: Callable[[str], None]) -> dict[str, Rounds]:
    """Every load, every client in every round. Raises BenchError, also where an answer did not come whole."""
    found: dict[str, Rounds] = {}
    async with _server() as url:
        for load, many in loads.items():
            found[load] = []
            for number in range(rounds):
                tell(f"streams: {many} at a time, round {number + 1}/{rounds}")
                found[load].append({client: await _read(client, url, many) for client in _order(number)})
    return found


def _order(number: int) -> list[str]:
    """Each client comes first as often as the others: whatever grows warm or busy is shared."""
    names = list(CLIENTS)
    first = number % len(names)
    return names[first:] + names[:first]


async def _read(client: str, url: str, many: int) -> dict[str, Any]:
    async with folder() as place:
        command = [sys.executable, "-m", "tests.bench.readers", client, url, str(many)]
        child = Child(command, {"PYTHONPATH": str(ROOT)}, place, processors()[1])
        try:
            await child.finished(_MOST_SECONDS)
        finally:
            await child.end()
        figures: dict[str, Any] = json.loads((place / "figures.json").read_text())
    if figures["whole"] != many:
        raise BenchError(f"{client} read {figures['whole']} of {many} answers whole")
    seconds = figures.pop("first_seconds")
    figures["streams"] = many
    figures["first_ms"] = {f"p{percent}": round(1000 * percentile(seconds, percent), 3) for percent in (50, 95)}
    return figures


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    async with folder() as place:
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.streamer", str(port)]
        child = Child(command, {"PYTHONPATH": str(ROOT)}, place, processors()[0])
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _listening(child, port)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            await child.end()


async def _listening(child: Child, port: int) -> None:
    while True:
        child.check()
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.01)


def width(rounds: Rounds) -> int:
    """How many streams there were at a time."""
    return int(rounds[0]["ours"]["streams"])


def cpu(figures: dict[str, Any]) -> float:
    """Microseconds of the reader a chunk."""
    return float(figures["cpu_us_per_chunk"])


def first(percent: str) -> Callable[[dict[str, Any]], float]:
    """Milliseconds from the server's write of the first words until they were handed on."""
    return lambda figures: float(figures["first_ms"][percent])


def ratios(rounds: Rounds, client: str, figure: Callable[[dict[str, Any]], float]) -> list[float]:
    """Of a client / plain httpx, one each round."""
    return [figure(found[client]) / figure(found["httpx"]) for found in rounds]


def middle(rounds: Rounds, client: str, figure: Callable[[dict[str, Any]], float]) -> float:
    """The median over the rounds."""
    return median(figure(found[client]) for found in rounds)
