"""Rules of the protocol, each taken away by a patch in the child: what a test needs to show that a rule matters."""

from collections.abc import Callable, Iterable
from typing import Final

MUTATIONS: Final[dict[str, Callable[[], None]]] = {}


def mutate(names: Iterable[str]) -> None:
    """Takes the named rules away in this process; raises KeyError for a name nobody knows."""
    for name in names:
        MUTATIONS[name]()
