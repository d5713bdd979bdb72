"""The times that the guarantees rest on, together, since they depend on each other. Seconds throughout."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Production values. A lease must outlast several renewals (a quarter of it each); ``flight`` must outlast any
    request that was cut off and may still be accepted; sweeps come after it. ``retry``, ``breaker`` and ``rest`` are
    the shortest pauses before a chat API is asked again: by one question, by any, and for one that waits. Operators are
    told of what is seen every ``look``: of a chat API that is down for ``outage``, and of what has been over for
    ``settle``. Keys that are too old go every ``expiry``."""

    flight: float = 15.0
    lease: float = 10.0
    turn: float = 300.0
    recheck: float = 0.3
    rounds: tuple[float, ...] = (0.0, 0.5, 1.2)
    sweeps: tuple[float, ...] = (15.0, 120.0, 900.0)
    trash: float = 2.0
    wake: float = 1.0
    leader: float = 15.0
    drain: float = 18.0
    poll: float = 25.0
    removals: float = 10.0
    retry: float = 0.4
    breaker: float = 2.0
    rest: float = 2.0
    look: float = 5.0
    outage: float = 20.0
    settle: float = 30.0
    expiry: float = 600.0
