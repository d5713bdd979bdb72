"""Random campaigns: customers write while processes are killed and frozen and the network lies; at the end the judge.

    python -m tests.crash.campaign        FAULTS=10000 SEED=1 (a random one is printed), ROUNDS_AT_ONCE=2

A campaign is a row of rounds of about 75 faults, each with servers, a store and customers of its own, half of them over
each topology. The seed draws the same plan again (what strikes in which order); the machine's timing stays its own.
"""

import asyncio
import os
import random
import sys
from typing import Final

from tests.crash.report import Report
from tests.crash.stage import Cast, scratch
from tests.crash.storm import Round, Topology

FAULTS_A_ROUND: Final = 75


async def campaign(faults: int, seed: int, *, at_once: int = 2, say: bool = True) -> Report:
    """Rounds until ``faults`` have struck; the sum of their reports."""
    whole = Report()
    draw = random.Random(seed)
    rounds = max(at_once, round(faults / FAULTS_A_ROUND))
    share = -(-faults // rounds)
    plans: list[tuple[Topology, int]] = [
        ("single" if number % 2 else "split", draw.randrange(1_000_000)) for number in range(rounds)
    ]
    places = asyncio.Semaphore(at_once)
    async with Cast() as cast:

        async def one(topology: Topology, round_seed: int) -> None:
            async with places, scratch() as folder:
                report = await Round(cast, folder, topology, round_seed, share).play()
            whole.add(report)
            if say:
                so_far = f"{whole.faults.total():6} faults, {whole.verdict.questions} messages"
                bad = "" if report.clean else "  NOT CLEAN"
                print(f"{so_far}; {topology} {round_seed} took {report.seconds:.0f} s{bad}", flush=True)
                for words in (*report.crashed, *report.unsettled, *report.leaks):
                    print(words, flush=True)

        async with asyncio.TaskGroup() as group:
            for plan in plans:
                group.create_task(one(*plan))
    return whole


def given_seed() -> int:
    """SEED of the environment, or a random one; printed either way."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\ncrash campaign: SEED={seed}", flush=True)
    return seed


def main() -> int:
    faults = int(os.environ.get("FAULTS") or 10_000)
    report = asyncio.run(campaign(faults, given_seed(), at_once=int(os.environ.get("ROUNDS_AT_ONCE") or 2)))
    print(report.table(), flush=True)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
