"""Puts a backup back onto this machine or another one; everything is looked at before anything is touched.

The order is the point: the files' headers, the master key, the codes over every byte, and only then whether the store
is empty. The store bears a mark until it is whole; it names both files, so that another try knows its own keyring.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import typer
from redis.asyncio import Redis

from bot.commands.words import DONE, bar
from bot.errors import SettingsError
from bot.settings import Settings
from storage.backup import opener_bound, rows_of, steadily
from storage.backup_file import BackupError, Header, Reader
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer, running_server
from storage.errors import (
    KeyringError,
    KeyringUnavailableError,
    MasterKeyWrongError,
    SchemaTooNewError,
    SealBrokenError,
)
from storage.keyring import Keyring, KeyringRecord, MasterKey, keyring_file, open_keyring, restore_keyring
from storage.keys import Keys
from storage.restore import Restored, Restoring, Unfinished, abandon, begin, finish, unfinished
from storage.schema import SCHEMA_VERSION, Identity

_DAY_SECONDS: Final = 86_400
_CONNECTIONS: Final = 4
_STORE_SECONDS: Final = 30.0
_OLDER_KEYS: Final = (
    "The copy of the keyring is older than that of the store: what was sealed under keys that were made in between "
    "does not open, and counts as erased."
)


async def put_back(settings: Settings, store_file: Path, keys_file: Path | None) -> int:
    """Puts copies back; the exit code. Raises SettingsError, StorageError."""
    if settings.bot_token is None:
        raise SettingsError(["BOT_TOKEN is not set: it tells which bot's store is put back."])
    _refuse_inside(settings)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Reader(store_file))
        _check_header(store, "store", settings)
        master = _master(settings)
        if keys_file is None:
            keyring = await _present_keyring(settings, master)
            stack.push_async_callback(keyring.aclose)
            record = await keyring.record()
            _check_keyring(store, record)
            key = await keyring.by_id(bytes.fromhex(store.header.key))
            store.check(_secret(store, key.secret if key else None))
            done = await _put_back(stack, settings, store, keyring)
        else:
            copied = stack.enter_context(Reader(keys_file))
            _check_header(copied, "keys", settings)
            record = _record(copied.header)
            _check_keyring(store, record)
            _check_age(copied, settings)
            opener = _opened_by(master, record, copied, store)
            copied.check(opener)
            store.check(opener if copied.header.key == store.header.key else _found_in(copied, store, master, record))
            done = await _put_back(stack, settings, store, (copied, master, record))
            if copied.header.made_s < store.header.made_s:
                typer.echo(_OLDER_KEYS, err=True)
    for line in _told(done, keys_file is not None, settings):
        typer.echo(line)
    return DONE


def _refuse_inside(settings: Settings) -> None:
    for name, path in (
        ("MASTER_KEY_FILE", settings.master_key_file),
        ("KEYRING_URL", keyring_file(settings.keyring_url)),
    ):
        if path is not None and path.resolve().is_relative_to(settings.data_dir.resolve()):
            raise SettingsError([f"{name} lies inside DATA_DIR, whose backups must not hold keys: move it out."])


def _check_header(reader: Reader, what: str, settings: Settings) -> None:
    header = reader.header
    if header.what != what:
        kinds = {"store": "the store", "keys": "the keyring"}
        raise BackupError(
            f"{reader.path} is no copy of {kinds[what]}, but of {kinds.get(header.what, 'something else')}."
        )
    if header.bot != settings.bot_id:
        raise BackupError(f"{reader.path} is of another bot ({header.bot}): let BOT_TOKEN be that one's.")
    if header.schema > SCHEMA_VERSION:
        raise SchemaTooNewError(found=header.schema, known=SCHEMA_VERSION)


def _master(settings: Settings) -> MasterKey:
    return MasterKey.load(settings.master_key_file)


async def _present_keyring(settings: Settings, master: MasterKey) -> Keyring:
    try:
        return await open_keyring(settings.keyring_url, master, create=False)
    except KeyringUnavailableError as error:
        raise BackupError(f"{error} A copy of it is named with --keys.") from error


def _check_keyring(store: Reader, record: KeyringRecord) -> None:
    if store.header.keyring != record.id:
        raise BackupError(f"{store.path} was sealed with another keyring: name a copy of that one with --keys.")


def _secret(store: Reader, secret: bytes | None) -> bytes:
    if secret is None:
        raise BackupError(f"The key that {store.path} is closed with is not in the keyring: it cannot be trusted.")
    return secret


def _check_age(copied: Reader, settings: Settings) -> None:
    age_s, most = int(time.time()) - copied.header.made_s, settings.key_backup_days
    if age_s > most * _DAY_SECONDS:
        raise BackupError(
            f"{copied.path} is {age_s // _DAY_SECONDS} days old. Customers were told that after {most} days "
            "(KEY_BACKUP_DAYS) no copy opens what they delete: take a younger one, and delete this one."
        )


def _record(header: Header) -> KeyringRecord:
    kept = header.record
    try:
        names = bytes.fromhex(kept["names"])
        return KeyringRecord(kept["id"], kept["master"], kept["epoch"], names, "", tuple(kept["past"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError("The copy of the keyring was altered or is damaged: take another one.") from error


def _opened_by(master: MasterKey, record: KeyringRecord, copied: Reader, store: Reader) -> bytes:
    """The key of the code at a keyring's end. Raises MasterKeyWrongError."""

    held = set(master.fingerprints())
    if record.master not in held:
        if record.master in store.header.past and store.header.master in held:
            raise MasterKeyWrongError(
                "The master key was renewed after this copy of the keyring was made: it opens with the old one alone. "
                "Let MASTER_KEY_FILE name your copy of that."
            )
        raise MasterKeyWrongError(
            "MASTER_KEY_FILE holds another master key than the one this copy of the keyring was made with. If that was "
            "renewed since, let it name your copy of the old one."
        )
    try:
        return master.using(record.master).unwrap(bytes.fromhex(copied.header.opener), opener_bound(record.id))
    except (SealBrokenError, ValueError) as error:
        raise BackupError(
            f"{copied.path} was altered or is damaged: nothing of it is used. Take another copy."
        ) from error


