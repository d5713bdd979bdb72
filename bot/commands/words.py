"""What commands read from and tell the person at the terminal: lengths of time, questions, progress.

A bar is drawn on a terminal only; in a pipe or a log nothing of it appears.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import typer

from bot.errors import SettingsError

DONE, UNDONE = 0, 3
"""Exit codes, beside those of ``terminal``: all was done; something was left undone, and may be tried again."""

_SECONDS: Final = {"h": 3_600, "d": 86_400, "w": 7 * 86_400}
_LENGTH: Final = re.compile(r"([1-9][0-9]{0,5})([hdw])")


def seconds_of(length: str, option: str) -> int:
    """Such as 12h, 90d or 8w. Raises SettingsError that names the option."""
    found = _LENGTH.fullmatch(length.strip().lower())
    if found is None:
        raise SettingsError([f"{option} is not a length of time: write a number with h, d or w, such as 90d."])
    return int(found[1]) * _SECONDS[found[2]]


def day_of(seconds: int) -> str:
    """A moment for people, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def agreed(question: str, *, yes: bool) -> bool:
    """Asks, unless the answer was given with the command. Raises SettingsError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise SettingsError(["This deletes for good, and there is nobody to ask: add --yes if that is what you want."])
    return typer.confirm(question, default=False, err=True)


@contextmanager
def bar(what: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """What it gives is told how far things are; ``total`` None: not known."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda so_far: progress.update(task, completed=so_far)
