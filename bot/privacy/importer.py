"""An archive that comes back: what of it would be new here, and how that is taken in, all of it or nothing.

What is taken becomes conversations that ended, under numbers of their own; nobody sees them before the step that ends
the turn lists them, so a death in between leaves nothing, and another try begins anew. Every turn keeps the day it was
written and is sealed under a key of that week: an import makes nothing younger. What the customer had deleted comes
back only where they say so.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Final

from bot.conversation.record import Record
from bot.conversation.window import tokens_of, turn_bound
from bot.privacy.content import Entry, messages_of
from bot.privacy.intake import Offer, Returned, examined
from bot.privacy.seal import Seal
from storage.history import History, StoredTurn
from storage.journal import DAY_MS, Change, ChatState, Journal
from storage.keynames import day_of, talk_key
from storage.vault import Vault

_AT_ONCE: Final = 200

_Place = tuple[int, int]
"""Topic and conversation."""


@dataclass(slots=True)
class Weighed:
    """What an archive holds, by turns: ``fresh`` ones, those that are ``here`` already, those that are ``expired``, and
    those that the customer had ``forgotten``; and when the first and the last of them was said (s, 0: not known)."""

    fresh: int = 0
    here: int = 0
    expired: int = 0
    forgotten: int = 0
    earliest_s: int = 0
    latest_s: int = 0

    def counts(self, *, forgotten: bool) -> dict[str, int]:
        """For a receipt: what was taken in, and what was not."""
        left = {} if forgotten else {"forgotten": self.forgotten}
        taken = self.fresh + (self.forgotten if forgotten else 0)
        return {"exchanges": taken, "here": self.here, "expired": self.expired, **left}


@dataclass(slots=True)
class Taken:
    """What was taken in, and what makes it visible when the turn ends."""

    weighed: Weighed
    change: Change


@dataclass(slots=True)
class _Here:
    """What is known of the conversations of an archive: their turns here, by what they say."""

    marks: dict[_Place, frozenset[bytes]] = field(default_factory=dict)
    numbers: dict[_Place, frozenset[int]] = field(default_factory=dict)


class Importer:
    """Raises StorageError, StaleFenceError, IntakeError."""

    def __init__(self, journal: Journal, history: History, vault: Vault, seal: Seal, bot_id: int) -> None:
        self._journal = journal
        self._history = history
        self._vault = vault
        self._seal = seal
        self._bot_id = bot_id

    async def weigh(self, state: ChatState, content: bytes) -> Weighed:
        """What an archive would bring. Changes nothing."""
        offer = await self._examined(state, content)
        weighed, here = Weighed(earliest_s=offer.earliest_s, latest_s=offer.latest_s), _Here()
        async for turns in _batches(offer.turns()):
            for turn in turns:
                self._count(weighed, await self._sort(state, here, turn))
        return weighed

    async def take(self, state: ChatState, content: bytes, *, forgotten: bool) -> Taken:
        """Takes in what is new, with ``forgotten`` also what had been deleted."""
        offer = await self._examined(state, content)
        await undone(self._journal, self._history, state)
        weighed, here = Weighed(earliest_s=offer.earliest_s, latest_s=offer.latest_s), _Here()
        sorts = {"fresh", "forgotten"} if forgotten else {"fresh"}
        coming: dict[_Place, tuple[int, int]] = {}
        next_number = max([state.newest, state.base, *state.conversation.values()]) + 1
        async for turns in _batches(offer.turns()):
            for place, group in groupby(turns, lambda turn: turn[:2]):
                wanted = []
                for turn in group:
                    kind = await self._sort(state, here, turn)
                    self._count(weighed, kind)
                    wanted += [turn] if kind in sorts else []
                if not wanted:
                    continue
                if place not in coming:
                    coming[place] = (next_number, 0)
                    next_number += 1
                    state.coming = [(topic, number) for (topic, _), (number, _) in coming.items()]
                    said = " ".join(f"{topic}:{number}" for topic, number in state.coming)
                    await self._journal.put(state, {"coming": said})
                number, count = coming[place]
                await self._place(state, place[0], number, count, wanted)
                coming[place] = (number, count + len(wanted))
        return Taken(weighed, self._change(state, coming))

    async def _examined(self, state: ChatState, content: bytes) -> Offer:
        chat_id = state.ready.chat_id
        return await asyncio.to_thread(examined, content, seal=self._seal, bot_id=self._bot_id, chat_id=chat_id)

    @staticmethod
    def _count(weighed: Weighed, kind: str) -> None:
        setattr(weighed, kind, getattr(weighed, kind) + 1)

    # ---- what is here
    async def _sort(self, state: ChatState, here: _Here, turn: Returned) -> str:
        """Which of the counts of ``Weighed`` a turn belongs to."""
        place = turn[:2]
        if _day(turn) < state.now_ms // DAY_MS - self._journal.days_kept(state):
            return "expired"
        if place not in here.marks:
            await self._look(state, here, place)
        if turn.number in here.numbers[place] or _mark(turn) in here.marks[place]:
            return "here"
        standing = bool(here.numbers[place])
        was_here = turn.conversation < max(state.newest, state.base) or turn.conversation in state.conversation.values()
        return "forgotten" if standing or was_here else "fresh"

    async def _look(self, state: ChatState, here: _Here, place: _Place) -> None:
        """Reads what stands here of a conversation, and what earlier imports made of it."""
        topic, number = place
        talks = {(of, talk): turns for of, talk, turns in await self._journal.past(state.ready.chat_id)}
        talks |= {(of, state.conversation_of(of)): last for of, last in state.last.items()}
        marks: set[bytes] = set()
        here.numbers[place] = frozenset()
        for talk in (number, *state.copies.get(place, ())):
            found = await self._marks(state, topic, talk, talks.get((topic, talk), 0))
            marks |= set(found.values())
            if talk == number:
                here.numbers[place] = frozenset(found)
        here.marks[place] = frozenset(marks)

    async def _marks(self, state: ChatState, topic: int, conversation: int, last: int) -> dict[int, bytes]:
        """The turns of a conversation by number, each as what it says; those that do not open count as there."""
        found: dict[int, bytes] = {}
        place = (state.ready.chat_id, topic, conversation)
        for first in range(1, last + 1, _AT_ONCE):
            turns = await self._history.read(*place, first, min(first + _AT_ONCE - 1, last))
            opened = await self._vault.open_all([(turn.record, turn_bound(*place, turn.number)) for turn in turns])
            for turn, content in zip(turns, opened, strict=True):
                if content is None:
                    found[turn.number] = b""
                    continue
                record = Record.unpacked(content)
                found[turn.number] = _mark(Returned(topic, conversation, turn.number, record, turn.answer_ids))
        return found

    # ---- taking in
    async def _place(self, state: ChatState, topic: int, number: int, count: int, turns: list[Returned]) -> None:
        chat_id = state.ready.chat_id
        values = []
        for seq, turn in enumerate(turns, count + 1):
            day, record = _day(turn), turn.record
            key = await self._vault.key(chat_id, talk_key(topic, number, day, {}))
            sealed = self._vault.seal(key, record.packed(), turn_bound(chat_id, topic, number, seq))
            asked = tuple(asked.message_id for asked in record.asked)
            values.append((seq, StoredTurn(seq, asked, tokens_of(record), turn.answer_ids, sealed, day).packed()))
        await self._journal.place(state, topic, number, values, new=True)

    @staticmethod
    def _change(state: ChatState, coming: dict[_Place, tuple[int, int]]) -> Change:
        """Lists what came; where a topic has no conversation now, the last one that came goes on."""
        change = Change(drop=["coming"])
        if not coming:
            return change
        change.put["newest"] = str(max(number for number, _ in coming.values()))
        for (topic, origin), (number, count) in coming.items():
            copies = (*state.copies.get((topic, origin), ()), number)
            change.put[f"i:{topic}:{origin}"] = ",".join(map(str, copies))
            is_last = number == max(other for (of, _), (other, _) in coming.items() if of == topic)
            if is_last and not state.last.get(topic):
                change.put |= {f"c:{topic}": str(number), f"n:{topic}": str(count)}
            else:
                change.past.append(f"{topic}:{number}:{count}")
        return change


async def undone(journal: Journal, history: History, state: ChatState) -> None:
    """Removes what a try that died had taken; may be done twice. Raises StorageError, StaleFenceError.

    Under the fence: who comes late must not take away what another worker listed since.
    """
    for topic, number in state.coming:
        pages = [1]
        while any(await history.sizes(state.ready.chat_id, topic, number, pages[-1], pages[-1] + _AT_ONCE - 1)):
            pages.append(pages[-1] + _AT_ONCE)
        for first in reversed(pages):  # the end first: whoever dies here leaves no gap that would hide the rest
            await journal.place(state, topic, number, [(turn, b"") for turn in range(first, first + _AT_ONCE)])


async def _batches(turns: Iterator[Returned]) -> AsyncGenerator[list[Returned], None]:
    """Some at a time, read off the loop: decompressing and parsing takes a while."""
    while batch := await asyncio.to_thread(lambda: list(islice(turns, _AT_ONCE))):
        yield batch


def _day(turn: Returned) -> int:
    """When a turn was written, as far as it tells (UTC days since 1970)."""
    said = turn.record.more.get("t")
    return day_of(
        max([asked.date for asked in turn.record.asked] + ([said] if isinstance(said, int) else []), default=0)
    )


def _mark(turn: Returned) -> bytes:
    """Stands for what a turn says, whatever its number is."""
    entry = Entry(turn.topic, turn.conversation, 0, turn.record, turn.answer_ids)
    return hashlib.sha256(repr(list(messages_of(entry, turn.record))).encode("utf-8", "surrogatepass")).digest()
