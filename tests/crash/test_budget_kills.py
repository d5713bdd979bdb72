"""What is charged is what the visible answers used, to the last token, whichever worker dies when."""

import asyncio
import random
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from bot import texts
from bot.budget import parse_prices
from bot.sandbox import ChatApiServer, ChatBehaviour, ChatRequest
from bot.sandbox.chat_request import count_tokens
from storage.connection import StoreTarget, connect
from storage.keys import PARTITIONS, Keys, partition_of
from storage.usage import NOTHING, Used, used_of, window_of
from tests.crash.campaign import given_seed
from tests.crash.stage import Cast, House, external_store, sandbox_telegram, scratch, until

MARKER: Final = re.compile(r"\bQ\d+Q\b")
PRICES: Final = "m=3/7.5"
_WORKERS: Final = 8
_FIRST_CHAT: Final = 501
_POINTS: Final = ("begin", "ask", "journal", "sendMessage", "finish", "park")
_PATIENCE_SECONDS: Final = 40.0


@dataclass
class Spenders:
    """Customers who ask until they are told of their limit (messages a day), and workers that die meanwhile."""

    cast: Cast
    folder: Path
    seed: int
    limit: int
    chats: int
    seconds: float
    deaths: int = 0
    asked: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._numbers = count(1)
        self._tags = count(1)
        self._made: dict[str, ChatRequest] = {}
        self._storm_over = False

    async def play(self) -> None:
        """All of it. Raises AssertionError where a counter is wrong."""
        began = _windows()
        async with sandbox_telegram() as telegram, external_store(self.folder) as valkey:
            token = f"{100_000 + self.seed % 800_000}:budget-token-{self.seed}"
            telegram.add_bot(token)
            telegram.keep_calls = False
            chat_api = ChatApiServer(behaviour=ChatBehaviour(
                first_delay_seconds=0.02, jitter_seconds=0.15, chunk_seconds=0.01, chunk_words=4, answer=self._answer
            ))  # fmt: skip
            await chat_api.start()
            more = {"prices": PRICES, "customer_limits": f"messages {self.limit}/day", "system_prompt": "Be brief."}
            self._house = House(self.cast, telegram, chat_api.url, token, self.folder, valkey, more=more)
            try:
                await self._run()
                self._made = {request.answer: request for request in chat_api.requests if request.answer}
                if began == _windows():
                    await self._judge(valkey.url)
                else:
                    pytest.skip("the day ended in the middle of it")
            finally:
                await self._house.aclose()
                await chat_api.aclose()

    def _answer(self, messages: list[dict[str, Any]]) -> str:
        """Another one each time, of another length, so that no mistake cancels another out."""
        tag = next(self._tags)
        markers = " ".join(MARKER.findall(str(messages[-1]["content"])))
        return f"A{tag}A to {markers}{' and on' * (tag % 37)}"

    # ---- what happens
    async def _run(self) -> None:
        house = self._house
        await house.start("ingress", ("ingress",))
        assert await house.ready(), house.children["ingress"].last_words()
        for number in range(_WORKERS):
            await house.start(f"worker{number}", ("worker",))
            house.soon(self._keep(f"worker{number}"))
        storm = asyncio.create_task(self._storm())
        await asyncio.gather(*(self._live(chat_id) for chat_id in self._ids()))
        self._storm_over = True
        await storm
        assert not house.crashed, house.crashed

    def _ids(self) -> range:
        return range(_FIRST_CHAT, _FIRST_CHAT + self.chats)

    async def _keep(self, name: str) -> None:
        """Starts a worker again whenever it ended, often to kill itself at an exact point."""
        while True:
            await self._house.children[name].ended.wait()
            self.deaths += 1
            await asyncio.sleep(self._draw.random() * 0.3)
            trip = (
                f"{self._draw.choice(('before', 'after'))}:{self._draw.choice(_POINTS)}:{self._draw.randint(1, 6)}:kill"
            )
            doomed = not self._storm_over and self._draw.random() < 0.6
            await self._house.start(name, ("worker",), trips=[trip] if doomed else [])

    async def _storm(self) -> None:
        deadline = time.monotonic() + self.seconds
        while not self._storm_over and time.monotonic() < deadline:
            await asyncio.sleep(self._draw.uniform(0.05, 0.6))
            child = self._house.children[f"worker{self._draw.randrange(_WORKERS)}"]
            child.send(signal.SIGKILL)
        self._storm_over = True

    async def _live(self, chat_id: int) -> None:
        """A customer: one question after the other, or several in a breath, until told of the limit."""
        draw = random.Random(f"{self.seed} {chat_id}")
        while not any(map(_is_limit, self._shown(chat_id))):
            before = len(set(self._shown(chat_id)))  # a second copy may stand for a while
            for _ in range(draw.choice((1, 1, 1, 2, 3))):
                marker = f"Q{next(self._numbers)}Q"
                self.asked[chat_id].append(marker)
                self._house.telegram.customer_writes(chat_id, f"{marker} please", bot=self._house.token)
                await asyncio.sleep(draw.random() * 0.05)
            seen = partial(self._sees_more, chat_id, before)
            assert await until(seen, _PATIENCE_SECONDS, every=0.05), f"{chat_id} is not answered"
            await asyncio.sleep(draw.random() * 0.3)

    def _sees_more(self, chat_id: int, before: int) -> bool:
        return len(set(self._shown(chat_id))) > before

    def _shown(self, chat_id: int) -> list[str]:
        messages = self._house.telegram.messages(chat_id, bot=self._house.token)
        return [(message.text or "").strip() for message in messages if message.from_bot]

    # ---- what is to hold
    async def _judge(self, url: str) -> None:
        keys = Keys(self._house.bot_id)
        client: Any = await connect(StoreTarget.parse(url), connections=4, timeout_seconds=5)
        try:
            assert await self._quiet(client, keys), "somebody is still at work"
            totals: dict[int, Used] = defaultdict(Used)
            for chat_id in self._ids():
                spent = self._spent(chat_id)
                assert await _counted(client, keys.of(chat_id).chat) == spent, chat_id
                totals[partition_of(chat_id)] = totals[partition_of(chat_id)].plus(spent)
            for partition in range(PARTITIONS):
                assert await _counted(client, keys.partition("stats", partition)) == totals[partition], partition
        finally:
            await client.aclose()
        answers = sum(len(list(self._answers(chat_id))) for chat_id in self._ids())
        print(f"{answers} answers, {len(self._made) - answers} made in vain, {self.deaths} deaths, {sum_of(totals)}")
        assert self.deaths >= _WORKERS

    async def _quiet(self, client: Any, keys: Keys) -> bool:
        """Whether all chats come to rest: those at their limit may wait to be told again."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            entries = [await client.hget(keys.of(chat_id).chat, "entry") for chat_id in self._ids()]
            if set(entries) <= {None, b"later"} and not self._house.telegram.pending_updates(bot=self._house.token):
                return True
            await asyncio.sleep(0.2)
        return False

    def _answers(self, chat_id: int) -> Iterator[ChatRequest]:
        """The requests that the visible answers came from: a copy that is still to be swept is no second answer."""
        for text in dict.fromkeys(self._shown(chat_id)):
            if not _is_limit(text):
                yield self._made[text]

    def _spent(self, chat_id: int) -> Used:
        """What the visible answers cost; each question is in one of them at most, and none is beyond the limit."""
        prices, spent, told = parse_prices(PRICES), NOTHING, list[str]()
        for request in self._answers(chat_id):
            markers = MARKER.findall(str(request.messages[-1]["content"]))
            prompt, answer = count_tokens(request.messages), max(1, len(request.answer) // 4)
            spent = spent.plus(Used(len(markers), prompt + answer, prices.cost("m", prompt, answer)))
            told += markers
        # A burst that does not fit into what is left is refused whole, and a single question behind it may still fit.
        assert told == [marker for marker in self.asked[chat_id] if marker in told], (chat_id, told)
        assert spent.messages <= self.limit, chat_id
        return spent


def _is_limit(text: str) -> bool:
    return text.startswith(texts.LIMIT_CUSTOMER.partition("{")[0])


def _windows() -> tuple[int, int]:
    now_ms = int(time.time() * 1000)
    return window_of("d", now_ms), window_of("M", now_ms)


async def _counted(client: Any, key: str) -> Used:
    """What a hash of the store says was used, which is the same for day and month."""
    found = {name.decode(): value for name, value in (await client.hgetall(key)).items()}
    used = used_of(found, int(time.time() * 1000))
    assert used["d"] == used["M"], key
    return used["d"]


def sum_of(amounts: dict[int, Used]) -> Used:
    found = NOTHING
    for amount in amounts.values():
        found = found.plus(amount)
    return found


async def spend(*, limit: int, chats: int, seconds: float) -> None:
    async with Cast() as cast, scratch() as folder:
        await Spenders(cast, folder, given_seed(), limit, chats, seconds).play()


@pytest.mark.crash
@pytest.mark.slow
async def test_eight_workers_that_are_killed_charge_each_visible_answer_once() -> None:
    """Nothing twice and nothing for free: counters of chats and of partitions equal what the standing answers used, and
    nobody got more than the limit allows."""
    await spend(limit=14, chats=30, seconds=20)


@pytest.mark.crash
@pytest.mark.slow
async def test_three_times_as_many_answers_are_charged_once() -> None:
    """The same, long enough for what is rare."""
    await spend(limit=42, chats=30, seconds=60)
