"""One round of a campaign: a world of its own, customers in it, faults all the while, and the judge at the end.

Faults strike in three ways: from outside at random moments (a process or the store is killed, frozen, asked to end),
from inside at exact points (each process is started with a tripwire somewhere), and on the network (Telegram and the
chat API refuse, cut, accept late). When enough have struck they end, and the round waits until nothing is left to do.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from redis.exceptions import RedisError

from bot.sandbox import ChatApiServer, ChatBehaviour, TelegramServer
from storage.embedded import running_server
from storage.errors import StorageError
from tests.crash.crowd import GROUP, SUPERGROUP, Crowd
from tests.crash.judge import judge
from tests.crash.ledger import Ledger, ledger
from tests.crash.model import MARKER, Model
from tests.crash.report import Report
from tests.crash.stage import BOTH, QUICK, Cast, Child, House, external_store, sandbox_telegram

Topology = Literal["single", "split"]
CHATS: Final = (11, 12, 13, 14, 15, 16, SUPERGROUP, GROUP)
SETTLE_SECONDS: Final = 90.0
_REFUSED: Final = 2
_ROUND_SECONDS: Final = 600.0

WORKER_POINTS: Final = (
    *(f"{when}:{name}" for when in ("before", "after") for name in ("begin", "register", "park", "settle", "sweep")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("journal", "finish", "ZADD", "ask", "HMGET")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("journal", "finish", "sendMessage")),
    *(f"{when}:sendMessage" for when in ("write", "write", "after")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("sendMessageDraft", "deleteMessage")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("editMessageText", "editMessageReplyMarkup")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("ZRANGEBYSCORE", "ZREM", "correct", "wake")),
)
INGRESS_POINTS: Final = tuple(
    f"{when}:{name}" for when in ("before", "after") for name in ("enqueue", "enqueue", "getUpdates", "ZADD", "lead")
)


@dataclass(frozen=True, slots=True)
class Tripwires:
    """Where processes strike themselves: how many are spared, how many of the others are killed (the rest freezes), at
    which points of a worker, and at which passage of it."""

    spared: float = 0.1
    killed: float = 0.6
    worker: tuple[str, ...] = WORKER_POINTS
    passages: tuple[int, ...] = (1, 1, 1, 2, 2, 3)

    def drawn(self, draw: random.Random, roles: tuple[str, ...]) -> list[str]:
        """For one process; as the command line of a child takes them."""
        if draw.random() < self.spared:
            return []
        points = (self.worker if "worker" in roles else ()) + (INGRESS_POINTS if "ingress" in roles else ())
        action = "kill" if draw.random() < self.killed else "stop"
        return [f"{draw.choice(points)}:{draw.choice(self.passages)}:{action}"]


class Round:
    """One world with its customers, its faults and its end."""

    TRIPWIRES = Tripwires()

    def __init__(self, cast: Cast, folder: Path, topology: Topology, seed: int, faults: int) -> None:
        self._cast = cast
        self._folder = folder
        self._topology = topology
        self._faults = faults
        self._random = random.Random(seed)
        self._seed = seed
        self._model = Model()
        self._report = Report()
        self._ending = False

    async def play(self) -> Report:
        """All of it; bounded in time."""
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_ROUND_SECONDS):
                    await self._open(stack)
                    await self._suffer()
                    await self._settle()
            except TimeoutError:
                self._report.unsettled.append(f"{self._topology} {self._seed}: given up after {_ROUND_SECONDS:.0f} s")
        self._report.crashed += self._house.crashed
        self._report.leaks += await asyncio.to_thread(self._told_in_logs)
        self._report.seconds = time.monotonic() - started
        return self._report

    def _told_in_logs(self) -> list[str]:
        """Logs that hold the token or a customer's words (the questions' markers); every process was at "info"."""
        secret = self._house.token.partition(":")[2]
        logs = ((log, log.read_text(errors="replace")) for log in self._folder.glob("*.log"))
        return [f"{log.name} tells too much" for log, text in logs if secret in text or MARKER.search(text)]

    # ---- the world
    async def _open(self, stack: AsyncExitStack) -> None:
        self._telegram: TelegramServer = await stack.enter_async_context(sandbox_telegram())
        token = f"{100_000 + self._seed % 800_000}:crash-token-{self._seed}"
        self._telegram.add_bot(token)
        self._chat = ChatApiServer(
            behaviour=ChatBehaviour(
                first_delay_seconds=0.02,
                jitter_seconds=0.15,
                chunk_seconds=0.004,
                chunk_words=25,
                answer=self._model.answer,
            )
        )
        await self._chat.start()
        stack.push_async_callback(self._chat.aclose)
        self._chat.keep_requests = False
        self._telegram.keep_calls = False
        valkey = await stack.enter_async_context(external_store(self._folder)) if self._topology == "split" else None
        self._house = House(self._cast, self._telegram, self._chat.url, token, self._folder, valkey)
        stack.push_async_callback(self._house.aclose)
        self._names = {"service": BOTH} if valkey is None else {
            "ingress1": ("ingress",), "ingress2": ("ingress",),
            "worker1": ("worker",), "worker2": ("worker",), "worker3": ("worker",),
        }  # fmt: skip
        self._crowd = Crowd(self._telegram, token, self._model, self._seed)
        await self._first_start()

    async def _first_start(self) -> None:
        await self._start_all()
        for chat_id in CHATS:
            self._house.soon(self._crowd.live(chat_id))

    async def _start_all(self) -> None:
        """Undisturbed: what is made once (keys, the store's record) has tests of its own."""
        for name, roles in self._names.items():
            await self._house.start(name, roles)
            if name in {"service", "ingress1"} and not await self._house.ready():
                raise RuntimeError(self._house.children[name].last_words())
        for name in self._names:
            self._house.soon(self._keep(name))

    def _network(self) -> None:
        faults, late = self._telegram.faults, QUICK.flight * 0.8
        rough = self._random.choice((0.5, 1.0, 1.0, 2.5))
        faults.seed(self._seed)
        self._chat.faults.seed(self._seed)
        for seconds in (0.1, 0.4, 0.8):
            faults.add(method="sendMessage", kind="late", seconds=QUICK.flight * seconds, p=0.02 * rough)
        faults.add(method="sendMessage", kind="late", seconds=late, p=0.01 * rough, hold=True)
        faults.add(method="sendMessage", kind="accept_then_cut", p=0.04 * rough)
        faults.add(method="sendMessage", kind="drop", p=0.02 * rough)
        faults.add(method="sendMessage", kind="500", p=0.01 * rough)
        faults.add(method="sendMessage", kind="502", p=0.01 * rough, html=True)
        faults.add(method="sendMessage", kind="429", p=0.005 * rough, seconds=1)
        faults.add(method="sendMessage", kind="slow", p=0.02 * rough, seconds=0.7)
        for method in ("editMessageReplyMarkup", "editMessageText", "deleteMessage"):
            faults.add(method=method, kind="late", seconds=late, p=0.007 * rough)
            faults.add(method=method, kind="drop", p=0.007 * rough)
            faults.add(method=method, kind="500", p=0.007 * rough)
        for method in ("getUpdates", "sendMessageDraft"):
            faults.add(method=method, kind="drop", p=0.01)
            faults.add(method=method, kind="accept_then_cut", p=0.01)
            faults.add(method=method, kind="500", p=0.01)
        self._chat_rules = [
            self._chat.faults.add(kind="500", p=0.02),
            self._chat.faults.add(kind="cut", p=0.02),
            self._chat.faults.add(kind="400", p=0.02),
        ]

    # ---- processes
    async def _keep(self, name: str) -> None:
        """Starts a process again whenever it ends, with another tripwire; lets it go on when it froze itself."""
        roles = self._names[name]
        while True:
            child = self._house.children[name]
            while await self._struck(child):
                await asyncio.sleep(self._freeze())
                child.send(signal.SIGCONT)
            self._note_end(name, child)
            await asyncio.sleep(self._random.random() * (0.0 if self._ending else 0.5))
            trips = [] if self._ending else self.TRIPWIRES.drawn(self._random, roles)
            await self._house.start(name, roles, trips=trips)

    async def _struck(self, child: Child) -> bool:
        """Waits until a child froze itself (True) or ended (False); a freeze from outside is left to its maker."""
        stopped, ended = (asyncio.create_task(event.wait()) for event in (child.stopped, child.ended))
        try:
            await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            ended.cancel()
        if child.ended.is_set():
            return False
        child.stopped.clear()
        if child in self._frozen:
            return await self._struck(child)
        self._report.faults["freeze at a point"] += 1
        self._report.points[child.trips[0].rsplit(":", 2)[0]] += 1
        return True

    def _note_end(self, name: str, child: Child) -> None:
        if child.code == -signal.SIGKILL and not child.doomed:
            self._report.faults["kill at a point"] += 1
            self._report.points[child.trips[0].rsplit(":", 2)[0] if child.trips else "?"] += 1
        elif child.code == _REFUSED:
            self._report.points["no store at the start"] += 1
        elif child.code not in {0, -signal.SIGKILL, -signal.SIGTERM}:  # -15: asked to end before it could listen
            self._report.crashed.append(f"{name} ended with {child.code}: {child.last_words()}")

    def _freeze(self) -> float:
        """Seconds: half of them longer than the lease."""
        draw = self._random
        return draw.uniform(0.1, QUICK.lease) if draw.random() < 0.5 else draw.uniform(1.2, 2.0) * QUICK.lease

    # ---- the storm
    async def _suffer(self) -> None:
        self._frozen: set[Child] = set()
        self._network()
        pace = 0.8 if self._topology == "single" else 0.35
        while self._count() < self._faults:
            await asyncio.sleep(self._random.uniform(0.2, 1.8) * pace)
            await self._strike()
        self._report.faults += self._struck_network()
        self._telegram.faults.clear()
        self._chat.faults.clear()

    def _struck_network(self) -> Counter[str]:
        struck: Counter[str] = Counter()
        for rule in self._telegram.faults.rules:
            struck[f"{rule.method} {rule.kind}"] += rule.struck
        for chat_rule in self._chat_rules:
            struck[f"chat API {chat_rule.kind}"] += chat_rule.struck
        return +struck

    def _count(self) -> int:
        return self._report.faults.total() + self._struck_network().total()

    async def _strike(self) -> None:
        draw = self._random
        name = draw.choice(list(self._names))
        child = self._house.children[name]
        kinds = {"kill": 40, "freeze": 25, "end": 5, "kill store": 8, "freeze store": 7, "kill all": 4, "outage": 5}
        kind = draw.choices(list(kinds), list(kinds.values()))[0]
        if kind == "kill all":
            await self._kill_all()
            return
        if kind == "outage":
            self._house.soon(self._without_chat_api())
            return
        if kind.endswith("store"):
            await self._strike_store(kind)
            return
        if not child.alive or child in self._frozen:
            return
        role = name.rstrip("123")
        self._report.faults[f"{kind} {role}"] += 1
        if kind == "kill":
            child.send(signal.SIGKILL)
        elif kind == "end":
            child.send(signal.SIGTERM)
        else:
            self._house.soon(self._freeze_child(child))

    async def _kill_all(self) -> None:
        """As when the power fails: every process and the store at once."""
        self._report.faults["kill all"] += 1
        for child in self._house.children.values():
            child.send(signal.SIGKILL)
        if self._house.valkey is not None:
            self._house.valkey.kill()
            await self._house.valkey.start()

    async def _without_chat_api(self) -> None:
        """Long enough for questions to wait."""
        self._report.faults["outage of the chat API"] += 1
        rule = self._chat.faults.add(kind="503", seconds=0.01)
        await asyncio.sleep(self._random.uniform(0.3, 3.0))
        rule.count = 0

    async def _freeze_child(self, child: Child) -> None:
        self._frozen.add(child)
        child.send(signal.SIGSTOP)
        await asyncio.sleep(self._freeze())
        self._frozen.discard(child)
        child.send(signal.SIGCONT)

    async def _strike_store(self, kind: str) -> None:
        pid = self._house.store_pid()
        if not pid:
            return
        self._report.faults[kind] += 1
        valkey = self._house.valkey
        if kind == "freeze store":
            _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(self._random.uniform(0.1, 2.0))
            _signal(pid, signal.SIGCONT)
        elif valkey is None:
            _signal(pid, signal.SIGKILL)
        else:
            valkey.kill()
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            await valkey.start()

    # ---- the end
    async def _settle(self) -> None:
        """Until everybody is answered and nothing is left to do; then the judge."""
        self._ending = self._crowd.leaving = True
        deadline = time.monotonic() + SETTLE_SECONDS
        work: dict[str, int] = {"unseen": 1}
        while time.monotonic() < deadline:
            await asyncio.sleep(0.3)
            try:
                async with self._ledger() as book:
                    work = await book.open_work(CHATS)
                    if not work and not self._telegram.pending_updates() and self._crowd.all_answered():
                        await self._judge(book)
                        return
            except (StorageError, RedisError, OSError, LookupError):
                continue
        async with self._ledger() as book:
            await self._judge(book)
        self._report.unsettled.append(f"{self._topology} {self._seed}: not done after {SETTLE_SECONDS:.0f} s: {work}")

    def _ledger(self) -> AbstractAsyncContextManager[Ledger]:
        house = self._house
        url = house.valkey.url if house.valkey else running_server(house.data_dir)
        if url is None:
            raise LookupError("no store at the moment")
        return ledger(
            url, house.bot_id, master_key_file=house.master_key_file, keyring_url=house.keyring_url,
            data_dir=house.data_dir,
        )  # fmt: skip

    async def _judge(self, book: Ledger) -> None:
        views = self._crowd.views()
        for view in views:
            view.stored = await book.turns(view.chat_id)
        self._report.verdict = judge(views, self._model)
        for note in self._report.verdict.notes:
            print(f"{self._topology} {self._seed}: {note}", flush=True)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
