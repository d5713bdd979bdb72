"""What is too old goes, from everywhere; what is younger stays, and so does the conversation.

Old turns are written by the service itself while its clock stands in the past. The store's own clock cannot be moved:
there the time at which a chat is to be looked at is moved instead.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from aiogram import Router
from aiogram.types import Message
from redis.asyncio import Redis

from bot import texts
from bot.conversation.intents import Intent
from bot.conversation.notebook import Notebook
from bot.conversation.remotes import Remotes
from bot.sandbox import ChatBehaviour
from handlers.telegram import customer as face
from storage.connection import StoreTarget, connect
from storage.embedded import running_server
from storage.history import REMOVED, unpacked
from storage.inbox import Mail
from storage.journal import DAY_MS, Journal
from storage.keys import Keys
from tests.crash.haul import Haul, held_keys
from tests.flows.archives import exported
from tests.flows.conftest import QUICK, Customer, World, echo, serving, settings_of, until
from tests.storage.owning import until as eventually

KEYS: Final = Keys(4242)
SMALL: Final = {"CONTEXT_TOKENS": "1200", "SYSTEM_PROMPT": "Be brief.", "SUMMARIES": "true"}
KEEPING: Final = {"CHAT_API_DIALECT": "responses", "CHAT_CONVERSATION_FIELD": "conversation"}
WORDS: Final = re.compile(rb"(?:old|new|dead) \w+")


@dataclass
class Bot:
    """A service that keeps things for a time, and its store."""

    world: World
    folder: Path
    store: Redis

    # ---- the clocks
    async def passes(self, customer: Customer, days: int, *, idle: int = 0) -> None:
        """So many days go by for the store's list of what grows old, ``idle`` of them since the chat was used last.
        What was said bears its own day."""
        keys = KEYS.of(customer.chat_id)
        await self.store.hincrby(keys.chat, "day", -idle)
        await self.store.zincrby(keys.ages, -days * DAY_MS, customer.chat_id)

    async def looks(self, customer: Customer) -> None:
        """Now, whatever is listed; returns when it has."""
        await self.store.zadd(KEYS.of(customer.chat_id).ages, {str(customer.chat_id): 0})
        await self.looked(customer)

    async def looked(self, customer: Customer) -> None:
        """Returns when nothing of a chat is due, or under way."""
        keys = KEYS.of(customer.chat_id)

        async def is_done() -> bool:
            due = await self.store.zscore(keys.ages, str(customer.chat_id))
            is_due = due is not None and due <= time.time() * 1000
            return not is_due and not await self.store.hexists(keys.chat, "entry")

        await eventually(is_done)

    async def keeps(self, days: int) -> bool:
        """Whether chats are listed for so many days: from the first round on."""
        return bool(await self.store.hget(KEYS.partition("stats", 0), "kept") == str(days).encode())

    # ---- what is there
    async def readable(self) -> set[bytes]:
        """What any byte of any file gives, with all keys that are held."""
        secrets = self.folder / "secrets"
        keys = await held_keys(secrets / "master.key", f"sqlite:{secrets / 'keyring.db'}")
        return (await asyncio.to_thread(Haul, self.folder)).opened(keys, WORDS)

    async def of_chat(self, customer: Customer) -> set[str]:
        """The store's keys of one chat, by what they are called."""
        names = [name.decode() async for name in self.store.scan_iter(f"*:*:{customer.chat_id}*")]
        return {name.split(":")[2] for name in names}

    async def overdue(self, days: int) -> list[str]:
        """What is older than it may be, and chats that hold something and are not looked at in time."""
        found = []
        cut, listed = int(time.time()) // 86_400 - days, dict[bytes, float]()
        async for name in self.store.scan_iter("*:ages"):
            listed |= dict(await self.store.zrange(name, 0, -1, withscores=True))  # type: ignore[arg-type]
        async for name in self.store.scan_iter("*:turns:*"):
            chat = name.decode().split(":")[3]
            values: Any = await self.store.hgetall(name)
            turns = unpacked(1, [value for value in values.values() if value != REMOVED])
            found += [f"{name.decode()} of {turn.day}" for turn in turns if turn.day < cut]
            due = listed.get(chat.encode(), float("inf"))
            found += [f"{chat} is late" for turn in turns if due > (turn.day + days + 1) * DAY_MS]
        async for name in self.store.scan_iter("*:dead:*"):
            mail: Any = await self.store.hvals(name)
            found += [name.decode() for one in mail if Mail.unpacked(one).received_ms < cut * DAY_MS]
        return found


@contextmanager
def days_ago(days: int) -> Iterator[None]:
    """The service's clock stands so many days before the store's."""
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - days * 86_400)
        yield


