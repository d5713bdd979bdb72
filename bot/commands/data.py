"""`export`, `forget` and `purge`: what the law gives people, done by whoever runs the service.

Nothing is deleted here: each deletion is posted into its chat, as the admin API does it, and a worker carries it out in
the chat's own order. The command waits for the receipts, and runs a worker itself where none is at work.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bot.errors import SettingsError
from bot.settings import Settings
from bot.terminal import DOT_ENV, EnvFile, finish

if TYPE_CHECKING:
    from bot.commands.beside import Office

ChatId = Annotated[int, typer.Argument(metavar="CHAT_ID", help="Telegram's id of the chat; -- goes before a group's.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")]

_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 600.0
"""For one step to be done: a chat may be in the middle of a long answer, or of several."""

_MOST_CHAT_ID: Final = 2**52


def export(
    chat_id: ChatId,
    to: Annotated[Path, typer.Option(help="The folder that the files go to.")] = Path(),
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Write everything kept of a chat into files, as the customer's own /export does."""
    finish(env_file, lambda settings: _export(settings, chat_id, to))


def forget(
    chat_id: ChatId,
    yes: Yes = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="The customer is not told in the chat.")] = False,
    dry_run: DryRun = False,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Delete everything kept of a chat, for good. Ends with 0 done, 2 refused, 3 not done yet."""
    finish(env_file, lambda settings: _forget(settings, chat_id, yes=yes, notify=not quiet, dry_run=dry_run))


def purge(
    older_than: Annotated[str, typer.Option(help="How long nothing was said, such as 400d.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Delete all chats in which nothing was said for long. Ends with 0 done, 2 refused, 3 something left."""
    finish(env_file, lambda settings: _purge(settings, older_than, yes=yes, dry_run=dry_run))


# ---- export
async def _export(settings: Settings, chat_id: int, folder: Path) -> int:
    from bot.commands.beside import office

    _check_id(chat_id)
    async with office(settings) as found:
        wanted = await found.rights.request_export(chat_id, "operator")
        if wanted is None:
            raise SettingsError([f"Nothing is stored of chat {chat_id}."])
        for part in range(1, len(wanted.parts) + 1):
            name, content = await found.rights.export_part(wanted, part)
            path = folder / f"chat-{chat_id}-{name}"
            await _write(path, content, f"{part} of {len(wanted.parts)}")
            typer.echo(str(path))
    return 0


async def _write(path: Path, content: AsyncIterator[bytes], what: str) -> None:
    """A file that nobody else may read; it bears its name only once it is whole. Raises SettingsError."""
    from bot.commands.words import bar

    half = path.with_name(f"{path.name}.half")
    file = _begun(path, half)
    try:
        with os.fdopen(file, "wb") as written, bar(f"Writing part {what}", None) as tell:
            async for chunk in content:
                written.write(chunk)
                tell(written.tell())
            written.flush()
            os.fsync(written.fileno())
        half.rename(path)
    except OSError as error:
        raise SettingsError([f"{path} could not be written ({error.strerror})."]) from error
    finally:
        half.unlink(missing_ok=True)


