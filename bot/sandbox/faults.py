"""What goes wrong on purpose: a plan of faults, drawn with a seed so that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "500", "502", "503", "504", "429", "403", "401", "400", "drop", "accept_then_cut", "late", "slow", "hang"
]
KINDS: frozenset[str] = frozenset(get_args(Kind))

#: How often chaos draws each kind, in parts; the ambiguous ones weigh most, for they are what a sender must resolve.
CHAOS: dict[Kind, int] = {
    "500": 2, "502": 1, "504": 1, "429": 1, "drop": 3, "accept_then_cut": 4, "late": 4, "slow": 2,
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Fault:
    """One rule of the plan.

    `p` is the chance per call, `count` how often it strikes at most (None: without end). `seconds`: the pause of
    `slow`, when `late` accepts, when `hang` cuts, the `retry_after` of 429. `hold` keeps a `late` connection open and
    silent until the call is accepted instead of cutting it at once. `html` answers 5xx with a proxy's page, no JSON.
    `drawn` draws the pause between 0 and `seconds` at each strike.
    """

    method: str
    kind: Kind
    p: float = 1.0
    count: int | None = None
    seconds: float = 1.0
    chat_id: int | None = None
    hold: bool = False
    html: bool = False
    description: str | None = None
    drawn: bool = False
    struck: int = 0

    def fits(self, method: str, chat_id: int | None) -> bool:
        if self.count is not None and self.struck >= self.count:
            return False
        # A fault of the poll would only slow the chaos down: it has to be named.
        named = self.method == method or (self.method == "*" and method != "getUpdates")
        return named and self.chat_id in (None, chat_id)


class FaultPlan:
    """Rules are tried in the order in which they were added; the first that strikes is taken."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # repeatable, guards nothing
        self._rules: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def rules(self) -> tuple[Fault, ...]:
        return tuple(self._rules)

    def seed(self, seed: int) -> None:
        """Draw anew from `seed`."""
        self._random.seed(seed)

    def add(
        self, *, method: str = "*", kind: Kind, p: float = 1.0, count: int | None = None, seconds: float = 1.0,
        chat_id: int | None = None, hold: bool = False, html: bool = False, description: str | None = None,
    ) -> Fault:  # fmt: skip
        """Add a rule; `method` "*" means every method but getUpdates. Raises ValueError for an unknown kind."""
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; one of {', '.join(sorted(KINDS))}")
        rule = Fault(
            method=method, kind=kind, p=p, count=count, seconds=seconds, chat_id=chat_id, hold=hold, html=html,
            description=description,
        )  # fmt: skip
        self._rules.append(rule)
        return rule

    def chaos(self, *, method: str = "*", p: float = 0.1, longest_seconds: float = 2.0) -> None:
        """Each call fails with chance `p`, in one of the ways of `CHAOS`; lasting ones take up to `longest_seconds`."""
        whole, passed = sum(CHAOS.values()), 1.0
        for kind, parts in CHAOS.items():
            share = p * parts / whole
            # Rules are tried one after the other: each is given the share of what the former ones let through.
            self.add(method=method, kind=kind, p=share / passed, seconds=longest_seconds).drawn = True
            passed -= share

    def clear(self) -> None:
        self._rules.clear()

    def pick(self, method: str, chat_id: int | None) -> Fault | None:
        """The fault that strikes this call."""
        for rule in self._rules:
            if rule.fits(method, chat_id) and self._random.random() < rule.p:
                rule.struck += 1
                return rule
        return None

    def pause(self, fault: Fault) -> float:
        """Seconds that this strike takes: chaos draws them, a rule of its own is exact."""
        return self._random.uniform(0, fault.seconds) if fault.drawn else fault.seconds