@asynccontextmanager
async def keeping(
    world: World, folder: Path, days: int, settings: Mapping[str, str] | None = None, *, expiry: float = 600.0
) -> AsyncIterator[Bot]:
    """A service that keeps everything for so many days at most, and looks for keys that are too old every ``expiry``
    seconds, beginning with its start."""
    polls, times = world.telegram.polls(), replace(QUICK, expiry=expiry)
    async with serving(settings_of(world, folder, RETENTION_DAYS=str(days), **(settings or {})), timing=times):
        await until(lambda: world.telegram.polls() > polls, "the service polls")
        url = await asyncio.to_thread(running_server, folder / "data")
        assert url is not None
        store = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
        bot = Bot(world, folder, store)
        try:
            await eventually(lambda: bot.keeps(days))
            yield bot
        finally:
            await store.aclose()


async def said(customer: Customer, ages: Mapping[str, int]) -> None:
    """Asks each of these so many days ago."""
    for text, days in ages.items():
        with days_ago(days):
            await customer.asks(text)


# ---- what goes
async def test_what_is_too_old_goes_from_everywhere_and_the_rest_stays(own_world: World, tmp_path: Path) -> None:
    """Store, context, export, keyring and provider; the younger turns are readable, and are gone on from."""
    async with keeping(own_world, tmp_path, 30, KEEPING) as bot:
        customer, other = own_world.customer(), own_world.customer()
        await said(customer, {"old alder": 45, "old birch": 40, "new cedar": 20, "new douglas": 0})
        await said(other, {"new elm": 29})
        everything = {b"old alder", b"old birch", b"new cedar", b"new douglas", b"new elm"}
        assert await bot.readable() == everything
        assert "old alder" in repr(own_world.chat_api.kept)
        await bot.passes(customer, 45)
        await bot.passes(other, 29)
        await bot.looked(customer)
        await until(lambda: "old" not in repr(own_world.chat_api.kept), "the provider deletes it")
        await eventually(lambda: _equal(bot.readable(), {b"new cedar", b"new douglas", b"new elm"}))
        assert await bot.overdue(30) == []
        assert await customer.asks("new fir") == "Answer to: new fir"
        told = str(own_world.asked("new fir")[0].messages)
        assert "new cedar" in told
        assert "new douglas" in told
        assert "old" not in told
        customer.writes("/export")
        content = await exported(own_world, customer)
        assert "new cedar" in content
        assert "old" not in content
        assert '"skipped":[]' in "".join(content.split())


async def _equal(found: Any, wanted: object) -> bool:
    return bool(await found == wanted)


async def test_notes_lose_what_was_too_old_and_keep_the_rest(own_world: World, tmp_path: Path) -> None:
    """Statements and summary: they are made anew of the turns that stay, under a younger key."""

    def answer(messages: list[dict[str, Any]]) -> str:
        is_summary = "Be brief." not in str(messages[0]["content"])
        return "old summary" if is_summary else echo(messages)

    own_world.chat_api.behaviour = ChatBehaviour(answer=answer)
    async with keeping(own_world, tmp_path, 30, SMALL) as bot:
        customer = own_world.customer()
        notes = KEYS.of(customer.chat_id).notes
        await said(customer, {"My order number is 4711, old one.": 40, "My order number is 2000, new one.": 2})
        number = 0
        while b"old summary" not in await bot.readable() or not await bot.store.hexists(notes, "0:0"):
            await customer.asks(f"How does page {number} work? " + "and so on " * 20)
            number += 1
            assert number < 60, "nothing was noted"
        await bot.passes(customer, 40)
        await bot.looked(customer)
        await eventually(lambda: _equal(bot.readable(), {b"new one"}))
        await customer.asks("What is my order number?")
        told = str(own_world.asked("What is my order number?")[0].messages)
        assert "2000, new one" in told
        assert "4711" not in told
        assert "old summary" not in told
        customer.writes("/export")
        content = await exported(own_world, customer)
        assert "2000, new one" in content
        assert "4711" not in content
        assert await bot.overdue(30) == []


async def test_a_shorter_choice_holds_at_once_for_what_is_there(own_world: World, tmp_path: Path) -> None:
    """No day has to pass; another customer's stays for as long as the operator keeps things."""
    async with keeping(own_world, tmp_path, 90) as bot:
        customer, other = own_world.customer(), own_world.customer()
        await said(customer, {"old gum": 15, "/new": 15, "old hazel": 15, "new ivy": 1})
        await said(other, {"new juniper": 15})
        await bot.passes(other, 15)
        await customer.asks("/privacy")
        customer.presses("Keep 7 days")
        await eventually(lambda: _equal(bot.readable(), {b"new ivy", b"new juniper"}))
        await bot.looked(customer)
        assert await bot.overdue(90) == []
        assert (await bot.store.lrange(KEYS.of(customer.chat_id).past, 0, -1)) == []
        await customer.asks("new kapok")
        told = str(own_world.asked("new kapok")[0].messages)
        assert "new ivy" in told
        assert "old" not in told
        # The other way round nothing comes back, and what is there stays longer.
        await customer.asks("/privacy")
        customer.presses("Keep 90 days")
        await until(lambda: "✓ Keep 90 days" in customer.buttons())
        await bot.looks(customer)
        assert await bot.readable() == {b"new ivy", b"new juniper", b"new kapok"}


