"""The garbage collector: half a million objects come from imports and stay, and the rest is mostly freed by counting.

Left alone it takes 15 % of the CPU of an answer, in pauses of up to 145 ms; like this 0.3 %, and 5 ms (measured).
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (10_000, 20, 50)


@contextmanager
def unhurried_collector() -> Iterator[None]:
    """Imports without the collector, then keeps what was imported out of its way for good."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
