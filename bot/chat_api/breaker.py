"""Keeps questions from an endpoint that fails: closed, open for a time that doubles, then one try at a time."""

import random
import time
from collections.abc import Callable
from typing import Final

_FAILURES: Final = 5
_MOST_SECONDS: Final = 30.0
_TRY_SECONDS: Final = 0.5


class Breaker:
    """Of one endpoint; ``seconds``: its first pause. ``since`` is when it opened, 0.0 while it is closed."""

    def __init__(self, seconds: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = seconds
        self._clock = clock
        self._failures = 0
        self._seconds = seconds
        self._until = 0.0
        self._trying = False
        self.since = 0.0

    def pause(self) -> float:
        """Seconds until a try makes sense; 0.0 where it does now."""
        if not self.since:
            return 0.0
        left = self._until - self._clock()
        if left > 0:
            return left
        return _TRY_SECONDS if self._trying else 0.0

    def begin(self) -> None:
        """A try begins; while the breaker is open, others wait for what becomes of it."""
        self._trying = bool(self.since)

    def leave(self) -> None:
        """A try ended without telling anything: it was called away."""
        self._trying = False

    def succeeded(self) -> None:
        self._failures, self._seconds, self.since, self._trying = 0, self._first, 0.0, False

    def failed(self, *, for_certain: bool = False, seconds: float = 0.0) -> None:
        """``for_certain``: the next request would fail, too (a refused key, a used-up account); ``seconds``: the server
        named a time before which it will."""
        self._trying = False
        if self.since and self._clock() < self._until:
            return  # begun before it opened: what fails together counts once
        self._failures += 1
        if not self.since and self._failures < _FAILURES and not for_certain:
            return
        self.since = self.since or self._clock()
        spread = random.uniform(0.75, 1.0)  # noqa: S311 (keeps replicas from trying all at once)
        self._until = self._clock() + max(min(seconds, _MOST_SECONDS), self._seconds * spread)
        self._seconds = min(self._seconds * 2, _MOST_SECONDS)
