"""`backup` and `restore`: the store and the keys that open it, in two files that lie apart.

What they do is in `copying` and `restoring`, which are loaded when they are called.
"""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from bot.settings import Settings
from bot.terminal import DOT_ENV, EnvFile, finish


def backup(
    folder: Annotated[Path, typer.Argument(help="The folder that the store's copy goes to.")],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="Another folder, for the keyring's copy; without it no keys are copied."),
    ] = None,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Copy the store and the keyring, while the service runs or not.

    The master key is in neither copy: keep one of it elsewhere. Copies of keys older than KEY_BACKUP_DAYS are deleted,
    so that what customers delete stays deleted.
    """
    finish(env_file, lambda settings: _backup(settings, folder, keys))


def restore(
    store_file: Annotated[Path, typer.Argument(help="The store's copy: store-….backup.")],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="The keyring's copy: keys-….backup. Without it the present one is used."),
    ] = None,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Put copies back into an empty store, without what was erased since they were made.

    With --keys into a place without a keyring. All of it or nothing: killed halfway, type it again.
    """
    finish(env_file, lambda settings: _restore(settings, store_file, keys))


def _backup(settings: Settings, folder: Path, keys_folder: Path | None) -> Coroutine[Any, Any, int]:
    from bot.commands.copying import back_up

    return back_up(settings, folder, keys_folder)


def _restore(settings: Settings, store_file: Path, keys_file: Path | None) -> Coroutine[Any, Any, int]:
    from bot.commands.restoring import put_back

    return put_back(settings, store_file, keys_file)
