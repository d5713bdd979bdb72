"""Each rule of the protocol matters: without it a small, exact incident ends badly; with it the same one ends well.

RULES.md lists rules, mutations and tests side by side.
"""

from dataclasses import dataclass, replace
from typing import Final

import pytest

from tests.crash.incident import Ending, Incident, play_all
from tests.crash.judge import VIOLATIONS
from tests.crash.mutations import MUTATIONS
from tests.crash.stage import QUICK

AFTER_THE_LAST_SWEEP: Final = QUICK.flight + QUICK.sweeps[-1] + 3.0
"""A freeze after which no sweep comes any more: what is left then is left for good."""

AFTER_THE_OTHER: Final = 4.5
"""A freeze after which the other process has certainly sent, also where it waited for a request under way."""

_AT_ONCE = 14
_MORE_TRIES = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A rule, the mutation that takes it away, the incident that needs it, and what goes wrong without it: a violation,
    ``healed`` (a second copy stood for a while), ``asked_again`` (for one answer) or ``trouble`` (the conversation does
    not come to its end)."""

    rule: str
    mutation: str
    incident: Incident
    harm: tuple[str, ...]


CASES = (
    Case("1", "nothing_is_known", Incident("crowded"), ("double", "healed", "broken")),
    Case("2", "fence_is_not_raised", Incident("single", "after:ask:1:stop", wake="answered"), ("double",)),
    Case(
        "3",
        "drafts_unchecked",
        Incident("lengthy", "before:sendMessageDraft:1:stop", wake="answered"),
        ("ghosts",),
    ),
    Case("4", "journal_after_the_send", Incident("one", "after:sendMessage:1:kill"), ("double",)),
    Case(
        "5",
        "no_check_at_the_write",
        Incident("single", "before:sendMessage:1:stop", wake="answered"),
        ("healed",),
    ),
    Case(
        "6a",
        "the_fence_alone_decides",
        Incident("one", "after:sendMessage:1:stop", freeze_seconds=AFTER_THE_OTHER),
        ("lost", "vanished"),
    ),
    Case(
        "6b",
        "losers_are_not_registered",
        Incident("single", "write:sendMessage:1:stop", freeze_seconds=AFTER_THE_LAST_SWEEP),
        ("double",),
    ),
    Case(
        "7a",
        "losers_stay",
        Incident("single", "write:sendMessage:1:stop", freeze_seconds=AFTER_THE_LAST_SWEEP),
        ("double",),
    ),
    Case(
        "7b",
        "no_reaper",
        Incident(
            "single",
            "write:sendMessage:1:stop,before:deleteMessage:1:kill",
            freeze_seconds=AFTER_THE_LAST_SWEEP,
        ),
        ("double",),
    ),
    Case(
        "8a",
        "anybody_finishes",
        Incident("edited", "before:finish:2:stop", "before:ask:1:kill", wake="second strike"),
        ("lost",),
    ),
    Case("8b", "no_sweeps", Incident("overdue"), ("double",)),
    Case("9a", "no_probe", Incident("cut"), ("double", "healed")),
    Case("9b", "no_last_look", Incident("late"), ("double", "healed")),
    Case("10", "no_slack", Incident("cut, then silence"), ("double", "healed")),
    Case("11", "one_step", Incident("blurred"), ("double", "lost", "history", "inversions")),
    Case("12", "sweeps_beside_the_mailbox", Incident("two"), ("vanished", "lost")),
    Case("13", "no_heartbeat", Incident("slow"), ("asked_again",)),
    Case("invariant 2", "notices_enter_the_history", Incident("plain"), ("history",)),
    Case("durable first", "confirmed_before_stored", Incident("one", "before:enqueue:1:kill"), ("trouble", "lost")),
    Case("dedupe", "repeated_updates_count_again", Incident("one", "after:enqueue:1:kill"), ("double", "inversions")),
)


def _harmed(ending: Ending, harm: tuple[str, ...]) -> bool:
    beside = {"trouble": bool(ending.trouble), "asked_again": ending.asked_again}
    return any(beside[kind] if kind in beside else getattr(ending.verdict, kind) > 0 for kind in harm)


def _shown(case: Case, ending: Ending) -> bool:
    return ending.struck and _harmed(ending, case.harm)


@pytest.mark.crash
@pytest.mark.slow
async def test_without_its_rule_each_incident_ends_badly_and_with_it_well() -> None:
    """No rule of the protocol can be removed unnoticed."""
    sound = [case.incident for case in CASES]
    broken = [replace(case.incident, mutations=(case.mutation,), settle_seconds=20.0) for case in CASES]
    endings = await play_all([*broken, *sound], at_once=_AT_ONCE)
    shown = dict(zip(CASES, endings, strict=False))
    for _ in range(_MORE_TRIES):
        # Some harm needs two things to meet in time, which a quick or a busy machine may miss, and meet the next time.
        missing = [case for case in CASES if not _shown(case, shown[case])]
        again = [replace(case.incident, mutations=(case.mutation,), settle_seconds=20.0) for case in missing]
        shown |= dict(zip(missing, await play_all(again, at_once=_AT_ONCE) if again else [], strict=True))
    harmless = [
        f"{case.rule}: {case.mutation} did no harm: {ending.told()}"
        for case, ending in shown.items()
        if not _shown(case, ending)
    ]
    unsound = [
        f"{case.rule}: not clean with the rule: {ending.told()}"
        for case, ending in zip(CASES, endings[len(CASES) :], strict=True)
        if not ending.clean or _harmed(ending, case.harm)
    ]
    assert not harmless + unsound, "\n".join(harmless + unsound)


@pytest.mark.crash
@pytest.mark.slow
async def test_nothing_written_before_a_forget_is_said_after_it() -> None:
    """An answer in hand when its chat is forgotten is thrown away; without the check of the epoch it appears."""
    sound = Incident("forgotten", "after:ask:1:stop", freeze_seconds=0.5)
    broken = replace(sound, mutations=("the_epoch_does_not_matter",))
    first, second = await play_all([sound, broken], at_once=2)
    assert first.struck
    assert second.struck
    assert not _answered(first)
    assert _answered(second)


def _answered(ending: Ending) -> bool:
    return ending.verdict.answers > 0


def test_every_case_names_a_mutation_and_a_harm_that_exist() -> None:
    """A misspelt harm would make a case blind."""
    known = {*VIOLATIONS, "healed", "trouble", "asked_again"}
    assert all(case.mutation in MUTATIONS and set(case.harm) <= known for case in CASES)
