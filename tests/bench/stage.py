"""The sandbox servers, the customers in front of them, and the clock: what a measurement stands on.

A question is answered when its chat gets a message of the bot. *Added* time is what remains of the time from question
to answer when the chat API's own time is taken away: ingress, store, dispatch, request, formatting, delivery. *First
text* is the time from the chat API's first chunk to the first words on the customer's screen, in a draft or a message;
a stop takes from the press until the chat API sees its caller leave.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean
from typing import Any, Final, Literal, Self

from bot.sandbox import ChatApiServer, ChatBehaviour, TelegramServer
from bot.sandbox.call_log import Call
from bot.sandbox.chat_api import ChatRequest

TOKEN: Final = "4242:bench-opens-nothing-but-the-sandbox"
FIRST_CHAT: Final = 100_000
PATIENCE_SECONDS: Final = 20.0

ANSWER: Final = (
    "**Yes**, your order can still be changed until it leaves the house: "
    "open `Orders`, choose *Change*, confirm the address."
)
"""Twenty words, with the kind of markup that models write, so that formatting is paid for."""

QUESTION: Final = "hello, please answer: can I still change the address of the order that I placed this morning?"

WHOLE: Final = ChatBehaviour(answer=lambda _: ANSWER, chunk_words=10_000)
"""The answer in one chunk, at once."""

CHUNKED: Final = ChatBehaviour(answer=lambda _: ANSWER, chunk_words=1)
"""The answer in twenty chunks, at once."""

PACED: Final = ChatBehaviour(
    answer=lambda _: f"{ANSWER} {ANSWER}", chunk_words=1, first_delay_seconds=0.05, chunk_seconds=0.005
)
"""50 ms to the first of forty chunks, then 200 a second: what a fast model does."""

_WORDS: Final = f"{ANSWER} " * 50

SPOKEN: Final = ChatBehaviour(
    answer=lambda _: " ".join(_WORDS.split()[:90]), first_delay_seconds=0.3, jitter_seconds=0.3, chunk_seconds=1 / 60
)
"""0.3 to 0.6 s to the first of ninety chunks, then sixty a second: an answer that a person can watch grow."""

STORY: Final = ChatBehaviour(answer=lambda _: _WORDS, first_delay_seconds=0.05, chunk_seconds=1 / 60)
"""Sixteen seconds of words: whoever stops it comes before its end."""

Way = Literal["button", "command"]
WAYS: Final[tuple[Way, Way]] = ("button", "command")
"""How an answer is stopped: Telegram's own button under the draft, or /stop."""

_NAMED: Final = re.compile(r"Q(\d+) ")
_SHOWING: Final = frozenset({"sendMessage", "sendMessageDraft", "editMessageText"})


@dataclass(slots=True, eq=False)
class Question:
    """One question on its way; monotonic seconds."""

    chat_id: int
    asked: float
    done: asyncio.Future[None] = field(repr=False)
    seen: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    left: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    api_from: float | None = None
    api_first: float | None = None
    api_until: float | None = None
    api_aborted: bool = False
    api_messages: int = 0
    shown: float | None = None
    answered: float | None = None
    pressed: float | None = None
    to_stop: Way | None = None

    @property
    def added_seconds(self) -> float | None:
        """From question to answer, less the chat API's own time; None when it is not answered."""
        if self.answered is None or self.api_from is None or self.api_until is None:
            return None
        return self.answered - self.asked - (self.api_until - self.api_from)

    @property
    def first_text_seconds(self) -> float | None:
        """From the chat API's first chunk to the first words on the screen; None where one of them did not come."""
        return None if self.shown is None or self.api_first is None else self.shown - self.api_first

    @property
    def stop_seconds(self) -> float | None:
        """From the press to the end of the request; None where nobody pressed, or the answer went on to its end."""
        return self.api_until - self.pressed if self.pressed and self.api_until and self.api_aborted else None


