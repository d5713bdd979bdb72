"""What chats used of the model, in messages, tokens and money, by minute, UTC day and UTC month.

``finish.lua`` counts it in the step that ends a turn, at the store's clock, in the chat's hash and in its partition's.
A counter bears the number of its window and starts anew in another one: none has to expire, and none is missed by a
death. Here is how the counters are read; the arithmetic of windows agrees with the script's.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from storage.keys import PARTITIONS, Keys
from storage.scripts import Store

PERIODS: Final = ("m", "d", "M")
"""Minute, UTC day, UTC month: the names that counters have in the store."""

_MS: Final = {"m": 60_000, "d": 86_400_000}


class Used(NamedTuple):
    """What was used in one window. ``micros``: millionths of whatever money the prices are in."""

    messages: int = 0
    tokens: int = 0
    micros: int = 0

    def plus(self, other: "Used") -> "Used":
        return Used(self.messages + other.messages, self.tokens + other.tokens, self.micros + other.micros)


NOTHING: Final = Used()


def window_of(period: str, now_ms: int) -> int:
    """The number of a period's window at a time (ms since 1970): months count from the year 0."""
    if period in _MS:
        return now_ms // _MS[period]
    date = datetime.fromtimestamp(now_ms // 1000, UTC)
    return date.year * 12 + date.month - 1


def end_of(period: str, now_ms: int) -> int:
    """When the window of a time is over: the first ms of the next one."""
    following = window_of(period, now_ms) + 1
    if period in _MS:
        return following * _MS[period]
    year, month = divmod(following, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000


def counted(value: bytes | None) -> tuple[int, Used]:
    """A counter as the store holds it: its window and what was used; window -1 where there is none."""
    if value is None:
        return -1, NOTHING
    window, messages, tokens, micros = map(int, value.split())
    return window, Used(messages, tokens, micros)


def used_of(fields: Mapping[str, bytes], now_ms: int) -> dict[str, Used]:
    """The counters among a hash's fields as they stand at a time, by period; those of other windows are zero."""
    used = dict.fromkeys(PERIODS, NOTHING)
    for period in PERIODS:
        window, amount = counted(fields.get(f"u:{period}"))
        if window >= 0 and window == window_of(period, now_ms):
            used[period] = amount
    return used


@dataclass(frozen=True, slots=True)
class Sums:
    """What all chats together used, by period and window, when the store's clock stood at ``at_ms``.

    A partition in which nothing was used lately brings an old window along; ``used`` picks the one of a time.
    """

    at_ms: int
    windows: dict[tuple[str, int], Used]

    def used(self, now_ms: int) -> dict[str, Used]:
        return {period: self.windows.get((period, window_of(period, now_ms)), NOTHING) for period in PERIODS}


class Totals:
    """Reads what all chats together used. Raises StorageError."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._stats = [keys.partition("stats", number) for number in range(PARTITIONS)]

    async def sums(self) -> Sums:
        """The sums over all partitions, with the store's time: 65 small commands, which travel as one pipeline."""
        names = [f"u:{period}" for period in PERIODS]
        (seconds, micros), *rows = await asyncio.gather(
            self._store.call("TIME"), *(self._store.call("HMGET", key, *names) for key in self._stats)
        )
        windows: dict[tuple[str, int], Used] = {}
        for row in rows:
            for period, value in zip(PERIODS, row, strict=True):
                window, used = counted(value)
                windows[period, window] = windows.get((period, window), NOTHING).plus(used)
        return Sums(int(seconds) * 1000 + int(micros) // 1000, windows)
