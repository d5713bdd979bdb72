"""How a command meets the person at the terminal: it reads the settings, sets up logging, and turns every end into an
exit code: 0 done, 1 crashed, 2 something is missing or wrong (told in plain sentences on stderr), 130 interrupted.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bot.errors import SettingsError
from bot.logs import configure, get_logger, log_leftovers
from bot.settings import Settings, load_settings
from storage.errors import StorageError

CRASHED, REFUSED, INTERRUPTED = 1, 2, 130
DOT_ENV = Path(".env")

EnvFile = Annotated[Path, typer.Option("--env-file", help="Settings that the environment does not give.")]


def finish(env_file: Path, begin: Callable[[Settings], Coroutine[Any, Any, int]]) -> None:
    """Runs a command and ends the process with its exit code; nothing it meets ends in Python's own traceback."""
    try:
        settings = _settings(env_file)
        configure(settings.log_level, settings.log_format, settings.secret_values())
        log_leftovers()
        code = _loop(begin(settings))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the top of the process: told in words, or logged under the log's rules
        code = _told(error)
    raise typer.Exit(code)


def _told(error: Exception) -> int:
    """Tells the person at the terminal what is missing or wrong; what nobody foresaw goes to the log."""
    faults = list(_leaves(error))
    if not all(isinstance(fault, (SettingsError, StorageError)) for fault in faults):
        get_logger("bot.start").error("process.crashed", exc_info=error)
        return CRASHED
    for fault in dict.fromkeys(map(str, faults)):
        typer.echo(fault, err=True)
    return REFUSED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors inside a task group's, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _settings(env_file: Path) -> Settings:
    if env_file != DOT_ENV and not env_file.is_file():
        raise SettingsError([f"{env_file} is not there: write the path of an existing file after --env-file."])
    return load_settings(env_file)


def _loop(command: Coroutine[Any, Any, int]) -> int:
    if sys.platform == "win32":
        return asyncio.run(command)
    import uvloop

    return uvloop.run(command)