async def test_the_notice_comes_a_week_before_once_and_only_where_it_is_wished(
    own_world: World, tmp_path: Path
) -> None:
    """Then what it told of goes without another word, and the next notice is of what was written later."""
    async with keeping(own_world, tmp_path, 30) as bot:
        customer, other = own_world.customer(), own_world.customer()
        await said(customer, {"new larch": 25, "new maple": 10})
        await said(other, {"new nutmeg": 25})
        await customer.asks("/privacy")
        customer.presses(texts.PRIVACY_WARN)
        await until(lambda: texts.PRIVACY_WARNS in customer.buttons())
        notice = texts.AGING.partition("{")[0]
        await until(lambda: notice in customer.texts[-1], "the notice")
        assert _date(7) in customer.texts[-1]
        assert len(customer.texts) == 4
        for _ in range(3):
            await bot.looks(customer)
            await bot.looks(other)
        assert len(customer.texts) == 4
        assert len(other.texts) == 1
        assert await bot.overdue(30) == []
        assert await bot.readable() == {b"new larch", b"new maple", b"new nutmeg"}


async def test_nobody_is_told_where_a_week_is_all_there_is(own_world: World, tmp_path: Path) -> None:
    """A notice a week before would come with the words themselves."""
    async with keeping(own_world, tmp_path, 30) as bot:
        customer = own_world.customer()
        await said(customer, {"new olive": 3})
        await customer.asks("/privacy")
        customer.presses(texts.PRIVACY_WARN)
        await until(lambda: texts.PRIVACY_WARNS in customer.buttons())
        customer.presses("Keep 7 days")
        await until(lambda: "✓ Keep 7 days" in customer.buttons())
        for _ in range(2):
            await bot.looks(customer)
        assert len(customer.texts) == 2


def _date(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86_400))


async def test_of_a_chat_that_nobody_uses_only_receipts_are_left(own_world: World, tmp_path: Path) -> None:
    """Also its numbers and its list of our messages go; who comes back is met for the first time."""
    async with keeping(own_world, tmp_path, 30) as bot:
        customer, idle = own_world.customer(), own_world.customer()
        await said(customer, {"old palm": 70, "/privacy": 70, "/export": 70})
        await said(idle, {"old quince": 32})
        await bot.passes(customer, 70, idle=70)
        await bot.passes(idle, 32, idle=32)
        await eventually(lambda: _equal(bot.of_chat(customer), {"receipts"}))
        await bot.looked(idle)
        assert await bot.readable() == set()
        # Nothing is left of what was said there, but what was used in this month still counts.
        assert "chat" in await bot.of_chat(idle)
        await bot.passes(idle, 0, idle=40)
        await bot.looks(idle)
        await eventually(lambda: _equal(bot.of_chat(idle), set()))
        assert await customer.asks("new rowan") == "Answer to: new rowan"
        assert len(own_world.asked("new rowan")[0].messages) == 2


