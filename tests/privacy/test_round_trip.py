"""Export, forget, import, through the store: what comes back is what was there, also for who dies on the way."""

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from bot.conversation.deeds import ALL
from bot.conversation.intents import Act, Deed
from bot.conversation.notebook import Notebook
from bot.conversation.record import Asked, Record
from bot.conversation.remotes import Remotes
from bot.conversation.window import Window
from bot.privacy.archive import About, archive
from bot.privacy.content import Entry, messages_of
from bot.privacy.erase import Eraser, Reach
from bot.privacy.export import Exporter
from bot.privacy.importer import Importer, Weighed
from bot.privacy.intake import examined
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.history import History
from storage.inbox import Ready
from storage.journal import Change, ChatState, Journal, Planned, StaleFenceError
from storage.keys import Keys
from storage.receipts import Receipts
from storage.removals import Removals
from storage.scripts import Argument, Store
from storage.vault import Vault, open_vault
from tests.privacy.samples import BOT_ID, SEAL, say

SEED: Final = int(os.environ.get("ROUND_TRIP_SEED", random.SystemRandom().randrange(2**32)))
KEEP_DAYS: Final = 90
_ENTRY: Final = "1-1"
_chat_ids = itertools.count(80_001)

Told = list[tuple[int, list[tuple[Any, ...]]]]
"""By conversation: its topic, and its messages."""


class DiedError(Exception):
    """The process ends here."""


class Mortal(Store):
    """A store whose process dies after so many calls, the last of which is carried out."""

    calls = 0
    last: int | None = None

    async def call(self, *arguments: Argument) -> Any:
        reply = await super().call(*arguments)
        self.calls += 1
        if self.last is not None and self.calls >= self.last:
            raise DiedError
        return reply


@dataclass
class Chat:
    """One chat, with the parts of the service that write, export, forget and import it."""

    store: Mortal
    keys: Keys
    vault: Vault
    chat_id: int = field(default_factory=lambda: next(_chat_ids))
    message_ids: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.journal = Journal(self.store, self.keys, sweep_after=(), keep_days=KEEP_DAYS)
        self.history = History(self.store, self.keys)
        self.window = Window(self.history, self.vault)

    async def claimed(self) -> ChatState:
        """As a worker finds it; whoever held it before is stale."""
        await self.store.call("HSET", self.keys.of(self.chat_id).chat, "entry", _ENTRY)
        state = await self.journal.begin(Ready(self.chat_id, _ENTRY), 10)
        assert state is not None
        return state

    async def says(self, record: Record, topic: int = 0) -> None:
        """One exchange, asked and answered."""
        state = await self.claimed()
        seq = state.last.get(topic, 0) + 1
        sealed, header = await self.window.sealed(state, topic, seq, record)
        await self._ended(state, Planned(sealed, header, 0, 1, "answer", topic, seq, marker=False))

    async def begins_anew(self, topic: int) -> None:
        """As /new does."""
        state = await self.claimed()
        number, fresh = state.conversation_of(topic), str(max(state.newest, state.base) + 1)
        past = [f"{topic}:{number}:{state.last[topic]}"]
        change = Change({f"c:{topic}": fresh, "newest": fresh}, [f"n:{topic}", f"s:{topic}"], past)
        await self.tells(state, change, topic)

    async def tells(self, state: ChatState, change: Change, topic: int = 0) -> None:
        """A sentence of the service, and what changes with it."""
        await self._ended(state, Planned(b"", "", 0, 1, "notice", topic, 0, marker=False, change=change))

    async def _ended(self, state: ChatState, planned: Planned) -> None:
        await self.journal.permit(state, str(state.fence), 0, 0, planned)
        message_id = next(self.message_ids)
        assert await self.journal.finish(
            state, take=0, turn=str(state.fence), topic=planned.topic, message_id=message_id
        )

    async def exported(self) -> bytes:
        """All of it, as one archive."""
        state = await self.journal.look(self.chat_id)
        exporter = Exporter(self.journal, self.history, self.vault)
        parts = await exporter.plan(state)
        assert len(parts) <= 1
        extent = parts[0] if parts else []
        about = About("a_bot", self.chat_id, int(time.time()), 1, 1, "en", bot_id=BOT_ID)
        chunks = archive(about, lambda: exporter.entries(state, extent), say, seal=SEAL)
        return b"".join([chunk async for chunk in chunks])

    async def forgets(self) -> None:
        """Everything."""
        remotes = Remotes(self.journal, self.vault, Removals(self.store, self.keys), Any, b"")  # type: ignore[arg-type]
        receipts = Receipts(self.store, self.keys, keep_days=30)
        notebook = Notebook(self.history, self.vault, None, 1000)
        eraser = Eraser(
            self.journal, self.window, self.vault, remotes, notebook,
            history=self.history, receipts=receipts, reach=Reach(7),
        )  # fmt: skip
        act = Act(Deed.ERASE, argument=ALL)
        await eraser.begin(await self.claimed(), act, source=1, read=0, beside=(), language="en")
        state = await self.claimed()
        await eraser.go_on(state, state.forgetting)
        await self.journal.put(state, {}, ["forget"])
        await self.journal.finish(state, take=0, idle=True)

    async def imports(self, content: bytes) -> Weighed:
        """Also what was forgotten; what another process was about to say is said first."""
        importer = Importer(self.journal, self.history, self.vault, SEAL, BOT_ID)
        state = await self.claimed()
        if state.open_turn is not None:
            await self.journal.finish(state, take=0, turn=state.open_turn.turn, message_id=next(self.message_ids))
            state = await self.claimed()
        taken = await importer.take(state, content, forgotten=True)
        await self.tells(state, taken.change)
        return taken.weighed

    async def hashes(self) -> list[str]:
        """The conversations that the store holds, listed or not."""
        found = await self.store.call("KEYS", f"*:turns:{self.chat_id}:*")
        return [name.decode() for name in found]


