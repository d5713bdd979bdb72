"""`apikey`: makes, lists and revokes the keys of the admin API."""

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot.errors import SettingsError
from bot.settings import Settings
from bot.terminal import DOT_ENV, EnvFile, finish

if TYPE_CHECKING:
    from storage.apikeys import ApiKey

commands = typer.Typer(help="Keys of the admin API.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


@commands.command()
def create(
    scope: Annotated[list[str], typer.Option(help="What it may do; may be repeated.")],
    expires: Annotated[str, typer.Option(help="When it ends, such as 90d; never without this.")] = "",
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: AsJson = False,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Make a key. It is shown once, and cannot be shown again."""
    finish(env_file, lambda settings: _create(settings, scope, expires, note, as_json=as_json))


@commands.command("list")
def list_(as_json: AsJson = False, env_file: EnvFile = DOT_ENV) -> None:
    """Tell which keys there are."""
    finish(env_file, lambda settings: _list(settings, as_json=as_json))


@commands.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The part between sk- and the secret.")],
    as_json: AsJson = False,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """End a key at once."""
    finish(env_file, lambda settings: _revoke(settings, key_id, as_json=as_json))


async def _create(settings: Settings, scopes: list[str], expires: str, note: str, *, as_json: bool) -> int:
    from bot.commands.beside import reached
    from bot.commands.words import seconds_of
    from storage.apikeys import SCOPES, ApiKeys

    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise SettingsError([f"--scope does not know {unknown[0]!r}: write one of {', '.join(SCOPES)}."])
    expires_s = int(time.time()) + seconds_of(expires, "--expires") if expires else 0
    async with reached(settings) as found:
        key, token = await ApiKeys(found.store, found.keys).create(scopes, expires_s=expires_s, note=note)
    if as_json:
        typer.echo(json.dumps({**_told(key), "token": token}))
    else:
        typer.echo(token)
        typer.echo(f"This key {_line(key)}. Keep it now: it is not shown again.", err=True)
    return 0


async def _list(settings: Settings, *, as_json: bool) -> int:
    from bot.commands.beside import reached
    from storage.apikeys import ApiKeys

    async with reached(settings) as found:
        keys = await ApiKeys(found.store, found.keys).all()
    if as_json:
        typer.echo(json.dumps([_told(key) for key in keys]))
    else:
        for key in keys:
            typer.echo(f"{key.id}  {_line(key)}")
        if not keys:
            typer.echo("There are no keys. `apikey create` makes one.", err=True)
    return 0


async def _revoke(settings: Settings, key_id: str, *, as_json: bool) -> int:
    from bot.commands.beside import reached
    from storage.apikeys import ApiKeys

    async with reached(settings) as found:
        key = await ApiKeys(found.store, found.keys).revoke(key_id)
    if key is None:
        raise SettingsError([f"There is no key {key_id!r}: `apikey list` tells which there are."])
    typer.echo(json.dumps(_told(key)) if as_json else f"{key.id} is revoked.")
    return 0


def _told(key: "ApiKey") -> dict[str, Any]:
    """All but the digest, which is nobody's business."""
    return {name: value for name, value in asdict(key).items() if name != "digest"}


def _line(key: "ApiKey") -> str:
    from bot.commands.words import day_of

    end = f"expires {day_of(key.expires_s)}" if key.expires_s else "does not expire"
    if key.revoked_s:
        end = f"was revoked {day_of(key.revoked_s)}"
    elif key.expires_s and key.expires_s <= time.time():
        end = f"expired {day_of(key.expires_s)}"
    return f"may {', '.join(key.scopes)}; {end}" + (f"; {key.note}" if key.note else "")
