"""One incident: a short conversation, one process that dies or freezes at one exact point, another that takes over.

Many incidents run side by side, each with a bot of its own on one sandbox Telegram and one external Valkey. A *plot*
says what the customers do and what the network does to them, so that every point of the protocol is reached by one.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from redis.exceptions import RedisError

from bot.sandbox import ChatApiServer, ChatBehaviour, TelegramServer
from tests.crash.crowd import Crowd
from tests.crash.judge import Verdict, View, judge
from tests.crash.ledger import Ledger, ledger
from tests.crash.model import LONG, Model
from tests.crash.stage import (
    FREEZE_SECONDS,
    QUICK,
    Cast,
    Child,
    House,
    Valkey,
    external_store,
    sandbox_telegram,
    scratch,
    until,
)

BLUR_SECONDS: Final = 3.0
"""When a cut-off edit is accepted after all; nothing may depend on how late that is."""

NOISE: Final = 1_000_000
HANDOVER_SECONDS: Final = QUICK.drain + 6.0
"""How long the slow model thinks: longer than a drain lasts."""

_STRIKE_SECONDS: Final = 25.0
_ANSWER_SECONDS: Final = 25.0
_numbers = count(1)


@dataclass(slots=True)
class Theatre:
    """What all incidents share."""

    cast: Cast
    telegram: TelegramServer
    valkey: Valkey
    folder: Path
    chat: ChatApiServer
    slow_chat: ChatApiServer
    model: Model


@asynccontextmanager
async def theatre() -> AsyncIterator[Theatre]:
    """Servers and the zygote, ended with the block."""
    model = Model()
    async with scratch() as folder, external_store(folder) as valkey, sandbox_telegram() as telegram, Cast() as cast:
        quick = ChatBehaviour(first_delay_seconds=0.05, chunk_seconds=0.02, chunk_words=60, answer=model.answer)
        slow = ChatBehaviour(first_delay_seconds=HANDOVER_SECONDS, answer=model.answer)
        chat, slow_chat = ChatApiServer(behaviour=quick), ChatApiServer(behaviour=slow)
        await chat.start()
        await slow_chat.start()
        try:
            yield Theatre(cast, telegram, valkey, folder, chat, slow_chat, model)
        finally:
            await chat.aclose()
            await slow_chat.aclose()


@dataclass(frozen=True, slots=True)
class Incident:
    """What is to happen.

    ``trip`` as in ``tests.crash.child``, for the first process (several with commas between; with none the second one
    starts beside it); ``second_trip`` for the one that takes over. ``wake``: what ends the freeze of the first process:
    ``freeze_seconds``, half a second after the other has answered, or the other's own strike.
    """

    plot: str
    trip: str = ""
    second_trip: str = ""
    mutations: tuple[str, ...] = ()
    freeze_seconds: float = FREEZE_SECONDS
    wake: Literal["time", "answered", "second strike"] = "time"
    settle_seconds: float = 60.0

    @property
    def name(self) -> str:
        return " ".join([self.plot, self.trip, self.second_trip, *self.mutations]).strip()


@dataclass(slots=True)
class Ending:
    """What became of an incident. ``asked_again``: the model was asked more than once for the same answer."""

    incident: Incident
    struck: bool
    verdict: Verdict
    views: list[View]
    asked_again: bool
    trouble: str = ""

    @property
    def clean(self) -> bool:
        return self.struck and self.verdict.clean and not self.trouble

    def told(self) -> str:
        """For the message of a failed test."""
        lines = [self.incident.name, *([] if self.struck else ["never came to its point"])]
        return "; ".join([*lines, *self.verdict.notes, *([self.trouble] if self.trouble else [])])


@dataclass(slots=True)
class Stagehand:
    """Plays one incident."""

    theatre: Theatre
    incident: Incident
    house: House = field(init=False)
    crowd: Crowd = field(init=False)
    victim: Child = field(init=False)
    chat_id: int = 0
    rescuer: Child | None = None

    async def play(self) -> Ending:
        number = next(_numbers)
        self.chat_id = number  # of its own, for faults are tied to chats
        folder = self.theatre.folder / f"{number:04}"
        folder.mkdir()
        token = f"{10_000 + number}:crash-test"
        self.theatre.telegram.add_bot(token)
        slow = self.incident.plot in {"handover", "slow"}
        chat_url = (self.theatre.slow_chat if slow else self.theatre.chat).url
        theatre = self.theatre
        self.house = House(theatre.cast, theatre.telegram, chat_url, token, folder, theatre.valkey)
        self.crowd = Crowd(theatre.telegram, token, theatre.model, number)
        try:
            return await self._play()
        finally:
            await self.house.aclose()

    async def _play(self) -> Ending:
        await self._prepare()
        incident = self.incident
        self.victim = await self._start("victim", incident.trip)
        acting = asyncio.create_task(PLOTS[incident.plot](self))
        struck = not incident.trip or await until(lambda: _struck(self.victim), _STRIKE_SECONDS)
        self.rescuer = await self._start("rescuer", incident.second_trip)
        if incident.second_trip:
            self.house.soon(self._third())
        trouble = await self._come_to_rest(acting, struck)
        verdict, views = await self._judged()
        asked = Counter(made.markers for made in self.theatre.model.made.values())
        again = any(asked[(item.marker,)] > 1 for items in self.crowd.items.values() for item in items)
        return Ending(incident, struck, verdict, views, again, trouble or "".join(self.house.crashed))

    async def _start(self, name: str, trips: str) -> Child:
        wires = [trip for trip in trips.split(",") if trip]
        return await self.house.start(name, trips=wires, mutations=list(self.incident.mutations))

    async def _prepare(self) -> None:
        """The store's record and the keys exist before anything strikes; their making has tests of its own."""
        async with self.ledger():
            pass

    async def _come_to_rest(self, acting: "asyncio.Task[None]", struck: bool) -> str:
        """Lets the frozen go on and everything end; what went wrong, if something did."""
        if self.victim.stops:
            await self._sleep_of_the_victim()
            self.victim.send(signal.SIGCONT)
        try:
            await asyncio.wait_for(acting, _ANSWER_SECONDS + _STRIKE_SECONDS)
        except TimeoutError:
            return "the conversation did not come to its end"
        return await self._quiet()

    async def _sleep_of_the_victim(self) -> None:
        rescuer = self.rescuer
        if self.incident.wake == "second strike" and rescuer is not None:
            await until(lambda: _struck(rescuer), _STRIKE_SECONDS)
        elif self.incident.wake == "answered":
            await until(self.crowd.all_answered, _ANSWER_SECONDS)
            await asyncio.sleep(0.5)
        else:
            await asyncio.sleep(self.incident.freeze_seconds)

    async def _third(self) -> None:
        """Continues the second process when it froze, replaces it when it died."""
        rescuer = self.rescuer
        assert rescuer is not None
        if not await until(lambda: _struck(rescuer), _STRIKE_SECONDS):
            return
        if rescuer.alive:
            await asyncio.sleep(self.incident.freeze_seconds)
            rescuer.send(signal.SIGCONT)
        else:
            await self._start("third", "")

    async def _quiet(self) -> str:
        deadline = time.monotonic() + self.incident.settle_seconds
        work: dict[str, int] = {}
        async with self.ledger() as book:
            while time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                try:
                    work = await book.open_work(self.crowd.items)
                except (RedisError, OSError):
                    continue
                if not work and self._all_heard():
                    return ""
        return f"not quiet: {work}, answered: {self.crowd.all_answered()}"

    def _all_heard(self) -> bool:
        return not self.house.telegram.pending_updates(bot=self.house.token) and self.crowd.all_answered()

    async def _judged(self) -> tuple[Verdict, list[View]]:
        views = self.crowd.views()
        async with self.ledger() as book:
            for view in views:
                view.stored = await book.turns(view.chat_id)
        return judge(views, self.theatre.model), views

    def ledger(self) -> AbstractAsyncContextManager[Ledger]:
        house = self.house
        return ledger(
            self.theatre.valkey.url, house.bot_id, master_key_file=house.master_key_file,
            keyring_url=house.keyring_url, data_dir=house.data_dir,
        )  # fmt: skip

    # ---- what plots are made of
    async def hear(self) -> None:
        """Waits until the customer has an outcome for everything."""
        await until(self.crowd.all_answered, _ANSWER_SECONDS)

    def fault(self, method: str, kind: Any, *, times: int = 1, **more: Any) -> None:
        """The next calls of the method in this incident's chat fail."""
        self.theatre.telegram.faults.add(method=method, kind=kind, count=times, chat_id=self.chat_id, **more)

    async def idle(self) -> None:
        """Waits until nobody works on the chat and nothing waits for work in it."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        async with self.ledger() as book:
            while (await book.open_work(self.crowd.items)).get("busy"):
                if time.monotonic() > deadline:
                    return
                await asyncio.sleep(0.05)

    async def struck(self) -> None:
        """Waits until a fault of this incident has struck."""
        rules = self.theatre.telegram.faults.rules
        await until(lambda: any(rule.struck and rule.chat_id == self.chat_id for rule in rules), _ANSWER_SECONDS)


def _struck(child: Child) -> bool:
    """Whether a tripwire has struck: nothing else stops or kills a child of an incident."""
    return child.stops > 0 or child.code == -signal.SIGKILL


Plot = Callable[[Stagehand], Coroutine[Any, Any, None]]


async def _plain(hand: Stagehand) -> None:
    """A question; then a long answer, a burst, a sticker and an edit."""
    first = hand.crowd.ask(hand.chat_id)
    await hand.hear()
    hand.crowd.edit(hand.chat_id, first)
    hand.crowd.ask(hand.chat_id, LONG)
    await hand.hear()
    hand.crowd.ask(hand.chat_id)
    hand.crowd.ask(hand.chat_id)
    hand.crowd.stick(hand.chat_id)
    await hand.hear()


async def _one(hand: Stagehand) -> None:
    """One question, and another one after its answer."""
    hand.crowd.ask(hand.chat_id)
    await hand.hear()
    hand.crowd.ask(hand.chat_id)
    await hand.hear()


async def _single(hand: Stagehand) -> None:
    """One question, and nothing after it."""
    hand.crowd.ask(hand.chat_id)
    await hand.hear()


async def _lengthy(hand: Stagehand) -> None:
    """One question with a long answer, which is shown while it grows."""
    hand.crowd.ask(hand.chat_id, LONG)
    await hand.hear()


async def _crowded(hand: Stagehand) -> None:
    """While a send is on its way, another chat takes more ids than a search without knowledge looks at."""
    hand.fault("sendMessage", "late", seconds=QUICK.flight * 0.5)
    hand.crowd.ask(hand.chat_id)
    await hand.struck()
    telegram, token = hand.house.telegram, hand.house.token
    for _ in range(20):
        # Nobody answers a service message: its id alone matters.
        telegram.customer_writes(NOISE + hand.chat_id, None, extra={"boost_added": {"boost_count": 1}}, bot=token)
    await hand.hear()


async def _edited(hand: Stagehand) -> None:
    """An edit, which needs no answer; when another process has seen to it, a question."""
    first = hand.crowd.ask(hand.chat_id)
    await hand.hear()
    hand.crowd.edit(hand.chat_id, first)
    await until(lambda: hand.rescuer is not None, _STRIKE_SECONDS)
    await hand.idle()
    hand.crowd.ask(hand.chat_id)
    await hand.hear()


async def _blurred(hand: Stagehand) -> None:
    """The first send never arrives; what looks for it last is accepted late, when the next answer stands there."""
    hand.fault("sendMessage", "drop")
    hand.crowd.ask(hand.chat_id)
    await hand.struck()
    await asyncio.sleep(QUICK.flight * 0.5)
    for method in ("editMessageText", "editMessageReplyMarkup"):
        hand.fault(method, "late", seconds=BLUR_SECONDS, times=9)
    await hand.hear()
    hand.crowd.ask(hand.chat_id)
    await hand.hear()
    await asyncio.sleep(BLUR_SECONDS)


async def _two(hand: Stagehand) -> None:
    """The first send never arrives, so that sweeps follow; the reply to the second answer takes longer than the first
    sweep is away."""
    hand.fault("sendMessage", "drop")
    hand.crowd.ask(hand.chat_id)
    await hand.hear()
    hand.fault("sendMessage", "slow", seconds=QUICK.sweeps[0] + 1.0)
    hand.crowd.ask(hand.chat_id)
    await hand.hear()
    await asyncio.sleep(QUICK.sweeps[0] + 1.0)


async def _forgotten(hand: Stagehand) -> None:
    """The chat is forgotten while an answer is in hand."""
    hand.crowd.ask(hand.chat_id)
    await until(lambda: _struck(hand.victim), _STRIKE_SECONDS)
    async with hand.ledger() as book:
        await book.client.hincrby(book.keys.of(hand.chat_id).chat, "epoch", 1)
    await hand.hear()


def _after_fault(method: str, kind: str, *, after: float = 0.0, then: Plot = _one, **more: Any) -> Plot:
    async def plot(hand: Stagehand) -> None:
        hand.fault(method, kind, **more)
        await then(hand)
        await asyncio.sleep(after)

    return plot


async def _handover(hand: Stagehand) -> None:
    """The process is asked to end while the model still thinks."""
    item, requests = hand.crowd.ask(hand.chat_id), hand.theatre.slow_chat.requests
    await until(lambda: any(item.marker in str(request.messages[-1]) for request in requests), _ANSWER_SECONDS)
    hand.victim.send(signal.SIGTERM)
    await hand.hear()


PLOTS: Final[dict[str, Plot]] = {
    "plain": _plain,
    "one": _one,
    "single": _single,
    "lengthy": _lengthy,
    "crowded": _crowded,
    "edited": _edited,
    "blurred": _blurred,
    "two": _two,
    "slow": _single,
    "forgotten": _forgotten,
    "cut": _after_fault("sendMessage", "accept_then_cut"),
    "cut, then silence": _after_fault("sendMessage", "accept_then_cut", then=_single, after=QUICK.flight + 1.0),
    "late": _after_fault("sendMessage", "late", seconds=QUICK.flight * 0.5),
    "dropped": _after_fault("sendMessage", "drop"),
    "overdue": _after_fault("sendMessage", "late", seconds=QUICK.flight * 1.4, after=1.0),
    "flood": _after_fault("sendMessage", "429", seconds=1),
    "handover": _handover,
}


async def play_all(incidents: Sequence[Incident], *, at_once: int) -> list[Ending]:
    """Plays incidents side by side; endings in their order."""
    places = asyncio.Semaphore(at_once)
    async with theatre() as stage:

        async def one(incident: Incident) -> Ending:
            async with places:
                return await Stagehand(stage, incident).play()

        return list(await asyncio.gather(*map(one, incidents)))