@pytest.mark.slow
async def test_what_was_set_aside_goes_with_its_time(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead letters hold words like any other; the younger one stays for the operator."""
    genuine = face.customer_router

    def with_a_fault(*words: Any, **options: Any) -> Router:
        router = Router()

        async def on_poison(_: Message) -> Intent:
            raise RuntimeError("poison")

        router.message.register(on_poison, lambda message: "dead" in (message.text or ""))
        router.include_router(genuine(*words, **options))
        return router

    monkeypatch.setattr(face, "customer_router", with_a_fault)
    async with keeping(own_world, tmp_path, 30) as bot:
        customer = own_world.customer()
        await said(customer, {"dead spruce": 45, "dead teak": 2})
        assert await bot.store.hlen(KEYS.of(customer.chat_id).dead) == 2
        await bot.passes(customer, 45)
        await bot.looked(customer)
        await eventually(lambda: _equal(bot.readable(), {b"dead teak"}))
        assert await bot.store.hlen(KEYS.of(customer.chat_id).dead) == 1
        assert await bot.overdue(30) == []


async def test_keys_go_with_their_week_whatever_became_of_the_chat(own_world: World, tmp_path: Path) -> None:
    """A chat that is not listed keeps what nobody can read."""
    async with keeping(own_world, tmp_path, 30, expiry=0.1) as bot:
        customer = own_world.customer()
        await said(customer, {"old alder": 45, "new birch": 1})
        await eventually(lambda: _equal(bot.readable(), {b"new birch"}))
        assert await bot.overdue(30)


async def test_what_an_unfinished_import_left_goes_when_the_chat_is_looked_at(own_world: World, tmp_path: Path) -> None:
    """No list names it: it would stay for ever, unseen."""
    async with keeping(own_world, tmp_path, 30) as bot:
        customer = own_world.customer()
        await customer.asks("new cedar")
        keys = KEYS.of(customer.chat_id)
        [sealed] = await bot.store.hvals(keys.turns(0, 0))
        await bot.store.hset(keys.turns(0, 7), "1", sealed)
        await bot.store.hset(keys.chat, "coming", "0:7")
        await bot.looks(customer)
        assert not await bot.store.exists(keys.turns(0, 7))
        assert not await bot.store.hexists(keys.chat, "coming")
        assert await bot.store.hlen(keys.turns(0, 0)) == 1


# ---- deaths, and other settings
@pytest.mark.parametrize(
    ("part", "step", "when"),
    [
        (Journal, "place", "after"),
        *(
            pytest.param(*point, marks=pytest.mark.slow)
            for point in (
                (Remotes, "condemn", "after"),
                (Notebook, "rebuild", "before"),
                (Remotes, "drop", "before"),
                (Journal, "age", "before"),
            )
        ),
    ],
)
async def test_who_dies_in_the_middle_is_followed_by_one_who_finishes(
    own_world: World, tmp_path: Path, part: type, step: str, when: str
) -> None:
    """Whatever was done last: the next worker takes the chat up, and all that is too old goes."""
    reached = asyncio.Event()
    genuine = getattr(part, step)

    async def deadly(self: Any, *given: Any, **more: Any) -> Any:
        if armed:
            if when == "after":
                await genuine(self, *given, **more)
            reached.set()
            await asyncio.Event().wait()
        return await genuine(self, *given, **more)

    async def silent(*_: Any, **__: Any) -> None:
        """A dead process hands nothing over."""

    armed = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, step, deadly)
        async with keeping(own_world, tmp_path, 30, KEEPING) as bot:
            customer = own_world.customer()
            await said(customer, {"old umbra": 45, "/new": 44, "old vetch": 44, "new willow": 3})
            armed = True
            await bot.passes(customer, 45)
            await asyncio.wait_for(reached.wait(), 10)
            patch.setattr(Journal, "park", silent)
    async with keeping(own_world, tmp_path, 30, KEEPING) as bot:
        await eventually(lambda: _equal(bot.readable(), {b"new willow"}))
        await bot.looked(customer)
        assert await bot.overdue(30) == []
        await until(lambda: "old" not in repr(own_world.chat_api.kept), "the provider deletes it")
        assert await customer.asks("new yew") == "Answer to: new yew"
        told = str(own_world.asked("new yew")[0].messages) + repr(own_world.chat_api.kept)
        assert "new willow" in told


async def test_a_shorter_setting_holds_from_the_next_start_on(own_world: World, tmp_path: Path) -> None:
    """The bug: chats were looked at when the former setting had them be too old. Their keys were gone by then, and with
    them what a provider calls its copies, which stayed there."""
    ages = {"old zinnia": 75, "old aster": 45, "new basil": 20}
    customers = [own_world.customer() for _ in ages]
    async with keeping(own_world, tmp_path, 90, KEEPING) as bot:
        for customer, (text, days) in zip(customers, ages.items(), strict=True):
            await said(customer, {text: days})
            await bot.passes(customer, days)
        assert await bot.overdue(90) == []
    async with keeping(own_world, tmp_path, 30, KEEPING, expiry=2.0) as bot:
        await eventually(lambda: _equal(bot.overdue(30), []))
        await eventually(lambda: _equal(bot.readable(), {b"new basil"}))
        await until(lambda: "old" not in repr(own_world.chat_api.kept), "the provider deletes it")
        customers[-1].writes("/export")
        assert "new basil" in await exported(own_world, customers[-1])
        assert await customers[0].asks("new clover") == "Answer to: new clover"
    async with keeping(own_world, tmp_path, 90, KEEPING) as bot:
        last = own_world.customer()
        await said(last, {"old dahlia": 70})
        await bot.passes(last, 70)
    async with keeping(own_world, tmp_path, 60, KEEPING, expiry=2.0) as bot:
        await eventually(lambda: _equal(bot.overdue(60), []))
        await until(lambda: "old" not in repr(own_world.chat_api.kept), "the provider deletes it, too")
