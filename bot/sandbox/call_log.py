"""Every Bot API call as the sandbox saw it: for tests that ask what was sent, when, and what became of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Call:
    """One call. Times are monotonic seconds; `t_done` is when it was carried out or refused.

    `status` is the HTTP status of the outcome, also where a fault kept the caller from hearing it; 0 where a fault
    let nothing happen. `params` are the arguments as they came, `text` what a reader sees of them.
    """

    n: int
    method: str
    chat_id: int | None
    params: dict[str, Any]
    t: float
    t_done: float | None = None
    status: int | None = None
    error: str | None = None
    message_id: int | None = None
    text: str | None = None
    fault: str | None = None


@dataclass(slots=True)
class CallLog:
    """`keep_calls` off leaves only the counts, for benchmarks."""

    keep_calls: bool = True
    on_call: Callable[[Call], None] | None = None
    calls: list[Call] = field(default_factory=list)
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    made: int = 0

    def open(self, method: str, chat_id: int | None, params: dict[str, Any]) -> Call:
        call = Call(n=self.made, method=method, chat_id=chat_id, params=params, t=time.monotonic())
        self.made += 1
        if self.keep_calls:
            self.calls.append(call)
        return call

    def close(self, call: Call, status: int, error: str | None = None) -> None:
        call.t_done, call.status, call.error = time.monotonic(), status, error
        self.counts[call.method, status] += 1
        if self.on_call is not None:
            self.on_call(call)
