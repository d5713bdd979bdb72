"""Random campaigns: customers write while processes are killed and frozen and the network lies; at the end the judge.

    python -m tests.crash.campaign        FAULTS=10000 SEED=1 (a random one is printed), ROUNDS_AT_ONCE=2

A campaign is a row of rounds of about 75 faults, each with servers, a store and customers of its own, half of them over
each topology. The seed draws the same plan again (what strikes in which order); the machine's timing stays its own.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from redis.exceptions import RedisError

from bot.sandbox import ChatApiServer, ChatBehaviour, TelegramServer
from storage.embedded import running_server
from storage.errors import StorageError
from tests.crash.crowd import GROUP, SUPERGROUP, Crowd
from tests.crash.judge import VIOLATIONS, Verdict, judge
from tests.crash.ledger import Ledger, ledger
from tests.crash.model import MARKER, Model
from tests.crash.stage import BOTH, QUICK, Cast, Child, House, external_store, sandbox_telegram, scratch

Topology = Literal["single", "split"]
CHATS: Final = (11, 12, 13, 14, 15, 16, SUPERGROUP, GROUP)
FAULTS_A_ROUND: Final = 75
SETTLE_SECONDS: Final = 90.0
_REFUSED: Final = 2
_ROUND_SECONDS: Final = 600.0

WORKER_POINTS: Final = (
    *(f"{when}:{name}" for when in ("before", "after") for name in ("begin", "register", "park", "settle", "sweep")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("journal", "finish", "ZADD", "ask", "HGET")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("journal", "finish", "sendMessage")),
    *(f"{when}:sendMessage" for when in ("write", "write", "after")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("sendMessageDraft", "deleteMessage")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("editMessageText", "editMessageReplyMarkup")),
    *(f"{when}:{name}" for when in ("before", "after") for name in ("ZRANGEBYSCORE", "ZREM", "correct", "wake")),
)
INGRESS_POINTS: Final = tuple(
    f"{when}:{name}" for when in ("before", "after") for name in ("enqueue", "enqueue", "getUpdates", "ZADD", "lead")
)


@dataclass(slots=True)
class Report:
    """What happened: faults by kind, points at which processes struck themselves, the verdict."""

    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    crashed: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return self.verdict.clean and not (self.crashed or self.unsettled or self.leaks)

    def add(self, other: "Report") -> None:
        self.faults += other.faults
        self.points += other.points
        self.verdict.add(other.verdict)
        self.crashed += other.crashed
        self.unsettled += other.unsettled
        self.leaks += other.leaks
        self.seconds += other.seconds

    def table(self) -> str:
        """For people."""
        verdict = self.verdict
        rows = [f"  {number:6}  {kind}" for kind, number in sorted(self.faults.items())]
        rows.append(f"  {self.faults.total():6}  faults, {len(self.points)} points struck by tripwire")
        replies = f"{verdict.answers} answers, {verdict.errors} told of a failure"
        rows.append(f"  {verdict.questions:6}  messages of customers ({replies})")
        rows += [f"  {getattr(verdict, name):6}  {name}" for name in VIOLATIONS]
        rows.append(f"  {verdict.healed:6}  second copies stood for a while, {verdict.longest:.1f} s at most")
        rows += [*verdict.notes, *self.crashed, *self.unsettled, *self.leaks]
        return "\n".join(rows)


class Round:
    """One world with its customers, its faults and its end."""

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
        async with AsyncExitStack() as stack, asyncio.timeout(_ROUND_SECONDS):
            await self._open(stack)
            await self._suffer()
            await self._settle()
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
        """Undisturbed: what is made once (keys, the store's record) has tests of its own."""
        for name, roles in self._names.items():
            await self._house.start(name, roles)
            if name in {"service", "ingress1"} and not await self._house.ready():
                raise RuntimeError(self._house.children[name].last_words())
        for name in self._names:
            self._house.soon(self._keep(name))
        for chat_id in CHATS:
            self._house.soon(self._crowd.live(chat_id))

    def _network(self) -> None:
        faults, late = self._telegram.faults, QUICK.flight * 0.8
        faults.seed(self._seed)
        self._chat.faults.seed(self._seed)
        for seconds in (0.1, 0.4, 0.8):
            faults.add(method="sendMessage", kind="late", seconds=QUICK.flight * seconds, p=0.02)
        faults.add(method="sendMessage", kind="late", seconds=late, p=0.01, hold=True)
        faults.add(method="sendMessage", kind="accept_then_cut", p=0.04)
        faults.add(method="sendMessage", kind="drop", p=0.02)
        faults.add(method="sendMessage", kind="500", p=0.01)
        faults.add(method="sendMessage", kind="502", p=0.01, html=True)
        faults.add(method="sendMessage", kind="429", p=0.005, seconds=1)
        faults.add(method="sendMessage", kind="slow", p=0.02, seconds=0.7)
        for method in ("editMessageReplyMarkup", "editMessageText", "deleteMessage"):
            faults.add(method=method, kind="late", seconds=late, p=0.007)
            faults.add(method=method, kind="drop", p=0.007)
            faults.add(method=method, kind="500", p=0.007)
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
            await self._house.start(name, roles, trips=[] if self._ending else self._trips(roles))

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
        elif child.code not in {0, -signal.SIGKILL}:
            self._report.crashed.append(f"{name} ended with {child.code}: {child.last_words()}")

    def _freeze(self) -> float:
        """Seconds: half of them longer than the lease."""
        draw = self._random
        return draw.uniform(0.1, QUICK.lease) if draw.random() < 0.5 else draw.uniform(1.2, 2.0) * QUICK.lease

    def _trips(self, roles: tuple[str, ...]) -> list[str]:
        draw = self._random
        if draw.random() < 0.1:
            return []
        points = (WORKER_POINTS if "worker" in roles else ()) + (INGRESS_POINTS if "ingress" in roles else ())
        action = "kill" if draw.random() < 0.6 else "stop"
        return [f"{draw.choice(points)}:{draw.choice((1, 1, 1, 2, 2, 3))}:{action}"]

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
        kind = draw.choices(("kill", "freeze", "end", "kill store", "freeze store"), (40, 25, 5, 8, 7))[0]
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


async def campaign(faults: int, seed: int, *, at_once: int = 2, say: bool = True) -> Report:
    """Rounds until ``faults`` have struck; the sum of their reports."""
    whole = Report()
    draw = random.Random(seed)
    rounds = max(at_once, round(faults / FAULTS_A_ROUND))
    share = -(-faults // rounds)
    plans: list[tuple[Topology, int]] = [
        ("single" if number % 2 else "split", draw.randrange(1_000_000)) for number in range(rounds)
    ]
    places = asyncio.Semaphore(at_once)
    async with Cast() as cast:

        async def one(topology: Topology, round_seed: int) -> None:
            async with places, scratch() as folder:
                report = await Round(cast, folder, topology, round_seed, share).play()
            whole.add(report)
            if say:
                so_far = f"{whole.faults.total():6} faults, {whole.verdict.questions} messages"
                bad = "" if report.clean else "  NOT CLEAN"
                print(f"{so_far}; {topology} {round_seed} took {report.seconds:.0f} s{bad}", flush=True)

        async with asyncio.TaskGroup() as group:
            for plan in plans:
                group.create_task(one(*plan))
    return whole


def given_seed() -> int:
    """SEED of the environment, or a random one; printed either way."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\ncrash campaign: SEED={seed}", flush=True)
    return seed


def main() -> int:
    faults = int(os.environ.get("FAULTS") or 10_000)
    report = asyncio.run(campaign(faults, given_seed(), at_once=int(os.environ.get("ROUNDS_AT_ONCE") or 2)))
    print(report.table(), flush=True)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
