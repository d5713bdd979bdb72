"""A real Chromium in front of a real `python -m bot sandbox`, started as a newcomer starts it.

Most tests share one sandbox and one browser and tell themselves apart by their customers; those that kill it have a
sandbox of their own. Where the test itself is the bot, the local Telegram runs alone, without the service (`bare`).
Whatever the page's console reports, violations of its policy included, fails the test.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, async_playwright, expect

from bot.sandbox import BOT_TOKEN, ChatApiServer, TelegramServer

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS: Final = 60.0  # a start loads for three seconds of a core, which a busy machine may stretch tenfold
DESKTOP: Final = (1200, 800)
PHONE: Final = (360, 740)
SIZES: Final = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
_LINK: Final = re.compile(r"http://\S+/chat/\S+/")
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_TELL_VIOLATIONS: Final = (
    "addEventListener('securitypolicyviolation', (event) => console.error(`violated: ${event.violatedDirective}`));"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All these tests drive a browser, in one event loop, since they share what lives in it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What `condition` gives once it is true; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.02)
    return found


class Place(Protocol):
    """Where a page can be opened, and where the bot's calls go."""

    link: str

    async def telegram(self, method: str, **params: Any) -> Any:
        """One call to the local Bot API, in the bot's name; its result."""


@dataclass
class Sandbox:
    """`python -m bot sandbox` as a child process with folders of its own."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    link: str = ""
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it has printed its link."""
        self.starts += 1
        nothing = self.folder / "no-settings"  # whoever runs the tests may have a token in .env
        nothing.touch()
        output, log = self.folder / f"output-{self.starts}", self.folder / f"log-{self.starts}"
        own = {
            "DATA_DIR": str(self.folder / "data"),
            "MASTER_KEY_FILE": str(self.folder / "secrets" / "master.key"),
            "HTTP_PORT": "0",
        }
        self._process = self._spawn(nothing, own, output, log)
        found = await until(lambda: self.is_over() or _LINK.search(output.read_text()), "the link is printed")
        assert isinstance(found, re.Match), log.read_text()
        self.link = found.group()

    def _spawn(self, nothing: Path, own: dict[str, str], output: Path, log: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as out, log.open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "bot", "sandbox", "--env-file", str(nothing)],
                cwd=ROOT, env={"PATH": os.environ["PATH"], **own, **self.settings}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    def is_over(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def kill(self) -> None:
        """SIGKILL to everything that it started, its store included; returns when all of it is gone."""
        assert self._process is not None
        everything = [self._process.pid, *_descendants(self._process.pid)]
        for pid in everything:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        await until(lambda: not any(_is_alive(pid) for pid in everything), "the killed processes are gone")

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, 20)
        if self._process.poll() is None:
            await self.kill()
        return int(self._process.returncode)

    async def telegram(self, method: str, **params: Any) -> Any:
        """One call to the local Bot API, in the bot's name; its result."""
        return await _call(self.link, method, json=params)


@dataclass
class Bare:
    """The local Telegram alone, in this process: nobody answers but the test."""

    server: TelegramServer
    link: str

    async def telegram(self, method: str, **params: Any) -> Any:
        """One call to the local Bot API; its result."""
        return await _call(self.link, method, json=params)

    async def uploads(self, method: str, form: aiohttp.FormData) -> Any:
        """One call with a file in it; its result."""
        return await _call(self.link, method, data=form)

    async def fetches(self, path: str) -> bytes:
        """The file that getFile names."""
        url = f"{self.server.url}/file/bot{BOT_TOKEN}/{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as reply:
            return await reply.read()

    async def updates(self) -> list[dict[str, Any]]:
        """What the bot has been told so far."""
        found: list[dict[str, Any]] = await self.telegram("getUpdates")
        return found


