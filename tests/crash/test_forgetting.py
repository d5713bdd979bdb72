"""Nothing written before a confirmed deletion comes back, whatever dies or sleeps around it."""

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Final

import pytest

from tests.crash.campaign import given_seed
from tests.crash.forgetting import Forgets
from tests.crash.incident import Incident, play_all
from tests.crash.report import Report
from tests.crash.stage import Cast, scratch
from tests.crash.storm import Topology

_A_ROUND: Final = 63
_BOTH: Final[tuple[Topology, ...]] = ("split", "single")


class Deceived(Forgets):
    """Customers who believe that all was deleted once more, which nobody did: the judge must find everything."""

    async def _settle(self) -> None:
        for life in self._lives.values():
            life.era += 1
        await super()._settle()


async def raced(races: int, topologies: Sequence[Topology] = _BOTH, kind: type[Forgets] = Forgets) -> Report:
    """So many deletions, in rounds of which two are played at once, over the topologies in turn."""
    draw = random.Random(given_seed())
    rounds = min(races, max(2, round(races / _A_ROUND)))
    whole = Report()
    places = asyncio.Semaphore(2)
    async with Cast() as cast:

        async def one(topology: Topology, seed: int) -> None:
            async with places, scratch() as folder:
                report = await kind(cast, folder, topology, seed, races=-(-races // rounds)).play()
            print(f"{topology} {seed} took {report.seconds:.0f} s", flush=True)
            whole.add(report)

        async with asyncio.TaskGroup() as group:
            for number in range(rounds):
                group.create_task(one(topologies[number % len(topologies)], draw.randrange(1_000_000)))
    print(whole.table())
    return whole


@pytest.mark.crash
async def test_what_is_deleted_during_an_answer_stays_deleted() -> None:
    """One receipt for each deletion; nothing of before is shown, told to the model, stored, exported or readable after
    it; what is written then is answered once and remembered."""
    report = await raced(24)
    assert report.clean, report.table()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize("topology", _BOTH)
async def test_two_hundred_and_fifty_deletions_during_answers_stay_deleted(topology: Topology) -> None:
    """The same, often enough for what is rare: 500 over both."""
    report = await raced(int(os.environ.get("RACES") or 500) // 2, [topology])
    assert report.clean, report.table()


@pytest.mark.crash
@pytest.mark.slow
async def test_what_was_not_deleted_is_found_wherever_it_is() -> None:
    """A search that finds nothing where there is something proves nothing."""
    report = await raced(1, kind=Deceived)
    for complaint in ("1 receipts", "is still stored", "was exported", "can still be opened"):
        assert any(complaint in told for told in report.leaks), (complaint, report.leaks)


@pytest.mark.crash
async def test_who_sleeps_through_a_deletion_destroys_nothing_of_what_came_after_it() -> None:
    """The keys of what was written since belong to the chat as well: a process that wakes up late must leave them."""
    [ending] = await play_all([Incident("overslept", "after:begin:4:stop", wake="answered")], at_once=1)
    assert ending.struck, ending.told()
    [view] = ending.views
    answers = [message.text or "" for message in view.seen if message.from_bot and " to Q" in (message.text or "")]
    assert [answer.rpartition(" ")[2] for answer in answers] == ["0", "0", "1"], answers
