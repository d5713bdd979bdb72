"""The command line: reads the settings, sets up logging, imports what the command needs, and turns every end into an
exit code: 0 done, 1 crashed, 2 something is missing or wrong (told in plain sentences on stderr), 130 interrupted.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bot.collector import unhurried_collector
from bot.errors import SettingsError
from bot.logs import configure, get_logger, log_leftovers
from bot.settings import Settings, load_settings
from storage.errors import StorageError

CRASHED, REFUSED, INTERRUPTED = 1, 2, 130
DOT_ENV = Path(".env")

EnvFile = Annotated[Path, typer.Option("--env-file", help="Settings that the environment does not give.")]

cli = typer.Typer(
    name="python -m bot",
    help="Customer support on Telegram. `run` serves customers; `sandbox` needs no token and no network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it shows local variables, which hold customers' words
    rich_markup_mode=None,
)


class Role(StrEnum):
    """The parts of the service that can run in processes of their own."""

    INGRESS = "ingress"
    WORKER = "worker"
    WEB = "web"


@cli.command()
def run(
    only: Annotated[list[Role] | None, typer.Option(help="Run this part alone; may be repeated.")] = None,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Serve customers, with all parts or some."""
    roles = frozenset(role.value for role in only or Role)
    _finish(env_file, lambda settings: _run(settings, roles))


@cli.command()
def sandbox(env_file: EnvFile = DOT_ENV) -> None:
    """Try it in the browser, without any token."""
    _finish(env_file, _sandbox)


@cli.command()
def start(env_file: EnvFile = DOT_ENV) -> None:
    """`run` where BOT_TOKEN is set, else `sandbox`."""
    everything = frozenset(role.value for role in Role)
    _finish(env_file, lambda settings: _run(settings, everything) if settings.bot_token else _sandbox(settings))


@cli.command()
def check(env_file: EnvFile = DOT_ENV) -> None:
    """Tell what is wrong and how to mend it."""
    _finish(env_file, _check)


def _run(settings: Settings, roles: frozenset[str]) -> Coroutine[Any, Any, int]:
    settings.require_for_run()
    log = get_logger("bot.start")
    for hint in settings.hints():
        log.warning("settings.hint", hint=hint)
    with unhurried_collector():
        from bot import app
    return app.run(settings, roles)


def _sandbox(settings: Settings) -> Coroutine[Any, Any, int]:
    with unhurried_collector():
        from bot import app
    return app.sandbox(settings)


def _check(settings: Settings) -> Coroutine[Any, Any, int]:
    with unhurried_collector():
        from bot import check as examination
    return examination.check(settings)


def _finish(env_file: Path, begin: Callable[[Settings], Coroutine[Any, Any, int]]) -> None:
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


if __name__ == "__main__":
    cli()
