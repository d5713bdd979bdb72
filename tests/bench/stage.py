"""The sandbox servers, the customers in front of them, and the clock: what a measurement stands on.

A question is answered when its chat gets a message of the bot. *Added* time is what remains of the time from question
to answer when the chat API's own time is taken away: ingress, store, dispatch, request, formatting, delivery.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self

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


@dataclass(slots=True, eq=False)
class Question:
    """One question on its way; monotonic seconds."""

    chat_id: int
    asked: float
    done: asyncio.Future[None] = field(repr=False)
    api_from: float | None = None
    api_until: float | None = None
    api_messages: int = 0
    answered: float | None = None

    @property
    def added_seconds(self) -> float | None:
        """From question to answer, less the chat API's own time; None when it is not answered."""
        if self.answered is None or self.api_from is None or self.api_until is None:
            return None
        return self.answered - self.asked - (self.api_until - self.api_from)


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

    async def answered(self, question: Question) -> bool:
        """Whether it was, within twenty seconds."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await question.done
        except TimeoutError:
            return False
        return True

    def calls_made(self) -> dict[str, int]:
        """Successful calls by method so far, polls aside."""
        counts = self.telegram.counts.items()
        return {method: n for (method, status), n in counts if status == 200 and method != "getUpdates"}

    def _called(self, call: Call) -> None:
        if call.method != "sendMessage" or call.status != 200 or call.chat_id is None:
            return
        question = self._current.get(call.chat_id)
        if question is not None and not question.done.done():
            question.answered = call.t_done
            question.done.set_result(None)

    def _requested(self, request: ChatRequest) -> None:
        text: Any = request.messages[-1].get("content")
        question = self._current.get(int(text[1 : text.index(" ")])) if isinstance(text, str) else None
        if question is not None and request.status == 200:
            question.api_from, question.api_until = request.t, request.t_end
            question.api_messages = len(request.messages)
        if self.on_request is not None:
            self.on_request(request)


def question_of(chat_id: int, text: str = "") -> str:
    """What a customer writes; the chat stands in front so that the chat API's side of it can be told."""
    return f"Q{chat_id} {text or QUESTION}"


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

    async def open(self, chats: Iterator[int], per_second: float, seconds: float, *, seed: int) -> None:
        """Customers who come at random times (a Poisson process), whatever the answers take."""
        drawn = random.Random(seed)
        due = time.monotonic()
        until = due + seconds
        async with asyncio.TaskGroup() as group:
            while (due := due + drawn.expovariate(per_second)) < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._ask(next(chats)))

    def added_ms(self) -> list[float]:
        """Of all answered questions."""
        return [1000 * seconds for question in self.questions if (seconds := question.added_seconds) is not None]


def percentile(values: list[float], percent: float) -> float:
    """The value that ``percent`` of the values do not exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