def _found_in(copied: Reader, store: Reader, master: MasterKey, record: KeyringRecord) -> bytes:
    """The key of the code at a store's end, out of a copied keyring that was checked."""

    wanted = bytes.fromhex(store.header.key)
    for row in rows_of(copied.parts()):
        if row.id == wanted:
            return master.using(record.master).unwrap(row.wrapped, row.id + row.name)
    return _secret(store, None)


_CopiedKeyring = tuple[Reader, MasterKey, KeyringRecord]


async def _put_back(
    stack: AsyncExitStack, settings: Settings, store: Reader, source: Keyring | _CopiedKeyring
) -> Restored:
    """Into the configured store. Everything was checked but whether it is empty."""

    keys = Keys(settings.bot_id)
    copied = source if isinstance(source, tuple) else None
    taken = copied is not None and await _is_taken(settings, copied[1])
    if taken and not _holds_data(settings):
        raise _occupied()
    client = await stack.enter_async_context(_empty_store(settings))
    before = await unfinished(client, keys)
    ours = copied is not None and before is not None and before.keys == copied[0].code
    if taken and not ours:
        raise _occupied()
    await begin(client, keys, Unfinished(store.code, copied[0].code if copied else ""))
    if copied is None:
        assert not isinstance(source, tuple)
        keyring = source
    else:
        try:
            keyring = await _keyring_back(settings, copied, there=taken)
        except KeyringError:
            if before is None:
                await abandon(client, keys)
            raise
        stack.push_async_callback(keyring.aclose)

    async def stands(key_id: bytes) -> bool:
        return await _stands(keyring, key_id)

    restoring = Restoring(client, keys, stands, keep_days=settings.retention_days, now_s=time.time())
    with bar("Put back", store.size) as tell:
        done = await restoring.run(store, tell)
    record = await keyring.record()
    await finish(client, keys, store.header.schema, Identity(record.master, record.id))
    return done


async def _stands(keyring: Keyring, key_id: bytes) -> bool:
    try:
        return await keyring.by_id(key_id) is not None
    except SealBrokenError:
        return False


async def _is_taken(settings: Settings, master: MasterKey) -> bool:
    """Whether there is a keyring where the copy would go, whoever's it is."""

    path = keyring_file(settings.keyring_url)
    if path is not None:
        return path.exists()
    try:
        keyring = await open_keyring(settings.keyring_url, master, create=False)
    except MasterKeyWrongError:
        return True
    except KeyringUnavailableError:
        return False  # or it cannot be reached, which is told when it is made
    await keyring.aclose()
    return True


def _occupied() -> BackupError:
    return BackupError(
        "There is a keyring already. Leave out --keys to use it, or move it away: it knows what was erased."
    )


async def _keyring_back(settings: Settings, copied: _CopiedKeyring, *, there: bool) -> Keyring:
    reader, master, record = copied
    if not there:
        await restore_keyring(settings.keyring_url, record, steadily(rows_of(reader.parts())))
    keyring = await open_keyring(settings.keyring_url, master, create=False)
    if keyring.identity != record.id:
        await keyring.aclose()
        raise _occupied()
    return keyring


def _holds_data(settings: Settings) -> bool:
    return bool(settings.redis_url) or (settings.data_dir / "appendonlydir").is_dir()


@asynccontextmanager
async def _empty_store(settings: Settings) -> AsyncIterator[Redis]:
    """A client of the configured store, on which no service is at work."""

    async with AsyncExitStack() as stack:
        target = StoreTarget.parse(settings.redis_url, ca_file=settings.ca_file)
        if target.embedded:
            if running_server(settings.data_dir) is not None:
                raise BackupError(f"A service is at work in DATA_DIR {settings.data_dir}: stop it first.")
            server = EmbeddedServer(settings.data_dir)
            await server.start()
            stack.push_async_callback(server.aclose)
            target = StoreTarget.parse(server.url)
        client = await connect(target, connections=_CONNECTIONS, timeout_seconds=_STORE_SECONDS)
        stack.push_async_callback(client.aclose)
        reply = await client.pubsub_numsub(Keys(settings.bot_id).control)
        if any(count for _, count in reply):
            raise BackupError("A service is at work on this store: stop it first.")
        yield client


def _told(done: Restored, with_keys: bool, settings: Settings) -> Iterator[str]:
    yield f"Put back: {done.chats:,} chats, {done.conversations:,} conversations, {done.turns:,} turns."
    if done.waiting:
        yield f"{done.waiting:,} messages wait for an answer: the service answers them, though they may be old."
    if done.erased or done.forgotten:
        chats = "1 chat" if done.forgotten == 1 else f"{done.forgotten:,} chats"
        yield f"Erased since, and left out: {done.erased:,} turns; of {chats} nothing is left."
    if done.expired:
        yield f"Too old by now (RETENTION_DAYS), and left out: {done.expired:,} turns."
    if with_keys:
        yield "The keyring is a copy: what customers deleted since it was made can be read again: nothing tells of it."
        yield f"It is at most {settings.key_backup_days} days old (KEY_BACKUP_DAYS). `forget CHAT_ID` deletes it anew."
    if done.api_keys:
        yield "Keys of the admin API that were revoked since are valid again: look at `apikey list`."