async def _call(link: str, method: str, **body: Any) -> Any:
    url = f"{link.partition('/chat/')[0]}/bot{BOT_TOKEN}/{method}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http,
        http.post(url, **body) as reply,
    ):
        answer = await reply.json()
        assert answer["ok"], answer
        return answer["result"]


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *_descendants(child))]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@dataclass
class Tab:
    """The chat page in a tab, as one person uses it."""

    page: Page
    sandbox: Place
    name: str = ""

    @property
    def box(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def mine(self) -> Locator:
        """What the customer wrote."""
        return self.page.locator("article.mine .body")

    @property
    def answers(self) -> Locator:
        """The bot's messages; drafts are none."""
        return self.page.locator("article:not(.mine):not(.draft) .bubble > .body")

    @property
    def draft(self) -> Locator:
        return self.page.locator("article.draft .body")

    @property
    def status(self) -> Locator:
        return self.page.locator("#status")

    @property
    def toast(self) -> Locator:
        return self.page.locator("#toast")

    async def open(self) -> None:
        """Opens the printed link; returns when the state is shown."""
        await self.page.goto(self.sandbox.link)
        await self.page.locator("nav li").first.wait_for(state="attached")

    async def show_list(self) -> None:
        """On a phone the list of people is a view of its own."""
        if await self.page.get_by_label("Back to the list of people").is_visible():
            await self.page.get_by_label("Back to the list of people").click()
        await self.page.locator("nav").wait_for()

    async def become_new(self, language: str = "English") -> None:
        """Goes on as a customer whom the bot has not met."""
        await self.show_list()
        known = await self.page.locator("nav li").count()
        await self.page.get_by_role("button", name="New customer").click()
        await self.page.get_by_role("button", name=language, exact=True).click()
        await self.page.locator("nav li").nth(known).wait_for(state="attached")
        self.name = await self.page.locator("nav li .name").nth(known).text_content() or ""
        await expect(self.status).to_have_text(f"You write as {self.name}")

    def entry(self, name: str) -> Locator:
        """A person in the list."""
        return self.page.locator("nav li a", has=self.page.get_by_text(name, exact=True))

    async def choose(self, name: str) -> None:
        """Goes on as a person of the list."""
        await self.show_list()
        await self.entry(name).click()
        self.name = name

    @property
    async def chat_id(self) -> int:
        return int(await self.page.evaluate("location.hash.slice(1)"))

    async def says(self, text: str) -> None:
        """Writes and sends with Enter."""
        await self.box.fill(text)
        await self.box.press("Enter")

    async def sees(self, count: int) -> str:
        """The newest of the bot's messages once there are `count`; more than that fails."""
        await self.answers.nth(count - 1).wait_for(timeout=PATIENCE_SECONDS * 1000)
        assert await self.answers.count() == count
        return await self.answers.nth(count - 1).inner_text()

    async def asks(self, text: str) -> str:
        """Writes, waits for the one answer, and gives it."""
        before = await self.answers.count()
        await self.says(text)
        return await self.sees(before + 1)

    async def fits(self) -> bool:
        """Nothing has to be scrolled sideways, and the field to write in is in sight."""
        await expect(self.box).to_be_in_viewport(ratio=1)
        wide = "[document.documentElement, document.getElementById('log')].some((e) => e.scrollWidth > e.clientWidth)"
        return not await self.page.evaluate(wide)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The machine's own Chromium."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        reason = f"no browser of these is installed: {', '.join(_NAMES)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield started
        await started.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def quick_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """The sandbox with the same model, which here answers without the pauses that make it look natural."""
    model = ChatApiServer()
    await model.start()
    settings = {"CHAT_API_URL": model.url, "CHAT_MODEL": "offline"}
    sandbox = Sandbox(tmp_path_factory.mktemp("quick"), settings)
    try:
        await sandbox.start()
        yield sandbox
    finally:
        await sandbox.stop()
        await model.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def restarted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """The sandbox that tests end, kill and start again; see `own_sandbox`."""
    sandbox = Sandbox(tmp_path_factory.mktemp("own"))
    yield sandbox
    await sandbox.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def own_sandbox(restarted: Sandbox) -> Sandbox:
    """A sandbox that may be killed, running exactly as `make run` starts it: its own model, its natural pace."""
    if restarted.is_over():
        await restarted.start()
    return restarted


@pytest_asyncio.fixture(loop_scope="session")
async def fresh_sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """One that nobody has ever written to; not started yet."""
    sandbox = Sandbox(tmp_path)
    yield sandbox
    await sandbox.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def bare() -> AsyncIterator[Bare]:
    """A local Telegram that nobody polls."""
    server = TelegramServer()
    server.add_bot(BOT_TOKEN)
    await server.start()
    yield Bare(server, server.page_url)
    await server.aclose()


Opener = Callable[..., Awaitable[Tab]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_tab(browser: Browser, quick_sandbox: Sandbox) -> AsyncIterator[Opener]:
    """Opens the page in a fresh profile, as a new customer; whatever the console reports fails the test."""
    problems: list[str] = []
    contexts: list[BrowserContext] = []

    def heed(line: ConsoleMessage) -> None:
        # The browser's own lines about a connection that was cut, or an act refused in words, are no fault of the page.
        browsers_own = "net::ERR_" in line.text or "responded with a status of 400" in line.text
        if line.type in ("error", "warning") and not browsers_own:
            problems.append(line.text)

    async def open_one(
        sandbox: Place | None = None, size: tuple[int, int] = DESKTOP, *, new: bool = True, **options: Any
    ) -> Tab:
        viewport = {"width": size[0], "height": size[1]}
        context = await browser.new_context(viewport=viewport, locale="en-GB", **options)  # type: ignore[arg-type]
        contexts.append(context)
        await context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", heed)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        tab = Tab(await context.new_page(), sandbox or quick_sandbox)
        await tab.open()
        if new:
            await tab.become_new()
        return tab

    yield open_one
    for context in contexts:
        await context.close()
    assert problems == []
