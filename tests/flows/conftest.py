"""The service at work between the two sandbox servers, over real HTTP.

Most flows share one `python -m bot run` and tell themselves apart by their chats; those that kill, freeze or configure
it have one of their own, in a child process, or in this one where its times must be short.
"""

import asyncio
import itertools
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from bot.sandbox import ChatApiServer, ChatBehaviour, ChatRequest, SeenMessage, TelegramServer
from bot.settings import Settings
from bot.timing import Timing

TOKEN: Final = "4242:flows-need-no-real-token-at-all"
KEY: Final = "sk-flows-0123456789abcdef"
ALL: Final = frozenset({"ingress", "worker", "web"})
PATIENCE_SECONDS: Final = 20.0
QUICK: Final = Timing(
    flight=2.0, lease=1.5, recheck=0.2, rounds=(0.0, 0.1, 0.3), sweeps=(2.2, 5.0, 9.0), trash=0.4, wake=0.1, leader=1.5,
    drain=1.0, poll=2.0,
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
    return f"Answer to: {messages[-1]['content'][:3000]}"


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
        return [message.text or "" for message in self.shown]

    async def sees(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """The bot's texts once there are `count`; more than that fails."""
        await until(lambda: len(self.texts) >= count, f"{count} answers, seen {len(self.texts)}", seconds)
        assert len(self.texts) == count, self.texts
        return self.texts

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

    def asked(self, marker: str) -> list[ChatRequest]:
        """The requests whose question holds a marker, oldest first."""
        return [request for request in self.chat_api.requests if marker in request.messages[-1]["content"]]

    async def is_asked(self, marker: str, count: int = 1) -> list[ChatRequest]:
        found: list[ChatRequest] = await until(
            lambda: found if len(found := self.asked(marker)) >= count else None, f"{count} requests about {marker}"
        )
        return found

    async def all_taken(self) -> None:
        """Telegram holds nothing back: every update was stored and confirmed."""
        await until(lambda: self.telegram.pending_updates() == 0, "all updates confirmed")

    def slow(self, seconds: float) -> None:
        self.chat_api.behaviour = ChatBehaviour(first_delay_seconds=seconds, answer=echo)

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


@dataclass
class Service:
    """`python -m bot …` in a child process, with its own folder, settings and log."""

    world: World
    folder: Path
    words: tuple[str, ...] = ("-m", "bot", "run")
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        own = variables(self.world, self.folder, HTTP_PORT=str(self.port), **self.settings)
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT), **own}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """All that it ever wrote."""
        return (self.folder / f"log-{self.port}").read_text(errors="replace")

    def spawn(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"log-{self.port}").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.words], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    async def start(self) -> None:
        """Returns when it polls."""
        before = self.world.telegram.polls()
        self.spawn()
        await until(lambda: self.world.telegram.polls() > before or self._ended(), "the service polls")
        assert not self._ended(), self.output

    async def ready(self) -> None:
        """Returns when all its parts are at work."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
            while asyncio.get_running_loop().time() < deadline:
                with suppress(httpx.TransportError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                assert not self._ended(), self.output
                await asyncio.sleep(0.05)
        pytest.fail(f"not ready: {self.output[-3000:]}")

    async def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        process = self._running()
        process.send_signal(SIGTERM)
        await until(lambda: process.poll() is not None, "the service ends", seconds)
        self.process = None
        return int(process.returncode)

    async def kill(self) -> None:
        """SIGKILL: nothing of it runs on."""
        process = self._running()
        process.send_signal(SIGKILL)
        await until(lambda: process.poll() is not None, "the service is dead")
        self.process = None

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None
        return self.process

    def _ended(self) -> bool:
        return self._running().poll() is not None

    def destroy(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None


@asynccontextmanager
async def serving(
    settings: Settings, roles: Iterable[str] = ALL, timing: Timing = QUICK
) -> AsyncIterator["asyncio.Task[int]"]:
    """The service in this process, for flows that need shorter times or a handler of their own; ended with the block."""
    from bot import app

    task = asyncio.create_task(app.run(settings, frozenset(roles), timing))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        for number in (SIGTERM, SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
        if not task.cancelled() and task.done() and (error := task.exception()) is not None:
            raise error


def settings_of(world: World, folder: Path, **more: str) -> Settings:
    """The same settings as a child process would read."""
    given = variables(world, folder, **more)
    return Settings(_env_file=None, **{name.lower(): value for name, value in given.items()})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for all flows that leave it as it is: the command line's own, with its own times."""
    async with sandbox_world() as world:
        service = Service(world, tmp_path_factory.mktemp("shared"))
        await service.start()
        try:
            yield service
        finally:
            service.destroy()


@pytest_asyncio.fixture(loop_scope="session")
async def world(shared: Service) -> AsyncIterator[World]:
    """The world of the shared service, without what earlier flows did to it."""
    shared.world.at_ease()
    yield shared.world
    shared.world.at_ease()


@pytest_asyncio.fixture(loop_scope="session")
async def own_world() -> AsyncIterator[World]:
    """A world of this flow's own."""
    async with sandbox_world() as world:
        yield world


@pytest.fixture
def start_service(own_world: World, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes services in the flow's own world; whatever still runs at the end is killed."""
    made: list[Service] = []

    def make(*words: str, **settings: str) -> Service:
        service = Service(own_world, tmp_path, words or ("-m", "bot", "run"), settings)
        made.append(service)
        return service

    yield make
    for service in made:
        service.destroy()


def markers(text: str) -> list[str]:
    """The words like `m7` in a text, in their order."""
    return re.findall(r"\bm\d+\b", text)
