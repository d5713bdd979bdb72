"""What is too old deletes itself: turn by turn in the store, week by week in the keyring.

Every turn bears the day it was written. A chat is listed with the time at which its oldest turn is too old; then its
own mailbox gets a task, so that the deletion happens in the chat's order and under its fence. A week's keys go when
all of it is too old, whatever became of the chat's task: a copy in a backup ends by itself, at most a week later. The
tasks come first, though: what a provider calls its copies is sealed under those keys, and has to be read once more.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from bot.conversation.notebook import Notebook
from bot.conversation.remotes import Remotes
from bot.conversation.window import Window
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.privacy.importer import undone
from storage.ages import Ages
from storage.errors import StorageError
from storage.history import History
from storage.journal import DAY_MS, ChatState, Journal
from storage.keynames import WEEK_DAYS
from storage.receipts import Receipts
from storage.vault import Vault

_PAGE: Final = 200
_COUNTED_DAYS: Final = 31
"""What was used is counted by the month: a chat's counters stay at least so long, or leaving would lift a limit."""

_PATIENCE_SECONDS: Final = 86_400.0
"""How long keys that are too old wait for the tasks of chats."""

_log = get_logger(__name__)

Talk = tuple[int, int, int]
"""Topic, conversation, last turn."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told a week before: by ``day`` goes what was written up to ``upto`` (UTC days since 1970)."""

    day: int
    upto: int
    days: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a conversation holds from turn ``first`` on, of which the oldest was written on ``day`` (0: nothing)."""

    first: int
    day: int


@dataclass(frozen=True, slots=True)
class Aged:
    """``over``: nothing is left of the chat, and nobody has come for long."""

    notice: Notice | None
    over: bool


class Retention:
    """``keep_days``: how long anything is kept at most. Raises StorageError, StaleFenceError."""

    def __init__(
        self,
        journal: Journal,
        history: History,
        vault: Vault,
        window: Window,
        *,
        ages: Ages,
        notebook: Notebook,
        remotes: Remotes,
        receipts: Receipts,
        metrics: Metrics,
        keep_days: int,
    ) -> None:
        self._journal = journal
        self._history = history
        self._vault = vault
        self._window = window
        self._notebook = notebook
        self._remotes = remotes
        self._receipts = receipts
        self._metrics = metrics
        self._keep_days = keep_days
        self._ages = ages

    async def apply(self, state: ChatState) -> Aged:
        """Deletes what is too old in a chat, and lists when to look again; with it what the customer is to be told of,
        if they wish so. May be done twice."""
        days = self._journal.days_kept(state)
        cut = state.now_ms // DAY_MS - days
        oldest = 0
        for talk in await self._talks(state):
            kept = await self._apply_to(state, talk, cut)
            oldest = min(oldest or kept.day, kept.day or oldest)
        if state.coming:
            # Of an import that died and was not tried again: no list names it, so nobody would ever see it grow old.
            await undone(self._journal, self._history, state)
            await self._journal.put(state, {}, ["coming"])
        # Behind all that has to be read with them once more.
        await self._vault.expire(cut, state.ready.chat_id)
        await self._journal.drop_dead(state, cut * DAY_MS)
        notice = await self._notice(state, oldest, days) if oldest else None
        due_ms = self._due_ms(state, oldest, days)
        await self._journal.age(state, due_ms)
        return Aged(notice, due_ms is None)

    async def _talks(self, state: ChatState) -> list[Talk]:
        current = [(topic, state.conversation_of(topic), last) for topic, last in state.last.items()]
        return [*await self._journal.past(state.ready.chat_id), *current]

    async def _apply_to(self, state: ChatState, talk: Talk, cut: int) -> _Kept:
        topic, number, _ = talk
        first = state.oldest.get((topic, number), 1)
        kept = await self._kept(state, talk, first, cut)
        if kept.first > first:
            await self._remove(state, talk, first, kept)
        return kept

    async def _kept(self, state: ChatState, talk: Talk, first: int, cut: int) -> _Kept:
        topic, number, last = talk
        for at in range(first, last + 1, _PAGE):
            turns = await self._history.read(state.ready.chat_id, topic, number, at, min(at + _PAGE - 1, last))
            young = next((turn for turn in turns if turn.day >= cut), None)
            if young is not None:
                return _Kept(young.number, young.day)
        return _Kept(last + 1, 0)

    async def _remove(self, state: ChatState, talk: Talk, first: int, kept: _Kept) -> None:
        """Turns, and all that was made of them; what is left of the notes goes under a younger key."""
        topic, number, _ = talk
        current = number == state.conversation_of(topic) and topic in state.last
        put = {f"o:{topic}:{number}": str(kept.first)}
        if current:
            put |= {"edits": str(state.edits + 1), f"s:{topic}": str(max(state.first.get(topic, 1), kept.first))}
        await self._remotes.condemn(state, [(topic, number)])
        await self._journal.place(state, topic, number, [(gone, b"") for gone in range(first, kept.first)])
        await self._journal.put(state, put, [f"r:{topic}"] if current else [])
        state.oldest[topic, number] = kept.first
        if current:
            state.edits += 1
            state.first[topic] = int(put[f"s:{topic}"])
        await self._notebook.rebuild(state, topic, 0, conversation=number)
        await self._remotes.drop(state, [(topic, number)])
        self._window.forget(state.ready.chat_id)
        if not kept.day and not current:
            await self._journal.drop_past(state, talk)
            await self._journal.put(state, {}, [f"o:{topic}:{number}"])
        self._metrics.expired.inc(kept.first - first)

    async def _notice(self, state: ChatState, oldest: int, days: int) -> Notice | None:
        today = state.now_ms // DAY_MS
        if not state.warns or days <= WEEK_DAYS or oldest + days + 1 > today + WEEK_DAYS or state.warned_day >= oldest:
            return None
        upto = today + WEEK_DAYS - days - 1
        await self._journal.put(state, {"warned": str(upto)})
        state.warned_day = upto
        return Notice(today + WEEK_DAYS, upto, days)

    @staticmethod
    def _due_ms(state: ChatState, oldest: int, days: int) -> int | None:
        """When to look again: a week earlier where the customer is to be told."""
        today = state.now_ms // DAY_MS
        if not oldest:
            # Nothing is left to grow old; the chat itself goes when nothing happened in it for as long.
            idle = max(days, _COUNTED_DAYS) + 1
            return None if today - state.day > idle else (state.day + idle + 1) * DAY_MS
        due = oldest + days + 1
        if state.warns and days > WEEK_DAYS and state.warned_day < oldest:
            due = max(due - WEEK_DAYS, today + 1)
        return due * DAY_MS

    # ---- for all chats
    async def keep_expiring(self, seconds: float) -> None:
        """Destroys what is too old in the keyring, and receipts, every so many seconds, until cancelled.

        As long as chats are due they go first, up to a day; so they do for one more round, in which they are worked on.
        """
        loop = asyncio.get_running_loop()
        are_done, since = False, loop.time()
        while True:
            try:
                were_done, are_done = are_done, await self._are_done()
                if not are_done and loop.time() - since > _PATIENCE_SECONDS:
                    were_done = are_done = True
                if were_done and are_done:
                    since = loop.time()
                    await self.expire()
            except StorageError as error:
                _log.info("retention.later", error=type(error).__name__)
            await asyncio.sleep(seconds)

    async def _are_done(self) -> bool:
        """Whether no chat is due, by the setting that holds now."""
        if moved := await self._ages.keep_to(self._keep_days):
            _log.info("retention.shortened", chats=moved)
        return not await self._ages.is_due(int(time.time() * 1000))

    async def expire(self) -> None:
        """Whatever became of the tasks of single chats."""
        now = time.time()
        keys = await self._vault.expire(int(now // 86_400) - self._keep_days)
        receipts = await self._receipts.expire(int(now * 1000))
        if keys or receipts:
            _log.info("retention.expired", keys=keys, receipts=receipts)