def told(chat_id: int, content: bytes) -> Told:
    """What an archive says, whatever the numbers of its conversations are."""
    offer = examined(content, seal=SEAL, bot_id=BOT_ID, chat_id=chat_id)
    talks: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
    for turn in offer.turns():
        talks.setdefault(turn[:2], []).extend(tuple(message) for message in turn.messages())
    return sorted((topic, said) for (topic, _), said in talks.items())


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Callable[[], Chat]]:
    """Makes chats on a store with a vault."""
    async with AsyncExitStack() as stack:
        server = EmbeddedServer(folder / "data")
        await server.start()
        stack.push_async_callback(server.aclose)
        client = await connect(StoreTarget.parse(server.url), connections=2, timeout_seconds=20.0)
        stack.push_async_callback(client.aclose)
        secrets = folder / "secrets"
        keyring_url = f"sqlite:{secrets / 'keyring.db'}"
        vault = await open_vault(
            client, BOT_ID, master_key_file=secrets / "master.key", keyring_url=keyring_url, data_dir=folder / "data"
        )
        stack.push_async_callback(vault.aclose)
        yield lambda: Chat(Mortal(client), Keys(BOT_ID), vault)


# ---- random conversations
_HOSTILE: Final = st.sampled_from([
    "\u2028", "\x85", "\x00", "\r\n", "\u202e", "שלום", "👩\u200d👩\u200d👧", "</script>", '"},', "]}", "\\", "\\ud83d",
    '],"notes":{', '{"topic":0,"conversation":0,"messages":[', "\ufeff", "\uffff", "|", ":", "-", "x" * 5_000,
])  # fmt: skip
_TEXTS: Final = st.lists(_HOSTILE | st.text(max_size=9), max_size=4).map("".join)
"""Without lone surrogates, which are cleaned when a message comes in."""

_TIMES: Final = st.integers(1, 20 * 86_400).map(lambda age: int(time.time()) - age)
_RECORDS: Final = st.builds(
    Record,
    st.lists(st.builds(Asked, st.integers(1, 2**52), _TEXTS, _TIMES), min_size=1, max_size=3).map(tuple),
    _TEXTS,
    plain=st.booleans(),
    model=_TEXTS,
    more=st.fixed_dictionaries(
        {"t": _TIMES},
        optional={"state": st.sampled_from(["stopped", "handed", "operator"]), "version": st.integers(0, 9)},
    ),
)
_CHATS: Final = st.lists(st.tuples(st.integers(0, 2), st.lists(_RECORDS, min_size=1, max_size=4)), max_size=5)
"""Conversations, each in its topic, one after the other."""


async def there_and_back(chat: Chat, talks: list[tuple[int, list[Record]]]) -> None:
    begun: set[int] = set()
    for topic, records in talks:
        if topic in begun:
            await chat.begins_anew(topic)
        begun.add(topic)
        for record in records:
            await chat.says(record, topic)
    content = await chat.exported()
    before = told(chat.chat_id, content)
    written = [record for _, records in talks for record in records]
    entries = [Entry(0, 0, 0, record, ()) for record in written]
    assert sum(len(said) for _, said in before) == sum(
        len(list(messages_of(entry, record))) for entry, record in zip(entries, written, strict=True)
    )
    await chat.forgets()
    assert told(chat.chat_id, await chat.exported()) == []
    assert await chat.hashes() == []
    weighed = await chat.imports(content)
    assert (weighed.fresh, weighed.here, weighed.expired) == (0, 0, 0)
    assert weighed.forgotten == len(written)
    assert told(chat.chat_id, await chat.exported()) == before
    again = await chat.imports(content)
    assert (again.fresh, again.forgotten, again.here) == (0, 0, weighed.forgotten)
    assert told(chat.chat_id, await chat.exported()) == before


