"""The command line. A command imports what it needs when it is called; how it ends is told in `terminal`."""

from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any

import typer

from bot.collector import unhurried_collector
from bot.commands import apikey, backup, data, keys
from bot.logs import get_logger
from bot.settings import Settings
from bot.terminal import DOT_ENV, EnvFile, finish

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
    finish(env_file, lambda settings: _run(settings, roles))


@cli.command()
def sandbox(env_file: EnvFile = DOT_ENV) -> None:
    """Try it in the browser, without any token."""
    finish(env_file, _sandbox)


@cli.command()
def start(env_file: EnvFile = DOT_ENV) -> None:
    """`run` where BOT_TOKEN is set, else `sandbox`."""
    everything = frozenset(role.value for role in Role)
    finish(env_file, lambda settings: _run(settings, everything) if settings.bot_token else _sandbox(settings))


@cli.command()
def check(env_file: EnvFile = DOT_ENV) -> None:
    """Tell what is wrong and how to mend it."""
    finish(env_file, _check)


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


cli.add_typer(apikey.commands, name="apikey")
cli.add_typer(keys.commands, name="keys")
for command in (data.export, data.forget, data.purge, backup.backup, backup.restore):
    cli.command()(command)


if __name__ == "__main__":
    cli()
