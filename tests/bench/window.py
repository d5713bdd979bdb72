"""A measured window: CPU of the system, of the bench and of everybody else between two moments.

The CPU that a system takes is its own whoever else is at work, so answers per CPU second hold on a busy machine; times
do not. A window in which others took more than a tenth of the system's processor is marked and, while there is time to
spare, measured again.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.process import busy_seconds, processors
from tests.bench.stage import Load
from tests.bench.systems import Running, Split

DISTURBED: Final = 0.10
"""Share of the system's processor that others may take."""

FULL: Final = 0.95
"""Share of the bench's processor in use, by whomever, above which the bench itself may be the limit."""


@dataclass(slots=True)
class Spare:
    """Seconds that may still go into repetitions."""

    seconds: float


@dataclass(slots=True)
class Window:
    """Figures of one window, as they go into the JSON file."""

    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def others(self) -> float:
        return float(self.figures["others_share"])


class Meter:
    """Reads all clocks at once, and again at the end."""

    def __init__(self, system: Running | Split) -> None:
        self._system = system
        self._at = time.monotonic()
        self._own = time.process_time()
        self._busy = [busy_seconds(processor) for processor in processors()]
        self._cpu = system.child.cpu_by_part()
        self._calls = system.stage.calls_made()

    def figures(self, answers: int) -> dict[str, Any]:
        """Rates and shares since the start; ``answers`` were given in it."""
        cpu = self._system.child.cpu_by_part()
        wall = time.monotonic() - self._at
        spent = {part: cpu[part] - self._cpu[part] for part in cpu}
        total = sum(spent.values())
        own = time.process_time() - self._own
        busy = [now - then for now, then in zip(map(busy_seconds, processors()), self._busy, strict=True)]
        others = busy[1] - total - (own if len(set(processors())) == 1 else 0.0)
        calls = {name: n - self._calls.get(name, 0) for name, n in self._system.stage.calls_made().items()}
        each = max(answers, 1)
        return {
            "answers": answers,
            "seconds": round(wall, 2),
            "answers_per_second": round(answers / wall, 1),
            "answers_per_cpu_second": round(answers / total, 1) if total else 0.0,
            "cpu_ms_per_answer": round(1000 * total / each, 3),
            "store_cpu_ms_per_answer": round(1000 * spent["store"] / each, 3),
            "cpu_share": round(total / wall, 3),
            "bench_share": round(own / wall, 3),
            "bench_core_busy": round(busy[0] / wall, 3),
            "others_share": round(max(0.0, others / wall), 3),
            "calls_per_answer": {name: round(n / each, 2) for name, n in sorted(calls.items()) if n},
        }


async def measured(system: Running | Split, spare: Spare, run: Callable[[Load], Awaitable[None]]) -> dict[str, Any]:
    """Figures of one load, repeated once where others disturbed it; the quieter one counts."""
    system.child.check()
    first = await _once(system, run)
    if first.others <= DISTURBED or spare.seconds < first.figures["seconds"]:
        return first.figures
    spare.seconds -= first.figures["seconds"]
    second = await _once(system, run)
    best = min(first, second, key=lambda window: window.others)
    return {**best.figures, "repeated": True}


async def _once(system: Running | Split, run: Callable[[Load], Awaitable[None]]) -> Window:
    load = Load(system.stage)
    meter = Meter(system)
    await run(load)
    figures = meter.figures(load.answers) | load.figures()
    figures["disturbed"] = figures["others_share"] > DISTURBED
    return Window(figures)
