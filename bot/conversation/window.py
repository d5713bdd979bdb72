"""The stored turns of a conversation that the model is told, opened; with a small memory of the ones just used.

The memory makes a turn cost the same however much is stored: what this process has just read or written is not read
again. It holds plain text, so it is small, and it is only trusted when the store names the same epoch, the same
conversation and the same last turn.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from bot.conversation.context import Past
from bot.conversation.intents import Correction
from bot.conversation.record import Record
from bot.conversation.tokens import count_tokens, most_tokens
from storage.datakey import DataKey
from storage.errors import SealBrokenError
from storage.history import History, StoredTurn, header_of, unpacked
from storage.journal import ChatState
from storage.keynames import day_of, talk_key
from storage.vault import Vault

_CHATS_REMEMBERED: Final = 500
_ANSWERS_LOOKED_AT: Final = 256
_TURNS_REMEMBERED: Final = 400
_COUNTED_FROM: Final = 2000
_FORM: Final = 0
"""The version of how records are bound, should that ever change."""


@dataclass(slots=True)
class _Memory:
    epoch: int
    conversation: int
    edits: int
    past: list[Past]

    def fits(self, state: ChatState, conversation: int) -> bool:
        """Nothing was forgotten, begun anew or corrected since, by whichever worker."""
        return (self.epoch, self.conversation, self.edits) == (state.epoch, conversation, state.edits)


class Window:
    """Reads, seals and corrects turns. Raises StorageError."""

    def __init__(self, history: History, vault: Vault) -> None:
        self._history = history
        self._vault = vault
        self._memory: OrderedDict[tuple[int, int], _Memory] = OrderedDict()

    def remembers(self, chat_id: int) -> bool:
        """Whether the chat's main topic need not be read, most likely."""
        return (chat_id, 0) in self._memory

    async def read(self, state: ChatState, topic: int) -> list[Past]:
        """The turns of the current context, oldest first."""
        first, last = state.first.get(topic, 1), state.last.get(topic, 0)
        conversation = state.conversation_of(topic)
        if last < first:
            return []
        memory = self._memory.get((state.ready.chat_id, topic))
        if memory is not None and memory.past and memory.fits(state, conversation):
            newest = memory.past[-1].stored.number
            if newest == last and memory.past[0].stored.number <= first:
                self._memory.move_to_end((state.ready.chat_id, topic))
                return [past for past in memory.past if past.stored.number >= first]
        if topic == 0 and state.window:
            turns = unpacked(first, state.window)
        else:
            turns = await self._history.read(state.ready.chat_id, topic, conversation, first, last)
        chat_id = state.ready.chat_id
        bound = [(turn.record, turn_bound(chat_id, topic, conversation, turn.number)) for turn in turns]
        opened = await self._vault.open_all(bound)
        past = [
            Past(turn, Record.unpacked(content))
            for turn, content in zip(turns, opened, strict=True)
            if content is not None
        ]
        self._remember(state, topic, past)
        return past

    def forget(self, chat_id: int) -> None:
        """Drops what this process remembers of a chat; elsewhere it no longer fits the chat's epoch."""
        for place in [place for place in self._memory if place[0] == chat_id]:
            del self._memory[place]

    async def sealed(
        self, state: ChatState, topic: int, seq: int, record: Record, key: DataKey | None = None
    ) -> tuple[bytes, str]:
        """A record sealed for its place in the conversation, and its plain header; under ``key`` where it holds another
        customer's words."""
        conversation = state.conversation_of(topic)
        chat_id, now = state.ready.chat_id, time.time()
        name = talk_key(topic, conversation, day_of(now), state.fresh)
        key = key or self._vault.cached_key(chat_id, name) or await self._vault.key(chat_id, name)
        sealed = self._vault.seal(key, record.packed(), turn_bound(chat_id, topic, conversation, seq))
        return sealed, header_of(tuple(asked.message_id for asked in record.asked), tokens_of(record), day_of(now))

    async def opened(self, state: ChatState, topic: int, seq: int, sealed: bytes) -> Record:
        """The record that was sealed for this place; raises SealBrokenError."""
        conversation = state.conversation_of(topic)
        bound = turn_bound(state.ready.chat_id, topic, conversation, seq)
        return Record.unpacked(await self._vault.open_any(sealed, bound))

    def grown(self, state: ChatState, topic: int, seq: int, first: int | None, record: Record) -> None:
        """Remembers a turn that was just finished, if the turns before it are remembered."""
        memory = self._memory.get((state.ready.chat_id, topic))
        stored = StoredTurn(seq, tuple(asked.message_id for asked in record.asked), tokens_of(record), (), b"")
        if memory is None:
            if seq == 1:
                self._remember(state, topic, [Past(stored, record)])
            return
        if memory.past and memory.past[-1].stored.number != seq - 1:
            del self._memory[state.ready.chat_id, topic]
            return
        memory.past.append(Past(stored, record))
        if first is not None:
            memory.past = [past for past in memory.past if past.stored.number >= first]
        if len(memory.past) > _TURNS_REMEMBERED:
            del self._memory[state.ready.chat_id, topic]

    async def answers(self, state: ChatState, topic: int) -> list[int]:
        """The messages that show the last answers of a topic's conversation."""
        last = state.last.get(topic, 0)
        first = max(1, last - _ANSWERS_LOOKED_AT + 1)
        turns = await self._history.read(state.ready.chat_id, topic, state.conversation_of(topic), first, last)
        return [message_id for turn in turns for message_id in turn.answer_ids]

    async def correct(self, state: ChatState, correction: Correction) -> StoredTurn | None:
        """An edited message corrects the stored text; the turn that holds it, None where none does."""
        turn = await self._history.find(state, correction.topic, correction.message_id)
        if turn is None:
            return None
        try:
            record = await self.opened(state, correction.topic, turn.number, turn.record)
        except SealBrokenError:
            return None
        asked = tuple(
            replace(entry, text=correction.text) if entry.message_id == correction.message_id else entry
            for entry in record.asked
        )
        record = replace(record, asked=asked)
        key = await self._vault.key_of(turn.record)  # a correction is as old as what it corrects
        if key is None:
            return None
        sealed, _ = await self.sealed(state, correction.topic, turn.number, record, key)
        self._memory.pop((state.ready.chat_id, correction.topic), None)
        state.window.clear()  # read before the correction
        corrected = replace(turn, tokens=tokens_of(record), record=sealed)
        return corrected if await self._history.correct(state, correction.topic, corrected) else None

    async def turn(self, state: ChatState, topic: int, number: int) -> Past | None:
        """One turn of a topic's conversation; None where it is not there or does not open."""
        place = (state.ready.chat_id, topic, state.conversation_of(topic))
        for turn in await self._history.read(*place, number, number):
            try:
                return Past(turn, await self.opened(state, topic, number, turn.record))
            except SealBrokenError:
                return None
        return None

    def _remember(self, state: ChatState, topic: int, past: list[Past]) -> None:
        if not past or len(past) > _TURNS_REMEMBERED:
            return
        place = (state.ready.chat_id, topic)
        self._memory[place] = _Memory(state.epoch, state.conversation_of(topic), state.edits, past)
        self._memory.move_to_end(place)
        if len(self._memory) > _CHATS_REMEMBERED:
            self._memory.popitem(last=False)


def turn_bound(chat_id: int, topic: int, conversation: int, seq: int) -> str:
    """What a sealed turn is bound to. A conversation's number is never used again, so it stands for the epoch too."""
    return f"{chat_id}|turn|{topic}|{conversation}|{seq}|{_FORM}"


def tokens_of(record: Record) -> int:
    """Counted where it is long; a short turn is bounded by its bytes until a budget asks for more."""
    if most_tokens(record.question) + most_tokens(record.said) < _COUNTED_FROM:
        return 0
    return count_tokens(record.question) + count_tokens(record.said)