class Stage:
    """A fresh Telegram and a fresh chat API for one run of one system."""

    def __init__(self) -> None:
        self.telegram = TelegramServer(keep_calls=False)
        self.telegram.add_bot(TOKEN)
        self.telegram.on_call = self._called
        self.chat_api = ChatApiServer(behaviour=WHOLE)
        self.chat_api.keep_requests = False
        self.chat_api.on_request = self._requested
        self.on_request: Callable[[ChatRequest], None] | None = None
        self._current: dict[int, Question] = {}
        self._next_chat = count(FIRST_CHAT)

    async def __aenter__(self) -> Self:
        await self.telegram.start()
        await self.chat_api.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.chat_api.aclose()
        await self.telegram.aclose()

    def new_chats(self, number: int) -> list[int]:
        return [next(self._next_chat) for _ in range(number)]

    def ask(self, chat_id: int, text: str = "") -> Question:
        question = Question(chat_id, time.monotonic(), asyncio.get_running_loop().create_future())
        self._current[chat_id] = question
        self.telegram.customer_writes(chat_id, question_of(chat_id, text))
        return question

    def stop(self, question: Question) -> None:
        """Raises LookupError where the button is to be pressed and no draft is shown."""
        question.pressed = time.monotonic()
        if question.to_stop == "button":
            self.telegram.customer_stops(question.chat_id)
        else:
            self.telegram.customer_writes(question.chat_id, "/stop")

    async def answered(self, question: Question) -> bool:
        """Whether it was, within twenty seconds."""
        return await _patiently(question.done)

    async def seen(self, question: Question) -> bool:
        """Whether the first words of the answer are on the screen within twenty seconds."""
        return await _patiently(question.seen.wait())

    async def left(self, question: Question) -> bool:
        """Whether the request ends within twenty seconds; the chat API may see it after the customer saw the answer."""
        return await _patiently(question.left.wait())

    def calls_made(self) -> dict[str, int]:
        """Successful calls by method so far, polls aside."""
        counts = self.telegram.counts.items()
        return {method: n for (method, status), n in counts if status == 200 and method != "getUpdates"}

    def _called(self, call: Call) -> None:
        if call.method not in _SHOWING or call.status != 200 or call.chat_id is None:
            return
        question = self._current.get(call.chat_id)
        if question is None or question.done.done():
            return
        if question.shown is None and call.text:
            question.shown = call.t_done
            question.seen.set()
        if call.method == "sendMessage":
            question.answered = call.t_done
            question.done.set_result(None)

    def _requested(self, request: ChatRequest) -> None:
        named = _NAMED.match(str(request.messages[-1].get("content")))
        question = self._current.get(int(named[1])) if named else None
        if question is None:
            return  # the service asks for a summary of what it left out
        if request.status == 200:
            question.api_from, question.api_first, question.api_until = request.t, request.t_first, request.t_end
            question.api_aborted = request.aborted
            question.left.set()
            question.api_messages = len(request.messages)
        if self.on_request is not None:
            self.on_request(request)


def question_of(chat_id: int, text: str = "") -> str:
    """What a customer writes; the chat stands in front so that the chat API's side of it can be told."""
    return f"Q{chat_id} {text or QUESTION}"


async def _patiently(what: Awaitable[object]) -> bool:
    """Whether it happens within twenty seconds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await what
    except TimeoutError:
        return False
    return True


@dataclass(slots=True)
class Load:
    """Customers at work: what was answered, and what was not within twenty seconds."""

    stage: Stage
    questions: list[Question] = field(default_factory=list)
    answers: int = 0
    lost: int = 0

    async def _ask(self, chat_id: int) -> None:
        question = self.stage.ask(chat_id)
        self.questions.append(question)
        if await self.stage.answered(question):
            self.answers += 1
        else:
            self.lost += 1

    async def closed(
        self, chats: Iterator[int], in_flight: int, *, until: Callable[[], bool], think_seconds: float = 0.0
    ) -> None:
        """``in_flight`` customers, each asking again when answered, until ``until`` says so."""

        async def customer() -> None:
            while not until():
                await self._ask(next(chats))
                if think_seconds:
                    await asyncio.sleep(think_seconds)

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(customer())

    async def open(self, chats: Iterator[int], gaps: Iterator[float], seconds: float) -> None:
        """Customers who come so many seconds one after the other, whatever the answers take."""
        due = time.monotonic()
        until = due + seconds
        async with asyncio.TaskGroup() as group:
            while (due := due + next(gaps)) < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._ask(next(chats)))

    async def stop(self, chat_id: int, way: Way, read_seconds: float) -> None:
        """Asks, reads the first words for so long, and stops the answer."""
        question = self.stage.ask(chat_id)
        question.to_stop = way
        self.questions.append(question)
        if await self.stage.seen(question):
            await asyncio.sleep(read_seconds)
            if not question.done.done():
                self.stage.stop(question)
                await self.stage.left(question)
        if await self.stage.answered(question):
            self.answers += 1
        else:
            self.lost += 1

    def figures(self) -> dict[str, Any]:
        """Times in ms, where there are any."""
        found: dict[str, Any] = {"lost": self.lost}
        told = [question.api_messages for question in self.questions]
        found["messages_told"] = round(fmean(told), 1) if told else 0.0
        found["added_ms"] = _percentiles([question.added_seconds for question in self.questions])
        found["first_text_ms"] = _percentiles([question.first_text_seconds for question in self.questions])
        for way in WAYS:
            if chosen := [question for question in self.questions if question.to_stop == way]:
                found[way] = _stopped(chosen)
        return found


def _stopped(questions: list[Question]) -> dict[str, Any]:
    """What could not be stopped, or went on, counts as long as a customer has patience."""
    took = [PATIENCE_SECONDS if question.stop_seconds is None else question.stop_seconds for question in questions]
    said = [question.answered - question.pressed for question in questions if question.answered and question.pressed]
    ignored = sum(question.stop_seconds is None for question in questions)
    return {"presses": len(questions), "ignored": ignored, "ms": _percentiles(took), "said_ms": _percentiles(said)}


def _percentiles(seconds: Sequence[float | None]) -> dict[str, float]:
    known = [1000 * value for value in seconds if value is not None]
    found = {f"p{percent}": round(percentile(known, percent), 2) for percent in (50, 95, 99)}
    return {**found, "max": round(max(known, default=float("nan")), 2)}


def at_random(per_second: float, seed: int) -> Iterator[float]:
    """Gaps of a Poisson process, in seconds: people who do not know of each other."""
    drawn = random.Random(seed)
    while True:
        yield drawn.expovariate(per_second)


def percentile(values: list[float], percent: float) -> float:
    """The value that ``percent`` of the values do not exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