def _begun(path: Path, half: Path) -> int:
    try:
        if path.exists():
            raise FileExistsError(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        said = "it is there already" if isinstance(error, FileExistsError) else error.strerror
        raise SettingsError([f"{path} cannot be written ({said}): name another folder with --to."]) from error


# ---- forget
async def _forget(settings: Settings, chat_id: int, *, yes: bool, notify: bool, dry_run: bool) -> int:
    from bot.commands.beside import office
    from bot.commands.words import DONE, agreed

    _check_id(chat_id)
    async with office(settings) as found:
        if not await found.rights.is_known(chat_id):
            raise SettingsError([f"The bot never had anything to do with chat {chat_id}: look at the number."])
        held = await found.rights.held(chat_id)
        what = (
            f"chat {chat_id}: {held.turns} turns in {held.conversations} conversations, {held.waiting} waiting messages"
        )
        if dry_run:
            typer.echo(f"This would delete everything of {what}.")
            return DONE
        if not agreed(f"Delete everything of {what}? This cannot be undone.", yes=yes):
            typer.echo("Nothing was deleted.", err=True)
            return DONE
        return await _erased(found, [chat_id], notify=notify)


async def _erased(found: "Office", chats: Sequence[int], *, notify: bool) -> int:
    """Deletes chats, a hundred at a time; the exit code."""
    from bot.app import run
    from bot.commands.beside import worked_on
    from bot.commands.words import DONE, UNDONE, bar

    done = 0
    async with worked_on(found, run) as worker:
        with bar("Deleting", len(chats)) as tell:
            for at in range(0, len(chats), _AT_ONCE):
                batch = chats[at : at + _AT_ONCE]
                asked = [await found.rights.erase(chat_id, "operator", notify=notify) for chat_id in batch]
                receipts = [receipt for receipt in asked if receipt is not None]
                done += len(batch) - len(receipts)  # gone by themselves meanwhile
                left = await _awaited(found, receipts, worker)
                done += len(receipts) - len(left)
                tell(done)
                if left:
                    typer.echo(f"{len(chats) - done} of {len(chats)} chats are not deleted yet.", err=True)
                    typer.echo("What was asked for is kept, and done as soon as a worker comes to it.", err=True)
                    for receipt in left:
                        typer.echo(receipt)
                    return UNDONE
                for receipt in receipts:
                    typer.echo(receipt)
    return DONE


async def _awaited(found: "Office", receipts: Sequence[str], worker: "asyncio.Task[int] | None") -> list[str]:
    """Those requests that are still open when patience is over, or the worker has ended."""
    left = list(receipts)
    patience = time.monotonic() + _PATIENCE_SECONDS
    while True:
        states = [await found.rights.receipt(receipt) for receipt in left]
        still = [receipt for receipt, state in zip(left, states, strict=True) if state is None or not state.done_ms]
        if len(still) < len(left):
            patience = time.monotonic() + _PATIENCE_SECONDS
        left = still
        if not left or time.monotonic() > patience:
            return left
        if worker is not None and worker.done():
            worker.result()
            return left
        await asyncio.sleep(_LOOK_SECONDS)


# ---- purge
async def _purge(settings: Settings, older_than: str, *, yes: bool, dry_run: bool) -> int:
    from bot.commands.beside import office
    from bot.commands.words import DONE, agreed, day_of, seconds_of

    border = int(time.time()) - seconds_of(older_than, "--older-than")
    async with office(settings) as found:
        old, seen = await _old(found, border)
        what = f"{len(old)} of {seen} chats, in which nothing was said since {day_of(border)}"
        if dry_run or not old:
            typer.echo(f"This would delete {what}." if old else f"There is nothing to delete: {what}.")
            return DONE
        if not agreed(f"Delete everything of {what}? This cannot be undone.", yes=yes):
            typer.echo("Nothing was deleted.", err=True)
            return DONE
        return await _erased(found, old, notify=False)


async def _old(found: "Office", border: int) -> tuple[list[int], int]:
    """The chats whose newest turn is older than that (s), and how many were looked at. Where it cannot be told how old
    one is, or somebody waits for an answer, it is left alone."""
    from bot.commands.words import bar

    seen: set[int] = set()
    old = []
    with bar("Looking at chats", None) as tell:
        async with aclosing(found.rights.chats()) as chats:
            async for chat_id in chats:
                if chat_id in seen:
                    continue  # a scan may tell a key twice
                seen.add(chat_id)
                tell(len(seen))
                held = await found.rights.held(chat_id)
                if held.turns and not held.waiting and 0 < held.newest_s < border:
                    old.append(chat_id)
    return sorted(old), len(seen)


def _check_id(chat_id: int) -> None:
    if not -_MOST_CHAT_ID < chat_id < _MOST_CHAT_ID:
        raise SettingsError([f"{chat_id} is no id of a chat: they have at most 16 digits."])