def round_trips(folder: Path, count: int) -> None:
    print(f"ROUND_TRIP_SEED={SEED}")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        fresh = runner.run(stack.enter_async_context(opened(folder)))
        try:

            @seed(SEED)
            @settings(max_examples=count, deadline=None, print_blob=True, database=None)
            @given(_CHATS)
            def check(talks: list[tuple[int, list[Record]]]) -> None:
                runner.run(there_and_back(fresh(), talks))

            check()
        finally:
            runner.run(stack.aclose())


def test_what_was_forgotten_comes_back_as_it_was(tmp_path: Path) -> None:
    """Random conversations in several topics, with hostile words; and a second time nothing is doubled."""
    round_trips(tmp_path, 25)


@pytest.mark.slow
def test_what_was_forgotten_comes_back_as_it_was_more_often(tmp_path: Path) -> None:
    """The same, with more of them: ROUND_TRIPS says how many."""
    round_trips(tmp_path, int(os.environ.get("ROUND_TRIPS") or 300))


# ---- deaths
def _sample(word: str) -> Record:
    now = int(time.time())
    return Record((Asked(7, f"{word}?", now - 60),), f"{word}!", more={"t": now - 30})


async def dying(fresh: Callable[[], Chat]) -> AsyncIterator[tuple[Chat, bytes, bytes]]:
    """Chats in which an import died after one call to the store, after two, and so on, with the archive that it was of
    and one of a part of it."""
    for last in itertools.count(1):
        chat = fresh()
        for word in ("alder", "birch"):
            await chat.says(_sample(word))
        smaller = await chat.exported()
        await chat.begins_anew(0)
        for topic, word in ((0, "cedar"), (1, "douglas")):
            await chat.says(_sample(word), topic)
        content = await chat.exported()
        await chat.forgets()
        chat.store.calls, chat.store.last = 0, last
        try:
            await chat.imports(content)
        except DiedError:
            chat.store.last = None
            yield chat, content, smaller
        else:
            assert last > 8
            return  # it needs fewer calls than that


async def test_who_dies_at_any_step_of_an_import_leaves_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """Another try brings all of it, once; until then nobody sees a half."""
    async with opened(tmp_path) as fresh:
        async for chat, content, _ in dying(fresh):
            whole = told(chat.chat_id, content)
            assert told(chat.chat_id, await chat.exported()) in ([], whole)
            await chat.imports(content)
            assert told(chat.chat_id, await chat.exported()) == whole
            assert len(await chat.hashes()) == 3
            assert (await chat.journal.look(chat.chat_id)).coming == []


async def test_what_a_dead_import_had_taken_goes_with_the_next_one(tmp_path: Path) -> None:
    """Also where that is of less: nothing stays that no list names."""
    async with opened(tmp_path) as fresh:
        async for chat, content, smaller in dying(fresh):
            await chat.imports(smaller)
            seen = told(chat.chat_id, await chat.exported())
            assert seen in (told(chat.chat_id, smaller), told(chat.chat_id, content))
            assert len(await chat.hashes()) == len(seen)


async def test_a_dead_import_is_forgotten_with_everything(tmp_path: Path) -> None:
    """What it had taken was never listed, and goes all the same."""
    async with opened(tmp_path) as fresh:
        async for chat, _, _ in dying(fresh):
            await chat.forgets()
            assert await chat.hashes() == []
            assert (await chat.journal.look(chat.chat_id)).coming == []


async def test_who_comes_late_takes_nothing_away(tmp_path: Path) -> None:
    """The bug: a worker that slept over its lease removed, as the leavings of a dead one, what another had finished."""
    async with opened(tmp_path) as fresh:
        async for chat, content, _ in dying(fresh):
            sleeper = await chat.claimed()
            await chat.imports(content)
            late = Importer(chat.journal, chat.history, chat.vault, SEAL, BOT_ID)
            if sleeper.coming:
                with pytest.raises(StaleFenceError):
                    await late.take(sleeper, content, forgotten=True)
            assert told(chat.chat_id, await chat.exported()) == told(chat.chat_id, content)
