"""`keys rotate` and `keys status`: the master key, told and renewed in plain sentences. No secret is ever shown."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bot.errors import SettingsError
from bot.settings import Settings
from bot.terminal import DOT_ENV, EnvFile, finish

if TYPE_CHECKING:
    from storage.rotation import Rotated

commands = typer.Typer(help="The master key, which opens the keys of all conversations.", no_args_is_help=True)

_DAY_SECONDS = 86_400


@commands.command("rotate")
def rotate_keys(
    end: Annotated[
        bool, typer.Option("--finish", help="All machines have the file with both keys: go over to the new one.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="The keyring is on a server, but there is one machine only.")
    ] = False,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Give the service a new master key, while it runs or not.

    Every key of the keyring is wrapped anew; conversations are not touched, and nothing waits. It may be stopped at any
    moment: call it again, and it goes on. The master key file must belong to this keyring alone.

    Where the keyring is on a server, the first call writes the file with both keys: copy it to every machine, then
    call it with --finish, then copy the file once more.

    Keep your copy of the old file until the backups of the keyring made before are gone; then destroy it.
    """
    finish(env_file, lambda settings: _rotate(settings, "finish" if end else "now" if now else "begin"))


@commands.command()
def status(env_file: EnvFile = DOT_ENV) -> None:
    """Tell where the keys are, how many, how often the master key was renewed, and how old the last backup is."""
    finish(env_file, _status)


async def _rotate(settings: Settings, way: str) -> int:
    from bot.check_store import reached
    from bot.commands.words import bar
    from storage.errors import StoreRefusedError
    from storage.rotation import KeyPlaces, Way, rotate

    if settings.bot_token is None:
        raise SettingsError(["BOT_TOKEN is not set: it tells which bot's store the keys belong to."])
    places = KeyPlaces(settings.master_key_file, settings.keyring_url, settings.data_dir)
    async with reached(settings) as client:
        if client is None:
            raise StoreRefusedError(f"{settings.data_dir} holds no data yet: there is no key to rotate.")
        with bar("Keys wrapped anew", 1.0) as show:
            done = await rotate(client, settings.bot_id, places, Way(way), lambda seen, total: show(seen / total))
    for line in _told(done, settings):
        typer.echo(line)
    return 0


def _told(rotated: "Rotated", settings: Settings) -> Iterator[str]:
    from storage.keyring import keyring_file

    path = settings.master_key_file
    if not rotated.done:
        yield f"{path} holds the old key and the new one now. Nothing else was changed yet."
        yield "Copy this file to every machine that serves with this keyring. Then type `keys rotate --finish` here."
        return
    yield f"The master key is renewed (epoch {rotated.epoch}), and {rotated.keys:,} keys are wrapped by it."
    if rotated.broken:
        yield f"{rotated.broken:,} keys could not be opened, as before, and were left as they are."
    if keyring_file(settings.keyring_url) is None:
        yield f"Copy {path} to every machine once more: the old key is not needed any more."
    yield f"Keep a copy of {path}. The old one opens backups of the keyring made before: destroy it when they are gone."


async def _status(settings: Settings) -> int:
    from storage.connection import StoreTarget
    from storage.keyring import MasterKey, keyring_file, open_keyring

    master = MasterKey.load(settings.master_key_file)
    keyring = await open_keyring(settings.keyring_url, master, create=False)
    try:
        record, count, copied = await keyring.record(), await keyring.count(), await keyring.copied_at()
    finally:
        await keyring.aclose()
    path = keyring_file(settings.keyring_url)
    place = path or StoreTarget.parse(settings.keyring_url).name
    typer.echo(f"Master key: {settings.master_key_file}, epoch {record.epoch}.")
    typer.echo(f"Keyring: {place}, {count:,} keys.")
    typer.echo(_backup_age(copied))
    if record.former or len(master.fingerprints()) > 1:
        cure = "type `keys rotate` to end it" if path else "type `keys rotate --finish` once every machine has the file"
        typer.echo(f"A rotation of the master key is under way: {cure}.")
    return 0


def _backup_age(copied: int) -> str:
    if not copied:
        return "No backup of the keyring is known."
    days = max(0, int(time.time()) - copied) // _DAY_SECONDS
    return f"The last backup of the keyring is {days} day{'' if days == 1 else 's'} old."
