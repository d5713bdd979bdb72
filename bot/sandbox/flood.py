"""Flood control: what is too much, and how long one is then shut out.

Telegram publishes one message a second per chat with short bursts, 20 a minute per group, about 30 a second over all
chats (Bot FAQ, "My bot is hitting limits"). The burst of three and the shared allowance of drafts and typing (20 per
5 s, 40 per 30 s) follow reports. Whoever goes on sending while shut out is shut out longer, as reported too.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bot.sandbox.refusal import too_many

#: Methods that share a chat's allowance for previews and the typing status.
COSMETIC = frozenset({"sendMessageDraft", "sendRichMessageDraft", "sendChatAction"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodLimits:
    """Windows are (calls, seconds). `prolong_seconds` are added for each call made while shut out."""

    chat_per_second: float = 1.0
    chat_burst: int = 3
    group: tuple[int, float] = (20, 60.0)
    everywhere: tuple[int, float] = (30, 1.0)
    cosmetic: tuple[tuple[int, float], ...] = ((20, 5.0), (40, 30.0))
    prolong_seconds: float = 1.0
    longest_seconds: float = 3600.0


class _Windows:
    """Times of the last calls, held against sliding windows."""

    __slots__ = ("_times", "_windows")

    def __init__(self, windows: tuple[tuple[int, float], ...]) -> None:
        self._windows = windows
        self._times: deque[float] = deque(maxlen=max(calls for calls, _ in windows))

    def wait(self, now: float) -> float:
        """Seconds until one more call fits."""
        longest = 0.0
        for calls, seconds in self._windows:
            if len(self._times) >= calls:
                longest = max(longest, self._times[-calls] + seconds - now)
        return longest

    def note(self, now: float) -> None:
        self._times.append(now)


class _Bucket:
    """A burst that fills up again at a steady rate."""

    __slots__ = ("_burst", "_level", "_rate", "_since")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst, self._level, self._since = rate, burst, float(burst), now

    def wait(self, now: float) -> float:
        self._level = min(self._burst, self._level + (now - self._since) * self._rate)
        self._since = now
        return max(0.0, (1 - self._level) / self._rate)

    def note(self) -> None:
        self._level -= 1


@dataclass(slots=True)
class _ChatState:
    bucket: _Bucket
    group: _Windows
    cosmetic: _Windows
    shut_until: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})


class FloodGate:
    """Counts calls against `limits`."""

    def __init__(self, limits: FloodLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._chats: dict[int, _ChatState] = {}
        self._everywhere = _Windows((limits.everywhere,))

    def check(self, method: str, chat_id: int) -> None:
        """Let a call pass and count it, or raise 429 with the seconds to wait. Groups have negative ids."""
        now, is_cosmetic = self._clock(), method in COSMETIC
        state = self._state(chat_id, now)
        shut_until = state.shut_until[is_cosmetic]
        if now < shut_until:
            longer = min(shut_until + self._limits.prolong_seconds, now + self._limits.longest_seconds)
            state.shut_until[is_cosmetic] = longer
            raise too_many(math.ceil(longer - now))
        wait = self._wait(state, is_cosmetic=is_cosmetic, is_group=chat_id < 0, now=now)
        if wait > 0:
            seconds = max(1, math.ceil(wait))
            state.shut_until[is_cosmetic] = now + seconds
            raise too_many(seconds)
        self._note(state, is_cosmetic=is_cosmetic, is_group=chat_id < 0, now=now)

    def _state(self, chat_id: int, now: float) -> _ChatState:
        state = self._chats.get(chat_id)
        if state is None:
            limits = self._limits
            bucket = _Bucket(limits.chat_per_second, limits.chat_burst, now)
            state = self._chats[chat_id] = _ChatState(bucket, _Windows((limits.group,)), _Windows(limits.cosmetic))
        return state

    def _wait(self, state: _ChatState, *, is_cosmetic: bool, is_group: bool, now: float) -> float:
        if is_cosmetic:
            return state.cosmetic.wait(now)
        wait = max(state.bucket.wait(now), self._everywhere.wait(now))
        return max(wait, state.group.wait(now)) if is_group else wait

    def _note(self, state: _ChatState, *, is_cosmetic: bool, is_group: bool, now: float) -> None:
        if is_cosmetic:
            state.cosmetic.note(now)
            return
        state.bucket.note()
        self._everywhere.note(now)
        if is_group:
            state.group.note(now)
