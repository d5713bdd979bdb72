"""``python -m tests.bench``: the service beside a plain relay, on the same sandbox servers, in the same run.

Exit code 0 when all gates were passed, 1 when one was missed or there was no time to judge it, 2 when nothing could be
measured. What has no time left within ten minutes (on a busy machine) is skipped, and named.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.bench.exports import MESSAGES, QUICK_MESSAGES, exports
from tests.bench.gates import gates_of
from tests.bench.long import long
from tests.bench.process import BenchError, processors
from tests.bench.report import show
from tests.bench.rounds import PARTS, Scale, alternate
from tests.bench.scaling import Sizes, chats, history, prefix
from tests.bench.stops import stops
from tests.bench.streams import LOADS, QUICK_LOADS, streams
from tests.bench.window import Spare

_ALL: Final = (*PARTS, "stop", "streams", "history", "chats", "prefix", "long", "export")
_SPARE_SECONDS: Final = 45.0
_LONGEST_SECONDS: Final = 585.0
_QUICK_SECONDS: Final = 145.0
_WARM_PER_SECOND: Final = 200
_PRESSES: Final = 42


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    console = Console(stderr=True)
    if sys.platform != "linux":
        console.print("The bench reads CPU times from /proc and pins processes: it runs on Linux only.")
        return 2
    console.print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; bench and system on {processors()}.")
    try:
        result = _run(_measure(options, console), processors()[0])
    except asyncio.CancelledError:
        console.print("Ended from outside; nothing is left running.")
        return 2
    except BenchError as error:
        console.print(f"Nothing could be measured: {error}", markup=False)
        return 2
    gates = gates_of(result)
    result["gates"] = [
        {"name": g.name, "value": g.value, "limit": g.limit, "passed": g.passed, "verdict": g.verdict, "note": g.note}
        for g in gates
    ]
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    show(Console(), result, gates)
    return 0 if all(gate.passed for gate in gates) and not result["skipped"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="one short round and small seeds: two and a half minutes at most"
    )
    parser.add_argument("--only", action="append", choices=_ALL, help="this part alone; may be repeated")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument("--rounds", type=int, help="how often relay and service take turns")
    parser.add_argument("--seconds", type=float, help="length of one measured window")
    return parser.parse_args(arguments)


def _run(work: Any, processor: int) -> dict[str, Any]:
    """On the loop of uvloop and on one processor, so that what the bench takes is not the system's."""
    import uvloop

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        result: dict[str, Any] = uvloop.run(work)
        return result
    finally:
        os.sched_setaffinity(0, before)


async def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, the bench must not leave its systems behind: they run in sessions of their own.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    started = time.monotonic()
    wanted = frozenset(options.only or _ALL)
    scale, sizes, turns = _sizes(options)
    spare = Spare(0.0 if options.quick else _SPARE_SECONDS)

    def tell(what: str) -> None:
        console.print(f"[{time.monotonic() - started:5.0f} s] {what}", markup=False)

    result: dict[str, Any] = {"when": time.strftime("%Y-%m-%d %H:%M:%S"), "quick": options.quick}
    result |= {"processors": processors(), "skipped": []}
    rounds: list[dict[str, Any]] = []
    parts: dict[str, Callable[[], Awaitable[Any]]] = {
        "rounds": lambda: alternate(wanted, scale, spare, tell, into=rounds),
        "stop": lambda: stops(6 if options.quick else _PRESSES, spare, tell),
        "prefix": lambda: prefix(turns, tell),
        "history": lambda: history(sizes, spare, tell),
        "chats": lambda: chats(sizes, spare, tell),
        "long": lambda: asyncio.to_thread(long, tell),
        "export": lambda: asyncio.to_thread(exports, QUICK_MESSAGES if options.quick else MESSAGES, tell),
        "streams": lambda: streams(QUICK_LOADS if options.quick else LOADS, scale.rounds, tell),
    }
    deadline = started + (_QUICK_SECONDS if options.quick else _LONGEST_SECONDS)
    for name, part in parts.items():
        if wanted & (set(PARTS) if name == "rounds" else {name}):
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    result[name] = await part()
            except TimeoutError:
                result["skipped"].append(name)
                tell(f"no time left for {name}")
    result["rounds"] = rounds  # the finished ones, also where time ran out
    result["seconds"] = time.monotonic() - started
    return result


def _sizes(options: argparse.Namespace) -> tuple[Scale, Sizes, int]:
    scale = Scale(rounds=1, seconds=2.0, idle_seconds=2.0, warm_answers=500) if options.quick else Scale()
    sizes = (
        Sizes(turns=4_000, chats=5_000, alternations=2, answers=160, chats_seconds=2.0) if options.quick else Sizes()
    )
    if options.rounds:
        scale = replace(scale, rounds=options.rounds)
    if options.seconds:
        warm = min(scale.warm_answers, int(_WARM_PER_SECOND * options.seconds))
        scale = replace(scale, seconds=options.seconds, warm_answers=warm)
    return scale, sizes, 200


if __name__ == "__main__":
    sys.exit(main())
