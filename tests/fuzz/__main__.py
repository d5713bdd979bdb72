"""`make fuzz CASES=1000000 SEED=…`: many cases over all cores. A case that is wrong ends the run and is printed with
its seed; `python -m tests.fuzz SEED-NUMBER` judges it alone."""

import asyncio
import multiprocessing
import os
import sys
import time

from tests.fuzz.streams import judged, made, run

_AT_ONCE = 2000
_HUNG_SECONDS = 120


def again(name: str) -> int:
    """One case, shown whole."""
    case, pieces = made(name)
    print(case, f"{len(pieces)} pieces", sep="\n")
    wrong = asyncio.run(judged(case, pieces))
    print(wrong or "nothing is wrong with it")
    return 1 if wrong else 0


def main() -> int:
    cases = int(os.environ.get("CASES") or 100_000)
    seed = os.environ.get("SEED") or str(int.from_bytes(os.urandom(4)))
    print(f"{cases} cases, seed {seed}", flush=True)
    started = told = time.monotonic()
    done = 0
    with multiprocessing.get_context("spawn").Pool() as pool:
        parts = [(seed, first, min(_AT_ONCE, cases - first)) for first in range(0, cases, _AT_ONCE)]
        waiting = [(first, count, pool.apply_async(run, (seed, first, count))) for seed, first, count in parts]
        for first, count, result in waiting:
            try:
                name, wrong = result.get(_HUNG_SECONDS)
            except multiprocessing.TimeoutError:
                name, wrong = f"{seed}-{first}", f"one of the {count} cases from this one on hangs"
            if name:
                print(f"{name}: {wrong}\nAlone: python -m tests.fuzz {name}")
                return 1
            done += count
            if time.monotonic() - told >= 5 or done == cases:
                told = time.monotonic()
                print(f"{done} of {cases}, {done / (told - started):.0f} a second", flush=True)
    print(f"{done} cases, nothing wrong, seed {seed}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(again(sys.argv[1]) if sys.argv[1:] else main())
